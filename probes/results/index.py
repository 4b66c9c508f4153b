"""Where each array of a stored result lies in its file, so that it is read without HDF5.

The index is JSON behind the netCDF data: attributes, and of every variable dims, dtype, shape,
attributes and either its values (text, single numbers) or the place of its one chunk, which is
zlib with four bytes of checksum behind it. Opening such a file by way of HDF5 costs 50 to 290 ms,
most of it for metadata; by way of the index about 2 ms (`benchmarks/results.py`).

A file is as foreign as what it holds: places outside the file, dtypes other than numbers and text,
arrays that are larger than they say, and more than `MOST` bytes are refused (`ValueError`).
"""

import base64
import json
import math
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import xarray as xr

from lcmae.errors import InputError

MOST = 256 << 20
"""Bytes of all arrays of a result."""

MOST_TEXT = 16 << 20
"""Bytes of the index itself, whose JSON is parsed in memory."""

MARK = b"\nlcmae index "
"""What stands between the index and the place where it begins."""

_LINE = len(MARK) + 12
_CHECKSUM = 4


def of(result: xr.Dataset, written: BytesIO) -> bytes:
    """The index of a result that was just written as netCDF, to stand behind it."""
    import h5py

    if result.nbytes > MOST:
        raise InputError(f"expected a result of at most {MOST >> 20} MiB, got {result.nbytes >> 20} MiB")
    with h5py.File(written, "r") as file:
        variables = {
            str(name): {
                "dims": [str(dim) for dim in variable.dims],
                "attrs": _plain(variable.attrs),
                "coordinate": name in result.coords,
                **_values(variable, file[str(name)]),
            }
            for name, variable in result.variables.items()
        }
    text = json.dumps({"attrs": _plain(result.attrs), "variables": variables}).encode()
    return text + MARK + f"{len(written.getbuffer()):012d}".encode()


def _values(variable: xr.Variable, stored: Any) -> dict[str, Any]:
    values = variable.values
    if values.dtype.kind in "UO":
        return {"text": [str(value) for value in values.reshape(-1).tolist()], "shape": list(values.shape)}
    about = {"dtype": values.dtype.str, "shape": list(values.shape)}
    if stored.chunks is None or not values.size:  # single numbers, and arrays of nothing
        return {**about, "bytes": base64.b64encode(values.tobytes()).decode()}
    chunk = stored.id.get_chunk_info(0)
    return {**about, "at": [chunk.byte_offset, chunk.size]}


def _plain(attrs: Any) -> dict[str, Any]:
    return {
        str(name): value.tolist() if isinstance(value, np.generic | np.ndarray) else value
        for name, value in attrs.items()
    }


def read(data: memoryview) -> dict[str, Any] | None:
    """The index behind the netCDF data; None in a file that has none. `ValueError` for one that is
    no index."""
    line = bytes(data[-_LINE:])
    if not line.startswith(MARK):
        return None
    text = data[int(line[len(MARK) :]) : -_LINE]
    if len(text) > MOST_TEXT:
        raise ValueError(f"an index of {len(text)} bytes, of at most {MOST_TEXT}")
    try:
        known = json.loads(bytes(text))
    except RecursionError as error:
        raise ValueError("its index does not end") from error
    if not isinstance(known, dict) or not all(isinstance(known.get(name), dict) for name in ("attrs", "variables")):
        raise ValueError("its index is no index")
    return known


def attributes(known: dict[str, Any]) -> dict[str, Any]:
    """What a result says of itself."""
    return known["attrs"]


def dataset(known: dict[str, Any], data: memoryview) -> xr.Dataset:
    """The result that an index describes; `ValueError` where the two do not agree."""
    variables, coordinates, left = {}, {}, MOST
    try:
        for name, about in known["variables"].items():
            values = _array(about, data, left)
            left -= values.nbytes
            variable = xr.Variable(about["dims"], values, about["attrs"])
            (coordinates if about["coordinate"] else variables)[name] = variable
        return xr.Dataset(variables, coordinates, known["attrs"])
    except (KeyError, TypeError, AttributeError, OverflowError, zlib.error) as error:
        raise ValueError(f"its index is no index: {type(error).__name__} {error}") from error


def _array(about: dict[str, Any], data: memoryview, most: int) -> np.ndarray:
    shape = tuple(about["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"a shape of {shape}")
    if "text" in about:
        if not all(type(word) is str for word in about["text"]):
            raise ValueError("text that is no text")
        return np.array(about["text"], dtype=object).reshape(shape)
    dtype = np.dtype(str(about["dtype"]))
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "fiub" or size > most:
        raise ValueError(f"an array of {dtype} with {size} bytes, of at most {most}")
    if "bytes" in about:
        raw = base64.b64decode(about["bytes"])
    else:
        offset, length = about["at"]
        raw = _chunk(offset, length, data, size)
    if len(raw) != size:
        raise ValueError(f"an array of {len(raw)} bytes that should have {size}")
    # a copy of its own: readers of results may write to it, and the file's bytes can be let go of
    return np.frombuffer(raw, np.uint8 if dtype.kind == "b" else dtype).reshape(shape).astype(dtype)


def _chunk(offset: int, length: int, data: memoryview, size: int) -> bytes:
    if not (type(offset) is type(length) is int and 0 <= offset <= offset + length <= len(data)):
        raise ValueError(f"data at {offset}, outside the file")
    unpack = zlib.decompressobj()
    return unpack.decompress(data[offset : offset + length - _CHECKSUM], size + 1)
