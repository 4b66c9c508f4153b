"""The images of one split before decoding: their names and labels, and how to get at each one's
file."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lcmae.data.order import HELD_OUT, balanced_order, held_out
from lcmae.data.values import Range
from lcmae.errors import InputError
from lcmae.shapes import Int

if TYPE_CHECKING:
    from lcmae.data.hierarchy import Hierarchy


@dataclass(frozen=True)
class Collection:
    """Images of one split, in a fixed order. What reads them must survive pickling, for worker
    processes."""

    paths: list[str]
    """What each image is: a file, or a file and a row of it."""

    labels: Int[Tensor, " b"] | None
    """The class of each image, on the CPU."""

    label_names: tuple[str, ...] | None
    """The name of each class."""

    rows: Int[Tensor, " b"]
    """What `read` is asked for, image by image."""

    read: Callable[[int], Any]
    """A row's path, encoded bytes or PIL image."""

    files: Sequence[Path] = ()
    """The files that hold the images; empty where they cannot be corrupt."""

    hierarchy: "Hierarchy | None" = None
    """What computes these images, whole batches at a time and at the asked size, where they are not
    read."""

    name: str = ""
    """The source's name, where it is another than was asked for (a bare path's kind was found)."""

    part: str = "all"
    """The split these images are: train, test, or all where none was drawn."""

    container: str = ""
    """What they lie in: folder, parquet, numpy, ..."""

    notes: tuple[str, ...] = ()
    """What was assumed, a sentence each."""

    own_range: tuple[Range, str] | None = None
    """The values that are black and white by the files' own words (a DICOM window), and which
    words."""

    read_mask: Callable[[int], Any] | None = None
    """A row's segmentation mask, as `read` gives its image."""

    labels_of: Callable[[list[int]], list[Any]] | None = None
    """Labels of rows that were read, where they are known only by reading them."""

    may_fail: bool = False
    """Whether reading can fail although there are no files to check (a user's own data set)."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: Int[Tensor, " k"]) -> "Collection":
        """These images, in this order."""
        labels = None if self.labels is None else self.labels[positions]
        paths = [self.paths[position] for position in positions.tolist()]
        return replace(self, paths=paths, labels=labels, rows=self.rows[positions])

    def replaced(self, **fields: Any) -> "Collection":
        """The same images with other fields."""
        return replace(self, **fields)

    def split(self, split: str) -> "Collection":
        """The training part, or the fifth held out for tests, where the data set itself draws no
        line; everything for "all" and for "own"."""
        if split in ("all", "own"):
            return replace(self, part="all")
        if len(self) < 2:
            raise InputError(f"expected at least 2 images to hold out one in {HELD_OUT} for tests, got {len(self)}")
        is_held_out = held_out(self.labels, len(self))
        chosen = (is_held_out if split == "test" else ~is_held_out).nonzero().flatten()
        return replace(self.take(chosen), part=split)

    def balanced(self) -> "Collection":
        """A fixed shuffle, any first N of which hold the classes as equally as possible."""
        return self.take(balanced_order(self.labels, len(self)))

    def fingerprint(self) -> str:
        """Changes when the images, their order, or the size or time of one of their files does."""
        digest = hashlib.sha256(repr((self.paths, self.rows.tolist())).encode())
        for file in self.files:
            stat = file.stat()
            digest.update(repr((str(file), stat.st_size, stat.st_mtime_ns)).encode())
        return digest.hexdigest()


def in_order(num_images: int) -> Int[Tensor, " b"]:
    """The rows 0, 1, 2, ..."""
    return torch.arange(num_images)
