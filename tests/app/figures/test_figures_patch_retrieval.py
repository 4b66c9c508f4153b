"""Figures of patch_retrieval: every number drawn is a stored one, and pictures are those stored."""

import numpy as np
import pytest
import xarray as xr

from lcmae.app.figures import patch_retrieval as figures
from tests.app import computed
from tests.app.pages import traces


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return computed.with_baselines("patch_retrieval")


@pytest.mark.parametrize("variable", ["purity", "information"])
def test_layers_stand_beside_baselines_and_chance(result: xr.Dataset, variable: str) -> None:
    shown = figures.by_layer({"a": result}, variable, "position", "nothing")
    drawn = {trace.name: trace for trace in traces(shown)}
    assert list(drawn) == ["a", "a, untrained", "a, pixels"]
    at = {"target": "position", "removal": "nothing", "network": "trained"}
    np.testing.assert_allclose(drawn["a"].y, result[variable].sel(at))
    wanted = float(result["chance"].sel(target="position")) if variable == "purity" else 0
    assert [shape.y0 for shape in shown.layout.shapes] == [wanted]


def test_pictures_of_matches_and_clusters(result: xr.Dataset) -> None:
    queries, found = result.sizes["query"], result.sizes["match"]
    assert len(traces(figures.matches(result, "raw patches"))) == queries * (1 + found)
    assert len(traces(figures.clusters(result, "nothing"))) == result.sizes["picture"] * (1 + 2 + 1)


def test_the_patch_itself_keeps_its_colours() -> None:
    window = np.full((6, 6, 1), 250, np.uint8)
    framed = figures.framed(window)
    assert framed.shape == (6, 6, 3)
    assert (framed[2:4, 2:4] == 250).all()
    assert (framed[0] < 220).all()


def test_the_answer_says_what_is_known(result: xr.Dataset) -> None:
    assert figures.target_of(result) == "pixel class"
    found = figures.answer({"a": result})
    assert "are at the same position" in found.sentence
    assert "of the same class of pixels" in found.sentence
    bare = result.copy()
    bare["chance"] = bare["chance"].where(bare["target"] == "position")
    assert "class" not in figures.answer({"a": bare}).sentence
