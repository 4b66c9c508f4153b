"""CrossMAE (Fu et al., 2401.14391): its decoder asks the encoder by cross-attention and has no
attention of its own, so a MAE's decoder it is not. Its encoder is a plain ViT."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lcmae.formats import timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.weights import Weights

MARKS = ("patch_embed.proj.weight",)
DECODER = ("decoder_", "dec_", "wfm", "mask_token")


def recognise(weights: Weights) -> bool:
    has_cross = any(name.startswith("decoder_blocks.0.cross_attn.") for name in weights.tensors)
    return timm_vit.recognise(weights) and has_cross


def predicts(weights: Weights) -> bool:
    return False


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """The encoder alone."""
    encoder = {name: value for name, value in weights.tensors.items() if not name.startswith(DECODER)}
    left = len(weights.tensors) - len(encoder)
    note = f"decoder by cross-attention (CrossMAE) left aside: {left} tensors; lcmae.adapt takes it from memory"
    reading = timm_vit.read(replace(weights, tensors=encoder, notes=[*weights.notes, note]), overrides)
    reading.objective = "mae"
    return reading
