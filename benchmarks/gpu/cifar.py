"""As many epochs on CIFAR-10 as fit: several runs at once on one GPU, each in a process of its own.

One run alone leaves the GPU idle while it opens its images, compiles, looks at its features and is
classified, which is the processor's work; beside others it does not. Every run gets equally many
image-mask pairs, and trains its whole schedule: the number of epochs is chosen before the first one
begins, from the time of a step.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import train as train_benchmark
from benchmarks.gpu.bring import bring
from benchmarks.gpu.record import Record, read_json, write_json
from benchmarks.gpu.runs import JOBS, MODES, NUM_JOBS, STOPPED, epochs_that_fit, name_of

CIFAR10_IMAGES = 50_000
USED = 0.85
"""Share of the time that epochs are planned for."""
FIRST, LAST = 35.0, 45.0
"""Seconds before all processes train, and for classifying the last run."""
PUBLISHING = 8.0
"""Seconds that a stopped run gets to store what it has reached."""
AT_ONCE = 3


@dataclass
class Running:
    """The processes that train now."""

    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def ended(self) -> dict[str, int]:
        """Those that are done, with their exit codes; they are forgotten."""
        codes = {name: process.poll() for name, process in self.processes.items()}
        found = {name: code for name, code in codes.items() if code is not None}
        for name in found:
            del self.processes[name]
        return found

    def stop(self, seconds: float) -> None:
        """Ask all to store what they have reached, and end those that are not done in time."""
        for process in self.processes.values():
            process.terminate()
        end = time.monotonic() + seconds
        for process in self.processes.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cifar(record: Record, options: argparse.Namespace) -> None:
    """Numbers of each run, as it ends."""
    settings = dict(word.split("=", 1) for word in options.option)
    jobs = JOBS[: int(settings.get("jobs", 2 if options.tiny else NUM_JOBS))]
    at_once = int(settings.get("at_once", AT_ONCE))
    runs = options.work / "runs"
    plan = plan_of(record, options, settings, len(jobs))
    names = [name_of(*job) for job in jobs]
    record.keep("plan", {**plan, "jobs": names, "at_once": at_once})

    waiting, running, finished, failed = list(jobs), Running(), {}, []

    def collect() -> None:
        for name, code in running.ended().items():
            numbers = read_json(runs / name / "classified.json")
            if numbers is not None:
                finished[name] = numbers
                record.keep(name, numbers)
                with record.part(f"bring {name}"):
                    bring(finished, runs, options.work / "half", options.out)
            if code not in (0, STOPPED, -signal.SIGTERM):
                failed.append(f"{name} ended with {code}")

    while (waiting or running.processes) and record.left > PUBLISHING:
        while waiting and len(running.processes) < at_once:
            variant, seed = waiting.pop(0)
            words = [sys.executable, "-m", "benchmarks.gpu.runs", variant, str(seed), "--plan", json.dumps(plan)]
            words += ["--runs", str(runs), "--device", options.device]
            running.processes[name_of(variant, seed)] = subprocess.Popen(words)
        collect()
        time.sleep(0.2)
    running.stop(PUBLISHING)
    collect()
    record.keep("unfinished", {name: reached(runs / name) for name in names if name not in finished})
    if failed:
        raise RuntimeError(f"{'; '.join(failed)}; their output is in the log")


def reached(run: Path) -> list[int]:
    """The steps that an unfinished run has stored."""
    return sorted(int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))


def plan_of(record: Record, options: argparse.Namespace, settings: dict[str, str], num_jobs: int) -> dict[str, Any]:
    """Epochs, batch and mode of all runs. A second call goes on with those of the first."""
    path = options.work / "plan.json"
    known = read_json(path)
    if known is not None and known["tiny"] == options.tiny:
        return known
    batch = int(settings.get("batch", 16 if options.tiny else 1024))
    if options.tiny:
        mode, epochs = "eager", 2
    else:
        mode, step_s = fastest_mode(record, options, batch)
        record.keep("step", {"mode": mode, "seconds": step_s})
        seconds = USED * (record.left - FIRST - LAST)
        epochs = epochs_that_fit(seconds, num_jobs, step_s, CIFAR10_IMAGES // batch)
    mode, epochs = settings.get("mode", mode), int(settings.get("epochs", epochs))
    plan = {"epochs": epochs, "batch": batch, "mode": mode, "tiny": options.tiny}
    write_json(path, plan)
    return plan


def fastest_mode(record: Record, options: argparse.Namespace, batch: int) -> tuple[str, float]:
    """The mode with the shortest step of MAE, and its seconds: from the step `steps` of this
    machine, or measured now."""
    known = read_json(options.work / "records" / "steps.json") or {"parts": {}}
    rows = [row for part in known["parts"].values() for row in part["rows"]]
    if not (found := modes_in(rows, batch)):
        argv = f"--shapes tiny4 --batch {batch} --objectives mae --peers --rounds 3 --seconds 40".split()
        argv += ["--device", options.device, "--variants", *(MODES if options.device == "cuda" else ["eager"])]

        def keep(about: dict[str, Any], rows: list[train_benchmark.Row]) -> None:
            record.keep("modes", {"about": about, "rows": [vars(row) for row in rows]})

        found = modes_in([vars(row) for row in train_benchmark.main(argv, keep)], batch)
    if not found:
        raise RuntimeError("expected a way to take a training step that works, got none; the log says why")
    mode = min(found, key=found.__getitem__)
    return mode, found[mode]


def modes_in(rows: list[dict[str, Any]], batch: int) -> dict[str, float]:
    """Seconds a step of MAE, ViT-Tiny/4, at this batch, by mode."""
    return {
        row["name"]: row["step_s"]
        for row in rows
        if (row["shape"], row["batch"], row["objective"]) == ("tiny4", batch, "mae")
        and row["name"] in MODES
        and row["step_s"] is not None
    }
