"""A comparison: what a cell is, what is done once, what a kill leaves, what a failure leaves, what
the table says."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.errors import InputError
from lcmae.probes.grids import run as comparing
from lcmae.probes.grids.cells import Cell, Comparison, cells
from lcmae.probes.grids.configs import config_of, mask_of
from lcmae.probes.grids.run import CELL, CellJob, Compared, compare, plan, run_cell
from lcmae.probes.grids.table import (
    TABLE,
    by_cell,
    describe,
    frame,
    measures,
    paired,
    read_table,
    summarise,
    write_table,
)
from lcmae.probes.jobs.executors import Engine
from lcmae.runs.durable import alive
from lcmae.runs.run import Run

TINY = (
    "model.width=8", "model.depth=1", "model.heads=2", "model.decoder_width=8", "model.decoder_depth=1",
    "model.decoder_heads=2", "batch_size=32", "limit=64", "monitor_images=40",
)  # fmt: skip
HERE = Engine()


def tiny(**settings: Any) -> Comparison:
    values = {"ratios": (0.5,), "epochs": 1, "set": TINY, "images": 8, "probes": ("local_contrast",), **settings}
    return Comparison(**values)


def rows_of(out: Path, *, without: tuple[str, ...] = ("train_seconds", "probe_seconds")) -> list[dict[str, Any]]:
    """The table without what a clock says."""
    return frame(read_table(out / TABLE)).drop(columns=list(without)).to_dict("records")  # pyright: ignore[reportReturnType]


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)  # NaN equals NaN here


# --- the grid ---


def test_a_grid_has_every_combination_and_masks_without_a_unit_come_once() -> None:
    grid = Comparison(masks=("random", "block"), ratios=(0.5, 0.75), units=(1, 2), objectives=("mae", "umae"), seeds=2)
    found = cells(grid)
    assert len(found) == 2 * 2 * 2 * (2 + 1)
    assert len({cell.name for cell in found}) == len(found)
    assert {cell.unit for cell in found if cell.mask == "block"} == {None}
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)  # an early look sees every cell
    with pytest.raises(InputError, match="once, got one twice"):
        cells(Comparison(masks=("random", "random")))


def test_a_unit_of_random_is_the_coarse_mask() -> None:
    assert mask_of(Cell("random", 0.5, 1, "mae", 0)).model_dump()["kind"] == "random"
    coarse = mask_of(Cell("random", 0.5, 2, "mae", 0)).model_dump()
    assert (coarse["kind"], coarse["unit"], coarse["ratio"]) == ("coarse_random", 2, 0.5)
    assert mask_of(Cell("checkerboard", 0.5, 2, "mae", 0)).model_dump()["cell"] == 2


def test_compute_is_equal_in_image_mask_pairs() -> None:
    grid = Comparison(ratios=(0.5,), objectives=("mae", "lcmae"), epochs=40)
    configs = {cell.objective: config_of(grid, cell) for cell in cells(grid)}
    assert configs["mae"].epochs == 40
    assert configs["lcmae"].epochs == 20  # two masks an image
    assert configs["mae"].warmup_epochs == 2 * configs["lcmae"].warmup_epochs
    odd = grid.model_copy(update={"epochs": 41})
    with pytest.raises(InputError, match=r"epochs in multiples of 2 .* got 41"):
        config_of(odd, Cell("random", 0.5, None, "lcmae", 0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ratios": (0.5, 0.99)},
            r"mae-random-0\.99: .*masking ratio 0\.99 leaves 0 of the 16 patches .* \(and 1 more\)",
        ),
        ({"masks": ("spiral",)}, "expected a mask out of random.*got 'spiral'"),
        ({"masks": ("attention",)}, "expected --guide CHECKPOINT"),
        ({"objectives": ("mea",)}, "expected an objective out of mae, umae, lcmae, simmim, usimmim, got 'mea'"),
        ({"recipes": "imagenet"}, "expected recipes digits, hierarchy, cifar10, got 'imagenet'"),
        ({"units": (5,)}, r"expected a mask unit of at most 3 patches on a 4x4 grid, got 5"),
        ({"probes": ("spectra",)}, "expected a probe out of .* got 'spectra'"),
        ({"set": ("epochs=3",)}, "fields that the grid does not decide, got epochs"),
        ({"set": ("model.dept=3",)}, r"model\.mae\.dept: extra inputs are not permitted"),
        ({"set": ("batch_size",)}, "expected --set FIELD=VALUE, got 'batch_size'"),
        ({"set": ("seed.x=1",)}, "the name of a field, got 'seed.x'"),
        ({"set": ("modle.depth=1",)}, "the name of a field, got 'modle.depth'"),
    ],
)
def test_the_impossible_is_refused_before_anything_is_made(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    if "ratios" in settings:
        settings = {**settings, "masks": ("random", "grid")}
    with pytest.raises(InputError, match=message) as caught:
        compare(Comparison(**{"ratios": (0.5,), **settings}), tmp_path / "out", HERE)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# --- what is done, once ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, Compared]:
    """Two masks, two objectives, two seeds."""
    out = tmp_path_factory.mktemp("compare") / "out"
    grid = tiny(masks=("random", "grid"), objectives=("mae", "umae"), seeds=2)
    return out, grid, compare(grid, out, HERE)


def test_the_table_is_tidy(finished: tuple[Path, Comparison, Compared]) -> None:
    out, grid, result = finished
    table = read_table(out / TABLE)
    assert [row["run"] for row in result.rows] == list(table["run"].values) == [cell.name for cell in cells(grid)]
    assert set(table["status"].values) == {"done"}
    assert table["seed"].values.tolist() == [0] * 4 + [1] * 4
    assert (table["image_mask_pairs"] == 64).all()
    assert (table["hidden_share"] == 0.5).all()
    terms = sum(table[f"local_contrast.term[{name}]"] for name in
                ("invariance", "local_consistency", "global_consistency", "offset"))  # fmt: skip
    np.testing.assert_allclose(terms, table["local_contrast.loss"], rtol=1e-5)  # stored in float32
    assert all({"long_name", "units"} <= column.attrs.keys() for column in table.values())
    assert table["local_contrast.loss"].attrs["units"] == "squared input units"
    assert {"mean_knn", "mean_linear", "train_seconds", "local_contrast.loss"} <= set(measures(table))
    assert not any(name.endswith(".sem") or name in ("seed", "ratio") for name in measures(table))


def test_any_reader_of_parquet_gets_the_same_types(finished: tuple[Path, Comparison, Compared]) -> None:
    import pyarrow.parquet as pq

    schema = pq.read_schema(finished[0] / TABLE)
    kinds = {name: str(schema.field(name).type) for name in ("run", "seed", "unit", "ratio", "mean_knn")}
    assert kinds == {"run": "string", "seed": "int64", "unit": "int64", "ratio": "double", "mean_knn": "double"}


def test_what_is_done_is_recognised_and_a_grid_can_grow(
    finished: tuple[Path, Comparison, Compared], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, grid, _ = finished
    before = rows_of(out, without=())
    monkeypatch.setattr(comparing, "run_cell", lambda job: pytest.fail(f"{job.cell.name} was done again"))
    again = compare(grid, out, HERE)
    assert again.reused == [cell.name for cell in cells(grid)]
    assert same(rows_of(out, without=()), before)

    asked: list[str] = []

    def note(job: CellJob) -> dict[str, Any]:
        asked.append(job.cell.name)
        raise InputError("not now")

    monkeypatch.setattr(comparing, "run_cell", note)
    grown = compare(grid.model_copy(update={"masks": ("random", "grid", "block")}), out, HERE)
    assert asked == ["mae-block-0.5-s0", "umae-block-0.5-s0", "mae-block-0.5-s1", "umae-block-0.5-s1"]
    assert [row["status"] for row in grown.rows].count("done") == 8
    asked.clear()
    compare(grid.model_copy(update={"images": 9}), out, HERE)
    assert len(asked) == 8  # other probe images are another question
    compare(grid, out, HERE)


def test_a_folder_with_other_runs_is_refused(finished: tuple[Path, Comparison, Compared]) -> None:
    out, grid, _ = finished
    before = (out / TABLE).read_bytes()
    with pytest.raises(InputError, match=r"with epochs 2, got epochs 1 in .*choose another --out"):
        compare(grid.model_copy(update={"epochs": 2}), out, HERE)
    assert (out / TABLE).read_bytes() == before


def test_a_failed_cell_is_a_row_and_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: CellJob) -> dict[str, Any]:
        if job.cell.mask == "grid":
            raise RuntimeError("out of\nmemory")
        return run_cell(job)

    monkeypatch.setattr(comparing, "run_cell", fail)
    reported: list[tuple[str, int, int]] = []
    grid = tiny(masks=("random", "grid", "window"), probes=("none",))
    result = compare(
        grid, tmp_path, HERE, report=lambda row, done, total, left: reported.append((row["run"], done, total))
    )
    assert [(row["status"], row.get("error")) for row in result.rows] == [
        ("done", None),
        ("failed", "RuntimeError: out of memory"),
        ("done", None),
    ]
    assert reported == [("mae-random-0.5-s0", 1, 3), ("mae-grid-0.5-s0", 2, 3), ("mae-window-0.5-s0", 3, 3)]
    table = read_table(tmp_path / TABLE)
    assert table["error"].values.tolist() == ["", "RuntimeError: out of memory", ""]
    assert math.isnan(table["mean_knn"].values[1])
    assert set(by_cell(table, "mean_knn")) == {("mae", "random", 0.5, 1), ("mae", "window", 0.5, None)}

    monkeypatch.setattr(comparing, "run_cell", run_cell)
    assert [row["status"] for row in compare(grid, tmp_path, HERE).rows] == ["done"] * 3  # it is tried again


def test_a_cell_that_was_done_by_a_dead_worker_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = plan(tiny(probes=("none",)), tmp_path, HERE)
    first = run_cell(job)
    monkeypatch.setattr("lcmae.training.train.train", lambda *args, **kwargs: pytest.fail("trained twice"))
    assert run_cell(job) == first
    (Path(job.folder) / CELL).write_text("{torn")
    monkeypatch.undo()
    again = run_cell(job)["row"]
    assert {**again, "probe_seconds": 0} == {**first["row"], "probe_seconds": 0}


# --- kills ---

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
import lcmae.runs.run
from lcmae.probes.grids import run as comparing
from lcmae.probes.grids.cells import Comparison
from lcmae.probes.jobs.executors import Engine

settings, out, kills = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
publish = lcmae.runs.run.Run.publish
count = 0

def killed(self, *args, **kwargs):
    global count
    found = publish(self, *args, **kwargs)
    count += 1
    if count == kills:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

lcmae.runs.run.Run.publish = killed
comparing.compare(Comparison(**settings), out, Engine())
"""


@pytest.mark.slow
def test_a_killed_grid_resumes_to_the_same_table(tmp_path: Path) -> None:
    grid = tiny(masks=("random", "grid"), epochs=4, probes=("local_contrast",))
    compare(grid, tmp_path / "whole", HERE)

    # killed in the second cell, after the second of its four checkpoints
    out = tmp_path / "killed"
    command = [sys.executable, "-c", PROGRAM, grid.model_dump_json(), str(out), "6"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False, timeout=280)
    assert done.returncode == -signal.SIGKILL
    assert [row["run"] for row in rows_of(out)] == ["mae-random-0.5-s0"]
    assert Run.open(out / "mae-grid-0.5-s0").steps() == [2, 4]

    resumed = compare(grid, out, HERE)
    assert resumed.reused == ["mae-random-0.5-s0"]
    one, other = rows_of(out), rows_of(tmp_path / "whole")
    # the killed process had one thread, this one may have two: sums are rounded in another order
    for ours, theirs in zip(one, other, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert value == theirs[name] or value == pytest.approx(theirs[name], rel=1e-3, nan_ok=True), name
    assert not [path.name for path in out.rglob(".tmp-*")]


def test_a_signal_ends_a_grid_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Run.publish
    asked: list[int] = []

    def interrupted(self: Run, *args: Any, **kwargs: Any) -> Path:
        if not asked:  # a second signal is not held back, and would end this process
            asked.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return publish(self, *args, **kwargs)

    monkeypatch.setattr(Run, "publish", interrupted)
    grid = tiny(masks=("random", "grid"), epochs=4, probes=("none",))
    result = compare(grid, tmp_path, HERE)
    assert (result.rows, result.stopped_by) == ([], signal.SIGTERM)
    assert not (tmp_path / "mae-grid-0.5-s0").exists()
    monkeypatch.undo()
    assert [row["status"] for row in compare(grid, tmp_path, HERE).rows] == ["done", "done"]


def test_one_comparison_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    from lcmae.runs.lock import lock

    with lock(tmp_path), pytest.raises(InputError, match="expected no other writer"):
        compare(tiny(), tmp_path, HERE)


# --- engines ---


def test_a_worker_that_dies_breaks_only_its_own_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = plan(tiny(masks=("random", "grid", "block")), tmp_path, HERE)
    groups: list[list[str]] = []

    def pool(jobs: list[CellJob], engine: Engine, out: Path, deadline: float):
        """As a process pool: one death takes along what else was in it."""
        groups.append([job.cell.mask for job in jobs])
        dies = any(job.cell.mask == "grid" for job in jobs)
        for job in jobs:
            yield job, BrokenExecutor("a process died") if dies else {"row": {"run": job.cell.name}}

    monkeypatch.setattr(comparing, "_on_executor", pool)
    found = {
        job.cell.mask: outcome for job, outcome in comparing._outcomes(jobs, Engine(workers=2), tmp_path, math.inf)
    }
    assert groups == [["random", "grid", "block"]] * 2 + [["random"], ["grid"], ["block"]]
    assert {mask: isinstance(outcome, BrokenExecutor) for mask, outcome in found.items()} == {
        "random": False,
        "grid": True,
        "block": False,
    }


@pytest.mark.slow  # two processes import torch: about 20 s
def test_processes_write_the_same_table(finished: tuple[Path, Comparison, Compared], tmp_path: Path) -> None:
    out, grid, _ = finished
    compare(grid, tmp_path / "out", Engine(workers=2))
    for ours, theirs in zip(rows_of(tmp_path / "out"), rows_of(out), strict=True):
        for name, value in ours.items():
            assert value == theirs[name] or value == pytest.approx(theirs[name], rel=1e-3, nan_ok=True), name
    assert "mae-random-0.5-s0" in {path.stem for path in (tmp_path / "out" / "logs").iterdir()}


@pytest.mark.slow  # three processes import torch, one of them twice: up to a minute
def test_a_dask_worker_killed_in_mid_job_loses_no_cell(
    finished: tuple[Path, Comparison, Compared], tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    out, (whole, _, _) = tmp_path / "out", finished
    # enough epochs that the killed one is at work: it has published, and has not ended
    grid = tiny(masks=("random", "grid", "window"), seeds=2, epochs=200, probes=("none",))
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options, host="127.0.0.1") as cluster:
        killed: list[int] = []

        def kill_one() -> None:
            while not killed and not finished_all.wait(0.02):
                for lock in out.glob("*/.lock"):
                    text = lock.read_text()
                    steps = list((lock.parent / "checkpoints").glob("[0-9]*"))
                    if text and steps and not (lock.parent / CELL).exists():
                        killed.append(json.loads(text)["pid"])
                        os.kill(killed[0], signal.SIGKILL)
                        return

        finished_all = threading.Event()
        killer = threading.Thread(target=kill_one)
        killer.start()
        try:
            result = compare(grid, out, Engine(engine="dask", address=cluster.scheduler_address))
        finally:
            finished_all.set()
            killer.join()
    assert killed, "no worker was caught at work"
    assert not alive(killed[0])
    assert [row["status"] for row in result.rows] == ["done"] * 6
    assert [row["run"] for row in rows_of(out)] == [cell.name for cell in cells(grid)]
    assert set(rows_of(out)[0]) < set(rows_of(whole)[0])


def test_an_address_is_wanted_and_tried(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected --address tcp://host:port with --engine dask, got none"):
        compare(tiny(), tmp_path, Engine(engine="dask"))


# --- numbers ---


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8), st.floats(-3, 3))
def test_intervals_are_students(values: list[float], shift: float) -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    ours = {seed: value + shift + float(rng.normal()) for seed, value in enumerate(values)}
    theirs = dict(enumerate(values))
    found = paired(ours, theirs)
    interval = ttest_rel(list(ours.values()), list(theirs.values())).confidence_interval(0.95)
    assert found.mean - found.half_width == pytest.approx(interval.low, rel=1e-6, abs=1e-9)
    assert found.mean + found.half_width == pytest.approx(interval.high, rel=1e-6, abs=1e-9)


def test_pairs_are_of_the_same_seed_and_one_seed_has_no_interval() -> None:
    assert paired({0: 1.0, 1: 5.0, 3: 9.0}, {1: 4.0, 2: 0.0, 3: 8.0}) == summarise([1.0, 1.0])
    one = paired({0: 2.0}, {0: 1.0})
    assert (one.num_seeds, one.mean) == (1, 1.0)
    assert math.isnan(one.half_width)
    assert summarise([math.nan]).num_seeds == 0
    assert summarise([1.0, math.nan, 3.0]).mean == 2.0


def test_a_table_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected the table of a comparison at .*, found none"):
        read_table(tmp_path / TABLE)
    (tmp_path / TABLE).write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match="damaged or foreign"):
        read_table(tmp_path / TABLE)
    write_table(
        [{"run": "a", "status": "done", "extra": None, "ratio": 0.5}], {"extra": ("extra", "1")}, tmp_path / TABLE
    )
    table = read_table(tmp_path / TABLE)
    assert measures(table) == []
    assert describe(("mae", "random", 0.5, 2)) == "mae, random, 0.5, unit 2"


def test_a_table_is_read_without_torch() -> None:
    code = "import sys, lcmae.probes.grids.table, lcmae.probes.grids.cells; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
