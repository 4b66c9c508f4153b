"""Hold claims against runs: train and probe what is missing, read the numbers, decide. What is done
is recognised and kept.

OUT/<grid>/           a comparison (`lcmae.probes.grids.run`): runs, table.parquet
OUT/claims.json       what came out (`record.py`)
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.claims.claim import DIGITS, Claim, LessNull, decide, effect
from lcmae.probes.claims.grids import GRIDS, IMAGES, SETTINGS, Grid
from lcmae.probes.claims.readings import Reading, Value
from lcmae.probes.claims.record import Outcome, number
from lcmae.probes.grids.cells import Comparison
from lcmae.probes.grids.run import CELL, CellJob, compare, plan, stored_answer
from lcmae.probes.grids.table import Row, read_json
from lcmae.probes.jobs.batch import Job, JobResult, run_jobs
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.registry import probe_class
from lcmae.probes.results import catalogue
from lcmae.probes.results.catalogue import Stored
from lcmae.probes.results.conditions import split_settings
from lcmae.probes.results.store import load_result
from lcmae.probes.statistics.seeds import probe_seed
from lcmae.progress import clock
from lcmae.runs.run import Run
from lcmae.settings import parse

REFERENCE_SECONDS = 0.06
"""A training step of the grid `mae` on the machine that `Grid.seconds` and `PROBE_SECONDS` were
measured on (one of two shared cores of an AMD EPYC, 2026-11-21)."""

PROBE_SECONDS = {"transfer": 6.0, "embedding_consistency": 3.0, "mask_graph": 15.0, "bounds": 6.0, "hierarchy": 8.0}
"""One run, in seconds; others take about a second, loading a checkpoint another one."""

Tell = Callable[[str], object]
"""Takes a line of progress."""


@dataclass(frozen=True)
class Laboratory:
    """Where the runs of claims lie and how they are made."""

    out: Path
    seeds: int
    engine: Engine
    epochs: int | None = None
    """In place of what the claims were declared for; the claims then count as undecided where this
    is less."""
    images: int = IMAGES
    device: str | None = None
    """Where models run; None is a GPU where there is one."""
    _runs: dict[str, list[CellJob]] = field(default_factory=dict, repr=False, compare=False)
    _results: dict[tuple[Path, str], xr.Dataset] = field(default_factory=dict, repr=False, compare=False)

    def comparison(self, grid: str) -> Comparison:
        """The grid with the seeds, and the epochs, that were asked for."""
        changes = {"seeds": self.seeds} | ({} if self.epochs is None else {"epochs": self.epochs})
        return GRIDS[grid].comparison.model_copy(update=changes)

    def runs(self, grid: str) -> list[CellJob]:
        """Every run of a grid. `InputError` where its folder holds runs of another config."""
        if grid not in self._runs:
            self._runs[grid] = plan(self.comparison(grid), self.out / grid, self.engine, self.device)
        return self._runs[grid]

    def folder(self, reading: Reading, seed: int) -> Path:
        """The run that a reading of one seed is taken off."""
        for job in self.runs(reading.grid):
            if (job.cell.objective, job.cell.ratio, job.cell.seed) == (reading.objective, reading.ratio, seed):
                return Path(job.folder)
        raise AssertionError(f"{reading} is of no run of the grid {reading.grid}")

    def result(self, folder: Path, probe: str) -> xr.Dataset:
        """The stored result of a run's newest step, read once. `InputError` where there is none, or
        a torn one."""
        if (folder, probe) not in self._results:
            run = Run.open(folder)
            steps = run.steps()
            if not steps:
                raise InputError("expected a published checkpoint, got none")
            found = [
                one
                for one in catalogue.stored(run.results_folder(steps[-1]), probe)
                if self._is_asked_for(one, folder, run)
            ]
            if not found:
                raise InputError(f"expected a probe result of {probe} at step {steps[-1]}, found none that is whole")
            most = max(found, key=lambda one: int(one.condition.num_images or 0))
            # not held against the probe's contract: a claim reads single numbers, by their names
            self._results[folder, probe] = load_result(most.path)
        return self._results[folder, probe]

    def _is_asked_for(self, one: Stored, folder: Path, run: Run) -> bool:
        """Whether a result was measured as claims are; one that does not say how is taken for
        it."""
        if not one.condition.settings:
            return True
        grid = next(name for name in GRIDS if folder.parent == (self.out / name).absolute())
        wanted = parse(probe_class(one.probe), settings_of(one.probe, GRIDS[grid], run))
        mask, settings = split_settings(wanted.model_dump_json())
        own = one.condition
        return (own.mask, own.settings, own.seed) == (mask, settings, str(probe_seed(0))) and (
            int(own.num_images) <= self.images
        )

    def probes(self, claims: Sequence[Claim]) -> dict[Path, dict[str, str]]:
        """What is asked of each run: probes, and the grid whose settings they take."""
        wanted: dict[Path, dict[str, str]] = {}
        for claim in claims:
            for reading in claim.all_readings:
                for seed in self.seeds_of(claim):
                    wanted.setdefault(self.folder(reading, seed), {})[reading.probe] = reading.grid
        return wanted

    def seeds_of(self, claim: Claim) -> range:
        """Seeds that a claim reads: all of them, or the first where its interval is over something
        else."""
        return range(self.seeds if claim.over == "seeds" else 1)


@dataclass
class Rerun:
    """What came of a rerun; `stopped_by` is the signal that ended it early."""

    outcomes: list[Outcome] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """By run folder, below the laboratory's."""
    stopped_by: int | None = None


def grids_of(claims: Sequence[Claim]) -> list[str]:
    """The grids that these claims read, in the order of `GRIDS`."""
    read = {reading.grid for claim in claims for reading in claim.readings}
    return [name for name in GRIDS if name in read]


# --- cost ---


@dataclass
class Cost:
    """Work that is left, in seconds of the reference machine, and how much slower this one is."""

    training: dict[str, float]
    """By run folder: what is not trained yet."""
    probing: dict[str, float]
    """By run folder: what is not stored yet."""
    slowness: float = 1.0

    @property
    def minutes(self) -> float:
        """Of one process on this machine."""
        return self.slowness * (sum(self.training.values()) + sum(self.probing.values())) / 60


def cost(claims: Sequence[Claim], lab: Laboratory) -> Cost:
    """What is missing; the slowness of this machine is measured only where something has to be
    trained."""
    training, probing = {}, {}
    for name in grids_of(claims):
        declared, asked = GRIDS[name].comparison.epochs, lab.comparison(name).epochs
        for job in lab.runs(name):
            if stored_answer(job) is None:
                training[job.folder] = GRIDS[name].seconds * asked / declared
    for folder, probes in lab.probes(claims).items():
        folders = folder.glob("probes/*/")
        stored = {catalogue.probe_of(path, step) for step in folders for path in catalogue.files(step)}
        missing = [PROBE_SECONDS.get(probe, 1.0) for probe in probes if probe not in stored]
        if missing:
            probing[str(folder)] = 1.0 + sum(missing)
    return Cost(training, probing, step_seconds() / REFERENCE_SECONDS if training else 1.0)


def step_seconds(steps: int = 6) -> float:
    """Median time of a step of the grid `mae` here, without the optimiser's part."""
    import torch

    from lcmae.config import RunConfig
    from lcmae.settings import parse
    from lcmae.training.train import build_model

    (job,) = plan(GRIDS["mae"].comparison, Path("unused"), Engine())
    config = parse(RunConfig, job.config)
    model = build_model(config)
    images = torch.zeros(config.batch_size, config.model.channels, *config.model.image_size)
    seconds = []
    for step in range(steps):
        begin = time.perf_counter()
        config.objective(model, images, torch.Generator().manual_seed(step)).total.backward()
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds[1:])[(steps - 1) // 2]  # the first one warms up


class _Clock:
    """Lines that say how far it is and how long it will take, by the work that is done and the time
    that it took."""

    def __init__(self, total: Cost, tell: Tell) -> None:
        self.left = {("training", key): value for key, value in total.training.items()}
        self.left |= {("probing", key): value for key, value in total.probing.items()}
        self.tell, self.count, self.done, self.slowness = tell, len(self.left), 0.0, total.slowness
        self.begin = time.monotonic()

    def advance(self, kind: str, folder: str, what: str) -> None:
        self.done += self.left.pop((kind, folder), 0.0)
        pace = (time.monotonic() - self.begin) / self.done if self.done else self.slowness
        seconds = pace * sum(self.left.values())
        self.tell(f"claims {self.count - len(self.left)}/{self.count}, {clock(seconds)} left: {what}")


# --- the work ---


def rerun(claims: Sequence[Claim], lab: Laboratory, total: Cost, tell: Tell) -> Rerun:
    """Train, probe, read, decide. A run that fails leaves its claims undecided, and stops no
    other."""
    found, clock_ = Rerun(), _Clock(total, tell)
    for name in grids_of(claims):
        folder = lab.out / name

        def trained(row: Row, done: int, number: int, left: float, folder: Path = folder) -> None:
            path = str(folder.absolute() / row["run"])
            clock_.advance("training", path, f"{folder.name}/{row['run']} {row.get('error') or 'trained'}")

        result = compare(lab.comparison(name), folder, lab.engine, device=lab.device, report=trained)
        if result.stopped_by is not None:
            found.stopped_by = result.stopped_by
            return found
        for row in result.rows:
            if row["status"] == "failed":
                found.failures[f"{name}/{row['run']}"] = row["error"]
    for run, why in _probe(claims, lab, found.failures, clock_):
        found.failures[run] = why
    found.outcomes = [outcome_of(claim, lab, found.failures) for claim in claims]
    return found


def _probe(
    claims: Sequence[Claim], lab: Laboratory, failures: Mapping[str, str], clock_: _Clock
) -> Iterator[tuple[str, str]]:
    """Run the probes; yields what failed, by run folder."""
    import torch

    device = lab.device or ("cuda" if torch.cuda.is_available() else "cpu")
    jobs = [
        Job(
            str(folder),
            {probe: settings_of(probe, GRIDS[grid], Run.open(folder)) for probe, grid in probes.items()},
            images=lab.images,
            device=device,
        )
        for folder, probes in lab.probes(claims).items()
        if _below(lab, folder) not in failures
    ]
    for result in run_jobs(jobs, lab.engine, lab.out):
        if isinstance(result, JobResult):
            run, why = _below(lab, Path(result.checkpoint)), "; ".join(result.failures.values())
        else:
            job, error = result
            run, why = _below(lab, Path(job.checkpoint)), " ".join(str(error).split())
        clock_.advance("probing", str(lab.out.absolute() / run), f"{run} {why or 'probed'}")
        if why:
            yield run, why


def settings_of(probe: str, grid: Grid, run: Run) -> dict[str, object]:
    """Settings of a probe for one run: what claims need of it, under the mask of the run's
    training."""
    settings = {**SETTINGS.get(probe, {}), **grid.probes.get(probe, {})}
    if "mask" in probe_class(probe).model_fields:
        settings["mask"] = run.config["objective"]["mask"]
    return settings


def _below(lab: Laboratory, folder: Path) -> str:
    return folder.absolute().relative_to(lab.out.absolute()).as_posix()


# --- reading and deciding ---


def outcome_of(claim: Claim, lab: Laboratory, failures: Mapping[str, str]) -> Outcome:
    """A claim as it came out."""
    values, folders, failed = read(claim, lab, failures)
    found = effect(claim, values)
    lacking = [*claim.needs.lacking(DIGITS), *_too_short(claim, lab)]
    verdict, reason = decide(found, claim.rule, lacking, failed)
    has_interval = found is not None and found.low == found.low and claim.over != "everything"
    return Outcome(
        id=claim.id,
        says=claim.says,
        source=claim.source,
        quantity=claim.quantity,
        units=claim.units,
        expected=str(claim.rule) if claim.readings else "",
        side=claim.rule.side,
        level=claim.rule.level,
        over=claim.over,
        effect=None if found is None else found.mean,
        low=found.low if found is not None and has_interval else None,
        high=found.high if found is not None and has_interval else None,
        values=() if found is None else found.values,
        reads=tuple(f"{one} of {one.grid}/{one.objective} at {one.ratio:g}" for one in claim.readings),
        verdict=verdict,
        reason=reason,
        leaves_open=claim.leaves_open,
        null=null_of(claim, values[0]),
        tests_a_model=claim.tests_a_model,
        page=claim.page,
        runs=tuple(folders),
        command=f"lcmae claims --claims {claim.id}",
    )


def null_of(claim: Claim, values: Mapping[int, Sequence[Value]]) -> str:
    """What passes without training, and its number: "untrained network +0.41"; nothing where the
    claim has no null."""
    if not isinstance(claim.combine, LessNull) or not values:
        return ""
    found = [claim.combine.parts(*(one.value for one in row))[1] for row in values.values()]
    return f"{' or '.join(claim.combine.nulls)} {number(sum(found) / len(found))}"


def read(
    claim: Claim, lab: Laboratory, failures: Mapping[str, str]
) -> tuple[list[dict[int, list[Value]]], list[str], list[str]]:
    """The numbers by variant and by seed (those that have all of them), the runs that they are of,
    and what failed."""
    values: list[dict[int, list[Value]]] = []
    folders: dict[str, None] = {}
    failed: dict[str, None] = {}
    for readings in (claim.readings, *claim.variants):
        by_seed: dict[int, list[Value]] = {}
        for seed in lab.seeds_of(claim):
            row = []
            for reading in readings:
                folder = lab.folder(reading, seed)
                run = _below(lab, folder)
                folders[run] = None
                try:
                    row.append(reading.of(lab.result(folder, reading.probe)))
                except InputError as error:
                    failed[f"{run}: {failures.get(run, error)}"] = None
            if readings and len(row) == len(readings):
                by_seed[seed] = row
        values.append(by_seed)
    return values, list(folders), list(failed)


def _too_short(claim: Claim, lab: Laboratory) -> list[str]:
    """Trainings that are shorter than what the claim was declared for."""
    grids = dict.fromkeys(reading.grid for reading in claim.readings)
    pairs = {(GRIDS[name].comparison.epochs, lab.comparison(name).epochs) for name in grids}
    return [
        f"runs of {declared} epochs (these have {epochs})" for declared, epochs in sorted(pairs) if epochs < declared
    ]


def training_minutes(outcomes: Sequence[Outcome], out: Path) -> float:
    """Of all runs that were read, each once, as they logged it."""
    answers = [read_json(out / run / CELL) for run in dict.fromkeys(run for one in outcomes for run in one.runs)]
    return sum(answer["row"]["train_seconds"] for answer in answers if answer is not None) / 60
