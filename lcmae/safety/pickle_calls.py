"""What each call that a pickle may ask for is allowed as arguments, and what it would return:
stand-ins for values, and one rule for each kind of call. No call is made.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

MAX_DIMENSIONS = 64
MAX_VALUES = 2**40
"""Of one tensor; above it, a product of sizes could overflow."""
MAX_SCALAR = 1_024
"""Bytes of a numpy scalar: text has four a character."""


class Refused(ValueError):
    """The pickle asks for what a checkpoint does not need; the message follows "got"."""


@dataclass(eq=False)
class Global:
    """A name that the pickle asks for."""

    name: str


@dataclass(eq=False)
class Result:
    """What a call would return."""

    kind: str
    extent: int = 0
    """Of a storage: its number of values."""


@dataclass(eq=False)
class Other:
    """An object of a class that is no part of a model; it is left aside (`lcmae.safety.extras`)."""

    name: str


@dataclass(eq=False)
class Table:
    """A dict, an OrderedDict, a Counter or a namespace."""

    kind: str
    keys: list[Any] = field(default_factory=list)


class Machine(Protocol):
    """What a rule may ask of the machine that follows the pickle."""

    @property
    def extras(self) -> Mapping[str, str]:
        """Classes whose objects are left aside."""
        ...

    @property
    def refused(self) -> dict[str, None]:
        """Names that the pickle may not ask for."""
        ...

    def spend(self, cost: int) -> None:
        """Take a cost off what calls may still cost; `Refused` where nothing is left."""
        ...

    def check_key(self, key: Any) -> None:
        """`Refused` for a key that is costly to hash."""
        ...


Rule = Callable[[Machine, tuple[Any, ...]], Any]


def _mapping(kind: str) -> Rule:
    def rule(machine: Machine, arguments: tuple[Any, ...]) -> Table:
        table = Table(kind)
        match arguments:
            case ():
                return table
            case (list(pairs),):  # as Python 2 wrote them
                machine.spend(len(pairs))
                for pair in pairs:
                    if not (isinstance(pair, tuple | list) and len(pair) == 2):
                        raise Refused("pairs that are none")
                    machine.check_key(pair[0])
                    table.keys.append(pair[0])
                return table
            case (Table(keys=keys),):
                machine.spend(len(keys))
                table.keys.extend(keys)
                return table
        raise Refused("other arguments than one list or dict")

    return rule


def _set(machine: Machine, arguments: tuple[Any, ...]) -> Result:
    match arguments:
        case (list(values),):
            machine.spend(len(values))
            for value in values:
                machine.check_key(value)
            return Result("set")
    raise Refused("other arguments than one list")


def _encode(machine: Machine, arguments: tuple[Any, ...]) -> bytes:
    # bytes, as protocol 2 writes them: numpy scalars have at most 8, states of generators 5,000
    match arguments:
        case (str(text), "latin1" | "latin-1"):
            machine.spend(len(text))
            try:
                return text.encode("latin1")
            except UnicodeEncodeError as error:
                raise Refused("text that is not latin1") from error
    raise Refused("another codec than latin1")


def _size(machine: Machine, arguments: tuple[Any, ...]) -> Result:
    match arguments:
        case (tuple(values) | list(values),) if _are_whole(values) and len(values) <= MAX_DIMENSIONS:
            return Result("size")
    raise Refused("what is no shape")


def _device(machine: Machine, arguments: tuple[Any, ...]) -> Result:
    match arguments:
        case (str(name),) | (str(name), int()) if len(name) <= 20:
            return Result("device")
    raise Refused("what is no device")


def _tensor(machine: Machine, arguments: tuple[Any, ...]) -> Result:
    match arguments:
        case (Result(kind="storage", extent=extent), int(offset), tuple(size), tuple(stride), bool(), *_):
            if not (_are_whole(size) and _are_whole(stride)) or len(arguments) > 7:
                raise Refused("what is no shape")
            if len(size) != len(stride) or len(size) > MAX_DIMENSIONS or min((offset, *size, *stride)) < 0:
                raise Refused("a shape that does not fit its strides")
            last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            if math.prod(size) > MAX_VALUES or (math.prod(size) and offset + last >= extent):
                raise Refused(f"a tensor that declares more values than the {extent} that are stored")
            return Result("tensor")
    raise Refused("what is no tensor")


def _parameter(machine: Machine, arguments: tuple[Any, ...]) -> Result:
    match arguments:
        case (Result(kind="tensor" | "refused"), bool(), _):
            return Result("tensor")
    raise Refused("what is no tensor")


def _namespace(machine: Machine, arguments: tuple[Any, ...]) -> Table:
    if arguments:
        raise Refused("arguments")
    return Table("namespace")


def _path(machine: Machine, arguments: tuple[Any, ...]) -> Result:
    parts = [part for part in arguments if isinstance(part, str)]
    if len(parts) != len(arguments) or sum(map(len, parts)) > 4096:
        raise Refused("what is no path")
    machine.spend(sum(map(len, parts)))
    return Result("path")


def _numpy_type(machine: Machine, arguments: tuple[Any, ...]) -> Result:
    if not all(isinstance(argument, str | int) for argument in arguments) or len(arguments) > 3:
        raise Refused("what is no numpy type")
    return Result("numpy type")


def _numpy_number(machine: Machine, arguments: tuple[Any, ...]) -> Result:
    match arguments:
        case (Result(kind="numpy type"), bytes(raw)) if len(raw) <= MAX_SCALAR:
            return Result("number")
        case (Result(kind="numpy type"), _):
            raise Refused("numpy scalars that are plain numbers, or another kind")
    raise Refused("what is no number")


def _nested_name(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    # a class or method within a class: Experiment.Mode, HistoryBuffer.mean
    match arguments:
        case (Global(name=owner), str(name)) if owner in machine.extras and not name.startswith("__"):
            return Other(owner)
    machine.refused["builtins.getattr"] = None
    return Result("refused")


def _are_whole(values: Any) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)


CALLS: dict[str, Rule] = {
    "mapping": _mapping("mapping"),
    "counter": _mapping("counter"),
    "set": _set,
    "encode": _encode,
    "size": _size,
    "device": _device,
    "tensor": _tensor,
    "parameter": _parameter,
    "namespace": _namespace,
    "path": _path,
    "numpy type": _numpy_type,
    "numpy number": _numpy_number,
    "nested name": _nested_name,
}
"""The rule for each kind of call."""
