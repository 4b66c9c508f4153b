"""Colours and names of runs: functions of the whole set of runs, never of what is picked."""

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from lcmae.app.figures import legend, style
from lcmae.app.figures.identity import family_of, markings, short
from tests.app.pages import traces

THIRTY = {
    f"grid/{kind}-r{ratio}-s{seed}": kind for kind in ("mae", "umae") for ratio in (25, 5, 75) for seed in range(5)
}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a process knows of runs is not the next test's."""
    yield
    style.know({})


def test_seeds_are_one_family() -> None:
    assert family_of("demo/mae-digits-s0") == family_of("demo/mae-digits-s11") == "demo/mae-digits"
    assert family_of("a/seed=3") == family_of("a/seed_4") == "a"
    assert family_of("mae_seed2_r0.5") == "mae_r0.5"
    assert family_of("s2") == "s2", "a name that is a seed alone stays"
    assert family_of("resnets/mae") == "resnets/mae"


def test_a_colour_is_the_runs_own_whatever_the_order() -> None:
    found = markings(THIRTY, style.PALETTE)
    assert markings(dict(reversed(THIRTY.items())), style.PALETTE) == found
    families = {
        marking.family: [one.colour for one in found.values() if one.family == marking.family]
        for marking in found.values()
    }
    assert len(families) == 6
    bases = {colours[0] for colours in families.values()}
    assert bases == set(style.PALETTE), "six families have the six colours"
    assert all(len(set(colours)) == 5 for colours in families.values()), "five seeds are five shades"


def test_figures_use_what_is_known_and_not_the_pick() -> None:
    style.know(THIRTY)
    last, first = list(THIRTY)[-1], next(iter(THIRTY))
    assert style.colours([last])[last] == style.colours([first, last])[last] == style.known()[last].colour
    assert style.colours(["elsewhere"]) == {"elsewhere": style.PALETTE[0]}


def test_more_families_than_colours_differ_by_dash() -> None:
    many = {f"m{number}": "mae" for number in range(8)}
    style.know(many)
    marks = {(style.colours(many)[name], style.dashes(many)[name]) for name in many}
    assert len(marks) == 8


def test_names_lose_what_all_of_them_share() -> None:
    assert short(["grid/mae-r0.5-s0", "grid/mae-r0.75-s0"]) == {
        "grid/mae-r0.5-s0": "r0.5-s0",
        "grid/mae-r0.75-s0": "r0.75-s0",
    }
    assert short(["a/mae", "a/mae-long"]) == {"a/mae": "mae", "a/mae-long": "mae-long"}
    assert short(["a/b/only"]) == {"a/b/only": "only"}
    assert short(["one", "other"]) == {"one": "one", "other": "other"}
    assert short([]) == {}
    shortened = short(THIRTY)
    assert len(set(shortened.values())) == 30
    assert all(shortened.values())


def test_thirty_runs_have_a_legend_of_six_entries() -> None:
    style.know(THIRTY)
    figure = style.figure(height=300)
    for name in THIRTY:
        figure.add_trace(
            go.Scatter(x=[0, 1], y=[1, 2], name=name, legendgroup=name, hovertemplate=f"<extra>{name}</extra>")
        )
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 0], name="raw pixels"))
    legend.tidy(figure, style.known(), list(THIRTY))
    entries = [trace.name for trace in traces(figure) if trace.showlegend is not False]
    assert len(entries) == 7
    assert entries[-1] == "raw pixels"
    assert "umae-r25 (5 runs)" in entries
    groups = {trace.legendgroup for trace in traces(figure) if trace.legendgroup}
    assert groups == {marking.family for marking in style.known().values()}, "a click hides a family as one"
    assert traces(figure)[0].hovertemplate == "<extra>mae-r25-s0</extra>"


def test_names_are_short_on_axes_and_headings() -> None:
    names = ["x/mae-s1", "x/mae-s10"]
    style.know(dict.fromkeys(names, "mae"))
    figure = go.Figure(go.Bar(x=np.array(names, dtype=object), y=[1, 2], name=f"{names[1]}, untrained network"))
    figure.add_annotation(text=f"{names[1]}<br>error")
    figure.update_xaxes(tickvals=[0, 1], ticktext=names)
    legend.tidy(figure, style.known(), names)
    assert list(traces(figure)[0].x) == ["s1", "s10"]
    assert traces(figure)[0].name == "s10, untrained network"
    assert figure.layout.annotations[0].text == "s10<br>error"
    assert list(figure.layout.xaxis.ticktext) == ["s1", "s10"]


def test_an_untrained_network_goes_with_its_runs_entry() -> None:
    style.know({"a": "mae", "b": "umae"})
    figure = style.figure(height=300)
    for name in ("a", "a, untrained", "b", "b, untrained", "probing", "probing, untrained"):
        figure.add_scatter(x=[0, 1], y=[0, 1], name=name)
    legend.tidy(figure, style.known(), ["a", "b"])
    entries = [trace.name for trace in traces(figure) if legend.is_entry(trace)]
    assert entries == ["a", "b", "probing", "probing, untrained"], "only runs have a line of their own"
    assert traces(figure)[1].legendgroup == traces(figure)[0].legendgroup


def test_a_legend_of_many_lines_takes_no_height_from_the_plot() -> None:
    few, many = style.figure(height=300), style.figure(height=300)
    for number in range(8):
        many.add_scatter(x=[0, 1], y=[0, 1], name=f"a name that fills a line of the legend {number}")
    for number in range(2):
        few.add_scatter(x=[0, 1], y=[0, 1], name=f"run {number}")
    legend.make_room(few)
    legend.make_room(many)
    assert few.layout.height == 300
    assert many.layout.height == 300 + (8 - legend.FREE) * legend.LINE


def test_headings_are_no_wider_than_their_columns_on_half_a_screen() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    names = [f"grid/one-name-that-is-rather-long-s{number}" for number in range(3)]
    headings = ["original", "masked", *(f"{name}<br>{what}" for name in names for what in ("reconstruction", "error"))]
    figure = style.mosaic([(heading, [pixels]) for heading in headings])
    legend.tidy(figure, style.known(), names)
    texts = [annotation.text for annotation in figure.layout.annotations]
    centres = sorted({annotation.x for annotation in figure.layout.annotations})
    width = max(figure.layout.xaxis.range)
    room = (centres[1] - centres[0]) / width * style.NARROW
    assert max(len(line) for text in texts for line in text.split("<br>")) * style.LETTER <= room
    assert len({text for text in texts if "reconstruction" in text}) == 3, "names still differ"
    assert len({annotation.y for annotation in figure.layout.annotations}) == 2, "a second strip"


@pytest.mark.parametrize(
    ("count", "most", "in_line"), [(8, 6, 4), (6, 6, 6), (7, 6, 4), (9, 8, 5), (1, 8, 1), (13, 6, 5)]
)
def test_lines_of_a_strip_are_about_as_long(count: int, most: int, in_line: int) -> None:
    assert style.evenly(count, most) == in_line


def test_the_title_of_a_colour_bar_is_no_longer_than_the_figure_is_high() -> None:
    units = "squared error of hidden patches [squared input units]"
    values = xr.DataArray(np.zeros((3, 4)), dims=("row", "column"), attrs={"units": units})
    shown = style.maps({"a": values, "b": values})
    lines = shown.layout.coloraxis.colorbar.title.text.split("<br>")
    assert " ".join(lines) == units
    assert max(map(len, lines)) * style.LETTER < shown.layout.height


def test_many_maps_in_a_line_take_no_more_height_than_they_fill() -> None:
    values = xr.DataArray(np.zeros((4, 6)), dims=("row", "column"), attrs={"units": "1"})
    few, many = (style.maps({str(one): values for one in range(count)}).layout.height for count in (2, 6))
    assert many < 0.7 * few


def test_strips_wrap() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    narrow = style.mosaic([(f"c{number}", [pixels, pixels]) for number in range(8)])
    wide = style.mosaic([(f"c{number}", [pixels, pixels]) for number in range(30)])
    assert wide.layout.height > 3 * narrow.layout.height * 0.9
    assert wide.layout.xaxis.range == narrow.layout.xaxis.range, "cells keep their size"
