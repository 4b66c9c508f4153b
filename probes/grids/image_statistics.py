"""What images say of a mask before any model is trained: how far pixels agree, how much of hidden
patches the covariance predicts, and which images masking joins.

* `correlation` of pixels by their distance, about the mean image, and its `reach`: the distance at
  which it falls to 1 / e;
* `r2_linear`, `r2_near`: the share of the variance about the position mean that the best linear
  predictor explains, from all visible patches and from the 8 neighbours alone
  (`lcmae.probes.baselines.second_order`), by mask unit and ratio. Fitted on one half of the images
  and measured on the other, both ways round;
* `joined`: the share of the augmentation graph's weight that leads to another image by a hidden
  part of like content (`lcmae.probes.mask_graphs.kernel`); with classes `joined_other_class`, and
  `label_error` of visible parts.

None of them chooses a ratio: they rise or fall with it from end to end. They say what the task asks
for. Errors are over images, whose groups have masks of their own, or over images and masks.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr
from threadpoolctl import threadpool_limits
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import CoarseRandom, MaskStrategy, Random
from lcmae.patches import Grid, patchify
from lcmae.probes.baselines.second_order import (
    MaskChances,
    PatchMoments,
    fixed_linear,
    fixed_linear_random,
    mask_chances,
    neighbours,
    patch_basis,
    patch_moments,
    predict,
)
from lcmae.probes.mask_graphs.kernel import (
    Sample,
    gaussian,
    kernel_edges,
    nearest_distance,
    nearest_distances,
    squared_distances,
    variance_over_images,
)
from lcmae.probes.statistics.jackknife import NUM_GROUPS, GroupedSums, groups_of
from lcmae.probes.statistics.two_way import TwoWay, mean_over_masks, stacked
from lcmae.probes.statistics.variables import crossed_errors, error_of, variable
from lcmae.randomness import generator

RATIOS, UNITS = (0.25, 0.5, 0.75, 0.9), (1, 2)
LEAST_IMAGES = 20
"""Fewer images than this have no covariance worth the name."""

COMPONENTS, RIDGES, HELD_OUT = 8, (1e-3, 1e-2, 1e-1, 1.0), 5
MASKS_A_GROUP, DRAWN = 2, 256
MOST_JOINED, GRAPH_MASKS, LOOKED_AT = 256, 4, 2
"""Images of the graph, masks of a cell, masks under which groups of images are left out."""

BANDWIDTH = 0.5
"""Kernel bandwidth, in median distances between an image and the nearest other one."""


def image_statistics(
    pixels: Tensor,
    labels: Tensor | None,
    patch_size: int,
    *,
    ratios: Sequence[float] = RATIOS,
    units: Sequence[int] = UNITS,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> xr.Dataset:
    """Statistics of uint8 images [b c h w] with classes [b], or without; `advance` is called
    `num_steps(ratios, units)` times. `InputError` for fewer than 20 images, or equal ones."""
    if len(pixels) < LEAST_IMAGES:
        raise InputError(f"expected at least {LEAST_IMAGES} images for their statistics, got {len(pixels)}")
    images = pixels.double() / 255
    patches = patchify(images, patch_size).numpy()
    grid = images.shape[2] // patch_size, images.shape[3] // patch_size
    cells = list(product(units, ratios))
    strategies = [_strategy(unit, ratio) for unit, ratio in cells]
    shape = len(units), len(ratios)
    # thousands of systems of a few hundred unknowns: threads of a BLAS wait for each other in loops
    with threadpool_limits(1, user_api="blas"):
        result = _correlation(images, patch_size)
        advance()
        result |= _explained(patches, strategies, grid, shape, seed, advance)
        result |= _joined(patches, labels, strategies, grid, shape, seed, advance)
    return xr.Dataset(
        result,
        coords={
            "unit": variable("unit", np.array(units), "side of the mask unit", "patches"),
            "ratio": variable("ratio", np.array(ratios), "masking ratio"),
        },
        attrs={
            "num_images": len(pixels),
            "patch_size": patch_size,
            "image_size": [int(side) for side in images.shape[2:]],
            "definition": "lcmae's own estimators; random masks, of units above 1 by the square",
        },
    )


def repeated(labels: Tensor) -> bool:
    """Whether classes say anything: two or more, with two images each on average."""
    return 2 <= len(labels.unique()) <= len(labels) / 2


def num_steps(ratios: Sequence[float] = RATIOS, units: Sequence[int] = UNITS) -> int:
    """How often `advance` is called."""
    return 1 + 3 * len(ratios) * len(units)


def _strategy(unit: int, ratio: float) -> MaskStrategy:
    return Random(ratio=ratio) if unit == 1 else CoarseRandom(ratio=ratio, unit=unit)


# --- how far pixels agree ---


def _correlation(images: Tensor, patch_size: int) -> dict[str, xr.Variable]:
    height, width = images.shape[2:]
    most = max(min(height, width) // 2, 1)
    sums = GroupedSums(len(images))
    mean = images.mean(0)
    down, across = _offsets(2 * height), _offsets(2 * width)
    distance = (down[:, None] ** 2 + across[None] ** 2).double().sqrt().round().long()
    overlap = ((height - down.abs()).clamp(min=0)[:, None] * (width - across.abs()).clamp(min=0)[None]).double()
    used = (distance <= most) & (overlap > 0)
    bins, pairs = distance[used], torch.zeros(most + 1, dtype=torch.double)
    pairs.index_add_(0, bins, overlap[used])
    for first in range(0, len(images), 64):
        centred = images[first : first + 64] - mean
        power = torch.fft.rfft2(centred, s=(2 * height, 2 * width)).abs().square().mean(1)
        products = torch.fft.irfft2(power, s=(2 * height, 2 * width))
        of_bins = torch.zeros(len(centred), most + 1, dtype=torch.double)
        of_bins.index_add_(1, bins, products[:, used])
        sums.add(range(first, first + len(centred)), product=of_bins / pairs)
    if not float(sums.of(range(len(sums.filled_sizes)))["product"][0]) > 0:
        raise InputError("expected images that differ from each other, got equal ones")

    def correlation(total: dict[str, Tensor]) -> Tensor:
        return total["product"] / total["product"][0]

    curve, curve_sem = sums.estimate(correlation)
    reach, reach_sem = sums.estimate(lambda total: _reach(correlation(total)))
    degrees, words = sums.degrees_of_freedom, "correlation of pixels about the mean image"
    about = "distance at which the correlation of pixels falls to 1 / e"
    return {
        "distance": variable("distance", np.arange(most + 1), "distance", "pixels"),
        "correlation": variable(("distance",), curve, words),
        "correlation_sem": error_of(("distance",), curve_sem, words, degrees=degrees, method="jackknife"),
        "reach": variable((), reach / patch_size, about, "patches"),
        "reach_sem": error_of((), reach_sem / patch_size, about, "patches", degrees=degrees, method="jackknife"),
    }


def _offsets(size: int) -> Tensor:
    """Signed offsets in the order of a Fourier transform."""
    return (torch.arange(size) + size // 2) % size - size // 2


def _reach(curve: Tensor) -> Tensor:
    """Where a curve that begins at 1 first falls to 1 / e, between two points in a line; NaN where
    it does not."""
    level = float(np.exp(-1))
    below = (curve <= level).nonzero().flatten()
    if not len(below):
        return torch.tensor(torch.nan, dtype=torch.double)
    end = int(below[0])
    upper, lower = curve[end - 1], curve[end]
    return end - 1 + (upper - level) / (upper - lower)


# --- what the covariance predicts ---


def _explained(
    patches: np.ndarray,
    strategies: Sequence[MaskStrategy],
    grid: Grid,
    shape: tuple[int, int],
    seed: int,
    advance: Callable[[], object],
) -> dict[str, xr.Variable]:
    count, values = len(patches), patches.shape[-1]
    own = groups_of(range(count), count) * MASKS_A_GROUP + torch.arange(count) % MASKS_A_GROUP
    near, rows = neighbours(grid), own.numpy()
    chances = [mask_chances(_masks(strategy, DRAWN, grid, seed, "advice-chances")) for strategy in strategies]
    errors = np.zeros((count, 3, len(strategies)))  # position mean, linear, near
    for fold in range(2):
        measured = np.flatnonzero(np.arange(count) % 2 == fold)
        fitted = np.flatnonzero(np.arange(count) % 2 != fold)
        origin = patches[fitted].mean(0)
        basis = patch_basis(patches[fitted], min(COMPONENTS, values))
        known = basis.project(patches[fitted] - origin)
        teaching = np.arange(len(known)) % HELD_OUT != 0
        part, whole = (_both(selected, grid) for selected in (known[teaching], known))
        centred = patches[measured] - origin
        seen = basis.project(centred)
        rest = (centred**2).sum(-1) - (seen**2).sum(-1)
        for cell, strategy in enumerate(strategies):
            hidden = _masks(strategy, NUM_GROUPS * MASKS_A_GROUP, grid, seed, "advice-mask")[rows[measured]]
            errors[measured, 0, cell] = ((centred**2).sum(-1) * hidden).sum(1) / hidden.sum(1)
            for row, allowed in enumerate((None, near), start=1):
                weights = _weights(strategy, chances[cell], allowed, part, whole, known[~teaching], grid, seed)
                off = ((predict(whole[0], weights, seen, hidden) - seen) ** 2).sum(-1) + rest
                errors[measured, row, cell] = (off * hidden).sum(1) / hidden.sum(1)
            advance()
    sums = GroupedSums(count)
    sums.add(range(count), error=torch.from_numpy(errors))

    def explained(total: dict[str, Tensor]) -> Tensor:
        share = 1 - total["error"][1:] / total["error"][0]
        return torch.cat([share, share[:1] - share[1:]]).reshape(3, *shape)

    value, sem = sums.estimate(explained)
    return _named(
        {
            "r2_linear": "share of hidden patches' variance that a linear predictor explains, from all visible patches",
            "r2_near": "the same from the 8 neighbours alone",
            "far_gain": "what patches further away add to the 8 neighbours",
        },
        value,
        sem,
        sums.degrees_of_freedom,
    )


def _named(words: dict[str, str], value: Tensor, sem: Tensor, degrees: int) -> dict[str, xr.Variable]:
    found, dims = {}, ("unit", "ratio")
    for row, (name, long_name) in enumerate(words.items()):
        found[name] = variable(dims, value[row], long_name)
        found[f"{name}_sem"] = error_of(dims, sem[row], long_name, degrees=degrees, method="jackknife")
    return found


def _both(known: np.ndarray, grid: Grid) -> tuple[PatchMoments, PatchMoments]:
    """Moments as they are, and with covariances that depend on the offset of two patches alone
    (their negative eigenvalues, which few images bring, set to 0)."""
    moments = patch_moments(iter([(known, known)]))
    even = moments.stationary(grid)
    size, vectors = np.linalg.eigh(even.inputs)
    inputs = (vectors * np.maximum(size, 0)) @ vectors.T
    return moments, replace(even, inputs=inputs, cross=inputs)


def _weights(
    strategy: MaskStrategy,
    chances: MaskChances,
    allowed: np.ndarray | None,
    part: tuple[PatchMoments, PatchMoments],
    whole: tuple[PatchMoments, PatchMoments],
    held: np.ndarray,
    grid: Grid,
    seed: int,
) -> np.ndarray:
    """The linear predictor of this strategy from all the images of the fit; the ridge and the kind
    of covariance are those that do best on held-out ones."""
    hidden = _masks(strategy, len(held), grid, seed, "advice-held-out")

    def solve(moments: PatchMoments, ridge: float) -> np.ndarray:
        if allowed is None and isinstance(strategy, Random):
            return fixed_linear_random(moments, hidden.shape[1] - strategy.num_hidden(grid), ridge)
        return fixed_linear(moments, chances, ridge, allowed)

    found: list[tuple[float, float, int]] = []
    for kind, moments in enumerate(part):
        for ridge in RIDGES:
            off = ((predict(moments, solve(moments, ridge), held, hidden) - held) ** 2).sum(-1)[hidden]
            found.append((float(off.mean()), ridge, kind))
    _, ridge, kind = min(found)
    return solve(whole[kind], ridge)


def _masks(strategy: MaskStrategy, count: int, grid: Grid, seed: int, purpose: str) -> np.ndarray:
    """Hidden patches [masks patches]."""
    return strategy(count, grid, generator(purpose, seed, strategy.model_dump_json(), count)).is_hidden.numpy()


# --- which images masking joins ---


def _joined(
    patches: np.ndarray,
    labels: Tensor | None,
    strategies: Sequence[MaskStrategy],
    grid: Grid,
    shape: tuple[int, int],
    seed: int,
    advance: Callable[[], object],
) -> dict[str, xr.Variable]:
    patches = patches[:MOST_JOINED]
    count = len(patches)
    known = labels is not None and repeated(labels[:count])
    label = np.arange(count) if labels is None or not known else np.unique(labels[:count], return_inverse=True)[1]
    whole = squared_distances(patches.reshape(count, -1))
    unit, nearest = nearest_distance(whole), nearest_distances(whole)
    parts: list[TwoWay] = []
    for strategy in strategies:
        contents = []
        for hidden in _masks(strategy, GRAPH_MASKS, grid, seed, "advice-graph"):
            of_hidden = squared_distances(patches[:, hidden].reshape(count, -1))
            contents.append((np.maximum(whole - of_hidden, 0), of_hidden))

        def numbers(mask: int, rows: np.ndarray, unit: float, contents: list[Any] = contents) -> np.ndarray:
            visible, hidden = (gaussian(part[np.ix_(rows, rows)], BANDWIDTH * unit) for part in contents[mask])
            equal = np.full(len(rows), 1 / len(rows))
            edges, label_error = kernel_edges(visible, hidden, Sample(label[rows], rows), equal)
            same, own_class, other_class = edges[0]
            return np.array([1 - same, other_class / (own_class + other_class), label_error])

        of_masks = np.stack([numbers(mask, np.arange(count), unit) for mask in range(GRAPH_MASKS)])
        of_images = variance_over_images(numbers, of_masks[:LOOKED_AT], nearest)
        parts.append(mean_over_masks(torch.from_numpy(of_masks), of_images, NUM_GROUPS))
        advance()
    graph = stacked(parts).map(lambda values: values.reshape(*shape, -1))
    names = {
        "joined": "share of edges by a like hidden part that lead to another image",
        "joined_other_class": "share of those that lead to another class",
        "label_error": "label error: images whose class loses the vote of like visible parts",
    }
    found: dict[str, xr.Variable] = {}
    for column, (name, words) in enumerate(names.items() if known else list(names.items())[:1]):
        part = graph.map(lambda values, column=column: values[..., column])
        found[name] = variable(("unit", "ratio"), part.value, words)
        found |= crossed_errors(("unit", "ratio"), part, name, words, method="jackknife")
    if known:
        share = np.bincount(label) / count
        found["chance"] = variable((), 1 - float((share**2).sum()), "pairs of images of different classes")
        found["label_chance"] = variable((), 1 - float(share.max()), "label error of naming the commonest class")
    return found
