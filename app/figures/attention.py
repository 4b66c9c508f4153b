"""What the figures of both attention probes share: a measure by layer, mean over heads as a line
and each head as a dot."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import style
from lcmae.app.figures.baselines import baselines_of, lines, own_numbers


def by_layer(results: Mapping[str, xr.Dataset], variable: str, baseline: str | None = None) -> go.Figure:
    """`variable` (layer, head) of each run: a line through the mean over heads, a faint dot for
    every head.

    `baseline` names a scalar that is drawn across in grey, one for each value that runs differ in.
    """
    names = list(results)
    colour, dash = style.colours(names), style.dashes(names)
    shown = style.figure(height=340)
    lines(shown, baselines_of(over_heads(results, variable), variable), "layer")
    results = own_numbers(results)
    for position, (name, result) in enumerate(results.items()):
        values = result[variable].transpose("layer", "head")
        if "head" not in values.coords:
            values = values.assign_coords(head=range(1, values.sizes["head"] + 1))
        symbol = style.SYMBOLS[position % len(style.SYMBOLS)]
        layers = values["layer"].values
        heads = values.stack(point=("layer", "head"))
        shown.add_trace(
            go.Scatter(
                x=heads["layer"].values,
                y=heads.values,
                customdata=heads["head"].values,
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=False,
                marker={"color": colour[name], "size": 6, "opacity": 0.4, "symbol": symbol},
                hovertemplate="layer %{x}, head %{customdata}: %{y:.4g}<extra>" + name + "</extra>",
            )
        )
        shown.add_trace(
            go.Scatter(
                x=layers,
                y=values.mean("head").values,
                mode="lines+markers",
                name=name,
                legendgroup=name,
                line={"color": colour[name], "dash": dash[name]},
                marker={"size": 8, "symbol": symbol},
                hovertemplate="layer %{x}, mean over heads: %{y:.4g}<extra>" + name + "</extra>",
            )
        )
    if baseline is not None:
        across(shown, {float(result[baseline]) for result in results.values()}, "uniform attention")
    first = next(iter(results.values()))[variable]
    shown.update_xaxes(title="layer", dtick=1 if first.sizes["layer"] <= 16 else None)
    return shown.update_yaxes(title=style.axis_title(first))


def over_heads(results: Mapping[str, xr.Dataset], variable: str) -> dict[str, xr.Dataset]:
    """`variable`, mean over heads, of every network."""
    return {run: xr.Dataset({variable: result[variable].mean("head")}) for run, result in results.items()}


def across(shown: go.Figure, values: set[float], label: str, dash: str = "dot") -> go.Figure:
    """Grey lines across the figure at these values, behind those of runs, in the legend once."""
    for position, value in enumerate(sorted(values)):
        shown.add_shape(
            type="line", layer="between", xref="paper", x0=0, x1=1, y0=value, y1=value, name=label, legendgroup=label,
            showlegend=position == 0, line={"color": style.GREY, "dash": dash, "width": 2},
        )  # fmt: skip
    return shown
