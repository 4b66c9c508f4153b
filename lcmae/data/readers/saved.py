"""A folder that a Hugging Face data set was saved to (`Dataset.save_to_disk`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcmae.data.collection import Collection
from lcmae.data.readers.items import huggingface_images
from lcmae.data.readers.missing import needed
from lcmae.errors import InputError


def saved_images(path: Path, split: str, channels: int | None, masks: str | None) -> Collection:
    """The images of one split; a saved DatasetDict has its own."""
    datasets = needed("datasets", "datasets", str(path))
    try:
        data = datasets.load_from_disk(str(path))
    except Exception as error:  # it raises pyarrow's errors, JSON's and its own
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: expected a data set saved to disk, got one that cannot be read ({reason})"
        ) from error
    if not hasattr(data, "features"):
        name = part_of(data, None if split == "own" else split)
        return _named(huggingface_images(data[name], channels=channels, masks=masks), f"{path.name}/{name}").replaced(
            part="train" if name == "train" else "test"
        )
    return _named(huggingface_images(data, channels=channels, masks=masks), path.name).split(split)


def part_of(parts: Mapping[str, Any], split: str | None) -> str:
    """The part of a DatasetDict that is meant."""
    order = {"train": ("train",), None: ("test", "validation", "val", "valid", "train")}
    part = next((name for name in order.get(split, ("test", "validation", "val", "valid")) if name in parts), None)
    if part is None:
        raise InputError(f"expected the split {split or 'test'} in a data set of {', '.join(parts)}, found none")
    return part


def _named(images: Collection, name: str) -> Collection:
    paths = [f"{name}#{row}" for row in range(len(images))]
    return images.replaced(paths=paths, container="arrow")
