"""`hierarchy:SETTINGS` as a source of images: the collection whose pixels `lcmae.data.hierarchy`
computes."""

from lcmae.data.collection import Collection, in_order
from lcmae.data.hierarchy import Hierarchy, read_settings
from lcmae.errors import InputError


def hierarchy_images(text: str, split: str, height: int, width: int, channels: int) -> Collection:
    """The images of one split, from the settings behind `hierarchy:`. `InputError` where the blocks
    do not fit the image."""
    settings = read_settings(text)
    blocks = settings.split ** (settings.depth - 1)
    if height % blocks or width % blocks or min(height, width) < 2 * blocks:
        raise InputError(
            f"hierarchy: expected sides that {blocks} textures of the same whole number of pixels (2 or more) fit into, "
            f"got {height}x{width} pixels"
        )
    hierarchy = Hierarchy(settings, split, height, width, channels)
    rows = in_order(settings.images if split == "train" else -(-settings.images // 4))
    names = [f"hierarchy/{split}#{row}" for row in range(len(rows))]
    label_names = tuple(f"class {number}" for number in range(settings.classes))
    return Collection(names, hierarchy.classes(rows), label_names, rows, read=_unread, hierarchy=hierarchy)


def _unread(row: int) -> None:
    raise AssertionError(f"image {row} is made, not read")
