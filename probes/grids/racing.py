"""Which cells of a grid are worth more compute? Rungs of whole short schedules: all cells first,
few seeds and epochs; those that are hardly the best any more are dropped, the others go on.

A short schedule drops the cells that are least likely to be the best of the whole one, allowing for
seeds and for an order that changes with the schedule (`lcmae.probes.grids.dropping`): the best is
lost with a chance of about 2 % where rungs order cells alike by 0.7 or more. Where two short rungs
agree too little for what the first one dropped, cells come back. After the last rung the cells that
may be the best are those that no other one beats (`Grid.may_be_best`, as of any comparison: what
rungs drop comes to its 5 %).
Each rung's order is held against the last one's (`agreement`), and should be read.

    OUT/rung-1/ ... OUT/rung-3/   a comparison each (`lcmae.probes.grids.run`), resumable
    OUT/race.json                 what each rung found
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from lcmae.errors import InputError
from lcmae.probes.grids import dropping
from lcmae.probes.grids.budget import COLUMN, epochs_in_multiples_of
from lcmae.probes.grids.cells import Comparison, cells
from lcmae.probes.grids.run import Compared, Report, compare
from lcmae.probes.grids.statistics import MIN_CELLS, Grid
from lcmae.probes.grids.table import TABLE, read_table
from lcmae.probes.grids.verdict import Key, direction_of, grid_of
from lcmae.probes.jobs.executors import Engine
from lcmae.runs.durable import to_json
from lcmae.runs.run import write_atomically

FILE = "race.json"


@dataclass(frozen=True)
class Rung:
    """How much compute each surviving cell gets."""

    seeds: int
    share: float
    """Of the comparison's epochs, as a whole schedule of that length."""


def rungs(seeds: int) -> tuple[Rung, ...]:
    """Three rungs: an eighth, a quarter and all of the epochs, the last with all of `seeds` (at
    least 3), the short ones with two fewer, at least 3. A first rung of two seeds drops next to
    nothing (simulated), and a second one with more than the first saves 3 points less."""
    last = max(3, seeds)
    few = max(3, last - 2)
    return Rung(few, 1 / 8), Rung(few, 1 / 4), Rung(last, 1.0)


@dataclass(frozen=True)
class RungResult:
    """What a rung found."""

    seeds: int
    epochs: int
    means: dict[Key, float]
    """Mean of the measure by cell, on `scale`."""
    survivors: tuple[Key, ...]
    compute: float
    """What the rung took of the thing that runs get the same of: image-mask pairs, GFLOP or
    seconds."""
    seconds: float
    assumed: float = 1.0
    """Correlation of its true means with the last rung's that it dropped cells by."""
    agreement: float | None = None
    """Correlation of its true means with those of the rung before; None where it is not known."""
    returned: tuple[Key, ...] = ()
    """Cells that the rung before dropped, and that go on nevertheless."""
    scale: str = "as it is"
    """Of the means (`lcmae.probes.grids.scales`)."""
    taken_back: dict[Key, float] = field(default_factory=dict)
    """The means in the measure's own unit."""


@dataclass
class RaceResult:
    """The rungs in order, and the signal that ended the race early, if one did."""

    measure: str
    direction: int
    rungs: list[RungResult] = field(default_factory=list)
    stopped_by: int | None = None
    out_of_time: bool = False
    """Whether the deadline ended it within a rung."""

    @property
    def survivors(self) -> tuple[Key, ...]:
        """Cells that may be the best after the last rung."""
        return self.rungs[-1].survivors

    def agreement(self) -> list[tuple[float, float]]:
        """For each rung before the last: Spearman's rank correlation of its means with the last
        rung's, over the cells that both have, and the regret of its own choice there, on the
        measure's scale. NaN where fewer than three cells are left."""
        last = self.rungs[-1].means
        found = []
        for rung in self.rungs[:-1]:
            both = [key for key in last if key in rung.means]
            early = np.array([self.direction * rung.means[key] for key in both])
            late = np.array([self.direction * last[key] for key in both])
            correlation = spearman(early, late)
            found.append((correlation, float(late.max() - late[early.argmax()]) if both else math.nan))
        return found

    def saved(self, num_cells: int, seeds: int) -> float:
        """Share of the compute of the whole grid that the race did not take: image-mask pairs (or
        GFLOP, or seconds) against all cells with all seeds and epochs."""
        last = self.rungs[-1]
        of_one = last.compute / (len(last.means) * last.seeds)
        return 1 - sum(rung.compute for rung in self.rungs) / (of_one * num_cells * seeds)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; NaN for fewer than three pairs, or equal
    values."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


Measured = dict[Key, tuple[float, float]]
"""Mean of each cell, larger is better, and its squared standard error."""


@dataclass(frozen=True)
class Decision:
    """What an early rung decides."""

    going: list[Key]
    """Of its own cells, those that go on."""
    assumed: float
    """Correlation of its true means with the last rung's that this rests on."""
    agreement: float | None = None
    """Correlation of its true means with those of the rung before; None where it is not known."""
    returned: tuple[Key, ...] = ()
    """Cells that the rung before dropped, and that the agreement gives no right to have dropped."""


def decide(now: Measured, before: Measured | None, num_early: int, lost: float = dropping.LOST) -> Decision:
    """Which cells go on after one of `num_early` short rungs; `before` is the rung before, None
    after the first. All go on where an error is not known."""
    keys, variance = list(now), np.array([error for _, error in now.values()])
    if len(keys) < dropping.FEWEST or not np.isfinite(variance).all():
        return Decision(keys, dropping.FIRST)
    if before is None:
        going = going_by(now, dropping.FIRST, lost / num_early)
        return Decision(going, dropping.FIRST)
    early, early_variance = np.array(list(before.values())).T
    late, late_variance = np.array([now.get(key, (math.nan, math.nan)) for key in before]).T
    found = float(dropping.agreement(early, early_variance, late, late_variance))
    assumed = float(dropping.believed(found))
    unjustly = [key for key in going_by(before, float(dropping.doubted(found)), lost / num_early) if key not in now]
    return Decision(going_by(now, assumed, lost / num_early), assumed, found, tuple(unjustly))


def going_by(rung: Measured, correlation: float, lost: float) -> list[Key]:
    """Cells of a rung that go on where its true means correlate so with the last rung's."""
    mean, variance = np.array(list(rung.values())).T
    going = dropping.going_on(dropping.chances(mean, variance, correlation), np.isfinite(mean), lost)
    return [key for key, goes_on in zip(rung, going, strict=True) if goes_on]


def measured(keys: Sequence[Key], grid: Grid, direction: int) -> Measured:
    """What a rung says of each cell."""
    errors = grid.variance / grid.num_seeds
    return dict(zip(keys, zip((direction * grid.mean).tolist(), errors.tolist(), strict=True), strict=True))


def race(
    comparison: Comparison,
    out: Path,
    engine: Engine,
    *,
    measure: str = "mean_knn",
    plan: Sequence[Rung] | None = None,
    device: str | None = None,
    begin: Callable[[int, int], None] | None = None,
    report: Report | None = None,
    after: Callable[[int, RungResult], None] | None = None,
    keep: Collection[Key] = (),
    deadline: float = math.inf,
) -> RaceResult:
    """Run the rungs that are not done; `after(number, result)` is called behind each. Probes are
    for the last rung, unless the `measure` is theirs. Cells of `keep` go on whatever a rung says of
    them: a baseline that the last rung is to be compared with. After the `deadline`, a
    `time.monotonic()`, no run is begun.

    `InputError` where fewer than four cells start (the seed's effect cannot be taken out), or where
    the measure is missing.
    """
    num_cells = len({cell.settings for cell in cells(comparison)})
    if num_cells < MIN_CELLS:
        raise InputError(f"expected a race of at least {MIN_CELLS} cells, got {num_cells}; compare them without --race")
    plan = rungs(comparison.seeds) if plan is None else plan
    result = RaceResult(measure, 0)
    only: set[tuple[Any, ...]] | None = None
    before: Measured | None = None
    for number, rung in enumerate(plan, start=1):
        unit = epochs_in_multiples_of(comparison)
        epochs = max(unit, round(comparison.epochs * rung.share / unit) * unit)
        # probes take most of the time of a short run
        probes = comparison.probes if number == len(plan) or "." in measure else ("none",)
        grid = comparison.model_copy(update={"epochs": epochs, "seeds": rung.seeds, "probes": probes})
        folder = out / f"rung-{number}"
        compared: Compared = compare(
            grid,
            folder,
            engine,
            device=device,
            begin=begin,
            report=report,
            only=only,
            deadline=deadline,
            calibration=out,
        )
        if compared.stopped_by is not None:
            result.stopped_by = compared.stopped_by
            return result
        if compared.out_of_time:
            result.out_of_time = True
            return result
        table = read_table(folder / TABLE)
        keys, values, scale = grid_of(table, measure)
        result.direction = direction_of(measure, str(table[measure].attrs.get("units", "1")))
        if result.direction == 0:
            raise InputError(f"expected a measure with a better end for a race, got {measure}")
        if number < len(plan):
            now = measured(keys, values, result.direction)
            decision = decide(now, before, len(plan) - 1)
            before = now
        else:
            decision = Decision([keys[cell] for cell in values.may_be_best(result.direction)], 1.0)
        done = [row for row in compared.rows if row["status"] == "done"]
        result.rungs.append(
            RungResult(
                rung.seeds,
                epochs,
                dict(zip(keys, values.mean.tolist(), strict=True)),
                tuple(decision.going),
                float(sum(row[COLUMN[comparison.equal]] for row in done)),
                float(sum((row["train_seconds"] or 0) + (row["probe_seconds"] or 0) for row in done)),
                decision.assumed,
                decision.agreement,
                decision.returned,
                scale.name,
                dict(zip(keys, scale.back(values.mean).tolist(), strict=True)),
            )
        )
        write_atomically(out / FILE, to_json(_as_json(result, COLUMN[comparison.equal]), FILE))
        if after is not None:
            after(number, result.rungs[-1])
        # a unit of one patch is the plain mask, which cells without a unit are, too
        going = dict.fromkeys([*decision.going, *decision.returned, *(key for key in keep if key in keys)])
        only = {(*key[:3], unit) for key in going for unit in ({key[3], None} if key[3] in (None, 1) else {key[3]})}
    return result


def _as_json(result: RaceResult, equal: str) -> dict[str, Any]:
    return {
        "measure": result.measure,
        "rungs": [
            {
                "seeds": rung.seeds,
                "epochs": rung.epochs,
                equal: rung.compute,
                "seconds": rung.seconds,
                "assumed_correlation": rung.assumed,
                "agreement_with_rung_before": rung.agreement,
                "returned": [list(key) for key in rung.returned],
                "scale": rung.scale,
                "cells": [
                    {
                        "cell": list(key),
                        "mean": mean,
                        "mean_in_own_unit": rung.taken_back.get(key),
                        "goes_on": key in rung.survivors,
                    }
                    for key, mean in rung.means.items()
                ],
            }
            for rung in result.rungs
        ],
    }
