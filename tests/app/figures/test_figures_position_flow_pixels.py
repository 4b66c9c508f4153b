"""Figures of position, attention_flow and pixels_by_layer: every number drawn is a stored one, and
each baseline stands beside it."""

import numpy as np
import pytest
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.attention_flow import PAGE
from lcmae.app.figures import attention_flow, pixels_by_layer, position
from lcmae.probes.results.networks import trained
from tests.app import computed
from tests.app.pages import own, traces


@pytest.fixture(scope="module")
def found() -> dict[str, xr.Dataset]:
    return {name: computed.with_baselines(name) for name in ("position", "attention_flow", "pixels_by_layer")}


def test_position_by_layer_and_its_components(found: dict[str, xr.Dataset]) -> None:
    result = found["position"]
    drawn = {trace.name: trace for trace in traces(position.by_layer({"a": result}))}
    assert list(drawn) == ["a", "a, untrained", "a, pixels", "a, best"]
    best = result["position_r2"].sel(network="trained")
    assert (drawn["a, best"].x[0], drawn["a, best"].y[0]) == (best["layer"].values[best.values.argmax()], best.max())
    np.testing.assert_allclose(drawn["a"].y, result["position_r2"].sel(network="trained"))
    shown = position.scores({"a": result}, 1)
    lines = [shape.y0 for shape in shown.layout.shapes]
    assert lines == pytest.approx([0.5**0.5, 0.75])
    np.testing.assert_allclose(traces(shown)[0].y, result["invariance"].sel(network="trained", layer=1))
    removed = traces(position.removals({"a": result}, "same_position", 2))[0]
    assert list(removed.customdata) == result["removal"].values.tolist()
    np.testing.assert_allclose(removed.y, result["same_position"].sel(layer=2))
    assert len(traces(position.component_maps(result))) == result.sizes["map"]


def test_the_share_of_attention_that_the_answer_is_about_stands_first(found: dict[str, xr.Dataset]) -> None:
    result = found["attention_flow"]
    one, several = {"a": result}, {"a": result, "b": result}
    without_class = {
        "a": result.drop_vars([name for name in result if str(name).startswith(("class_", "mean_class_"))])
    }
    assert "to itself" in attention_flow.answer(one).sentence
    assert attention_flow.shares(one)[:2] == ["class_self", "class_patches"]
    assert "patches to themselves" in attention_flow.answer(several).sentence
    assert attention_flow.shares(several)[:2] == ["patch_self", "class_self"]
    assert "to themselves" in attention_flow.answer(without_class).sentence
    assert attention_flow.shares(without_class)[0] == "patch_self"
    shown = next(PAGE.panels(several, take_first))
    assert shown.title == "Attention on whole images: patches' to themselves"


def test_attention_of_heads_and_agreement(found: dict[str, xr.Dataset]) -> None:
    whole = found["attention_flow"]
    result = trained(whole)
    drawn = traces(attention_flow.by_layer({"a": whole}, "class_self"))
    np.testing.assert_allclose(drawn[0].y, result["class_self"].mean("head"), rtol=1e-6)
    heads = next(trace for trace in drawn if trace.mode == "markers" and trace.showlegend is False)
    np.testing.assert_allclose(heads.y, result["class_self"].values.flatten(), rtol=1e-6)
    assert "untrained network" in [trace.name for trace in drawn]
    (agreed,) = traces(attention_flow.agreement({"a": whole}))
    np.testing.assert_allclose(agreed.y, result["agreement"])
    assert len(traces(attention_flow.pictures(result))) == 4 * (1 + 4)  # an image and four maps
    assert traces(attention_flow.outlier_maps({"a": result}))[0].z.shape == (4, 6)
    nothing = result.assign(outlier_map=result["outlier_map"] * 0)
    scale = attention_flow.outlier_maps({"a": nothing}).layout.coloraxis
    assert (scale.cmin, scale.cmax) == (0, 1), "no share below 0, where there is no outlier, too"


def test_layers_without_outliers_have_whole_markers_at_0(found: dict[str, xr.Dataset]) -> None:
    shown = attention_flow.by_layer({"a": found["attention_flow"]}, "outlier_share")
    assert shown.layout.yaxis.rangemode == "nonnegative"
    assert own(shown)[0].cliponaxis is False


def test_pixels_by_layer_and_offset(found: dict[str, xr.Dataset]) -> None:
    result = found["pixels_by_layer"]
    drawn = {trace.name: trace for trace in traces(pixels_by_layer.by_layer({"a": result}, "own"))}
    assert list(drawn) == ["a", "a, untrained", "a, pixels"]
    np.testing.assert_allclose(drawn["a, pixels"].y, result["own"].sel(network="pixels"))
    maps = traces(pixels_by_layer.maps(result))
    assert len(maps) == 3  # two layers, and pixels
    np.testing.assert_allclose(maps[0].z, result["r2"].sel(network="trained", layer=1))
    only, ring = traces(pixels_by_layer.by_layer({"a": result}, "gathered"))
    assert ring.marker.symbol == "circle-open"
    np.testing.assert_allclose(only.y, result["gathered"])
