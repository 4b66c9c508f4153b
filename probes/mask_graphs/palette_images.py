"""A toy world whose augmentation graph is known: 4 x 4 patches of two colours, four blocks of 2 x
2, two classes. lcmae's own.

An image of class 0 has three or four dark blocks, one of class 1 three or four light ones (so the
class can be read off the whole image). At most one patch of a block has the other colour. Blocks
are exchangeable, and so are the patches of a block, so masks that hide equally many patches of the
blocks in some order have the same graph: the mean over *all* masks of a ratio needs few of them.
"""

from functools import lru_cache
from itertools import combinations_with_replacement, product
from math import comb, factorial, prod

import numpy as np

from lcmae.probes.mask_graphs.discrete import Discrete, exact_graph
from lcmae.probes.mask_graphs.numbers import GraphNumbers
from lcmae.shapes import Bool

BLOCKS, SIDE = 4, 4
PATCHES = SIDE * SIDE
UNIFORM = 0.6  # of a class: all four blocks of its colour
SPOTLESS = 0.6  # of a block: no patch of the other colour

_BLOCK = np.arange(PATCHES).reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(BLOCKS, BLOCKS)
"""Raster index of each patch of each block."""


@lru_cache
def palette_images() -> Discrete:
    """All 6,250 images with their probability and class."""
    spots = np.concatenate([np.zeros((1, 4), int), np.eye(4, dtype=int)])
    of_spots = np.array([SPOTLESS, *[(1 - SPOTLESS) / 4] * 4])
    patterns = np.array(list(product(range(5), repeat=BLOCKS)))
    layouts = [(label, odd) for label in (0, 1) for odd in (None, *range(BLOCKS))]
    colours, chance, labels = [], [], []
    for label, odd in layouts:
        blocks = np.full(BLOCKS, label)
        if odd is not None:
            blocks[odd] = 1 - label
        rows = np.empty((len(patterns), PATCHES), int)
        rows[:, _BLOCK] = spots[patterns] ^ blocks[None, :, None]
        colours.append(rows)
        chance.append(0.5 * (UNIFORM if odd is None else (1 - UNIFORM) / BLOCKS) * of_spots[patterns].prod(1))
        labels.append(np.full(len(patterns), label))
    return Discrete(np.concatenate(colours), np.concatenate(chance), np.concatenate(labels))


def masks(num_hidden: int, unit: int) -> list[tuple[Bool[np.ndarray, " n"], float]]:
    """One mask for each kind of mask that hides so many patches, with the share of all masks that
    are of its kind.

    `unit` 1: patches are hidden; 2: whole blocks (none where the number is not one of whole
    blocks).
    """
    if unit == 2:
        return [(_hiding([4] * (num_hidden // 4)), 1.0)] if num_hidden % 4 == 0 else []
    found = []
    for counts in combinations_with_replacement(range(5), BLOCKS):
        if sum(counts) == num_hidden:
            orders = factorial(BLOCKS) // prod(factorial(counts.count(value)) for value in set(counts))
            share = orders * prod(comb(4, count) for count in counts) / comb(PATCHES, num_hidden)
            found.append((_hiding(list(counts)), share))
    return found


def _hiding(counts: list[int]) -> Bool[np.ndarray, " n"]:
    """Hides the first so many patches of each block."""
    hidden = np.zeros(PATCHES, bool)
    for block, count in enumerate(counts):
        hidden[_BLOCK[block, :count]] = True
    return hidden


@lru_cache
def exact_sweep(num_eigenvalues: int) -> dict[tuple[int, int], GraphNumbers]:
    """Exact means over all masks by (unit, hidden patches); takes a few seconds."""
    images, found = palette_images(), {}
    for unit, num_hidden in product((1, 2), range(1, PATCHES)):
        kinds = masks(num_hidden, unit)
        if kinds:
            rows = [share * exact_graph(images, hidden, num_eigenvalues).flat() for hidden, share in kinds]
            found[unit, num_hidden] = GraphNumbers.unflatten(np.sum(rows, axis=0))
    return found
