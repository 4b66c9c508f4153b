"""Pictures of `lcmae.stitch`: a matrix of encoders and decoders, and each decoder's baselines."""

import math
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Number, against, beside, number
from lcmae.app.figures.series import Series
from lcmae.probes.statistics import intervals

HANDED = {"increase": "by an affine map", "identity_increase": "as they are"}
"""How tokens are handed over, in words."""

LEAST_REACH = 1.0
"""Percent of the loss that the colours of a matrix reach at least: noise looks like nothing."""

BASELINES = {"untrained_increase": "untrained encoder", "constant_increase": "mean token everywhere"}


def pairs(result: xr.Dataset) -> dict[tuple[str, str], Number]:
    """(encoder, decoder) -> increase by a map, for different models."""
    names = [str(name) for name in result["decoder"].values]
    return {
        (encoder, decoder): number(result, "increase", share=True, encoder=encoder, decoder=decoder)
        for encoder in names
        for decoder in names
        if encoder != decoder
    }


def answer(result: xr.Dataset) -> Answer:
    """The pair whose codes are most alike, and the one whose are least, beside the baselines."""
    found = {pair: one for pair, one in pairs(result).items() if one.is_known}
    best, worst = (answers.best_of(found, which) for which in ("lowest", "highest"))
    if best is None or worst is None:
        return Answer("No pair of models could be stitched.")
    are_two_alike = len(found) == 2 and bool(best.alike)
    clauses, tiles = [], []
    for one, words in ((best, "least"), (worst, "most"))[: len(found)]:
        encoder, decoder = found_pair = next(pair for pair in found if pair == one.name)
        others = _beside(result, *found_pair)
        cost = f"costs {one.number}" if are_two_alike else f"costs {words}, {one.number}"
        caution = "" if are_two_alike else _caution(one)
        if clauses:
            clauses.append(f"from {encoder} to {decoder} it {cost}{caution}")
        else:
            clauses.append(
                f"an affine map from the encoder of {encoder} to the decoder of {decoder} {cost} of its loss"
                f"{against(one.number, others, ', which ')}{caution}"
            )
        tiles.append(one.number.tile(f"{encoder} to {decoder}", beside("untrained", others["an untrained encoder's"])))
    text = "; ".join(clauses)
    start = f"The two pairs cannot be told apart: {text}" if are_two_alike else f"{text[0].upper()}{text[1:]}"
    return Answer(f"{start}.", answers.known(tiles))


def _beside(result: xr.Dataset, encoder: str, decoder: str) -> Mapping[str, Number]:
    del encoder
    return {
        "an untrained encoder's": number(result, "untrained_increase", share=True, decoder=decoder),
        "the mean token's": number(result, "constant_increase", share=True, decoder=decoder),
    }


def _caution(one: answers.Best) -> str:
    count = len(one.alike)
    return f"; {count} other pair{answers.ends_in_s(count)} cannot be told apart from it" if count else ""


def matrix(result: xr.Dataset, variable: str = "increase") -> go.Figure:
    """Increases in percent: encoders down, decoders across, with their numbers in the cells.

    Colours lie around 0 and reach as far as the largest increase and the widest interval: noise
    stays pale.
    """
    values = result[variable].transpose("encoder", "decoder") * 100
    names = [str(name) for name in values["decoder"].values]
    half = intervals.half(result, variable).transpose("encoder", "decoder").values * 100
    sizes = np.abs([values.values, half])
    reach = float(sizes.max(where=np.isfinite(sizes), initial=LEAST_REACH))
    title = "increase [%]"
    shown = series.table_map(values, x_title="decoder", y_title="encoder", colour_title=title, top=None)
    shown.update_layout(coloraxis=style.colour_axis(title, style.DIVERGING, cmin=-reach, cmax=reach))
    # words of the cells themselves: a note at a name would be lost where names are shortened
    words = [[_cell(*pair) for pair in zip(*row, strict=True)] for row in zip(values.values, half, strict=True)]
    shown.update_traces(text=words, texttemplate="%{text}", textfont={"size": 12})
    return shown.update_layout(height=max(340, min(760, 160 + 84 * len(names))))


def _cell(value: float, half: float) -> str:
    """A value with half of its interval to two digits, at most four after the point."""
    if not np.isfinite(value):
        return ""
    if not np.isfinite(half) or half == 0:
        return f"{value:.3g}"
    digits = min(max(0, 1 - math.floor(math.log10(half))), 4)
    return f"{round(value, digits) + 0.0:.{digits}f}<br>± {half:.{digits}f}"


def beside_baselines(result: xr.Dataset) -> go.Figure:
    """For each decoder, what every encoder costs, beside an untrained encoder and the mean token;
    95 % intervals."""
    names = [str(name) for name in result["decoder"].values]
    colour, rows = style.colours(names), []
    for position, encoder in enumerate(names):
        low, high = intervals.ends(result, "increase", encoder=encoder)
        values = result["increase"].sel(encoder=encoder).values
        symbol = style.SYMBOLS[position % 6]
        rows.append(Series(f"encoder of {encoder}", names, values, colour[encoder], low, high, symbol))
    for variable, words in BASELINES.items():
        low, high = intervals.ends(result, variable)
        symbol = "line-ew-open" if variable.startswith("untrained") else "x-thin-open"
        rows.append(Series(words, names, result[variable].values, style.GREY, low, high, symbol))
    shown = series.dots(rows, names, "increase of the masked loss")
    shown.add_hline(0, line={"color": style.GREY, "width": 1})
    return shown.update_xaxes(title="decoder").update_yaxes(tickformat=style.PERCENT)
