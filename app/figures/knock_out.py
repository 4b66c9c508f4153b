"""Pictures of the knock_out probe: what the masked loss rises by once attention, heads or blocks
are taken out."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, Number, against, beside, level, number
from lcmae.app.figures.baselines import baselines_of, own_numbers
from lcmae.app.figures.series import Series
from lcmae.probes.statistics import intervals

HOWS = {"removed": "removed", "random": "as many random entries", "mean": "replaced by the mean"}
"""How something is taken out, in words."""

KEYS = {
    "other hidden": "to other hidden",
    "itself": "to itself",
    "all hidden": "to all hidden",
    "visible": "to visible",
    "class token": "to class token",
}
"""What hidden patches no longer attend to, in words; of the class token it is all patches."""

SYMBOLS = {"removed": "circle", "random": "x", "mean": "diamond"}
DASHES = {"removed": "solid", "random": "dot", "mean": "dash"}
TICKS = (-1.0, -0.1, -0.01, 0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
LINEAR_TO = 0.01
"""Increases are drawn as arcsinh(increase / 1 %): linear below about 1 %, logarithmic above."""

TITLE = "increase of the masked loss"

OF_SEVERAL = "mean"
"""How attention is taken out where several runs are compared."""

HEADLINE = Headline(
    "increase",
    "increase of the loss when hidden patches see each other's mean in place of the image's own",
    "highest",
    lambda result: {"what": "all hidden", "how": OF_SEVERAL},
    share=True,
    brief="loss increase, hidden to hidden",
)
"""Of several runs: removal alone mixes what attention carries with inputs that training never
showed, and comes out a hundred times larger (docs/probes.md)."""


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """What attention between hidden patches, and to visible ones, is worth; which head and which
    block are needed most."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    stage, parts = str(result.attrs["stage"]), []
    hidden, visible, prefix = (_worth(result, what) for what in ("all hidden", "visible", "class token"))
    if hidden.is_known:
        beginning = f"Removing attention between hidden patches from the {stage} costs {hidden} of the masked loss"
        parts.append(f"{beginning}{_beside(result, 'all hidden', hidden)}{_by_mean(result, 'all hidden')}.")
    if visible.is_known:
        beside_it = f"{_beside(result, 'visible', visible)}{_by_mean(result, 'visible')}"
        parts.append(f"Removing attention to visible patches costs {visible}{beside_it}.")
    tiles = [
        hidden.tile("hidden to hidden", beside("mean", _worth(result, "all hidden", "mean"))),
        visible.tile("hidden to visible", beside("mean", _worth(result, "visible", "mean"))),
        prefix.tile("to class token", beside("mean", _worth(result, "class token", "mean"))),
    ]
    blocks = {int(layer): number(result, "skip_increase", share=True, layer=layer) for layer in result["layer"].values}
    most = answers.best_of(blocks, "highest") if len(blocks) > 1 else None
    if most is not None:
        parts.append(f"Of single blocks, block {most.name} costs most: {most.number}{most.caution('block')}.")
        tiles.append(most.number.tile(f"without block {most.name}"))
    return Answer(" ".join(parts), answers.known(tiles))


def _worth(result: xr.Dataset, what: str, how: str = "removed", network: str = "trained") -> Number:
    return number(result, "increase", {"what": what, "how": how, "network": network}, share=True)


def _by_mean(result: xr.Dataset, what: str) -> str:
    """What it says of the single image alone, which is what a mean takes away."""
    mean = _worth(result, what, "mean")
    return f"; replaced by its mean over images it costs {mean}" if mean.is_known else ""


def _beside(result: xr.Dataset, what: str, own: Number) -> str:
    others = {
        "as many random entries": _worth(result, what, "random"),
        "nothing": level(0.0, share=True),
        "an untrained network's": _worth(result, what, network="untrained"),
    }
    return against(own, others, ", which ")


def choices(results: Mapping[str, xr.Dataset]) -> list[str]:
    """Ways to take something out, in words; the one that `answer` is about stands first."""
    first = HOWS[OF_SEVERAL if len(results) > 1 else "removed"]
    return [first, *(words for words in HOWS.values() if words != first)]


def hows_of(results: Mapping[str, xr.Dataset], words: str) -> list[str]:
    """Of one run all ways side by side; of several the one that these words say."""
    return list(HOWS) if len(results) == 1 else [how for how, name in HOWS.items() if name == words]


def by_kind(results: Mapping[str, xr.Dataset], hows: Sequence[str]) -> go.Figure:
    """Increases with attention taken out of all blocks; 95 % intervals; grey: untrained."""
    colour, rows = style.colours(results), []
    for position, (name, result) in enumerate(own_numbers(results).items()):
        low, high = intervals.ends(result, "increase")
        for how in hows:
            at = result["how"].values.tolist().index(how)
            label, symbol = (name, style.SYMBOLS[position % 6]) if len(results) > 1 else (HOWS[how], SYMBOLS[how])
            values = result["increase"].values
            categories = [KEYS[str(what)] for what in result["what"].values]
            rows.append(Series(label, categories, values[:, at], colour[name], low[:, at], high[:, at], symbol))
    for one in baselines_of(results, "increase"):
        values, half = (part.sel(how=hows[0]) for part in (one.values, one.half))
        categories = [KEYS[str(what)] for what in values["what"].values]
        low, high = values.values - half.values, values.values + half.values
        words = f"{one.whose()}, {HOWS[hows[0]]}"
        rows.append(Series(words, categories, values.values, one.colour, low, high, "line-ew-open"))
    return _squeezed(series.dots([_row(row) for row in rows], list(KEYS.values()), TITLE), rows)


def by_block(results: Mapping[str, xr.Dataset], what: str, hows: Sequence[str]) -> go.Figure:
    """Increases with one kind of attention taken out of one block, block by block."""
    chosen = {"block_increase": {"what": what}}
    return _curves(results, [("block_increase", {**chosen["block_increase"], "how": how}, how) for how in hows])


def skipped(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Increases without whole blocks: skipped, and what they add replaced by its mean."""
    return _curves(results, [("skip_increase", {}, "removed"), ("skip_mean_increase", {}, "mean")])


def _curves(results: Mapping[str, xr.Dataset], lines: Sequence[tuple[str, Mapping[str, str], str]]) -> go.Figure:
    colour, rows = style.colours(results), []
    for position, (name, result) in enumerate(own_numbers(results).items()):
        layers = result["layer"].values.tolist()
        for variable, at, how in lines:
            low, high = intervals.ends(result, variable, **at)
            label = HOWS[how] if len(results) == 1 else f"{name}, {HOWS[how]}"
            symbol = SYMBOLS[how] if len(results) == 1 else style.SYMBOLS[position % 6]
            values = result[variable].sel(at).values
            rows.append(Series(label, layers, values, colour[name], low, high, symbol, DASHES[how]))
    shown = series.curves([_row(row) for row in rows], "block", TITLE)
    return _squeezed(shown, rows).update_xaxes(dtick=1)


def heads(result: xr.Dataset, how: str) -> go.Figure:
    """Increases without single heads, block by head, around 0."""
    values = result["head_increase"].sel(how=how).transpose("layer", "head") * 100
    shown = series.table_map(values, x_title="head", y_title="block", colour_title="increase [%]", top=None)
    most = float(np.nanmax(np.abs(values.values))) if bool(values.notnull().any()) else 1.0
    axis = style.colour_axis("increase [%]", style.DIVERGING, cmin=-most, cmax=most)
    return shown.update_layout(coloraxis=axis)


def _row(row: Series) -> Series:
    """The same row as it is drawn."""
    low, high = (None if end is None else _drawn(end) for end in (row.low, row.high))
    return Series(row.name, row.x, _drawn(row.y), row.colour, low, high, row.symbol, row.dash)


def _drawn(values: np.ndarray) -> np.ndarray:
    return np.arcsinh(values / LINEAR_TO)


def _squeezed(shown: go.Figure, rows: Sequence[Series]) -> go.Figure:
    """Ticks and pointer in percent, on the axis of `_drawn`."""
    for trace, row in zip(list[go.Scatter](shown.data), rows, strict=True):
        trace.text = [f"{value:+.2%}" for value in row.y]
        trace.hovertemplate = str(trace.hovertemplate).replace("%{y:.4g}", "%{text}")
    ticks = np.asarray(TICKS)
    shown.add_hline(0, line={"color": style.GREY, "width": 1})
    return shown.update_yaxes(
        tickvals=_drawn(ticks).tolist(), ticktext=[f"{tick:+.0%}" if tick else "0" for tick in ticks]
    )
