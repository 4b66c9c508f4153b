"""Equal compute: the formula counts what torch counts, every cell costs what the baseline does,
times are taken once, and schedules of the ratio are cells of their own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.probes.grids import budget as budgets
from lcmae.probes.grids import run as running
from lcmae.probes.grids.budget import FILE, budget_of
from lcmae.probes.grids.cells import Cell, Comparison, cells, mean_ratio, schedule_settings
from lcmae.probes.grids.configs import config_of
from lcmae.probes.grids.flops import block_flops, flops_an_image, hidden_counts
from lcmae.probes.grids.racing import Rung, race
from lcmae.probes.grids.run import CellJob, compare
from lcmae.probes.grids.table import TABLE, read_table
from lcmae.probes.jobs.executors import Engine
from lcmae.randomness import generator
from lcmae.recipes import recipe
from lcmae.settings import parse
from lcmae.training.train import build_model

HERE = Engine()
TINY = (
    "model.width=8", "model.depth=1", "model.heads=2", "model.decoder_width=8", "model.decoder_depth=1",
    "model.decoder_heads=2", "batch_size=32", "limit=64", "monitor_images=40",
)  # fmt: skip


def tiny(**settings: Any) -> Comparison:
    return Comparison(**{"ratios": (0.25, 0.75), "epochs": 4, "set": TINY, "probes": ("none",), **settings})


# --- FLOP ---


@pytest.mark.parametrize("objective", ["mae", "umae", "lcmae", "simmim", "usimmim"])
@pytest.mark.parametrize("ratio", [0.25, 0.75])
def test_the_formula_counts_what_torch_counts(objective: str, ratio: float) -> None:
    base = recipe(f"{objective}-digits")
    mask = base.objective.mask.model_copy(update={"ratio": ratio})
    config = base.model_copy(update={"objective": base.objective.model_copy(update={"mask": mask})})
    model = build_model(config)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            # written out, attention is matrix products, which the counter knows
            module.fused_attn = False  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    images = torch.zeros(2, config.model.channels, *config.model.image_size)
    masks = config.objective.draw(model, images, generator("test"), config.objective.masks_per_image)
    with FlopCounterMode(display=False) as counter:
        config.objective.loss(model, images, masks).total.backward()
    uniformity = 6 * config.model.width**2 if objective in ("umae", "usimmim") else 0
    expected = 2 * flops_an_image(config)
    # the counter sees the second moments once for the batch or once an image, by how they are taken
    assert counter.get_total_flops() == pytest.approx(expected, abs=2 * uniformity)


def test_a_block_is_24_d_squared_and_4_t_d_a_token() -> None:
    assert block_flops(10, 10, 8, 32) == 10 * (24 * 8**2 + 4 * 10 * 8)
    assert block_flops(10, 4, 8, 32) < block_flops(10, 10, 8, 32)


def test_equal_flop_is_more_epochs_where_less_is_visible() -> None:
    grid = Comparison(ratios=(0.25, 0.5, 0.75, 0.9), objectives=("mae", "lcmae", "simmim"), epochs=200, equal="flops")
    found = budget_of(grid, Path("nowhere"), HERE)
    assert found is not None
    assert found.baseline == ("mae", "random", 0.75, None)
    epochs = {(cell.objective, cell.ratio): found.epochs(cell.settings) for cell in cells(grid)}
    assert epochs["mae", 0.75] == 200
    of_mae = [epochs["mae", ratio] for ratio in grid.ratios]
    assert of_mae == sorted(of_mae)
    assert of_mae[0] < of_mae[-1]
    assert epochs["lcmae", 0.75] in (99, 100, 101)  # two masks an image
    # SimMIM encodes hidden patches, too: its cost hardly depends on the ratio
    assert abs(epochs["simmim", 0.25] - epochs["simmim", 0.9]) <= 0.05 * epochs["simmim", 0.25]
    totals = []
    for cell in cells(grid):
        config = config_of(grid, cell, epochs[cell.objective, cell.ratio])
        assert config.warmup_epochs == pytest.approx(config.epochs / 12)
        totals.append(config.epochs * flops_an_image(config))
    assert max(totals) / min(totals) < 1.02
    assert max(map(abs, found.errors())) < 0.01
    assert found.sentence().startswith("Equal FLOP: every run gets what mae, random, 0.75 takes in 200 epochs.")


def test_a_schedule_costs_the_mean_over_its_ratios() -> None:
    grid = tiny(ratios=(0.7,), schedules=("uniform:0.5:0.9",))
    constant, drawn = (config_of(grid, cell) for cell in cells(grid))
    counts = hidden_counts(drawn)
    assert len(set(counts)) > 3
    assert sum(counts) / len(counts) == pytest.approx(0.7 * 16 + 0.5, abs=0.3)  # a share of a patch is hidden whole
    assert flops_an_image(drawn) == pytest.approx(flops_an_image(constant), rel=0.1)


# --- seconds ---


def times(monkeypatch: pytest.MonkeyPatch, seconds: dict[float, float]) -> list[list[float]]:
    """A clock that knows how long a step of each ratio takes; which ratios were timed, by call."""
    asked: list[list[float]] = []

    def timed(config: RunConfig, device: str) -> list[float]:
        asked[-1].append(config.objective.mask.ratio)
        return [seconds[config.objective.mask.ratio]] * budgets.STEPS

    def time_steps(*args: Any) -> dict[str, Any]:
        asked.append([])
        return real(*args)

    real = budgets.time_steps
    monkeypatch.setattr(budgets, "_timed", timed)
    monkeypatch.setattr(budgets, "time_steps", time_steps)
    return asked


def test_seconds_are_timed_once_and_a_new_cell_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = times(monkeypatch, {0.25: 0.2, 0.75: 0.1, 0.5: 0.4})
    found = budget_of(tiny(equal="seconds"), tmp_path, HERE)
    assert found is not None
    assert [found.epochs(("mae", "random", ratio, None)) for ratio in (0.25, 0.75)] == [2, 4]
    assert asked == [[0.25, 0.75] * budgets.ROUNDS]
    wider = budget_of(tiny(equal="seconds", ratios=(0.25, 0.5, 0.75)), tmp_path, HERE)
    assert wider is not None
    assert wider.epochs(("mae", "random", 0.5, None)) == 1
    assert asked[1:] == [[0.5] * budgets.ROUNDS]
    stored = json.loads((tmp_path / FILE).read_text())["cells"]
    assert stored["mae-random-0.25"]["seconds_a_step"] == 0.2
    assert stored["mae-random-0.25"]["device"] in ("cpu", "cuda")
    # another model is another time
    budget_of(tiny(equal="seconds", set=(*TINY, "model.depth=2")), tmp_path, HERE)
    assert asked[2:] == [[0.25, 0.75] * budgets.ROUNDS]


def test_a_comparison_of_equal_seconds_goes_on_as_it_began(tmp_path: Path) -> None:
    """For real: steps are timed, runs get whole epochs of them, and the second call reads all of
    it."""
    grid = tiny(equal="seconds", epochs=2)
    first = compare(grid, tmp_path / "out", HERE)
    table = read_table(tmp_path / "out" / TABLE)
    stored = json.loads((tmp_path / "out" / FILE).read_text())["cells"]
    for row in first.rows:
        step = stored[row["run"].rpartition("-")[0]]["seconds_a_step"]
        assert row["calibrated_seconds"] == pytest.approx(step * row["steps"])
        assert row["epochs"] * 2 == row["steps"]
    assert table["calibrated_seconds"].attrs["units"] == "s"
    assert (table["train_gflop"] > 0).all()
    again = compare(grid, tmp_path / "out", HERE)
    assert len(again.reused) == 2
    asked = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert asked["equal"].startswith(
        "Equal seconds of training steps: every run gets what mae, random, 0.75 takes in 2"
    )


def test_a_race_has_equal_flop_on_every_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_cell(job: CellJob) -> dict[str, Any]:
        config = parse(RunConfig, job.config)
        steps = 2 * config.epochs
        row = {
            **running.settings_row(job.cell), "status": "done", "epochs": config.epochs, "steps": steps, "mean_knn": 0.5,
            "train_gflop": 1e-9 * flops_an_image(config) * 32 * steps, "train_seconds": 1.0, "probe_seconds": 0.0,
        }  # fmt: skip
        return {"row": row, "columns": {"mean_knn": ("kNN", "share of test images"), "train_gflop": ("FLOP", "GFLOP")}}

    monkeypatch.setattr(running, "run_cell", run_cell)
    grid = tiny(masks=("random", "grid"), equal="flops", epochs=64, set=(*TINY[2:], "model.width=8", "model.depth=6"))
    found = race(grid, tmp_path / "out", HERE, plan=(Rung(2, 1 / 4), Rung(2, 1.0)))
    tables = [read_table(tmp_path / "out" / f"rung-{number}" / TABLE) for number in (1, 2)]
    for table, rung, epochs in zip(tables, found.rungs, (16, 64), strict=True):
        baseline = (table["ratio"].values == 0.75) & (table["mask"].values == "random")
        assert set(table["epochs"].values[baseline]) == {epochs}
        assert min(table["epochs"].values) < epochs
        assert rung.compute == pytest.approx(float(table["train_gflop"].sum()))
    assert "train_gflop" in json.loads((tmp_path / "out" / "race.json").read_text())["rungs"][0]


# --- what cannot be ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"equal": "flops", "untrained": True}, "expected --equal pairs with --untrained, .* got flops"),
        (
            {"equal": "flops", "ratios": (0.5, 0.99)},
            r"cells that can be trained, got mae-random-0\.99: .*masking ratio",
        ),
        (
            {"equal": "flops", "objectives": ("mae", "simmim"), "epochs": 1, "set": (*TINY[6:], "model.depth=12")},
            r"mae-random-0\.25: expected FLOP for at least one epoch of mae, random, 0\.25, got 0\.\d+ epochs: raise",
        ),
        ({"schedules": ("unifrom:0.5:0.9",)}, r"schedule out of uniform, .*did you mean 'uniform'"),
        ({"schedules": ("uniform:0.5",)}, "expected uniform:LOW:HIGH, got 'uniform:0.5'"),
        ({"schedules": ("uniform:0.9:0.5",)}, r"mae-random-uniform-0\.9-0\.5: .*expected high >= low"),
        ({"schedules": ("linear:0.5:0.99",)}, r"mae-random-linear-0\.5-0\.99: .*masking ratio 0\.99 leaves 0 of"),
        ({"set": ("ratio_schedule=null",)}, "--schedules uniform:0.5:0.9, got --set ratio_schedule"),
    ],
)
def test_what_cannot_be_is_one_line(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        compare(tiny(**settings), tmp_path / "out", HERE)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# --- schedules ---


def test_schedules_are_cells_beside_the_ratios() -> None:
    grid = tiny(schedules=("uniform:0.5:0.9", "linear:0.9:0.5", "cyclic:0.7:0.1"), seeds=2)
    found = cells(grid)
    assert len(found) == 2 * (2 + 3)
    assert found[2] == Cell("random", 0.7, None, "mae", 0, "uniform:0.5:0.9")
    assert found[2].name == "mae-random-uniform-0.5-0.9-s0"
    assert found[2].settings == ("mae", "random uniform:0.5:0.9", 0.7, None)
    assert found[0].name == "mae-random-0.25-s0"
    schedule = config_of(grid, found[2]).ratio_schedule
    assert schedule is not None
    assert schedule.model_dump() == {"kind": "uniform_per_batch", "low": 0.5, "high": 0.9}
    assert [mean_ratio(one) for one in grid.schedules] == [0.7, 0.7, 0.7]
    assert schedule_settings("cosine:0.9:0.5") == {"kind": "cosine", "start": 0.9, "end": 0.5}
    with pytest.raises(InputError, match="once, got one twice"):
        cells(tiny(schedules=("linear:0.9:0.5", "linear:0.9:0.5")))


def test_a_scheduled_run_is_a_row_of_its_mean_ratio(tmp_path: Path) -> None:
    found = compare(tiny(ratios=(0.5,), schedules=("uniform:0.3:0.7",), epochs=1), tmp_path / "out", HERE)
    assert [(row["mask"], row["ratio"], row["unit"]) for row in found.rows] == [
        ("random", 0.5, 1),
        ("random uniform:0.3:0.7", 0.5, 1),
    ]
    assert found.rows[0]["train_loss"] != found.rows[1]["train_loss"]
