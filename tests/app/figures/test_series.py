"""Axes that fit their data, points that are marked, titles in lines."""

import numpy as np

from lcmae.app.figures import series, style
from lcmae.app.figures.series import Series


def row(name: str, *values: float, half: float = 0.1) -> Series:
    y = np.array(values)
    return Series(name, [1.0, 2.0, 3.0][: len(y)], y, style.BLUE, y - half, y + half)


def range_of(shown) -> list[float]:
    return list(shown.to_dict()["layout"]["yaxis"]["range"])


def test_an_axis_holds_values_and_intervals_and_little_more():
    rows = [row("a", 0.5, 0.7, np.nan), row("b", 0.6, 0.9)]
    low, high = range_of(series.fit(series.curves(rows, "x", "y"), rows))
    assert low < 0.4
    assert high > 1.0
    assert high - low < 1.2 * (1.0 - 0.4)
    low, _ = range_of(series.fit(series.curves(rows, "x", "y"), rows, 0.1))
    assert low < 0.1, "a level that is drawn across lies within"


def test_a_single_value_has_an_axis_and_no_value_leaves_it_to_plotly():
    rows = [row("a", 0.5, half=0.0)]
    low, high = range_of(series.fit(series.curves(rows, "x", "y"), rows))
    assert low < 0.5 < high
    nothing = [row("a", np.nan)]
    assert "range" not in series.fit(series.curves(nothing, "x", "y"), nothing).to_dict()["layout"]["yaxis"]


def test_a_ring_stands_at_the_highest_point_of_each_row():
    rows = [row("a", 0.5, 0.7, 0.6), row("b", np.nan, 0.2), row("c", np.nan)]
    shown = series.mark_best(series.curves(rows, "x", "y"), rows)
    rings = [trace for trace in shown.to_dict()["data"] if str(trace["name"]).endswith(", best")]
    assert [(ring["name"], list(ring["x"]), list(ring["y"])) for ring in rings] == [
        ("a, best", [2.0], [0.7]), ("b, best", [2.0], [0.2]),
    ]  # fmt: skip
    assert not any(ring["showlegend"] for ring in rings)


def test_long_titles_are_wrapped_and_all_their_words_stay():
    long = "part of the masked loss, estimate for infinitely many masks [squared input units]"
    shown = series.wrap_titles(series.curves([row("a", 1.0)], long, "short"))
    layout = shown.to_dict()["layout"]
    assert max(map(len, layout["xaxis"]["title"]["text"].split("<br>"))) <= 44
    assert layout["xaxis"]["title"]["text"].replace("<br>", " ") == long
    assert layout["yaxis"]["title"]["text"] == "short"


def test_a_square_table_is_drawn_square():
    import xarray as xr

    square = xr.DataArray(np.eye(3), dims=("a", "b"), coords={"a": list("xyz"), "b": list("xyz")})
    oblong = square.isel(b=slice(2))
    axes = [
        series.table_map(one, x_title="x", y_title="y", colour_title="z", top=1).to_dict()["layout"]["yaxis"]
        for one in (square, oblong)
    ]
    assert axes[0]["scaleanchor"] == "x"
    assert "scaleanchor" not in axes[1]
