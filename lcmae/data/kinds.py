"""Which source a name means, and what lies at a bare path: PHOTOS becomes folder:PHOTOS, scans.npy
becomes numpy:scans.npy, ...

A file is known by its suffix (DICOM also by its first bytes), a folder by what most of its files
are. Imports no torch: a command line is checked before anything slow begins.
"""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from lcmae.data.names import DROPPED, parse_name
from lcmae.errors import InputError
from lcmae.safety.files import is_special

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".ico"),
)
"""Files that are taken for images; others are passed over."""

MOST_FILES = 10_000
"""Files of a folder that are counted."""

KINDS = {
    "folder": "image files, one subfolder per class, or flat and without labels",
    "parquet": "a Parquet file, or a folder of them, in Hugging Face's layout: image {bytes, path}, label",
    "numpy": "an .npy file [b h w c], an .npz file (images, labels), or a folder of .npy files, one per image",
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
    ".csv": "pack images and labels into a Parquet file, or into one folder per class",
    ".mp4": "store its frames as image files in a folder",
}
"""What to do with files of other kinds."""


SOURCES = {
    "digits": "1,797 handwritten digits built into scikit-learn, at 32x32 pixels, in grey, 10 classes",
    "cifar10": "60,000 photographs at 32x32 pixels, 10 classes",
    "cifar100": "60,000 photographs at 32x32 pixels, 100 classes",
    "stl10": "13,000 labelled photographs at 96x96 pixels, 10 classes",
    "photographs": "four photographs that come with lcmae (CC0 and public domain), without labels",
    "hierarchy": "images made from a tree of known latents (lcmae/data/hierarchy.py), as hierarchy:depth=4,classes=10,...",
    **{f"{kind}:PATH": text for kind, text in KINDS.items()},
    "PATH": "a bare path: its kind is detected",
}
"""What `open_source` opens: name -> one line."""

IN_MEMORY = ("array", "list", "dataset", "loader", "stream")
"""What `lcmae.images` calls images that have no name of their own."""


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


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes of anything, then DICM."""
    if is_special(path):
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


EMPTY = "expected the name of a source of images, or a path, got an empty text"


def with_kind(name: str) -> str:
    """A bare path's name with its kind, PHOTOS -> folder:PHOTOS; other names as they are.
    `InputError` where nothing lies there, or nothing that holds images."""
    if not name.strip():
        raise InputError(EMPTY)
    parsed = parse_name(name)
    kind, colon, _ = parsed.base.partition(":")
    if kind in SOURCES or (colon and kind in (*KINDS, *IN_MEMORY, DROPPED)):
        return name
    if not is_path(parsed.base):
        raise InputError(unknown(parsed.base))
    return str(replace(parsed, base=f"{kind_of(Path(parsed.base).expanduser())}:{parsed.base}"))


def unknown(name: str) -> str:
    """What to say of a name that is no source and no path."""
    return f"expected data to be {', '.join(SOURCES)}; got {name!r}, and no file or folder has this name"


def is_path(name: str) -> bool:
    """Whether a name without a kind means a path: something lies there, or it is written like
    one."""
    path = Path(name).expanduser()
    try:
        return (
            path.exists()
            or os.sep in name
            or path.suffix.lower() in (".tar", ".npy", ".npz", ".parquet", ".tif", ".tiff")
        )
    except OSError:  # a name longer than any file's
        return False
