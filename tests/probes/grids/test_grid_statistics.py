"""Statistics of a whole grid: equal to the formulas, and right by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import polygamma
from scipy.stats import ttest_rel

from lcmae.probes.grids.scales import logit, scale_of
from lcmae.probes.grids.statistics import ALPHA, Grid, guarded_prior, trigamma_inverse


def draw(rng: np.random.Generator, cells: int, seeds: int, fold: float, means: np.ndarray | None = None) -> np.ndarray:
    """Runs of a grid whose cells' deviations are `fold`-fold apart, with an effect of each seed."""
    deviations = fold ** np.linspace(-0.5, 0.5, cells)[rng.permutation(cells)]
    noise = rng.normal(size=(cells, seeds)) * deviations[:, None]
    return noise + 2 * rng.normal(size=seeds) + (0 if means is None else means[:, None])


def by_the_formulas(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Means, moderated variances and degrees of freedom of a complete grid, written from
    docs/compare.md with sums over cells and seeds."""
    cells, seeds = y.shape
    d = seeds - 1
    own = []
    for c in range(cells):
        rest = [y[c, s] - y[c].mean() - y[:, s].mean() + y.mean() for s in range(seeds)]
        own.append(sum(r**2 for r in rest) / d * cells / (cells - 1))
    d0, s0 = guarded_prior(np.array(own), np.full(cells, d))
    return y.mean(1), np.array([max(v, (d0 * s0 + d * v) / (d0 + d)) for v in own]), min(d0 + d, (cells - 1) * d)


@given(st.integers(4, 12), st.integers(2, 5), st.integers(0, 1000))
def test_a_complete_grid_is_that_of_the_formulas(cells: int, seeds: int, seed: int) -> None:
    y = draw(np.random.default_rng(seed), cells, seeds, 3)
    grid, (mean, variance, freedom) = Grid(y), by_the_formulas(y)
    np.testing.assert_allclose(grid.mean, mean, atol=1e-10)
    np.testing.assert_allclose(grid.variance, variance, rtol=1e-8)
    assert grid.freedom(0, 1) == pytest.approx(freedom)
    assert grid.standard_error(0, 1) == pytest.approx(math.sqrt((variance[0] + variance[1]) / seeds))
    assert grid.difference(2, 3) == pytest.approx(mean[2] - mean[3])


@given(st.integers(0, 1000), st.floats(-5, 5), st.floats(0.1, 10))
def test_seeds_shift_nothing_and_units_scale_everything(seed: int, shift: float, unit: float) -> None:
    rng = np.random.default_rng(seed)
    y = draw(rng, 6, 3, 2)
    other = Grid(unit * (y + shift * rng.normal(size=3)))
    grid = Grid(y)
    np.testing.assert_allclose(other.variance, unit**2 * grid.variance, rtol=1e-6)
    assert other.may_be_best() == grid.may_be_best()
    one, two = grid.to_baseline(0)[1], other.to_baseline(0)[1]
    assert two.half_width == pytest.approx(unit * one.half_width, rel=1e-6)
    assert two.p_value == pytest.approx(one.p_value, rel=1e-5, abs=1e-12)


def test_few_cells_are_paired_by_seed() -> None:
    y = draw(np.random.default_rng(3), 2, 5, 1)
    [contrast] = Grid(y).to_baseline(0)
    expected = ttest_rel(y[1], y[0])
    assert contrast.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert contrast.half_width == pytest.approx((interval.high - interval.low) / 2)


def test_trigamma_inverse_inverts() -> None:
    for y in (0.01, 0.3, 1.0, 7.0, 500.0):
        assert trigamma_inverse(float(polygamma(1, y))) == pytest.approx(y, rel=1e-6)


def coverage(seeds: int, fold: float, *, missing: float = 0.0, grids: int = 150, cells: int = 12) -> float:
    """How often the interval of a difference to a random baseline holds the truth."""
    rng = np.random.default_rng(seeds * 100 + int(fold))
    hits = []
    for _ in range(grids):
        means = rng.normal(size=cells)
        y = draw(rng, cells, seeds, fold, means)
        if missing:
            gone = rng.random(y.shape) < missing
            gone[:, :2] = False
            y[gone] = np.nan
        baseline = int(rng.integers(cells))
        for found in Grid(y).to_baseline(baseline):
            truth = means[found.cell] - means[baseline]
            hits.append(abs(found.difference - truth) <= found.half_width)
    return float(np.mean(hits))


@pytest.mark.parametrize("fold", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds: int, fold: float) -> None:
    # guarded: never below 0.95 - 0.03; two seeds with equal spreads are covered by up to 0.985
    assert 0.92 <= coverage(seeds, fold) <= 0.99


def test_missing_runs_leave_intervals_honest() -> None:
    assert 0.92 <= coverage(5, 3.0, missing=0.3) <= 0.99


def test_nothing_is_decided_where_nothing_differs() -> None:
    rng = np.random.default_rng(5)
    wrong = [any(found.is_decided for found in Grid(draw(rng, 12, 3, 3.0)).to_baseline(0)) for _ in range(200)]
    assert np.mean(wrong) <= ALPHA + 0.03


@given(st.integers(2, 9), st.integers(2, 5), st.integers(0, 1000), st.sampled_from((-1, 1)))
def test_no_verdict_on_a_difference_to_the_baseline_contradicts_another(
    cells: int, seeds: int, seed: int, sign: int
) -> None:
    rng = np.random.default_rng(seed)
    grid, baseline = Grid(draw(rng, cells, seeds, 2.0, 2 * rng.normal(size=cells))), seed % cells
    best = grid.may_be_best(sign, baseline=baseline)
    decided = {found.cell: sign * found.difference for found in grid.to_baseline(baseline) if found.is_decided}
    assert best
    assert not {cell for cell, gain in decided.items() if gain < 0} & set(best)
    assert (baseline in best) == all(gain < 0 for gain in decided.values())


def test_two_tests_of_one_difference_would_contradict_each_other() -> None:
    y = draw(np.random.default_rng(11), 2, 4, 1.0, np.array([0.0, 2.0]))
    [contrast] = Grid(y).to_baseline(0)
    assert 0.05 < contrast.p_value < 0.1
    assert Grid(y).may_be_best() == [1]  # one-sided: the first is ruled out by a difference that is not decided
    assert Grid(y).may_be_best(baseline=0) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [None, 0, 6, 11])
def test_the_best_cell_is_among_those_that_may_be(baseline: int | None) -> None:
    rng, means = np.random.default_rng(6), np.linspace(0, 1.5, 12)
    lost, sizes = 0, []
    for _ in range(400):
        found = Grid(draw(rng, 12, 3, 3.0, means)).may_be_best(baseline=baseline)
        lost += 11 not in found
        sizes.append(len(found))
    assert lost <= 0.05 * 400
    assert np.mean(sizes) < 12  # and it does rule out


def test_smaller_may_be_better() -> None:
    y = draw(np.random.default_rng(7), 6, 5, 1.0, np.array([0.0, 20.0, 20.0, 20.0, 20.0, 20.0]))
    assert Grid(y).may_be_best(-1) == [0]
    assert 0 not in Grid(y).may_be_best(1)


def test_a_cell_of_one_run_takes_the_variance_of_the_others() -> None:
    y = draw(np.random.default_rng(8), 8, 4, 1.0)
    y[2, 1:] = np.nan
    grid = Grid(y)
    assert grid.variance[2] == pytest.approx(grid.prior[1])
    assert grid.to_baseline(0)[1].half_width > grid.to_baseline(0)[0].half_width


def test_more_seeds_decide_what_is_there() -> None:
    means = np.r_[np.zeros(7), 3.0]
    y = draw(np.random.default_rng(9), 8, 2, 1.0, means)
    grid = Grid(y)
    more = grid.seeds_needed(7, 0)
    assert more is not None
    assert more >= 1
    tiny = draw(np.random.default_rng(9), 8, 2, 1.0, means / 1000)
    assert Grid(tiny).seeds_needed(7, 0) is None


def test_rounding_is_a_floor() -> None:
    y = np.array([[0.5, 0.5], [0.5, 0.5], [0.6, 0.6], [0.7, 0.7]])
    assert Grid(y, step=0.01).own_variance == pytest.approx(np.full(4, 0.01**2 / 12))


def test_a_cell_without_any_run_is_refused() -> None:
    with pytest.raises(ValueError, match="a finite value in each cell"):
        Grid(np.array([[1.0, 2.0], [np.nan, np.nan]]))


@given(st.integers(10, 5000), st.floats(0, 1))
def test_log_odds_go_there_and_back(num_images: int, share: float) -> None:
    scale = logit(num_images)
    hits = round(share * num_images) / num_images
    assert scale.back(scale.forward(np.array([hits])))[0] == pytest.approx(hits, abs=1e-9)


def test_scales_are_chosen_by_what_the_measure_is() -> None:
    assert scale_of(np.array([0.1, 0.9]), "share of test images", 360).name == "log odds"
    assert scale_of(np.array([3.0, 7.0]), "dimensions").name == "logarithm"
    assert scale_of(np.array([-0.1, 0.3]), "1").name == "as it is"
    assert logit(100).test_set_error(0.5) == pytest.approx(math.sqrt(0.5 / 100))
