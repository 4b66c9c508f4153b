"""What needs pairs of points: distances, neighbours, and the numbers made of them. For capped
samples."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lcmae.probes.statistics.jackknife import NUM_GROUPS, standard_error
from lcmae.shapes import Float, Int

SAME = 1e-6
"""Points closer than this share of their root-mean-square length are one point: float32 cannot tell
them apart."""


def distances(points: Float[Tensor, "s d"]) -> Float[Tensor, "s s"]:
    """Euclidean distances in float64, by differences (products would cancel for near
    neighbours)."""
    points = points.double()
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def two_nn(distance: Float[Tensor, "s s"], same: float = 0.0, discard: float = 0.1) -> Float[Tensor, ""]:
    """Intrinsic dimension by the ratio of the distances to the second and first neighbour (Facco et
    al., 1803.06992).

    mu = r2 / r1 follows 1 - mu^-d, so the slope of -log(1 - F) against log mu, through the origin,
    is d; as in the paper the largest tenth is discarded. A point with a neighbour at distance
    `same` or less is left out. NaN with fewer than 3 points.
    """
    if len(distance) < 3:
        return torch.full((), math.nan, dtype=torch.float64)
    return _slope(_log_ratios(distance, same)[0], discard)


def estimate_two_nn(
    distance: Float[Tensor, "s s"], same: float = 0.0, discard: float = 0.1, num_groups: int = NUM_GROUPS
) -> tuple[Tensor, Tensor]:
    """`two_nn` and its standard error by leaving out every so many-th ratio, of neighbours among
    all points: ratios count as independent, as in the paper. Points that were left out would give
    others new neighbours, and so new noise, which made errors nearly twice too large."""
    whole = two_nn(distance, same, discard)
    if bool(whole.isnan()):
        return whole, whole
    ratios, point = _log_ratios(distance, same)
    group = point % num_groups
    others = [group != one for one in range(num_groups) if bool((group == one).any())]
    sizes = torch.tensor([float((~keep).sum()) for keep in others])
    return whole, standard_error(whole, torch.stack([_slope(ratios[keep], discard) for keep in others]), sizes)


def _log_ratios(distance: Float[Tensor, "s s"], same: float) -> tuple[Float[Tensor, " r"], Int[Tensor, " r"]]:
    """log mu, and of which point."""
    # the point itself, at distance 0, is no neighbour
    nearest = distance.masked_fill(torch.eye(len(distance), dtype=torch.bool), math.inf).topk(2, largest=False).values
    usable = nearest[:, 0] > same
    return (nearest[usable, 1] / nearest[usable, 0]).log(), usable.nonzero()[:, 0]


def _slope(ratios: Float[Tensor, " r"], discard: float) -> Float[Tensor, ""]:
    ratios, count = ratios.sort().values, len(ratios)
    below = torch.arange(1, count + 1, dtype=torch.float64) / max(count, 1)
    keep = int(count * (1 - discard))
    x, y = ratios[:keep], -torch.log1p(-below[:keep])
    return (x * y).sum() / x.square().sum()


def wang_isola(distance: Float[Tensor, "s s"], scale: float = 2.0) -> Float[Tensor, ""]:
    """Uniformity of Wang and Isola (2005.10242): log of the mean over pairs of exp(-2 |x - y|^2),
    of vectors of length 1.

    0 when all are equal; lower is more even. NaN for one point.
    """
    first, second = torch.triu_indices(len(distance), len(distance), 1)
    if not len(first):
        return torch.full((), math.nan, dtype=torch.float64)
    exponent = -scale * distance[first, second].square()
    return exponent.logsumexp(0) - math.log(len(first))


def estimate_from_sample(
    statistic: Callable[[Float[Tensor, "s s"]], Tensor], distance: Float[Tensor, "s s"], num_groups: int = NUM_GROUPS
) -> tuple[Tensor, Tensor]:
    """`statistic` of a sample's distances, and its standard error by leaving out every so many-th
    point."""
    size = len(distance)
    group = torch.arange(size) % num_groups
    whole = statistic(distance)
    others = [group != index for index in range(min(num_groups, size))]
    sizes = torch.tensor([float(size - int(keep.sum())) for keep in others])
    without = torch.stack([statistic(distance[keep][:, keep]) for keep in others])
    return whole, standard_error(whole, without, sizes)
