"""Pictures of a verdict: bands for all cells together, cost, and seeds that would decide."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lcmae.app.dashboard.components import comparison
from lcmae.app.figures import grid_verdict as figures
from lcmae.probes.grids import statistics
from lcmae.probes.grids.verdict import labelled, verdict, with_seconds
from tests.probes.grids.test_grid_verdict import table


def cells(folder: Path, measure: str = "mean_knn", seeds: int = 5, noise: float = 0.01) -> xr.Dataset:
    found = table(folder, seeds, noise=noise)
    priced = with_seconds(labelled(verdict(found, measure)), found)
    assert priced is not None
    return priced


def traces(shown: Any) -> list[Any]:
    return list(shown.select_traces())


def test_bands_hold_for_all_cells_together_and_open_points_are_ruled_out(tmp_path: Path) -> None:
    found = cells(tmp_path)
    assert (found["together_low"].values < found["low"].values).all()
    assert (found["together_high"].values > found["high"].values).all()
    shown: Any = figures.bands(found)
    lines = {trace.name: trace for trace in traces(shown) if trace.mode == "lines+markers"}
    assert set(lines) == {"random", "grid", "block", "window"}
    random = lines["random"]
    assert list(random.x) == [0.5, 0.75]
    # 0.5 may be the best, 0.75 may not
    assert [symbol.endswith("-open") for symbol in random.marker.symbol] == [False, True]
    band = next(trace for trace in traces(shown) if trace.fill == "toself" and trace.name == "random")
    mine = found.isel(cell=found["mask"].values == "random").sortby("ratio")
    assert list(band.y) == pytest.approx([*mine["together_high"].values, *mine["together_low"].values[::-1]])
    assert shown.layout.yaxis.title.text == "kNN accuracy, mean token, mean over seeds<br>[share of test images]"


def test_one_seed_has_no_band(tmp_path: Path) -> None:
    shown = figures.bands(cells(tmp_path, seeds=1))
    assert all(trace.fill != "toself" for trace in traces(shown))


def test_cost_stands_across(tmp_path: Path) -> None:
    found = traces(figures.cost(cells(tmp_path)))
    assert {trace.name for trace in found} == {"may be best", "ruled out as the best"}
    assert all(list(trace.x) == [60.0] * len(trace.x) for trace in found)
    assert sum(len(trace.x) for trace in found) == 5
    [best, _] = found
    assert len(set(zip(best.textposition, best.x, strict=True))) == len(best.x), "names of near points stand apart"
    neutral = traces(figures.cost(cells(tmp_path, "other.number")))
    assert [trace.name for trace in neutral] == ["cells"]


def test_power_counts_the_seeds_that_verdicts_offer(tmp_path: Path) -> None:
    found = cells(tmp_path, seeds=2, noise=0.05)
    shown = figures.power(found)
    [bars] = traces(shown)
    names = [str(name) for name in found["name"].values if str(name) != "random 0.75"]
    assert sorted(bars.y) == sorted(names)
    needed = dict(zip(found["name"].values.tolist(), found["seeds_needed"].values.tolist(), strict=True))
    for name, seeds, text in zip(bars.y, bars.x, bars.text, strict=True):
        assert seeds == np.nan_to_num(needed[name])
        assert text == ("not within 40 more" if np.isnan(needed[name]) else f"{needed[name]:.0f}")
    assert figures.MOST_SEEDS == statistics.MOST_SEEDS
    beyond = found.assign(seeds_needed=found["seeds_needed"] * np.nan)
    assert figures.power(beyond).layout.xaxis.range[1] > statistics.MOST_SEEDS, "an axis of the seeds that were counted"
    decided = traces(figures.power(cells(tmp_path)))[0]
    assert list(decided.text) == ["decided"] * 4
    assert list(decided.x) == [0.0] * 4


def test_the_answer_has_the_best_mean_the_baseline_and_their_difference(tmp_path: Path) -> None:
    best, base, less = comparison.answer(verdict(table(tmp_path), "mean_knn")).tiles
    assert best.label in ("random 0.5, highest mean", "grid 0.5, highest mean")
    assert base.label == "random 0.75, the baseline"
    assert all(tile.interval for tile in (best, base, less))
    number, unit = less.value.split()
    assert unit == "points"
    assert float(number) == pytest.approx(float(best.value.split()[0]) - float(base.value.split()[0]), abs=0.3)


def test_they_need_no_torch() -> None:
    code = "import sys, lcmae.app.figures.grid_verdict; assert not {'torch', 'streamlit', 'lcmae.models'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
