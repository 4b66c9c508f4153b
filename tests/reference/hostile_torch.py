"""More files of torch.save that no loader may trust: members and values that torch's own C++ reader
obeys, and pickles that cost more than they weigh.

The file that kills comes from torch's reader of today: `byteorder` = big is a SIGSEGV, and
`.storage_alignment` = 0 a SIGFPE.
"""

import io
import struct
import zipfile
from pathlib import Path

import torch

from tests.reference.hostile import Maker, entry, good, rezip, state, wrapped


def _member(inner: str, content: bytes) -> Maker:
    """The good file with one member of another value, or one more."""

    def make(folder: Path) -> Path:
        path = folder / "a.pth"
        data = good(path)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            root = archive.namelist()[0].partition("/")[0]
        has = []

        def change(name: str, old: bytes) -> bytes:
            if name.partition("/")[2] != inner:
                return old
            has.append(name)
            return content

        rezip(path, data, change)
        if not has:
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(f"{root}/{inner}", content)
        return path

    return make


for _value in (b"big", b"Big", b"", b"little\n", b"middle", b"\0" * 200):
    entry(f"byteorder {_value[:8]!r}", "expected byteorder little")(_member("byteorder", _value))
for _value in (b"0", b"-64", b"00", b"3", b"1e9", b"18446744073709551616", b""):
    entry(f"storage alignment {_value!r}", "expected .storage_alignment")(_member(".storage_alignment", _value))
for _value in (b"0", b"999999999999999999999999", b"-1", b"\xff"):
    entry(f"version {_value!r}", "expected version")(_member("version", _value))
entry("format version", "expected .format_version")(_member(".format_version", b"x" * 50))
entry("serialization id", "expected .data/serialization_id")(_member(".data/serialization_id", b"\x1b[2J"))
for _name in ("BYTEORDER", "../../escape", "data/../x", "data/0x", "extra", "data/٣", ".data/other"):
    entry(f"member {_name}", "only the members|same name twice|without one data.pkl")(_member(_name, b"big"))


@entry("member behind a NUL", "only the members|same name twice|damaged zip")
def _(folder: Path) -> Path:
    path = _member("byteordeX", b"big")(folder)
    path.write_bytes(path.read_bytes().replace(b"byteordeX", b"byteorde\0"))
    return path


@entry("a comment behind the list of members", "more behind it|without one data.pkl")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    good(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05\x06" + bytes(18)
    return path


@entry("two lists of members", "with two|more behind|elsewhere|damaged zip")
def _(folder: Path) -> Path:
    # a zip64 locator that points at one list, in front of the end that points at another
    path = folder / "a.pth"
    data = good(path)
    end = data.rindex(b"PK\x05\x06")
    wide = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 0, 0, 0, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)
    path.write_bytes(data[:end] + wide + locator + data[end:])
    return path


@entry("bytes before the zip", "elsewhere|with two")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    path.write_bytes(b"PK\x03\x04" + bytes(1000) + good(path))
    return path


# --- pickles ---


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def beside_weights(body: bytes) -> Maker:
    """A good file whose pickle is `{"x": body}`, in the protocol that torch writes."""

    def make(folder: Path) -> Path:
        path = folder / "a.pth"
        pickled = b"\x80\x02}(" + text("x") + body + b"u."
        return rezip(path, good(path), lambda name, old: pickled if name.endswith("/data.pkl") else old)

    return make


ENCODE = b"c_codecs\nencode\n"
ORDERED = b"ccollections\nOrderedDict\n"
NAMESPACE = b"cargparse\nNamespace\n"
SET = b"cbuiltins\nset\n"

PICKLES: dict[str, tuple[bytes, str]] = {
    # 400,000 characters through punycode never end
    "punycode": (ENCODE + text("漢字" * 200_000) + text("punycode") + b"\x86R", "another codec"),
    "idna": (ENCODE + text("漢" * 100_000) + text("idna") + b"\x86R", "another codec"),
    "no codec": (ENCODE + text("a") + b"\x85R", "another codec"),
    "text that is not latin1": (ENCODE + text("漢") + text("latin1") + b"\x86R", "not latin1"),
    "a codec by memory": (
        text("utf-7") + b"q\x01" + text("x") + b"}" + ENCODE + text("a") + b"h\x01\x86Rs" + b"0",
        "another codec|opcode",
    ),
    "a megabyte encoded ten thousand times": (
        text("a" * 2**20) + b"q\x01" + b"]q\x02(" + (ENCODE + b"h\x01" + text("latin1") + b"\x86R") * 10_000 + b"e\x86",
        "cost more than reading",
    ),
    "one list made a set ten thousand times": (
        b"](" + b"K\x01" * 20_000 + b"eq\x01" + b"](" + (SET + b"h\x01\x85R") * 10_000 + b"e\x86",
        "cost more than reading",
    ),
    "a key of nested tuples": (
        b"}" + b"K\x01" + b"q\x01h\x01\x86" * 60 + b"K\x01s",
        "no plain value",
    ),
    "a set of nested tuples": (SET + b"](" + b"K\x01" + b"q\x01h\x01\x86" * 60 + b"e\x85R", "no plain value"),
    "keys that collide": (
        b"}("
        + b"".join(
            b"\x8a" + bytes([len(raw)]) + raw + b"K\x01"
            for raw in ((n * (2**61 - 1)).to_bytes(11, "little") for n in range(1, 100_000))
        )
        + b"u",
        "more than 64 bits",
    ),
    "a hundred thousand tuples as keys": (
        b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"\x85N" for n in range(100_000)) + b"u",
        "keys that are tuples",
    ),
    "a whole number of 255 bytes": (b"\x8a\xff" + b"\x7f" * 255, "whole number of 255 bytes"),
    "a dict whose items are a number": (ORDERED + b")R}(" + text("items") + b"K\x05ub", "hide methods"),
    "a dict whose state is a list": (ORDERED + b")R](" + text("items") + b"eb", "no dict of names"),
    "a namespace with __setstate__": (NAMESPACE + b")\x81}(" + text("__setstate__") + ENCODE + b"ub", "hide methods"),
    "a namespace of arguments": (NAMESPACE + text("a") + b"\x85R", "arguments"),
    "a class of storage called": (b"ctorch\nFloatStorage\n" + b"J\xff\xff\xff\x7f" + b"\x85R", "a call of"),
    "a dtype called": (b"ctorch\nfloat32\n)R", "a call of"),
    "a device of a long name": (b"ctorch\ndevice\n" + text("c" * 100_000) + b"\x85R", "no device"),
    "a shape of a million sides": (b"ctorch\nSize\n" + b"(" + b"K\x01" * 100_000 + b"t\x85R", "no shape"),
    "a path of a million parts": (b"cpathlib\nPosixPath\n(" + text("a") * 100_000 + b"tR", "no path"),
    "a tensor of no storage": (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89}tR", "no tensor"),
    "a persistent number": (b"K\x07Q", "persistent id"),
    "a storage of another name": (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("../../0") + text("cpu") + b"K\x01tQ",
        "storage without data",
    ),
    "a key of a megabyte": (b"}" + text("a" * 2**20) + b"K\x01s", "a key of 1048576 characters"),
    "an empty stack": (b"\x86" * 3, "breaks off"),
    "a mark too many": (b"t", "breaks off|state dict"),
    "a memory of nothing": (b"h\x77", "breaks off"),
    "protocol 4 in the middle": (b"\x80\x04", "protocol 4"),
    "text longer than the file": (b"X\xff\xff\xff\xff", "breaks off"),
}
for _title, (_body, _reason) in PICKLES.items():
    entry(f"pickle: {_title}", _reason)(beside_weights(_body))


@entry("names of a thousand prefixes", "a key of 70005 characters")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    torch.save({"model": {"module." * 10_000 + "x.y.z": torch.zeros(1)}}, path)
    return path


@entry("a tensor that reaches beyond its storage", "declares more values")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    torch.save(wrapped({**state(), "norm.weight": torch.zeros(7, 13)}), path)
    small, large = b"K\x07K\x0d\x86", b"K\x07K\xff\x86"
    return rezip(path, path.read_bytes(), lambda name, old: old.replace(small, large) if "pkl" in name else old)
