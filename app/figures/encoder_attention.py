"""Pictures of the encoder_attention probe: five measures by layer and head, on whole or on masked
images."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures.attention import by_layer

BASELINES = {"distance": "distance_uniform", "entropy": "entropy_uniform"}


def measure(results: Mapping[str, xr.Dataset], variable: str, view: str) -> go.Figure:
    """One measure by layer of every run; distance and entropy beside what uniform attention
    scores."""
    return by_layer(
        {name: result.sel(view=view) for name, result in results.items()}, variable, BASELINES.get(variable)
    )
