"""Numbers of stored results against the step: a panel a number, a line a run, with 95 %
intervals."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from lcmae.app.figures import style
from lcmae.app.figures.baselines import LABELS, baselines_of, lines
from lcmae.probes.results import tables, when
from lcmae.probes.statistics import intervals

MOST_PANELS = 60
"""More panels than these are too many for one picture, and slow to draw."""

MOST_ROWS = 40
"""Numbers whose half changes are drawn."""


def numbers(results: Mapping[tuple[str, int], xr.Dataset]) -> pd.DataFrame:
    """The table of `table.scalars` with a column `step`, of results by (run, step), its parts in
    words; what is NaN is left out.

    Numbers of baselines stand under the quantity that they are beside, and have the baseline in the
    column `beside`.
    """
    frames = []
    for (run, step), result in results.items():
        rows, found = tables.scalars({run: result}, in_words=True), list(tables.cells(result))
        rows["beside"], rows["quantity"] = [cell.beside for cell in found], [cell.long_name for cell in found]
        frames.append(rows.assign(step=step))
    whole = (
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*tables.COLUMNS, "step", "beside"])
    )
    return whole.loc[whole["value"].notna(), ["run", "step", *tables.COLUMNS[1:], "beside"]]


def usual(frame: pd.DataFrame, most: int = 9) -> list[str]:
    """Quantities that are shown unasked, in their order: those that come with an error and in few
    parts."""
    chosen, panels = [], 0
    group: Any
    for quantity, group in frame.groupby("quantity", sort=False):
        parts = group["part"].nunique()
        has_error = any(bool(group[name].notna().to_numpy().any()) for name in ("standard error", "low (95 %)"))
        if has_error and panels + parts <= most:
            chosen.append(str(quantity))
            panels += parts
    return chosen or [str(frame["quantity"].iloc[0])]


def panels(frame: pd.DataFrame, quantities: Sequence[str]) -> list[tuple[str, str, str]]:
    """(quantity, part, unit) of each panel: runs whose numbers have other units never share one."""
    chosen: Any = frame[frame["quantity"].isin(list(quantities))]
    found = chosen[["quantity", "part", "unit"]].drop_duplicates()
    order = {quantity: position for position, quantity in enumerate(quantities)}
    found = found.sort_values("quantity", key=lambda names: names.map(order), kind="stable")
    return [(str(quantity), str(part), str(unit)) for quantity, part, unit in found.itertuples(index=False)]


def against_steps(
    frame: pd.DataFrame, quantities: Sequence[str], *, runs: Sequence[str], at: int | None = None, across: int = 3
) -> go.Figure:
    """Small multiples; `at` marks a step in all of them. `runs` fixes colours, whichever of them
    have numbers."""
    wanted = panels(frame, quantities)[:MOST_PANELS]
    if not wanted:
        raise ValueError("expected at least one quantity with numbers to draw, got none")
    down = -(-len(wanted) // across)
    height = 215 * down + 60
    shown = make_subplots(
        rows=down,
        cols=across,
        figure=style.figure(height=height, margin={"l": 50, "r": 10, "t": 90, "b": 45}),
        subplot_titles=[_heading(quantity, part) for quantity, part, _ in wanted],
        vertical_spacing=0.42 / down if down > 1 else 0,
        horizontal_spacing=0.1,
    )
    colours, dashes = style.colours(runs), style.dashes(runs)
    symbols = {run: style.SYMBOLS[position % len(style.SYMBOLS)] for position, run in enumerate(runs)}
    in_legend: set[str] = set()
    room = _room(pd.Series(frame["step"]))
    for position, (quantity, part, unit) in enumerate(wanted):
        here: Any = frame[(frame["quantity"] == quantity) & (frame["part"] == part) & (frame["unit"] == unit)]
        cell: Any = {"row": 1 + position // across, "col": 1 + position % across}
        traces: list[Any] = _beside(here, runs, room)
        for run, line in here[here["beside"] == ""].groupby("run", sort=False):
            traces.append(
                _line(str(run), line.sort_values("step"), colours[str(run)], dashes[str(run)], symbols[str(run)])
            )
        for trace in traces:
            shown.add_trace(trace.update(showlegend=trace.name not in in_legend), **cell)
            in_legend.add(trace.name)
        shown.update_yaxes(title="" if unit == "1" else unit, title_font={"size": 11}, title_standoff=12, **cell)
        shown.update_xaxes(title="optimiser step" if position + across >= len(wanted) else "", nticks=4, **cell)
        if at is not None:
            shown.add_vline(at, line={"color": style.GREY, "dash": "dot", "width": 1.5}, **cell)
    shown.for_each_annotation(lambda heading: heading.update(font={"size": 12}))
    ticks = style.whole_steps(frame["step"].tolist())
    return shown.update_xaxes(range=room, tickvals=ticks, title_font={"size": 11}, title_standoff=4)


def half_changes(frame: pd.DataFrame, *, runs: Sequence[str]) -> go.Figure | None:
    """The step at which each number made half of its change, earliest on top, of every run with its
    95 % interval; None where no number changed beyond its error."""
    own: Any = frame[(frame["beside"] == "") & frame["standard error"].notna()]
    found = when.order(own)
    if found.empty:
        return None
    found["name"] = [
        f"{quantity}, {part}" if part else str(quantity)
        for quantity, part in zip(found["quantity"], found["part"], strict=True)
    ]
    names = list(dict.fromkeys(found["name"]))[:MOST_ROWS]
    rows = {name: position for position, name in enumerate(names)}
    colours = style.colours(runs)
    shown = style.figure(height=110 + 22 * len(names), margin={"l": 10, "r": 20, "t": 44, "b": 50})
    for position, run in enumerate(runs):
        here = found[(found["run"] == run) & found["name"].isin(names)]
        if here.empty:
            continue
        shift = (position - (len(runs) - 1) / 2) * 0.6 / max(len(runs), 1)
        shown.add_trace(
            go.Scatter(
                x=here["step"],
                y=[rows[name] + shift for name in here["name"]],
                error_x={
                    "array": here["high"] - here["step"],
                    "arrayminus": here["step"] - here["low"],
                    "symmetric": False,
                    "thickness": 1.2,
                    "width": 3,
                },
                mode="markers",
                name=run,
                marker={"color": colours[run], "size": 8, "symbol": style.SYMBOLS[position % len(style.SYMBOLS)]},
                customdata=np.stack([here["name"], here["change"]], axis=1),
                hovertemplate="%{customdata[0]}: half at step %{x:.0f}, change %{customdata[1]:.3g}<extra>"
                + run
                + "</extra>",
            )
        )
    labels = ["<br>".join(wrap(name, 60)) for name in names]
    shown.update_yaxes(tickvals=list(range(len(names))), ticktext=labels, range=[len(names) - 0.5, -0.5])
    return shown.update_xaxes(title="optimiser step at which half of the change was made", rangemode="tozero")


def _beside(here: pd.DataFrame, runs: Sequence[str], room: Sequence[float]) -> list[Any]:
    """Baselines of one panel. What is the same at all steps is one line across, also where there is
    one step."""
    traces: list[Any] = []
    for kind in LABELS:
        found = {run: xr.Dataset() for run in runs}
        some: Any = here[here["beside"] == kind]
        lines_of = {str(run): line.sort_values("step") for run, line in some.groupby("run", sort=False)}
        flat = {run: np.allclose(line["value"], line["value"].iloc[0], rtol=1e-4) for run, line in lines_of.items()}
        for run, line in lines_of.items():
            steps, values, errors = (line[name].to_numpy(float) for name in ("step", "value", "high (95 %)"))
            errors = (errors - values) / intervals.NORMAL  # so that the interval is the table's
            if flat[run]:
                steps, values, errors = np.array(room), values[[0, 0]], errors[[0, 0]]
            found[run] = xr.Dataset(
                {"value": (("network", "step"), values[None]), "value_sem": (("network", "step"), errors[None])},
                {"network": [kind], "step": steps},
            )
        traces += lines(go.Figure(), baselines_of(found, "value"), "step", is_flat=all(flat.values())).data
    return traces


def _line(run: str, line: pd.DataFrame, colour: str, dash: str, symbol: str) -> go.Scatter:
    up, down = line["high (95 %)"] - line["value"], line["value"] - line["low (95 %)"]
    return go.Scatter(
        x=line["step"].tolist(),
        y=line["value"].tolist(),
        error_y={"array": up, "arrayminus": down, "symmetric": False, "thickness": 1.2, "width": 3},
        mode="lines+markers",
        name=run,
        legendgroup=run,
        line={"color": colour, "dash": dash, "width": 1.8},
        marker={"symbol": symbol, "size": 6},
        hovertemplate="step %{x}: %{y:.4g}<extra>" + run + "</extra>",
    )


def _heading(quantity: str, part: str) -> str:
    lines = wrap(quantity, 38)
    lines = lines if len(lines) < 3 else [lines[0], f"{lines[1][:36]}…"]
    return "<br>".join([*lines, *([f"<i>{part}</i>"] if part else [])])


def _room(steps: pd.Series) -> list[float]:
    low, high = float(steps.min()), float(steps.max())
    room = 0.06 * (high - low) or 1.0
    return [low - room, high + room]
