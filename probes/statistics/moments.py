"""Streaming d x d moments of vectors in float64, by group of images, so that what is made of them
has a standard error."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.probes.statistics.jackknife import NUM_GROUPS, standard_error
from lcmae.shapes import Float, Int


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of outer products of vectors, taken about `origin` (near their mean, so
    that nothing cancels)."""

    count: float
    total: Float[Tensor, " d"]
    outer: Float[Tensor, "d d"]
    origin: Float[Tensor, " d"]

    @property
    def width(self) -> int:
        return len(self.total)

    @property
    def mean(self) -> Float[Tensor, " d"]:
        return self.origin + self.total / self.count

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Centred, with divisor N."""
        step = self.total / self.count
        return self.outer / self.count - torch.outer(step, step)

    @property
    def second_moment(self) -> Float[Tensor, "d d"]:
        """Uncentred: the mean of x x^T."""
        return self.covariance + torch.outer(self.mean, self.mean)


class OuterProducts:
    """The sum of outer products of vectors, kept as the vectors themselves while they are few: at
    most 1.25 d x d numbers."""

    def __init__(self) -> None:
        self.summed: Tensor | None = None
        self.waiting: list[Tensor] = []

    def add(self, vectors: Float[Tensor, "n d"]) -> None:
        self.waiting.append(vectors)
        if 4 * sum(map(len, self.waiting)) > vectors.shape[1]:
            self.summed, self.waiting = self.total(), []

    def total(self) -> Float[Tensor, "d d"]:
        """Of at least one vector."""
        rows = torch.cat(self.waiting) if self.waiting else None
        if self.summed is None:
            assert rows is not None
            return rows.T @ rows
        return self.summed if rows is None else torch.addmm(self.summed, rows.T, rows)


class GroupedMoments:
    """Moments by group of images: at most 1.25 x num_groups x d x d numbers, whatever the number of
    vectors."""

    def __init__(self, num_groups: int = NUM_GROUPS) -> None:
        self.num_groups = num_groups
        self.origin: Tensor | None = None

    def add(self, vectors: Float[Tensor, "b t d"], group: Int[Tensor, " b"]) -> None:
        """Take in t vectors an image. Sums stay on the vectors' device."""
        vectors = vectors.detach().double()
        width = vectors.shape[-1]
        if self.origin is None:
            self.origin = vectors.mean((0, 1))
            self.images = torch.zeros(self.num_groups, dtype=torch.float64)
            self.count = torch.zeros(self.num_groups, dtype=torch.float64)
            self.total = vectors.new_zeros(self.num_groups, width)
            self.outer = [OuterProducts() for _ in range(self.num_groups)]
        for index in group.unique().tolist():
            own = group == index
            part = vectors[own.to(vectors.device)].flatten(0, 1) - self.origin
            self.images[index] += int(own.sum())
            self.count[index] += len(part)
            self.total[index] += part.sum(0)
            self.outer[index].add(part)

    def whole(self) -> Moments:
        """Of all groups together."""
        return self._of(self.filled)

    def without(self, group: int) -> Moments:
        """Of all groups but one."""
        return self._of([index for index in self.filled if index != group])

    def _of(self, groups: list[int]) -> Moments:
        assert self.origin is not None
        width = len(self.origin)
        outer = self.origin.new_zeros(width, width)
        for index in groups:
            outer += self.outer[index].total()
        return Moments(float(self.count[groups].sum()), self.total[groups].sum(0).cpu(), outer.cpu(), self.origin.cpu())

    @property
    def degrees_of_freedom(self) -> int:
        """Of the standard errors of `estimate`."""
        return max(len(self.filled) - 1, 0)

    @property
    def filled(self) -> list[int]:
        """Groups that saw an image."""
        return self.images.nonzero().flatten().tolist()


def estimate(statistic: Callable[..., Tensor], *parts: GroupedMoments) -> tuple[Tensor, Tensor]:
    """`statistic` of one or several moments of the same images, and its standard error over images
    (jackknife)."""
    first = parts[0]
    whole = statistic(*(part.whole() for part in parts))
    if len(first.filled) < 2:
        return whole, torch.full_like(whole, torch.nan)
    without = [statistic(*(part.without(group) for part in parts)) for group in first.filled]
    return whole, standard_error(whole, torch.stack(without), first.images[first.filled])
