"""What do all probes together take: memory and time, and in whose hands was the process at its
largest?

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.battery --images 500
    python -m benchmarks.battery --probes receptive_field spectrum --images 64 --out battery.md

One pass of `run_probes` over the images, as `lcmae probe all` makes it, with initial weights. The
memory of the process is read every 50 ms (Linux: /proc/self/statm) and counted for the probe that
is at work: a forward pass that several probes share counts for the first that asks for it. What
stands before the first image (imports, weights) is said apart. Ctrl-C prints what there is by then.
"""

import argparse
import os
import platform
import shlex
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
import xarray as xr

from benchmarks.contenders import SHAPES, config_of
from lcmae.errors import InputError
from lcmae.models import MaskedImageModel
from lcmae.probes.base import (
    FAILURES,
    Accumulator,
    Probe,
    Results,
    batches,
    images_a_pass,
    show_batches,
    start_with_baselines,
    unchanged,
)
from lcmae.probes.registry import PROBES, probe_class
from lcmae.probes.watching.batch import Batch, Images
from lcmae.probes.watching.views import open_view
from lcmae.progress import ProgressBar
from lcmae.training.train import build_model

SEED = 0
EVERY = 0.05
"""Seconds between two readings of the process's memory."""

BEFORE = "before the first image"
BETWEEN = "between probes", ""
Work = tuple[str, str]
"""A probe, and what it does: start, prepare, watch, update, conclude."""


def resident() -> int:
    """Bytes of this process in memory."""
    return _pages(1)


def of_files() -> int:
    """Bytes of them that are files' (libraries), which the system can drop and read again."""
    return _pages(2)


def _pages(column: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Clock:
    """Memory and time by who is at work."""

    work: Work = (BEFORE, "")
    peak: dict[Work, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[Work, float] = field(default_factory=lambda: defaultdict(float))
    cpu_seconds: dict[Work, float] = field(default_factory=lambda: defaultdict(float))
    """Of all threads: on a shared machine the number that says something."""
    since: float = field(default_factory=time.perf_counter)
    cpu_since: float = field(default_factory=time.process_time)
    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def during(self, work: Work) -> Iterator[None]:
        """Count for this work until it ends, then for what was at work before."""
        before = self.work
        self._turn(work)
        try:
            yield
        finally:
            self._turn(BETWEEN if before == (BEFORE, "") else before)

    def _turn(self, work: Work) -> None:
        self.read()
        now, cpu_now = time.perf_counter(), time.process_time()
        self.seconds[self.work] += now - self.since
        self.cpu_seconds[self.work] += cpu_now - self.cpu_since
        self.work, self.since, self.cpu_since = work, now, cpu_now

    def read(self) -> None:
        """One reading."""
        work = self.work
        self.peak[work] = max(self.peak[work], resident())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Read in a thread of its own."""

        def keep_reading() -> None:
            while not self.ended.wait(EVERY):
                self.read()

        thread = threading.Thread(target=keep_reading, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()


@dataclass
class Watched(Accumulator):
    """A probe's accumulator that says when it is at work."""

    name: str
    inner: Accumulator
    clock: Clock

    def prepare(self, batch: Batch) -> None:
        with self.clock.during((self.name, "prepare")):
            self.inner.prepare(batch)

    def watch(self, batch: Batch) -> None:
        with self.clock.during((self.name, "watch")):
            self.inner.watch(batch)

    def update(self, batch: Batch) -> None:
        with self.clock.during((self.name, "update")):
            self.inner.update(batch)

    @property
    def num_steps(self) -> int:
        return self.inner.num_steps

    def conclude(self) -> Iterator[None]:
        steps = self.inner.conclude()
        while True:
            with self.clock.during((self.name, "conclude")):
                if next(steps, self) is self:
                    return
            yield

    def result(self) -> xr.Dataset:
        with self.clock.during((self.name, "conclude")):
            return self.inner.result()


def measure(probes: list[Probe], model: MaskedImageModel, images: Images, clock: Clock) -> Results:
    """One pass, as `run_probes` makes it."""
    results, running = Results(), {}
    with unchanged(model), clock.running():
        for probe in probes:
            with clock.during((probe.name, "start")):
                running[probe.name] = probe, Watched(probe.name, _started(probe, model, len(images)), clock)
        size = images_a_pass(probes, model)
        with ProgressBar("probing", len(images)) as bar:
            show_batches(running, batches(model, images, size, SEED), results, bar)
        with ProgressBar("concluding", len(running)) as bar:
            for name in list(running):
                probe, accumulator = running.pop(name)
                try:
                    for _ in accumulator.conclude():
                        pass
                    results.datasets[name] = accumulator.result()
                except FAILURES as error:
                    results.failures[name] = probe.failure(InputError(str(error)))
                del accumulator  # what it has summed is let go of
                bar.advance(note=name)
    return results


def _started(probe: Probe, model: MaskedImageModel, num_images: int) -> Accumulator:
    return start_with_baselines(probe, model, num_images, SEED)


def markdown(about: list[str], clock: Clock, failures: dict[str, str]) -> str:
    """A line for every probe, the largest first."""
    gib, rows = 2**30, dict[str, list[str]]()
    names = {name for name, _ in clock.peak} - {BEFORE, BETWEEN[0]}
    kinds = ("prepare", "update", "conclude")
    order = sorted(names, key=lambda name: -max(clock.peak[name, kind] for kind in ("start", "watch", *kinds)))
    for name in order:
        peaks = [clock.peak[name, kind] / gib for kind in kinds]
        times = [
            of_kind[name, "watch"] + of_kind[name, "update"] if kind == "update" else of_kind[name, kind]
            for of_kind in (clock.seconds, clock.cpu_seconds)
            for kind in kinds
        ]
        rows[name] = [*(f"{one:.2f}" for one in peaks), *(f"{one:.1f}" for one in times)]
    work = max(clock.peak, key=lambda one: clock.peak[one])
    lines = [
        "# All probes in one pass", "", *about, "",
        f"Peak **{clock.peak[work] / gib:.2f} GiB** ({' '.join(work).strip()}), of which {clock.peak[BEFORE, ''] / gib:.2f} GiB "
        f"stood {BEFORE} and {of_files() / gib:.2f} GiB are pages of libraries' files; **{sum(clock.seconds.values()):.0f} s** "
        f"from the first image on, {sum(clock.cpu_seconds.values()):.0f} s of CPU time.", "",
        "| probe | GiB at most, learning | batches | conclusion | s, learning | batches | conclusion | CPU s, learning "
        "| batches | conclusion |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    lines += [f"| {name} | {problem} | | | |" for name, problem in failures.items()]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> str:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny4", help="model and image size")
    parser.add_argument("--data", default="cifar10", help="where the images come from")
    parser.add_argument("--probes", nargs="*", choices=PROBES, default=list(PROBES))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--out", type=Path, default=None, help="file for the table (.md)")
    arguments = parser.parse_args(argv)
    model = build_model(config_of(arguments.shape, "mae", 1)).eval()
    view = open_view(model, arguments.data, limit=arguments.images)
    probes, failures = [], {}
    for name in arguments.probes:
        probe = probe_class(name)()
        try:
            _started(probe, model, len(view))
            probes.append(probe)
        except InputError as error:
            failures[name] = str(error)
    clock = Clock()
    try:
        results, ending = measure(probes, model, view, clock), ""
    except KeyboardInterrupt:
        results, ending = Results(), " Interrupted: what was not reached is missing."
    failures |= {name: str(error) for name, error in results.failures.items()}
    command = shlex.join(["python", "-m", "benchmarks.battery", *(sys.argv[1:] if argv is None else argv)])
    about = [
        f"    {command}", "",
        f"{datetime.now(UTC).isoformat(timespec='seconds')}, {platform.machine()}, {torch.get_num_threads()} thread(s), torch "
        f"{torch.__version__}; MAE of shape {arguments.shape}, initial weights; {len(view)} images of {arguments.data}.{ending}",
    ]  # fmt: skip
    text = markdown(about, clock, failures)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return text


if __name__ == "__main__":
    main()
