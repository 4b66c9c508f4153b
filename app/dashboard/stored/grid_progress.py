"""How far a comparison is: read from what it writes as it goes (`lcmae.probes.grids.run`), from any
process. No torch, no streamlit."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcmae.app.dashboard.stored import reading
from lcmae.app.dashboard.stored.names import label
from lcmae.errors import InputError
from lcmae.probes.grids.cells import SETTINGS
from lcmae.probes.grids.table import read_json


@dataclass(frozen=True)
class Going:
    """One comparison, now."""

    is_running: bool
    """Whether a process works on it."""

    names: list[str]
    """Every run of the grid."""

    states: dict[str, str]
    """done, failed, training, probing (or loading) or waiting, by run."""

    at: list[dict[str, Any]]
    """Run, step, steps in all (None until its first checkpoint) and last loss of each run that is
    trained now."""

    seconds_left: float | None
    """By the runs that are done; None where none is, or nothing is missing."""

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.states.values())

    @property
    def num_ended(self) -> int:
        return self.counts["done"] + self.counts["failed"]


def progress_of(folder: Path, table: xr.Dataset) -> Going | None:
    """The comparison of a folder, with its table as it is; None where the settings are gone."""
    names = (read_json(folder / SETTINGS) or {}).get("cells")
    if not isinstance(names, list):
        return None
    names = [label(name) for name in names]
    is_running = reading.is_running(folder)
    states = dict.fromkeys(names, "waiting")
    states |= dict(zip(table["run"].values.tolist(), table["status"].values.tolist(), strict=True))
    at = []
    for name in names:
        path = folder / name
        if not is_running or states[name] != "waiting" or not (path / "config.json").is_file():
            continue
        if reading.is_running(path):
            states[name] = "training"
            at.append(where(name, path))
        elif reading.steps_of(path):
            states[name] = "probing"
    now = sum(state in ("training", "probing") for state in states.values())
    left = sum(states[name] not in ("done", "failed") for name in names)
    done = table["status"].values == "done"
    seconds = (table["train_seconds"].values + np.nan_to_num(table["probe_seconds"].values))[done]
    known = is_running and left and len(seconds)
    return Going(is_running, names, states, at, float(seconds.mean()) * left / max(now, 1) if known else None)


def where(name: str, path: Path) -> dict[str, Any]:
    """How far the training of one run is."""
    try:
        lines, config = reading.metrics_of(path), reading.config_of(path)
    except InputError:
        lines, config = [], {}
    losses = [line["loss"] for line in lines if isinstance(line.get("loss"), float)]
    steps, every = reading.steps_of(path), config.get("checkpoint_every")
    epochs = config.get("epochs")
    known = isinstance(every, int) and isinstance(epochs, int) and every > 0
    total = steps[0] * epochs // every if known and steps and steps[0] else None
    return {
        "run": name,
        "step": lines[-1].get("step") if lines else None,
        "of": total,
        "loss": losses[-1] if losses else None,
    }
