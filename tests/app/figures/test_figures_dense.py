"""Figures of dense: every number drawn is a stored one, and pictures have the colours of the
classes."""

import numpy as np
import pytest
import xarray as xr

from lcmae.app.figures import dense, patch_classes, style
from tests.app import computed
from tests.app.pages import traces


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return computed.with_baselines("dense")


def test_scores_by_layer_beside_each_baseline(result: xr.Dataset) -> None:
    shown = dense.by_layer({"a": result}, "knn", "miou")
    drawn = {trace.name: trace for trace in traces(shown)}
    assert list(drawn) == ["a", "a, untrained", "a, pixels", "a, position"]
    np.testing.assert_allclose(drawn["a"].y, result["layer_miou"].sel(classifier="knn", network="trained"))
    np.testing.assert_allclose(drawn["a, position"].y, result["layer_miou"].sel(classifier="knn", network="position"))
    assert [shape.y0 for shape in shown.layout.shapes] == [float(result["ceiling"].sel(measure="miou"))]


def test_classes_stand_side_by_side(result: xr.Dataset) -> None:
    own, *others = traces(dense.by_class({"a": result, "b": result}, "logistic"))
    np.testing.assert_allclose(own.y, result["class_iou"].sel(classifier="logistic", network="trained"))
    assert [trace.name for trace in others] == ["untrained", "pixels", "position", "b"]


def test_pictures_have_the_colours_of_their_classes(result: xr.Dataset) -> None:
    assert len(traces(dense.pictures(result))) == 4 * result.sizes["picture"]
    grey = np.full((4, 6, 1), 100, np.uint8)
    found = patch_classes.overlaid(grey, np.array([[-1, 0, 40]]), weight=1)
    assert found.shape == (4, 6, 3)
    assert (found[:, :2] == 100).all()
    assert (found[:, 2:4] == patch_classes.colour_of(0)).all()
    assert (found[:, 4:] == patch_classes.colour_of(40)).all()


def test_classes_have_colours_of_their_own() -> None:
    colours = [patch_classes.colour_of(number) for number in range(30)]
    assert len(set(colours)) == 30
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert not set(patch_classes.COLOURS) & set(style.PALETTE), "those belong to runs"


def test_the_answer_names_layer_classes_and_baselines(result: xr.Dataset) -> None:
    found = dense.answer({"a": result})
    assert "tells 2 classes of pixels apart with an mIoU of" in found.sentence
    assert "position alone" in found.sentence
    assert [tile.label for tile in found.tiles][:2] == ["mIoU, logistic regression", "mIoU, kNN"]
