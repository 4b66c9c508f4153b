"""Tables of positions that lie on their grid, [1 h w d], as in SAM's encoder: the grid is read, not
guessed. SAM itself also has relative positions along both axes and attention in windows, which are
refused."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lcmae.errors import CheckpointError
from lcmae.formats import timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.weights import Weights

MARKS = ("patch_embed.proj.weight",)


def recognise(weights: Weights) -> bool:
    return timm_vit.recognise(weights) and "pos_embed" in weights and weights.tensors["pos_embed"].ndim == 4


def predicts(weights: Weights) -> bool:
    return False


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """An encoder whose image size the table says."""
    if any(".rel_pos_" in name for name in weights.tensors):
        raise CheckpointError(
            f"expected a plain ViT in {weights.path}, got SAM's, whose attention has windows and relative positions "
            "along both axes; lcmae.adapt takes it from memory"
        )
    table = weights.tensors["pos_embed"]
    patch = weights.tensors[MARKS[0]].shape[-1]
    size = (table.shape[1] * patch, table.shape[2] * patch)
    wanted = overrides.get("image_size", size)
    flat = replace(weights, tensors={**weights.tensors, "pos_embed": table.flatten(1, 2)})
    reading = timm_vit.read(flat, {**overrides, "image_size": size, "prefix_positions": False})
    for name in ("image_size", "prefix_positions"):
        reading.facts.origins[name] = "shape of pos_embed"
    if wanted != size:
        reading.facts.values["image_size"] = reading.facts.read["image_size"] = wanted
        reading.facts.origins["image_size"] = "you"
    return reading
