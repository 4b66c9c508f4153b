"""An affine map from one model's tokens to another's: ridge regression in closed form, from sums
that grow with the width and never with the images.

With X the tokens of A about their mean and Y those of B, `W = (X'X / n + r v I)^-1 X'Y / n`, v the
mean variance of A's tokens and r one of `RIDGES`: the one whose map errs least on held-out images;
the map is then fitted on all of them.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lcmae.shapes import Float

RIDGES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""Shares of the mean variance; tokens behind a layer norm have a direction without variance, so
there is always some."""


@dataclass(frozen=True)
class AffineMap:
    """`x @ weight + bias`."""

    weight: Float[Tensor, "d e"]
    bias: Float[Tensor, " e"]

    def __call__(self, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... e"]:
        return tokens @ self.weight + self.bias


@dataclass
class Moments:
    """Sums over tokens x of A and y of B."""

    count: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, x: Float[Tensor, "r d"], y: Float[Tensor, "r e"]) -> None:
        """Take in rows of both."""
        x, y = x.double(), y.double()
        self.count += len(x)
        found = {"x": x.sum(0), "y": y.sum(0), "xx": x.T @ x, "xy": x.T @ y, "yy": y.square().sum()}
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in found.items()}

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, {name: self.sums[name] + other.sums[name] for name in self.sums})

    def fit(self, ridge: float) -> AffineMap:
        """The map with this ridge."""
        mean_x, mean_y = self.sums["x"] / self.count, self.sums["y"] / self.count
        xx = self.sums["xx"] / self.count - torch.outer(mean_x, mean_x)
        xy = self.sums["xy"] / self.count - torch.outer(mean_x, mean_y)
        level = xx.diagonal().mean().clamp(min=1e-12)
        weight = torch.linalg.solve(xx + ridge * level * torch.eye(len(xx), dtype=xx.dtype, device=xx.device), xy)
        return AffineMap(weight, mean_y - mean_x @ weight)

    def constant(self) -> AffineMap:
        """The map that gives the mean of y, whatever x is."""
        return AffineMap(torch.zeros_like(self.sums["xy"]), self.sums["y"] / self.count)

    def error(self, found: AffineMap) -> float:
        """Mean squared error of a map on these tokens, summed over their width."""
        weight, bias, total = found.weight, found.bias, self.sums
        squared = (weight * (total["xx"] @ weight)).sum() + self.count * bias.square().sum()
        cross = (weight * total["xy"]).sum() + bias @ total["y"] - (total["x"] @ weight) @ bias
        return float((total["yy"] + squared - 2 * cross) / self.count)


def chosen_map(fitted: Moments, held_out: Moments) -> tuple[AffineMap, float]:
    """The map whose ridge errs least on held-out tokens, fitted on all of them, and that ridge;
    the smallest of several that err alike to rounding."""
    errors = {ridge: held_out.error(fitted.fit(ridge)) for ridge in RIDGES}
    least = min(errors.values())
    room = 1e-9 * abs(float(held_out.sums["yy"])) / held_out.count
    ridge = min(ridge for ridge, error in errors.items() if error <= least + room)
    return (fitted + held_out).fit(ridge), ridge
