"""What lies at a bare path: PHOTOS becomes folder:PHOTOS, scans.npy becomes numpy:scans.npy, ...

A file is known by its suffix (DICOM also by its first bytes), a folder by what most of its files
are.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lcmae.data.collection import Collection
from lcmae.data.folder import SUFFIXES, folder_images
from lcmae.data.parquet import parquet_images
from lcmae.data.readers.dicom import dicom_images, is_dicom
from lcmae.errors import InputError

MOST_FILES = 10_000
"""Files of a folder that are counted."""

KINDS = {
    "folder": "image files, one subfolder a class, or flat and without labels",
    "parquet": "a Parquet file, or a folder of them, in Hugging Face's layout: image {bytes, path}, label",
    "numpy": "an .npy file [b h w c], an .npz file (images, labels), or a folder of .npy files, one an image",
    "tiff": "a TIFF that holds a stack of images",
    "zarr": "a zarr array, or a group with the arrays images and labels",
    "webdataset": "a .tar shard, a folder of them, or shards-{000..012}.tar: KEY.jpg beside KEY.cls",
    "dicom": "a DICOM file, or a folder of them",
    "arrow": "a folder that a Hugging Face data set was saved to (save_to_disk)",
}
"""Kinds of path -> one line. `KIND:PATH` says which it is where a bare path does not."""

_OF_FILE = {
    ".parquet": "parquet", ".npy": "numpy", ".npz": "numpy", ".tif": "tiff", ".tiff": "tiff", ".tar": "webdataset",
    ".dcm": "dicom", ".dicom": "dicom", ".ima": "dicom", ".zarr": "zarr",
}  # fmt: skip

_ELSE = {
    ".h5": "open it with h5py and hand the array to lcmae.images, or store it as .npy",
    ".hdf5": "open it with h5py and hand the array to lcmae.images, or store it as .npy",
    ".nii": "read its slices with nibabel and hand the array [b h w] to lcmae.images, or store it as .npy",
    ".gz": "unpack it first (of a .nii.gz store the slices as .npy, of a .tar.gz the .tar)",
    ".tgz": "unpack it to a .tar first, whose members can be read one by one",
    ".zip": "unpack it to a folder first",
    ".mat": "read it with scipy.io.loadmat and store the array as .npy",
    ".pt": "load it yourself, since reading it can run code, and hand the tensor to lcmae.images",
    ".pth": "load it yourself, since reading it can run code, and hand the tensor to lcmae.images",
    ".pkl": "load it yourself, since reading it can run code, and hand the images to lcmae.images",
    ".csv": "pack images and labels into a Parquet file, or into one folder a class",
    ".mp4": "store its frames as image files in a folder",
}
"""What to do with files of other kinds."""


def kind_of(path: Path) -> str:
    """The kind of what lies there. `InputError` with what to do where it is none of them."""
    if path.is_dir():
        return _kind_of_folder(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        if suffix == ".tar" and "{" in path.name:
            return "webdataset"
        raise InputError(f"expected data at {path}, found neither a file nor a folder")
    if suffix in _OF_FILE:
        return _OF_FILE[suffix]
    if suffix in SUFFIXES:
        raise InputError(f"expected a folder of images, or several of them, got the one image {path}; give its folder")
    if is_dicom(path):
        return "dicom"
    what = _ELSE.get(suffix, f"known are {', '.join([*_OF_FILE, 'folders of images'])}")
    raise InputError(f"expected images at {path}, got a file of another kind ({suffix or 'no suffix'}): {what}")


def _kind_of_folder(path: Path) -> str:
    if any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
        return "zarr"
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return "arrow"
    found: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for folder, subfolders, names in os.walk(path, followlinks=False):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                found["folder"] += 1
            elif suffix in (".parquet", ".npy", ".tar", ".dcm", ".dicom", ".ima"):
                found[_OF_FILE[suffix]] += 1
            elif not suffix.strip(".0123456789") and is_dicom(Path(folder, name)):
                found["dicom"] += 1
            else:
                others[suffix or "no suffix"] += 1
        if found.total() + others.total() >= MOST_FILES:
            break
    if found:
        return found.most_common(1)[0][0]
    first = others.most_common(1)
    what = f"files of {first[0][0]}" if first else "nothing"
    todo = _ELSE.get(first[0][0]) if first else None
    raise InputError(
        f"expected images in {path} (image files, .parquet, .npy, .tar, .dcm, zarr), found {what}{f': {todo}' if todo else ''}"
    )


def path_images(kind: str, path: Path, split: str, channels: int | None, masks: str | None) -> Collection:
    """The images of one split of what lies at a path of this kind."""
    images = _read(kind, path, split, channels, masks)
    if masks is not None and images.read_mask is None:
        return images.replaced(read_mask=mask_files(path, Path(masks).expanduser(), images))
    return images


def _read(kind: str, path: Path, split: str, channels: int | None, masks: str | None) -> Collection:
    if kind == "folder":
        return folder_images(path, split)
    if kind == "parquet":
        is_folder = masks is not None and (Path(masks).expanduser().is_dir() or (path / masks).is_dir())
        return parquet_images(path, split, None if is_folder else masks)
    if kind in ("numpy", "zarr"):
        from lcmae.data.readers import arrays

        return (arrays.numpy_images if kind == "numpy" else arrays.zarr_images)(path, split, channels)
    if kind == "tiff":
        from lcmae.data.readers.tiff import tiff_images

        return tiff_images(path, split)
    if kind == "webdataset":
        from lcmae.data.readers.tar import tar_images

        return tar_images(path, split)
    if kind == "dicom":
        return dicom_images(path, split)
    from lcmae.data.readers.saved import saved_images

    return saved_images(path, split, channels, masks)


def mask_files(root: Path, masks: Path, images: Collection) -> Callable[[int], Path]:
    """The mask of each image: the file of the same relative path, up to the suffix, below
    `masks`."""
    masks = masks if masks.is_absolute() or masks.is_dir() else root / masks
    if not masks.is_dir():
        raise InputError(f"expected a folder of masks at {masks}, which has none")
    below = {
        Path(folder, name).relative_to(masks).with_suffix("").as_posix(): Path(folder, name)
        for folder, _, names in os.walk(masks)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES
    }
    found: dict[int, Path] = {}
    for file, row in zip(images.paths, images.rows.tolist(), strict=True):
        name = Path(file)
        key = (name.relative_to(root) if name.is_relative_to(root) else name).with_suffix("").as_posix()
        if key not in below:
            raise InputError(f"{masks}: expected the mask {key}.png of the image {file}, found none")
        found[row] = below[key]
    return MaskFiles(found)


class MaskFiles:
    """Row numbers to files of masks."""

    def __init__(self, files: dict[int, Path]) -> None:
        self.files = files

    def __call__(self, row: int) -> Path:
        return self.files[row]
