"""Probe results as netCDF files in the run folder: written whole or not at all, and checked before
they are parsed. No torch.

Arrays carry HDF5's fletcher32 checksum, for whatever reads them. Behind the netCDF data stand an
index (`lcmae.probes.results.index`: where each array lies, and all that is said of it), which makes
reading a matter of a millisecond, and a last line with the sha256 of all before it; readers of HDF5
ignore what follows the data. Reading flipped copies was seen not to end (docs/LOG.md), so nothing
is parsed that does not agree with the last line. A file of before, which has no index, is parsed by
HDF5 once `lcmae.probes.results.untrusted` has seen that all its data lie in it. The sha256 proves
that a file is as it was written, and never who wrote it: a result is as foreign as a checkpoint.
"""

import hashlib
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any

import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.results import index, legacy, untrusted
from lcmae.runs.durable import write_once
from lcmae.runs.run import write_atomically
from lcmae.safety.files import read_regular
from lcmae.safety.text import printable

_MARK = b"\nlcmae sha256 "
_LINE = len(_MARK) + 64 + 1


def save_result(result: xr.Dataset, path: Path) -> None:
    """Write a result whole, in the place of what was there; on failure nothing is left behind."""
    write_atomically(path, _writer(result))


def save_new(result: xr.Dataset, path: Path) -> bool:
    """Write a result whole where nothing is yet; False, and nothing is changed, where something
    is."""
    return write_once(path, _writer(result))


def _writer(result: xr.Dataset) -> Any:
    filters = {"fletcher32": True, "zlib": True, "complevel": 4}
    encoding = {
        # text of fixed length can carry a checksum, text of any length cannot; one chunk an array,
        # so that the index has one place for it
        name: {**filters, "dtype": "S1"} if variable.dtype.kind in "UO" else {**filters, "chunksizes": variable.shape}
        for name, variable in result.variables.items()
        if variable.ndim and variable.size
    }

    def write(target: Path) -> None:
        # in memory: where the disk is full, HDF5 keeps what it could not write and ends the process
        # by a signal when it lets go of it
        written = BytesIO()
        result.to_netcdf(written, engine="h5netcdf", encoding=encoding)
        part = index.of(result, written)
        written.seek(0, SEEK_END)
        written.write(part)
        digest = hashlib.sha256(written.getbuffer()).hexdigest().encode()
        written.write(_MARK + digest + b"\n")
        target.write_bytes(written.getbuffer())

    return write


def load_result(path: Path) -> xr.Dataset:
    """Read a result into memory, in the form of today (`legacy.upgrade`). `InputError` of one line
    for a missing, torn, altered or foreign file."""
    data = _checked(path)
    try:
        known = index.read(data)
        known_result = untrusted.read(data) if known is None else index.dataset(known, data)
        return legacy.upgrade(untrusted.check_result(known_result))
    except ValueError as error:
        raise _foreign(path, error) from error


def load_attrs(path: Path) -> dict[str, Any]:
    """What a stored result says of itself, without its arrays; errors as `load_result`."""
    data = _checked(path)
    try:
        known = index.read(data)
        attributes = untrusted.read(data, attrs_only=True).attrs if known is None else index.attributes(known)
        untrusted.check_attributes(attributes)
        return legacy.attributes(attributes)
    except ValueError as error:
        raise _foreign(path, error) from error


def _foreign(path: Path, error: ValueError) -> InputError:
    why = printable(" ".join(str(error).split()))
    return InputError(f"expected a probe result written by lcmae at {path}, got a foreign file ({why})")


def _checked(path: Path) -> memoryview:
    """The file but for its last line, once that agrees with it."""
    try:
        content = read_regular(path, 2 * index.MOST)
    except FileNotFoundError as error:
        raise InputError(f"expected a probe result at {path}, found none") from error
    except OSError as error:
        raise InputError(f"cannot read the probe result {path}: {error.strerror}") from error
    data, line = memoryview(content)[:-_LINE], content[-_LINE:]
    if not line.startswith(_MARK):
        raise InputError(f"expected a probe result written by lcmae at {path}, got a damaged or foreign file")
    if line != _MARK + hashlib.sha256(data).hexdigest().encode() + b"\n":
        raise InputError(f"expected a probe result as it was written at {path}, got one whose bytes were altered")
    return data
