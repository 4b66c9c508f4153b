"""Equal compute by FLOP or by seconds: how many epochs each cell of a grid gets.

The baseline (MAE with random masks of 0.75, or the nearest to it) gets the comparison's epochs, the
others what costs the same, in whole epochs, as whole schedules of that length. The cost of a step
is counted by formula (`lcmae.probes.grids.flops`) or timed before the first run, in rounds over all
cells so that what else the machine does meets all of them.

    OUT/calibration.json   what was timed: seconds a step of each cell, device, threads, versions

A stored time is taken as it is, so a comparison that goes on has the schedules that it began with.
"""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.probes.grids.cells import Cell, Comparison, Equal, cells
from lcmae.probes.grids.configs import config_of, masks_an_image
from lcmae.probes.grids.flops import flops_an_image
from lcmae.probes.grids.table import describe, read_json
from lcmae.probes.grids.verdict import Key, baseline_of
from lcmae.probes.jobs.executors import Engine
from lcmae.processes import cores
from lcmae.progress import ProgressBar
from lcmae.runs.durable import make_folder, to_json
from lcmae.runs.run import write_atomically
from lcmae.settings import parse

FILE = "calibration.json"
WARM_UP, ROUNDS, STEPS = 2, 3, 8
"""Steps that are not timed, rounds over all cells, and timed steps of each."""

WORDS: dict[Equal, str] = {"pairs": "image-mask pairs", "flops": "FLOP", "seconds": "seconds of training steps"}
COLUMN: dict[Equal, str] = {"pairs": "image_mask_pairs", "flops": "train_gflop", "seconds": "train_seconds"}
"""Column of the table that the equal thing stands in."""


@dataclass(frozen=True)
class Budget:
    """What every cell gets, in GFLOP or seconds an image of the training set."""

    by: Equal
    baseline: Key
    of_baseline: float
    """The baseline's epochs times its cost."""
    cost: dict[Key, float]
    """Cost of one epoch, an image, by `Cell.settings`."""

    def epochs(self, settings: Key) -> int:
        """Whole epochs of a cell. `InputError` where the budget is not worth one."""
        wanted = self.of_baseline / self.cost[settings]
        if wanted < 0.5:
            raise InputError(
                f"expected {WORDS[self.by]} for at least one epoch of {describe(settings)}, got {wanted:.2f} epochs: "
                "raise --epochs"
            )
        return max(1, round(wanted))

    def seconds_a_step(self, settings: Key, batch_size: int) -> float | None:
        """As it was timed; None for equal FLOP."""
        return self.cost[settings] * batch_size if self.by == "seconds" else None

    def errors(self) -> list[float]:
        """By cell, how far whole epochs miss the budget, as a share of it."""
        return [self.epochs(key) * cost / self.of_baseline - 1 for key, cost in self.cost.items()]

    def sentence(self) -> str:
        """What is equal, and how nearly."""
        low, high = min(self.errors()), max(self.errors())
        counts = [self.epochs(key) for key in self.cost]
        return (
            f"Equal {WORDS[self.by]}: every run gets what {describe(self.baseline)} takes in {self.epochs(self.baseline)} "
            f"epochs. That is {min(counts)} to {max(counts)} epochs; rounding to whole epochs misses it by {low:+.1%} to "
            f"{high:+.1%}."
        )


def budget_of(comparison: Comparison, out: Path, engine: Engine, device: str | None = None) -> Budget | None:
    """The budget of a comparison by FLOP, or by the seconds stored in `out`, where what is missing
    is timed first; None for equal image-mask pairs. `InputError` for untrained runs, and for what
    cannot be trained."""
    if comparison.equal == "pairs":
        return None
    if comparison.untrained:
        raise InputError(f"expected --equal pairs with --untrained, which trains nothing, got {comparison.equal}")
    one = comparison.model_copy(update={"seeds": 1})
    configs = {cell: _config(one, cell) for cell in cells(one)}
    if comparison.equal == "flops":
        cost = {cell: 1e-9 * flops_an_image(config) for cell, config in configs.items()}
    else:
        times = calibrated(configs, out, engine, device)
        cost = {cell: times[cell.family] / config.batch_size for cell, config in configs.items()}
    keys = [_as_table(cell.settings) for cell in configs]
    base = list(configs)[baseline_of(keys)]
    return Budget(
        comparison.equal,
        base.settings,
        comparison.epochs * cost[base],
        {cell.settings: value for cell, value in cost.items()},
    )


def _config(comparison: Comparison, cell: Cell) -> RunConfig:
    try:
        return config_of(comparison, cell, comparison.epochs)
    except InputError as error:
        raise InputError(f"expected cells that can be trained, got {cell.family}: {error}") from error


def _as_table(key: Key) -> Key:
    return (*key[:3], 1 if key[3] is None and key[1] == "random" else key[3])


def epochs_in_multiples_of(comparison: Comparison) -> int:
    """Epochs that a comparison can be shortened to come in multiples of this."""
    return masks_an_image(comparison) if comparison.equal == "pairs" else 1


# --- seconds ---


def calibrated(configs: dict[Cell, RunConfig], out: Path, engine: Engine, device: str | None) -> dict[str, float]:
    """Seconds a step of each cell by `Cell.family`: those that are stored in `out` for the same
    config, and the others timed now, on a worker of the engine, and stored."""
    asked = {cell.family: _identity(config) for cell, config in configs.items()}
    found = read_json(out / FILE) or {"cells": {}}
    known = {name: entry for name, entry in found["cells"].items() if entry["asked"] == asked.get(name)}
    missing = {cell.family: config for cell, config in configs.items() if cell.family not in known}
    if missing:
        make_folder(out)
        threads = threads_of(engine)
        jobs = [config.model_dump(mode="json") for config in missing.values()]
        if engine.engine == "local":
            measured = time_steps(jobs, device, threads)
        else:
            with engine.executor(out) as executor:
                measured = executor.submit(time_steps, jobs, device, threads).result()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        about = {**measured["machine"], "measured": now}
        for name, seconds in zip(missing, measured["seconds"], strict=True):
            found["cells"][name] = {"asked": asked[name], "seconds_a_step": seconds, **about}
        write_atomically(out / FILE, to_json(found, FILE))
        known = found["cells"]
    return {name: float(known[name]["seconds_a_step"]) for name in asked}


def threads_of(engine: Engine) -> int | None:
    """CPU threads of a job that shares the machine with others; None leaves torch's choice."""
    shares = engine.engine == "local" and not engine.in_process
    return max(1, cores() // engine.workers) if shares else None


def _identity(config: RunConfig) -> dict[str, Any]:
    """What decides the cost of a step."""
    return config.model_dump(mode="json", exclude={"epochs", "warmup_epochs", "checkpoint_every", "seed", "base_lr"})


def time_steps(configs: Sequence[dict[str, Any]], device: str | None, threads: int | None) -> dict[str, Any]:
    """Seconds a step of each config: for each of `STEPS` moments of its schedule the median over
    `ROUNDS`, and of those the mean. Images are loaded before, and nothing is written."""
    import torch

    before = torch.get_num_threads()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if threads is not None:
        torch.set_num_threads(threads)
    found = np.zeros((ROUNDS, len(configs), STEPS))
    try:
        with ProgressBar("timing steps", ROUNDS * len(configs)) as bar:
            for number in range(ROUNDS):
                for row, values in enumerate(configs):
                    found[number, row] = _timed(parse(RunConfig, values), device)
                    bar.advance()
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    machine = {"device": device, "threads": used, "processor": platform.processor() or platform.machine()}
    return {"seconds": np.median(found, axis=0).mean(1).tolist(), "machine": {**machine, "torch": torch.__version__}}


def _timed(config: RunConfig, device: str) -> list[float]:
    """Seconds of `STEPS` steps, spread over the schedule of the ratio, on the first batch."""
    import torch

    from lcmae.training.schedule import Schedule
    from lcmae.training.speed import attention_kernel
    from lcmae.training.step import Draw, Task
    from lcmae.training.train import build_model, make_optimizer, make_step, open_training_data, prepared, update

    target = torch.device(device)
    source = open_training_data(config).to(target)
    schedule = Schedule(config, len(source))
    model = prepared(build_model(config), config).to(target)
    optimizer = make_optimizer(model, config)
    draw, compute = Draw(model, config), make_step(Task(model), optimizer, config)
    _, batches = next(schedule.steps(source, after=0))
    spread = [1 + (schedule.num_steps - 1) * (2 * it + 1) // (2 * STEPS) for it in range(STEPS)]
    seconds = []
    with attention_kernel(model, config.attention):
        for step in [*spread[:WARM_UP], *spread]:
            begin = time.perf_counter()
            float(update(draw, compute, batches, schedule, step)["loss"])  # waits for the device
            seconds.append(time.perf_counter() - begin)
    return seconds[WARM_UP:]
