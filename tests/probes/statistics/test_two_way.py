"""Errors of crossed images and masks: as every cell's pseudo-value says, and covering where errors
over images alone do not."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lcmae.probes.statistics.intervals import student
from lcmae.probes.statistics.two_way import TwoWay, images_alone, mean_over_masks, two_way
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
    assert found.interaction is not None
    assert float(found.interaction) == pytest.approx(expected["interaction"])
    parts = expected["images"], expected["masks"]
    assert float(found.sem) ** 2 == pytest.approx(max(sum(parts) - expected["interaction"], *parts))


def test_the_interaction_counts_once() -> None:
    """Cells that are all noise: both variances are the interaction's, and so is the error."""
    rng = np.random.default_rng(5)
    found = [of_sums(rng.normal(size=(8, 8, 1)), ratio=False) for _ in range(300)]
    spread = np.std([float(one.value) for one in found], ddof=1)
    reported = math.sqrt(np.mean([float(one.sem) ** 2 for one in found]))
    # simulated: 0.87; 300 draws know it to 4 %
    assert 0.78 < spread / reported < 0.97


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
        of_images = float(found.sem) ** 2 - float(found.of_masks)
        half = math.sqrt(student(7) ** 2 * of_images + student(3) ** 2 * float(found.of_masks))
        covered.append(abs(float(found.value)) <= half)
        alone.append(abs(float(found.value)) <= student(7) * float(found.of_images) ** 0.5)
    assert np.mean(covered) > 0.92
    if of_masks:
        assert np.mean(alone) < 0.8


def leaving_out(cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each mask's mean over groups [k], and those without each group [g k]."""
    count = len(cells)
    return cells.mean(0), (cells.sum(0) - cells) / (count - 1)


def test_images_alone_have_no_interaction() -> None:
    rng, sizes = torch.Generator().manual_seed(0), torch.ones(8)
    images = torch.randn(8, 1, generator=rng, dtype=torch.float64).expand(8, 2)
    whole, without = leaving_out(images + torch.tensor([0.0, 5.0]))
    assert float(images_alone(whole, without, sizes)) == pytest.approx(float(images[:, 0].var()) / 8)
    # nothing but interaction: about as often below 0 as above
    noise = [leaving_out(torch.randn(8, 2, generator=rng, dtype=torch.float64)) for _ in range(200)]
    found = torch.stack([images_alone(whole, without, sizes) for whole, without in noise])
    assert 0.3 < float((found == 0).double().mean()) < 0.7
    assert float(found.mean()) < 0.5 * (1 / 16)  # the variance of their mean


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


def spread_of(masks: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
    """Variance over masks [draws k n] of each draw."""
    some = masks[:, list(chosen)]
    return some.var(1).sum(-1) if len(chosen) > 1 else torch.full((len(masks),), torch.nan)


def test_what_is_made_of_pairs_of_masks_counts_them_once() -> None:
    """Masks that each hide 6 of 24 patches: none has anything of its own, and a variance over them
    is made of pairs alone."""
    order = np.argsort(np.random.default_rng(6).random((2000, 8, 24)), axis=-1)
    masks = torch.from_numpy(order < 6).double()
    found, plain = (
        two_way(lambda groups, chosen: spread_of(masks, chosen), torch.ones(8), 8, of_pairs=pairs)
        for pairs in (True, False)
    )
    spread = float(found.corrected.std())
    # simulated: 0.86 and 0.65; 2000 draws know them to 2 %
    assert 0.82 < spread / float(found.of_masks.mean()) ** 0.5 < 0.9
    assert 0.6 < spread / float(plain.of_masks.mean()) ** 0.5 < 0.7
    away = (found.corrected - found.corrected.mean()).abs()
    assert float((away <= student(7) * found.of_masks.sqrt()).double().mean()) > 0.94


def test_what_is_a_mean_over_masks_has_the_same_error() -> None:
    cells = torch.from_numpy(np.random.default_rng(7).normal(size=(50, 8, 12)))
    once, plain = (
        two_way(lambda groups, chosen: cells[:, list(groups)][:, :, list(chosen)].mean((1, 2)), torch.ones(8), 12,
                of_pairs=pairs)
        for pairs in (True, False)
    )  # fmt: skip
    torch.testing.assert_close(once.of_masks, plain.of_masks)


def test_masks_too_few_for_pairs_keep_their_error() -> None:
    """Of 4 masks one is left where three are out, and a variance of one is not known."""
    masks = torch.rand(1, 4, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = two_way(lambda groups, chosen: spread_of(masks, chosen), torch.ones(8), 4, of_pairs=True)
    assert float(found.of_masks) > 0
