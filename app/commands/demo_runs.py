"""The runs of `lcmae demo`, trained and probed side by side: a process and one thread each, so that
the numbers do not depend on how many cores a machine has."""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from functools import partial
from pathlib import Path
from typing import Any

from lcmae.probes.jobs.batch import Job, JobResult, run_job
from lcmae.probes.jobs.executors import Engine
from lcmae.processes import cores
from lcmae.progress import ProgressBar
from lcmae.runs.durable import make_folder
from lcmae.runs.run import Run

PROBING = 700
"""What the probes of a run take, in steps of training: for the time left, no more."""

LOGS = "logs"
"""Folder beside the runs, for what each worker says."""


def work(
    steps: Mapping[Path, int], probes: Mapping[str, dict[str, Any]], images: int, folder: Path, num_workers: int
) -> tuple[dict[Path, JobResult], signal.Signals | None]:
    """Train each run to its end (`steps`, by run), then probe it; what the probes left, by run, or
    the signal that ended the work early: what was trained then is published and will be continued.
    """
    from lcmae.training.train import stop_signal

    waiting: list[tuple[str, Path]] = [("training", path) for path in steps]
    running: dict[Future[JobResult | None], tuple[str, Path]] = {}
    results: dict[Path, JobResult] = {}
    shown, is_announced = sum(_step(path, most) for path, most in steps.items()), False
    total = sum(steps.values()) + PROBING * len(steps)
    with (
        stop_signal() as stop,
        Engine(workers=num_workers).executor(folder, threads=1) as pool,
        ProgressBar("demo", total, done=shown) as bar,
    ):
        while running or (waiting and stop.received is None):
            # no more than runs: what a pool has taken on cannot be called back
            while waiting and len(running) < num_workers and stop.received is None:
                what, path = waiting.pop(0)
                job = partial(train_one, path) if what == "training" else partial(probe_one, path, dict(probes), images)
                running[pool.submit(job)] = what, path
            wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            if stop.received is not None and not is_announced:
                is_announced = True
                for worker in multiprocessing.active_children():
                    worker.terminate()  # SIGTERM: training publishes; a probe's worker just ends
            for future in [one for one in running if one.done()]:
                what, path = running.pop(future)
                if is_announced and isinstance(future.exception(), BrokenExecutor):
                    continue
                found = future.result()
                if what == "training":
                    waiting.append(("probing", path))
                elif found is not None:
                    results[path] = found
            done = sum(_step(path, most) for path, most in steps.items()) + PROBING * len(results)
            bar.advance(done - shown, note=", ".join(f"{what} {path.name}" for what, path in running.values()))
            shown = done
    return results, stop.received


def _step(path: Path, most: int) -> int:
    """The newest step that a run's log tells of."""
    lines = Run.open(path).metrics()
    return min(int(lines[-1]["step"]), most) if lines else 0


def train_one(path: Path) -> None:
    """In a worker: train a run, from where it is."""
    from lcmae.training.train import train

    with _worker(path):
        train(Run.open(path), label=f"training {path.name}")


def probe_one(path: Path, probes: dict[str, dict[str, Any]], images: int) -> JobResult:
    """In a worker: every probe that has no stored result yet."""
    with _worker(path):
        return run_job(Job(str(path), probes, images=images), show_progress=True)


@contextlib.contextmanager
def _worker(path: Path) -> Iterator[None]:
    """A log, and no ear for Ctrl-C: whoever started the workers tells them when it is over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    make_folder(path.parent / LOGS)
    with open(path.parent / LOGS / f"{path.name}.log", "a") as log, contextlib.redirect_stderr(log):
        yield


def at_a_time(runs: Sequence[Path]) -> int:
    """Workers: a core each, at most four (each holds about a gigabyte), no more than runs."""
    return max(1, min(cores(), 4, len(runs)))
