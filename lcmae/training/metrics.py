"""Metrics wait on the device and are fetched together; a loss that is not a number is found before
anything is published."""

import math
import time
from typing import Any

import torch
from torch import Tensor

from lcmae.runs.run import Run
from lcmae.training import distributed
from lcmae.training.trackers import Tracker

REMEDY = "expected finite numbers (a smaller --base-lr, or --clip 1.0, may help)"


class NonFiniteLossError(RuntimeError):
    """The loss or the weights became NaN or infinite; the message names the step. The last good
    checkpoint is kept."""


class MetricLog:
    """Collects the values of each step; `write` puts their means into metrics.jsonl as one line."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._steps: list[int] = []
        self._rows: list[Tensor] = []
        self._since = time.monotonic()
        self.note = ""

    def add(self, step: int, values: dict[str, Tensor]) -> None:
        """Keep the values of one step, without waiting for them."""
        self._names = list(values)
        device = values["loss"].device
        self._rows.append(torch.stack([value.to(device, torch.float64) for value in values.values()]))
        self._steps.append(step)

    def check_finite(self) -> list[list[float]]:
        """The waiting rows, means over processes; raises `NonFiniteLossError` naming the first step
        that is not a number."""
        if not self._rows:
            return []
        means = distributed.mean_over_ranks(torch.stack(self._rows))
        # kept in place of this process's own: a checkpoint holds the main process's rows, and all
        # resume from it
        self._rows = list(means)
        rows = means.tolist()
        loss = self._names.index("loss")
        for step, row in zip(self._steps, rows, strict=True):
            if not math.isfinite(row[loss]):
                raise NonFiniteLossError(f"loss is {row[loss]} at step {step}; {REMEDY}")
        return rows

    def write(self, run: Run, track: Tracker) -> None:
        """Write the means of the waiting steps as one line, named by the last of them, and forget
        them."""
        rows = self.check_finite()
        if not rows:
            return
        means = {
            name: math.fsum(column) / len(rows)
            for name, column in zip(self._names, zip(*rows, strict=True), strict=True)
        }
        step, now = self._steps[-1], time.monotonic()
        self.note = f"loss {means['loss']:.4f}"
        seconds_per_step = (now - self._since) / len(rows)
        self._steps, self._rows = [], []
        self.write_more(run, track, step, {**means, "seconds_per_step": seconds_per_step})

    def write_more(self, run: Run, track: Tracker, step: int, metrics: dict[str, float]) -> None:
        """Write a line of metrics that are already numbers (the monitor's)."""
        if distributed.is_main():
            run.log_metrics({"step": step, **metrics})
            track(step, metrics)
        self._since = time.monotonic()  # what the monitor took is not the next steps' time

    def state(self) -> dict[str, Any]:
        """What waits, for a checkpoint: a resumed run then writes the same lines as an
        uninterrupted one."""
        rows = torch.stack(self._rows).cpu() if self._rows else torch.empty(0)
        return {"names": self._names, "steps": self._steps, "rows": rows}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "MetricLog":
        log = cls()
        log._names, log._steps, log._rows = state["names"], state["steps"], list(state["rows"])
        return log
