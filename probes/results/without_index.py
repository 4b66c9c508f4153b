"""A result without an index, as lcmae wrote them before: parsed by HDF5, once all its data are seen
to lie in the file itself.

HDF5 follows links to other files, data in files outside, and datasets put together from others; it
makes arrays of any size of a few bytes. A stored result has none of these: arrays at the root,
each of them whole in the file.
"""

import io
from typing import Any

import xarray as xr

from lcmae.probes.results.index import MOST


def read(data: memoryview, *, attrs_only: bool = False) -> xr.Dataset:
    """The result; `ValueError` for a file that reaches outside itself, or is not made as results
    are."""
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            if attrs_only:
                return xr.Dataset(attrs=_words(file.attrs))
            _refuse_outside(file)
        with xr.open_dataset(io.BytesIO(data), engine="h5netcdf") as opened:
            return opened.load()
    except (KeyError, TypeError, AttributeError, OSError, RuntimeError, IndexError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__} {error}") from error


def _words(attrs: Any) -> dict[str, Any]:
    """Attributes but for those of the format itself."""
    return {name: value for name, value in attrs.items() if not name.startswith("_")}


def _refuse_outside(file: Any) -> None:
    import h5py

    left = MOST
    for name in file:
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name!r} is a link")
        array = file[name]
        if not isinstance(array, h5py.Dataset):
            raise ValueError(f"{name!r} is no array")
        if array.is_virtual or array.external:
            raise ValueError(f"the data of {name!r} lie in another file")
        if array.shape is None:
            continue
        left -= array.nbytes
        if left < 0:
            raise ValueError(f"arrays of more than {MOST >> 20} MiB")
