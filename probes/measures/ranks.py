"""How many directions do vectors use? Numbers made of eigenvalues. Each has a convention, and
others publish different ones.

Everything takes eigenvalues from `eigenvalues` (descending, clean of rounding), [d], in float64.
What is undefined is NaN.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lcmae.probes.statistics.moments import Moments
from lcmae.shapes import Float

CONSTANT = 1e-12
"""Variance below this share of the mean square is float32 rounding: so vectors, or one direction of
them, count as constant."""


def eigenvalues(matrix: Float[Tensor, "d d"], largest_rank: float) -> Float[Tensor, " d"]:
    """Descending eigenvalues of a positive semi-definite matrix of at most this rank; rounding is
    set to 0."""
    # numpy takes 1 ms for 192 x 192 whatever threads do; torch 15 where two of them wait passively
    # (OMP_WAIT_POLICY), as ours do
    values = torch.from_numpy(np.linalg.eigvalsh(matrix.numpy(force=True))).to(matrix.device).flip(0).clamp(min=0)
    values[max(0, int(largest_rank)) :] = 0
    return torch.where(values > len(values) * torch.finfo(values.dtype).eps * values[0], values, 0.0)


def variances(moments: Moments) -> Float[Tensor, " d"]:
    """Eigenvalues of the centred covariance; all 0 for constant vectors.

    A layer norm leaves one direction without variance but for float32 rounding, which a line
    through logarithms would see.
    """
    square = float(moments.second_moment.trace())
    if float(moments.covariance.trace()) <= CONSTANT * square:
        return torch.zeros_like(moments.total)
    values = eigenvalues(moments.covariance, moments.count - 1)
    return torch.where(values > CONSTANT * square / moments.width, values, 0.0)


def entropy_rank(values: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """exp of the entropy of non-negative values scaled to sum 1: 1 for one value, d for d equal
    ones; NaN for all 0."""
    return torch.special.entr(values / values.sum()).sum().exp()


def effective_rank(moments: Moments) -> Float[Tensor, ""]:
    """`entropy_rank` of the centred covariance's eigenvalues (Roy and Vetterli, 2007, on variances;
    as `lcmae.training.monitor`).

    Constant vectors span a point and score 1.
    """
    values = variances(moments)
    return entropy_rank(values) if values[0] > 0 else torch.ones((), dtype=values.dtype)


def rankme(moments: Moments, centre: bool = False, power: int = 1) -> Float[Tensor, ""]:
    """RankMe (Garrido et al., 2210.02885): `entropy_rank` of the singular values of the *uncentred*
    matrix of vectors.

    The paper adds 1e-7 to each share, for the logarithm's sake; here 0 log 0 = 0. `power` 2 takes
    variances instead, and `centre` subtracts the mean: with both it is `effective_rank`. NaN where
    all vectors are 0 (or, centred, constant).
    """
    values = variances(moments) if centre else eigenvalues(moments.second_moment, moments.count)
    return entropy_rank(values ** (power / 2))


def uniformity(normalised: Moments) -> Float[Tensor, ""]:
    """U-MAE's term (Zhang et al., 2210.08344): mean squared cosine of all pairs, the pair with
    itself included.

    Takes moments of vectors scaled to length 1: mean_ij (z_i . z_j)^2 = |C|_F^2. NaN where all
    vectors are 0.
    """
    square = normalised.second_moment.square().sum()
    return square if square > 0 else torch.full_like(square, math.nan)


def uniformity_of_others(normalised: Moments) -> Float[Tensor, ""]:
    """The same without the pair with itself: unbiased, 1/d in expectation for even directions. NaN
    for one vector."""
    count = normalised.count
    if count < 2:
        return torch.full((), math.nan, dtype=torch.float64)
    return (count * uniformity(normalised) - 1) / (count - 1)


def participation_ratio(values: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """(sum l)^2 / sum l^2. Of normalised vectors' second moment it is 1 / `uniformity`."""
    return values.sum().square() / values.square().sum()


def alpha_req(values: Float[Tensor, " d"], first: int = 11, last: int = 100) -> Float[Tensor, ""]:
    """alpha of a power law l_i ~ i^-alpha (Agrawal et al., "alpha-ReQ", NeurIPS 2022), by
    eigenvalues of rank first to last.

    A least-squares line through (log i, log l_i) with weights 1/i; ranks count from 1, and
    eigenvalues of 0 are left out. NaN with fewer than 5 eigenvalues in that range.
    """
    rank = torch.arange(1, len(values) + 1, dtype=values.dtype)
    used = (rank >= first) & (rank <= last) & (values > 0)
    if int(used.sum()) < 5:
        return torch.full((), math.nan, dtype=values.dtype)
    x, y, weight = rank[used].log(), values[used].log(), 1 / rank[used]
    weight = weight / weight.sum()
    x = x - (weight * x).sum()
    return -(weight * x * y).sum() / (weight * x.square()).sum()


def mask_share(between: Moments, within: Moments, num_views: int) -> Float[Tensor, ""]:
    """Share of the scatter between images' means that their views alone would make: about 1 where
    images do not differ, 0 where views do not. lcmae's own, for `lidar`.

    The mean of q views of one image scatters by the views' variance / q, which adds to Sb whatever
    the images are; deviations from the mean have (q - 1) / q of that variance.
    """
    if between.count < 2 or num_views < 2:
        return torch.full((), math.nan, dtype=torch.float64)
    own = between.covariance.trace() * between.count / (between.count - 1)
    of_views = within.second_moment.trace() / (num_views - 1)
    return of_views / torch.where(own > 0, own, math.nan)


def lidar(between: Moments, within: Moments, ridge: float = 1e-4) -> Float[Tensor, ""]:
    """LiDAR (Thilak et al., 2312.04000, section 4): `entropy_rank` of the eigenvalues of Sw^-1/2 Sb
    Sw^-1/2.

    `between`: moments of each image's mean over its views; `within`: moments of the views'
    deviations from it. Sw has `ridge` added to its diagonal, as published (1e-4, absolute). NaN for
    one image, or images that all look the same.
    """
    if between.count < 2 or float(variances(between)[0]) == 0:
        return torch.full((), math.nan, dtype=torch.float64)
    scatter = within.second_moment + ridge * torch.eye(within.width, dtype=torch.float64)
    # the eigenvalues of L^-1 Sb L^-T, with Sw = L L^T, are those of Sw^-1/2 Sb Sw^-1/2
    root = torch.linalg.cholesky(scatter)
    half = torch.linalg.solve_triangular(root, between.covariance, upper=False)
    ratio = torch.linalg.solve_triangular(root, half.T, upper=False)
    return entropy_rank(eigenvalues((ratio + ratio.T) / 2, between.count - 1))
