"""Results whose bytes nobody vouches for: what a file may hold, checked before its data are read,
and `read` for files without an index, which HDF5 has to parse.

HDF5 follows links to other files, reads data from files outside (`/etc/passwd` came back as an
array), puts datasets together from others, runs filters out of plugins, and makes arrays of any
size of a few bytes. A result has none of these. The sha256 beside the data proves that the bytes
are as they were written, and never who wrote them.
"""

import io
import math
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import xarray as xr

from lcmae.safety.text import printable

MOST = 1 << 30
"""Bytes of all arrays of a result."""

MAX_RATIO = 1_100
"""Deflate makes at most 1,032 bytes of one."""

SLACK = 1 << 20
"""Bytes that an array may declare beyond that ratio: dimensions without coordinates store nothing,
and chunks of a few equal numbers pack well."""

MAX_OBJECTS, MAX_DIMS, MAX_ATTRIBUTES = 10_000, 16, 1_000
MAX_TEXT = 1 << 20
"""Characters of one attribute: settings and commands, as JSON and text."""

FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
"""Those that lcmae writes; all are part of HDF5 itself."""

NETCDF = ("DIMENSION_LIST", "REFERENCE_LIST")
"""Attributes of the format that refer to other arrays of the file."""

_OF_THE_FORMAT = (*NETCDF, "CLASS", "NAME", "_Netcdf4Dimid", "_Netcdf4Coordinates")

_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
"""How the name of an array begins that is nothing but the length of a dimension."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
"""Names of variables and dimensions; they become options, labels and parts of tables."""


def read(data: memoryview, *, attrs_only: bool = False) -> xr.Dataset:
    """The result in an HDF5 file, parsed once `check_file` has allowed it; `ValueError` for a file
    that reaches outside itself, or is not made as results are."""
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            check_file(file, len(data))
            attributes = _attributes(file.attrs)
            if attrs_only:
                return xr.Dataset(attrs=attributes)
            stored = xr.Dataset(dict(_variables(file)), attrs=attributes)
        # as stored: a unit of seconds makes no dates
        return xr.decode_cf(stored, decode_times=False, decode_timedelta=False)
    except ValueError:
        raise
    except Exception as error:  # whatever a hostile file makes three readers raise, the answer is the same
        raise ValueError(f"{type(error).__name__} {error}") from error


def _attributes(attrs: Any) -> dict[str, Any]:
    """Attributes but for those of the format itself."""
    plain = {name: value for name, value in attrs.items() if not name.startswith("_")}
    return {name: value.item() if getattr(value, "size", 0) == 1 else value for name, value in plain.items()}


def _variables(file: Any) -> Iterator[tuple[str, xr.Variable]]:
    """The arrays of a file that was checked, as netCDF has them: what is nothing but the length of
    a dimension is an array, too, which says so. (By way of xarray's own reader the file is opened
    by two more libraries, which takes two to three times as long.)"""
    import h5py

    attributes = {name: dict(array.attrs) for name, array in file.items()}
    scales = {name: own for name, own in attributes.items() if own.get("CLASS") == b"DIMENSION_SCALE"}
    numbers = {int(own["_Netcdf4Dimid"]): name for name, own in scales.items() if "_Netcdf4Dimid" in own}
    for name, array in file.items():
        own = attributes[name]
        if bytes(own.get("NAME", b"")).startswith(_NO_VARIABLE):
            continue
        if "DIMENSION_LIST" in own:
            dims = [file[axis[0]].name.removeprefix("/") for axis in own["DIMENSION_LIST"]]
        elif len(array.shape) > 1:  # a coordinate of texts: one axis is its own, the other counts letters
            dims = [numbers[int(number)] for number in own["_Netcdf4Coordinates"]]
        else:
            dims = [name] * len(array.shape)
        is_text = array.dtype.kind == "O" and h5py.check_string_dtype(array.dtype) is not None
        values = (array.asstr() if is_text else array)[()]
        plain = {key: _single(value) for key, value in own.items() if key not in _OF_THE_FORMAT}
        yield name, xr.Variable(dims, values, plain)


def _single(value: Any) -> Any:
    """HDF5 has a number as a list of one."""
    return value[0] if getattr(value, "shape", ()) == (1,) else value


def check_file(file: Any, size: int) -> None:
    """Refuse an open `h5py.File` of `size` bytes that is not made as results are. `ValueError`."""
    import h5py

    h5l, h5o = import_module("h5py.h5l"), import_module("h5py.h5o")  # h5py's types know neither
    names = list(file.id)
    if len(names) > MAX_OBJECTS:
        raise ValueError(f"{len(names)} objects, of at most {MAX_OBJECTS}")
    _check_attributes(file, "the file", size)
    declared = stored = 0
    for raw in names:
        name = raw.decode("utf-8", "replace")
        shown = printable(name, 60)
        # the link itself, before anything is opened by it
        if file.id.links.get_info(raw).type != h5l.TYPE_HARD:
            raise ValueError(f"{shown!r} is a link")
        opened = h5o.open(file.id, raw)
        if not isinstance(opened, h5py.h5d.DatasetID):
            raise ValueError(f"{shown!r} is no array")
        array = h5py.Dataset(opened)
        here, there = _check_array(array, shown)
        declared, stored = declared + here, stored + there
        if declared > MOST or stored > size:
            raise ValueError(f"arrays of {declared} bytes ({stored} packed) in a file of {size}, of at most {MOST}")
        _check_attributes(array, shown, size)


def _check_array(array: Any, shown: str) -> tuple[int, int]:
    """Bytes that an array declares, and those that it takes in the file."""
    import h5py

    creation, space, kind = array.id.get_create_plist(), array.id.get_space(), array.id.get_type()
    layout = creation.get_layout()
    if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise ValueError(f"the data of {shown!r} lie in other arrays")
    # the count can be asked of every layout, and a name of a file only of those that have one
    if creation.get_external_count():
        raise ValueError(f"the data of {shown!r} lie in another file")
    for number in range(creation.get_nfilters()):
        code = creation.get_filter(number)[0]
        if code not in FILTERS:
            raise ValueError(f"{shown!r} is packed with filter {code}, and not with {', '.join(FILTERS.values())}")
    if creation.get_nfilters() > len(FILTERS):
        raise ValueError(f"{shown!r} is packed {creation.get_nfilters()} times")
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        return 0, 0
    shape = space.get_simple_extent_dims()
    if len(shape) > MAX_DIMS:
        raise ValueError(f"{shown!r} has {len(shape)} dimensions")
    count = math.prod(shape)
    _check_kind(kind, count, shown)
    declared, stored = count * kind.get_size(), array.id.get_storage_size()
    if declared > SLACK + MAX_RATIO * stored or declared > MOST:
        raise ValueError(f"{shown!r} declares {declared} bytes and stores {stored}")
    if layout == h5py.h5d.CHUNKED and math.prod(creation.get_chunk()) * kind.get_size() > SLACK + 2 * declared:
        raise ValueError(f"{shown!r} is stored in chunks that are larger than it is")
    return declared, stored


def _check_kind(kind: Any, count: int, shown: str) -> None:
    """Numbers, truth values and text; of text of any length a single one, because many could share
    their bytes."""
    import h5py

    found = kind.get_class()
    if found == h5py.h5t.STRING:
        if kind.is_variable_str() and count > 1:
            raise ValueError(f"{shown!r} is an array of texts of any length")
    elif found not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM):
        raise ValueError(f"{shown!r} is neither of numbers nor of text")
    if kind.get_size() > MAX_TEXT:
        raise ValueError(f"{shown!r} has values of {kind.get_size()} bytes")


def _check_attributes(owner: Any, shown: str, size: int) -> None:
    import h5py

    count = h5py.h5a.get_num_attrs(owner.id)
    if count > MAX_ATTRIBUTES:
        raise ValueError(f"{shown} has {count} attributes")
    for number in range(count):
        attribute = h5py.h5a.open(owner.id, index=number)
        name = attribute.name.decode("utf-8", "replace")
        space, kind = attribute.get_space(), attribute.get_type()
        values = space.get_simple_extent_npoints()
        found = kind.get_class()
        if name in NETCDF or found in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM):
            largest = values * kind.get_size()
        elif found == h5py.h5t.STRING:
            # texts of any length can share their bytes
            largest = values * (size if kind.is_variable_str() and values > 1 else kind.get_size())
        else:
            raise ValueError(f"the attribute {printable(name, 60)!r} is neither number nor text")
        if largest > 64 * SLACK:
            raise ValueError(f"the attribute {printable(name, 60)!r} may take {largest} bytes")


def check_result(result: xr.Dataset) -> xr.Dataset:
    """The same result, once it is seen to be plain: names, numbers, and text of bounded length. For
    whatever read it. `ValueError`."""
    if len(result.variables) > MAX_OBJECTS:
        raise ValueError(f"{len(result.variables)} variables, of at most {MAX_OBJECTS}")
    for name in [*result.variables, *result.dims]:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"a variable called {printable(name, 60)!r}")
    for owner in (result, *result.variables.values()):
        check_attributes(owner.attrs)
    for name, variable in result.variables.items():
        if variable.dtype.kind not in "fiubUOS":
            raise ValueError(f"{name!r} is of {variable.dtype}")
        if variable.dtype.kind in "UOS":
            longest = max((len(str(value)) for value in variable.values.reshape(-1)), default=0)
            if longest > MAX_TEXT // 16:
                raise ValueError(f"{name!r} has text of {longest} characters")
    return result


def check_attributes(attributes: Any) -> None:
    """Plain attributes: numbers, text, and short lists of them. `ValueError`."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"{len(attributes)} attributes, of at most {MAX_ATTRIBUTES}")
    for name, value in attributes.items():
        values = value if isinstance(value, list | tuple) else np.asarray(value).reshape(-1).tolist()
        if not isinstance(name, str) or len(values) > 10_000:
            raise ValueError(f"an attribute {printable(name, 60)!r} of {len(values)} values")
        for one in values:
            if not isinstance(one, str | bytes | bool | int | float | None):
                raise ValueError(f"the attribute {printable(name, 60)!r} is neither number nor text")
            if isinstance(one, str | bytes) and len(one) > MAX_TEXT:
                raise ValueError(f"the attribute {printable(name, 60)!r} has {len(one)} characters")
