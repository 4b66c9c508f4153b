"""Dots over categories and curves over numbers, with 95 % intervals: what the figures of several
probes are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import style
from lcmae.probes.results.networks import NETWORK, TRAINED, networks_of
from lcmae.probes.statistics import intervals


@dataclass(frozen=True)
class Series:
    """One row of values with its look. `x` holds categories for dots, numbers for curves."""

    name: str
    x: Sequence[str] | Sequence[float]
    y: np.ndarray
    colour: str
    low: np.ndarray | None = None
    """Ends of the 95 % interval; None draws none."""

    high: np.ndarray | None = None
    symbol: str = "circle"
    dash: str = "solid"

    def error(self) -> dict[str, object]:
        """plotly's error bars."""
        if self.low is None or self.high is None:
            return {"visible": False}
        ends = {"array": self.high - self.y, "arrayminus": self.y - self.low}
        return {**ends, "symmetric": False, "thickness": 1.5, "width": 4}


def of_networks(results: Mapping[str, xr.Dataset], variable: str, along: str, **at: object) -> list[Series]:
    """A row a run and network, over the dimension `along` and where labels are as in `at`: runs in
    their colours, baselines grey and in their dashes. Baselines without numbers have no row."""
    colour, rows = style.colours(results), []
    for position, (name, result) in enumerate(results.items()):
        for network in networks_of(result, variable) or [TRAINED]:
            chosen = {**at, NETWORK: network} if NETWORK in result[variable].dims else at
            low, high = intervals.ends(result, variable, **chosen)
            values = result[variable].sel(chosen)
            label = name if network == TRAINED else f"{name}, {network}"
            shade = colour[name] if network == TRAINED else style.GREY
            dash, symbol = style.REFERENCES.get(network, "solid"), style.SYMBOLS[position % 6]
            rows.append(Series(label, values[along].values.tolist(), values.values, shade, low, high, symbol, dash))
    return rows


def dots(rows: Sequence[Series], categories: Sequence[str], title: str) -> go.Figure:
    """Rows side by side within each category, so that intervals do not cover each other."""
    shown = style.figure(height=380)
    positions = {category: position for position, category in enumerate(categories)}
    for turn, row in enumerate(rows):
        shift = (turn - (len(rows) - 1) / 2) * 0.6 / max(len(rows), 1)
        shown.add_trace(
            go.Scatter(
                x=[positions[str(category)] + shift for category in row.x],
                y=row.y,
                error_y=row.error(),
                mode="markers",
                name=row.name,
                marker={"color": row.colour, "size": 10, "symbol": row.symbol},
                customdata=list(row.x),
                hovertemplate="%{customdata}: %{y:.4g}<extra>" + row.name + "</extra>",
            )
        )
    shown.update_xaxes(tickvals=list(range(len(categories))), ticktext=list(categories))
    return shown.update_xaxes(range=[-0.5, len(categories) - 0.5]).update_yaxes(title=title)


def curves(rows: Sequence[Series], x_title: str, y_title: str) -> go.Figure:
    """A line with markers for each row."""
    shown = style.figure(height=400)
    for row in rows:
        shown.add_trace(
            go.Scatter(
                x=list(row.x),
                y=row.y,
                error_y=row.error(),
                mode="lines+markers",
                name=row.name,
                line={"color": row.colour, "dash": row.dash},
                marker={"symbol": row.symbol, "size": 7},
                hovertemplate="%{x}: %{y:.4g}<extra>" + row.name + "</extra>",
            )
        )
    return shown.update_xaxes(title=x_title).update_yaxes(title=y_title)


def fit(shown: go.Figure, rows: Sequence[Series], *levels: float) -> go.Figure:
    """The vertical axis holds all values, their intervals and `levels`, and a little room beyond:
    what differs fills the picture."""
    values = [np.asarray(part, dtype=float).reshape(-1) for row in rows for part in (row.y, row.low, row.high)
              if part is not None]  # fmt: skip
    known = np.concatenate([*values, np.asarray(levels, dtype=float)])
    known = known[np.isfinite(known)]
    if not len(known):
        return shown
    room = 0.06 * float(np.ptp(known)) or 0.05
    return shown.update_yaxes(range=[float(known.min()) - room, float(known.max()) + room])


def wrap_titles(shown: go.Figure, most: int = 34) -> go.Figure:
    """Titles of axes in lines of at most `most` letters: half a page is all that a figure may
    have."""
    for name, axis in shown.to_dict()["layout"].items():
        text = axis.get("title", {}).get("text", "") if name.startswith(("xaxis", "yaxis")) else ""
        if len(text) > most and "<br>" not in text:
            shown.update_layout({name: {"title": {"text": "<br>".join(wrap(text, most))}}})
    return shown


def mark_best(shown: go.Figure, rows: Sequence[Series]) -> go.Figure:
    """A ring around the highest point of each row."""
    for row in rows:
        if np.isfinite(row.y).any():
            best = int(np.nanargmax(row.y))
            shown.add_trace(
                go.Scatter(
                    x=[row.x[best]],
                    y=[row.y[best]],
                    mode="markers",
                    name=f"{row.name}, best",
                    legendgroup=row.name,
                    showlegend=False,
                    marker={"symbol": "circle-open", "size": 16, "color": row.colour, "line": {"width": 2}},
                    hoverinfo="skip",
                )
            )
    return shown


def table_map(values: xr.DataArray, *, x_title: str, y_title: str, colour_title: str, top: float | None) -> go.Figure:
    """A labelled matrix [row column] as colours from 0 (or its least value) to `top`; the first row
    on top."""
    rows, columns = (values[dim].values.astype(str).tolist() for dim in values.dims)
    is_square = len(rows) == len(columns)  # its labels below take as much of the height as those beside it
    shown = style.figure(height=max(420 if is_square else 300, min(720, 130 + 26 * len(rows))))
    shown.add_trace(
        go.Heatmap(
            z=values.values.astype(float),
            x=columns,
            y=rows,
            coloraxis="coloraxis",
            hoverongaps=False,
            hovertemplate=f"{y_title} %{{y}}, {x_title} %{{x}}: %{{z:.3g}}<extra></extra>",
        )
    )
    limits = {} if top is None else {"cmin": 0, "cmax": top}
    shown.update_layout(coloraxis=style.colour_axis("<br>".join(wrap(colour_title, 26)), **limits))
    shown.update_xaxes(title=x_title, type="category")
    shown.update_yaxes(title=y_title, type="category", autorange="reversed")
    if is_square:
        shown.update_xaxes(constrain="domain")
        shown.update_yaxes(scaleanchor="x", constrain="domain")
    return shown
