"""Orders of images: shuffles, class-balanced choices and held-out splits, each a function of its
arguments alone."""

import math

import torch
from torch import Tensor

from lcmae.data.counter import hash64
from lcmae.shapes import Bool, Int

# what a draw is for: no two purposes share a stream
_EPOCH, _CHOICE, _HELD_OUT = 1, 2, 3

HELD_OUT = 5
"""Where a data set has no test split of its own, one image in this many is held out for it."""


def random_order(num_images: int, *, seed: int, epoch: int) -> Int[Tensor, " b"]:
    """A permutation of the images, on the CPU."""
    return _shuffle(num_images, _EPOCH, seed, epoch)


def balanced_order(labels: Int[Tensor, " b"] | None, num_images: int) -> Int[Tensor, " b"]:
    """A fixed shuffle, any first N of which hold the classes as equally as those images allow."""
    order = _shuffle(num_images, _CHOICE)
    if labels is None:
        return order
    rank, _ = _rank_in_class(labels, order)
    return order[rank[order].argsort(stable=True)]


def held_out(labels: Int[Tensor, " b"] | None, num_images: int) -> Bool[Tensor, " b"]:
    """True for the fixed fifth of the images (rounded up) that is the test split: classes keep
    their shares."""
    order = _shuffle(num_images, _HELD_OUT)
    rank, count = _rank_in_class(torch.zeros(num_images, dtype=torch.int64) if labels is None else labels, order)
    # an image's place within its class, from 0 to 1: the images below a fifth are a fifth of each
    # class
    position = (rank + 0.5) / count
    chosen = order[position[order].argsort(stable=True)][: math.ceil(num_images / HELD_OUT)]
    is_held_out = torch.zeros(num_images, dtype=torch.bool)
    is_held_out[chosen] = True
    return is_held_out


def _shuffle(num_images: int, *purpose: int) -> Int[Tensor, " b"]:
    return hash64(*purpose, torch.arange(num_images)).argsort(stable=True)


def _rank_in_class(labels: Int[Tensor, " b"], order: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    """For each image, how many of its class come before it in `order`, and how many its class
    has."""
    _, classes, counts = labels.unique(return_inverse=True, return_counts=True)
    by_class = order[classes[order].argsort(stable=True)]  # class after class, each in the order given
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(classes)
    rank[by_class] = torch.arange(len(labels)) - first[classes[by_class]]
    return rank, counts[classes]
