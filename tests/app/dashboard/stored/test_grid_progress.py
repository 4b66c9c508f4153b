"""A comparison that runs is followed: how many runs have ended, where the others are, and how long
it takes."""

import json
from pathlib import Path

import pytest

from lcmae.app.dashboard.stored import grid_progress
from lcmae.probes.grids.cells import SETTINGS
from lcmae.probes.grids.table import TABLE, read_table, write_table
from lcmae.runs.lock import lock
from lcmae.runs.run import Run
from tests.app import synthetic
from tests.app.pages import open_page, words

NAMES = ["mae-random-0", "mae-random-1", "mae-grid-0", "mae-grid-1", "mae-block-0"]


def write(folder: Path, done: int, failed: int = 0) -> None:
    rows = [
        {"run": name, "status": "done", "objective": "mae", "mask": "random", "ratio": 0.5, "seed": position,
         "train_seconds": 50.0 + 20 * position, "probe_seconds": 10.0, "mean_knn": 0.5}
        for position, name in enumerate(NAMES[:done])
    ]  # fmt: skip
    rows += [{"run": name, "status": "failed", "error": "broke"} for name in NAMES[done : done + failed]]
    write_table(rows, {"mean_knn": ("kNN accuracy", "share of test images")}, folder / TABLE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCMAE_RUNS", str(tmp_path))
    path = tmp_path / "compare"
    path.mkdir()
    (path / SETTINGS).write_text(json.dumps({"settings": {}, "cells": NAMES}))
    return path


def going(folder: Path) -> grid_progress.Going:
    found = grid_progress.progress_of(folder, read_table(folder / TABLE))
    assert found is not None
    return found


def running_cell(folder: Path, name: str) -> Run:
    """A cell of 8 epochs of 10 steps that has published after 2 of them, and goes on."""
    run = Run.create(folder / name, {"epochs": 8, "checkpoint_every": 2})
    written_run = synthetic.run(folder / "scratch")
    step = written_run.path / "checkpoints" / "000020"
    step.rename(run.path / "checkpoints" / "000020")
    run.log_metrics({"step": 30, "loss": 0.25})
    return run


def test_a_running_comparison_tells_where_every_run_is(folder: Path):
    write(folder, done=2, failed=1)
    cell = running_cell(folder, NAMES[3])
    with lock(folder), cell.lock():
        now = going(folder)
        assert now.is_running
        assert list(now.states.values()) == ["done", "done", "failed", "training", "waiting"]
        assert now.at == [{"run": NAMES[3], "step": 30, "of": 80, "loss": 0.25}]
        # (60 + 80) / 2 seconds a run, two runs missing, one at a time
        assert now.seconds_left == 140.0
    with lock(folder):
        assert going(folder).states[NAMES[3]] == "probing"
    ended = going(folder)
    assert not ended.is_running
    assert ended.seconds_left is None
    assert ended.num_ended == 3


def test_before_the_first_run_has_ended_nothing_is_promised(folder: Path):
    write(folder, done=0)
    with lock(folder):
        assert going(folder).seconds_left is None


@pytest.mark.parametrize("text", ["", "[]", '{"cells": 3}'])
def test_without_settings_there_is_nothing_to_say(folder: Path, text: str):
    write(folder, done=1)
    (folder / SETTINGS).write_text(text)
    assert grid_progress.progress_of(folder, read_table(folder / TABLE)) is None


def test_the_page_follows_and_shows_each_run_as_it_ends(folder: Path):
    write(folder, done=1)
    with lock(folder):
        app = open_page("masks")
        (bar,) = app.get("progress")
        assert bar.proto.text == "1 of 5 runs have ended (4 waiting), about 4:00 left"
        assert bar.proto.value == 20
        write(folder, done=2, failed=1)
        app.run()
        assert not app.exception
        (bar,) = app.get("progress")
        assert bar.proto.text == "3 of 5 runs have ended (1 failed, 2 waiting), about 2:20 left"
        assert "mae-grid-0 failed: broke" in [warning.value for warning in app.warning]
    app.run()
    assert not app.get("progress")
    assert "It stopped after 3 of 5 runs" in words(app)
