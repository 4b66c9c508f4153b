"""Two checkpoints side by side: maps of A and B on one scale with B - A beside them, and numbers of
any number of runs.

(Grids of runs over masks and ratios, from `lcmae compare`, are drawn in `comparison.py`.)
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from lcmae.app.figures import limits, style
from lcmae.app.figures.answers import Answer, Number
from lcmae.app.figures.microscope import masked, outline
from lcmae.app.figures.through_training import panels as panels_of

HIGH = 190
"""Height of a map, in pixels."""

WIDE = 54
"""Letters of a line of a row's label."""


def pictures(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str]) -> go.Figure:
    """Image and mask once, both reconstructions, and their signed difference (mean over channels,
    from -1 to 1)."""
    columns: list[tuple[str, np.ndarray | xr.DataArray]] = [("image", a["original"].values), ("masked", masked(a))]
    columns += [
        (f"{name}<br>reconstruction", one["reconstruction"].values) for name, one in zip(names, (a, b), strict=True)
    ]
    if a["original"].shape == b["original"].shape:
        first, second = (one["reconstruction"].astype(float).mean("channel") / 255 for one in (a, b))
        columns.append(("B - A<br>pixel value", second - first))
    return row(columns, {"coloraxis2": "B - A, pixel value"})


def maps(a: xr.DataArray, b: xr.DataArray, names: tuple[str, str], title: str, *, grid: tuple[int, int] | None = None,
         patch: int | None = None) -> go.Figure:  # fmt: skip
    """A map [row column] of each on one scale from 0, and B - A where both have the same places;
    the patch is outlined."""
    columns: list[tuple[str, xr.DataArray]] = [(names[0], a), (names[1], b)]
    scales = {"coloraxis": title}
    if a.shape == b.shape:
        columns.append(("B - A", b - a))
        scales["coloraxis2"] = f"B - A, {title}"
    shown = row(columns, scales)
    if grid is not None and patch is not None:
        aspect = a.shape[1] / a.shape[0]
        for position, (_, values) in enumerate(columns):
            if values.shape == a.shape:
                outline(shown, patch, grid, x0=position * (aspect + style.GAP), width=aspect, height=1)
    return shown


def answer(frame: pd.DataFrame, names: tuple[str, str]) -> Answer:
    """The difference that stands furthest from 0 by its own interval, among the numbers that have a
    better end. `frame` is the table of `lcmae.probes.results.differences`."""
    decided = frame.loc[frame["says"].isin(["A better", "B better"])]
    if decided.empty:
        return Answer("No stored number with a better direction tells A and B apart.")
    ratios = decided["B - A"].abs() / (decided["high"] - decided["low"]).clip(lower=np.finfo(float).tiny)
    first: Any = decided.loc[ratios.idxmax()]
    letter = str(first["says"])[0]
    unit = str(first["unit"])
    own, other, apart = (
        Number(float(first[name]), float(first[low]), float(first[high]), unit)
        for name, low, high in (("A", "A low", "A high"), ("B", "B low", "B high"), ("B - A", "low", "high"))
    )
    what = ", ".join(filter(None, (str(first["quantity"]), *positions(decided.loc[[first.name]]))))
    sentence = (
        f"The clearest difference is in {what}, where {letter} is better: A has {own}, B {other}, a difference of {apart}; "
        f"{first['better']} is better."
    )
    return Answer(sentence, (own.tile(f"A: {names[0]}"), other.tile(f"B: {names[1]}"), apart.tile("B less A")))


def positions(frame: pd.DataFrame) -> list[str]:
    """Where each number stands, in words; of a table without words, its labels as they are
    stored."""
    return frame["where" if "where" in frame else "part"].tolist()


def row(columns: Sequence[tuple[str, np.ndarray | xr.DataArray]], scales: Mapping[str, str]) -> go.Figure:
    """Pictures uint8 and maps of one height in a row; maps called B - A have the scale with a sign,
    `coloraxis2`."""
    first = columns[0][1]
    aspect = first.shape[1] / first.shape[0]
    shown = style.figure(height=HIGH + 110, margin={"l": 10, "r": 10, "t": 10, "b": 60})
    for position, (heading, content) in enumerate(columns):
        x0 = position * (aspect + style.GAP)
        shown.add_annotation(style.headline(heading, x0 + aspect / 2, -0.03))
        if isinstance(content, xr.DataArray):
            dy, dx = 1 / content.shape[0], aspect / content.shape[1]
            trace = style.heatmap(content, heading.replace("<br>", " "), x0=x0, y0=0, dx=dx, dy=dy)
            shown.add_trace(trace.update(coloraxis="coloraxis2" if heading.startswith("B - A") else "coloraxis"))
        else:
            shown.add_trace(style.picture(content, x0=x0, y0=0, width=aspect, height=1, name=heading))
    style.bare_axes(shown, len(columns) * (aspect + style.GAP) - style.GAP, 1, headings=0.25)
    return _scales(shown, scales)


def _scales(shown: go.Figure, scales: Mapping[str, str]) -> go.Figure:
    """One colour bar from 0 up for the values, and one about 0 for the difference, side by side
    below."""
    extent = limits.ranges(shown)
    for name, title in scales.items():
        is_difference = name == "coloraxis2"
        bar = {
            "orientation": "h",
            "y": 0,
            "yanchor": "top",
            "thickness": 10,
            "outlinewidth": 0,
            "len": 0.44,
            "nticks": 5,
        }
        bar |= {"title": {"text": title, "side": "bottom"}, "x": 0.56 if is_difference else 0, "xanchor": "left"}
        ends = {"cmid": 0} if is_difference else {"cmin": 0}
        scale = style.DIVERGING if is_difference else style.SEQUENTIAL
        shown.update_layout({name: {"colorscale": scale, "colorbar": bar, **ends}})
    shown.update_xaxes(constraintoward="left")
    return limits.hold(shown, {name: extent.get(name, (0.0, 1.0)) for name in scales})


def shares(field: xr.DataArray) -> xr.DataArray:
    """A gradient map as shares that add to 1, in thousandths: its size says nothing between two
    models."""
    total = float(field.sum())
    return 1000 * field / total if total > 0 else field


def differences(frame: pd.DataFrame, quantities: Sequence[str], names: tuple[str, str] = ("A", "B")) -> go.Figure:
    """B - A with its interval for each number of these quantities, one panel a unit; filled where
    the interval leaves out 0, in the colour of the better one of the runs `names`."""
    colour = style.colours(dict.fromkeys(names))
    better = {f"{letter} better": colour[name] for letter, name in zip("AB", names, strict=True)}
    is_drawn = frame["low"].notna() & (frame["says"] != "equal")  # equal: baselines of the data
    chosen = frame.loc[frame["quantity"].isin(list(quantities)) & is_drawn]
    units = list(dict.fromkeys(chosen["unit"]))
    counts = [int((chosen["unit"] == unit).sum()) for unit in units]
    if not units:
        raise ValueError("expected at least one difference with an interval to draw, got none")
    most = max(label.count("<br>") + 1 for label in labels_of(chosen))
    height = max(30, 16 * most + 4) * sum(counts) + 95 * len(units)
    shown = make_subplots(
        rows=len(units),
        cols=1,
        figure=style.figure(height=height, margin={"l": 60, "r": 20, "t": 16, "b": 50}, showlegend=False),
        row_heights=[count + 0.5 for count in counts],
        vertical_spacing=min(75 / height, 0.9 / len(units)),
    )
    for position, unit in enumerate(units, start=1):
        here = chosen.loc[chosen["unit"] == unit]
        value = here["B - A"]
        colours = [better.get(outcome, style.GREY) for outcome in here["says"]]
        shown.add_trace(
            go.Scatter(
                x=value.tolist(),
                y=list(range(len(here))),
                error_x=_bars(here["high"] - value, value - here["low"]),
                mode="markers",
                marker={"color": colours, "size": 10, "symbol": [_symbol(outcome) for outcome in here["says"]]},
                customdata=list(zip(here["says"], here["interval"], strict=True)),
                hovertemplate="%{x:.4g}: %{customdata[0]} (%{customdata[1]})<extra></extra>",
            ),
            row=position,
            col=1,
        )
        labels = labels_of(here)
        shown.update_yaxes(
            tickvals=list(range(len(here))), ticktext=labels, range=[len(here) - 0.5, -0.5], row=position, col=1
        )
        title = "B - A" if unit == "1" else f"B - A [{unit}]"
        shown.update_xaxes(
            title=title, title_standoff=4, rangemode="tozero", zeroline=True, zerolinewidth=2, row=position, col=1
        )
    return shown


def labels_of(frame: pd.DataFrame) -> list[str]:
    """`accuracy: class token` of each row; where that is long, the position has lines of its
    own."""
    labels = []
    for quantity, position in zip(frame["quantity"], positions(frame), strict=True):
        label = f"{quantity}: {position}" if position else str(quantity)
        lines = [*wrap(f"{quantity}:", WIDE), *wrap(position, WIDE)] if position else wrap(label, WIDE)
        labels.append(label if len(label) <= WIDE else "<br>".join(lines))
    return labels


def _bars(up: Any, down: Any) -> dict[str, Any]:
    return {"array": up, "arrayminus": down, "symmetric": False, "width": 4, "thickness": 1.5, "color": style.GREY}


def _symbol(outcome: str) -> str:
    return {"A better": "triangle-left", "B better": "triangle-right", "differ": "diamond"}.get(outcome, "circle-open")


def of_runs(
    frame: pd.DataFrame, quantities: Sequence[str], runs: Sequence[str], *, across: int = 2, most: int = 40
) -> go.Figure:
    """Each number of these quantities as a panel with a dot and a 95 % interval for each run."""
    wanted = panels_of(frame, quantities)[:most]
    if not wanted:
        raise ValueError("expected at least one quantity with numbers to draw, got none")
    across = min(across, len(wanted))
    down = -(-len(wanted) // across)
    height = down * (92 + 24 * len(runs)) + 20
    shown = make_subplots(
        rows=down,
        cols=across,
        shared_yaxes=True,
        figure=style.figure(height=height, margin={"l": 60, "r": 20, "t": 44, "b": 45}, showlegend=False),
        subplot_titles=["<br>".join([*wrap(quantity, 44)[:2], *([f"<i>{part}</i>"] if part else [])])
                        for quantity, part, _ in wanted],
        vertical_spacing=min(86 / height, 1 / down),
        horizontal_spacing=0.06,
    )  # fmt: skip
    colours = style.colours(runs)
    for position, (quantity, part, unit) in enumerate(wanted):
        cell: dict[str, Any] = {"row": 1 + position // across, "col": 1 + position % across}
        here = frame.loc[(frame["quantity"] == quantity) & (frame["part"] == part) & (frame["unit"] == unit)]
        for turn, run in enumerate(runs):
            own = here.loc[here["run"] == run]
            for value, low, high in zip(own["value"], own["low (95 %)"], own["high (95 %)"], strict=True):
                symbol = style.SYMBOLS[turn % len(style.SYMBOLS)]
                shown.add_trace(
                    go.Scatter(
                        x=[value],
                        y=[turn],
                        error_x=_bars([high - value], [value - low]) | {"color": colours[run]},
                        mode="markers",
                        name=run,
                        marker={"color": colours[run], "size": 9, "symbol": symbol},
                        hovertemplate="%{x:.4g}<extra>" + run + "</extra>",
                    ),
                    **cell,
                )
        shown.update_xaxes(
            title="" if unit == "1" else unit, title_font={"size": 11}, title_standoff=4, nticks=6, **cell
        )
    shown.for_each_annotation(lambda heading: heading.update(font={"size": 12}))
    positions = list(range(len(runs)))
    return shown.update_yaxes(tickvals=positions, ticktext=list(runs), range=[len(runs) - 0.5, -0.5])
