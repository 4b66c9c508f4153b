"""Safetensors files: a checked header, then tensors or, for looking only, their shapes on the meta
device.

The format holds no code. Its reader checks offsets against the file; what is added here is a cap on
the header (its JSON is parsed in memory) and one kind of error.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.safety.text import reason, show

MAX_HEADER = 16 * 2**20


def read_safetensors(path: Path, *, meta: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name (on the meta device if `meta`), and the file's metadata. Raises
    `CheckpointError`."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        first = file.read(8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    size = path.stat().st_size
    if length > MAX_HEADER or length + 8 > size:
        raise CheckpointError(
            f"expected a header of at most {min(MAX_HEADER, size)} bytes in {show(path)}, got one that declares {length}"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys()
            metadata = dict(file.metadata() or {})
            if meta:
                slices = {name: file.get_slice(name) for name in names}
                tensors = {name: _outline(path, part.get_shape(), part.get_dtype()) for name, part in slices.items()}
            else:
                # cloned, because the reader may hand out memory that is mapped to the file
                tensors = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError, RuntimeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"expected an intact safetensors file, got {show(path)}: {reason(error)}") from error
    return tensors, metadata


def read_some(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Some of the tensors of a file that `read_safetensors` has read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"expected an intact safetensors file, got {show(path)}: {reason(error)}") from error


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def _outline(path: Path, shape: list[int], dtype: str) -> Tensor:
    if dtype not in DTYPES:
        raise CheckpointError(f"expected weights in one of {', '.join(DTYPES)} in {show(path)}, got {dtype}")
    return torch.empty(shape, dtype=DTYPES[dtype], device="meta")
