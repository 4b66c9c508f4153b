"""What trainers leave beside the weights (metrics, states of generators, dates, settings): each
object becomes an empty stand-in, whatever its class, so that no code of it runs.

A name is only ever a name here: nothing is imported. What is called like a function (`os.system`,
`eval`, `foo.main`) is refused all the same, because a file that asks for it means no good.
"""

import sys
from collections import OrderedDict
from typing import Any, Literal

Kind = Literal["object", "list", "dict"]

MAX_EXTRAS = 100
"""Names of a file: torch goes through all of them at each call."""

INERT = {
    *(f"builtins.{name}" for name in ("list", "dict", "tuple", "int", "float", "str", "bool", "bytes", "frozenset")),
    *(f"builtins.{name}" for name in ("object", "complex", "slice", "range")),
    *(f"collections.{name}" for name in ("defaultdict", "deque", "ChainMap", "UserDict", "UserList")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    "array._array_reconstructor",
    "array.array",
    "copyreg._reconstructor",
    "decimal.Decimal",
    "fractions.Fraction",
    "functools.partial",
    "logging.Logger",
    "logging.getLogger",
    "random.Random",
    "re._compile",
    "time.struct_time",
    "types.SimpleNamespace",
    "uuid.SafeUUID",
    "uuid.UUID",
    "zoneinfo.ZoneInfo",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "pandas._libs.internals._unpickle_block",
    "pandas.core.indexes.base._new_Index",
}
"""Names of Python, numpy and pandas that are found beside weights, classes and functions."""

INERT_WITHIN = ("typing.", "numpy.random.", "numpy.dtypes.", "torch.optim.", "torch.torch_version.", "torch.amp.")

OWN_RULES = ("torch", "numpy", "builtins")
"""Of these only what is listed: torch knows some of their names itself, and calls them."""


def is_extra(name: str) -> bool:
    """Whether an object of this class, or a function that is named and not called, may stand beside
    the weights."""
    top = name.partition(".")[0]
    if name in INERT or name.startswith(INERT_WITHIN):
        return True
    return top not in OWN_RULES and (top == "__main__" or top not in sys.stdlib_module_names)


def is_callable(name: str) -> bool:
    """Whether a call of an extra makes an object, rather than does something: a class by its
    capital letter, or one of the listed."""
    last = name.rpartition(".")[2].lstrip("_")
    return name in INERT or name.startswith(INERT_WITHIN) or last[:1].isupper()


class Extra:
    """An object that was left aside: it has nothing of what the file gave it."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def stand_in(name: str, kind: Kind) -> type:
    """A class to put where a pickle names `name`; its objects are empty, or the list or dict that
    items are put into."""
    if kind == "object":
        return type("Extra", (Extra,), {"__slots__": (), "__doc__": name})
    base = list if kind == "list" else OrderedDict

    def new(cls: type, *_: Any, **__: Any) -> Any:
        return base()

    return type("Extra", (), {"__new__": new, "__doc__": name})


def nested_name(owner: Any, name: Any) -> type:
    """In place of `getattr`, by which pickles name a class or method within a class."""
    return Extra
