"""Errors of crossed images and masks: as every cell's pseudo-value says, and covering where errors
over images alone do not."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lcmae.probes.statistics.intervals import student
from lcmae.probes.statistics.two_way import TwoWay, mean_over_masks, two_way
from tests.reference import two_way as reference


def of_sums(sums: np.ndarray, ratio: bool) -> TwoWay:
    cells = torch.from_numpy(sums)

    def statistic(groups: Sequence[int], masks: Sequence[int]) -> torch.Tensor:
        total = cells[list(groups)][:, list(masks)].sum((0, 1))
        return total[0] / total[1] if ratio else total[0] / (len(groups) * len(masks))

    return two_way(statistic, torch.ones(len(cells)), cells.shape[1])


def test_equal_to_plain_loops() -> None:
    sums = np.random.default_rng(0).normal(loc=(1.0, 5.0), size=(8, 5, 2))
    found, expected = of_sums(sums, ratio=True), reference.two_way(lambda s: s[0] / s[1], sums)
    assert float(found.of_images) == pytest.approx(expected["images"])
    assert float(found.of_masks) == pytest.approx(expected["masks"])
    assert float(found.corrected) == pytest.approx(expected["corrected"])
    assert float(found.sem) == pytest.approx(math.sqrt(expected["images"] + expected["masks"]))


def test_of_a_mean_it_is_the_means_over_masks() -> None:
    sums = np.random.default_rng(1).normal(size=(8, 5, 1))
    found = of_sums(sums, ratio=False)
    of_masks = torch.from_numpy(sums.mean(0))
    plain = mean_over_masks(of_masks, found.of_images[None], 8)
    assert float(found.of_masks) == pytest.approx(float(plain.of_masks))
    assert float(found.corrected) == pytest.approx(float(found.value))


@pytest.mark.parametrize(("masks", "has_error"), [(2, False), (3, False), (4, True)])
def test_few_masks_give_no_error(masks: int, has_error: bool) -> None:
    found = of_sums(np.random.default_rng(2).normal(size=(8, masks, 1)), ratio=False)
    assert bool(found.sem.isfinite()) == has_error
    assert bool(found.corrected.isfinite())


@pytest.mark.slow
@pytest.mark.parametrize("of_masks", [0.0, 0.3])
def test_intervals_cover_where_those_over_images_do_not(of_masks: float) -> None:
    """160 images of variance 1 in 8 groups, 4 shared masks, interaction 0.49."""
    rng = np.random.default_rng(3)
    covered, alone = [], []
    for _ in range(250):
        effects = rng.normal(size=(160, 1)) + of_masks * rng.normal(size=(1, 4)) + 0.7 * rng.normal(size=(160, 4))
        found = of_sums(effects.reshape(8, 20, 4, 1).mean(1), ratio=False)
        half = math.sqrt(student(7) ** 2 * float(found.of_images) + student(3) ** 2 * float(found.of_masks))
        covered.append(abs(float(found.value)) <= half)
        alone.append(abs(float(found.value)) <= student(7) * float(found.of_images) ** 0.5)
    assert np.mean(covered) > 0.92
    if of_masks:
        assert np.mean(alone) < 0.8


def test_the_mean_pseudo_value_takes_the_bias_off() -> None:
    """The square of a mean: biased by its variance, over images and over masks."""
    rng, plain, corrected = np.random.default_rng(4), [], []
    for _ in range(200):
        sums = 1 + rng.normal(size=(8, 1, 1)) + rng.normal(size=(1, 4, 1)) + rng.normal(size=(8, 4, 1))
        cells = torch.from_numpy(sums)
        found = two_way(lambda g, k, cells=cells: cells[list(g)][:, list(k)].mean() ** 2, torch.ones(8), 4)
        plain.append(float(found.value))
        corrected.append(float(found.corrected))
    error = np.std(corrected, ddof=1) / math.sqrt(200)
    assert abs(np.mean(corrected) - 1) < 4 * error
    assert np.mean(plain) - 1 > 0.25
