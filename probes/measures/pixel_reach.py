"""What a linear map reads off a token of the patches around it: a pure function of tokens and
patches, both [s n ...]."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.probes.measures import ridge
from lcmae.shapes import Float, Int

_ROUNDING = 1e-10


def interior(grid: tuple[int, int], radius: int) -> Int[Tensor, " i"]:
    """Patches whose neighbours within `radius` rows and columns all lie in the image, in raster
    order."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    fits = [(at >= radius) & (at < size - radius) for at, size in zip((rows, columns), grid, strict=True)]
    return (fits[0] & fits[1]).flatten().nonzero().flatten()


def offsets(radius: int) -> list[tuple[int, int]]:
    """(down, across), row by row."""
    steps = range(-radius, radius + 1)
    return [(down, across) for down in steps for across in steps]


def around(patches: Float[Tensor, "s n q"], grid: tuple[int, int], radius: int) -> Float[Tensor, "s i o q"]:
    """The patches at each offset of every interior patch."""
    where = interior(grid, radius)
    return torch.stack([patches[:, where + down * grid[1] + across] for down, across in offsets(radius)], dim=2)


@dataclass(frozen=True)
class Read:
    """Sums of squares of each image and offset."""

    error: Float[Tensor, "s o"]
    total: Float[Tensor, "s o"]
    """About the mean of each position over the images of the fit."""

    strength: Float[Tensor, " o"]
    """Of the ridge, in units of a standardised feature's variance."""


def read(
    fit_tokens: Float[Tensor, "s i d"],
    fit_targets: Float[Tensor, "s i o q"],
    tokens: Float[Tensor, "t i d"],
    targets: Float[Tensor, "t i o q"],
    seed: int,
) -> Read:
    """Ridge regression of all offsets' patches on the tokens of interior patches, its strength
    chosen for each offset on held-out rows; errors on other images. Tokens and targets are taken
    about the mean of each position over the images of the fit: what position tells counts for
    nothing."""
    token_mean, target_mean = fit_tokens.double().mean(0), fit_targets.double().mean(0)
    size, values = fit_targets.shape[2:]
    x, y = fit_tokens.double() - token_mean, fit_targets.double() - target_mean
    groups = torch.arange(size).repeat_interleave(values)
    fitted = ridge.fit(x.flatten(0, 1), y.flatten(0, 1).flatten(1), groups, seed)
    seen = (tokens.double() - token_mean).flatten(0, 1)
    wanted = targets.double() - target_mean
    found = fitted(seen).unflatten(1, (size, values)).unflatten(0, wanted.shape[:2])
    strength = fitted.strength.unflatten(0, (size, values))[:, 0]
    return Read((found - wanted).square().sum((1, 3)), wanted.square().sum((1, 3)), strength)


@dataclass(frozen=True)
class _Moments:
    """Sums of tokens x [s i d] and targets y [s i k] over images, from which a fit and its error
    follow without the rows."""

    count: int
    x: Float[Tensor, "i d"]
    y: Float[Tensor, "i k"]
    xx: Float[Tensor, "d d"]
    xy: Float[Tensor, "d k"]
    yy: Float[Tensor, " k"]

    @classmethod
    def of(cls, x: Float[Tensor, "s i d"], y: Float[Tensor, "s i k"]) -> "_Moments":
        rows, wanted = x.flatten(0, 1), y.flatten(0, 1)
        return cls(len(x), x.sum(0), y.sum(0), rows.T @ rows, rows.T @ wanted, wanted.square().sum(0))

    def without(self, other: "_Moments") -> "_Moments":
        return _Moments(
            self.count - other.count,
            self.x - other.x,
            self.y - other.y,
            self.xx - other.xx,
            self.xy - other.xy,
            self.yy - other.yy,
        )

    def about(self, x: Float[Tensor, "i d"], y: Float[Tensor, "i k"]) -> "_Moments":
        """Of tokens less `x` and targets less `y`, position by position."""
        cross = self.x.T @ x
        return _Moments(
            self.count,
            self.x - self.count * x,
            self.y - self.count * y,
            self.xx - cross - cross.T + self.count * x.T @ x,
            self.xy - self.x.T @ y - x.T @ self.y + self.count * x.T @ y,
            self.yy - 2 * (self.y * y).sum(0) + self.count * y.square().sum(0),
        )


def read_without(
    fit_tokens: Float[Tensor, "s i d"],
    fit_targets: Float[Tensor, "s i o q"],
    tokens: Float[Tensor, "t i d"],
    targets: Float[Tensor, "t i o q"],
    strength: Float[Tensor, " o"],
    fit_group: Int[Tensor, " s"],
    group: Int[Tensor, " t"],
) -> tuple[Float[Tensor, "g o"], Float[Tensor, "g o"]]:
    """Error and total over all images of `read`, without each group of the images that are fitted
    on and that are measured: means, scales and regression are of the others, the strengths stay.
    From second moments, so that a group costs a solution of d equations and never a pass over
    images."""
    size, values = fit_targets.shape[2:]
    # about the means of all, so that moments lose no digits where they are subtracted
    token_mean, target_mean = fit_tokens.double().mean(0), fit_targets.double().mean(0)

    def moments(x: Tensor, y: Tensor) -> _Moments:
        return _Moments.of(x.double() - token_mean, (y.double() - target_mean).flatten(2))

    num_groups = int(torch.cat([fit_group, group]).max()) + 1
    fits = [moments(fit_tokens[fit_group == one], fit_targets[fit_group == one]) for one in range(num_groups)]
    tests = [moments(tokens[group == one], targets[group == one]) for one in range(num_groups)]
    every_fit, every_test = _sum(fits), _sum(tests)
    of_target = strength.repeat_interleave(values)
    errors, totals = [], []
    for left_out, left_out_test in zip(fits, tests, strict=True):
        rest = every_fit.without(left_out)
        centre = rest.x / rest.count, rest.y / rest.count
        weight = _ridge(rest.about(*centre), of_target)
        test = every_test.without(left_out_test).about(*centre)
        error = test.yy - 2 * (weight * test.xy).sum(0) + (weight * (test.xx @ weight)).sum(0)
        errors.append(error.clamp(min=0).unflatten(0, (size, values)).sum(1))
        totals.append(test.yy.clamp(min=0).unflatten(0, (size, values)).sum(1))
    return torch.stack(errors), torch.stack(totals)


def _sum(parts: Sequence[_Moments]) -> _Moments:
    names = ("count", "x", "y", "xx", "xy", "yy")
    return _Moments(**{name: sum(getattr(part, name) for part in parts) for name in names})


def _ridge(centred: _Moments, strength: Float[Tensor, " k"]) -> Float[Tensor, "d k"]:
    """`ridge.fit` with known strengths, from moments about the means."""
    rows = centred.count * len(centred.x)
    scale = (centred.xx.diagonal() / rows).clamp(min=0).sqrt().clamp(min=ridge.LEAST_SCALE)
    covariance = centred.xx / rows / scale / scale[:, None]
    onto = centred.xy / rows / scale[:, None]
    weight = torch.empty_like(onto)
    for one in strength.unique():
        chosen = strength == one
        factor = torch.linalg.cholesky(covariance + one * torch.eye(len(covariance), dtype=covariance.dtype))
        weight[:, chosen] = torch.cholesky_solve(onto[:, chosen], factor)
    return weight / scale[:, None]


def share(error: Float[Tensor, "..."], total: Float[Tensor, "..."], count: Tensor) -> Float[Tensor, "..."]:
    """R2 of summed squares; NaN where the patches do not vary beyond rounding."""
    return 1 - error / torch.where(total > _ROUNDING * count, total, torch.nan)
