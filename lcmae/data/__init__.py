"""Named sources of images, held in memory where they fit, and augmentation on the device.

    source = lcmae.data.open_source("digits", split="train", image_size=32, channels=1)
    order = random_order(len(source), seed=0, epoch=0)
    for indices, pixels in source.batches(order, batch_size=128):
        images = augment(pixels, indices, seed=0, epoch=0, settings=Augmentation())

Everything random is a function of (seed, epoch, index). Importing this costs nothing, so that the
dashboard decodes an image without torch; a name is loaded when it is first used, and what a source
needs beside torch and numpy (Pillow, pyarrow, scikit-learn, torchvision) when one is opened.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcmae.data.augmentation import Augmentation, augment
    from lcmae.data.kinds import SOURCES
    from lcmae.data.opening import open_source
    from lcmae.data.order import random_order
    from lcmae.data.source import ImageSource

__all__ = ["SOURCES", "Augmentation", "ImageSource", "augment", "open_source", "random_order"]

_MODULES = {
    "SOURCES": "kinds",
    "Augmentation": "augmentation",
    "ImageSource": "source",
    "augment": "augmentation",
    "open_source": "opening",
    "random_order": "order",
}
# No name may be that of a module of this package: importing it would hide the name.


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'lcmae.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lcmae.data.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
