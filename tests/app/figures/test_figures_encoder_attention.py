"""Pictures of encoder attention: five measures on the chosen view, also with NaN and runs of
different depth."""

from typing import Any

import numpy as np
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.encoder_attention import PAGE, WORDS
from lcmae.app.figures.encoder_attention import measure
from tests.app.pages import traces


def result(layers: int, heads: int) -> xr.Dataset:
    rng = np.random.default_rng(layers)
    dims = ("view", "layer", "head")
    words: Any = {"long_name": "a measure", "units": "nats"}
    data: Any = {name: (dims, rng.random((2, layers, heads)), words) for name in WORDS}
    if heads == 1:
        data["head_divergence"] = (dims, np.full((2, layers, 1), np.nan), words)
    data["distance_uniform"] = ("view", [2.0, 1.0 + layers], words)
    data["entropy_uniform"] = ("view", [3.0, 2.0], words)
    return xr.Dataset(data, {"view": ["full", "masked"], "layer": np.arange(layers) + 1})


def test_a_measure_is_of_its_view_and_beside_uniform_attention() -> None:
    results = {"a": result(3, 2), "b": result(2, 1)}
    figure = measure(results, "distance", "masked")
    np.testing.assert_allclose(traces(figure)[1].y, results["a"]["distance"].sel(view="masked").mean("head"))
    np.testing.assert_allclose(traces(figure)[3].y, results["b"]["distance"].sel(view="masked").mean("head"))
    # runs that differ in their number of tokens have a line each, in the legend once
    assert [shape.y0 for shape in figure.layout.shapes] == [3.0, 4.0]
    assert [shape.showlegend for shape in figure.layout.shapes] == [True, False]
    assert not measure(results, "prefix_mass", "full").layout.shapes
    assert figure.layout.yaxis.title.text == "a measure [nats]"


def test_the_page_shows_every_measure_also_of_one_head() -> None:
    shown = list(PAGE.panels({"one head": result(2, 1)}, take_first))
    assert [one.title for one in shown] == [f"{title}: whole images" for title, _ in WORDS.values()]
    assert np.isnan(traces(shown[3].figure)[1].y).all()
