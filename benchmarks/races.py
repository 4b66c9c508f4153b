"""What racing saves and what it costs: simulated comparisons and races whose truth is known.

    uv run python -m benchmarks.races [--races 400] [--cells 16] [--seeds 5]

A world has a mean kNN accuracy for each cell (in log odds, standard deviation 0.5), seeds that move
all cells alike, and runs whose noise differs 3-fold between cells. Short schedules order cells much
like long ones: their means correlate with the long ones' by `--early`, an eighth and a quarter of
the epochs. Printed for each world: how often the best cell is among those that may be the best (a
comparison of 3 seeds), and of a race how often it lost the best, which share of the whole grid's
compute it saved, and its regret in points of accuracy, beside that of the whole grid's own choice.
Every number is a function of the seed."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcmae.probes.grids.racing import rungs, survivors_of
from lcmae.probes.grids.statistics import Grid

LEVEL = 0.8
"""Log odds of the mean accuracy: 69 %."""

WORLDS = ((0.06, (0.95, 0.98)), (0.12, (0.95, 0.98)), (0.25, (0.95, 0.98)), (0.12, (1.0, 1.0)), (0.12, (0.7, 0.85)))
"""Typical noise of a run in log odds (0.12 is 2.5 points), and correlations of the two short rungs'
true means with the long ones'."""


@dataclass(frozen=True)
class World:
    """What one simulation knows and a comparison does not."""

    noise: float
    """Of a run, in log odds; cells have up to 1.7 times more or less."""
    early: tuple[float, ...]
    """Correlation of each short rung's true means with the last one's."""
    cells: int
    seeds: int
    spread: float = 0.5
    """Standard deviation of the cells' true means, in log odds."""


@dataclass(frozen=True)
class Outcome:
    """Of one race."""

    is_best_left: bool
    """Whether the race did not drop the best cell."""
    saved: float
    """Share of the whole grid's compute."""
    regret: float
    """True accuracy of the best cell less the chosen one's, in points."""
    regret_of_grid: float
    """The same of the whole grid's highest mean."""


def race_once(world: World, rng: np.random.Generator) -> Outcome:
    """One race, and the whole grid with the same last seeds."""
    plan = rungs(world.seeds)
    means = LEVEL + world.spread * rng.normal(size=world.cells)
    noise = world.noise * 3 ** rng.uniform(-0.5, 0.5, size=(world.cells, 1))
    left, spent, runs = list(range(world.cells)), 0.0, np.zeros((0, 0))
    for number, rung in enumerate(plan):
        rho = (*world.early, 1.0)[number]
        other = LEVEL + world.spread * rng.normal(size=world.cells)
        truth = LEVEL + rho * (means - LEVEL) + (1 - rho**2) ** 0.5 * (other - LEVEL)
        runs = _runs(truth, noise, rung.seeds, rng)
        spent += len(left) * rung.seeds * rung.share
        if len(left) > 1:
            left = [left[cell] for cell in survivors_of(Grid(runs[left]), 1, len(plan))]
    chosen = left[int(runs[left].mean(1).argmax())]
    best, of_grid = int(means.argmax()), int(runs.mean(1).argmax())
    points = [100 * float(_share(means[best]) - _share(means[cell])) for cell in (chosen, of_grid)]
    return Outcome(best in left, 1 - spent / (world.cells * plan[-1].seeds), *points)


def may_be_best_once(world: World, rng: np.random.Generator, seeds: int = 3) -> bool:
    """Whether a comparison counts the truly best cell among those that may be the best."""
    means = LEVEL + world.spread * rng.normal(size=world.cells)
    noise = world.noise * 3 ** rng.uniform(-0.5, 0.5, size=(world.cells, 1))
    return int(means.argmax()) in Grid(_runs(means, noise, seeds, rng)).may_be_best(1)


def _runs(means: np.ndarray, noise: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """[cells seeds]: what a seed does to all cells alike, and each run's own noise."""
    return means[:, None] + 0.2 * rng.normal(size=seeds) + noise * rng.normal(size=(len(means), seeds))


def _share(log_odds: float) -> float:
    return 1 / (1 + np.exp(-log_odds))


def table(races: int, cells: int, seeds: int, seed: int = 0) -> list[str]:
    """A Markdown table, a row a world."""
    lines = [
        "| noise of a run | early rungs' correlation | may be best holds the best | race drops the best | compute saved | "
        "regret of the race | regret of the whole grid |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, (noise, early) in enumerate(WORLDS):
        world = World(noise, early, cells, seeds)
        rng = np.random.default_rng([seed, number])
        held = np.mean([may_be_best_once(world, rng) for _ in range(races)])
        found = [race_once(world, rng) for _ in range(races)]
        lost = 1 - np.mean([one.is_best_left for one in found])
        saved, regret, of_grid = (
            _with_error([getattr(one, name) for one in found]) for name in ("saved", "regret", "regret_of_grid")
        )
        lines.append(
            f"| {noise:g} | {early[0]:g}, {early[1]:g} | {held:.1%} | {lost:.1%} | {100 * saved[0]:.1f} % ± {100 * saved[1]:.1f} "
            f"| {regret[0]:.2f} ± {regret[1]:.2f} points | {of_grid[0]:.2f} ± {of_grid[1]:.2f} points |"
        )
    return lines


def _with_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval."""
    return float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / len(values) ** 0.5)


def main(arguments: Sequence[str] | None = None) -> list[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=400, help="simulations of each world (default 400)")
    parser.add_argument("--cells", type=int, default=16, help="cells of a grid (default 16)")
    parser.add_argument(
        "--seeds", type=int, default=5, help="seeds of the last rung, and of the whole grid (default 5)"
    )
    options = parser.parse_args(arguments)
    lines = table(options.races, options.cells, options.seeds)
    print("\n".join(lines))
    return lines


if __name__ == "__main__":
    main()
