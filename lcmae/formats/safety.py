"""The gate for files from elsewhere: what a path may be, what a file may be, and one kind of error
for all the rest.

Every function here raises `CheckpointError` with one line that says what was expected and what was
got.
"""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.pickles import read_mapped, read_torch
from lcmae.formats.safetensor import read_safetensors, read_some
from lcmae.runs.checkpoint import sha256
from lcmae.runs.within_root import typed
from lcmae.safety.text import reason, show

MAX_BYTES = 64 * 2**30
"""Files above this size are refused; MAE's ViT-H with optimiser state takes 10 GiB."""


@dataclass(frozen=True)
class Opened:
    """What lay in a file: an object made of dicts, lists, numbers, strings and tensors."""

    path: Path
    sha256: str
    tree: Any
    metadata: dict[str, str]
    """Of safetensors; empty for files of torch.save."""

    fetch: Callable[[Sequence[str], Sequence[str]], dict[str, Tensor]]
    """The values of some tensors, where the tree has only their shapes: the keys that lead to a
    dict, and names in it."""

    extras: tuple[str, ...] = ()
    """Classes of objects that were left aside, by name."""


def open_weights(path: Path, *, meta: bool = False) -> Opened:
    """Read a safetensors or torch.save file; on the meta device if `meta`, so that no weight takes
    memory."""
    check_file(path)
    container = _container(path)
    try:
        digest = sha256(path)
        if container == "safetensors":
            tensors, metadata = read_safetensors(path, meta=meta)
            return Opened(path, digest, tensors, metadata, lambda _, names: read_some(path, names))
        found = read_torch(path, meta=meta)

        def fetch(keys: Sequence[str], names: Sequence[str]) -> dict[str, Tensor]:
            return _below(read_mapped(path, found.extras), keys, names)

        return Opened(path, digest, found.tree, {}, fetch, tuple(found.extras))
    except OSError as error:
        raise CheckpointError(f"cannot read {show(path)}: {reason(error)}") from error
    except MemoryError as error:
        raise CheckpointError(f"expected a checkpoint that fits into memory, got {show(path)}") from error


def _below(tree: Any, keys: Sequence[str], names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of these names in a nested dict; none where the file is another by now."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    found = {name: tree.get(name) for name in names} if isinstance(tree, Mapping) else {}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def check_file(path: Path) -> None:
    """Refuse what is not a plain file of a sensible size: folders, pipes, devices, nothing, too
    much."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"expected a checkpoint, got nothing readable at {typed(path)}: {reason(error)}"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise CheckpointError(folder_problem(path))
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"expected a plain file, got a pipe, socket or device: {show(path)}")
    if status.st_size > MAX_BYTES:
        raise CheckpointError(f"expected a file of at most {MAX_BYTES} bytes, got {status.st_size}: {show(path)}")


def folder_problem(path: Path) -> str:
    """Why a folder cannot be loaded."""
    names = sorted(os.listdir(path))
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        return (
            f"expected a checkpoint file, got a torch.distributed.checkpoint folder, which contains pickles: {show(path)}; "
            "convert it with python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pth"
        )
    if any(name.endswith(".index.json") for name in names):
        return f"expected config.json beside the shards and their index, got a folder without: {show(path)}"
    if any("mp_rank" in name or name == "latest" for name in names):
        return f"expected a checkpoint file, got a DeepSpeed folder: {show(path)}; convert it with its zero_to_fp32.py"
    files = [name for name in names if name.endswith((".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz"))]
    if files:
        return (
            f"expected a run, a checkpoint file or a Hugging Face folder with config.json, got a folder with "
            f"{', '.join(ascii(name)[1:-1] for name in files[:3])}: say {show(path / files[0])}"
        )
    return f"expected a run, a checkpoint file or a Hugging Face folder, got a folder without config.json: {show(path)}"


SIGNATURES = (
    (b"version https://git-lfs", "a git-lfs pointer: fetch the file itself with `git lfs pull`"),
    (b"<!doctype html", "a web page: the download link needs another address or a login"),
    (b"<html", "a web page: the download link needs another address or a login"),
    (b"<?xml", "an XML page: the download failed"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"GGUF", "a GGUF file"),
)


def _container(path: Path) -> str:
    """safetensors or zip; anything else is named and refused."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"cannot read {show(path)}: {reason(error)}") from error
    if not head:
        raise CheckpointError(f"expected a checkpoint, got an empty file: {show(path)}")
    if head.startswith(b"PK"):
        # the name of the first member stands behind 30 bytes of its header
        if head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(b".npy"):
            raise CheckpointError(
                f"expected a checkpoint, got a numpy archive (npz): {show(path)}; build its model (Google's ViTs: "
                "timm.create_model(NAME, checkpoint_path=FILE)), then torch.save(model.state_dict(), NEW_FILE)"
            )
        return "zip"
    if head[8:9] == b"{":
        return "safetensors"
    for signature, what in SIGNATURES:
        if head.lstrip().lower().startswith(signature.lower()):
            raise CheckpointError(f"expected a checkpoint, got {what}: {show(path)}")
    if head[257:262] == b"ustar":
        raise CheckpointError(f"expected a checkpoint, got a tar archive (torch before 0.4, or others): {show(path)}")
    if head[:1] == b"\x80":
        raise CheckpointError(
            f"expected a checkpoint of torch 1.6 or later, got a bare pickle: {show(path)}; save it again with "
            "torch.save(torch.load(FILE, weights_only=True), NEW_FILE)"
        )
    raise CheckpointError(f"expected a safetensors or torch.save file, got something else: {show(path)}")
