"""Simulated races: a third of the compute is saved where short schedules order cells much like long
ones, the best is seldom lost where they do so by 0.7, and what a false order costs."""

import numpy as np
import pytest

from benchmarks.races import WORLDS, World, main, may_be_best, measure, moderated, of_rungs, race
from lcmae.probes.grids.statistics import Grid


@pytest.mark.parametrize("noise", [0.06, 0.12, 0.25])
def test_a_race_saves_a_third_and_keeps_the_best(noise: float) -> None:
    found = race(World(noise, (0.95, 0.98), 16, 5), 300, np.random.default_rng(3))
    assert found.saved.mean() >= 1 / 3
    assert found.regret.mean() < 1
    assert found.is_best_left.mean() >= 0.99
    assert (found.saved < 1).all()
    assert (found.regret >= 0).all()


@pytest.mark.parametrize("noise", [0.06, 0.12, 0.25])
@pytest.mark.parametrize("early", [(0.7, 0.85), (0.5, 0.7), (0.0, 0.0)])
def test_an_order_that_changes_with_the_schedule_is_allowed_for(noise: float, early: tuple[float, float]) -> None:
    """Of which the race knows nothing: under 2 % lost (400 races, two of the binomial's standard
    errors above 2 %)."""
    found = race(World(noise, early, 16, 5), 400, np.random.default_rng(3))
    assert 1 - found.is_best_left.mean() < 0.02 + 2 * (0.02 * 0.98 / 400) ** 0.5
    assert found.regret.mean() < found.regret_of_grid.mean() + 0.1


def test_rungs_that_agree_save_more() -> None:
    saved = [
        race(World(0.12, early, 16, 5), 200, np.random.default_rng(4)).saved.mean()
        for early in ((0.0, 0.0), (0.5, 0.7), (0.7, 0.85), (0.9, 0.95), (1.0, 1.0))
    ]
    assert saved == sorted(saved)
    assert saved[0] < 0, "nothing is dropped, and the short rungs are paid"
    assert saved[3] >= 1 / 3


def test_a_chain_correlates_as_it_says() -> None:
    means = 0.5 * np.random.default_rng(8).normal(size=(500, 40))
    first, second, last = of_rungs(World(0.1, (0.6, 0.8), 40, 5, is_chain=True), means, np.random.default_rng(9))
    found = np.corrcoef([first.ravel(), second.ravel(), last.ravel()])
    # 20,000 values: a standard error of 0.007 at most
    assert found[2, :2] == pytest.approx([0.6, 0.8], abs=0.03)
    assert found[0, 1] == pytest.approx(0.6 / 0.8, abs=0.03)
    assert np.array([first.std(), second.std()]) == pytest.approx(0.5, abs=0.02)
    first, second, _ = of_rungs(World(0.1, (0.6, 0.8), 40, 5), means, np.random.default_rng(9))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(0.6 * 0.8, abs=0.03)


def test_short_rungs_that_agree_with_each_other_alone_lose_the_best() -> None:
    """A chain of 0.5 and 0.7: the two short rungs agree by 0.71, so that nothing shows how little
    they know of the end; the price stands in docs/compare.md."""
    found = race(World(0.12, (0.5, 0.7), 16, 5, is_chain=True), 400, np.random.default_rng(5))
    assert 0.01 < 1 - found.is_best_left.mean() < 0.06
    assert found.regret.mean() < 1


def test_the_best_may_be_best_also_with_little_noise() -> None:
    assert may_be_best(World(0.06, (), 16, 5), 400, np.random.default_rng(4)).mean() >= 0.95


def test_variances_are_those_of_a_comparison() -> None:
    values = np.random.default_rng(6).normal(size=(5, 9, 4)) * np.geomspace(0.3, 3, 9)[:, None]
    is_in = np.ones((5, 9), dtype=bool)
    is_in[2, [1, 4]] = False
    variance, prior = moderated(values, is_in)
    mean, squared_error = measure(values, is_in)
    for number in range(5):
        grid = Grid(values[number][is_in[number]])
        assert variance[number][is_in[number]] == pytest.approx(grid.variance, rel=1e-9)
        assert prior[number] == pytest.approx(grid.prior[0], rel=1e-9)
        assert mean[number][is_in[number]] == pytest.approx(grid.mean)
        assert squared_error[number][is_in[number]] == pytest.approx(grid.variance / 4, rel=1e-9)
    assert np.isnan(mean[2, [1, 4]]).all()


def test_best_is_that_of_a_comparison() -> None:
    """The vectorised test of the best cell against `Grid.may_be_best`, from the same numbers."""
    world = World(0.25, (), 8, 3)
    found = may_be_best(world, 40, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    means = 0.5 * rng.normal(size=(40, 8))
    noise = 0.25 * 3 ** rng.uniform(-0.5, 0.5, size=(40, 8, 1))
    values = means[:, :, None] + 0.2 * rng.normal(size=(40, 1, 3)) + noise * rng.normal(size=(40, 8, 3))
    expected = [int(mean.argmax()) in Grid(value).may_be_best(1) for mean, value in zip(means, values, strict=True)]
    assert found.tolist() == expected


def test_the_table_has_a_row_for_each_world(capsys: pytest.CaptureFixture[str]) -> None:
    lines = main(["--races", "3", "--cells", "6"])
    assert len(lines) == 2 + len(WORLDS)
    assert lines[2].startswith("| 5 | 0.06 | 1, 1 |")
    assert capsys.readouterr().out.splitlines() == lines
