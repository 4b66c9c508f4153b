"""Pictures of the fidelity probe: SSIM, PSNR and squared error, on unmasked images
and by masking ratio."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import series, style
from lcmae.app.figures.series import Series
from lcmae.probes.results.networks import networks_of
from lcmae.probes.statistics import intervals

MEASURES = ("ssim", "psnr", "mse", "mse_hidden")
BASELINES = {kind: (style.GREY, style.REFERENCES[kind]) for kind in ("pixels", "mean colour", "position mean")}
"""Predictions without a network: grey, and drawn once where all runs have the same images."""

NETWORKS = {"trained": "solid", **{kind: style.REFERENCES[kind] for kind in ("trained, leaky", "untrained")}}


def unmasked(results: Mapping[str, xr.Dataset], measure: str) -> go.Figure:
    """One measure of what each network makes of whole images, with 95 % intervals; a colour and
    symbol a run."""
    variable = f"{measure}_unmasked"
    colour = style.colours(results)
    rows = []
    for position, (name, result) in enumerate(results.items()):
        networks = networks_of(result, variable)
        low, high = intervals.ends(result, variable, network=networks)
        symbol = style.SYMBOLS[position % len(style.SYMBOLS)]
        rows.append(
            Series(name, networks, result[variable].sel(network=networks).values, colour[name], low, high, symbol)
        )
    order = [*NETWORKS, *BASELINES]
    found = [one for one in order if any(one in row.x for row in rows)]
    return series.dots(rows, found, style.axis_title(next(iter(results.values()))[variable]))


def by_ratio(results: Mapping[str, xr.Dataset], measure: str) -> go.Figure:
    """One measure against the masking ratio: networks in the colour of their run, baselines
    grey."""
    colour = style.colours(results)
    rows, drawn = [], []
    for name, result in results.items():
        for network in networks_of(result, measure):
            values = result[measure].sel(network=network)
            low, high = intervals.ends(result, measure, network=network)
            marks = (colour[name], NETWORKS[network]) if network in NETWORKS else BASELINES[network]
            if network in BASELINES:
                if any(values.equals(other) for other in drawn):
                    continue
                drawn.append(values)
            label = network if network in BASELINES else name if network == "trained" else f"{name}, {network}"
            rows.append(
                Series(label, values["ratio"].values.tolist(), values.values, marks[0], low, high, dash=marks[1])
            )
    first = next(iter(results.values()))[measure]
    return series.curves(rows, style.axis_title(first["ratio"]), style.axis_title(first))
