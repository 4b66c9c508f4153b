"""Which latents do the visible and the hidden part of an image share? A minimum cut of the tree
that made it; no training.

Kong et al. (CVPR 2023, 2306.04898, Theorem 1) show that each mask has one smallest set c of latents
such that the hidden part is a function of c and of what has nothing to do with c or the visible
part. Their way to find it (Algorithm 1, in the appendix) was not at hand. lcmae takes for c the
*minimum vertex separator* of the tree between latents with visible and latents with hidden pixels,
a latent weighing the numbers that it holds: without c no path of dependence is left, and no set of
fewer numbers does that. In a tree of single parents this is d-separation, because nothing has two
causes.

Ties. Several sets can be smallest (of a part that hides one of its textures, the part or that
texture: three numbers each). Told are both ends: of all smallest sets the one of the highest mean
level and the one of the lowest, each exact, because levels enter the capacities as a second digit.
The level of a set is the mean height of its latents, weighted with their numbers, and is the same
for all sets at one end. Heights are counted from the pixels: textures are 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import Tensor

from lcmae.data.hierarchy import Tree
from lcmae.errors import InputError
from lcmae.masking import MaskStrategy
from lcmae.patches import Grid
from lcmae.shapes import Bool, Int


@dataclass(frozen=True)
class Separator:
    """One smallest set of latents between what is visible and what is hidden."""

    nodes: np.ndarray
    """The latents, ascending."""

    weight: int
    """Numbers that they hold."""

    level: float
    """Mean height above the pixels, weighted with those numbers."""


@dataclass(frozen=True)
class Graph:
    """A tree as the cut sees it; `parent` is -1 for the root. Any tree or forest will do, the
    pictures' or a small one."""

    parent: np.ndarray
    dims: np.ndarray
    """Numbers that each node holds, 1 or more."""

    height: np.ndarray
    """Levels above the pixels, 1 or more."""

    def separator(self, sees: np.ndarray, hides: np.ndarray, *, highest: bool) -> Separator:
        """The cut between nodes with visible pixels of their own and nodes with hidden ones (a node
        may have both).

        `InputError` where nothing is visible or nothing hidden: there is then nothing to share.
        """
        if not sees.any() or not hides.any():
            raise InputError("expected a mask that hides something and shows something, got one that does not")
        capacity, (source, sink) = self._capacity(highest), self._ends
        network = self._network(capacity, sees, hides)
        flow = maximum_flow(network, source, sink)
        left = network - flow.flow
        left.eliminate_zeros()
        reached = np.zeros(sink + 1, bool)
        order = breadth_first_order(left, source, return_predecessors=False)
        reached[np.asarray(order)] = True
        # node v is the edge from v to n + v: it is cut where its near side is reached and its far
        # side is not
        count = len(self.parent)
        nodes = np.flatnonzero(reached[:count] & ~reached[count : 2 * count])
        weight = int(self.dims[nodes].sum())
        return Separator(nodes, weight, float((self.dims * self.height)[nodes].sum() / weight))

    @property
    def _ends(self) -> tuple[int, int]:
        return 2 * len(self.parent), 2 * len(self.parent) + 1

    def _capacity(self, highest: bool) -> np.ndarray:
        """Numbers first, then height: a second digit that all nodes together cannot carry over into
        the first."""
        heights = self.dims * self.height
        one = int(heights.sum()) + 1
        if one * int(self.dims.sum()) >= _ENDLESS:
            raise InputError(f"expected a tree small enough for 32-bit capacities, got one of {len(self.dims)} latents")
        return self.dims * one - (heights if highest else -heights)

    def _network(self, capacity: np.ndarray, sees: np.ndarray, hides: np.ndarray) -> csr_array:
        count, (source, sink) = len(self.parent), self._ends
        tails, heads = self._edges
        visible, hidden = np.flatnonzero(sees), np.flatnonzero(hides)
        ends = np.full(len(tails) + len(visible) + len(hidden), _ENDLESS)
        tails = np.concatenate([np.arange(count), tails, np.full(len(visible), source), count + hidden])
        heads = np.concatenate([count + np.arange(count), heads, visible, np.full(len(hidden), sink)])
        values = np.concatenate([capacity, ends]).astype(np.int32)
        return csr_array((values, (tails.astype(np.int32), heads.astype(np.int32))), shape=(sink + 1, sink + 1))

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """From the far side of each node to the near side of its parent, and the reverse."""
        count = len(self.parent)
        child = np.flatnonzero(self.parent >= 0)
        above = self.parent[child]
        return np.concatenate([count + child, count + above]), np.concatenate([above, child])


_ENDLESS = 2**30


@dataclass(frozen=True)
class Average:
    """Over masks: a mean and its standard error (NaN for one mask)."""

    mean: Tensor
    sem: Tensor
    degrees_of_freedom: int
    """Of `sem`."""


@dataclass(frozen=True)
class Levels:
    """Where c lies under a mask strategy; each [end], highest then lowest, unless it says
    otherwise."""

    level: Average
    """Mean height of c."""

    top: Average
    """Height of the highest latent of c."""

    share: Average
    """[end level]: share of each level's latents that are in c, levels from the class down."""

    weight: Average
    """No axes: numbers in c, the same at both ends."""


def graph_of(tree: Tree) -> Graph:
    """The pictures' tree."""
    dims = np.repeat(tree.dims, np.diff(tree.first))
    return Graph(tree.parent.numpy(), dims, len(tree.levels) - tree.level.numpy())


def patch_of_pixels(height: int, width: int, grid: Grid) -> Int[Tensor, "h w"]:
    """For each pixel, the raster index of its patch."""
    down, across = torch.arange(height) * grid[0] // height, torch.arange(width) * grid[1] // width
    return down[:, None] * grid[1] + across


def touched(tree: Tree, height: int, width: int, grid: Grid) -> Bool[Tensor, "textures n"]:
    """Which patches hold pixels of which texture."""
    patch = patch_of_pixels(height, width, grid)
    texture = tree.block(len(tree.levels) - 1, height, width)
    found = torch.zeros(tree.side(len(tree.levels) - 1) ** 2, grid[0] * grid[1], dtype=torch.bool)
    found[texture, patch] = True
    return found


def expected_levels(
    tree: Tree,
    image_size: tuple[int, int],
    grid: Grid,
    mask: MaskStrategy,
    num_masks: int,
    rng: torch.Generator,
) -> Levels:
    """Where c lies on average over masks of one strategy. `InputError` for a mask that this grid
    cannot have."""
    graph, textures = graph_of(tree), touched(tree, *image_size, grid).float()
    is_hidden = mask(num_masks, grid, rng).is_hidden.float()
    above = tree.first[-2]
    sees = torch.zeros(num_masks, tree.first[-1], dtype=torch.bool)
    hides = sees.clone()
    hides[:, above:] = is_hidden @ textures.T > 0
    sees[:, above:] = (1 - is_hidden) @ textures.T > 0

    pairs = [
        [graph.separator(*sides, highest=highest) for highest in (True, False)]
        for sides in zip(sees.numpy(), hides.numpy(), strict=True)
    ]
    level, count = tree.level.numpy(), np.diff(tree.first)
    shares = [[np.bincount(level[one.nodes], minlength=len(count)) / count for one in pair] for pair in pairs]
    return Levels(
        level=_average([[one.level for one in pair] for pair in pairs]),
        top=_average([[graph.height[one.nodes].max() for one in pair] for pair in pairs]),
        share=_average(shares),
        weight=_average([highest.weight for highest, _ in pairs]),
    )


def _average(values: Sequence[Any]) -> Average:
    rows = torch.from_numpy(np.asarray(values, dtype=float))
    sem = rows.std(0) / len(rows) ** 0.5 if len(rows) > 1 else torch.full_like(rows[0], torch.nan)
    return Average(rows.mean(0), sem, len(rows) - 1)
