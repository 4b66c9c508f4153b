"""Figures of the attribution probe: every number drawn is a stored one, and the baselines stand
beside it."""

import numpy as np
import pytest
import xarray as xr

from lcmae.app.figures import attribution as figures
from lcmae.app.figures.answers import number
from lcmae.probes.results.networks import trained
from tests.app import computed
from tests.app.pages import traces


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    return computed.with_baselines("attribution")


def test_the_matrix_is_the_stored_one(found: xr.Dataset) -> None:
    (shown,) = traces(figures.agreement(found))
    np.testing.assert_allclose(shown.z, trained(found)["agreement"])
    assert list(shown.x) == list(shown.y) == found["explanation"].values.tolist()
    assert shown.text[0][0] == "1.00"


def test_every_method_stands_beside_the_untrained_network(found: xr.Dataset) -> None:
    own, line = traces(figures.by_method({"a": found}, "faithfulness"))
    np.testing.assert_allclose(own.y, trained(found)["faithfulness"])
    assert line.name == "untrained network"
    fewer = found.sel(explanation=["ablation", "nearness"])
    both = traces(figures.by_method({"a": found, "b": fewer}, "reach"))
    assert list(both[1].customdata) == ["ablation", "nearness"]


@pytest.mark.parametrize("variable", ["deletion_curve", "insertion_error"])
def test_curves_of_every_method(found: xr.Dataset, variable: str) -> None:
    drawn = {trace.name: trace for trace in traces(figures.curves(found, variable))}
    assert list(drawn) == found["explanation"].values.tolist()
    np.testing.assert_allclose(drawn["hiding"].y, trained(found)[variable].sel(explanation="hiding"))
    assert drawn["random order"].line.color == figures.style.GREY


def test_maps_lie_over_the_photograph_and_the_query_is_ringed(found: xr.Dataset) -> None:
    shown = figures.maps(found, 1)
    panels = found.sizes["query"] * (1 + found.sizes["map"])
    kinds = [trace.type for trace in traces(shown)]
    assert kinds.count("image") == panels
    assert kinds.count("heatmap") == panels - found.sizes["query"]
    first = next(trace for trace in traces(shown) if trace.type == "heatmap")
    np.testing.assert_array_equal(first.z, found["attribution_map"].values[1, 0, 0])
    assert len(shown.layout.shapes) == 2  # white, and red upon it
    assert all(shape.path.count("Z") == panels for shape in shown.layout.shapes)


def test_predictions_that_depend_on_nothing_are_said_to(found: xr.Dataset) -> None:
    nothing = found.assign(reach=found["reach"] * np.nan)
    assert "nothing to attribute" in figures.answer({"a": nothing}).sentence
    assert "rank correlation" in figures.answer({"a": found}).sentence


def test_the_sentence_claims_no_more_of_attention_than_its_number(found: xr.Dataset) -> None:
    own = number(found, "agreement", {"explanation": "attention", "other_explanation": "ablation"})
    assert f" The rank correlation of attention with ablation is {own}" in figures.answer({"a": found}).sentence
