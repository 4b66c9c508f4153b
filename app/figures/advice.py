"""Pictures of `lcmae advise`: the tested masks with their intervals, and what the images' own
statistics say of a mask."""

import math
import textwrap

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import series, style
from lcmae.app.figures.series import Series
from lcmae.probes.statistics import intervals


def tested_masks(tested: xr.Dataset) -> go.Figure:
    """A point and a 95 % interval for each tested mask, best on top; filled where it may be the
    best. Lines: untrained networks, raw pixels. `lcmae.probes.grids.advice.pictured` makes it."""
    names = [str(name) for name in tested["name"].values]
    shown = style.figure(height=150 + 28 * len(names))
    for may_be_best, label in ((1, "may be best"), (0, "ruled out as the best")):
        mine = tested.isel(cell=np.flatnonzero(tested["may_be_best"].values == may_be_best))
        if not mine.sizes["cell"]:
            continue
        mean = mine["mean"].values
        ends = {
            "array": np.nan_to_num(mine["high"].values - mean),
            "arrayminus": np.nan_to_num(mean - mine["low"].values),
        }
        shown.add_trace(
            go.Scatter(
                x=mean,
                y=[str(name) for name in mine["name"].values],
                error_x={**ends, "symmetric": False, "thickness": 1.5, "width": 4},
                mode="markers",
                name=label,
                marker={
                    "size": 11,
                    "color": style.BLUE if may_be_best else style.GREY,
                    "symbol": "circle" if may_be_best else "circle-open",
                },
                hovertemplate="%{y}: %{x:.1%}<extra></extra>",
            )
        )
    for baseline, dash in (("untrained", "dot"), ("pixels", "dash")):
        value, label = float(tested[baseline]), str(tested[baseline].attrs["long_name"])
        if math.isfinite(value):
            shown.add_trace(
                go.Scatter(
                    x=[value, value],
                    y=[names[-1], names[0]],
                    mode="lines",
                    name=label,
                    line={"color": style.ORANGE, "dash": dash},
                    hovertemplate=f"{label}: {value:.1%}<extra></extra>",
                )
            )
    shown.update_xaxes(title=style.axis_title(tested["mean"]), tickformat=style.PERCENT)
    return shown.update_yaxes(categoryorder="array", categoryarray=names[::-1], showgrid=False)


def explained(statistics: xr.Dataset) -> go.Figure:
    """What a linear predictor explains of hidden patches against the ratio, a colour for each mask
    unit; dashed: from the 8 neighbours alone."""
    return _by_ratio(statistics, {"r2_linear": ("all visible patches", "solid"), "r2_near": ("8 neighbours", "dash")})


def joined(statistics: xr.Dataset) -> go.Figure:
    """Label error of visible parts against the ratio where there are classes, else how often like
    hidden parts lead to another image."""
    names = {"label_error": ("label error", "solid")} if "label_error" in statistics else {"joined": ("", "solid")}
    return _by_ratio(statistics, names)


def _by_ratio(statistics: xr.Dataset, names: dict[str, tuple[str, str]]) -> go.Figure:
    units, rows = statistics["unit"].values.tolist(), []
    colours = style.colours([str(unit) for unit in units])
    ratios = statistics["ratio"].values.tolist()
    for name, (what, dash) in names.items():
        for unit in units:
            low, high = intervals.ends(statistics, name, unit=unit)
            label = f"unit {unit}, {what}" if what else f"unit {unit}"
            values = statistics[name].sel(unit=unit).values
            rows.append(Series(label, ratios, values, colours[str(unit)], low, high, dash=dash))
    first = statistics[next(iter(names))]
    title = "<br>".join(textwrap.wrap(style.axis_title(first), 40))
    shown = series.curves(rows, style.axis_title(first["ratio"]), title)
    return shown.update_layout(showlegend=True)


def correlation(statistics: xr.Dataset) -> go.Figure:
    """Correlation of pixels against their distance, and where it falls to 1 / e."""
    low, high = intervals.ends(statistics, "correlation")
    curve = statistics["correlation"]
    rows = [Series("all images", curve["distance"].values.tolist(), curve.values, style.BLUE, low, high)]
    title = "<br>".join(textwrap.wrap(style.axis_title(curve), 40))
    shown = series.curves(rows, style.axis_title(curve["distance"]), title)
    shown.add_hline(y=math.exp(-1), line={"color": style.GREY, "dash": "dot"}, annotation_text="1 / e")
    side = int(statistics.attrs["patch_size"])
    shown.add_vline(x=side, line={"color": style.GREY, "dash": "dot"}, annotation_text="a patch")
    return shown.update_layout(showlegend=False)
