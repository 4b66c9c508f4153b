"""Linear predictors of one data set: bases of patches, moments and the ridge, fitted on images of
its other split.

Patches are reduced to their first principal components as inputs and as targets; what that leaves
out of a target counts as error (`LinearFit.coordinates`). The ridge, and whether covariances
depend on the offset of two patches alone, are chosen on held-out images of the fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from lcmae.masking import Mask, MaskStrategy, Random
from lcmae.models import MaskedImageModel
from lcmae.patches import Grid, patchify
from lcmae.probes.baselines.second_order import (
    PatchBasis,
    PatchMoments,
    fixed_linear,
    fixed_linear_random,
    mask_chances,
    patch_basis,
    patch_moments,
    predict,
    predict_wiener,
    random_chances,
)
from lcmae.randomness import generator
from lcmae.shapes import Bool, Float

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Ridges that are tried, in mean variances of an input."""

BASIS_IMAGES = 512
"""Images that the principal components of patches are made of."""

MOST_INPUTS, MOST_TARGETS = 3136, 12544
"""Values of an image that enter, and that are predicted: 16 and 64 of each of 196 patches."""

HELD_OUT = 5
"""Every so manieth image of the fit chooses the ridge."""

DRAWN = 256
"""Masks that the chances of a strategy other than random are counted on."""

CHUNK = 64
"""Images of the fit that are held at one time."""


@runtime_checkable
class Images(Protocol):
    """What is fitted on: images in the model's input space, a slice at a time
    (`lcmae.probes.watching.batch.Images`, which is above this room)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> Tensor: ...


@dataclass(frozen=True)
class PatchBases:
    """In which coordinates patches enter and are predicted."""

    inputs: PatchBasis
    targets: PatchBasis
    origin: tuple[Float[np.ndarray, "patches p"], Float[np.ndarray, "patches p"]]
    """What coordinates of inputs and of targets are taken about."""
    position_mean: Float[np.ndarray, "patches p"]
    """Mean of targets by position, over all images of the fit."""

    def coordinates(
        self, x: Float[np.ndarray, "n patches p"], t: Float[np.ndarray, "n patches p"]
    ) -> tuple[Float[np.ndarray, "n patches q"], Float[np.ndarray, "n patches r"], Float[np.ndarray, "n patches"]]:
        """Of inputs and of targets, and the squared length of what the components leave out of
        each target."""
        about = t - self.origin[1]
        found = self.targets.project(about)
        return (
            self.inputs.project(x - self.origin[0]),
            found,
            ((about**2).sum(-1) - (found**2).sum(-1)).clip(min=0),
        )


@dataclass(frozen=True)
class LinearFit:
    """Moments in some bases, and how they were chosen."""

    bases: PatchBases
    moments: PatchMoments
    ridge: float
    wiener_ridge: float
    """The ridge of filters that see the mask; that of the others where none was asked for."""
    is_stationary: bool
    at_edge: bool
    """Whether the least held-out error lay at the largest or least ridge."""

    def without_covariances(self) -> "LinearFit":
        """For those who have their weights: means and bases alone, a hundredth of the memory."""
        nothing = np.zeros((0, 0))
        return replace(self, moments=replace(self.moments, inputs=nothing, cross=nothing))


def patches_of(
    model: MaskedImageModel, images: Tensor
) -> tuple[Float[np.ndarray, "b n p"], Float[np.ndarray, "b n p"]]:
    """Inputs and the model's targets, in float64."""
    images = images.to(model.device)
    x = patchify(images, model.patch_size)
    return x.double().cpu().numpy(), model.targets(images).double().cpu().numpy()


def draw_masks(strategy: MaskStrategy, grid: Grid, count: int, seed: int, purpose: str) -> Mask:
    """Masks that follow no image: a function of (purpose, seed, strategy, count)."""
    return strategy(count, grid, generator(purpose, seed, strategy.model_dump_json(), count))


def fixed_weights(
    moments: PatchMoments,
    strategy: MaskStrategy,
    grid: Grid,
    ridge: float,
    seed: int,
    allowed: Bool[np.ndarray, "patches patches"] | None = None,
) -> Float[np.ndarray, "targets inputs"]:
    """The best linear predictor that does not see the mask, under any strategy; by one inverse for
    random masks, unless only some patches are `allowed` as inputs of each."""
    size = grid[0] * grid[1]
    if isinstance(strategy, Random):
        visible = size - strategy.num_hidden(grid)
        if allowed is None:
            return fixed_linear_random(moments, visible, ridge)
        return fixed_linear(moments, random_chances(size, visible), ridge, allowed)
    drawn = draw_masks(strategy, grid, DRAWN, seed, "second-order-chances")
    return fixed_linear(moments, mask_chances(drawn.is_hidden.numpy()), ridge, allowed)


def patch_bases(
    model: MaskedImageModel,
    images: Images,
    *,
    components: int,
    most_inputs: int = MOST_INPUTS,
    most_targets: int = MOST_TARGETS,
) -> PatchBases:
    """Principal components of the first images of a fit, and the means of all."""
    size = model.num_patches
    x, t = patches_of(model, images[: min(BASIS_IMAGES, len(images))])
    inputs = patch_basis(x, min(components, max(1, most_inputs // size)))
    targets = patch_basis(t, max(1, min(t.shape[-1], most_targets // size)))
    sums = np.zeros_like(t[0])
    for chunk in _chunks(images):
        sums += patches_of(model, images[chunk])[1].sum(0)
    return PatchBases(inputs, targets, (x.mean(0), t.mean(0)), sums / len(images))


def _chunks(images: Images) -> Iterator[slice]:
    for first in range(0, len(images), CHUNK):
        yield slice(first, min(first + CHUNK, len(images)))


def fit_linear(
    model: MaskedImageModel,
    images: Images,
    bases: PatchBases,
    strategy: MaskStrategy,
    seed: int,
    *,
    filter_masks: Bool[np.ndarray, "k patches"] | None = None,
) -> LinearFit:
    """Moments and the ridge of the predictor under `strategy`; with `filter_masks`, a ridge of its
    own for the Wiener filters of such masks."""
    grid, origin = model.grid, bases.origin

    def parts(held_out: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for chunk in _chunks(images):
            x, t = patches_of(model, images[chunk])
            chosen = (np.arange(chunk.start, chunk.stop) % HELD_OUT == 0) == held_out
            if chosen.any():
                yield bases.inputs.project(x[chosen] - origin[0]), bases.targets.project(t[chosen] - origin[1])

    teaching = patch_moments(parts(held_out=False))
    held_x, held_t = (np.concatenate(values) for values in zip(*parts(held_out=True), strict=True))
    hidden = draw_masks(strategy, grid, len(held_x), seed, "second-order-held-out").is_hidden.numpy()

    def error(moments: PatchMoments, ridge: float) -> float:
        found = predict(moments, fixed_weights(moments, strategy, grid, ridge, seed), held_x, hidden)
        return float(((found - held_t) ** 2).sum(-1)[hidden].mean())

    def error_of_filters(moments: PatchMoments, ridge: float) -> float:
        assert filter_masks is not None
        found = (
            ((predict_wiener(moments, held_x, mask, ridge) - held_t) ** 2).sum(-1)[:, mask] for mask in filter_masks
        )
        return float(np.mean([errors.mean() for errors in found]))

    best: tuple[float, int, int, bool] | None = None
    for is_stationary, moments in ((False, teaching), (True, teaching.stationary(grid))):
        errors = [error(moments, ridge) for ridge in RIDGES]
        least = own = int(np.argmin(errors))
        if filter_masks is not None:
            own = int(np.argmin([error_of_filters(moments, ridge) for ridge in RIDGES]))
        if best is None or errors[least] < best[0]:
            best = errors[least], least, own, is_stationary
    assert best is not None
    _, least, own, is_stationary = best
    return LinearFit(
        bases,
        teaching.stationary(grid) if is_stationary else teaching,
        RIDGES[least],
        RIDGES[own],
        is_stationary,
        not {least, own}.isdisjoint({0, len(RIDGES) - 1}),
    )
