"""Named sources of images, held in memory where they fit, and augmentation on the device.

    source = lcmae.data.open_source("digits", split="train", image_size=32, channels=1)
    order = random_order(len(source), seed=0, epoch=0)
    for indices, pixels in source.batches(order, batch_size=128):
        images = augment(pixels, indices, seed=0, epoch=0, settings=Augmentation())

Everything random is a function of (seed, epoch, index). Importing this needs torch and numpy; what
a source needs beside them (Pillow, pyarrow, scikit-learn, torchvision) is imported when one is
opened.
"""

from lcmae.data.augment import Augmentation, augment
from lcmae.data.opening import SOURCES, open_source
from lcmae.data.order import random_order
from lcmae.data.source import ImageSource

__all__ = ["SOURCES", "Augmentation", "ImageSource", "augment", "open_source", "random_order"]
