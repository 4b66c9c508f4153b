"""Video encoders whose patches have one frame, as Prithvi's (NASA and IBM): a 3-d convolution of
depth 1 is a 2-d one. Longer tubes, and several frames at once, are refused: a grid has two sides
here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lcmae.errors import CheckpointError
from lcmae.formats import official, timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.weights import Weights, setting

MARKS = ("patch_embed.proj.weight",)


def recognise(weights: Weights) -> bool:
    return MARKS[0] in weights and weights.tensors[MARKS[0]].ndim == 5


def predicts(weights: Weights) -> bool:
    return official.recognise(weights)


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """The same as an image model. `CheckpointError` for more frames than one."""
    kernel = weights.tensors[MARKS[0]]
    frames = setting(weights.config, "num_frames") or setting(weights.config, "pretrained_cfg", "num_frames") or 1
    if kernel.shape[2] != 1 or frames != 1:
        what = f"patches of {kernel.shape[2]} frames" if kernel.shape[2] != 1 else f"{frames} frames at once"
        raise CheckpointError(
            f"expected an image model or a video model of one frame in {weights.path}, got {what}: positions in time "
            "are not supported; lcmae.adapt takes a model whose encode() repeats the image as its frames"
        )
    tensors = {**weights.tensors, MARKS[0]: kernel.squeeze(2)}
    layout = official if official.recognise(weights) else timm_vit
    notes = [*weights.notes, "3-d patch embedding of one frame taken as 2-d"]
    return layout.read(replace(weights, tensors=tensors, notes=notes), overrides)
