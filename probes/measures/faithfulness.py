"""Does an attribution name the features that matter? Deletion and insertion curves, and how widely
an attribution is spread: pure functions of attributions [r v] of v features.

Source: deletion and insertion, Petsiuk et al. (RISE, 1806.07421): features are taken away, or put
back, from the one of the highest attribution on, and the area under the score is its measure. The
difference of both areas is lcmae's own number: a random order has 0 in expectation, whatever the
model, since what is there at one end of its deletion is as random as at the other end of its
insertion (`steps_of` is symmetric for that).
"""

import torch
from torch import Tensor

from lcmae.probes.measures.attention import entropy
from lcmae.shapes import Float, Int


def steps_of(num_features: int, num_parts: int) -> Int[Tensor, " k"]:
    """Numbers of features from 0 to all at about even steps, symmetric about the middle."""
    parts = min(num_parts, num_features)
    lower = {part * num_features // parts for part in range(parts // 2 + 1)}
    return torch.tensor(sorted(lower | {num_features - number for number in lower}))


def removed(attribution: Float[Tensor, "r v"], steps: Int[Tensor, " k"]) -> Float[Tensor, "k r v"]:
    """1 for the features of the highest attribution, as many as each step says; of equal ones the
    first in order."""
    rank = attribution.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank[None] < steps.to(rank.device)[:, None, None]).to(attribution.dtype)


def area(curve: Float[Tensor, "... k"], steps: Int[Tensor, " k"]) -> Float[Tensor, "..."]:
    """Area under a curve of values at `steps`, which span 1."""
    return torch.trapezoid(curve, steps.to(curve.dtype) / steps[-1], dim=-1)


def spread_of(attribution: Float[Tensor, "r v"]) -> Float[Tensor, " r"]:
    """Over how many features it is spread: exp of the entropy of its magnitudes' shares; NaN where
    all are 0."""
    return entropy(shares(attribution)).exp()


def mean_reach(attribution: Float[Tensor, "r v"], distance: Float[Tensor, "r v"]) -> Float[Tensor, " r"]:
    """Distance of the features, weighted by the magnitudes of attribution; NaN where all are 0."""
    return (shares(attribution) * distance).sum(1)


def shares(attribution: Float[Tensor, "r v"]) -> Float[Tensor, "r v"]:
    """Magnitudes over their sum."""
    size = attribution.double().abs()
    total = size.sum(1, keepdim=True)
    return torch.where(total > 0, size / total, torch.nan)
