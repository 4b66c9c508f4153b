"""Pictures of the frequency probe: Fourier amplitudes by layer, and how alike the layers are."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.colors import sample_colorscale

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, number
from lcmae.app.figures.series import Series
from lcmae.probes.statistics import intervals

SHADES = (0.2, 0.8)
"""The part of the colour scale that lines take: its ends cannot be seen on near-black and on
white."""


def by_frequency(result: xr.Dataset, network: str) -> go.Figure:
    """Amplitude over that of frequency 0, a line a layer, from dark (first) to light (last); the
    input is grey."""
    values = result["log_amplitude"].sel(network=network)
    layers = values["layer"].values.tolist()
    shades = sample_colorscale(style.SEQUENTIAL, np.linspace(*SHADES, len(layers)).tolist())
    rows = []
    for position, (layer, shade) in enumerate(zip(layers, shades, strict=True)):
        low, high = intervals.ends(result, "log_amplitude", network=network, layer=layer)
        is_input, is_decoder = layer == "input", layer.startswith("decoder")
        rows.append(
            Series(
                layer,
                values["frequency"].values.tolist(),
                values.sel(layer=layer).values,
                style.GREY if is_input else str(shade),
                low,
                high,
                symbol=style.SYMBOLS[position % len(style.SYMBOLS)],
                dash="dot" if is_input else "dash" if is_decoder else "solid",
            )
        )
    return series.curves(rows, style.axis_title(values["frequency"]), style.axis_title(values))


def by_layer(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Amplitude of the highest frequency over that of frequency 0, through the layers; dashed:
    fresh weights."""
    colour = style.colours(results)
    rows = []
    for position, (name, result) in enumerate(results.items()):
        highest = result["frequency"].values[-1]
        for network in result["network"].values.tolist():
            chosen = {"network": network, "frequency": highest}
            values = result["log_amplitude"].sel(chosen)
            low, high = intervals.ends(result, "log_amplitude", **chosen)
            label = name if network == "trained" else f"{name}, {network}"
            marks = {
                "dash": style.REFERENCES.get(network, "solid"),
                "symbol": style.SYMBOLS[position % 6],
            }
            rows.append(Series(label, values["layer"].values.tolist(), values.values, colour[name], low, high, **marks))
    first = next(iter(results.values()))["log_amplitude"]
    shown = series.curves(rows, "layer", style.axis_title(first))
    return shown.update_xaxes(type="category")


def likeness(result: xr.Dataset, network: str) -> go.Figure:
    """CKA of every layer with every other; blank where it is not defined."""
    values = result["cka"].sel(network=network)
    return series.table_map(
        values, x_title="layer", y_title="layer", colour_title=str(result["cka"].attrs["long_name"]), top=1
    )


HEADLINE = Headline(
    "last_high_frequency",
    "log amplitude of the highest frequency after the last encoder block",
    "highest",
    brief="highest frequency, last block",
)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """Whether the last encoder block smooths tokens over the grid."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    own, untrained = (number(result, "last_high_frequency", network=network) for network in ("trained", "untrained"))
    highest = result["frequency"].values[-1]
    pixels = number(result, "log_amplitude", layer="input", frequency=highest)
    relation = against(own, {"the image's own patches": pixels, "an untrained network": untrained}, ", which ")
    sentence = (
        f"After the last encoder block, the log amplitude of the grid's highest frequency over that of frequency 0 "
        f"is {own}{relation}; lower is smoother."
    )
    like = number(result, "last_cka_to_input")
    fresh = number(result, "last_cka_to_input", network="untrained")
    tiles = [
        own.tile("highest frequency, last block", beside("untrained", untrained)),
        pixels.tile("of the image's own patches"),
        like.tile("CKA of last block and input", beside("untrained", fresh)),
    ]
    return Answer(sentence, answers.known(tiles))
