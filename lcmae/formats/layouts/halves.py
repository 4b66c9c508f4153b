"""A MAE of official names in two parts: the encoder below one prefix, the decoder below another or
none (`encoder.blocks.0`, `decoder_blocks.0`), as a module has it that holds a ViT of timm.

Taken for one model where every part is there and fits, and nobody else's encoder or decoder lies
beside it; else `timm_vit` reads the encoder alone.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lcmae.formats import official
from lcmae.formats.build import Reading
from lcmae.formats.encoder import unused
from lcmae.formats.layouts.renaming import named_as_in_file
from lcmae.formats.weights import Weights

KERNEL, EMBED = "patch_embed.proj.weight", "decoder_embed.weight"
DECODER = ("mask_token", "decoder_blocks.0.attn.qkv.weight", "decoder_norm.weight", "decoder_pred.weight")
OF_MAE = re.compile(
    r"(?:cls_token|pos_embed|(?:patch_embed\.proj|norm|"
    r"blocks\.\d+\.(?:norm1|attn\.qkv|attn\.proj|norm2|mlp\.fc1|mlp\.fc2))\.(?:weight|bias))"
)
"""All that an encoder of MAE has: one with registers or LayerScale is another model."""

ENCODER_NAMES = ("cls_token", "reg_token", "pos_embed", "patch_embed.", "norm_pre.", "blocks.", "norm.")
MAX_ROOTS = 64


def roots(weights: Weights) -> list[tuple[str, str]]:
    """The nearest name below which the encoder has a decoder beside it, and its patch embedding;
    only where there is one of each."""
    kernels, embeds = weights.prefixes(KERNEL)[:MAX_ROOTS], weights.prefixes(EMBED)[:MAX_ROOTS]
    found = []
    for encoder in kernels:
        parts = encoder.split(".")[:-1]
        above = ["".join(f"{part}." for part in parts[:depth]) for depth in range(len(parts), -1, -1)]
        root = next((root for root in above if any(embed.startswith(root) for embed in embeds)), None)
        if root is not None and all(sum(one.startswith(root) for one in ones) == 1 for ones in (kernels, embeds)):
            found.append((root, encoder + KERNEL))
    return found


def recognise(weights: Weights) -> bool:
    encoder, decoder = weights.prefixes(KERNEL)[0], weights.prefixes(EMBED)[0]
    if encoder == decoder or any(decoder + name not in weights for name in DECODER):
        return False
    own = [name for name in _sources(weights) if name.startswith(ENCODER_NAMES)]
    tables = [weights.tensors.get(name) for name in (f"{encoder}pos_embed", f"{decoder}decoder_pos_embed")]
    rows = [None if table is None or table.ndim != 3 else table.shape[1] for table in tables]
    return rows[0] is not None and rows[0] == rows[1] and all(OF_MAE.fullmatch(name) for name in own)


def predicts(weights: Weights) -> bool:
    return True


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """The same as an official file, whose names both parts have."""
    sources = _sources(weights)
    tensors = {name: weights.tensors[source] for name, source in sources.items()}
    encoder, decoder = weights.prefixes(KERNEL)[0], weights.prefixes(EMBED)[0]
    where = [f"'{prefix}'" if prefix else "names without a prefix" for prefix in (encoder, decoder)]
    notes = [*weights.notes, f"encoder under {where[0]}, decoder under {where[1]}"]
    reading = official.read(replace(weights, tensors=tensors, notes=notes), overrides)
    used = {*sources.values()}
    unused(reading.facts, [name for name in weights.tensors if name not in used], "not part of the MAE")
    return named_as_in_file(reading, sources)


def _sources(weights: Weights) -> dict[str, str]:
    """Official names, and the file's."""
    encoder, decoder = weights.prefixes(KERNEL)[0], weights.prefixes(EMBED)[0]
    found = {name: encoder + name for name in weights.under(encoder) if name.startswith(ENCODER_NAMES)}
    return found | {name: decoder + name for name in weights.under(decoder) if name.startswith(official.DECODER_NAMES)}
