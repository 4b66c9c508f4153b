"""Image files in folders: one folder a class (ImageFolder's layout), or a flat folder without
labels.

Subfolders named train and test (or validation, val, valid) are the splits, if no other subfolder
holds images; else one image in five is held out for tests. Classes are the names of the folders,
numbered over both splits together.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from lcmae.data.collection import Collection, in_order
from lcmae.data.kinds import SUFFIXES
from lcmae.errors import InputError

TEST_NAMES = ("test", "validation", "val", "valid")
"""Names of the folder or file that is the test split; the first that exists is it."""


class FolderImages:
    """Row numbers to paths."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __call__(self, row: int) -> Path:
        return self.files[row]


def folder_images(
    folder: Path,
    split: str,
    *,
    suffixes: tuple[str, ...] = SUFFIXES,
    reader: Callable[[list[Path]], Callable[[int], Any]] = FolderImages,
) -> Collection:
    """The images of one split below `folder`, sorted by path: files of these suffixes, which
    `reader` reads."""
    if not folder.is_dir():
        raise InputError(f"expected a folder of images, got {folder}, which {_what_it_is(folder)}")
    found = sorted(_image_files(folder, suffixes), key=lambda file: file.as_posix())
    if not found:
        raise InputError(f"expected images ({' '.join(suffixes)}) in {folder}, found none")
    images = _of_split(folder, found, split)
    return images.replaced(read=reader([Path(path) for path in images.paths]), rows=in_order(len(images)))


def _of_split(folder: Path, found: list[Path], split: str) -> Collection:

    top = {file.parts[0] for file in found if len(file.parts) > 1}
    has_splits = bool(top) and top <= {"train", *TEST_NAMES} and all(len(file.parts) > 1 for file in found)
    if not has_splits:
        return _collection(folder, found, _classes(folder, found)).split(split)

    tests = next((name for name in TEST_NAMES if name in top), None)
    parts = {
        "train": [file for file in found if file.parts[0] == "train"],
        "test": [file for file in found if file.parts[0] == tests],
    }
    # number the classes over both splits: one may lack a class that the other has
    classes = [_classes(folder / files[0].parts[0], _below(files)) for files in parts.values() if files]
    names = None if None in classes else tuple(sorted({name for part in classes for name in part or ()}))
    if parts["train"] and parts["test"]:
        part = "test" if split == "own" else split
        files = parts["train"] + parts["test"] if part == "all" else parts[part]
        return _collection(folder, files, names, depth=1).replaced(part=part)
    return _collection(folder, parts["train"] or parts["test"], names, depth=1).split(split)


def _collection(folder: Path, files: list[Path], names: tuple[str, ...] | None, depth: int = 0) -> Collection:
    """`names` are the classes; the class of a file is the part of its path at `depth`."""
    labels = None
    if names is not None:
        number = {name: label for label, name in enumerate(names)}
        labels = torch.tensor([number[file.parts[depth]] for file in files])
    absolute = [folder / file for file in files]
    paths = [str(file) for file in absolute]
    return Collection(
        paths, labels, names, in_order(len(files)), FolderImages(absolute), files=absolute, container="folder"
    )


def _classes(folder: Path, files: list[Path]) -> tuple[str, ...] | None:
    """The class folders that hold `files` (relative to `folder`), or None where the images lie in
    it directly."""
    names = {file.parts[0] for file in files if len(file.parts) > 1}
    loose = sum(len(file.parts) == 1 for file in files)
    if names and loose:
        raise InputError(f"expected either images or class folders in {folder}, got {loose} images beside {len(names)}")
    return tuple(sorted(names)) or None


def _below(files: list[Path]) -> list[Path]:
    return [Path(*file.parts[1:]) for file in files]


def _image_files(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Path]:
    """Relative paths of images, through links to folders too, each real folder once; hidden names
    are passed over."""
    seen: set[str] = set()
    for directory, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        # sorted, so that which of two links to a folder counts does not depend on the file system
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        below = Path(directory).relative_to(folder)
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield below / name


def _what_it_is(path: Path) -> str:
    return "is a file" if path.exists() else "does not exist"
