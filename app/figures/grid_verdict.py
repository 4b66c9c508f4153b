"""Pictures of a comparison's verdict: means against the ratio with bands that hold for all cells
together, cost against the measure, and how many seeds would decide what.

They are drawn of `lcmae.probes.grids.verdict.labelled`: numbers along `cell`, best first.
"""

import math
import textwrap

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import style

MOST_SEEDS = 40
"""As far as `lcmae.probes.grids.statistics` counts further seeds; that module needs scipy."""


def bands(cells: xr.Dataset) -> go.Figure:
    """Means against the ratio, a line and a band for each objective, mask and unit. Bands are 95 %
    intervals for all cells together; filled points may be the best."""
    names = _series(cells)
    distinct = sorted(set(names))  # so that a mask has one colour in every picture of a comparison
    colours, dashes = style.colours(distinct), style.dashes(distinct)
    shown = style.figure(height=420)
    for position, name in enumerate(distinct):
        mine = cells.isel(cell=[row for row, other in enumerate(names) if other == name]).sortby("ratio")
        ratio, colour = mine["ratio"].values, colours[name]
        low, high = mine["together_low"].values, mine["together_high"].values
        if np.isfinite(low).all():
            shown.add_trace(
                go.Scatter(
                    x=np.r_[ratio, ratio[::-1]],
                    y=np.r_[high, low[::-1]],
                    fill="toself",
                    fillcolor=_faint(colour),
                    line={"width": 0},
                    mode="lines",
                    hoverinfo="skip",
                    showlegend=False,
                    legendgroup=name,
                    name=name,
                )
            )
        symbol = style.SYMBOLS[position % len(style.SYMBOLS)]
        best = mine["may_be_best"].values
        shown.add_trace(
            go.Scatter(
                x=ratio,
                y=mine["mean"].values,
                customdata=np.stack([low, high], axis=1),
                mode="lines+markers",
                name=name,
                legendgroup=name,
                line={"color": colour, "dash": dashes[name]},
                marker={"size": 9, "symbol": [symbol if one != 0 else f"{symbol}-open" for one in best]},
                hovertemplate="ratio %{x:.3g}: %{y:.4g} (%{customdata[0]:.4g} to %{customdata[1]:.4g})"
                f"<extra>{name}</extra>",
            )
        )
    shown.update_xaxes(title=style.axis_title(cells["ratio"]), tickvals=sorted(set(cells["ratio"].values.tolist())))
    shown.update_yaxes(title=_wrapped(cells["mean"]))
    return shown.update_layout(showlegend=len(distinct) > 1)


def cost(cells: xr.Dataset) -> go.Figure:
    """The measure against the `seconds` of a run, a point a cell with its interval for all cells
    together; filled and named points may be the best."""
    shown = style.figure(height=420)
    for value, label, colour, symbol in (
        (1, "may be best", style.BLUE, "circle"),
        (0, "ruled out as the best", style.GREY, "circle-open"),
        (math.nan, "cells", style.BLUE, "circle"),
    ):
        best = cells["may_be_best"].values
        chosen = np.isnan(best) if math.isnan(value) else best == value
        mine = cells.isel(cell=np.flatnonzero(chosen))
        if not chosen.any():
            continue
        mean = mine["mean"].values
        ends = {
            "array": np.nan_to_num(mine["together_high"].values - mean),
            "arrayminus": np.nan_to_num(mean - mine["together_low"].values),
        }
        shown.add_trace(
            go.Scatter(
                x=mine["seconds"].values,
                y=mean,
                error_y={**ends, "symmetric": False, "thickness": 1, "width": 3},
                mode="markers+text" if value == 1 else "markers",
                text=[str(name) for name in mine["name"].values],
                textposition=_apart(mine["seconds"].values, mean, cells["seconds"].values),
                textfont={"size": 10},
                name=label,
                marker={"size": 10, "color": colour, "symbol": symbol},
                hovertemplate="%{text}: %{y:.4g}, %{x:.4g} s<extra></extra>",
            )
        )
    seconds = cells["seconds"].values
    room = 0.12 * np.ptp(seconds) or 1.0
    shown.update_xaxes(title=style.axis_title(cells["seconds"]), range=[seconds.min() - room, seconds.max() + room])
    return shown.update_yaxes(title=_wrapped(cells["mean"]))


def _apart(seconds: np.ndarray, mean: np.ndarray, every: np.ndarray) -> list[str]:
    """Where the name of each point stands: beside it, towards the middle of the picture; of points
    that are near one another above the upper and below the lower one."""
    near = 0.2 * (np.ptp(every) or 1.0)
    found = []
    for one, height in zip(seconds, mean, strict=True):
        beside = mean[(np.abs(seconds - one) < near) & (mean != height)]
        side = "right" if one <= (every.min() + every.max()) / 2 else "left"
        level = "middle" if not len(beside) else "top" if (height > beside).all() else "bottom"
        found.append(f"{level} {side}")
    return found


def power(cells: xr.Dataset) -> go.Figure:
    """How many more seeds would decide each cell's difference to the baseline, in words where it is
    decided, or where more than 40 would not do."""
    others = cells.isel(cell=np.flatnonzero(cells["verdict"].values != "baseline"))
    names = [str(name) for name in others["name"].values]
    decided = np.isin(others["verdict"].values, ("higher", "lower"))
    needed = np.where(decided, 0.0, others["seeds_needed"].values)
    words = [
        "decided" if done else f"{more:.0f}" if math.isfinite(more) else f"not within {MOST_SEEDS} more"
        for done, more in zip(decided, needed, strict=True)
    ]
    shown = style.figure(height=130 + 24 * max(len(names), 1), showlegend=False)
    shown.add_trace(
        go.Bar(
            x=np.nan_to_num(needed),
            y=names,
            orientation="h",
            marker={"color": style.BLUE},
            text=words,
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    # as far as seeds were counted, where that was not far enough: there is always an axis to read
    most = float(np.where(np.isnan(needed), MOST_SEEDS, needed).max(initial=0)) or 1.0
    shown.update_xaxes(
        title=style.axis_title(cells["seeds_needed"]), range=[0, 1.2 * most], dtick=None if most > 4 else 1
    )
    return shown.update_yaxes(categoryorder="array", categoryarray=names[::-1], showgrid=False)


def _series(cells: xr.Dataset) -> list[str]:
    """Cells in words without the ratio; settings that never change are left out."""
    parts = []
    for name in ("objective", "mask", "unit"):
        values = cells[name].values
        words = [
            str(value) if name != "unit" else "no unit" if math.isnan(value) else f"unit {value:g}" for value in values
        ]
        if len(set(words) - {"no unit"}) > 1:
            parts.append(words)
    return [", ".join(row) for row in zip(*parts, strict=True)] if parts else ["all"] * cells.sizes["cell"]


def _wrapped(column: xr.DataArray) -> str:
    """Name and unit in lines that fit beside an axis."""
    return "<br>".join(textwrap.wrap(style.axis_title(column), 44))


def _faint(colour: str) -> str:
    """#rrggbb at a seventh of its strength."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.14)"
