"""What layouts share that differ from another in their names alone."""

import re
from collections.abc import Sequence
from dataclasses import replace

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
