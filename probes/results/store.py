"""Probe results as netCDF files in the run folder: written whole or not at all, and checked before
they are parsed. No torch.

Arrays carry HDF5's fletcher32 checksum, for whatever reads them. Reading flipped copies was seen
not to end (docs/LOG.md), so behind the netCDF data stands a last line with its sha256 (readers of
HDF5 ignore what follows the data), and `load_result` hands nothing to HDF5 that does not agree with
it.
"""

import hashlib
import io
from pathlib import Path

import xarray as xr

from lcmae.errors import InputError
from lcmae.runs.run import write_atomically

_MARK = b"\nlcmae sha256 "
_LINE = len(_MARK) + 64 + 1


def save_result(result: xr.Dataset, path: Path) -> None:
    """Write a result whole; on failure nothing is left behind."""
    filters = {"fletcher32": True, "zlib": True, "complevel": 4}
    encoding = {
        # text of fixed length can carry a checksum, text of any length cannot
        name: {**filters, "dtype": "S1"} if variable.dtype.kind in "UO" else filters
        for name, variable in result.variables.items()
        if variable.ndim and variable.size
    }

    def write(target: Path) -> None:
        result.to_netcdf(target, engine="h5netcdf", encoding=encoding)
        digest = hashlib.sha256(target.read_bytes()).hexdigest().encode()
        with target.open("ab") as file:
            file.write(_MARK + digest + b"\n")

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)


def load_result(path: Path) -> xr.Dataset:
    """Read a result into memory. `InputError` of one line for a missing, torn, altered or foreign
    file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"expected a probe result at {path}, found none") from error
    except OSError as error:
        raise InputError(f"cannot read the probe result {path}: {error.strerror}") from error
    data, line = content[:-_LINE], content[-_LINE:]
    if not line.startswith(_MARK):
        raise InputError(f"expected a probe result written by lcmae at {path}, got a torn or foreign file")
    if line != _MARK + hashlib.sha256(data).hexdigest().encode() + b"\n":
        raise InputError(f"expected a probe result as it was written at {path}, got one whose bytes were altered")
    with xr.open_dataset(io.BytesIO(data), engine="h5netcdf") as opened:
        return opened.load()
