"""Which cells a race drops: chances against many drawn races, and the laws that they follow."""

import numpy as np
import pytest

from lcmae.probes.grids.dropping import FEWEST, FIRST, MOST, agreement, believed, chances, doubted, going_on


def drawn_chances(mean: np.ndarray, variance: np.ndarray, rho: float, draws: int = 200_000) -> np.ndarray:
    """The same posterior by drawing: true means of this rung given what it measured, then those of
    the last rung given them."""
    rng = np.random.default_rng(0)
    spread = max(mean.var(ddof=1) - variance.mean(), 1e-12)
    belief = spread / (spread + variance)
    now = belief * (mean - mean.mean()) + np.sqrt(spread * (1 - belief)) * rng.normal(size=(draws, len(mean)))
    last = rho * now + np.sqrt(spread * (1 - rho**2)) * rng.normal(size=now.shape)
    return np.bincount(last.argmax(1), minlength=len(mean)) / draws


@pytest.mark.parametrize("rho", [0.0, 0.7, 1.0])
def test_chances_are_those_of_drawn_races(rho: float) -> None:
    rng = np.random.default_rng(1)
    mean, variance = rng.normal(size=7), rng.uniform(0.05, 0.4, size=7)
    found = chances(mean, variance, rho)
    # 200,000 draws: three standard errors are 0.0034
    assert found == pytest.approx(drawn_chances(mean, variance, rho), abs=0.0034)
    assert found.sum() == pytest.approx(1, abs=1e-3)


def test_without_correlation_or_differences_all_are_alike() -> None:
    assert chances(np.arange(5.0), np.full(5, 0.1), 0.0) == pytest.approx(np.full(5, 0.2), abs=1e-4)
    assert chances(np.zeros(5), np.full(5, 0.1), 0.9) == pytest.approx(np.full(5, 0.2), abs=1e-4)


def test_cells_that_are_not_in_the_race_change_nothing() -> None:
    mean, variance = np.array([0.0, 1.0, 2.0, 0.5]), np.full(4, 0.2)
    wide = np.array([[0.0, np.nan, 1.0, 2.0, np.nan, 0.5]])
    found = chances(wide, np.full((1, 6), 0.2), np.array([0.8]))
    assert found[0, [0, 2, 3, 5]] == pytest.approx(chances(mean, variance, 0.8))
    assert (found[0, [1, 4]] == 0).all()
    going = going_on(found, np.isfinite(wide), 0.9)
    assert not going[0, [1, 4]].any()


def test_a_weaker_correlation_drops_fewer() -> None:
    mean, variance = np.linspace(-2, 2, 12), np.full(12, 0.1)
    is_in = np.ones(12, dtype=bool)
    left = [int(going_on(chances(mean, variance, rho), is_in, 0.01).sum()) for rho in (0.3, 0.7, 0.9, 1.0)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0]


def test_what_is_dropped_has_less_than_the_budget_together() -> None:
    chance = np.array([0.004, 0.5, 0.005, 0.003, 0.488])
    assert going_on(chance, np.ones(5, dtype=bool), 0.01).tolist() == [False, True, True, False, True]
    # the two likeliest go on whatever the budget, and so do all of fewer than four
    assert going_on(chance, np.ones(5, dtype=bool), 2.0).sum() == 2
    few = np.arange(5) < FEWEST - 1
    assert going_on(chance, few, 2.0).tolist() == few.tolist()


def test_agreement_is_the_correlation_without_noise() -> None:
    """20,000 cells whose true means correlate by 0.8, measured with as much noise as signal."""
    rng = np.random.default_rng(2)
    one = rng.normal(size=20_000)
    other = 0.8 * one + 0.6 * rng.normal(size=20_000)
    noise = np.ones(20_000)
    seen = one + rng.normal(size=20_000), other + rng.normal(size=20_000)
    assert np.corrcoef(*seen)[0, 1] == pytest.approx(0.4, abs=0.03)
    assert float(agreement(seen[0], noise, seen[1], noise)) == pytest.approx(0.8, abs=0.04)
    # over the cells that both have
    seen[1][:10] = np.nan
    assert np.isfinite(agreement(seen[0], noise, seen[1], noise))


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_choice_by_the_first_rung_does_not_bend_the_agreement(share: float) -> None:
    """Of the upper part by the first rung's means: 0.8, as of all cells; the correlation of that
    part alone is 0.97 or 0.76."""
    rng = np.random.default_rng(3)
    one = rng.normal(size=20_000)
    other = 0.8 * one + 0.6 * rng.normal(size=20_000)
    noise = np.full(20_000, 0.25)
    first, second = one + 0.5 * rng.normal(size=20_000), other + 0.5 * rng.normal(size=20_000)
    left = first > np.quantile(first, 1 - share)
    alone = agreement(first[left], noise[left], second[left], noise[left])
    assert abs(float(alone) - 0.8) > 0.03
    # a standard error of 0.006 to 0.01
    assert float(agreement(first, noise, np.where(left, second, np.nan), noise)) == pytest.approx(0.8, abs=0.02)


def test_what_is_believed_of_an_agreement() -> None:
    assert believed(np.array([-0.3, 0.5, 0.99])).tolist() == [0, 0.5, MOST]
    # two steps lie between the rung before and the last one
    assert doubted(np.array([-0.3, 0.5, 0.99])) == pytest.approx([0, 0.25, FIRST])
