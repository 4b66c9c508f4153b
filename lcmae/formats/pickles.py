"""Files of torch.save (a zip around a pickle), read so that no code in them runs and no lie in them
costs memory.

Three fences stand before a tensor is made: the zip must be what torch writes (members and values
that it knows, stored as they are, intact checksums: `lcmae.safety.torch_zip`); the pickle may ask
only for the calls below, with arguments that their rules allow (`lcmae.safety.pickle_machine`); and
what its tensors declare must lie in the file. Only then torch.load, with weights_only and with
stand-ins for the few classes that training scripts put beside the weights.
"""

import argparse
import pathlib
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.safety.extras import Extra, Kind, nested_name, stand_in
from lcmae.safety.pickle_machine import Machine, Refused, names_in
from lcmae.safety.text import printable, reason, show
from lcmae.safety.torch_zip import check_zip

MAX_NESTING = 32

SAVE_ALONE = "save the weights alone, torch tensors by their names: torch.save(model.state_dict(), NEW_FILE)"


class NumpyType:
    """Stands in for numpy.dtype: a code and nothing else, so that a file cannot make numpy build
    anything."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        # byte order and field layout; a plain number needs neither
        pass


def numpy_number(dtype: Any, raw: Any) -> float | int | bool | None:
    """Stands in for numpy's scalar constructor: one plain number of at most 8 bytes; None for text,
    dates and others."""
    if not isinstance(dtype, NumpyType) or not isinstance(raw, bytes):
        raise CheckpointError("expected numpy scalars of a type and bytes, got others")
    if dtype.code not in NUMBERS:
        return None
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
    "builtins.getattr": nested_name,
}
"""Globals that torch does not know and we allow: inert classes, by the name that a file gives
them."""

KNOWN_TO_TORCH: dict[str, str | None] = {
    "collections.OrderedDict": "mapping",
    "collections.Counter": "counter",  # milestones of a learning-rate schedule
    "builtins.set": "set",
    "_codecs.encode": "encode",
    "torch.Size": "size",
    "torch.device": "device",
    "torch._utils._rebuild_tensor_v2": "tensor",
    "torch._utils._rebuild_parameter": "parameter",
    **{
        f"torch.{name}Storage": None for name in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char")
    },
    **{f"torch.{name}Storage": None for name in ("Byte", "Bool")},
    **{
        f"torch.{name}": None
        for name in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool")
    },
}
"""The part of torch's own list that a checkpoint needs, with the rule for its calls; among the rest
are constructors that allocate (bytearray)."""

RULES: dict[Any, str] = {
    argparse.Namespace: "namespace",
    pathlib.PurePosixPath: "path",
    OrderedDict: "mapping",
    NumpyType: "numpy type",
    numpy_number: "numpy number",
    nested_name: "nested name",
}
"""The rule for the calls of each stand-in."""

ALLOWED = {**KNOWN_TO_TORCH, **{name: RULES[inert] for name, inert in STAND_INS.items()}}

# torch keeps its list of safe globals for the whole process
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Pickled:
    """What lay in a torch.save file."""

    tree: Any
    extras: Mapping[str, Kind]
    """Classes of the objects that were left aside (`lcmae.safety.extras`)."""


def read_torch(path: Path, *, meta: bool) -> Pickled:
    """The object in a torch.save file; tensors lie in the mapped file, or on the meta device if
    `meta`."""
    data, storages = check_zip(path)
    extras = _check_pickle(path, data, storages)
    data_bytes = sum(storages.values())
    with _LOCK, _stand_ins(extras):
        outline = _load(path, map_location="meta")
        _check_declared(path, outline, data_bytes)
        # mapped, so that optimiser states are never read, and a storage cannot reach beyond the
        # file
        return Pickled(outline if meta else _load(path, map_location="cpu", mmap=True), extras)


def read_mapped(path: Path, extras: Mapping[str, Kind]) -> Any:
    """The object in a file that `read_torch` has read; its tensors lie in the mapped file."""
    with _LOCK, _stand_ins(extras):
        return _load(path, map_location="cpu", mmap=True)


def _stand_ins(extras: Mapping[str, Kind]) -> Any:
    """torch puts these in place of the names; it imports nothing."""
    inert = {**STAND_INS, **{name: stand_in(name, kind) for name, kind in extras.items()}}
    # objects of nested classes are built like those of their owners
    return torch.serialization.safe_globals(
        [*((stand_in, name) for name, stand_in in inert.items()), (Extra, "lcmae Extra")]
    )


def _load(path: Path, **how: Any) -> Any:
    try:
        return torch.load(path, weights_only=True, **how)
    except Exception as error:  # whatever a hostile file makes the reader raise, the answer is the same
        raise CheckpointError(
            f"expected a checkpoint that torch can read, got {show(path)}: {_short(error)}"
        ) from error


REASON = "WeightsUnpickler error:"


def _short(error: Exception) -> str:
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    # torch puts advice of many lines before the reason, and more behind it
    text = str(cause).split(REASON)[-1]
    text = text.split("Please file an issue")[0].split("Check the documentation")[0].strip()
    return printable((text or type(cause).__name__).splitlines()[0])


OTHER_TENSORS = re.compile(r"torch\._utils\._rebuild_\w+|torch\.(?:storage\.)?\w+Storage|torch\.(?:float8|complex)\w+")
"""What torch writes for tensors that are no weights here: their values are in no floating-point
type, or not all in the file."""


def _check_pickle(path: Path, data: bytes, storages: dict[str, int]) -> dict[str, Kind]:
    """Refuse a pickle that asks for anything but the calls above; it is followed, never run.
    Returns the classes whose objects are left aside."""
    machine = Machine(data, ALLOWED, storages)
    refused, problem = [], ""
    try:
        refused = machine.follow()
    except Refused as error:
        refused, problem = list(machine.refused), f"expected a pickle that torch can read, got {error}"
    except (ValueError, IndexError, KeyError, RecursionError, struct.error) as error:
        problem = f"expected a whole pickle, got one that breaks off: {reason(error)}"
    if problem:
        # what it asks for beyond what was followed says more than the opcode at which that ended
        refused = list(dict.fromkeys([*refused, *names_in(data, {**ALLOWED, **dict.fromkeys(machine.extras)})]))
    if refused:
        names = [ascii(name)[1:-1][:80] for name in refused]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        if any(name.startswith("torch.nn.modules.") for name in names):
            more += "; a whole module was pickled (torch.save(model)): save model.state_dict() instead"
        elif any(OTHER_TENSORS.fullmatch(name) for name in names):
            more += "; tensors that are sparse, quantized, complex, on the meta device or of 8 bits: save dense ones, value.float()"
        else:
            more += f"; if you trust the file, {SAVE_ALONE}"
        raise CheckpointError(
            f"refused {show(path)}: it asks for code that a checkpoint does not need: {', '.join(names[:8])}{more}"
        )
    if problem:
        raise CheckpointError(f"{problem}: {show(path)}")
    return machine.extras


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
            parts = [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            parts = list(value)
        elif isinstance(value, argparse.Namespace):
            parts = list(vars(value).values())
        else:
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        if depth > MAX_NESTING:
            raise CheckpointError(f"expected at most {MAX_NESTING} levels of nesting in {show(path)}, got more")
        pending.extend((item, depth + 1) for item in parts)
