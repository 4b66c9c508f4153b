"""Stored results that no reader may trust: signed as ours are, since a sha256 proves no origin.

Each entry writes one `.nc` below a folder; `secret.h5` beside it must never be read.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

RESULTS: dict[str, Callable[[Path], Path]] = {}
"""Files for `load_result`, by what is wrong with them."""

SECRET = "root:x:0:0"


def sign(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content + b"\nlcmae sha256 " + hashlib.sha256(content).hexdigest().encode() + b"\n")
    return path


def _hdf5(name: str) -> Callable[[Callable[[Any, Path], Any]], Any]:
    """An HDF5 file with one coordinate, and what `change` adds to it."""

    def keep(change: Callable[[Any, Path], Any]) -> Any:
        def make(folder: Path) -> Path:
            path = folder / "result.nc"
            with h5py.File(folder / "secret.h5", "w") as secret:
                secret["s"] = np.array([42.0, 43.0, 44.0])
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=np.arange(3.0)).make_scale("x")
                change(file, folder)
            return sign(path)

        RESULTS[name] = make
        return change

    return keep


_hdf5("external storage")(lambda file, _: file.create_dataset("leak", (400,), "u1", external=[("/etc/passwd", 0, 400)]))
_hdf5("external link")(
    lambda file, folder: file.__setitem__("leak", h5py.ExternalLink(str(folder / "secret.h5"), "/s"))
)
_hdf5("soft link to itself")(lambda file, _: file.__setitem__("leak", h5py.SoftLink("/leak")))
_hdf5("soft link to nothing")(lambda file, _: file.__setitem__("leak", h5py.SoftLink("/nowhere")))
_hdf5("a group")(lambda file, _: file.create_group("leak").create_dataset("d", data=[1.0]))
_hdf5("a type")(lambda file, _: file.__setitem__("leak", np.dtype("f8")))


@_hdf5("virtual dataset")
def _(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "s", shape=(3,))
    file.create_virtual_dataset("leak", layout)


@_hdf5("virtual dataset of itself")
def _(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource(".", "leak", shape=(3,))
    file.create_virtual_dataset("leak", layout)


_hdf5("1.6 GB that are not there")(lambda file, _: file.create_dataset("leak", (400_000_000,), "f4"))
_hdf5("4 PB that are not there")(lambda file, _: file.create_dataset("leak", (10**15,), "f4", chunks=(1000,)))
_hdf5("2 GB of zeros, packed")(
    lambda file, _: file.create_dataset("leak", (50_000, 10_000), "f4", compression="gzip", chunks=(5000, 10_000))
)
_hdf5("zeros that were packed three times")(lambda file, _: _packed_thrice(file, np.zeros((64, 1024, 1024), np.uint8)))
_hdf5("a chunk larger than its array")(
    lambda file, _: file.create_dataset("leak", (3,), "f8", chunks=(2**26,), maxshape=(None,))
)
_hdf5("another filter")(lambda file, _: file.create_dataset("leak", data=np.arange(99), compression="lzf"))
_hdf5("scale and offset")(lambda file, _: file.create_dataset("leak", data=np.arange(99), scaleoffset=0))
_hdf5("texts of any length")(
    lambda file, _: file.create_dataset("leak", data=["a" * 1000] * 50, dtype=h5py.string_dtype())
)
_hdf5("arrays of any length")(lambda file, _: file.create_dataset("leak", (3,), h5py.vlen_dtype(np.dtype("f8"))))
_hdf5("references")(lambda file, _: file.create_dataset("leak", data=[file.ref], dtype=h5py.ref_dtype))
_hdf5("records")(lambda file, _: file.create_dataset("leak", data=np.zeros(3, [("a", "f8"), ("b", "i4")])))
_hdf5("bytes without a kind")(lambda file, _: file.create_dataset("leak", data=np.void(b"abc")))
_hdf5("a value of 100 MB")(lambda file, _: file.create_dataset("leak", (), "S100000000"))
_hdf5("a name of markup")(lambda file, _: file.create_dataset("![p](http:evil)", data=[1.0]))
_hdf5("a name with a new line")(lambda file, _: file.create_dataset("a\nb", data=[1.0]))
_hdf5("a name that is not UTF-8")(lambda file, _: file.create_dataset(b"\xff\xfe", data=[1.0]))
_hdf5("ten thousand arrays")(lambda file, _: [file.create_dataset(f"a{n}", data=0) for n in range(10_050)])
_hdf5("an attribute of records")(lambda file, _: file.attrs.__setitem__("a", np.zeros(3, [("a", "f8")])))
_hdf5("an attribute that refers")(lambda file, _: file.attrs.__setitem__("a", file["x"].ref))
_hdf5("an attribute without value")(lambda file, _: file.attrs.__setitem__("a", h5py.Empty("f8")) or _dims(file, 9))
_hdf5("dimensions that are none")(lambda file, _: _dims(file, 7))


def _dims(file: Any, value: int) -> None:
    file.create_dataset("leak", data=[1.0, 2.0]).attrs["DIMENSION_LIST"] = value


def _packed_thrice(file: Any, values: np.ndarray) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(values.shape)
    for _ in range(3):
        creation.set_deflate(9)
    space = h5py.h5s.create_simple(values.shape)
    array = h5py.h5d.create(file.id, b"leak", h5py.h5t.STD_U8LE, space, creation)
    array.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def _indexed(name: str, about: Any, **more: Any) -> None:
    """A result that is read by its index alone."""

    def make(folder: Path) -> Path:
        path = folder / "result.nc"
        variables = about if isinstance(about, dict) else {}
        known = {"attrs": {}, "variables": variables, **more}
        path.write_bytes(b"data" + json.dumps(known).encode() + b"\nlcmae index " + b"%012d" % 4)
        return sign(path)

    RESULTS[name] = make


def _variable(**changes: Any) -> dict[str, Any]:
    return {"v": {"dims": ["x"], "attrs": {}, "coordinate": False, "dtype": "<f8", "shape": [1], **changes}}


_indexed("index: data outside the file", _variable(at=[10**9, 50]))
_indexed("index: data before the file", _variable(at=[-5, 50]))
_indexed("index: an array of 8 TB", _variable(shape=[10**12], at=[0, 4]))
_indexed("index: a shape below zero", _variable(shape=[-1], bytes=""))
_indexed("index: objects", _variable(dtype="O", bytes="AAAAAAAAAAA="))
_indexed("index: dims that do not fit", _variable(dims=["x", "y"], bytes="AAAAAAAAAAA="))
_indexed("index: text that is none", _variable(text=[{"a": 1}]))
_indexed("index: a name of markup", {"![p](http://evil/p.png)": _variable(bytes="AAAAAAAAAAA=")["v"]})
_indexed("index: an attribute that is a tree", {}, attrs={"a": {"b": [1]}})
_indexed("index: an attribute of a megabyte", {}, attrs={"a": "x" * 2**21})
_indexed("index: variables that are a list", {}, variables=[])


def _deep(folder: Path) -> Path:
    path = folder / "result.nc"
    path.write_bytes(b"data" + b"[" * 200_000 + b"\nlcmae index " + b"%012d" % 4)
    return sign(path)


def _plain(name: str, content: bytes) -> None:
    def make(folder: Path) -> Path:
        (folder / "result.nc").write_bytes(content)
        return sign(folder / "result.nc")

    RESULTS[name] = make


RESULTS["index: JSON without end"] = _deep
_plain("signed nothing", b"")
_plain("signed words", b"these are no data\n" * 9)
_plain("a head of HDF5 alone", b"\x89HDF\r\n\x1a\n" + bytes(2000))


def _special(name: str, make: Callable[[Path], Any]) -> None:
    def written(folder: Path) -> Path:
        make(folder / "result.nc")
        return folder / "result.nc"

    RESULTS[name] = written


_special("a pipe", os.mkfifo)
_special("a folder", lambda path: path.mkdir())
_special("a link out of the run", lambda path: path.symlink_to("/etc/passwd"))
_special("a link to a device", lambda path: path.symlink_to("/dev/zero"))
