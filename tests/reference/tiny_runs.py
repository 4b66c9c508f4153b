"""Runs that train in a second: 48 digits of 8x8 pixels, 16 patches, one block. For tests of the
loop, not of learning."""

from pathlib import Path
from typing import Any

from torch import Tensor

from lcmae.config import RunConfig
from lcmae.probes.results import catalogue
from lcmae.runs.run import Run
from lcmae.settings import parse

MODEL = {
    "kind": "mae",
    "image_size": [8, 8],
    "patch_size": 2,
    "channels": 1,
    "width": 16,
    "depth": 1,
    "heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
}
CONFIG = {
    "data": "digits",
    "limit": 48,
    "model": MODEL,
    "objective": {"kind": "mae", "mask": {"kind": "random", "ratio": 0.5}},
    "epochs": 4,
    "batch_size": 16,
    "base_lr": 1e-2,
    "warmup_epochs": 1,
    "monitor_images": 40,
    "log_every": 2,
}
STEPS = 12
"""Of these settings: 4 epochs of 3 steps."""


def tiny_config(**changes: Any) -> RunConfig:
    return parse(RunConfig, {**CONFIG, **changes})


def tiny_run(path: Path, **changes: Any) -> Run:
    """A new run folder, not yet trained."""
    return Run.create(path, tiny_config(**changes).model_dump(mode="json"))


def weights(run: Run) -> dict[str, Tensor]:
    """Of the newest checkpoint."""
    return run.newest().tensors()


def lines(run: Run) -> list[dict[str, Any]]:
    """metrics.jsonl without its clock."""
    return [{name: value for name, value in line.items() if name != "seconds_per_step"} for line in run.metrics()]


def only_file(folder: Path, probe: str) -> Path:
    """The one stored result of a probe in a folder like probes/000003."""
    (path,) = catalogue.files(folder, probe)
    return path
