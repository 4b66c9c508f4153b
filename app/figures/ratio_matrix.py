"""Trained at one masking ratio, tested at another: a heat map of cells x test ratios.

Drawn of `lcmae.probes.grids.ratio_matrix.assembled`.
"""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import style

MEASURES = ("loss", "mean_knn", "mean_linear", "effective_rank")
"""Names of the measures in the data, without their part."""


def known(matrix: xr.Dataset) -> list[str]:
    """Measures that at least one run has."""
    return [name for name in MEASURES if f"{name}_mean" in matrix and bool(matrix[f"{name}_mean"].notnull().any())]


def heat_map(matrix: xr.Dataset, measure: str) -> go.Figure:
    """Means over seeds; half of the 95 % interval stands below, where seeds allow one. A star: may
    be the best at this test ratio; where all may be, none is marked."""
    mean = matrix[f"{measure}_mean"]
    columns = np.flatnonzero(mean.notnull().any("cell").values)
    part = matrix.isel(test_ratio=columns)
    mean = part[f"{measure}_mean"]
    half = (part[f"{measure}_high"] - part[f"{measure}_low"]).values / 2
    best = part[f"{measure}_may_be_best"].values
    is_decided = np.nansum(best, axis=0) < np.isfinite(best).sum(axis=0)
    text = [
        [
            _words(value, reach, is_best=bool(one == 1 and marked))
            for value, reach, one, marked in zip(*row, is_decided, strict=True)
        ]
        for row in zip(mean.values, half, best, strict=True)
    ]
    names = [str(name) for name in part["name"].values]
    shown = style.figure(height=150 + 44 * len(names))
    shown.add_trace(
        go.Heatmap(
            z=mean.values,
            x=[f"{ratio:g}" for ratio in part["test_ratio"].values],
            y=names,
            coloraxis="coloraxis",
            text=text,
            texttemplate="%{text}",
            customdata=np.stack([part[f"{measure}_low"].values, part[f"{measure}_high"].values], axis=-1),
            hoverongaps=False,
            hovertemplate="trained with %{y}, tested at %{x}: %{z:.4g} (%{customdata[0]:.4g} to %{customdata[1]:.4g})"
            "<extra></extra>",
        )
    )
    shown.update_layout(coloraxis=style.colour_axis(str(mean.attrs["units"])))
    shown.update_xaxes(title=style.axis_title(part["test_ratio"]), type="category", showgrid=False)
    return shown.update_yaxes(title="training", type="category", showgrid=False, autorange="reversed")


def _words(value: float, reach: float, *, is_best: bool) -> str:
    if not np.isfinite(value):
        return ""
    star = " *" if is_best else ""
    return f"{value:.3g}{star}" if not np.isfinite(reach) else f"{value:.3g}{star}<br>± {reach:.1g}"
