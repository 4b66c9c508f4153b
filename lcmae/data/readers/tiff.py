"""TIFF by tifffile, for what Pillow does not read: many bands, 16-bit colour, stacks of images.

An image's bands are its samples, or the channels that its writer named (axis C of ImageJ and
OME-TIFF). Pages without such a name are images of a stack; in a folder, where each file is an
image, they are its bands if bands are asked for.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lcmae.data.collection import Collection, in_order
from lcmae.data.large import check_array
from lcmae.data.readers.missing import needed
from lcmae.data.values import Unreadable
from lcmae.errors import InputError


def tiff_bands(file: Path | bytes, *, pages_are_bands: bool) -> np.ndarray:
    """The first image of a file as [h w c]. `Unreadable` for what cannot be read."""
    try:
        tifffile = needed("tifffile", "tiff", "a TIFF of many bands, or of 16-bit colour")
    except InputError as error:
        raise Unreadable(str(error)) from error
    try:
        with tifffile.TiffFile(BytesIO(file) if isinstance(file, bytes) else file) as tiff:
            stack = _Stack(tiff)
            if pages_are_bands and stack.bands == 1 and len(stack) > 1:
                return np.concatenate([stack.image(number) for number in range(len(stack))], -1)
            return stack.image(0)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # a broken file makes it trip over anything
        raise Unreadable(f"{' '.join(str(error).split()) or 'no message'} ({type(error).__name__})") from error


class _Stack:
    """The images of an open file, each [h w c]."""

    def __init__(self, tiff: Any) -> None:
        self.series = tiff.series[0]
        axes, shape = self.series.axes, self.series.shape
        if "Y" not in axes or "X" not in axes:
            raise Unreadable(f"expected images with the axes Y and X, got {axes}")
        size = dict(zip(axes, shape, strict=True))
        self.bands = size.get("C", 1) * size.get("S", 1)
        self.count = int(np.prod([length for axis, length in size.items() if axis not in "YXCS"], dtype=np.int64))
        self.num_bytes = int(size["Y"]) * int(size["X"]) * self.bands * self.series.dtype.itemsize
        page = self.series.pages[0]
        self.is_paged = len(self.series.pages) == int(np.prod(self._leading(), dtype=np.int64))
        # a strip or tile is decoded beside the page, and read as it is stored; planes lie beside
        # the image that is put together of them; pages of one block are read together
        part = int(np.prod(page.chunks, dtype=np.int64)) * self.series.dtype.itemsize
        beside = 2 * min(part, page.nbytes) + (page.nbytes if len(self.series.pages) > 1 else 0)
        if not self.is_paged:
            beside += self.series.nbytes - self.num_bytes
        check_array(self.num_bytes, f"{size['X']}x{size['Y']} pixels of {self.bands} bands", beside)

    def __len__(self) -> int:
        return self.count

    def image(self, number: int) -> np.ndarray:
        """One image [h w c]."""
        axes, shape = self.series.axes, self.series.shape
        # pages hold the last axes; the leading ones count pages, in raster order
        leading = [axis for axis in axes if axis not in "YXS"]
        if self.is_paged:
            pages = np.arange(len(self.series.pages)).reshape(self._leading() or (1,))
            if "C" in leading:
                pages = np.moveaxis(pages, leading.index("C"), -1)
                pages = pages.reshape(self.count, -1)[number]
            else:
                pages = pages.reshape(self.count, 1)[number]
            if len(pages) == 1:
                return self._page(int(pages[0]))
            first = self._page(int(pages[0]))
            rows, columns, bands = first.shape
            whole = np.empty((rows, columns, bands * len(pages)), first.dtype)
            whole[..., :bands] = first
            del first
            for position, page in enumerate(pages[1:], 1):
                whole[..., position * bands : (position + 1) * bands] = self._page(int(page))
            return whole
        # one page holds several: ImageJ's contiguous stacks, samples in planes
        values, order = self.series.asarray(), [axes.index(axis) for axis in axes if axis not in "YXCS"]
        inner = [axes.index(axis) for axis in "YX"]
        last = [axes.index(axis) for axis in axes if axis in "CS"]
        values = values.transpose(order + inner + last)
        height, width = (shape[axis] for axis in inner)
        return values.reshape(self.count, height, width, self.bands)[number]

    def _leading(self) -> list[int]:
        """Lengths of the axes that count pages."""
        return [length for axis, length in zip(self.series.axes, self.series.shape, strict=True) if axis not in "YXS"]

    def _page(self, number: int) -> np.ndarray:
        page = self.series.pages[number]
        values = page.asarray(maxworkers=1)  # each thread would hold a strip of its own
        if values.ndim == 2:
            return values[..., None]
        # [h w samples], or [samples h w] where samples lie in planes
        return np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values


class TiffStack:
    """Row numbers to images of one file, each read by itself."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, row: int) -> np.ndarray:
        tifffile = needed("tifffile", "tiff", str(self.file))
        try:
            with tifffile.TiffFile(self.file) as tiff:
                return _Stack(tiff).image(row)
        except (Unreadable, MemoryError):
            raise
        except Exception as error:  # as above
            raise Unreadable(f"{' '.join(str(error).split()) or 'no message'} ({type(error).__name__})") from error


def tiff_images(file: Path, split: str) -> Collection:
    """The images of one file: its pages, or what its writer named."""
    tifffile = needed("tifffile", "tiff", str(file))
    try:
        with tifffile.TiffFile(file) as tiff:
            count = len(_Stack(tiff))
    except Unreadable as error:
        raise InputError(f"{file}: {error}") from error
    except Exception as error:  # as above
        raise InputError(
            f"{file}: expected a TIFF, got one that cannot be read ({' '.join(str(error).split())})"
        ) from error
    names = [f"{file.name}#{row}" for row in range(count)]
    images = Collection(names, None, None, in_order(count), TiffStack(file), files=[file], container="tiff")
    return images.split(split)
