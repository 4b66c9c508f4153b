"""Files of torch.save (a zip around a pickle), read so that no code in them runs and no lie in them
costs memory.

Three fences stand before a tensor is made: the zip must be what torch writes (stored members, sizes
that add up, intact checksums); the pickle may name only the globals below; and what its tensors
declare must lie in the file. Only then torch.load, with weights_only and with stand-ins for the few
classes that training scripts put beside the weights.
"""

import argparse
import pathlib
import pickletools
import struct
import threading
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.runs.durable import reason, show

MAX_MEMBERS = 50_000
MAX_PICKLE = 16 * 2**20
MAX_OPCODES = 1_000_000
MAX_NESTING = 32


class NumpyType:
    """Stands in for numpy.dtype: a code and nothing else, so that a file cannot make numpy build
    anything."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        # byte order and field layout; a plain number needs neither
        pass


def numpy_number(dtype: Any, raw: Any) -> float | int | bool:
    """Stands in for numpy's scalar constructor: one plain number of at most 8 bytes."""
    if not isinstance(dtype, NumpyType) or dtype.code not in NUMBERS or not isinstance(raw, bytes):
        raise CheckpointError("expected numpy scalars that are plain numbers, got another kind")
    number = np.dtype("<" + dtype.code)
    if len(raw) != number.itemsize:
        raise CheckpointError(f"expected a numpy scalar of {number.itemsize} bytes, got {len(raw)}")
    return np.frombuffer(raw, number)[0].item()


NUMBERS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")

STAND_INS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    # pure paths have no way to the disk
    **{
        f"{module}.{name}": pathlib.PurePosixPath
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "Path", "PurePosixPath", "PureWindowsPath", "PurePath")
    },
    # dictionaries with attribute access: SimMIM's yacs config, Lightning's hyper-parameters
    **dict.fromkeys(
        (
            "yacs.config.CfgNode",
            "pytorch_lightning.utilities.parsing.AttributeDict",
            "lightning.pytorch.utilities.parsing.AttributeDict",
            "lightning_fabric.utilities.data.AttributeDict",
            "lightning.fabric.utilities.data.AttributeDict",
        ),
        OrderedDict,
    ),
    "numpy.dtype": NumpyType,
    "numpy.core.multiarray.scalar": numpy_number,
    "numpy._core.multiarray.scalar": numpy_number,
}
"""Globals that torch does not know and we allow: inert classes, by the name that a file gives
them."""

KNOWN_TO_TORCH = {
    "collections.OrderedDict",
    "collections.Counter",  # milestones of a learning-rate schedule
    "builtins.set",
    "_codecs.encode",  # bytes, as protocol 2 writes them
    "torch.Size",
    "torch.device",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    *(f"torch.{name}Storage" for name in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char")),
    *(f"torch.{name}Storage" for name in ("Byte", "Bool")),
    *(f"torch.{name}" for name in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool")),
}
"""The part of torch's own list that a checkpoint needs; among the rest are constructors that
allocate (bytearray)."""

# torch keeps its list of safe globals for the whole process
_LOCK = threading.Lock()


def read_torch(path: Path, *, meta: bool) -> Any:
    """The object in a torch.save file; tensors lie in the mapped file, or on the meta device if
    `meta`."""
    data_bytes = _check_zip(path)
    with _LOCK, torch.serialization.safe_globals([(stand_in, name) for name, stand_in in STAND_INS.items()]):
        outline = _load(path, map_location="meta")
        _check_declared(path, outline, data_bytes)
        # mapped, so that optimiser states are never read, and a storage cannot reach beyond the
        # file
        return outline if meta else _load(path, map_location="cpu", mmap=True)


def _load(path: Path, **how: Any) -> Any:
    try:
        return torch.load(path, weights_only=True, **how)
    except Exception as error:  # whatever a hostile file makes the reader raise, the answer is the same
        raise CheckpointError(
            f"expected a checkpoint that torch can read, got {show(path)}: {_short(error)}"
        ) from error


def _short(error: Exception) -> str:
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    # torch prefixes advice of many lines; its last sentence has the reason
    text = reason(cause).split("Please file an issue")[0].strip()
    return (text if text.isprintable() else ascii(text))[:200]


def _check_zip(path: Path) -> int:
    """Refuse what torch.save does not write; returns the bytes of tensors in the file."""
    size = path.stat().st_size
    _check_directory(path, size)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            total = sum(member.file_size for member in members)
            if any(member.compress_type != zipfile.ZIP_STORED for member in members) or total > size:
                raise CheckpointError(
                    f"expected a checkpoint whose parts are stored as they are, got {show(path)} with {size} bytes that "
                    f"unpack to {total}: a zip bomb, or a zip that torch.save did not write"
                )
            if len(set(names)) != len(names):
                raise CheckpointError(
                    f"expected members with names of their own in {show(path)}, got the same name twice"
                )
            roots = {name.partition("/")[0] for name in names}
            pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
            if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
                raise CheckpointError(f"expected weights, got a TorchScript program: {show(path)}")
            if len(pickles) != 1 or len(roots) != 1:
                raise CheckpointError(f"expected a file of torch.save, got a zip without one data.pkl: {show(path)}")
            if archive.getinfo(pickles[0]).file_size > MAX_PICKLE:
                raise CheckpointError(f"expected a data.pkl of at most {MAX_PICKLE} bytes in {show(path)}, got more")
            _check_globals(path, archive.read(pickles[0]))
            if (broken := archive.testzip()) is not None:
                raise CheckpointError(
                    f"expected intact members in {show(path)}, got one that fails its checksum: {broken!a}"
                )
            return sum(member.file_size for member in members if "/data/" in member.filename)
    except (
        zipfile.BadZipFile,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
        struct.error,
    ) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"expected a whole checkpoint, got a torn zip: {show(path)}: {reason(error)}") from error


def _check_directory(path: Path, size: int) -> None:
    """Refuse a zip whose list of members alone would fill the memory, before Python reads that
    list."""
    with path.open("rb") as file:
        start = max(0, size - 2**16 - 22 - 76)
        file.seek(start)
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise CheckpointError(f"expected a whole checkpoint, got a zip that was cut off: {show(path)}")
    count, length = struct.unpack("<H", tail[end + 10 : end + 12])[0], struct.unpack("<I", tail[end + 12 : end + 16])[0]
    wide = tail.rfind(b"PK\x06\x06", 0, end)
    if wide >= 0 and end - wide >= 56:
        count, length = struct.unpack("<QQ", tail[wide + 32 : wide + 48])
    if count > MAX_MEMBERS or length > MAX_MEMBERS * 300:
        raise CheckpointError(f"expected at most {MAX_MEMBERS} members in {show(path)}, got {count}")


def _check_globals(path: Path, data: bytes) -> None:
    """Refuse a pickle that names anything but the globals above; it is read as text, never run."""
    refused: dict[str, None] = {}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise CheckpointError(f"expected at most {MAX_OPCODES} opcodes in the pickle of {show(path)}, got more")
            if opcode.name == "GLOBAL":
                name = _current_name(*str(argument).split(" ", 1))
                if name not in KNOWN_TO_TORCH and name not in STAND_INS:
                    refused[name] = None
            elif opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX", "PERSID"):
                refused[f"opcode {opcode.name}"] = None
    except (ValueError, IndexError, UnicodeDecodeError, struct.error) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"expected a whole pickle in {show(path)}, got one that breaks off: {reason(error)}"
        ) from error
    if refused:
        names = [ascii(name)[1:-1][:80] for name in refused]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise CheckpointError(
            f"refused {show(path)}: it asks for code that a checkpoint does not need: {', '.join(names[:8])}{more}"
        )


def _current_name(module: str, name: str = "") -> str:
    """A global by its name in Python 3, as torch translates it too."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _check_declared(path: Path, tree: Any, data_bytes: int) -> None:
    """Refuse tensors that claim more than the file holds: more than their storage, or storages more
    than the members."""
    storages: dict[int, int] = {}
    for tensor in tensors_in(tree, path):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        declared = tensor.numel() * tensor.element_size()
        if declared > storage.nbytes():
            raise CheckpointError(
                f"expected tensors as large as they are stored in {show(path)}, got one that declares {declared} bytes "
                f"({'x'.join(map(str, tensor.shape))}) and stores {storage.nbytes()}"
            )
    if (total := sum(storages.values())) > data_bytes:
        raise CheckpointError(f"expected tensors of {data_bytes} bytes in {show(path)}, got {total} bytes declared")


def tensors_in(tree: Any, path: Path) -> Iterator[Tensor]:
    """Every tensor in nested dicts, lists, tuples, sets and namespaces; each container once."""
    pending, seen = [(tree, 0)], set()
    while pending:
        value, depth = pending.pop()
        if isinstance(value, Tensor):
            yield value
            continue
        if isinstance(value, dict):
            inside = [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            inside = list(value)
        elif isinstance(value, argparse.Namespace):
            inside = list(vars(value).values())
        else:
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        if depth > MAX_NESTING:
            raise CheckpointError(f"expected at most {MAX_NESTING} levels of nesting in {show(path)}, got more")
        pending.extend((item, depth + 1) for item in inside)
