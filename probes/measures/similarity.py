"""Is the geometry of two sets of points the same? Numbers made of inner products and distances of
the same points.

All take g sets of s points at once, in float64, and return one number a set. What is undefined (too
few points, constant points) is NaN.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.probes.measures.ranks import CONSTANT
from lcmae.shapes import Bool, Float, Int


@dataclass(frozen=True)
class Geometry:
    """What is compared of g sets of s points: inner products of centred points, and distances; NaN
    for constant points."""

    gram: Float[Tensor, "g s s"]
    distance: Float[Tensor, "g s s"]

    @classmethod
    def of(cls, points: Float[Tensor, "g s d"]) -> "Geometry":
        """Points of a set whose spread is float32 rounding count as constant."""
        points = points.double()
        centred = points - points.mean(1, keepdim=True)
        constant = centred.square().sum((1, 2)) <= CONSTANT * points.square().sum((1, 2))
        gram = centred @ centred.transpose(1, 2)
        # by differences, so that equal points have distance 0 and tie exactly
        distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        gap = torch.where(constant, math.nan, 0.0)[:, None, None]
        return cls(gram + gap, distance + gap)

    def only(self, is_chosen: Bool[Tensor, " s"]) -> "Geometry":
        """Some of the points of every set."""
        return Geometry(self.gram[:, is_chosen][:, :, is_chosen], self.distance[:, is_chosen][:, :, is_chosen])


@dataclass(frozen=True)
class Traits:
    """What is ranked or counted of a geometry once, to be compared with many others."""

    gram: Float[Tensor, "g s s"]
    norm: Float[Tensor, " g"]
    """HSIC_1 with itself."""

    ranks: Float[Tensor, "g q"]
    """Ranks of the distances of all q pairs."""

    near: Bool[Tensor, "g s s"] | None
    """Whether the second point is among the k nearest of the first; None where there are no more
    than k others."""

    num_neighbours: int

    @classmethod
    def of(cls, geometry: Geometry, num_neighbours: int) -> "Traits":
        """Among equally distant points, which are the nearest is left to chance."""
        gram, distance = geometry.gram, geometry.distance
        count = gram.shape[-1]
        rows, columns = torch.triu_indices(count, count, 1)
        near = None
        if count > num_neighbours + 1:
            others = distance.masked_fill(torch.eye(count, dtype=torch.bool), math.inf)
            nearest = others.topk(num_neighbours, largest=False).indices
            near = torch.zeros_like(gram, dtype=torch.bool).scatter_(-1, nearest, True)
        return cls(gram, hsic(gram, gram), average_ranks(distance[:, rows, columns]), near, num_neighbours)


def hsic(first: Float[Tensor, "g s s"], second: Float[Tensor, "g s s"]) -> Float[Tensor, " g"]:
    """Unbiased HSIC_1 (Song et al., JMLR 13 (2012), equation 5; as in 2010.15327): may be negative.
    NaN below 4 points."""
    count = first.shape[-1]
    if count < 4:
        return first.new_full((len(first),), math.nan)
    off = 1 - torch.eye(count, dtype=first.dtype)
    first, second = first * off, second * off
    rows, columns = first.sum(-1), second.sum(-1)
    trace = (first * second).sum((1, 2))
    both = rows.sum(-1) * columns.sum(-1) / ((count - 1) * (count - 2))
    cross = 2 / (count - 2) * (rows * columns).sum(-1)
    return (trace + both - cross) / (count * (count - 3))


def compare(first: Traits, second: Traits) -> Float[Tensor, "g 5"]:
    """Per set: HSIC_1 of both, of the first and of the second with itself (for `cka`); RSA; shared
    neighbours."""
    return torch.stack(
        [hsic(first.gram, second.gram), first.norm, second.norm, rsa(first, second), mutual_neighbours(first, second)],
        dim=-1,
    )


def cka(products: Float[Tensor, "g 3"]) -> Float[Tensor, ""]:
    """Debiased linear CKA over minibatches (Nguyen, Raghu and Kornblith, 2010.15327, equation 2):
    the sets are the minibatches.

    Of the first three columns of `compare`, each averaged over the sets where all are defined:
    HSIC_1 of both over the root of the product of HSIC_1 of each with itself. NaN where one of
    these is not above 0, as happens to points that hardly differ: the estimate is unbiased, so
    noise makes it negative.
    """
    both, one, two = products[~products.isnan().any(-1)].mean(0)
    is_defined = (one > 0) & (two > 0)
    return both / torch.where(is_defined, one * two, torch.nan).sqrt()


def rsa(first: Traits, second: Traits) -> Float[Tensor, " g"]:
    """Representational similarity (Kriegeskorte et al., 2008): Spearman correlation of the
    distances of all pairs of points."""
    one, two = (traits.ranks - traits.ranks.mean(-1, keepdim=True) for traits in (first, second))
    correlation = (one * two).sum(-1) / (one.square().sum(-1) * two.square().sum(-1)).sqrt()
    return _where_defined(first, second, correlation)


def mutual_neighbours(first: Traits, second: Traits) -> Float[Tensor, " g"]:
    """Share of each point's k nearest neighbours that both have in common, mean over points (Huh et
    al., 2405.07987).

    Chance is k / (s - 1). NaN where there are no more than k other points.
    """
    if first.near is None or second.near is None:
        return torch.full_like(first.norm, math.nan)
    shared = (first.near & second.near).sum((1, 2)).double()
    return _where_defined(first, second, shared / (first.gram.shape[-1] * first.num_neighbours))


def _where_defined(first: Traits, second: Traits, value: Float[Tensor, " g"]) -> Float[Tensor, " g"]:
    undefined = (first.gram + second.gram).isnan().any(-1).any(-1)
    return torch.where(undefined, math.nan, value)


def average_ranks(values: Float[Tensor, "g s"]) -> Float[Tensor, "g s"]:
    """Ranks from 0 along the last axis; equal values share the mean of their ranks."""
    values = values.contiguous()
    sorted_values = values.sort(-1).values
    first = torch.searchsorted(sorted_values, values, right=False)
    last = torch.searchsorted(sorted_values, values, right=True) - 1
    return (first + last).double() / 2


def sliced_wasserstein(
    first: Float[Tensor, "g s p"], second: Float[Tensor, "g s p"], directions: Float[Tensor, "p r"]
) -> Float[Tensor, " g"]:
    """Sliced 2-Wasserstein distance of two sets of equally many points (Rabin et al., 2011; Bonneel
    et al., 2015).

    The root of the mean over `directions` (unit columns) of the squared distance of the sorted
    projections.
    """
    one, two = ((points.double() @ directions).sort(1).values for points in (first, second))
    return (one - two).square().mean((1, 2)).sqrt()


FLAT = 1e-6
"""A Gram matrix this small beside another's says nothing: about float32's rounding."""


def gram_gap(first: Float[Tensor, "g s p"], second: Float[Tensor, "g s p"]) -> Float[Tensor, " g"]:
    """|P P^T - T T^T|_F / |T T^T|_F of points P and T, uncentred (lcmae's own).

    NaN where T is 0, or 0 but for float32 rounding beside P (below `FLAT`): normalised patches of a
    flat image are what is left of its mean's rounding. From p x p products, one set's at a time, so
    that any number of points and sets fits:
    |P P^T - T T^T|^2 = |P^T P|^2 + |T^T T|^2 - 2 |P^T T|^2.
    """

    def square(one: Tensor, two: Tensor) -> Tensor:
        products = (a.double().T @ b.double() for a, b in zip(one, two, strict=True))
        return torch.stack([product.square().sum() for product in products])

    own, other = square(second, second), square(first, first)
    gap = (other + own - 2 * square(first, second)).clamp(min=0)
    return (gap / torch.where(own > FLAT**2 * other, own, torch.nan)).sqrt()


def unit_directions(width: int, count: int, rng: torch.Generator) -> Float[Tensor, "p r"]:
    """Random directions, columns of length 1."""
    return torch.nn.functional.normalize(torch.randn(width, count, generator=rng, dtype=torch.float64), dim=0)


def shuffles(num_sets: int, num_points: int, rng: torch.Generator) -> Int[Tensor, "g s"]:
    """A permutation of the points for each set."""
    return torch.rand(num_sets, num_points, generator=rng).argsort(-1)
