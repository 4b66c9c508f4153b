"""Pictures of the mask_graph and bounds probes: bands, the toy beside them, trends over steps, and
awkward results."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.bounds import PAGE as BOUNDS
from lcmae.app.dashboard.pages.mask_graph import PAGE as MASK_GRAPH
from lcmae.app.dashboard.stored.trends import along_steps
from lcmae.app.figures import bounds, mask_graph
from lcmae.probes.results.store import save_result
from lcmae.probes.results.words import called
from tests.app import synthetic
from tests.app.pages import traces


def test_edges_have_a_band_over_bandwidths_and_the_toy_beside_them() -> None:
    result = synthetic.mask_graph()
    shown = traces(mask_graph.edges(result, "unit 2", "share_hidden"))
    bands, lines, toys = shown[0:6:2], shown[1:6:2], shown[6:]
    here = result["edges"].sel(mask="unit 2", side="share_hidden")
    for band, line, toy, edge in zip(bands, lines, toys, mask_graph.EDGES, strict=True):
        values = here.sel(edge=edge)
        assert list(band.y) == [*values.max("bandwidth").values, *values.min("bandwidth").values[::-1]]
        assert list(band.x) == [*result["ratio"].values, *result["ratio"].values[::-1]]
        np.testing.assert_array_equal(line.y, values.sel(bandwidth=0.5))
        sem = result["edges_sem"].sel(mask="unit 2", side="share_hidden", edge=edge, bandwidth=0.5)
        np.testing.assert_allclose(line.error_y.array, 1.96 * sem)
        assert toy.line.dash == "dot"
        # the toy's ratios that are not of whole units are left out
        assert list(toy.x) == [0.5]
        assert line.line.color == toy.line.color


def test_the_toy_stands_aside_where_it_has_no_such_mask() -> None:
    result = synthetic.mask_graph().assign_coords(mask=["block", "unit 7"])
    assert all(trace.line.dash != "dot" for trace in traces(mask_graph.edges(result, "block", "share_visible")))
    assert mask_graph.toy_unit(result, "unit 7") is None
    assert mask_graph.toy_unit(synthetic.mask_graph(), "unit 2") == 2


def test_label_error_stands_against_the_commonest_class() -> None:
    result = synthetic.mask_graph()
    shown = mask_graph.label_error(result)
    assert shown.layout.shapes[0].y0 == float(result["label_chance"])
    assert [trace.name for trace in traces(shown) if trace.name] == ["unit 1", "toy: unit 1", "unit 2", "toy: unit 2"]


def test_tails_of_runs_and_of_pixels() -> None:
    results = {"a": synthetic.mask_graph(), "b": synthetic.mask_graph(seed=1)}
    shown = mask_graph.tails(results, "unit 1", 2)
    by_name = {trace.name: trace for trace in traces(shown)}
    np.testing.assert_array_equal(by_name["b"].y, results["b"]["model_tail"].sel(mask="unit 1", rank=2))
    np.testing.assert_array_equal(by_name["kernel"].y, results["a"]["tail"].sel(mask="unit 1", rank=2, bandwidth=0.5))
    assert shown.layout.yaxis.title.text == "tail beyond rank k"
    assert shown.layout.yaxis.type == "log"
    assert min(min(trace.y) for trace in traces(shown)) > 0
    second = mask_graph.connectivity(results, "unit 1")
    assert second.layout.yaxis.title.text == "second eigenvalue"


def test_what_the_model_form_does_not_tell_is_not_drawn() -> None:
    names = [trace.name for trace in traces(mask_graph.toy_errors(synthetic.mask_graph()))]
    assert names == ["inter class, kernel", "tail, kernel", "tail, model"]


def test_the_mask_graph_page() -> None:
    shown = list(MASK_GRAPH.panels({"a": synthetic.mask_graph(), "b": synthetic.mask_graph(seed=1)}, take_first))
    assert len(shown) == 6
    assert "0.35, 0.5, 0.7 x the distance" in shown[0].caption
    assert all(page.caption and traces(page.figure) for page in shown)


def joined(steps: tuple[int, ...] = (20, 40), **settings: Any) -> xr.Dataset:
    parts = [synthetic.bounds(seed=step, **settings) for step in steps]
    return xr.concat(
        parts, xr.Variable("step", list(steps)), combine_attrs="override", coords="minimal", compat="override"
    )


def test_trends_go_along_the_steps() -> None:
    result = joined()
    shown = traces(bounds.pair_bound({"a": result, "b": synthetic.bounds()}))
    assert [trace.name for trace in shown[:3]] == ["a, loss on pairs", "a, bound", "a, ½ L_align"]
    assert list(shown[0].x) == [20, 40]
    np.testing.assert_array_equal(shown[0].y, result["pair_loss"])
    np.testing.assert_allclose(shown[0].error_y.array, 1.96 * result["pair_loss_sem"])
    # a result of one step is a trend of one point, at its step
    assert list(shown[3].x) == [40]
    points = traces(bounds.against_alignment({"a": result}))[0]
    np.testing.assert_array_equal(points.x, result["half_alignment"])
    assert list(points.customdata) == [20, 40]


def test_quantities_of_one_checkpoint_differ_by_their_symbol_and_captions_say_which_is_which() -> None:
    results = {"a": synthetic.bounds()}
    shown = {panel.title: panel for panel in BOUNDS.panels(results, take_first)}
    several = [
        panel
        for panel in shown.values()
        if len(traces(panel.figure)) > 1 and "lines+markers" in {trace.mode for trace in traces(panel.figure)}
    ]
    assert len(several) == 7
    for panel in several:
        lines = traces(panel.figure)
        assert len({trace.marker.symbol for trace in lines}) == len({trace.line.dash for trace in lines}) == len(lines)
        for trace in lines:
            words = f"{trace.marker.symbol}s: {trace.name.removeprefix('a, ')}"
            assert words.lower() in panel.caption.lower()
    assert "Solid, circles: loss on pairs; dotted, squares: bound; dashed, diamonds: ½ L_align." in several[0].caption


def test_one_checkpoint_has_one_tick_at_its_step() -> None:
    assert bounds.pair_bound({"a": joined((44,))}).layout.xaxis.tickvals == (44,)
    assert bounds.pair_bound({"a": joined((40, 44))}).layout.xaxis.tickvals == (40, 41, 42, 43, 44)
    assert bounds.pair_bound({"a": joined((20, 40))}).layout.xaxis.tickvals is None


def test_the_level_of_collapse_is_chosen() -> None:
    result = joined()
    loss, level = traces(bounds.collapse({"a": result}, "image"))
    np.testing.assert_array_equal(loss.y, result["loss"])
    np.testing.assert_array_equal(level.y, result["variance"].sel(level="image"))
    shares = bounds.share_of_variance({"a": result})
    assert shares.layout.shapes[0].y0 == 1
    assert len(traces(shares)) == 3


def test_the_tail_has_a_line_for_each_bandwidth_and_no_zeros() -> None:
    shown = bounds.tail({"a": joined()})
    # every bandwidth has a dash of its own
    assert [trace.line.dash for trace in traces(shown)] == ["dot", "solid", "dash"]
    assert shown.layout.yaxis.type == "log"
    assert all(value > 0 or np.isnan(value) for trace in traces(shown) for value in trace.y)


def test_the_bounds_page_keeps_units_apart() -> None:
    results = {"a": joined(), "n": joined(normalised=True), "simmim": joined().sel(quantity=["prediction"])}
    shown = list(BOUNDS.panels(results, take_first))
    assert sum(page.title.endswith("(theorem 3.4)") for page in shown) == 2
    assert all(traces(page.figure) for page in shown)
    assert "lambda 0.01" in next(page.caption for page in shown if "L_U-MAE" in page.title)

    def pooled(question: str, options: Any) -> Any:
        return called("mean") if question == "alignment of" else options[0]

    names = {trace.name for page in list(BOUNDS.panels(results, pooled))[-2:] for trace in traces(page.figure)}
    assert not any(name.startswith("simmim") for name in names)


def test_steps_are_joined_where_they_were_measured_alike(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "a", steps=(10, 20, 30, 40), results=False)
    for step in (10, 20, 40):
        save_result(synthetic.bounds(seed=step), run.result_path(step, "bounds"))
    save_result(synthetic.bounds().assign_attrs(data="other", seed=9), run.result_path(20, "bounds"))
    run.result_path(30, "bounds").parent.mkdir(parents=True)
    run.result_path(30, "bounds").write_bytes(b"torn")
    newest = synthetic.bounds(seed=40)
    found, left_out = along_steps(run.path, "bounds", newest)
    assert found["step"].values.tolist() == [10, 40]
    assert float(found["loss"][-1]) == float(newest["loss"])
    assert found.attrs["data"] == "digits"
    # names and units stay with the numbers, so the page can be drawn from what was joined
    assert found["loss"].attrs == newest["loss"].attrs
    assert all(traces(shown.figure) for shown in BOUNDS.panels({"a": found}, take_first))
    assert left_out[0] == "step 20: measured with other data, seed"
    assert left_out[1].startswith("step 30: expected a probe result")


@pytest.mark.parametrize("page", [MASK_GRAPH, BOUNDS], ids=["mask_graph", "bounds"])
def test_one_image_has_no_errors_and_still_a_page(page: Any) -> None:
    result = synthetic.RESULTS[page.probe]()
    bare = result.assign({name: result[name] * np.nan for name in result if str(name).endswith("_sem")})
    assert all(traces(shown.figure) for shown in page.panels({"a": bare}, take_first))
