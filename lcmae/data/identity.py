"""Which images a source holds, and in which order: part of what a result is measured on.

A data set that its name decides needs no more than its name, where the images are the usual choice:
the first so many of the fixed shuffle (`--images N`, `limit=N`). Anything else (images of one's
own, whose files may change, and other orders) is named by what was read: files or arrays as they
are stored, their order and their labels. Sizes and channels that a model asks for do not count.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from lcmae.data.collection import Collection
from lcmae.data.names import parse_name
from lcmae.data.values import Unreadable
from lcmae.errors import InputError

NAMED = ("digits", "cifar10", "cifar100", "stl10", "photographs", "hierarchy")
"""Data sets whose name and split say which images there are."""

DIGITS = 16
"""Hex digits of the sha256 that are kept."""

_PART = 1 << 20


def identity(name: str, images: Collection, *, shuffled: bool) -> str:
    """Hex digits that change with the images, their order and their labels; empty for the first so
    many of the fixed shuffle of a data set that has a name. Reads every image, and decodes none.

    `InputError` where an image cannot be read any more.
    """
    is_named = parse_name(name).base.partition(":")[0] in NAMED
    if is_named and shuffled:
        return ""
    labels = None if images.labels is None else images.labels.tolist()
    found = hashlib.sha256(repr((len(images), images.part, labels)).encode())
    if is_named:
        found.update(repr(images.rows.tolist()).encode())
        return found.hexdigest()[:DIGITS]
    for position, row in enumerate(images.rows.tolist()):
        try:
            found.update(_digest(images.read(row)))
        except (Unreadable, OSError) as error:
            raise InputError(f"{images.paths[position]}: readable when it was checked, now {error}") from error
    return found.hexdigest()[:DIGITS]


def _digest(value: Any) -> bytes:
    """Of one image as it is stored: a file's content, encoded bytes, an array or a PIL image."""
    found = hashlib.sha256()
    if isinstance(value, str | Path):
        with Path(value).open("rb") as file:
            while part := file.read(_PART):
                found.update(part)
    elif isinstance(value, bytes):
        found.update(value)
    else:
        values = np.ascontiguousarray(np.asarray(value))
        found.update(repr((getattr(value, "mode", ""), values.shape, values.dtype.str)).encode())
        found.update(values.tobytes())
    return found.digest()
