"""What a linear map reads off a token of the patches around it: a pure function of tokens and
patches, both [s n ...]."""

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
    return Read((found - wanted).square().sum((1, 3)), wanted.square().sum((1, 3)))


def share(error: Float[Tensor, "..."], total: Float[Tensor, "..."], count: Tensor) -> Float[Tensor, "..."]:
    """R2 of summed squares; NaN where the patches do not vary beyond rounding."""
    return 1 - error / torch.where(total > _ROUNDING * count, total, torch.nan)
