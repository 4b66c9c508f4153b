"""Images that come one at a time: lists, torch data sets and loaders, Hugging Face data sets, any
sequence whose items are an image, (image, label), or a dict with an image in it.

Items are read when they are needed, one at a time (a user's data set need not bear threads), and
never kept. Their labels are the data set's own list (targets, labels) or a column where it has one,
else those of the items that were read.
"""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from lcmae.data.collection import Collection, in_order
from lcmae.data.readers.arrays import IMAGE_KEYS, LABEL_KEYS, MASK_KEYS, as_numpy, class_numbers, layout
from lcmae.data.values import Unreadable
from lcmae.errors import InputError

PIXEL_KEYS = ("pixel_values", *IMAGE_KEYS, "file", "path")
"""Keys of a dict that may hold the image, first come first served."""

LABELS = (*LABEL_KEYS, "fine_label", "class", "cls", "category")


class ItemImages:
    """Row numbers to images of a sequence of items; labels and masks are found beside them."""

    def __init__(self, items: Any, *, channels: int | None = None, mask_key: str | None = None) -> None:
        self.items, self.channels, self.mask_key = items, channels, mask_key
        self._labels: dict[int, Any] = {}
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"items": self.items, "channels": self.channels, "mask_key": self.mask_key}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def item(self, row: int) -> Any:
        """One item, as the sequence gives it."""
        with self._lock:
            try:
                return self.items[row]
            except (InputError, MemoryError):
                raise
            except Exception as error:  # a user's data set fails as it likes; the image is named and skipped
                raise Unreadable(f"{_line(error)} ({type(error).__name__})") from error

    def __call__(self, row: int) -> Any:
        item = self.item(row)
        label = label_of(item)
        if label is not None:
            self._labels[row] = label
        return as_image(image_of(item), self.channels)

    def labels(self, rows: list[int]) -> list[Any]:
        """What was found beside these images when they were read; None where nothing was."""
        return [self._labels.get(row) for row in rows]

    def mask(self, row: int) -> Any:
        """The segmentation mask beside an image."""
        item = self.item(row)
        if isinstance(item, Mapping):
            found = item.get(self.mask_key) if self.mask_key else _first(item, MASK_KEYS)
        else:
            found = item[1] if isinstance(item, tuple | list) and len(item) > 1 else None
        if found is None:
            raise Unreadable(f"no mask beside the image ({self.mask_key or ', '.join(MASK_KEYS)})")
        return as_image(found, 1)


def image_of(item: Any) -> Any:
    """The image in an item: itself, the first of a tuple, or a value of a dict."""
    if isinstance(item, Mapping):
        if "bytes" in item:
            return item  # Hugging Face's cell
        found = _first(item, PIXEL_KEYS)
        if found is None:
            found = next((value for value in item.values() if _is_picture(value)), None)
        if found is None:
            raise InputError(
                f"expected items with an image under {', '.join(PIXEL_KEYS)}, got {', '.join(map(str, item)) or 'nothing'}"
            )
        return image_of(found) if isinstance(found, Mapping) else found
    if isinstance(item, tuple | list) and item and not np.isscalar(item[0]):
        return image_of(item[0])
    return item


def label_of(item: Any) -> Any:
    """The label in an item: a number, a name, or None."""
    if isinstance(item, Mapping):
        found = _first(item, LABELS)
    else:
        found = item[1] if isinstance(item, tuple | list) and len(item) > 1 else None
    if isinstance(found, torch.Tensor | np.ndarray | np.generic) and found.ndim <= 1 and len(found.reshape(-1)) == 1:
        found = as_numpy(found).item()
    return found if isinstance(found, int | str) and not isinstance(found, bool) else None


def as_image(value: Any, channels: int | None) -> Any:
    """A path, bytes, PIL image or array [h w c] that the decoder takes. `Unreadable` for anything
    else."""
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        return _encoded(value)
    if isinstance(value, bytes | Path) or _is_pil(value):
        return value
    if isinstance(value, list | torch.Tensor | np.ndarray) or hasattr(value, "__array__"):
        values = as_numpy(value)
        if values.dtype.kind not in "buif":
            raise Unreadable(f"expected an image, got {type(value).__name__} of {values.dtype}")
        try:
            found = layout(values.shape, channels=channels, channels_first=isinstance(value, torch.Tensor), one=True)
        except InputError as error:
            raise Unreadable(str(error)) from error
        return found.image(values)
    kind = type(value).__name__
    if isinstance(value, tuple):
        kind = f"a tuple that does not begin with one: ({', '.join(type(part).__name__ for part in value[:4])})"
    raise Unreadable(f"expected an image (PIL, array, tensor, bytes or path), got {kind}")


def _encoded(cell: Mapping[str, Any]) -> Any:
    """Hugging Face's cell {bytes, path}."""
    if cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    if cell.get("path") is not None:
        return Path(cell["path"])
    raise Unreadable("the row has no bytes")


def _is_pil(value: Any) -> bool:
    return any(cls.__module__ == "PIL.Image" for cls in type(value).__mro__)


def _is_picture(value: Any) -> bool:
    return _is_pil(value) or (hasattr(value, "ndim") and value.ndim >= 2)


def _first(item: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((item[key] for key in keys if key in item), None)


def item_images(
    items: Any, *, channels: int | None = None, container: str = "dataset", masks: str | None = None
) -> Collection:
    """The images of a sequence (a list, or a data set with a length)."""
    count = len(items)
    if not count:
        raise InputError("expected at least one image, got none")
    read = ItemImages(items, channels=channels, mask_key=masks)
    first = _probe(read)
    labels = next(
        (getattr(items, name) for name in ("targets", "labels") if _fits(getattr(items, name, None), count)), None
    )
    numbers, names = (None, None) if labels is None else class_numbers(labels, count)
    classes = getattr(items, "classes", None)
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        names = tuple(classes)
    has_masks = masks is not None or (isinstance(first, Mapping) and _first(first, MASK_KEYS) is not None)
    return Collection(
        paths=_names(items, count, container),
        labels=numbers,
        label_names=names,
        rows=in_order(count),
        read=read,
        container=container,
        notes=_changes(read),
        read_mask=read.mask if has_masks else None,
        labels_of=read.labels if numbers is None else None,
        may_fail=True,
    )


def _probe(read: ItemImages) -> Any:
    """The first item, or None where it cannot be read; `InputError` where it holds no image at
    all."""
    try:
        item = read.item(0)
        as_image(image_of(item), read.channels)
    except Unreadable as error:
        if len(read.items) == 1:
            raise InputError(str(error)) from error
        return None  # it may be the only one: it is skipped and named as others are
    return item


def _changes(read: ItemImages) -> tuple[str, ...]:
    """A note where the same item comes out differently when it is read again."""
    try:
        images = [np.asarray(read(0)) for _ in range(2)]
    except (Unreadable, TypeError, ValueError):
        return ()
    if images[0].shape == images[1].shape and images[0].dtype.kind != "O" and np.array_equal(images[0], images[1]):
        return ()
    if images[0].dtype.kind == "O":
        return ()  # a path
    return ("the data set draws at random: an image differs from one reading to the next; turn augmentation off",)


def _fits(labels: Any, count: int) -> bool:
    shape = np.shape(labels) if isinstance(labels, list | tuple | np.ndarray | torch.Tensor) else ()
    return shape == (count,) and np.asarray(labels).dtype.kind in "iuUS"


def _names(items: Any, count: int, container: str) -> list[str]:
    """File names where the items have them (a list of paths, torchvision's ImageFolder), else row
    numbers."""
    samples = getattr(items, "samples", items)
    if isinstance(samples, list) and len(samples) == count:
        files = [sample[0] if isinstance(sample, tuple) and sample else sample for sample in samples]
        if all(isinstance(file, str | Path) for file in files):
            return [str(file) for file in files]
    return [f"{container}#{row}" for row in range(count)]


def huggingface_images(data: Any, *, channels: int | None = None, masks: str | None = None) -> Collection:
    """The images of a `datasets.Dataset`: its column of type Image (or named image, img, ...), a
    ClassLabel as labels."""
    features: dict[str, Any] = dict(data.features)
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    column = next((name for name in PIXEL_KEYS if name in features), None)
    column = next((name for name, kind in kinds.items() if kind == "Image" and name != masks), column)
    if column is None:
        raise InputError(
            f"expected a column of images, got {', '.join(f'{n} ({k})' for n, k in kinds.items()) or 'none'}"
        )
    if masks is not None and masks not in features:
        raise InputError(f"expected masks in one of the columns {', '.join(features)}, got {masks!r}")
    label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    label = label or next((name for name in LABELS if name in features), None)
    numbers, names = (None, None) if label is None else class_numbers(list(data[label]), len(data))
    names = tuple(getattr(features.get(label or ""), "names", None) or ()) or names
    data = data.with_format(None)
    for name in (column, masks):
        if name is not None and kinds[name] == "Image":
            data = data.cast_column(name, type(features[name])(decode=False))  # we decode, within our limits
    read = ItemImages(_Column(data, column), channels=channels)
    return Collection(
        paths=[f"dataset#{row}" for row in range(len(data))],
        labels=numbers,
        label_names=names,
        rows=in_order(len(data)),
        read=read,
        container="dataset",
        read_mask=None if masks is None else ItemImages(_Column(data, masks), channels=1),
        may_fail=True,
    )


class _Column:
    """One column of a Hugging Face data set as a sequence."""

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name = data, name

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        return self.data.select([row])[0][self.name]


def loader_images(loader: Any, **options: Any) -> Collection:
    """The images of a DataLoader: those of its data set that its sampler chooses. Its order, its
    batches and its collate function are left out."""
    data, sampler = loader.dataset, getattr(loader, "sampler", None)
    images = item_images(data, container="loader", **options)
    if type(sampler).__name__ in ("SequentialSampler", "RandomSampler", "DistributedSampler", "NoneType"):
        return images
    rows: Iterable[Any] = sampler if sampler is not None else ()
    chosen = torch.tensor([int(row) for row in rows if isinstance(row, int)], dtype=torch.int64)
    return images.take(chosen.sort().values) if len(chosen) else images


def stream_images(stream: Iterable[Any], limit: int | None, **options: Any) -> Collection:
    """The first `limit` images of what can only be run through once (an IterableDataset, a
    generator); they are held in memory. Batches are taken apart."""
    if limit is None:
        raise InputError("expected limit=NUMBER with a stream of images, whose end is not known, got none")
    items = list(itertools.islice(itertools.chain.from_iterable(map(_unbatched, stream)), limit))
    if not items:
        raise InputError("expected at least one image, got an empty stream")
    return item_images(items, container="stream", **options)


def _unbatched(item: Any) -> list[Any]:
    """The items of a batch (its images have a fourth axis), or the one item."""
    image = image_of(item)
    if not hasattr(image, "ndim") or image.ndim != 4:
        return [item]
    label: Any = None
    if isinstance(item, Mapping):
        label = _first(item, LABELS)
    elif isinstance(item, tuple | list) and len(item) > 1:
        label = item[1]
    if label is None or np.shape(label) != (len(image),):
        return list(image)
    return list(zip(image, label, strict=True))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or "no message"
