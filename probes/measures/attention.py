"""What attention maps say: pure functions of maps [b h q k], b images, h heads, q queries, k keys,
whose rows sum to 1.

Sources: attention distance of Dosovitskiy et al. (2010.11929) as in Park et al. (2305.00729),
normalised mutual information of Park et al., divergence between heads of Xie et al. ("Dark
Secrets", 2205.13543). The positional share is lcmae's own.
"""

import math
from collections.abc import Sequence

import torch
from einops import einsum
from torch import Tensor

from lcmae.patches import Grid
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.running import RunningMean
from lcmae.shapes import Bool, Float, Int

TINY = torch.finfo(torch.float32).tiny
NOTHING_VARIES = 1e-12
"""Rows whose variance is below this share of their mean square are equal to float32's rounding: no
share is told of them."""


ATTENTION_DISTANCE = "in patches; prefix (class) tokens are left out as keys, and rows renormalised over the patches"
ATTENTION_ENTROPY = "in nats; prefix (class) tokens are kept as keys"
"""Conventions of the two measures, for results: others keep or drop the class token otherwise."""


def patch_distances(grid: Grid) -> Float[Tensor, "n n"]:
    """Euclidean distance between any two patches, in patches."""
    position = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).double()
    return (position[:, None] - position[None]).norm(dim=-1).float()


def entropy(rows: Float[Tensor, "... k"]) -> Float[Tensor, "..."]:
    """Entropy of each row in nats, float64; between 0 and log k."""
    return -torch.xlogy(rows, rows).sum(-1, dtype=torch.float64)


def mean_distance(maps: Float[Tensor, "b h q n"], distance: Float[Tensor, "#b q n"]) -> Float[Tensor, "b h q"]:
    """Attention-weighted mean distance to the keys: keys are patches, and rows are renormalised
    over them."""
    return einsum(maps, distance, "b h q n, b q n -> b h q") / maps.sum(-1).clamp(min=TINY)


def normalised_mutual_information(maps: Float[Tensor, "b h q k"]) -> Float[Tensor, "b h"]:
    """I(Q; K) / sqrt(H(Q) H(K)) with Q uniform over queries: 0 if all queries attend alike, 1 if
    each has its own key.

    NaN for one query or where all attention falls on one key.
    """
    # I(Q; K) = H(K) - H(K | Q)
    of_keys = entropy(maps.mean(2, dtype=torch.float64))
    information = of_keys - entropy(maps).mean(2)
    scale = (of_keys * math.log(maps.shape[2])).clamp(min=0).sqrt()
    return torch.where(scale > 0, information / scale, math.nan)


def head_divergence(maps: Float[Tensor, "b h q k"]) -> Float[Tensor, "b h"]:
    """KL(head || other head) in nats, mean over queries and the other heads; NaN for a single head.

    Probabilities that underflow count as float32's smallest normal number in the logarithm.
    """
    num_heads, num_queries = maps.shape[1:3]
    if num_heads == 1:
        return maps.new_full((len(maps), 1), math.nan, dtype=torch.float64)
    logs = maps.clamp(min=TINY).log()
    # a divergence is a difference of logarithms: what heads have in common would leave nothing but
    # its rounding
    logs = logs - logs.mean(1, keepdim=True)
    # all pairs of heads are one matrix product
    cross = einsum(maps, logs, "b h q k, b g q k -> b h g").double() / num_queries
    own = cross.diagonal(dim1=1, dim2=2)
    return own - (cross.sum(2) - own) / (num_heads - 1)


def part(running: RunningMean, which: int | slice) -> RunningMean:
    """Some of the last axis of what was averaged."""
    return running.part(which)


class PositionalShare:
    """How much of attention rows is the same whenever the query stands at the same position: the
    share of their variance between positions, corrected for the number of observations (Kelley's
    epsilon squared),

        share = 1 - (S_within / dof_within) / (S_total / dof_total),

    S_within the squared deviations from the position's mean row, S_total those from the mean row.
    It is 1 for attention that ignores what varies, 0 in expectation for attention that ignores
    position, and NaN where nothing varies at all. Rows come from (mask, position) pairs, with the
    same masks for every image, in two readings:

    - over images: each mask fixed, images varied; both sums are pooled over masks;
    - over masks: each image fixed, masks varied; both sums are pooled over images.

    Only sums are kept, by group of images and by mask, so that any of both can be left out
    (`lcmae.probes.statistics.two_way`): groups x pairs x heads x keys numbers, and products of the
    rows that two masks have at a position, whatever the number of images.
    """

    def __init__(self, mask: Int[Tensor, " p"], position: Int[Tensor, " p"], num_images: int) -> None:
        self.by_mask = _one_hot(mask)
        self.by_position = _one_hot(position)
        self.num_masks = self.by_mask.shape[1]
        self.at = self.by_position.argmax(1), self.by_mask.argmax(1)
        self.hides = (self.by_position.T @ self.by_mask).double()  # [position mask], 0 or 1
        # rows stand around a first guess of their means, so float32 loses nothing of their squares
        self.sums = GroupedSums(num_images, single=("rows",))
        self.count = 0
        self.origin: Tensor | None = None

    def add(self, rows: Float[Tensor, "b p h k"]) -> None:
        """Take in the rows of each image at every pair."""
        rows = rows.detach().double().cpu()
        # sums are taken around a first guess of the means, so that squares do not cancel
        self.origin = rows.mean(0) if self.origin is None else self.origin
        off, about = rows - self.origin, rows - self.origin.mean(0)
        of_position = rows - _group_means(self.origin[None], self.by_position)
        table = rows.new_zeros(len(rows), *self.hides.shape, *rows.shape[2:])
        table[:, *self.at] = of_position
        of_mask = einsum(about, self.by_mask, "b p h k, p m -> b m h k")
        self.sums.add(
            range(self.count, self.count + len(rows)),
            images=torch.ones(len(rows)),
            rows=off,
            squares=off.square().sum(3),
            sizes=rows.square().sum(3),
            spreads=about.square().sum(3),
            # products of two masks' rows: at each position, and of their sums over positions
            at_positions=einsum(table, table, "b i m h k, b i l h k -> b h i m l"),
            of_masks=einsum(of_mask, of_mask, "b m h k, b l h k -> b h m l"),
        )
        self.count += len(rows)

    @property
    def groups(self) -> list[int]:
        """Groups of images that have any."""
        return list(range(len(self.sums.filled_sizes)))

    def over_images(
        self, groups: Sequence[int] | None = None, masks: Sequence[int] | None = None
    ) -> Float[Tensor, " s"]:
        """Of each head, then of all heads of the layer pooled, from some groups of images and some
        masks. NaN for a single image."""
        assert self.origin is not None
        sums = self.sums.of(self.groups if groups is None else groups)
        masks = range(self.num_masks) if masks is None else masks
        pairs = self._pairs(masks)
        count, num_pairs, num_masks = float(sums["images"]), int(pairs.sum()), len(masks)
        off = sums["rows"][pairs] / count
        mean, member = off + self.origin[pairs], self.by_mask[pairs][:, list(masks)]
        within = (sums["squares"][pairs] - count * off.square().sum(2)).sum(0).clamp(min=0)
        between = count * (mean - _group_means(mean[None], member)[0]).square().sum((0, 2))
        size = within + count * mean.square().sum((0, 2))
        return _shares(within, num_pairs * (count - 1), within + between, num_pairs * count - num_masks, size)

    def over_masks(
        self, groups: Sequence[int] | None = None, masks: Sequence[int] | None = None
    ) -> Float[Tensor, " s"]:
        """The same, masks varied. NaN where no position is hidden under two masks."""
        sums = self.sums.of(self.groups if groups is None else groups)
        masks = list(range(self.num_masks)) if masks is None else list(masks)
        pairs, hidden = self._pairs(masks), self.hides[:, masks].sum(1)
        num_pairs, num_positions = int(pairs.sum()), int((hidden > 0).sum())
        # sum of |x|^2 less |sum of x|^2 / count: at each position, and of all pairs
        products = sums["at_positions"][..., masks, :][..., masks]
        alone = products.diagonal(dim1=-2, dim2=-1).sum((-2, -1))
        within = alone - (products.sum((-2, -1)) / hidden.clamp(min=1)).sum(-1)
        together = sums["of_masks"][..., masks, :][..., masks].sum((-2, -1)) / num_pairs
        total = sums["spreads"][pairs].sum(0) - together
        parts = [part.clamp(min=0) / sums["images"] for part in (within, total, sums["sizes"][pairs].sum(0))]
        return _shares(parts[0], float(num_pairs - num_positions), parts[1], float(num_pairs - 1), parts[2])

    def _pairs(self, masks: Sequence[int]) -> Bool[Tensor, " p"]:
        """Which pairs are of these masks."""
        return self.by_mask[:, list(masks)].sum(1) > 0


def _shares(within: Tensor, dof_within: float, total: Tensor, dof_total: float, size: Tensor) -> Float[Tensor, " s"]:
    """Of each head, then of all heads pooled."""
    within, total, size = (torch.cat([part, part.sum(0, keepdim=True)]) for part in (within, total, size))
    if dof_within < 1:
        return torch.full_like(within, math.nan)
    varies = total > NOTHING_VARIES * size
    return torch.where(varies, 1 - (within / dof_within) / (total / dof_total), math.nan)


def _one_hot(group: Int[Tensor, " p"]) -> Float[Tensor, "p g"]:
    groups = group.unique()
    return (group[:, None] == groups).double()


def _group_means(rows: Float[Tensor, "b p h k"], member: Float[Tensor, "p g"]) -> Float[Tensor, "b p h k"]:
    """For each pair the mean row of its group."""
    means = einsum(rows, member / member.sum(0), "b p h k, p g -> b g h k")
    return einsum(means, member, "b g h k, p g -> b p h k")
