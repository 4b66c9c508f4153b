"""Small maps of a patch: what a page is told of them, and the figure to take away, say the same."""

import base64
import io

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from PIL import Image

from lcmae.app.figures import patch_maps, style
from lcmae.app.figures.patch_maps import Maps
from tests.app.pages import traces


def field(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(np.asarray(values, dtype=float), dims=("row", "column"))


@pytest.fixture
def maps() -> Maps:
    """Two maps of 4 x 6 cells over 2 x 3 patches; half of the second lies within 2 cells of patch
    4."""
    ramp = np.arange(24.0).reshape(4, 6)
    return Maps({"one": field(ramp), "two": field(2 * ramp)}, "share", (2, 3), 4, {"two": 2.0})


def test_words_are_means_over_the_cells_of_each_patch(maps: Maps):
    assert maps.words()[0] == "one = 3.5, two = 7 (means over the patch)"  # of 0, 1, 6, 7
    assert maps.words()[5] == "one = 19.5, two = 39 (means over the patch)"
    own = Maps({"head 1": field(np.array([[0.25, np.nan]]))}, "attention", (1, 2), 0)
    assert own.words() == ["head 1 = 0.25", "head 1 = nothing"]


def test_the_disc_is_the_same_in_patches_and_in_the_figure(maps: Maps):
    assert maps.disc("one") is None
    assert maps.disc("two") == (1.5, 1.5, 1.0, 1.0)
    (circle,) = [trace for trace in traces(maps.figure()) if isinstance(trace, go.Scatter)]
    left, top = patch_maps.corner(1, 4, 6)
    distance = np.hypot(np.asarray(circle.x) - left - 3, np.asarray(circle.y) - top - 3)
    is_drawn = ~np.isnan(distance)
    np.testing.assert_allclose(distance[is_drawn], 2.0)
    assert 0 < is_drawn.sum() < len(distance)  # what lies below the map is left out


def test_all_maps_are_coloured_on_the_scale_of_the_largest(maps: Maps):
    assert maps.top == 46
    ends = patch_maps.colours()[[0, 255]]
    two = patch_maps.coloured(maps.panels["two"], maps.top)
    assert two.shape == (4, 6, 4)
    np.testing.assert_array_equal(two[[0, -1], [0, -1], :3], ends)
    one = patch_maps.coloured(maps.panels["one"], maps.top)
    np.testing.assert_array_equal(one[-1, -1, :3], patch_maps.colours()[round(23 / 46 * 255)])


def test_what_is_not_known_is_transparent_and_no_limit_is_needed():
    values = field(np.array([[np.nan, 0.0], [1.0, 2.0]]))
    pixels = np.array(
        Image.open(io.BytesIO(base64.b64decode(style.png(patch_maps.coloured(values)).partition(",")[2])))
    )
    np.testing.assert_array_equal(pixels[..., 3], [[0, 255], [255, 255]])
    np.testing.assert_array_equal(pixels[1, 1, :3], patch_maps.colours()[255])
    # nothing but zeros is the colour of zero, and no division by it
    np.testing.assert_array_equal(patch_maps.coloured(field(np.zeros((1, 2))))[0, 0, :3], patch_maps.colours()[0])


def test_the_figure_has_every_map_with_its_heading_and_the_patch_in_each(maps: Maps):
    figure = maps.figure()
    drawn = [trace for trace in traces(figure) if isinstance(trace, go.Heatmap)]
    for trace, values in zip(drawn, maps.panels.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(trace.z), values.values)
    layout = figure.to_dict()["layout"]
    assert [note["text"] for note in layout["annotations"]] == ["one", "two"]
    outer, inner = layout["shapes"]
    assert outer["path"] == inner["path"]
    left, _ = patch_maps.corner(1, 4, 6)
    assert inner["path"] == f"M2.0,2.0H4.0V4.0H2.0ZM{left + 2},2.0H{left + 4}V4.0H{left + 2}Z"


def test_colours_of_figures_begin_at_zero_as_those_of_the_boards_do():
    """plotly leaves one end alone out of account, so both must be there."""
    values = xr.DataArray(np.array([[0.5, 0.75], [1.0, np.nan]]), dims=("row", "column"))
    shown = Maps({"one": values}, "attention", (2, 2), 0).figure()
    mosaic = style.mosaic([("one", [values])])
    for figure in (shown, mosaic):
        assert (figure.layout["coloraxis"]["cmin"], figure.layout["coloraxis"]["cmax"]) == (0, 1)
