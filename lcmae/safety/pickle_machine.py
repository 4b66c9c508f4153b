"""What a pickle would do, found out without doing it: its opcodes are followed with stand-ins for
values, and every call that it asks for is held against a rule for its arguments.

A list of allowed names is not enough. `_codecs.encode` takes any codec, and some never end;
a set of nested tuples is hashed in exponential time; an `OrderedDict` takes attributes that hide
its methods. So a call is allowed with the arguments that checkpoints need, keys are plain, tensors
lie in their storage, and all calls together cost no more than reading the file.
"""

import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from lcmae.safety.extras import MAX_EXTRAS, Kind, is_callable, is_extra
from lcmae.safety.pickle_calls import CALLS, Global, Other, Refused, Result, Table

MAX_OPCODES = 1_000_000
MAX_TUPLE_KEYS = 1_000
"""Tuples of numbers can be made to collide in a dictionary, and text cannot."""
MAX_NAME = 1_000
"""Characters of a key: names of weights have a hundred."""
MAX_INTEGER = 32
"""Bytes of a whole number: states of random generators have 17."""

NAMES = {getattr(pickle, name)[0]: name for name in pickle.__all__ if isinstance(getattr(pickle, name), bytes)}
ASKS_FOR_CODE = ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX", "PERSID")


class Machine:
    """Follows one pickle. `kinds` says for each allowed global which rule its calls obey; a global
    without one may be named (a dtype, a class of storage) but not called."""

    def __init__(self, data: bytes, kinds: dict[str, str | None], storages: dict[str, int]) -> None:
        self.data, self.position = data, 0
        self.kinds, self.sizes = kinds, storages
        self.storages: dict[str, Result] = {}
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.tuple_keys = 0
        self.left = 4 * len(data) + 65_536
        """What calls may still cost, in values or bytes."""
        self.refused: dict[str, None] = {}
        self.extras: dict[str, Kind] = {}
        """Classes whose objects are left aside, and what is put into those objects."""

    def follow(self) -> list[str]:
        """Names of the refused globals. `Refused` for all else, `ValueError` for a torn pickle."""
        data = self.data
        for _ in range(MAX_OPCODES):
            code = data[self.position]
            self.position += 1
            step = STEPS[code]
            if step is not None:
                step(self)
            elif code == STOP:
                self.stack.pop()
                return list(self.refused)
            else:
                raise Refused(f"the opcode {NAMES.get(code, code)}")
        raise Refused(f"more, where at most {MAX_OPCODES} opcodes are read")

    def _read(self, count: int) -> bytes:
        found = self.data[self.position : self.position + count]
        if len(found) < count:
            raise ValueError("it ends in the middle")
        self.position += count
        return found

    def _line(self) -> str:
        end = self.data.index(b"\n", self.position)
        line, self.position = self.data[self.position : end], end + 1
        return line.decode()

    def byte(self) -> int:
        found = self.data[self.position]
        self.position += 1
        return found

    def unpack(self, form: str) -> Any:
        return struct.unpack(form, self._read(struct.calcsize(form)))[0]

    def above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise Refused("calls that cost more than reading the file")

    # --- opcodes ---

    def text(self) -> None:
        raw = self._read(self.unpack("<I"))
        self.stack.append(str(raw, "utf-8", "surrogatepass"))

    def short_text(self) -> None:
        self.stack.append(self._read(self._read(1)[0]).decode())

    def long(self) -> None:
        raw = self._read(self._read(1)[0])
        if len(raw) > MAX_INTEGER:
            raise Refused(f"a whole number of {len(raw)} bytes")
        self.stack.append(int.from_bytes(raw, "little", signed=True))

    def protocol(self) -> None:
        if (found := self._read(1)[0]) != 2:
            raise Refused(f"pickle protocol {found} (torch.save writes 2)")

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def name_global(self) -> None:
        name = current_name(self._line(), self._line())
        if name not in self.kinds:
            if is_extra(name) and len(self.extras) < MAX_EXTRAS:
                self.extras.setdefault(name, "object")
            else:
                self.refused[name] = None
        self.stack.append(Global(name))

    def tuple_above_mark(self) -> None:
        items = self.above_mark()  # first: it puts the stack below the mark in place
        self.stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("it takes more from its stack than lies there")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def append(self) -> None:
        item = self.stack.pop()
        self._list().append(item)

    def appends(self) -> None:
        items = self.above_mark()
        self._list().extend(items)

    def _holds(self, extra: Other, kind: Kind) -> None:
        if self.extras[extra.name] not in ("object", kind):
            raise Refused(f"a {extra.name} that is a list and a dict")
        self.extras[extra.name] = kind

    def _list(self) -> list[Any]:
        if isinstance(self.stack[-1], Other):
            self._holds(self.stack[-1], "list")
            return []
        if not isinstance(self.stack[-1], list):
            raise Refused("something appended to what is no list")
        return self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Other) and not len(items) % 2:
            self._holds(target, "dict")
            for key in items[::2]:
                self.check_key(key)
            return
        if not isinstance(target, Table) or target.kind == "namespace" or len(items) % 2:
            raise Refused("items set in what is no dict")
        for key in items[::2]:
            self.check_key(key)
        target.keys.extend(items[::2])

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def check_key(self, key: Any, *, deep: bool = False) -> None:
        """A key whose hash costs nothing, and that many others cannot be made to collide with."""
        if isinstance(key, tuple) and not deep and len(key) <= 16:
            self.tuple_keys += 1
            if self.tuple_keys > MAX_TUPLE_KEYS:
                raise Refused(f"more than {MAX_TUPLE_KEYS} keys that are tuples")
            for part in key:
                self.check_key(part, deep=True)
        elif isinstance(key, str | bytes):
            if len(key) > MAX_NAME:
                raise Refused(f"a key of {len(key)} characters, of at most {MAX_NAME}")
        elif isinstance(key, int):
            if not -(2**63) <= key < 2**64:
                raise Refused("a key that is a whole number of more than 64 bits")
        elif not (key is None or isinstance(key, float | Global | Result | Other)):
            raise Refused("a key that is no plain value")

    def persistent(self) -> None:
        match self.stack.pop():
            case ("storage", Global(), str(key), str(), int(count)) if key in self.sizes and count >= 0:
                if self.storages.setdefault(key, Result("storage", count)).extent != count:
                    raise Refused(f"two sizes for the storage {key}")
                self.stack.append(self.storages[key])
            case ("storage", Global(), str(key), str(), int()):
                raise Refused(f"a storage without data: {key[:20]!a}")
            case _:
                raise Refused("a persistent id that is no storage")

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if isinstance(function, Other) and isinstance(arguments, tuple):
            # a class within a class
            self.spend(1)
            self.stack.append(Other(function.name))
            return
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise Refused("a call of what is no function")
        self.stack.append(self._call(function.name, arguments))

    def new_object(self) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if isinstance(cls, Other) and isinstance(arguments, tuple):
            # of a class within a class
            self.spend(1)
            self.stack.append(Other(cls.name))
            return
        if not isinstance(cls, Global) or not isinstance(arguments, tuple):
            raise Refused("an object of what is no class")
        kind = self.kinds.get(cls.name)
        if cls.name in self.kinds and (kind not in ("mapping", "counter", "namespace") or arguments):
            raise Refused(f"a new object of {cls.name} with {len(arguments)} arguments")
        self.stack.append(self._call(cls.name, arguments))

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name in self.extras and is_callable(name):
            self.spend(1)
            return Other(name)
        if name not in self.kinds:
            self.refused[name] = None
            return Result("refused")
        kind = self.kinds[name]
        if kind is None:
            raise Refused(f"a call of {name}")
        self.spend(1)
        try:
            return CALLS[kind](self, arguments)
        except Refused as error:
            raise Refused(f"a call of {name} with {error}") from error

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Result) and target.kind in ("numpy type", "refused"):
            return
        if isinstance(target, Other) and self.extras[target.name] == "object":
            return
        if isinstance(target, Other):
            target = Table("mapping")
        if not isinstance(target, Table) or target.kind not in ("mapping", "namespace"):
            raise Refused("a state for what has none")
        # (None, slots) is what Python writes for classes with slots; ours have none
        if not isinstance(state, Table) or not all(isinstance(key, str) for key in state.keys):
            raise Refused("a state that is no dict of names")
        self.spend(len(state.keys))
        hidden = [key for key in state.keys if _hides(target.kind, key)]
        if hidden:
            raise Refused(f"attributes that hide methods: {hidden[0][:40]!a}")


def _hides(kind: str, name: str) -> bool:
    if kind == "namespace":
        return name.startswith("__")
    return hasattr(OrderedDict, name) and not name.startswith("__")


OPCODES: dict[str, Callable[[Machine], Any]] = {
    "PROTO": Machine.protocol,
    "MARK": Machine.mark,
    "GLOBAL": Machine.name_global,
    "REDUCE": Machine.reduce,
    "NEWOBJ": Machine.new_object,
    "BUILD": Machine.build,
    "BINPERSID": Machine.persistent,
    "APPEND": Machine.append,
    "APPENDS": Machine.appends,
    "SETITEM": Machine.set_item,
    "SETITEMS": lambda machine: machine.set_items(machine.above_mark()),
    "TUPLE": Machine.tuple_above_mark,
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
    "NONE": lambda machine: machine.stack.append(None),
    "NEWFALSE": lambda machine: machine.stack.append(False),
    "NEWTRUE": lambda machine: machine.stack.append(True),
    "EMPTY_TUPLE": lambda machine: machine.stack.append(()),
    "EMPTY_LIST": lambda machine: machine.stack.append([]),
    "EMPTY_DICT": lambda machine: machine.stack.append(Table("dict")),
    "EMPTY_SET": lambda machine: machine.stack.append(Result("set")),
    "BININT": lambda machine: machine.stack.append(machine.unpack("<i")),
    "BININT1": lambda machine: machine.stack.append(machine.byte()),
    "BININT2": lambda machine: machine.stack.append(machine.unpack("<H")),
    "BINFLOAT": lambda machine: machine.stack.append(machine.unpack(">d")),
    "BINUNICODE": Machine.text,
    "SHORT_BINSTRING": Machine.short_text,
    "LONG1": Machine.long,
    "BINGET": lambda machine: machine.stack.append(machine.memo[machine.byte()]),
    "LONG_BINGET": lambda machine: machine.stack.append(machine.memo[machine.unpack("<I")]),
    "BINPUT": lambda machine: machine.memo.__setitem__(machine.byte(), machine.stack[-1]),
    "LONG_BINPUT": lambda machine: machine.memo.__setitem__(machine.unpack("<I"), machine.stack[-1]),
}
"""All that torch's reader of protocol 2 follows; there is no POP, no DUP and no STACK_GLOBAL."""

STOP = pickle.STOP[0]
STEPS = [OPCODES.get(NAMES.get(code, "")) for code in range(256)]


def current_name(module: str, name: str) -> str:
    """A global by its name in Python 3, as torch translates it too."""
    from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def names_in(data: bytes, allowed: dict[str, str | None]) -> list[str]:
    """Everything that a pickle of any protocol asks for beyond the allowed, for a message; what
    cannot be parsed ends the list."""
    found: dict[str, None] = {}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name == "GLOBAL":
                name = current_name(*str(argument).split(" ", 1))
                if name not in allowed:
                    found[name] = None
            elif opcode.name in ASKS_FOR_CODE:
                found[f"opcode {opcode.name}"] = None
            if count > 10_000:
                break
    except (ValueError, IndexError, TypeError, struct.error):
        pass  # what was found before the tear is what the message says
    return list(found)
