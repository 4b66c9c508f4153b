"""Pictures of the fidelity probe: SSIM, PSNR and squared error of predictors, on unmasked images
and by masking ratio."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import series, style
from lcmae.app.figures.series import Series
from lcmae.probes.statistics import intervals

MEASURES = ("ssim", "psnr", "mse", "mse_hidden")
BASELINES = {"nearest": (style.GREY, "dash"), "mean": (style.GREY, "dot")}
"""Predictors that look at no network: grey, and drawn once where all runs have the same images."""

NETWORKS = {"model": "solid", "model, leaky": "dashdot", "untrained": "dot"}


def unmasked(results: Mapping[str, xr.Dataset], measure: str) -> go.Figure:
    """One measure of what each predictor makes of whole images, with 95 % intervals; a colour and
    symbol a run."""
    variable = f"{measure}_unmasked"
    colour = style.colours(results)
    rows = []
    for position, (name, result) in enumerate(results.items()):
        low, high = intervals.ends(result, variable)
        predictors = result["predictor"].values.tolist()
        symbol = style.SYMBOLS[position % len(style.SYMBOLS)]
        rows.append(Series(name, predictors, result[variable].values, colour[name], low, high, symbol))
    order = [*NETWORKS, *BASELINES]
    found = [one for one in order if any(one in row.x for row in rows)]
    return series.dots(rows, found, style.axis_title(next(iter(results.values()))[variable]))


def by_ratio(results: Mapping[str, xr.Dataset], measure: str) -> go.Figure:
    """One measure against the masking ratio: networks in the colour of their run, baselines
    grey."""
    colour = style.colours(results)
    rows, drawn = [], []
    for name, result in results.items():
        for predictor in result["predictor"].values.tolist():
            values = result[measure].sel(predictor=predictor)
            low, high = intervals.ends(result, measure, predictor=predictor)
            marks = (colour[name], NETWORKS[predictor]) if predictor in NETWORKS else BASELINES[predictor]
            if predictor in BASELINES:
                if any(values.equals(other) for other in drawn):
                    continue
                drawn.append(values)
            label = predictor if predictor in BASELINES else f"{name}, {predictor}".removesuffix(", model")
            rows.append(
                Series(label, values["ratio"].values.tolist(), values.values, marks[0], low, high, dash=marks[1])
            )
    first = next(iter(results.values()))[measure]
    return series.curves(rows, style.axis_title(first["ratio"]), style.axis_title(first))
