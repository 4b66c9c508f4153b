"""Pictures of the fidelity probe: SSIM, PSNR and squared error, on unmasked images
and by masking ratio."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, exactly, number
from lcmae.app.figures.series import Series
from lcmae.probes.results.networks import networks_of
from lcmae.probes.statistics import intervals

MEASURES = {
    "squared error, hidden pixels": "mse_hidden",
    "squared error": "mse",
    "SSIM": "ssim",
    "PSNR": "psnr",
}
"""Names of the measures by the words that a person picks; the first is that of `answer`, with which
the page opens."""

BASELINES = {kind: (style.GREY, style.REFERENCES[kind]) for kind in ("pixels", "mean colour", "position mean")}
"""Predictions without a network: grey, and drawn once where all runs have the same images."""

NETWORKS = {"trained": "solid", **{kind: style.REFERENCES[kind] for kind in ("trained, leaky", "untrained")}}


def unmasked(results: Mapping[str, xr.Dataset], measure: str) -> go.Figure:
    """One measure of what each network makes of whole images, with 95 % intervals; a colour and
    symbol a run. Where nothing is hidden, a squared error is that of all pixels."""
    variable = f"{measure.removesuffix('_hidden')}_unmasked"
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


def _own_ratio(result: xr.Dataset) -> dict[str, float]:
    return {"ratio": answers.trained_ratio(result, result["ratio"].values.tolist())}


HEADLINE = Headline(
    "mse_hidden", "squared error of hidden pixels", "lowest", _own_ratio, beside={"network": "pixels"},
    beside_words="nearest patch",
)  # fmt: skip


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """The squared error of hidden pixels, beside predictions that need no learning."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = _own_ratio(result)
    own = number(result, "mse_hidden", at)
    levels = {
        words: exactly(number(result, "mse_hidden", at, network=network))
        for network, words in (
            ("pixels", "a copy of the nearest visible patch"),
            ("mean colour", "the mean visible colour"),
            ("position mean", "the mean of each position"),
            ("untrained", "an untrained network"),
        )
    }
    sentence = (
        f"At ratio {at['ratio']:g} hidden pixels have a squared error of {own}{against(own, levels, ', which ')}."
    )
    nearest = levels["a copy of the nearest visible patch"]
    tiles = [own.tile("squared error, hidden pixels", beside("nearest patch", nearest))]
    for variable, label in (("ssim", "SSIM, visible pasted"), ("psnr", "PSNR, visible pasted")):
        copied = number(result, variable, at, network="pixels")
        words_beside = beside("nearest patch", copied)
        tiles.append(number(result, variable, at).tile(label, words_beside))
    tiles.append(number(result, "ssim_unmasked").tile("SSIM, nothing hidden"))
    return Answer(sentence, answers.known(tiles))
