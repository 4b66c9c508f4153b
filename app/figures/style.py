"""What every figure shares: one palette, one template, axis titles out of the data, maps and
pictures side by side.

Colours are Okabe and Ito's (2008), told apart with any colour vision and on white and near-black;
dashes and symbols repeat the distinction. Text and grid lines take no colour here: the dashboard's
theme gives them one, and `TEMPLATE` does in exported files.
"""

import base64
import io
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from PIL import Image

from lcmae.app.figures.identity import Marking, markings

BLUE, ORANGE, GREEN, RED, SKY, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
GREY = "#8a8f98"  # baselines: stands back, on either background
PALETTE = (BLUE, ORANGE, GREEN, RED, SKY, PINK)
"""Colours of runs, and of nothing else."""
PARTS = ("#4477AA", "#66CCEE", "#228833", "#CCBB44", "#EE6677", "#AA3377")
"""Colours of the parts of one quantity, such as the terms of a loss: Paul Tol's bright scheme."""
KINDS = ("#CC6677", "#44AA99", "#DDCC77", "#AA4499", "#88CCEE")
"""Colours of kinds of tokens that attention goes to: from Paul Tol's muted scheme."""
REFERENCES = {
    "untrained": "14px,5px",
    "pixels": "14px,4px,3px,4px",
    "mean colour": "3px,3px",
    "position": "9px,4px",
    "position mean": "9px,4px",
    "chance": "2px,5px",
    "ceiling": "20px,4px",
    "trained, leaky": "7px,5px",
}
"""The dash of what stands beside the runs, the same in every figure (in pixels, so that a short
line is seen to be dashed); grey wherever it belongs to no run."""
DASHES = ("solid", "dash", "dot", "dashdot")
PERCENT = "~%"
"""Of ticks: as many decimals as they need, or two of them would read alike."""

SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star")
HATCHES = ("", "/", "x", ".", "-", "+")
SEQUENTIAL = "Cividis"
"""Colour scale of what has a zero: errors, shares, attention. Made for colour-blind readers (Nunez
et al., 2018)."""
DIVERGING = "RdBu_r"
"""Colour scale of what has a sign; give it `zmid=0`."""

AXIS = {"gridcolor": "#e6e8ee", "zerolinecolor": "#c8ccd6", "automargin": True}

TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": "Source Sans 3, Source Sans Pro, Helvetica, Arial, sans-serif",
            "size": 13,
            "color": "#31333f",
        },
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "colorway": PALETTE,
        "xaxis": AXIS,
        "yaxis": {**AXIS, "exponentformat": "power"},  # 0.0004 is no 400µ
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
        "hovermode": "closest",
    }
)
GAP = 0.12  # between panels, as a share of a panel
HEADING = 0.12  # above a map, as a share of it
RANKS = (
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1000,
    2000,
    5000,
)  # ticks of a logarithmic axis: plotly's own repeat 2 and 5
ACROSS = 8
"""Pictures or maps in a line; more of them wrap."""
NARROW, LETTER, LONG_WORD = 560, 6.2, 15
"""Pixels of a strip of pictures in a window of 720 px, and of a letter of its headings; letters of
a word that is not broken."""
WIDE = 950
"""Pixels of a strip of maps in a window of 1440 px."""


def figure(*, height: int, **layout: object) -> go.Figure:
    """An empty figure of the house: its template, a legend above the plot, no dragging by
    accident."""
    legend = {"orientation": "h", "y": 1.0, "yref": "container", "yanchor": "top", "x": 0, "traceorder": "normal"}
    base = {"template": TEMPLATE, "height": height, "legend": legend, "dragmode": False}
    return go.Figure(layout={**base, "margin": {"l": 60, "r": 20, "t": 44, "b": 50}, **layout})


def axis_title(data: xr.DataArray) -> str:
    """Name and unit from the data: "masked loss (squared error) [squared input units]"; a pure
    number has no unit."""
    name, units = str(data.attrs["long_name"]), str(data.attrs["units"])
    return name if units in ("1", "") else f"{name} [{units}]"


def whole_steps(steps: Collection[int]) -> list[int] | None:
    """Ticks of an axis of so few steps that plotly's own would be halves of one; None leaves the
    ticks to plotly."""
    first, last = min(steps, default=0), max(steps, default=0)
    return list(range(first, last + 1)) if last - first <= 5 else None


_markings: Mapping[str, Marking] = {}


def know(objectives: Mapping[str, str]) -> None:
    """From now on these runs (name -> objective) have their own colour and dash in every figure of
    this process, whichever of them a figure shows. A server has one folder of runs."""
    global _markings
    _markings = _markings_of(tuple(sorted(objectives.items())))


@lru_cache(maxsize=8)
def _markings_of(objectives: tuple[tuple[str, str], ...]) -> Mapping[str, Marking]:
    return markings(dict(objectives), PALETTE)


def known() -> Mapping[str, Marking]:
    """The markings of all runs that this process knows."""
    return _markings


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: a known run's own; else by its position, and the seventh name starts
    again (and differs by dash or symbol)."""
    return {
        name: _markings[name].colour if name in _markings else PALETTE[position % len(PALETTE)]
        for position, name in enumerate(names)
    }


def dashes(names: Iterable[str]) -> dict[str, str]:
    """A dash for each name, another one for each turn through the palette."""
    return {
        name: DASHES[(_markings[name].turn if name in _markings else position // len(PALETTE)) % len(DASHES)]
        for position, name in enumerate(names)
    }


def by_units(results: Mapping[str, xr.Dataset], variable: str) -> list[tuple[str, dict[str, xr.Dataset]]]:
    """Results apart by the unit of a variable: raw and normalised targets share no axis. Results
    without it are left out.

    With each group comes what to append to its title: ", in <unit>", or nothing where there is one
    group only.
    """
    groups: dict[str, dict[str, xr.Dataset]] = {}
    for name, result in results.items():
        if variable in result:
            groups.setdefault(str(result[variable].attrs["units"]), {})[name] = result
    return [(f", in {units}" if len(groups) > 1 else "", group) for units, group in groups.items()]


def maps(
    panels: Mapping[str, xr.DataArray], *, height: int = 260, colorscale: str = SEQUENTIAL, title: str | None = None
) -> go.Figure:
    """Maps [row column] side by side, at most `ACROSS` in a line of `height` pixels, on one colour
    scale, first row on top. All must have the same unit."""
    if not panels:
        raise ValueError("expected at least one map to draw, got none")
    in_line = evenly(len(panels), ACROSS)
    num_lines = -(-len(panels) // in_line)
    rows, columns = next(iter(panels.values())).shape
    # many in a line are small: no more height than they fill in a wide window
    height = min(height, round(WIDE / (in_line * (1 + GAP)) * rows / columns * (1 + HEADING)) + 30)
    shown = figure(height=height * num_lines, margin={"l": 10, "r": 10, "t": 10, "b": 10})
    across, down = columns * (1 + GAP), rows * (1 + GAP + HEADING)
    for position, (name, values) in enumerate(panels.items()):
        x0, y0 = position % in_line * across, position // in_line * down
        shown.add_trace(heatmap(values, name, x0=x0, y0=y0, dx=columns / values.shape[1], dy=rows / values.shape[0]))
        shown.add_annotation(headline(name, x0 + columns / 2, y0 - 0.02 * rows))
    first = next(iter(panels.values()))
    words = beside_bar(title or str(first.attrs["units"]), height * num_lines)
    shown.update_layout(coloraxis=colour_axis(words, colorscale))
    width = (in_line - 1) * across + columns
    return bare_axes(shown, width, (num_lines - 1) * down + rows, headings=HEADING * rows)


def heatmap(values: xr.DataArray, name: str, *, x0: float, y0: float, dx: float, dy: float) -> go.Heatmap:
    """A map [row column] whose first cell has its outer corner at (x0, y0), coloured by the
    figure's colour axis."""
    rows, columns = values.shape
    position = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    return go.Heatmap(
        z=np.asarray(values.values, dtype=float),
        customdata=position,
        x0=x0 + dx / 2,
        dx=dx,
        y0=y0 + dy / 2,
        dy=dy,
        coloraxis="coloraxis",
        hoverongaps=False,
        hovertemplate="row %{customdata[0]}, column %{customdata[1]}: %{z:.4g}<extra>" + name + "</extra>",
    )


def colour_axis(title: str, colorscale: str = SEQUENTIAL, **more: object) -> dict[str, object]:
    """The one colour scale of a figure, with its unit."""
    bar = {"title": {"text": title, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    return {"colorscale": colorscale, "colorbar": bar, **more}


def beside_bar(title: str, height: int) -> str:
    """The title of a colour bar in lines that are no longer than a figure of so many pixels is
    high."""
    return "<br>".join(textwrap.wrap(title, max(8, int(0.85 * height / LETTER))))


def bare_axes(shown: go.Figure, width: float, height: float, *, headings: float = 0.0) -> go.Figure:
    """Axes that only place pictures: unseen, y downwards, cells square, room for headings above."""
    shown.update_xaxes(visible=False, range=[0, width], constrain="domain")
    # what lies outside the range of an axis is not drawn, headings too
    shown.update_yaxes(visible=False, range=[height, -headings], scaleanchor="x", constrain="domain")
    return shown


def picture(pixels: np.ndarray, *, x0: float, y0: float, width: float, height: float, name: str) -> go.Image:
    """A picture uint8 [y x channel] (1, 3 or 4 channels), as PNG, with its corner at (x0, y0)."""
    dy, dx = height / pixels.shape[0], width / pixels.shape[1]
    return go.Image(
        source=png(pixels),
        x0=x0 + dx / 2,
        y0=y0 + dy / 2,
        dx=dx,
        dy=dy,
        hovertemplate="%{color}<extra>" + name + "</extra>",
    )


def png(pixels: np.ndarray) -> str:
    """A data address of a picture uint8 [y x channel]; a list of numbers would be thirty times as
    long."""
    pixels = np.asarray(pixels, dtype=np.uint8)
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    elif pixels.shape[-1] == 2:
        raise ValueError("expected a picture of 1, 3 or 4 channels, got 2")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def mosaic(columns: Sequence[tuple[str, Sequence[np.ndarray | xr.DataArray]]], *, colour_title: str = "") -> go.Figure:
    """Columns of pictures (uint8 [y x channel]) and maps ([row column]) under their headings, all
    cells of one size; after `ACROSS` columns, or fewer where headings are long, a strip goes on
    below.

    All maps share one colour scale from 0 up.
    """
    rows = max((len(cells) for _, cells in columns), default=0)
    if rows == 0:
        raise ValueError("expected at least one picture to draw, got none")
    across = columns_that_fit([heading for heading, _ in columns])
    letters = int(NARROW / LETTER / across)
    columns = [(wrapped(heading, letters), cells) for heading, cells in columns]
    num_strips = -(-len(columns) // across)
    cell = min(150, round(690 / across / (1 + GAP)))  # pixels: a row fits beside the menu of a 1280 px window
    lines = 1 + max(heading.count("<br>") for heading, _ in columns)
    headings = lines * 18 / cell
    step, strip = 1 + GAP, rows * (1 + GAP) + headings
    shown = figure(
        height=int(num_strips * strip * cell) + 20,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        meta={"heading_letters": letters},
    )
    aspect = next((c.shape[1] / c.shape[0] for _, cells in columns for c in cells), 1.0)
    largest: list[float] = []
    for position, (heading, cells) in enumerate(columns):
        x0, top = position % across * (aspect + GAP), position // across * strip
        shown.add_annotation(headline(heading, x0 + aspect / 2, top - 0.03))
        for down, content in enumerate(cells):
            y0 = top + down * step
            if isinstance(content, xr.DataArray):
                largest.append(float(np.nanmax(content.values, initial=0.0)))
                dy, dx = 1 / content.shape[0], aspect / content.shape[1]
                shown.add_trace(heatmap(content, heading, x0=x0, y0=y0, dx=dx, dy=dy))
            else:
                shown.add_trace(picture(content, x0=x0, y0=y0, width=aspect, height=1, name=heading))
    if largest:
        # one end alone would be left out of account by plotly
        words = beside_bar(colour_title, int(num_strips * strip * cell))
        shown.update_layout(coloraxis=colour_axis(words, cmin=0, cmax=max(largest) or 1.0))
    return bare_axes(shown, across * (aspect + GAP) - GAP, num_strips * strip - headings - GAP, headings=headings)


def columns_that_fit(headings: Sequence[str]) -> int:
    """How many columns stand beside one another so that the words above them do, too, in a window
    of 720 px."""
    words = [word for heading in headings for word in re.split(r"<br>|\s", heading.partition("<br>")[2] or heading)]
    longest = min(max(map(len, words)), LONG_WORD)
    return evenly(len(headings), max(1, min(ACROSS, int(NARROW / LETTER / max(longest, 1)))))


def evenly(count: int, most: int) -> int:
    """How many of `count` stand in a line of at most `most`, so that lines are about as long: eight
    of at most six are four and four, never six and two."""
    return -(-count // -(-count // most))


def wrapped(heading: str, most: int) -> str:
    """A heading whose lines after the first have at most so many letters; the first may be a run's
    name, which is made short later (`lcmae.app.figures.legend`)."""
    first, *others = heading.split("<br>")
    return "<br>".join([first, *(line for other in others for line in textwrap.wrap(other, max(most, 1)))])


def headline(text: str, x: float, y: float) -> go.layout.Annotation:
    return go.layout.Annotation(text=text, x=x, y=y, showarrow=False, yanchor="bottom", font={"size": 12})
