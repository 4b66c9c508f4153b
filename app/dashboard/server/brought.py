"""Checkpoints that `lcmae dashboard CHECKPOINT` is given: each becomes a run below the folder of
runs, unless it is one. Imports no streamlit, no torch.

`lcmae import` does it in a process of its own, whose memory goes with it: twice the weights, and
torch. What was imported from the same file before, and is newer than it, is taken as it is.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from lcmae import processes
from lcmae.errors import InputError
from lcmae.runs.run import Run, is_run, is_step


def as_run(checkpoint: str, runs: Path, data: str | None = None) -> tuple[int, Path]:
    """Exit code of the import (0 where there was none to do), and the run. What was assumed, or why
    it failed, the import has said on standard error. `data`: images that the run is shown with.

    `InputError` for a run that lies elsewhere than below `runs`.
    """
    path = Path(checkpoint).expanduser()
    run = path.parent.parent if is_step(path) else path
    if is_run(run):
        if not Path(os.path.abspath(run)).is_relative_to(os.path.abspath(runs)):
            raise InputError(f"expected a run below {runs}, got {run}; --runs {run.parent} shows it")
        return 0, run
    known = os.path.abspath(path) if path.exists() else checkpoint
    target, is_there = _target(known, runs)
    if is_there:
        return 0, target
    print(f"importing {checkpoint} into {target}", file=sys.stderr)
    words = ["import", known, "--out", str(target), *([] if data is None else ["--data", data])]
    done = processes.run(processes.module("lcmae.app.cli", *words), stdout=subprocess.DEVNULL)
    return done.returncode, target


def _target(checkpoint: str, runs: Path) -> tuple[Path, bool]:
    """The folder for a checkpoint's run, and whether that is there already: of several with one
    name each has a number."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(checkpoint).stem).strip("-.") or "checkpoint"
    number = 1
    while os.path.lexists(target := runs / (stem if number == 1 else f"{stem}-{number}")):
        if is_run(target) and _is_of(target, checkpoint):
            return target, True
        number += 1
    return target, False


def _is_of(run: Path, checkpoint: str) -> bool:
    """Whether a run was imported from this file or folder after it was last changed."""
    try:
        opened = Run.open(run)
    except InputError:
        return False
    source = opened.config.get("source")
    if not isinstance(source, dict) or source.get("path") != checkpoint or not opened.steps():
        return False
    path = Path(checkpoint)
    files = [path, *path.glob("*")] if path.is_dir() else [path]
    try:
        return max(file.stat().st_mtime for file in files) <= (run / "config.json").stat().st_mtime
    except OSError:
        return False
