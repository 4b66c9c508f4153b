"""Weights in several files with an index, as Hugging Face's libraries write large models:
`model.safetensors.index.json` and `model-00001-of-00002.safetensors`, ...

The index says which file holds which tensor. It may name files of its own folder alone, and each of
them passes the gate of `lcmae.formats.safety`.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.safety import Opened, check_file, open_weights
from lcmae.safety.files import read_regular
from lcmae.safety.text import reason, show

SUFFIX = ".index.json"
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
MAX_INDEX, MAX_SHARDS = 16 * 2**20, 256


def read_index(index: Path) -> list[str]:
    """The files that an index names, each once. `CheckpointError` where it is no index."""
    return sorted(set(_weight_map(index).values()))


def open_shards(index: Path, *, meta: bool = False) -> Opened:
    """All tensors of all files, as if they lay in one; the hash is that of the files' hashes."""
    where = _weight_map(index)
    opened: dict[str, Opened] = {}
    for name in read_index(index):
        if not (index.parent / name).exists():
            raise CheckpointError(f"expected every file that {show(index)} names, got no {name!a}")
        opened[name] = open_weights(index.parent / name, meta=meta)
    tensors: dict[str, Tensor] = {}
    for key, name in where.items():
        tree = opened[name].tree
        value = tree.get(key) if isinstance(tree, dict) else None
        if not isinstance(value, Tensor):
            raise CheckpointError(f"expected the tensor {key[:100]!a} in {show(index.parent / name)}, got none")
        tensors[key] = value
    digest = hashlib.sha256("".join(part.sha256 for part in opened.values()).encode()).hexdigest()

    def fetch(keys: Sequence[str], names: Sequence[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for file, part in opened.items():
            found |= part.fetch(keys, [name for name in names if where.get(name) == file])
        return found

    return Opened(index, digest, tensors, next(iter(opened.values())).metadata, fetch)


def _weight_map(index: Path) -> dict[str, str]:
    check_file(index)
    if index.stat().st_size > MAX_INDEX:
        raise CheckpointError(f"expected an index of at most {MAX_INDEX} bytes, got more: {show(index)}")
    try:
        values = json.loads(read_regular(os.path.realpath(index), MAX_INDEX))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"expected JSON in {show(index)}, got something else: {reason(error)}") from error
    found = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise CheckpointError(f"expected a weight_map of tensors to files in {show(index)}, got none")
    files = {*found.values()}
    strange = [name for name in files if not name.endswith((".safetensors", ".bin")) or {"/", "\\", "\0"} & {*name}]
    if strange or len(files) > MAX_SHARDS:
        what = ascii(strange[0])[:80] if strange else f"{len(files)} files"
        raise CheckpointError(f"expected at most {MAX_SHARDS} plain file names in {show(index)}, got {what}")
    return found
