"""Sums that merge: a mean and a covariance of vectors, batch after batch, in float64 and without
keeping a batch."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.shapes import Float

NUM_GROUPS = 32
"""Groups of images whose means are kept, so that two results over the same images can be compared
in pairs."""

GROUPED = 64
"""Means of more numbers than these (maps, curves) are not kept by group."""

_ROUNDING = 1e-13
"""Of a squared length: a few times float32's epsilon, squared."""


@dataclass
class RunningMean:
    """Mean and standard error over images of one or many numbers, by Chan's merge of centred second
    moments.

    Image i also counts in group i mod `NUM_GROUPS`, whose sums are kept: a flat cost, and a
    difference of two models has a paired error by them (`lcmae.probes.results.differences`).
    """

    count: int = 0
    mean: Tensor | None = None
    squares: Tensor | None = None
    group_sums: Tensor | None = None
    """[NUM_GROUPS ...]; None for more than `GROUPED` numbers an image."""

    def add(self, values: Float[Tensor, "b ..."]) -> None:
        """Take in one value (of any shape) an image."""
        values = values.detach().double().cpu()
        count, mean = len(values), values.mean(0)
        if mean.numel() <= GROUPED:
            if self.group_sums is None:
                self.group_sums = values.new_zeros(NUM_GROUPS, *mean.shape)
            self.group_sums.index_add_(0, (self.count + torch.arange(count)) % NUM_GROUPS, values)
        squares = (values - mean).square().sum(0)
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total = self.count + count
        step = mean - self.mean
        self.squares = self.squares + squares + step.square() * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    def part(self, which: Any) -> "RunningMean":
        """Of the numbers at `which` along the last axis."""
        assert self.mean is not None
        assert self.squares is not None
        sums = None if self.group_sums is None else self.group_sums[..., which]
        return RunningMean(self.count, self.mean[..., which], self.squares[..., which], sums)

    @property
    def group_means(self) -> Tensor | None:
        """Means of the groups, [NUM_GROUPS ...]; NaN where there are fewer images than groups."""
        if self.group_sums is None:
            return None
        return self.group_sums / group_sizes(self.count).reshape(-1, *[1] * (self.group_sums.ndim - 1))

    @property
    def degrees_of_freedom(self) -> int:
        """Of `sem`."""
        return max(self.count - 1, 0)

    @property
    def sem(self) -> Tensor:
        """Standard error of the mean over images; NaN for a single image."""
        assert self.squares is not None
        if self.count < 2:
            return torch.full_like(self.squares, math.nan)
        return (self.squares / (self.count - 1) / self.count).sqrt()


def group_sizes(count: int) -> Float[Tensor, " g"]:
    """Images in each group of `count` images."""
    return torch.bincount(torch.arange(count) % NUM_GROUPS, minlength=NUM_GROUPS).double()


@dataclass
class RunningCovariance:
    """Mean and covariance of vectors, one an image, by Chan's merge; d x d numbers whatever the
    number of images."""

    count: int = 0
    mean: Tensor | None = None
    scatter: Tensor | None = None

    def add(self, vectors: Float[Tensor, "b d"]) -> None:
        """Take in vectors."""
        vectors = vectors.detach().double().cpu()
        count, mean = len(vectors), vectors.mean(0)
        centred = vectors - mean
        scatter = centred.T @ centred
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        total = self.count + count
        step = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(step, step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Covariance with divisor N (the spread of these vectors, not an estimate for others)."""
        assert self.scatter is not None
        return self.scatter / self.count


class RunningGroupMeans:
    """Vectors that belong to groups (positions): the share of their variance that the group alone
    explains."""

    def __init__(self, num_images: int) -> None:
        self.sums = GroupedSums(num_images)
        self.seen = 0
        self.centre: Tensor | None = None

    def add(self, vectors: Float[Tensor, "b n d"], weight: Float[Tensor, "b n"]) -> None:
        """Take in the vector of each image and group, `weight` times (0 leaves it out)."""
        vectors, weight = vectors.detach().double().cpu(), weight.detach().double().cpu()
        if self.centre is None:
            # sums are taken around a first guess of the mean, so that squares do not cancel
            self.centre = (vectors * weight[..., None]).sum((0, 1)) / weight.sum().clamp(min=1)
        vectors = vectors - self.centre
        self.sums.add(
            range(self.seen, self.seen + len(vectors)),
            count=weight,
            total=vectors * weight[..., None],
            squares=(vectors.square().sum(-1) * weight).sum(1),
        )
        self.seen += len(vectors)

    @property
    def share(self) -> float:
        """Between-group share of the variance, in [0, 1]; NaN where nothing varies beyond float32's
        rounding."""
        return float(self.estimate()[0])

    def estimate(self) -> tuple[Tensor, Tensor]:
        """`share`, and its standard error over images (jackknife)."""
        return self.sums.estimate(self._share)

    def leave_out(self) -> tuple[Tensor, Float[Tensor, " g"]]:
        """`share`, and without each group of images."""
        return self.sums.leave_out(self._share)

    def _share(self, sums: dict[str, Tensor]) -> Tensor:
        assert self.centre is not None
        count, total = sums["count"], sums["total"]
        mean = total.sum(0) / count.sum()
        spread = sums["squares"] - count.sum() * mean.square().sum()
        # the same vector over and over has a spread of rounding errors, whose share would be a
        # number about nothing
        rounding = _ROUNDING * count.sum() * (self.centre + mean).square().sum()
        if not bool(spread > rounding):
            return torch.full((), math.nan, dtype=torch.float64)
        group_mean = total / torch.where(count > 0, count, 1.0)[:, None]
        between = (count * (group_mean - mean).square().sum(-1)).sum()
        return (between / spread).clamp(max=1)
