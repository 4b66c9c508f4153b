"""`lcmae.images`: from whatever holds images to a source that every probe takes.

    images = lcmae.images(anything, limit=500)
    images.pixels          # uint8 [b c h w]
    images.description     # what was read, and what was assumed

Arrays and tensors, lists of PIL images or paths, torch data sets and loaders, Hugging Face data
sets, source names, and paths (lcmae/data/kinds.py lists what is recognised).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcmae.data.collection import Collection
from lcmae.data.names import check_bands, named
from lcmae.data.opening import RESIDENT_LIMIT, check_asked, open_source, opened
from lcmae.data.readers.arrays import IMAGE_KEYS, LABEL_KEYS, MASK_KEYS, array_images
from lcmae.data.readers.items import huggingface_images, item_images, loader_images, stream_images
from lcmae.data.readers.saved import part_of
from lcmae.data.source import ImageSource
from lcmae.data.values import check_range
from lcmae.errors import InputError


def images(
    anything: Any,
    *,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    split: str | None = None,
    value_range: Sequence[int | float] | None = None,
    bands: Sequence[int] | None = None,
    masks: str | Path | None = None,
    root: str | Path | None = None,
    resident_limit: int = RESIDENT_LIMIT,
) -> ImageSource:
    """A source of uint8 images [c h w] from anything that holds images.

    `limit`: how many images, the first of a fixed shuffle in which classes alternate (for a stream,
    the first that come). `image_size`, `channels`: by default those of the first image, the shorter
    side at most 256 pixels; a probe asks for its model's (`ImageSource.at`). `split`: train, test
    or all; by default test where the data has splits of its own, else all. `value_range`: the
    values that are black and white; by default those of the type. `bands`: which to take, counted
    from 1. `masks`: segmentation masks, a folder or a column. `root`: as in `open_source`. Raises
    `InputError` for what cannot be read.
    """
    if isinstance(anything, ImageSource):
        if value_range is not None or bands is not None or split not in (None, anything.split):
            raise InputError(
                "expected other images than a source that is open already, with value_range, bands or split"
            )
        return anything.first(limit).at(image_size, channels)
    check_asked(image_size, channels, limit)
    chosen = None if bands is None else check_bands(tuple(bands))
    spanned = check_range(value_range)
    if isinstance(anything, str | Path):
        name = named(str(anything), value_range=spanned, bands=chosen, masks=None if masks is None else str(masks))
        return open_source(
            name, split=split or "own", image_size=image_size, channels=channels, limit=limit, root=root,
            resident_limit=resident_limit,
        )  # fmt: skip
    expected = None if chosen is not None else channels
    found = _collect(anything, limit, expected, split, None if masks is None else str(masks))
    if split in ("train", "test") and found.part == "all":
        found = found.split(split)
    name = named(f"{found.container}:{_fingerprint(found)}", value_range=spanned, bands=chosen)
    return opened(
        name, found, image_size=image_size, channels=channels, limit=limit, value_range=spanned, bands=chosen,
        resident_limit=resident_limit, shuffled=found.container != "stream",
    )  # fmt: skip


def _collect(
    anything: Any, limit: int | None, channels: int | None, split: str | None, masks: str | None
) -> Collection:
    """By kind; no package is imported for the question, only its own objects are recognised."""
    package = type(anything).__module__.partition(".")[0]
    options: dict[str, Any] = {"channels": channels, "masks": masks}
    if package == "datasets" and isinstance(anything, Mapping):
        part = part_of(anything, split)
        return _collect(anything[part], limit, channels, split, masks).replaced(
            part="train" if part == "train" else "test"
        )
    if package == "datasets" and hasattr(anything, "features") and hasattr(anything, "__len__"):
        return huggingface_images(anything, **options)
    if package == "PIL" or isinstance(anything, bytes):
        return item_images([anything], container="list", **options)
    if isinstance(anything, Mapping):
        return _columns(anything, channels)
    if isinstance(anything, tuple) and len(anything) == 2 and all(map(_is_array, anything)) and anything[1].ndim == 1:
        return array_images(anything[0], anything[1], channels=channels)
    if _is_array(anything) and str(getattr(anything, "dtype", "")) != "object":
        return array_images(anything, channels=channels)
    if isinstance(anything, torch.utils.data.DataLoader):
        if isinstance(anything.dataset, torch.utils.data.IterableDataset):
            return stream_images(anything, limit, **options)
        return loader_images(anything, **options)
    if hasattr(anything, "__getitem__") and hasattr(anything, "__len__"):
        return item_images(anything, container="list" if isinstance(anything, list | tuple) else "dataset", **options)
    if hasattr(anything, "__iter__"):
        return stream_images(anything, limit, **options)
    raise InputError(
        "expected images: an array or tensor, a list of PIL images or paths, a data set or loader, a source's name or a path; "
        f"got {type(anything).__name__}"
    )


def _is_array(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__"))


def _columns(anything: Mapping[str, Any], channels: int | None) -> Collection:
    """A dict of arrays: {"images": [b h w c], "labels": [b]}; scikit-learn's bunches are some."""
    first = {
        what: next((anything[key] for key in keys if key in anything), None)
        for what, keys in (("images", IMAGE_KEYS), ("labels", LABEL_KEYS), ("masks", MASK_KEYS))
    }
    if not _is_array(first["images"]):
        raise InputError(f"expected an array under images, got {', '.join(map(str, anything)) or 'an empty dict'}")
    return array_images(first["images"], first["labels"], channels=channels, masks=first["masks"])


def _fingerprint(images: Collection, most: int = 16) -> str:
    """12 letters that change with the images: their number, and up to 16 of them evenly spaced, as
    stored."""
    digest = hashlib.sha256(repr((len(images), images.part)).encode())
    for position in np.linspace(0, len(images) - 1, min(most, len(images))).astype(int):
        try:
            value = images.read(int(images.rows[position]))
        except Exception as error:  # it is skipped and named when it is decoded
            value = repr(type(error))
        digest.update(_bytes_of(value))
    return digest.hexdigest()[:12]


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | Path):
        return str(value).encode()
    values = np.asarray(value)
    return repr((values.shape, str(values.dtype))).encode() + values.tobytes()
