"""How alike are pairs of vectors, by the overlap of what was visible? Sums by image, from which
everything is made at the end.

The raw cosine is a mean over pairs. Centred, the cosine of each pair would need the mean of all
vectors before the first pair is seen; so that one pass suffices we take the ratio of sums instead,
an intraclass correlation:

    sum (a - mu) . (b - mu)  /  1/2 sum (|a - mu|^2 + |b - mu|^2)
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lcmae.probes.measures.ranks import CONSTANT
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.shapes import Bool, Float, Int

PairsOfVectors = Iterable[tuple[Float[Tensor, "b s d"], Float[Tensor, "b s d"], Bool[Tensor, "b s"], Int[Tensor, " b"]]]
"""Pairs of each image: two sides, which of their s vectors count, and the bin of overlap of the
image's pair."""


class Alignment:
    """Cosine and correlation of pairs of vectors (tokens, or one pooled vector), by kind of pair
    and bin of overlap."""

    def __init__(self, num_images: int, num_bins: int, kinds: tuple[str, ...]) -> None:
        self.num_bins = num_bins
        self.pairs = {kind: GroupedSums(num_images) for kind in kinds}
        self.vectors = GroupedSums(num_images)
        self.origin: Tensor | None = None

    @property
    def degrees_of_freedom(self) -> int:
        """Of the standard errors."""
        return self.vectors.degrees_of_freedom

    def see(self, indices: Iterable[int], vectors: Float[Tensor, "b s d"], weight: Float[Tensor, "b s"]) -> None:
        """Take in the vectors whose mean is the centre; before the pairs they make."""
        vectors, weight = vectors.double(), weight.double()
        if self.origin is None:
            # sums are taken about a first guess of the mean, so that nothing cancels
            self.origin = (vectors * weight[..., None]).sum((0, 1)) / weight.sum().clamp(min=1)
        part = vectors - self.origin
        self.vectors.add(
            indices,
            count=weight.sum(1),
            total=(part * weight[..., None]).sum(1),
            square=(part.square().sum(-1) * weight).sum(1),
        )

    def add(self, kind: str, indices: Iterable[int], pairs: PairsOfVectors) -> None:
        """Take in pairs of one kind."""
        total: dict[str, Tensor] = {}
        for first, second, counts, index in pairs:
            own = torch.nn.functional.one_hot(index, self.num_bins).double()
            for name, value in self._sums(first.double(), second.double(), counts.double()).items():
                binned = own.reshape(*own.shape, *[1] * (value.ndim - 1)) * value[:, None]
                total[name] = total[name] + binned if name in total else binned
        if total:
            self.pairs[kind].add(indices, **total)

    def _sums(self, first: Tensor, second: Tensor, weight: Tensor) -> dict[str, Tensor]:
        assert self.origin is not None
        length = first.norm(dim=-1) * second.norm(dim=-1)
        cosine = (first * second).sum(-1) / torch.where(length > 0, length, 1.0)
        first, second = first - self.origin, second - self.origin
        middle = (first + second) / 2
        return {
            "count": weight.sum(1),
            "cosine": (cosine * weight).sum(1),
            "product": ((first * second).sum(-1) * weight).sum(1),
            "square": ((first.square() + second.square()).sum(-1) / 2 * weight).sum(1),
            "middle": (middle * weight[..., None]).sum(1),
        }

    def result(self, kind: str) -> tuple[Float[Tensor, "c o"], Float[Tensor, "c o"]]:
        """Value and standard error, [centring overlap]: raw cosine and centred correlation, in each
        bin and then overall.

        NaN where there are no pairs, and for the correlation of constant vectors.
        """
        if not self.pairs[kind].sums:
            nothing = torch.full((2, self.num_bins + 1), math.nan, dtype=torch.float64)
            return nothing, nothing
        # the mean of all vectors is known far better than any correlation: groups leave out pairs,
        # not the centre
        seen = {name: value.sum(0) for name, value in self.vectors.sums.items()}
        assert self.origin is not None
        step = seen["total"] / seen["count"]
        spread = seen["square"] / seen["count"] - step.square().sum()
        if spread <= CONSTANT * (spread + (self.origin.cpu() + step).square().sum()):
            step = torch.full_like(step, math.nan)

        def of_sums(total: dict[str, Tensor]) -> Tensor:
            # a last column for all bins together
            total = {name: torch.cat([value, value.sum(0, keepdim=True)]) for name, value in total.items()}
            shift = total["count"] * step.square().sum() - 2 * total["middle"] @ step
            correlation = (total["product"] + shift) / (total["square"] + shift)
            return torch.stack([total["cosine"], correlation * total["count"]]) / total["count"]

        return self.pairs[kind].estimate(of_sums)

    def num_pairs(self, kind: str) -> Float[Tensor, " o"]:
        """Pairs of vectors in each bin, and overall."""
        if not self.pairs[kind].sums:
            return torch.zeros(self.num_bins + 1, dtype=torch.float64)
        count = self.pairs[kind].sums["count"].sum(0)
        return torch.cat([count, count.sum()[None]])
