"""Pictures of a comparison: a measure against the ratio, ratio x mask unit as a heat map, any
column against any other.

Tables come as `xr.Dataset` along `row`, a variable a column with its long name and unit; only rows
that are done are drawn.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import style

Interval = Callable[[Sequence[float]], tuple[float, float]]
"""(mean, half of its 95 % interval) of a cell's values over seeds; NaN for the second where there
is one seed."""


def done(table: xr.Dataset) -> xr.Dataset:
    """The rows whose run is done."""
    return table.isel(row=np.flatnonzero(table["status"].values == "done"))


def series(table: xr.Dataset, *, leave_out: str = "") -> list[str]:
    """For each row, its cell in words without the ratio (and without `leave_out`): settings that
    never change are left out."""
    names = [name for name in ("objective", "mask", "unit") if name != leave_out and len(_known(table, name)) > 1]
    return [", ".join(_word(name, table[name].values[row]) for name in names) or "all" for row in range(_rows(table))]


def against_ratio(table: xr.Dataset, measure: str, interval: Interval) -> go.Figure:
    """Means over seeds with 95 % intervals, a line for each objective, mask and unit; single runs
    as open circles, which decide the vertical axis: long bars leave the picture."""
    table = done(table)
    labels = series(table)
    names = sorted(set(labels))
    if not names:
        raise ValueError("expected at least one run that is done, got none")
    shown = style.figure(height=380)
    colours, dashes = style.colours(names), style.dashes(names)
    ratios = sorted(set(table["ratio"].values.tolist()))
    gap = min(np.diff(ratios), default=0.1)
    for position, name in enumerate(names):
        mine = table.isel(row=[row for row, label in enumerate(labels) if label == name])
        # side by side, so that intervals at one ratio don't cover each other
        shift = (position - (len(names) - 1) / 2) * 0.05 * gap
        cells = [(ratio, _finite(mine[measure].values[mine["ratio"].values == ratio])) for ratio in ratios]
        cells = [(ratio, values) for ratio, values in cells if values]
        means = [interval(values) for _, values in cells]
        shown.add_trace(
            go.Scatter(
                x=[ratio + shift for ratio, _ in cells],
                y=[mean for mean, _ in means],
                error_y={"array": [0 if math.isnan(half) else half for _, half in means], "thickness": 1.5, "width": 3},
                customdata=[
                    [ratio, len(values), half] for (ratio, values), (_, half) in zip(cells, means, strict=True)
                ],
                mode="lines+markers",
                name=name,
                line={"color": colours[name], "dash": dashes[name]},
                marker={"size": 8, "symbol": style.SYMBOLS[position % len(style.SYMBOLS)]},
                hovertemplate="ratio %{customdata[0]:.3g}: %{y:.4g} ± %{customdata[2]:.2g}, %{customdata[1]} seeds"
                f"<extra>{name}</extra>",
            )
        )
        shown.add_trace(
            go.Scatter(
                x=mine["ratio"].values + shift,
                y=mine[measure].values,
                mode="markers",
                marker={"size": 8, "color": colours[name], "symbol": "circle-open"},
                showlegend=False,
                hovertemplate="%{customdata}: %{y:.4g}<extra></extra>",
                customdata=mine["run"].values,
            )
        )
    shown.update_xaxes(title=style.axis_title(table["ratio"]), tickvals=ratios)
    shown.update_yaxes(title=_title(table[measure]), range=around(table[measure].values))
    return shown.update_layout(showlegend=len(names) > 1)


def around(values: np.ndarray) -> list[float] | None:
    """An axis that holds all values, and half of their spread beyond them: intervals of two seeds
    (Student's t is 12.7) would flatten what was measured. None, for plotly to choose, where they do
    not spread."""
    finite = values[np.isfinite(values)]
    room = np.ptp(finite) / 2 if len(finite) else 0.0
    return [float(finite.min() - room), float(finite.max() + room)] if room > 0 else None


def ratio_by_unit(table: xr.Dataset, measure: str) -> go.Figure:
    """Means over seeds by ratio and mask unit, of the runs that have a unit; the numbers stand in
    the cells."""
    table = done(table)
    table = table.isel(row=np.flatnonzero(np.isfinite(table["unit"].values)))
    ratios, units = sorted(_known(table, "ratio")), sorted(_known(table, "unit"))
    if not ratios:
        raise ValueError("expected at least one run with a mask unit, got none")
    means = np.full((len(units), len(ratios)), np.nan)
    for down, unit in enumerate(units):
        for across, ratio in enumerate(ratios):
            within = (table["unit"].values == unit) & (table["ratio"].values == ratio)
            values = _finite(table[measure].values[within])
            if values:
                means[down, across] = np.mean(values)
    shown = style.figure(height=160 + 60 * len(units))
    shown.add_trace(
        go.Heatmap(
            z=means,
            x=[f"{ratio:g}" for ratio in ratios],
            y=[f"{unit:g}" for unit in units],
            coloraxis="coloraxis",
            texttemplate="%{z:.3g}",
            hoverongaps=False,
            hovertemplate="ratio %{x}, unit %{y}: %{z:.4g}<extra></extra>",
        )
    )
    words = style.beside_bar(style.axis_title(table[measure]), 160 + 60 * len(units))
    shown.update_layout(coloraxis=style.colour_axis(words))
    # numbers as names: cells of one size, whatever the steps between them
    shown.update_xaxes(title=style.axis_title(table["ratio"]), type="category", showgrid=False)
    shown.update_yaxes(title=style.axis_title(table["unit"]), type="category", showgrid=False)
    return shown


def scatter(table: xr.Dataset, x: str, y: str) -> go.Figure:
    """A dot for each run, one column against another; `customdata` of a dot is the name of its
    run."""
    table = done(table)
    labels = series(table)
    names = sorted(set(labels))
    colours = style.colours(names)
    shown = style.figure(height=440)
    for position, name in enumerate(names):
        mine = table.isel(row=[row for row, label in enumerate(labels) if label == name])
        shown.add_trace(
            go.Scatter(
                x=mine[x].values,
                y=mine[y].values,
                mode="markers",
                name=name,
                customdata=mine["run"].values,
                marker={
                    "size": 10,
                    "color": colours[name],
                    "symbol": style.SYMBOLS[position % len(style.SYMBOLS)],
                    "line": {"width": 0.5},
                },
                hovertemplate="%{customdata}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
            )
        )
    shown.update_xaxes(title=style.axis_title(table[x]))
    shown.update_yaxes(title=_title(table[y]))
    return shown.update_layout(showlegend=len(names) > 1)


def _title(column: xr.DataArray) -> str:
    """Name and unit of a column in lines that fit beside an axis."""
    return "<br>".join(textwrap.wrap(style.axis_title(column), 44))


def _rows(table: xr.Dataset) -> int:
    return table.sizes.get("row", 0)


def _known(table: xr.Dataset, name: str) -> list[Any]:
    values: Iterable[Any] = table[name].values.tolist()
    return list(dict.fromkeys(value for value in values if not (isinstance(value, float) and math.isnan(value))))


def _word(name: str, value: Any) -> str:
    if name != "unit":
        return str(value)
    return "no unit" if math.isnan(value) else f"unit {value:g}"


def _finite(values: np.ndarray) -> list[float]:
    return [float(value) for value in values if math.isfinite(value)]
