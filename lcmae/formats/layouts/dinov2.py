"""DINOv2's own files (facebookresearch/dinov2, models/vision_transformer.py): `register_tokens`,
which have no positions, and blocks in chunks, `blocks.CHUNK.N` with N counted through."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lcmae.formats import timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.layouts.renaming import named_as_in_file, rename
from lcmae.formats.positions import fold_class_position
from lcmae.formats.weights import Weights

MARKS = ("patch_embed.proj.weight",)
RULES = ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."), (r"^register_tokens$", "reg_token"))


def recognise(weights: Weights) -> bool:
    is_chunked = "blocks.0.0.attn.qkv.weight" in weights
    return MARKS[0] in weights and (is_chunked or "register_tokens" in weights)


def predicts(weights: Weights) -> bool:
    return False


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """An encoder; its `mask_token` is left aside."""
    renamed, sources = rename(weights, RULES)
    if "register_tokens" not in weights or not {"pos_embed", "cls_token"} <= renamed.tensors.keys():
        return named_as_in_file(timm_vit.read(renamed, overrides), sources)
    folded = replace(renamed, tensors=fold_class_position(renamed.tensors))
    reading = timm_vit.read(folded, {**overrides, "prefix_positions": False})
    reading.facts.origins["prefix_positions"] = "DINOv2's registers"
    return named_as_in_file(reading, sources)
