"""Pictures of receptive fields: radius and area by ratio and depth, maps; also without prediction
and with other masses."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.receptive_field import PAGE
from lcmae.app.figures import receptive_field as figures
from tests.app.pages import traces

VIEWS = ["full", "random 0.5", "random 0.9", "block 0.5"]


def result(layers: int = 3, masses: tuple[float, ...] = (0.5, 0.99), *, prediction: bool = True) -> xr.Dataset:
    rng = np.random.default_rng(layers)
    pixels: Any = {"long_name": "radius", "units": "pixels"}
    ratio: Any = {"long_name": "area", "units": "1"}
    missing = np.zeros((2, len(VIEWS)), bool)
    missing[1, 0] = True
    missing[1] |= not prediction

    def by_view(*shape: int) -> np.ndarray:
        values = rng.random((2, len(VIEWS), *shape))
        values[missing] = np.nan
        return values

    forms = ["raw", "log"]
    form, mass = len(forms), len(masses)
    data: Any = {
        "field": (("target", "view", "form", "y", "x"), by_view(form, 4, 6), ratio),
        "area_ratio": (("target", "view", "form", "mass"), by_view(form, mass), ratio),
        "radius": (("target", "view", "form", "mass"), by_view(form, mass), pixels),
        "image_radius": (("target", "view", "mass"), by_view(mass), pixels),
        "image_radius_sem": (("target", "view", "mass"), np.full((2, len(VIEWS), mass), 0.1), pixels),
        "depth_field": (("layer", "form", "y", "x"), rng.random((layers, form, 4, 6)), ratio),
        "depth_image_radius": (("layer", "mass"), rng.random((layers, mass)), pixels),
        "depth_image_radius_sem": (("layer", "mass"), np.full((layers, mass), np.nan), pixels),
    }
    coordinates: Any = {
        "target": ["token", "prediction"],
        "view": VIEWS,
        "strategy": ("view", ["none", "random", "random", "block"]),
        "ratio": ("view", [0.0, 0.5, 0.9, 0.5]),
        "form": forms,
        "mass": list(masses),
        "layer": np.arange(layers) + 1,
    }
    return xr.Dataset(data, coordinates)


def test_radius_by_ratio_starts_at_the_full_image() -> None:
    data = result()
    random, block = traces(figures.radius_by_ratio({"a": data}, "token", 0.5))
    assert (random.name, block.name) == ("a, random", "a, block")
    assert random.x.tolist() == [0, 0.5, 0.9]
    assert block.x.tolist() == [0, 0.5]
    np.testing.assert_allclose(random.y, data["image_radius"].sel(target="token", mass=0.5)[:3])
    np.testing.assert_allclose(random.error_y.array, 0.196)
    assert random.line.dash != block.line.dash


def test_axis_names_come_from_the_data() -> None:
    assert figures.radius_by_depth({"a": result()}, 0.5).layout.yaxis.title.text == "radius [pixels]"
    assert figures.area_by_ratio({"a": result()}, "token", 0.5, "log").layout.yaxis.title.text == "area"


def test_area_is_of_its_form() -> None:
    data = result()
    trace = traces(figures.area_by_ratio({"a": data}, "token", 0.99, "log"))[0]
    np.testing.assert_allclose(trace.y, data["area_ratio"].sel(target="token", mass=0.99, form="log")[:3])


@pytest.mark.parametrize(("target", "views"), [("token", 3), ("prediction", 2)])
def test_fields_are_scaled_to_their_maximum_and_missing_ones_left_out(target: str, views: int) -> None:
    maps = [
        trace for trace in traces(figures.fields(result(), target, "random", "raw")) if isinstance(trace, go.Heatmap)
    ]
    assert len(maps) == views
    assert [np.max(np.asarray(trace.z)) for trace in maps] == pytest.approx([1] * views)


def test_depth_shows_first_and_last_layer() -> None:
    figure = figures.depth_fields(result(layers=12), "raw")
    headings = [note.text for note in figure.layout.annotations]
    assert len(headings) == 6
    assert (headings[0], headings[-1]) == ("layer 1", "layer 12")


def test_the_page_with_and_without_prediction() -> None:
    both = [one.title for one in PAGE.panels({"a": result(), "b": result(2)}, take_first)]
    assert len(both) == 7
    alone = [one.title for one in PAGE.panels({"a": result(prediction=False)}, take_first)]
    assert len(alone) == 5
    # a run that lacks the chosen mass is left out, and not an error
    shown = list(PAGE.panels({"a": result(), "b": result(2, (0.2,))}, take_first))
    assert {trace.name for trace in traces(shown[0].figure)} == {"a, random", "a, block"}
