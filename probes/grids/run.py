"""A grid of runs at equal compute -> one table, a row a run: which mask should be used, and what
does it change?

    OUT/comparison.json   the settings, and the cells by name
    OUT/table.parquet     one row a run that is done or failed; written whole after each
    OUT/<cell>/           the run itself, its probe results, and cell.json: its row, and what it
                          was asked

A job trains and probes one run, wherever it lands, and ends by writing its cell.json. So a job that
is done twice (its worker died after the work, a cluster ran it again) is in the table once, and a
cell whose cell.json answers the same question is not done again. A killed run goes on from its
newest checkpoint.
"""

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.probes.grids.budget import budget_of, threads_of
from lcmae.probes.grids.cells import SETTINGS, Cell, Comparison, cells
from lcmae.probes.grids.configs import config_of
from lcmae.probes.grids.row import add_scalars, describe_run, settings_row, without_nan
from lcmae.probes.grids.table import TABLE, Row, read_json, write_table
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.registry import PROBES, probe_class
from lcmae.runs.durable import make_folder, sweep, to_json
from lcmae.runs.lock import lock
from lcmae.runs.run import Run, is_run, write_atomically

CELL = "cell.json"


@dataclass(frozen=True)
class CellJob:
    """One run of the grid as plain data, so that it travels to other processes and machines."""

    cell: Cell
    folder: str
    """The run folder, absolute."""
    config: dict[str, Any]
    """The run's RunConfig, as JSON."""
    probes: dict[str, dict[str, Any]]
    """Settings of each probe by its name."""
    images: int
    device: str | None = None
    """Where the model runs; None is a GPU where the worker has one."""
    threads: int | None = None
    """CPU threads of this job; None leaves torch's choice."""
    log: str | None = None
    """File that takes the progress of a job whose screen is shared with others."""
    untrained: bool = False
    """Publish the initial weights as step 0, and train nothing."""
    seconds_a_step: float | None = None
    """As it was timed before the first run, where runs get equal seconds."""

    @property
    def asked(self) -> dict[str, Any]:
        """All that decides the row."""
        asked = {"config": self.config, "probes": self.probes, "images": self.images}
        return {**asked, "untrained": True} if self.untrained else asked


class CellStopped(RuntimeError):
    """A signal ended a run early, in order: what was reached is published, and goes on next
    time."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return CellStopped, (self.number,)  # it travels between processes


@dataclass
class Compared:
    """What came of a comparison: rows in the order of the grid, the cells found done, and the
    signal that ended it."""

    rows: list[Row]
    reused: list[str] = field(default_factory=list)
    stopped_by: int | None = None
    out_of_time: bool = False
    """Whether the deadline left runs undone."""


Report = Callable[[Row, int, int, float], object]
"""report(row, cells done, cells in all, seconds left), after each run."""


def compare(
    comparison: Comparison,
    out: Path,
    engine: Engine,
    *,
    device: str | None = None,
    begin: Callable[[int, int], None] | None = None,
    report: Report | None = None,
    only: Collection[tuple[Any, ...]] | None = None,
    deadline: float = math.inf,
    calibration: Path | None = None,
) -> Compared:
    """Do what of the grid is not done yet; `begin(done before, all)` is called once the plan holds.
    `only` restricts it to cells of these settings (`Cell.settings`); equal seconds are by the
    times stored in the folder `calibration`, by default `out`. After the `deadline`, a
    `time.monotonic()`, no run is begun here or in a local process; what runs goes on to its end.
    `InputError` before anything is trained where a cell is impossible, or where `out` holds a run
    of the same name with another config."""
    engine.check()
    jobs = plan(comparison, out, engine, device, only, calibration)
    make_folder(out)
    with lock(out):
        sweep(out)
        names = [job.cell.name for job in jobs]
        budget = budget_of(comparison, calibration or out, engine, device)
        settings = {"settings": comparison.model_dump(mode="json"), "cells": names}
        if budget is not None:
            settings["equal"] = budget.sentence()
        write_atomically(out / SETTINGS, to_json(settings, SETTINGS))

        answers = {job.cell.name: found for job in jobs if (found := stored_answer(job)) is not None}
        result = Compared([], reused=list(answers))
        _write(names, answers, out)
        missing = [job for job in jobs if job.cell.name not in answers]
        if begin is not None:
            begin(len(answers), len(jobs))
        started = time.monotonic()
        for number, (job, outcome) in enumerate(_outcomes(missing, engine, out, deadline), start=1):
            if isinstance(outcome, CellStopped):
                result.stopped_by = outcome.number
                if engine.in_process:
                    break
                continue
            answer = _failed(job, outcome) if isinstance(outcome, Exception) else outcome
            answers[job.cell.name] = answer
            _write(names, answers, out)
            if report is not None:
                left = (time.monotonic() - started) / number * (len(missing) - number)
                report(answer["row"], len(answers), len(jobs), left)
        result.rows = [answers[name]["row"] for name in names if name in answers]
        result.out_of_time = len(answers) < len(jobs) and result.stopped_by is None
    return result


# --- the plan ---


def plan(
    comparison: Comparison,
    out: Path,
    engine: Engine,
    device: str | None = None,
    only: Collection[tuple[Any, ...]] | None = None,
    calibration: Path | None = None,
) -> list[CellJob]:
    """A job for every run of the grid; `InputError` for whatever is known to be wrong before the
    first step. Steps that equal seconds need the time of, and that `calibration` lacks, are
    timed."""
    names = _probe_names(comparison.probes)
    budget = budget_of(comparison, calibration or out, engine, device)
    jobs, impossible = [], {}
    for cell in cells(comparison):
        if only is not None and cell.settings not in only:
            continue
        try:
            config = config_of(comparison, cell, None if budget is None else budget.epochs(cell.settings))
            config.objective.mask.open()  # a guide that cannot guide is found out here; it is read once for all cells
        except InputError as error:
            impossible.setdefault(cell.settings, f"{cell.family}: {error}")
            continue
        folder = Path(os.path.abspath(out)) / cell.name
        jobs.append(
            CellJob(
                cell=cell,
                folder=str(folder),
                config=config.model_dump(mode="json"),
                probes={name: _probe_settings(name, config, comparison) for name in names},
                images=comparison.images,
                device=device,
                threads=threads_of(engine),
                log=str(folder.parent / "logs" / f"{cell.name}.log") if _shares_machine(engine) else None,
                untrained=comparison.untrained,
                seconds_a_step=None if budget is None else budget.seconds_a_step(cell.settings, config.batch_size),
            )
        )
    if impossible:
        first, more = next(iter(impossible.values())), len(impossible) - 1
        raise InputError(f"expected cells that can be trained, got {first}" + (f" (and {more} more)" if more else ""))
    for job in jobs:
        _refuse_other_run(job)
    return jobs


def _shares_machine(engine: Engine) -> bool:
    return engine.engine == "local" and not engine.in_process


def _probe_names(names: Sequence[str]) -> list[str]:
    if tuple(names) in (("all",), ("none",)):
        return list(PROBES) if names[0] == "all" else []
    for name in names:
        probe_class(name)
    return list(dict.fromkeys(names))


def _probe_settings(name: str, config: RunConfig, comparison: Comparison) -> dict[str, Any]:
    if "mask" not in probe_class(name).model_fields:
        return {}
    mask = config.objective.mask if comparison.own_masks else probe_class(name).model_fields["mask"].default
    return {"mask": mask.model_dump(mode="json")}


def _refuse_other_run(job: CellJob) -> None:
    if not is_run(job.folder):
        return
    found = Run.open(job.folder).config
    other = _first_difference(job.config, found)
    if other is not None:
        name, wanted, got = other
        raise InputError(
            f"expected runs of this comparison, with {name} {wanted}, got {name} {got} in {job.folder}; "
            "choose another --out"
        )


def _first_difference(wanted: Any, got: Any, name: str = "config") -> tuple[str, Any, Any] | None:
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in dict.fromkeys([*wanted, *got]):
            inner = key if name == "config" else f"{name}.{key}"
            other = _first_difference(wanted.get(key), got.get(key), inner)
            if other is not None:
                return other
        return None
    return None if wanted == got else (name, wanted, got)


# --- one cell ---


def run_cell(job: CellJob) -> dict[str, Any]:
    """Train (or go on training) and probe one run, and store what came of it; returns the content
    of its cell.json.

    `CellStopped` where a signal ended it in order, `InputError` and what training raises where it
    cannot be done.
    """
    with contextlib.ExitStack() as stack:
        if job.log is not None:
            make_folder(Path(job.log).parent)
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(job.log, "a"))))
        return _run_cell(job)


def _run_cell(job: CellJob) -> dict[str, Any]:
    import torch

    from lcmae.probes.jobs.batch import Job, run_job
    from lcmae.training.train import publish_untrained, train

    if (found := stored_answer(job)) is not None:
        return found  # the worker that did it died before it could say so
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    device = job.device or ("cuda" if torch.cuda.is_available() else "cpu")
    run = Run.open(job.folder) if is_run(job.folder) else Run.create(job.folder, job.config)
    if job.untrained:
        publish_untrained(run)
    elif (stopped_by := train(run, label=job.cell.name, device=device).stopped_by) is not None:
        raise CellStopped(stopped_by)

    row, columns = describe_run(job.cell, run)
    if job.seconds_a_step is not None:
        row["calibrated_seconds"] = job.seconds_a_step * row["steps"]
        columns["calibrated_seconds"] = "training steps, by the time of a step before the first run", "s"
    begin = time.perf_counter()
    if job.probes:
        probed = run_job(Job(job.folder, job.probes, images=job.images, device=device))
        row["note"] = "; ".join(probed.failures.values()) or None
        for name, file in probed.files.items():
            add_scalars(row, columns, name, Path(file))
    row["probe_seconds"] = time.perf_counter() - begin

    text = to_json(without_nan({"asked": job.asked, "row": row, "columns": columns}), CELL)
    write_atomically(run.path / CELL, text)
    return json.loads(text)  # what a later look will find


def stored_answer(job: CellJob) -> dict[str, Any] | None:
    """What the run folder has for exactly this question, if it has."""
    found = read_json(Path(job.folder) / CELL)
    return found if found is not None and found.get("asked") == job.asked else None


# --- many cells ---


def _outcomes(
    jobs: Sequence[CellJob], engine: Engine, out: Path, deadline: float
) -> Iterator[tuple[CellJob, dict[str, Any] | Exception]]:
    """Each job's answer or its error, as they come; those that are not begun before the deadline
    are left out."""
    if not jobs:
        return
    if engine.in_process:
        for job in jobs:
            if time.monotonic() > deadline:
                return
            try:
                yield job, run_cell(job)
            except Exception as error:  # whatever it is, it is this cell's: it goes into its row
                yield job, error
        return
    # a local worker that dies (out of memory, say) takes the whole pool along: what it broke is
    # tried again, and in the end each alone, so that the one that kills its worker is found
    broken: list[tuple[CellJob, Exception]] = [(job, BrokenExecutor()) for job in jobs]
    for groups in (lambda left: [left], lambda left: [left], lambda left: [[job] for job in left]):
        left, broken = [job for job, _ in broken], []
        for group in groups(left) if left else []:
            for job, outcome in _on_executor(group, engine, out, deadline):
                if isinstance(outcome, BrokenExecutor):
                    broken.append((job, outcome))
                else:
                    yield job, outcome
    yield from broken


def _on_executor(
    jobs: Sequence[CellJob], engine: Engine, out: Path, deadline: float
) -> Iterator[tuple[CellJob, dict[str, Any] | Exception]]:
    with engine.executor(out) as executor:
        futures: dict[Future[dict[str, Any]], CellJob] = {}
        # what was submitted to a local pool cannot always be called back, so with a deadline no
        # more is submitted than runs
        at_a_time = engine.workers if math.isfinite(deadline) and engine.engine == "local" else len(jobs)
        waiting = list(jobs)
        try:
            while waiting or futures:
                while waiting and len(futures) < at_a_time and time.monotonic() <= deadline:
                    job = waiting.pop(0)
                    try:
                        futures[executor.submit(run_cell, job)] = job
                    except BrokenExecutor as error:  # a worker died since
                        yield job, error
                if not futures:
                    return
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    error = future.exception()
                    job = futures.pop(future)
                    if isinstance(error, Exception) or error is None:
                        yield job, error or future.result()
        except BaseException:  # Ctrl-C: nothing more is begun; what runs publishes and ends
            for future in futures:
                future.cancel()
            raise


def _failed(job: CellJob, error: Exception) -> dict[str, Any]:
    words = " ".join(str(error).split()) or "no word of why"
    text = words if isinstance(error, InputError) else f"{type(error).__name__}: {words}"
    return {"row": {**settings_row(job.cell), "status": "failed", "error": text, "data": job.config["data"]}}


def _write(names: Sequence[str], answers: Mapping[str, dict[str, Any]], out: Path) -> None:
    done = [answers[name] for name in names if name in answers]
    columns = {key: tuple(about) for answer in done for key, about in answer.get("columns", {}).items()}
    write_table([answer["row"] for answer in done], columns, out / TABLE)
