"""Ridge regression of many targets at once, its strength chosen on held-out rows, never on those
under test."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.randomness import generator
from lcmae.shapes import Float, Int

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties that are tried, in units of a standardised feature's variance: x is the strength times
the number of rows."""

HELD_OUT = 5
"""One in so many training rows decides."""

LEAST_SCALE = 1e-6
"""A feature that spreads less than this is not scaled up."""


@dataclass(frozen=True)
class Ridge:
    """A linear map of standardised features."""

    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]
    weight: Float[Tensor, "d k"]
    bias: Float[Tensor, " k"]
    strength: Float[Tensor, " k"]
    """Chosen for each target's group."""

    def __call__(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Predicted targets, float64."""
        return (features.double() - self.mean) / self.scale @ self.weight + self.bias


def fit(features: Float[Tensor, "n d"], targets: Float[Tensor, "n k"], groups: Int[Tensor, " k"], seed: int) -> Ridge:
    """Each group of targets gets the strength of the least squared error on held-out rows; then all
    rows are used.

    Errors count in units of each target's variance; a target that never varies is predicted by its
    value.
    """
    order = torch.randperm(len(features), generator=generator("ridge-held-out", seed))
    held_out, rest = order[: len(order) // HELD_OUT], order[len(order) // HELD_OUT :]
    variance = targets.double().var(0, correction=0).clamp(min=1e-12)
    errors = []
    for ridge in _path(features[rest], targets[rest], STRENGTHS):
        error = (ridge(features[held_out]) - targets[held_out]).square().mean(0) / variance
        errors.append(torch.zeros(int(groups.max()) + 1, dtype=torch.float64).index_add(0, groups, error))
    best = torch.stack(errors).argmin(0)[groups]

    fitted = _path(features, targets, STRENGTHS)
    weight = torch.stack([ridge.weight for ridge in fitted])
    chosen = weight.gather(0, best.expand(1, len(weight[0]), -1))[0]
    first = fitted[0]
    return Ridge(first.mean, first.scale, chosen, first.bias, torch.tensor(STRENGTHS, dtype=torch.float64)[best])


def _path(features: Tensor, targets: Tensor, strengths: Sequence[float]) -> list[Ridge]:
    """One ridge a strength, from one eigendecomposition of the d x d second moments."""
    x, y = features.double(), targets.double()
    mean, scale = x.mean(0), x.std(0, correction=0).clamp(min=LEAST_SCALE)
    x, bias = (x - mean) / scale, y.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    onto = vectors.T @ (x.T @ (y - bias)) / len(x)
    return [
        Ridge(
            mean,
            scale,
            vectors @ (onto / (values.clamp(min=0) + strength)[:, None]),
            bias,
            torch.full_like(bias, strength),
        )
        for strength in strengths
    ]
