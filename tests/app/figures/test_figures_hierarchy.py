"""Figures of the hierarchy probe: what is drawn for NaN, other trees, several runs of a cell, and
runs under other masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.hierarchy import PAGE
from lcmae.app.figures import hierarchy as figures
from lcmae.app.figures import style
from tests.app import synthetic
from tests.app.pages import traces


def layout(shown: go.Figure) -> Any:
    """plotly's own types know no axes."""
    return shown.layout


def grid_of_runs() -> dict[str, xr.Dataset]:
    cells = [(unit, ratio, seed) for unit in (1, 2) for ratio in (0.1, 0.5, 0.9) for seed in (0, 1)]
    return {f"u{u} r{r} s{s}": synthetic.hierarchy(seed=s + 7 * u, ratio=r, unit=u) for u, r, s in cells}


def test_decodability_has_a_row_for_each_run_its_fresh_weights_and_pixels() -> None:
    results = {"a": synthetic.hierarchy(seed=1), "b": synthetic.hierarchy(seed=2, bare=True)}
    shown = figures.decodability(results, "mean")
    assert [trace.name for trace in traces(shown)] == ["a", "a, untrained", "b", "pixels"]
    assert list(layout(shown).xaxis.ticktext) == ["class", "layout", "part", "texture"]
    assert list(traces(shown)[0].y) == results["a"]["skill"].sel(network="trained", feature="mean").values.tolist()
    assert list(traces(shown)[0].error_y.array) == pytest.approx([1.96 * 0.02] * 4)
    of_patches = figures.decodability(results, "patch")
    assert [trace.name for trace in traces(of_patches)][-1] == "patch pixels"
    # a level of which patches have no single latent is blank, not zero
    assert np.isnan(traces(of_patches)[0].y[3])


def test_layers_of_trained_and_fresh_weights() -> None:
    shown = figures.by_layer({"a": synthetic.hierarchy(), "none": synthetic.hierarchy(bare=True)}, "layout")
    lines = [(trace.name, trace.line.dash) for trace in traces(shown) if "lines" in trace.mode]
    assert lines == [("a", "solid"), ("a, untrained", style.REFERENCES["untrained"])]
    assert [trace.name for trace in traces(shown) if trace.mode == "markers"] == ["a, best"]
    assert layout(shown).xaxis.title.text == "encoder block"
    assert list(traces(shown)[0].x) == [1, 2, 3]


def test_the_map_names_its_levels_and_leaves_gaps_blank() -> None:
    result = synthetic.hierarchy()
    shown = figures.predicted(result, "highest")
    (heat,) = traces(shown)
    assert list(heat.x) == ["0.1", "0.5", "0.9"]
    assert list(heat.y) == ["1", "2"]
    np.testing.assert_array_equal(heat.z, result["predicted_level"].sel(end="highest").values)
    assert np.isnan(heat.z[1][2])
    assert list(layout(shown).coloraxis.colorbar.ticktext) == ["1 texture", "2 part", "3 layout", "4 class"]
    assert layout(shown).yaxis.title.text == "side of the mask unit [patches]"
    assert (layout(shown).coloraxis.cmin, layout(shown).coloraxis.cmax) == (1, 4)


def test_side_by_side_puts_each_run_at_its_own_ratio_and_unit() -> None:
    results = grid_of_runs()
    shown = figures.side_by_side(results, "mean", "gain")
    dots = [trace for trace in traces(shown) if trace.mode == "markers"]
    assert len(dots) == 2 * 4  # units x levels
    first = dots[0]
    assert first.name == "class"
    assert list(first.x) == [0.1, 0.1, 0.5, 0.5, 0.9, 0.9]
    assert list(first.customdata) == [name for name in results if name.startswith("u1")]
    expected = [float(results[name]["gain"].sel(feature="mean", level="class")) for name in first.customdata]
    assert list(first.y) == expected
    # the line runs through the means of the two seeds
    line = next(t for t in traces(shown) if t.mode == "lines" and t.name == "class" and t.hoverinfo == "skip")
    assert list(line.y) == pytest.approx(np.reshape(expected, (3, 2)).mean(1).tolist())
    lines = [trace for trace in traces(shown) if trace.mode == "lines" and trace.hoverinfo != "skip"]
    assert len(lines) == 2 * 4 * 2  # units x levels x ends
    assert {trace.line.dash for trace in lines} == {"solid", "dot"}
    # every level is in the legend once
    assert [trace.name for trace in traces(shown) if trace.showlegend] == ["class", "layout", "part", "texture"]
    low, high = layout(shown).yaxis3.range
    assert low < min(expected) < max(expected) < high < 2
    assert layout(shown).yaxis4.range == (low, high)
    assert "beyond fresh weights" in layout(shown).yaxis3.title.text


def test_runs_under_other_masks_are_left_out_of_the_comparison() -> None:
    blocks = synthetic.hierarchy()
    blocks.attrs["mask_kind"] = "block"
    assert list(figures.random_runs({"a": synthetic.hierarchy(), "blocks": blocks})) == ["a"]
    with pytest.raises(ValueError, match="random masks, got none"):
        figures.side_by_side({"blocks": blocks}, "mean", "skill")
    titles = [shown.title for shown in PAGE.panels({"blocks": blocks}, take_first)]
    assert "Prediction and measurement side by side" not in titles
    assert len(titles) == 3


def test_a_run_of_a_unit_that_was_not_predicted_is_still_measured() -> None:
    shown = figures.side_by_side({"a": synthetic.hierarchy(unit=4)}, "cls", "skill")
    assert {trace.mode for trace in traces(shown)} == {"markers", "lines"}
    assert all(trace.hoverinfo == "skip" for trace in traces(shown) if trace.mode == "lines")


def test_trees_of_other_depth_share_levels_but_no_prediction() -> None:
    deep, small = synthetic.hierarchy(), synthetic.hierarchy(seed=1).isel(level=[0, 2, 3])
    small.attrs["tree"] = "another"
    shown = figures.decodability({"small": small, "deep": deep}, "cls")
    assert list(layout(shown).xaxis.ticktext) == ["class", "layout", "part", "texture"]
    assert list(figures.random_runs({"small": small, "deep": deep})) == ["small"]
    dots = [
        trace
        for trace in traces(figures.side_by_side({"small": small, "deep": deep}, "cls", "skill"))
        if trace.mode == "markers"
    ]
    assert [(trace.name, list(trace.customdata)) for trace in dots] == [
        (level, ["small"]) for level in ("class", "part", "texture")
    ]


def test_a_page_without_fresh_weights_measures_above_chance() -> None:
    asked: dict[str, list[Any]] = {}

    def choose(question: str, options: Sequence[Any]) -> Any:
        asked[question] = list(options)
        return options[0]

    titles = [shown.title for shown in PAGE.panels({"a": synthetic.hierarchy(bare=True)}, choose)]
    assert asked["measured"] == ["above chance"]
    assert asked["read from"] == ["mean token", "class token", "patch tokens"]
    assert titles == [
        "Level of what visible and hidden parts share: a",
        "Prediction and measurement side by side",
        "What can be read off the features",
    ]


def test_of_many_runs_rows_are_drawn_for_the_picked_one() -> None:
    found = list(PAGE.panels(grid_of_runs(), take_first))
    assert [shown.title for shown in found][2:] == [
        "What can be read off the features: u1 r0.1 s0",
        "Where in the encoder: class, u1 r0.1 s0",
    ]
    assert [trace.name for trace in traces(found[2].figure)] == ["u1 r0.1 s0", "u1 r0.1 s0, untrained", "pixels"]
