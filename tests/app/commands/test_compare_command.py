"""The commands compare and masks, the figures of a comparison, and the page Mask strategies."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from streamlit.testing.v1 import AppTest

from lcmae.app.cli import main
from lcmae.app.commands import compare as command
from lcmae.app.commands.masks import side_by_side
from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.pages import masks as view
from lcmae.app.dashboard.pages.masks import interval, tables_below
from lcmae.app.figures import grid as figures
from lcmae.errors import InputError
from lcmae.probes.grids import run as comparing
from lcmae.probes.grids.table import TABLE, read_table, write_table
from lcmae.probes.results.store import save_result
from tests.app.pages import commands, components
from tests.probes.grids.matrices import synthetic

HERE = ("--workers", "1")  # in this process, where tests replace what a cell does
COLUMNS = {"mean_knn": ("kNN accuracy, mean token", "share of test images"), "loss": ("masked loss", "squared units")}


def row(mask: str, ratio: float, seed: int, knn: float | None, **more: Any) -> dict[str, Any]:
    base = {"run": f"mae-{mask}-{ratio:g}-s{seed}", "objective": "mae", "mask": mask, "ratio": ratio, "seed": seed}
    return {**base, "unit": None, "status": "done", "mean_knn": knn, "loss": 1 - (knn or 0), **more}


def comparison_folder(folder: Path) -> Path:
    """A comparison of two masks and two ratios with two seeds; one cell failed, one accuracy is
    missing."""
    rows = [row(mask, ratio, seed, ratio + 0.1 * seed + (mask == "grid") * 0.01 * (1 + seed))
            for mask in ("random", "grid") for ratio in (0.25, 0.75) for seed in (0, 1)]  # fmt: skip
    rows[5]["mean_knn"] = None
    rows[7] = {**row("grid", 0.75, 1, None), "status": "failed", "error": "loss is nan at step 3", "loss": None}
    for one in rows[:4]:
        one["unit"] = 1 + (one["ratio"] > 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    write_table(rows, COLUMNS, folder / TABLE)
    return folder / TABLE


# --- lcmae compare ---


def test_lists_may_have_commas_or_spaces() -> None:
    words = ["--masks", "random,block", "--ratios=.5,.75", "--set", "a=1", "b=2,c=3", "--data", "folder:a,b"]
    assert command.split_lists(words) == [
        "--masks", "random", "block", "--ratios", ".5", ".75", "--set", "a=1", "b=2", "c=3", "--data", "folder:a,b",
    ]  # fmt: skip
    with pytest.raises(InputError, match="values separated by commas, got 'random,,block'"):
        command.split_lists(["--masks", "random,,block"])


def test_by_default_there_is_a_process_for_each_core_and_one_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exists = Path.exists
    for devices, cores, expected in ((False, 2, 2), (False, 64, 8), (True, 64, 1)):
        monkeypatch.setattr(command, "cores", lambda cores=cores: cores)
        monkeypatch.setattr(Path, "exists", lambda self, here=devices: here if "nvidia" in str(self) else exists(self))
        assert command.processes() == expected == command.CompareArguments().workers


def answering(answers: Callable[[Any], dict[str, Any] | Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that take no time: the command is under test here, not training."""

    def run_cell(job: Any) -> dict[str, Any]:
        found = answers(job.cell)
        if isinstance(found, Exception):
            raise found
        return {"row": {**comparing.settings_row(job.cell), "status": "done", **found}, "columns": COLUMNS}

    monkeypatch.setattr(comparing, "run_cell", run_cell)


def test_a_comparison_prints_spread_and_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(lambda cell: {"mean_knn": 0.5 + 0.1 * cell.seed + (0.02 + 0.01 * cell.seed) * (cell.mask == "grid")},
              monkeypatch)  # fmt: skip
    arguments = [*HERE, "--masks", "random,grid", "--ratios", "0.5", "--seeds", "2", "--out", str(tmp_path / "out")]
    assert main(["compare", *arguments]) == 0
    out, err = capsys.readouterr()
    assert "mae, random, 0.5" in out
    # two cells are paired by seed: 0.02 and 0.03, and 12.7 x 0.00707 / sqrt(2) = 0.0635
    row = next(line for line in out.splitlines() if "mae, grid, 0.5" in line)
    assert [word.strip() for word in row.split("│")][5:9] == ["+0.025", "-0.039 to 0.089", "yes", "undecided"]
    assert "kNN: No cell is ruled out as the best; against random, the baseline, 1 is undecided" in out
    assert "Provisional: 2 seeds" in out
    assert out.splitlines()[-1] == str(tmp_path / "out" / TABLE)
    assert "compare 4/4, 0:00 left: mae-grid-0.5-s1 kNN 63.0%" in err


def test_what_is_equal_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(lambda cell: {"mean_knn": 0.5 + 0.1 * cell.ratio}, monkeypatch)
    words = ["--ratios", "0.25,0.75", "--schedules", "uniform:0.5:0.9", "--epochs", "40", "--equal", "flops"]
    assert main(["compare", *HERE, *words, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "mae, random uniform:0.5:0.9, 0.7" in out
    assert re.search(
        r"Equal FLOP: every run gets what mae, random, 0\.75 takes in 40 epochs\. That is \d\d to 40 epochs", out
    )


def test_one_seed_has_no_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(lambda cell: {"mean_knn": 0.5}, monkeypatch)
    assert main(["compare", *HERE, "--masks", "random,grid", "--ratios", ".5", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "One seed says nothing about chance: take --seeds 5." in out
    assert "undecided" not in out


def test_a_failed_cell_is_said_and_the_exit_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(lambda cell: RuntimeError("too\nhot") if cell.mask == "grid" else {"mean_knn": 0.5}, monkeypatch)
    assert main(["compare", *HERE, "--masks", "random,grid", "--ratios", ".5", "--out", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "lcmae compare: mae-grid-0.5-s0: RuntimeError: too hot" in err
    assert "mae, random, 0.5" in out


def test_a_stopped_comparison_ends_with_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(lambda cell: comparing.CellStopped(15), monkeypatch)
    assert main(["compare", *HERE, "--ratios", ".5", "--out", str(tmp_path)]) == 143
    assert "the same command continues from here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratios", "1.5"], "ratio: input should be less than 1, got 1.5"),
        (["--ratios", "half"], "half"),
        (["--ratios", "0.99"], "mae-random-0.99: "),
        (["--seeds", "0"], "seeds: input should be greater than or equal to 1, got 0"),
        (["--masks", "spiral"], "expected a mask out of"),
        (["--engine", "dask", "--ratios", ".5"], "expected --address tcp://host:port with --engine dask, got none"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


# --- lcmae masks ---


def test_masks_prints_a_row_for_each_strategy_and_writes_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lcmae.masking import STRATEGIES

    page = tmp_path / "masks.html"
    arguments = ["masks", "--grid", "6", "8", "--ratio", "0.5", "--num-masks", "8", "--html", str(page)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    free = [kind for kind, cls in STRATEGIES.items() if not cls.needs_images]
    assert [kind for kind in free if f"│ {kind} " in out] == free
    assert "Masks on 6x8 patches" in out
    assert "█" in out
    assert out.splitlines()[-1] == str(page)
    assert "plotly" in page.read_text()[:5000]
    assert main(arguments) == 0
    assert capsys.readouterr().out == out  # masks are a function of the seed


def test_what_a_grid_cannot_do_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = str(tmp_path / "m.html")
    assert main(["masks", "--grid", "1", "8", "--ratio", "0.5", "--num-masks", "4", "--html", page]) == 0
    assert "grid is left out: expected a cell of at most 1 patches" in capsys.readouterr().err
    assert main(["masks", "--grid", "2", "2", "--ratio", "0.999", "--html", page]) in (0, 2)
    assert main(["masks", "--grid", "0", "2", "--html", page]) == 2
    assert main(["masks", "--html", page, "--png", page]) == 2
    assert "expected one of --html FILE and --png FILE" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("kaleido") is not None, reason="kaleido is installed here")
def test_a_png_without_kaleido_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["masks", "--png", str(tmp_path / "m.png")]) == 2
    assert "expected the package kaleido" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_gallery_in_the_terminal_shows_every_patch() -> None:
    mask = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]], dtype=bool)
    assert side_by_side(mask[None]) == "│█▄▀│\n│  ▀│"
    assert side_by_side(np.stack([mask, ~mask])).splitlines()[0] == "│█▄▀│ │ ▀▄│"


# --- figures ---


def table_of(tmp_path: Path) -> xr.Dataset:
    return read_table(comparison_folder(tmp_path))


def test_means_stand_with_their_intervals_and_failed_runs_nowhere(tmp_path: Path) -> None:
    shown = figures.against_ratio(table_of(tmp_path), "mean_knn", interval)
    traces: list[Any] = list(shown.select_traces())
    lines = {trace.name: trace for trace in traces if trace.mode == "lines+markers"}
    assert set(lines) == {"random, unit 1", "random, unit 2", "grid, no unit"}
    line = lines["random, unit 1"]
    assert line.y == (pytest.approx(0.3),)
    # 0.25 and 0.35: t(0.975, 1) = 12.706, times 0.0707 / sqrt(2)
    assert line.error_y.array[0] == pytest.approx(12.7062 * 0.05, rel=1e-4)
    grid = lines["grid, no unit"]
    assert [ratio for ratio, _, _ in grid.customdata] == [0.25, 0.75]
    assert [count for _, count, _ in grid.customdata] == [1, 1]  # one is missing, one failed
    assert list(grid.error_y.array) == [0, 0]
    assert shown.layout.yaxis.title.text == "kNN accuracy, mean token [share of test<br>images]"
    assert shown.layout.xaxis.title.text == "masking ratio"
    assert shown.layout.yaxis.range == pytest.approx((-0.05, 1.15))  # runs from 0.25 to 0.85


def test_an_axis_of_equal_runs_is_left_to_plotly() -> None:
    assert figures.around(np.array([0.5, math.nan, 0.5])) is None
    assert figures.around(np.array([math.nan])) is None


def test_the_heat_map_has_ratio_across_and_unit_down(tmp_path: Path) -> None:
    heat: Any = next(figures.ratio_by_unit(table_of(tmp_path), "mean_knn").select_traces())
    assert (heat.x, heat.y) == (("0.25", "0.75"), ("1", "2"))
    np.testing.assert_allclose(heat.z, [[0.3, math.nan], [math.nan, 0.8]])
    with pytest.raises(ValueError, match="at least one run with a mask unit"):
        figures.ratio_by_unit(table_of(tmp_path).where(xr.DataArray(False), other=math.nan), "mean_knn")


def test_a_dot_knows_its_run(tmp_path: Path) -> None:
    shown = figures.scatter(table_of(tmp_path), "ratio", "loss")
    traces: list[Any] = list(shown.select_traces())
    names = [name for trace in traces for name in trace.customdata]
    assert len(names) == 7
    assert "mae-grid-0.75-s1" not in names
    assert shown.layout.yaxis.title.text == "masked loss [squared units]"
    shown.to_json()


def test_figures_of_a_comparison_need_no_torch() -> None:
    code = "import sys, lcmae.app.figures.grid; assert not {'torch', 'streamlit', 'lcmae.models'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the page ---

PAGE = """
from lcmae.app.dashboard import main
from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.pages import PAGES
main.open_page(next(page for page in PAGES if page.name == "masks"), picks.ask())
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCMAE_RUNS", str(tmp_path))
    return tmp_path


def open_page() -> AppTest:
    app = AppTest.from_string(PAGE, default_timeout=60).run()
    assert not app.exception, app.exception
    return app


def test_without_a_comparison_the_page_gives_the_command(root: Path) -> None:
    app = open_page()
    assert any("lcmae compare" in one for one in commands(app))
    assert len(app.dataframe) == 1, "the strategies' diagnostics alone"


def test_masks_are_drawn_over_a_photograph_and_follow_seed_and_ratio(root: Path) -> None:
    app = open_page()
    app.select_slider(key="mask_side").set_value(4).run()
    assert not app.exception, app.exception
    (first,) = [table.value for table in app.dataframe]
    assert "random" in set(first["mask"])
    assert len(app.get("image")) == len(first)
    assert sum("microscope?mask=" in one.value for one in app.caption) == len(first)
    [sentence] = [proto.json for proto in components(app, "lcmae.answer")]
    farthest = first.loc[first["distance (patches)"].idxmax(), "mask"].replace("_", " ")
    assert f"under {farthest}" in sentence
    app.slider(key="mask_ratio").set_value(0.5).run()
    (second,) = [table.value for table in app.dataframe]
    assert set(second["ratio"]) == {0.5}
    app.number_input(key="mask_seed").set_value(1).run()
    (third,) = [table.value for table in app.dataframe]
    assert not third.equals(second)


def test_a_comparison_is_shown(root: Path) -> None:
    comparison_folder(root / "nested" / "compare")
    assert list(tables_below(root)) == ["nested/compare"]
    app = open_page()
    text = " ".join(block.value for block in [*app.subheader, *app.warning])
    assert "against the masking ratio" in text
    assert "Ratio x mask unit" in text
    for title in (": bands for all cells together", "What more seeds would decide"):
        assert title in text
    answers = [json.loads(proto.json) for proto in components(app, "lcmae.answer")]
    found = answers[1]  # after that of the strategies
    assert "ruled out as the best" in found["sentence"] or "may be the best" in found["sentence"]
    assert [tile["label"].partition(", ")[2] for tile in found["tiles"]][1] == "the baseline"
    assert "mae-grid-0.75-s1 failed: loss is nan at step 3" in text
    assert any("lcmae compare --matrix" in one for one in commands(app)), "the command, where there is no matrix"
    assert len(app.dataframe[-1].value) == 8
    app.selectbox(key="measure").set_value("masked loss").run()
    assert not app.exception, app.exception
    assert "Masked loss against the masking ratio" in " ".join(block.value for block in app.subheader)


def test_what_is_equal_and_the_matrix_of_ratios_are_shown(root: Path) -> None:
    folder = comparison_folder(root / "compare").parent
    (folder / "comparison.json").write_text('{"cells": [], "equal": "Equal FLOP: every run gets <b>what</b>."}')
    (folder / "matrix").mkdir()
    file = folder / "matrix" / "matrix.nc"
    save_result(synthetic({0.25: [0.8, 0.6, 0.3], 0.5: [0.7, 0.7, 0.5], 0.75: [0.5, 0.6, 0.6], 0.9: [0.4] * 3}), file)
    app = open_page()
    assert any(block.value.startswith("Equal FLOP: every run gets") for block in app.caption)
    text = " ".join(block.value for block in [*app.subheader, *app.markdown])
    assert "kNN accuracy: trained with random, 0.25 leads at test ratio 0.25, beyond chance" in text
    assert "Masked loss, trained at one ratio, tested at another" in text
    file.write_bytes(b"torn")
    app = open_page()
    assert not app.exception
    assert any("matrix.nc" in block.value for block in app.warning)


def test_a_torn_table_is_a_sentence(root: Path) -> None:
    comparison_folder(root / "compare").write_bytes(b"PAR1")
    app = open_page()
    assert "damaged or foreign" in app.warning[0].value


def test_a_clicked_dot_picks_its_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = comparison_folder(root / "compare")
    runs = {f"compare/{name}": root / "compare" / name for name in ("mae-random-0.25-s0", "mae-grid-0.25-s0")}
    runs["elsewhere/mae-random-0.25-s0"] = root / "elsewhere" / "mae-random-0.25-s0"
    state = {"dots": {"selection": {"points": [{"customdata": "mae-random-0.25-s0"}, {"customdata": ["gone"]}]}}}
    monkeypatch.setattr(view.st, "session_state", state)
    view.take(picks.Picks(root, runs, [], None), table, "dots")
    assert state["runs"] == ["compare/mae-random-0.25-s0"]
