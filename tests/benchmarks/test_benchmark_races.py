"""Simulated races: a third of the compute is saved at a regret under a point where short schedules
order cells much like long ones, and what a false order costs."""

import numpy as np
import pytest

from benchmarks.races import World, main, may_be_best_once, race_once


@pytest.mark.parametrize(("noise", "least"), [(0.06, 0.6), (0.12, 0.5), (0.25, 1 / 3)])
def test_a_race_saves_a_third_at_a_regret_under_a_point(noise: float, least: float) -> None:
    rng = np.random.default_rng(3)
    found = [race_once(World(noise, (0.95, 0.98), 16, 5), rng) for _ in range(60)]
    assert np.mean([one.saved for one in found]) >= least
    assert np.mean([one.regret for one in found]) < 1
    assert np.mean([one.is_best_left for one in found]) >= 0.9
    assert all(one.saved < 1 and one.regret >= 0 for one in found)


def test_the_best_may_be_best_also_with_little_noise() -> None:
    rng = np.random.default_rng(4)
    assert np.mean([may_be_best_once(World(0.06, (), 16, 5), rng) for _ in range(100)]) >= 0.95


def test_short_schedules_with_an_order_of_their_own_lose_the_best() -> None:
    rng = np.random.default_rng(5)
    found = [race_once(World(0.12, (0.0, 0.0), 16, 5), rng) for _ in range(30)]
    assert np.mean([one.regret for one in found]) > 2
    assert np.mean([one.is_best_left for one in found]) < 0.7
    assert all(one.regret >= one.regret_of_grid - 1e-9 or one.regret_of_grid > 0 for one in found)


def test_the_table_has_a_row_for_each_world(capsys: pytest.CaptureFixture[str]) -> None:
    lines = main(["--races", "3", "--cells", "6", "--seeds", "3"])
    assert len(lines) == 2 + 5
    assert lines[2].startswith("| 0.06 | 0.95, 0.98 |")
    assert capsys.readouterr().out.splitlines() == lines
