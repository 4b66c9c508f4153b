"""What racing saves and what it costs: simulated comparisons and races whose truth is known.

    uv run python -m benchmarks.races [--races 1000] [--cells 16]

A world has a mean kNN accuracy for each cell (in log odds, standard deviation 0.5), seeds that move
all cells alike, and runs whose noise differs 3-fold between cells. Short schedules order cells much
like long ones, or not: their true means correlate with the long ones' by `early`, an eighth and a
quarter of the epochs, and each short rung errs on its own, or they are steps of one path (a chain:
an eighth knows of the end only what a quarter knows, so the two agree more than either deserves).
Printed for each world: how often the best cell is among those that may be the best (a comparison of
3 seeds), and of a race how often it dropped the best, which share of the whole grid's compute it
saved, and its regret in points of accuracy, beside that of the whole grid's own choice. All races
of a world run at once; every number is a function of the seed."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma, stdtr

from lcmae.probes.grids import dropping
from lcmae.probes.grids.racing import rungs
from lcmae.probes.grids.statistics import ALPHA

LEVEL = 0.8
"""Log odds of the mean accuracy: 69 %."""

SPREAD = 0.5
"""Standard deviation of the cells' true means, in log odds."""

EARLY = ((1.0, 1.0), (0.95, 0.98), (0.9, 0.95), (0.7, 0.85), (0.5, 0.7))
"""Correlations of the two short rungs' true means with the long ones'."""

WORLDS = (
    *((noise, early, 5) for noise in (0.06, 0.12, 0.25) for early in EARLY),
    *((0.12, early, seeds) for seeds in (4, 3) for early in EARLY[1:4]),
)
"""Typical noise of a run in log odds (0.12 is 2.5 points), correlations, and seeds."""


@dataclass(frozen=True)
class World:
    """What a simulation knows and a comparison does not."""

    noise: float
    """Of a run, in log odds; cells have up to 1.7 times more or less."""
    early: tuple[float, ...]
    """Correlation of each short rung's true means with the last one's."""
    cells: int
    seeds: int
    is_chain: bool = False
    """Whether rungs correlate with each other as steps of one path; otherwise each errs on its
    own."""


@dataclass(frozen=True)
class Outcomes:
    """Of races [races]."""

    is_best_left: np.ndarray
    """Whether the race did not drop the best cell."""
    saved: np.ndarray
    """Share of the whole grid's compute."""
    regret: np.ndarray
    """True accuracy of the best cell less the chosen one's, in points."""
    regret_of_grid: np.ndarray
    """The same of the whole grid's highest mean."""


def race(world: World, races: int, rng: np.random.Generator) -> Outcomes:
    """Races, and whole grids with the same last seeds."""
    plan = rungs(world.seeds)
    shape = (races, world.cells)
    means = SPREAD * rng.normal(size=shape)
    noise = _noise(world, races, rng)
    lost = dropping.LOST / (len(plan) - 1)
    truths = of_rungs(world, means, rng)
    is_in, spent = np.ones(shape, dtype=bool), np.zeros(races)
    before, values = None, np.zeros((*shape, 1))
    for number, (rung, truth) in enumerate(zip(plan, truths, strict=True)):
        values = _runs(truth, noise, rung.seeds, rng)
        spent += is_in.sum(axis=1) * rung.seeds * rung.share
        if number == len(plan) - 1:
            break
        now, was_in = measure(values, is_in), is_in
        if before is None:
            is_in = dropping.going_on(dropping.chances(*now, dropping.FIRST), was_in, lost)
        else:
            found = dropping.agreement(*before, *now)
            is_in = dropping.going_on(dropping.chances(*now, dropping.believed(found)), was_in, lost)
            known = np.isfinite(before[0])
            again = dropping.going_on(dropping.chances(*before, dropping.doubted(found)), known, lost)
            is_in |= again & ~was_in
        before = now
    every = np.arange(races)
    found = values.mean(axis=2)
    best, of_grid = means.argmax(axis=1), found.argmax(axis=1)
    chosen = np.where(is_in, found, -np.inf).argmax(axis=1)
    points = [100 * (_share(means[every, best]) - _share(means[every, cell])) for cell in (chosen, of_grid)]
    return Outcomes(is_in[every, best], 1 - spent / (world.cells * plan[-1].seeds), *points)


def of_rungs(world: World, means: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """True means [races cells] of each rung, the last ones' given: `early` says how each correlates
    with the last. In a chain a rung knows of the last one only what the rung after it knows."""
    truths = [means]
    after, known = means, 1.0
    for rho in reversed(world.early):
        step, towards = (rho / known, after) if world.is_chain else (rho, means)
        after = step * towards + (1 - step**2) ** 0.5 * SPREAD * rng.normal(size=means.shape)
        truths.insert(0, after)
        known = rho
    return truths


def may_be_best(world: World, grids: int, rng: np.random.Generator, seeds: int = 3) -> np.ndarray:
    """[grids], whether a comparison counts the truly best cell among those that may be the best:
    `Grid.may_be_best` for complete grids."""
    means = SPREAD * rng.normal(size=(grids, world.cells))
    values = _runs(means, _noise(world, grids, rng), seeds, rng)
    variance, prior = moderated(values, np.ones(means.shape, dtype=bool))
    every, best, found = np.arange(grids), means.argmax(axis=1), values.mean(axis=2)
    freedom = np.minimum(prior + seeds - 1, (world.cells - 1) * (seeds - 1))
    error = np.sqrt((variance + variance[every, best, None]) / seeds)
    beaten_by = ((found - found[every, best, None]) / error).max(axis=1)
    return (world.cells - 1) * stdtr(freedom, -beaten_by) >= ALPHA


def measure(values: np.ndarray, is_in: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and squared standard errors [races cells] of runs [races cells seeds], as a race has
    them; NaN for cells that it dropped."""
    variance, _ = moderated(values, is_in)
    found = values.mean(axis=2), variance / values.shape[2]
    return np.where(is_in, found[0], np.nan), np.where(is_in, found[1], np.nan)


def moderated(values: np.ndarray, is_in: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Grid.variance` [races cells] and the degrees of freedom of its prior [races], of the
    complete grids of `is_in`; what stands at cells that are not in says nothing."""
    half = (values.shape[2] - 1) / 2
    count = is_in.sum(axis=1)

    def over_cells(each: np.ndarray) -> np.ndarray:
        return np.where(is_in, each, 0).sum(axis=1) / count

    by_seed = np.where(is_in[:, :, None], values, 0).sum(axis=1) / count[:, None]
    rest = values - values.mean(axis=2, keepdims=True) - (by_seed - by_seed.mean(axis=1, keepdims=True))[:, None]
    own = np.where(is_in, (rest**2).sum(axis=2) / (2 * half) * (count / np.maximum(count - 1, 1))[:, None], 1)
    own = np.maximum(own, np.finfo(float).tiny)
    e = np.log(own) - digamma(half) + np.log(half)
    spread = over_cells((e - over_cells(e)[:, None]) ** 2) * count / np.maximum(count - 1, 1)
    error = np.sqrt((polygamma(3, half) + 2 * polygamma(1, half) ** 2) / count)
    prior = 2 * _trigamma_inverse(np.maximum(spread - polygamma(1, half), 0) + error)
    centre = np.exp(over_cells(e) + digamma(prior / 2) - np.log(prior / 2))
    shrunk = (prior * centre)[:, None] + 2 * half * own
    return np.maximum(own, shrunk / (prior[:, None] + 2 * half)), prior


def _trigamma_inverse(x: np.ndarray) -> np.ndarray:
    """`lcmae.probes.grids.statistics.trigamma_inverse` of many."""
    y = 0.5 + 1 / x
    for _ in range(15):
        trigamma = polygamma(1, y)
        y += trigamma * (1 - trigamma / x) / polygamma(2, y)
    return y


def _noise(world: World, races: int, rng: np.random.Generator) -> np.ndarray:
    return world.noise * 3 ** rng.uniform(-0.5, 0.5, size=(races, world.cells, 1))


def _runs(means: np.ndarray, noise: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """[races cells seeds]: what a seed does to all cells alike, and each run's own noise."""
    of_seeds = 0.2 * rng.normal(size=(len(means), 1, seeds))
    return means[:, :, None] + of_seeds + noise * rng.normal(size=(*means.shape, seeds))


def _share(means: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-LEVEL - means))


def table(races: int, cells: int, seed: int = 0) -> list[str]:
    """A Markdown table, a row a world."""
    of_a_race = "best dropped | compute saved | regret (whole grid's)"
    lines = [
        f"| seeds | noise of a run | correlation | may be best holds the best | {of_a_race} | in a chain: {of_a_race} |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, (noise, early, seeds) in enumerate(WORLDS):
        worlds = [World(noise, early, cells, seeds, is_chain) for is_chain in (False, True)]
        held = may_be_best(worlds[0], races, np.random.default_rng([seed, number])).mean()
        columns = [f"{seeds}", f"{noise:g}", f"{early[0]:g}, {early[1]:g}", f"{held:.1%}"]
        for world in worlds:
            found = race(world, races, np.random.default_rng([seed, number, world.is_chain]))
            saved, regret, of_grid = map(_with_error, (100 * found.saved, found.regret, found.regret_of_grid))
            columns += [
                f"{1 - found.is_best_left.mean():.1%}",
                f"{saved[0]:.1f} % ± {saved[1]:.1f}",
                f"{regret[0]:.2f} ± {regret[1]:.2f} ({of_grid[0]:.2f})",
            ]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def _with_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and half of its 95 % interval."""
    return float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / len(values) ** 0.5)


def main(arguments: Sequence[str] | None = None) -> list[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=1000, help="simulations of each world (default 1000)")
    parser.add_argument("--cells", type=int, default=16, help="cells of a grid (default 16)")
    options = parser.parse_args(arguments)
    lines = table(options.races, options.cells)
    print("\n".join(lines))
    return lines


if __name__ == "__main__":
    main()
