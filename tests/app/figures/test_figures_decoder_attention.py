"""Pictures of decoder attention: what is drawn is what was stored, also with NaN, one head and grey
images."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.decoder_attention import PAGE
from lcmae.app.figures import decoder_attention as figures
from lcmae.app.figures.attention import by_layer
from tests.app import computed
from tests.app.pages import traces

KEYS = ["self", "visible", "hidden", "class"]


def result(layers: int = 3, heads: int = 2, channels: int = 3, pictures: int = 2) -> xr.Dataset:
    rng = np.random.default_rng(layers)
    mass = rng.dirichlet(np.ones(4), (layers, heads))
    words: Any = {"long_name": "attention", "units": "1"}
    away: Any = {"long_name": "mean attention distance", "units": "patches"}
    share = {
        f"positional_share_{kind}_pooled": ("layer", values, words)
        for kind, values in (("over_images", np.linspace(1, 0.5, layers)), ("over_masks", np.full(layers, np.nan)))
    }
    data = xr.Dataset(
        {
            "mass": (("layer", "head", "key"), mass, words),
            "mass_uniform": ("key", [0.1, 0.2, 0.6, 0.1], words),
            "distance": (("layer", "head"), rng.random((layers, heads)), away),
            "distance_uniform": ((), 2.0, away),
            "entropy": (("layer", "head"), rng.random((layers, heads)), {"long_name": "entropy", "units": "nats"}),
            "entropy_uniform": ((), 1.5, {"long_name": "entropy", "units": "nats"}),
            **share,
        },
        {"key": KEYS, "layer": np.arange(layers) + 1},
    )
    if pictures:
        hidden = np.tile([[1, 0, 1], [0, 1, 0]], (pictures, 1, 1))
        maps = rng.random((pictures, 2, layers, heads, 2, 3))
        data["original"] = ("picture", "y", "x", "channel"), rng.integers(0, 255, (pictures, 4, 6, channels), np.uint8)
        data["hidden"] = ("picture", "row", "column"), hidden
        data["query_patch"] = ("picture", "query"), np.tile([0, 4], (pictures, 1))
        data["attention_map"] = ("picture", "query", "layer", "head", "row", "column"), maps
    return data


def test_masses_are_stacked_and_add_up() -> None:
    data = result()
    figure = figures.masses(data)
    assert [trace.name for trace in traces(figure)] == ["self", "visible", "hidden", "class token"]
    lengths = np.array([trace.x for trace in traces(figure)])
    np.testing.assert_allclose(lengths.sum(0), 1)
    np.testing.assert_allclose(lengths[:, 0], data["mass"].sel(layer=1).mean("head"))
    np.testing.assert_allclose(lengths[:, -1], data["mass_uniform"])


def test_shares_have_a_line_a_reading_and_nan_stays_a_gap() -> None:
    figure = figures.positional_share({"a": result(), "b": result(2)})
    assert [trace.name for trace in traces(figure)] == [
        "a, images varied", "a, masks varied", "b, images varied", "b, masks varied",
    ]  # fmt: skip
    assert [trace.line.dash for trace in traces(figure)] == ["solid", "dash"] * 2
    assert traces(figure)[0].line.color == traces(figure)[1].line.color != traces(figure)[2].line.color
    np.testing.assert_allclose(traces(figure)[0].y, [1, 0.75, 0.5])
    assert np.isnan(traces(figure)[1].y).all()


def test_rows_of_an_untrained_network_are_called_fainter_which_holds_in_both_themes() -> None:
    shown = list(PAGE.panels({"a": computed.with_baselines("decoder_attention")}, take_first))
    (rows,) = (panel for panel in shown if panel.title.startswith("Where hidden patches look"))
    assert "Fainter rows below: an untrained network" in rows.caption


def test_an_untrained_network_and_both_extremes_differ_by_their_dash() -> None:
    figure = figures.positional_share({"a": computed.with_baselines("decoder_attention")})
    untrained = {trace.line.dash for trace in traces(figure) if "untrained" in trace.name}
    assert len(untrained) == 2
    assert {(shape.line.dash, shape.layer) for shape in figure.layout.shapes} == {("solid", "between")}


def test_layers_show_heads_their_mean_and_uniform_attention() -> None:
    data = result()
    figure = by_layer({"a": data}, "distance", "distance_uniform")
    dots, line = traces(figure)
    assert sorted(dots.y) == pytest.approx(sorted(data["distance"].values.ravel()))
    np.testing.assert_allclose(line.y, data["distance"].mean("head"))
    assert [shape.y0 for shape in figure.layout.shapes] == [2.0]
    assert figure.layout.yaxis.title.text == "mean attention distance [patches]"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_maps_show_queries_by_heads_and_mark_the_query(channels: int) -> None:
    data = result(heads=1, channels=channels)
    figure = figures.maps(data, picture=1, layer=2)
    maps = [trace for trace in traces(figure) if isinstance(trace, go.Heatmap)]
    assert len(maps) == 2
    np.testing.assert_allclose(np.asarray(maps[1].z), data["attention_map"][1, 1, 1, 0])
    picture = figures.marked(data.isel(picture=1), 1)
    assert picture.shape == (4, 6, 3)
    assert (picture[2:4, 2:4] == figures.QUERY).all()
    assert (picture[0:2, 0:2] == figures.HIDDEN_GREY).all()
    assert (picture[0:2, 2:4] == data["original"].values[1, 0:2, 2:4, :3]).all()


def test_the_page_shows_everything_and_does_without_pictures() -> None:
    assert len(list(PAGE.panels({"a": result(), "b": result(2, 1)}, take_first))) == 5
    assert len(list(PAGE.panels({"a": result(pictures=0)}, take_first))) == 4
