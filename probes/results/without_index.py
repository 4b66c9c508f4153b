"""A result without an index, as lcmae wrote them before: parsed by HDF5, once
`lcmae.probes.results.fences` has seen that all its data lie in the file itself.
"""

import io
from typing import Any

import xarray as xr

from lcmae.probes.results import fences


def read(data: memoryview, *, attrs_only: bool = False) -> xr.Dataset:
    """The result; `ValueError` for a file that reaches outside itself, or is not made as results
    are."""
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            fences.check_file(file, len(data))
            if attrs_only:
                return xr.Dataset(attrs=_words(file.attrs))
        # as stored: a unit of seconds makes no dates
        with xr.open_dataset(io.BytesIO(data), engine="h5netcdf", decode_times=False, decode_timedelta=False) as opened:
            return opened.load()
    except ValueError:
        raise
    except Exception as error:  # whatever a hostile file makes three readers raise, the answer is the same
        raise ValueError(f"{type(error).__name__} {error}") from error


def _words(attrs: Any) -> dict[str, Any]:
    """Attributes but for those of the format itself."""
    plain = {name: value for name, value in attrs.items() if not name.startswith("_")}
    return {name: value.item() if getattr(value, "size", 0) == 1 else value for name, value in plain.items()}
