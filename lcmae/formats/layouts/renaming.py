"""What layouts share that differ from another in their names alone."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.build import Reading
from lcmae.formats.weights import Weights

Rules = Sequence[tuple[str, str]]
"""Regular expressions and what takes their place, one after the other."""


def rename(weights: Weights, rules: Rules) -> tuple[Weights, dict[str, str]]:
    """The same weights under other names, and for every new name the one in the file."""
    tensors: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    for source, tensor in weights.tensors.items():
        name = source
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if name in tensors:
            raise CheckpointError(f"expected one tensor for {source} in {weights.path}, got two layouts mixed")
        tensors[name], sources[name] = tensor, source
    return replace(weights, tensors=tensors), sources


def named_as_in_file(reading: Reading, sources: dict[str, str]) -> Reading:
    """The reading, whose messages use the file's names."""
    reading.keys = {name: sources.get(reading.keys.get(name, name), name) for name in reading.tensors}
    return reading


def fold_class_position(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions without the class token's row, which is added to the token itself: registers that
    go between them have no positions then."""
    table, token = tensors["pos_embed"], tensors["cls_token"]
    if table.ndim != 3 or token.ndim != 3 or table.shape[2] != token.shape[2] or table.shape[1] < 2:
        raise CheckpointError(
            f"expected positions [1 n d] and a class token [1 1 d], got {[*table.shape]}, {[*token.shape]}"
        )
    # shapes may have no values yet
    both: Any = (
        (token + table[:, :1]) if not (token.is_meta or table.is_meta) else torch.empty_like(token, device="meta")
    )
    return {**tensors, "cls_token": both, "pos_embed": table[:, 1:]}


def without_prefix_positions(reading: Reading, origin: str) -> Reading:
    """It is the layout that says so, and not the person."""
    reading.facts.origins["prefix_positions"] = origin
    return reading
