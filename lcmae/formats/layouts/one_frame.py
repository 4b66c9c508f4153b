"""Video encoders whose patches have one frame, as Prithvi's (NASA and IBM): a 3-d convolution of
depth 1 is a 2-d one. Longer tubes, and several frames at once, are refused: a grid has two sides
here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lcmae.errors import CheckpointError
from lcmae.formats import official, timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.layouts.renaming import named_as_in_file, rename
from lcmae.formats.weights import Weights, setting

KERNEL = "patch_embed.proj.weight"
MARKS = (f"encoder.{KERNEL}", KERNEL)
"""Prithvi 2 keeps the halves of a MAE under `encoder.` and `decoder.`; Prithvi 1 has official
names."""

COORDINATES = ("temporal_embed_", "location_embed_")
"""Scales of the encodings of dates and locations, which come with an image and are unknown here."""


def recognise(weights: Weights) -> bool:
    kernel = MARKS[0] if _is_in_halves(weights) else KERNEL
    return kernel in weights and weights.tensors[kernel].ndim == 5


def _is_in_halves(weights: Weights) -> bool:
    return MARKS[0] in weights and "decoder.decoder_embed.weight" in weights


def predicts(weights: Weights) -> bool:
    return _is_in_halves(weights) or official.recognise(weights)


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """The same as an image model. `CheckpointError` for more frames than one."""
    if _is_in_halves(weights):
        renamed, sources = rename(weights, ((r"^(?:encoder|decoder)\.", ""),))
        return named_as_in_file(read(renamed, overrides), sources)
    kernel = weights.tensors[KERNEL]
    frames = setting(weights.config, "num_frames") or setting(weights.config, "pretrained_cfg", "num_frames") or 1
    if kernel.shape[2] != 1 or frames != 1:
        what = f"patches of {kernel.shape[2]} frames" if kernel.shape[2] != 1 else f"{frames} frames at once"
        raise CheckpointError(
            f"expected an image model or a video model of one frame in {weights.path}, got {what}: positions in time "
            "are not supported; lcmae.adapt takes a model whose encode() repeats the image as its frames"
        )
    tensors = {**weights.tensors, KERNEL: kernel.squeeze(2)}
    layout = official if official.recognise(weights) else timm_vit
    notes = [*weights.notes, "3-d patch embedding of one frame taken as 2-d"]
    coordinates = [name for name in tensors if name.startswith(COORDINATES)]
    if coordinates:
        tensors = {name: value for name, value in tensors.items() if name not in coordinates}
        notes.append(
            "encodings of dates and locations left aside: images here come without (Prithvi drops them at random)"
        )
    return layout.read(replace(weights, tensors=tensors, notes=notes), overrides)
