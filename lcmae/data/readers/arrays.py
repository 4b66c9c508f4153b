"""Images that lie in one array: NumPy's and torch's, their files, zarr, and anything else that has
a shape and is indexed by row (h5py, dask, memory maps).

Which axis holds the bands is read off the shape (`layout`): the one of 1 to 4, else the one that is
unlike two equal sides, else the smaller one. Where that decides nothing, NumPy's arrays are
[b h w c] and torch's [b c h w], and a note says so.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcmae.data.collection import Collection, in_order
from lcmae.data.folder import TEST_NAMES, folder_images
from lcmae.data.large import check_array, check_unpacked
from lcmae.data.readers.missing import needed
from lcmae.data.values import Unreadable
from lcmae.errors import InputError
from lcmae.safety.files import is_special

MAX_NPZ_BYTES = 16 << 30
"""Of one array in an .npz file, which cannot be read in part."""

IMAGE_KEYS = ("images", "image", "x", "X", "data", "pixels", "imgs", "img", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "Y", "target", "targets", "arr_1")
MASK_KEYS = ("masks", "mask", "segmentation", "segmentations")


class Layout:
    """Which axes of an array are what; see `layout`."""

    def __init__(self, order: str, note: str | None = None) -> None:
        self.order = order
        """b h w c in the order of the array's axes; without b it is one image."""

        self.note = note
        """What was assumed, where the shape does not decide."""

    @property
    def is_one(self) -> bool:
        """A single image."""
        return "b" not in self.order

    def image(self, values: np.ndarray) -> np.ndarray:
        """One row (or the whole array, if it is one image) as [h w c]."""
        order = self.order.replace("b", "")
        if order == "chw":
            return np.moveaxis(values, 0, -1)
        return values[..., None] if order == "hw" else values


def layout(
    shape: tuple[int, ...], *, channels: int | None = None, channels_first: bool = False, one: bool = False
) -> Layout:
    """The layout of an array of images. `channels`: how many bands are expected, if that is known;
    `channels_first`: which it is where the shape does not tell; `one`: it is a single image.

    `InputError` for what are no images.
    """
    if 0 in shape:
        raise InputError(f"expected images, got an empty array of shape {shape}")
    dims = len(shape) + one
    if dims == 2 and not one:
        note = (
            f"{_words(shape)} is taken as one grey image; flattened images are told apart as images.reshape(-1, h, w)"
        )
        return Layout("hw", note)
    if dims == 3 and one:
        return Layout("hw")
    if dims == 3:
        return _layout_of_three(shape, channels, channels_first)
    if dims == 4:
        first, is_guess = _channels_first(shape[-3:], channels, channels_first)
        order = "chw" if first else "hwc"
        note = (
            None
            if not is_guess
            else f"{_words(shape)} can be read in two ways: taken as {'' if one else 'b '}{' '.join(order)}"
        )
        return Layout(order if one else f"b{order}", note)
    raise InputError(
        f"expected images [b h w], [b h w c] or [b c h w], got an array of shape {shape}; of volumes or videos choose the "
        "slices or frames first, for example images[:, 0]"
        if len(shape) > 4
        else f"expected images [b h w], [b h w c] or [b c h w], got an array of shape {shape}"
    )


def _layout_of_three(shape: tuple[int, ...], channels: int | None, channels_first: bool) -> Layout:
    last, first = shape[2] in (3, 4) and shape[0] > 4, shape[0] in (3, 4) and shape[2] > 4
    if channels is not None and channels > 1:
        last, first = shape[2] == channels, shape[0] == channels
    if last and not (first and channels_first):
        return Layout("hwc", f"{_words(shape)} is taken as one image of {shape[2]} bands, not as {shape[0]} grey ones")
    if first:
        return Layout("chw", f"{_words(shape)} is taken as one image of {shape[0]} bands, not as {shape[0]} grey ones")
    return Layout("bhw")


def _channels_first(image: tuple[int, ...], channels: int | None, otherwise: bool) -> tuple[bool, bool]:
    """Whether the first of an image's three axes holds the bands, and whether that is a guess."""
    first, middle, last = image
    if channels is not None and (first == channels) != (last == channels):
        return first == channels, False
    if (first <= 4) != (last <= 4):
        return first <= 4, False
    if first <= 4:  # both are: an image of four pixels or less is the odder reading, and decides nothing
        return otherwise, True
    if (first == middle) != (middle == last):
        return middle == last, False
    # far fewer bands than pixels: no guess
    return (first < last, 4 * min(first, last) > max(first, last)) if first != last else (otherwise, True)


def _words(shape: tuple[int, ...]) -> str:
    return f"an array of shape {'x'.join(map(str, shape))}"


class ArrayRows:
    """Row numbers to images [h w c] of an array in memory, or of anything that is indexed like
    one."""

    def __init__(self, values: Any, found: Layout) -> None:
        self.values, self.found = values, found

    def __call__(self, row: int) -> np.ndarray:
        if isinstance(self.values, np.memmap) or not isinstance(self.values, np.ndarray | torch.Tensor):
            shape = tuple(self.values.shape if self.found.is_one else self.values.shape[1:])
            _check_size(shape, self.values.dtype)
        values = as_numpy(self.values if self.found.is_one else self.values[row])
        return self.found.image(values)


class FileRows(ArrayRows):
    """The same of an .npy file, which is mapped into memory and opened again by worker
    processes."""

    def __init__(self, file: Path, found: Layout) -> None:
        super().__init__(load_npy(file), found)
        self.file = file

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "found": self.found}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)


class NpyFiles:
    """Row numbers to images of .npy files, one image each."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __call__(self, row: int) -> np.ndarray:
        try:
            values = load_npy(self.files[row])
            _check_size(values.shape, values.dtype)
            return layout(values.shape, one=True).image(np.asarray(values))  # mapped, not copied
        except InputError as error:
            raise Unreadable(str(error)) from error


def _check_size(shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse an image of a file that takes too much memory. `Unreadable`."""
    num_bytes = int(np.prod(shape, dtype=np.int64)) * int(getattr(dtype, "itemsize", 1))
    check_array(num_bytes, f"{'x'.join(map(str, shape))} values of {dtype}")


def as_numpy(values: Any) -> np.ndarray:
    """A NumPy array of anything like one: tensors on any device, h5py, zarr, dask. `InputError` for
    tensors without plain values: sparse, quantized, on the meta device."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    if values.is_meta or values.is_quantized or values.layout != torch.strided:
        kind = (
            "one on the meta device" if values.is_meta else "a quantized one" if values.is_quantized else "a sparse one"
        )
        todo = "values.dequantize()" if values.is_quantized else "values.to_dense()"
        raise InputError(
            f"expected a dense tensor with values, got {kind}{'' if values.is_meta else f'; hand over {todo}'}"
        )
    values = values.detach().cpu()
    if values.is_floating_point() and values.dtype not in (torch.float32, torch.float64):
        values = values.float()  # NumPy has no bfloat16, and none of 8 bits
    return values.resolve_conj().resolve_neg().numpy()


def array_images(
    values: Any, labels: Any = None, *, channels: int | None = None, name: str = "array", masks: Any = None
) -> Collection:
    """All images of an array in memory. `channels`: how many bands are expected."""
    shape = tuple(map(int, values.shape))
    found = layout(shape, channels=channels, channels_first=isinstance(values, torch.Tensor))
    count = 1 if found.is_one else shape[0]
    numbers, names = class_numbers(labels, count)
    return Collection(
        paths=[f"{name}#{row}" for row in range(count)],
        labels=numbers,
        label_names=names,
        rows=in_order(count),
        read=ArrayRows(values, found),
        container=name,
        notes=(found.note,) if found.note else (),
        read_mask=None if masks is None else ArrayRows(masks, layout(tuple(masks.shape))),
    )


def class_numbers(labels: Any, count: int) -> tuple[torch.Tensor | None, tuple[str, ...] | None]:
    """Labels (numbers or names) as int64 [b], and the names. `InputError` where they are not one an
    image."""
    if labels is None:
        return None, None
    values = as_numpy(labels)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values  # MedMNIST's
    if values.shape != (count,):
        raise InputError(f"expected a label for each of {count} images, got labels of shape {values.shape}")
    if values.dtype.kind in "US":
        names, numbers = np.unique(values.astype(str), return_inverse=True)
        return torch.from_numpy(numbers.astype(np.int64)), tuple(map(str, names))
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise InputError(f"expected labels that are whole numbers or names, got {values.dtype}")
    values = values.astype(np.int64)
    if (values == -1).all():
        return None, None  # the usual mark of images without labels
    if (values < 0).any():
        raise InputError(f"expected labels of at least 0, got {values.min()}")
    return torch.from_numpy(values), None


def load_npy(file: Path) -> np.ndarray:
    """An .npy file, mapped into memory. `InputError` where it holds Python objects, or is none."""
    if is_special(file):
        raise InputError(f"{file}: expected an .npy file, got a pipe, socket or device")
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # its header is read as Python's source, and a broken one trips over anything
        raise InputError(
            f"{file}: expected an .npy file of numbers, got one that cannot be read ({_line(error)})"
        ) from error


def numpy_images(path: Path, split: str, channels: int | None = None) -> Collection:
    """The images of an .npy file, an .npz file, or a folder of .npy files of one image each."""
    if path.is_dir():
        return folder_images(path, split, suffixes=(".npy",), reader=NpyFiles)
    if not path.is_file():
        raise InputError(f"expected an .npy or .npz file, or a folder of .npy files, got {path}, which does not exist")
    if path.suffix.lower() == ".npz":
        return _npz_images(path, split, channels)
    values = load_npy(path)
    images = array_images(values, channels=channels, name=path.name)
    found = images.read.found  # pyright: ignore[reportFunctionMemberAccess] - an ArrayRows
    return images.replaced(read=FileRows(path, found), files=[path], container="numpy").split(split)


def _npz_images(file: Path, split: str, channels: int | None) -> Collection:
    try:
        with zipfile.ZipFile(file) as members:
            found = {member.filename.removesuffix(".npy"): member for member in members.infolist()}
        with np.load(file, allow_pickle=False) as archive:
            wanted, resolved = _keys(file, list(archive.files), split)
            for key in wanted.values():
                if found[key].file_size > MAX_NPZ_BYTES:
                    raise InputError(
                        f"{file}: expected arrays of at most {MAX_NPZ_BYTES >> 30} GiB, got {key} of "
                        f"{found[key].file_size / 2**30:.0f} GiB; store it as .npy, which is read in part"
                    )
                check_unpacked(
                    found[key].compress_size, found[key].file_size, f"{file}: {key}",
                    "; store what is nearly empty as .npy",
                )  # fmt: skip
            values = {what: archive[key] for what, key in wanted.items()}
    except (InputError, MemoryError):
        raise
    except Exception as error:  # as above, and what unpacking trips over
        raise InputError(
            f"{file}: expected an .npz file of numbers, got one that cannot be read ({_line(error)})"
        ) from error
    images = array_images(
        values["images"], values.get("labels"), channels=channels, name=file.name, masks=values.get("masks")
    ).replaced(files=[file], container="numpy")
    return images.split(split) if resolved is None else images.replaced(part=resolved)


def _keys(file: Path, keys: list[str], split: str) -> tuple[dict[str, str], str | None]:
    """The arrays that hold images, labels and masks, and the split if the file has its own:
    train_images, test_labels, x_train, ..."""
    parts = {part: _of_part(keys, part) for part in ("train", *TEST_NAMES)}
    tests = next((part for part in TEST_NAMES if "images" in parts[part]), None)
    if "images" in parts["train"] and tests is not None:
        if split == "all":
            raise InputError(f"{file}: expected the split train or test of a file that has both, got all")
        return (parts["train"], "train") if split == "train" else (parts[tests], "test")
    found = {what: key for what, words in _KINDS.items() for key in reversed(words) if key in keys}
    if "images" not in found and len(keys) == 1:
        found["images"] = keys[0]
    if "images" not in found:
        raise InputError(f"{file}: expected an array named images, got {', '.join(keys) or 'none'}")
    return found, None


_KINDS = {"images": IMAGE_KEYS, "labels": LABEL_KEYS, "masks": MASK_KEYS}


def _of_part(keys: list[str], part: str) -> dict[str, str]:
    return {
        what: key
        for what, words in _KINDS.items()
        for word in reversed(words)
        for key in (f"{part}_{word}", f"{word}_{part}")
        if key in keys
    }


def zarr_images(path: Path, split: str, channels: int | None = None) -> Collection:
    """The images of a zarr array, or of the array named images in a group, with its labels."""
    zarr = needed("zarr", "zarr", str(path))
    try:
        opened = zarr.open(path, mode="r")
    except Exception as error:  # zarr has no common error of its own
        raise InputError(
            f"{path}: expected a zarr array or group, got one that cannot be read ({_line(error)})"
        ) from error
    labels = masks = None
    if not hasattr(opened, "shape"):
        keys = sorted(opened.array_keys())
        found, _ = _keys(path, keys, "train")
        labels = None if "labels" not in found else opened[found["labels"]][:]
        masks = None if "masks" not in found else opened[found["masks"]]
        opened = opened[found["images"]]
    images = array_images(opened, labels, channels=channels, name=path.name, masks=masks)
    return images.replaced(container="zarr", may_fail=True).split(split)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
