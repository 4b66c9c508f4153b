"""Pictures of the attention_flow probe: what the class token gathers, how attention's maps agree
with dependence, and how large tokens are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, Number, against, beside, level, number
from lcmae.app.figures.baselines import Baseline, baselines_of, lines, own_numbers
from lcmae.app.figures.series import Series
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics import intervals

GATHERED = {
    "class_self": "the class token's to itself",
    "class_patches": "the class token's to patches",
    "class_registers": "the class token's to registers",
    "patch_self": "patches' to themselves",
    "patch_class": "patches' to the class token",
    "patch_registers": "patches' to registers",
}
"""Shares of attention, in words."""

TITLES = {
    "class_entropy": "entropy [nats]",
    "outlier_share": "share of outliers",
    "norm_ratio": "largest norm over median",
}
"""Short titles of axes."""

HEADLINE = Headline("mean_patch_self", "attention of patches to themselves", "highest", share=True)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """What the class token gathers, how far rollout says what it depends on, and outliers."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    found = {
        "the class token": ("mean_class_self", "class token to itself", "itself"),
        "patches": ("mean_patch_self", "patches to themselves", "themselves"),
    }
    tiles, sentence = [], ""
    for who, (variable, label, whom) in found.items():
        own, fresh = (number(result, variable, share=True, network=name) for name in (TRAINED, "untrained"))
        tiles.append(own.tile(label, beside("untrained", fresh)))
        if own.is_known and not sentence:
            relation = against(own, {"an untrained network": fresh}, ", which ")
            verb = "gives" if who == "the class token" else "give"
            sentence = f"{who[0].upper()}{who[1:]} {verb} {own} of all attention to {whom}{relation}. "
    flow, other = (number(result, "agreement", flow=name) for name in ("rollout", "gradient of another image"))
    if flow.is_known:
        relation = against(flow, {"another image's gradient": other, "no relation": level(0.0)}, ", which ")
        sentence += f"Rollout's rank correlation with what the {result.attrs['token']} depends on is {flow}{relation}. "
        tiles.append(flow.tile("rollout with dependence", beside("another image", other)))
    share = _most_outliers(result)
    sentence += f"Outlier tokens are at most {share[1]} of the patches, after block {share[0]}."
    tiles.append(share[1].tile(f"outliers, block {share[0]}"))
    return Answer(sentence, answers.known(tiles))


def _most_outliers(result: xr.Dataset) -> tuple[int, Number]:
    shares = {int(one): number(result, "outlier_share", share=True, layer=int(one)) for one in result["layer"].values}
    return max(shares.items(), key=lambda pair: pair[1].value)


def shares(results: Mapping[str, xr.Dataset]) -> list[str]:
    """The shares of attention that any of these results has; the one that `answer` is about stands
    first."""
    first = HEADLINE.variable.removeprefix("mean_") if len(results) > 1 else "class_self"
    found = [name for name in GATHERED if any(name in result for result in results.values())]
    return sorted(found, key=lambda name: name != first)


def by_layer(results: Mapping[str, xr.Dataset], variable: str) -> go.Figure:
    """One number by layer, mean over heads where it has heads, each head a faint dot; dashed: an
    untrained network."""
    colour, own = style.colours(results), own_numbers(results)
    rows: list[Series] = []
    for position, (name, result) in enumerate(own.items()):
        if variable not in result:
            continue
        values = result[variable]
        layers = values["layer"].values.tolist()
        symbol = style.SYMBOLS[position % 6]
        if "head" in values.dims:
            rows.append(Series(name, layers, values.mean("head").values, colour[name], symbol=symbol))
        else:
            low, high = intervals.ends(result, variable)
            rows.append(Series(name, layers, values.values, colour[name], low, high, symbol))
    first = next(result[variable] for result in own.values() if variable in result)
    title = "attention" if variable in GATHERED else TITLES.get(variable) or style.axis_title(first)
    shown = series.curves(rows, style.axis_title(first["layer"]), title).update_xaxes(dtick=1)
    if variable == "outlier_share":
        # where there is none, too: markers at 0 are whole
        shown.update_yaxes(rangemode="nonnegative").update_traces(cliponaxis=False)
    for name, result in own.items():
        if variable in result and "head" in result[variable].dims:
            values = result[variable].stack(all=("layer", "head"))
            shown.add_trace(
                go.Scatter(
                    x=values["layer"].values,
                    y=values.values,
                    mode="markers",
                    marker={"color": colour[name], "size": 4, "opacity": 0.5},
                    customdata=values["head"].values,
                    hovertemplate="layer %{x}, head %{customdata}: %{y:.3g}<extra>" + name + "</extra>",
                    showlegend=False,
                )
            )
    found = baselines_of({name: one for name, one in results.items() if variable in one}, variable)
    return lines(shown, [_over_heads(one) for one in found], "layer")


def _over_heads(one: Baseline) -> Baseline:
    if "head" not in one.values.dims:
        return one
    values = one.values.mean("head")
    return replace(one, values=values, half=values.copy(data=np.full(values.shape, np.nan)))


def agreement(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Rank correlation of each flow with the gradient of the pixels; 95 % intervals."""
    colour, rows = style.colours(results), []
    categories = [str(one) for one in next(iter(results.values()))["flow"].values]
    for position, (name, result) in enumerate(own_numbers(results).items()):
        low, high = intervals.ends(result, "agreement")
        rows.append(
            Series(name, categories, result["agreement"].values, colour[name], low, high, style.SYMBOLS[position % 6])
        )
    shown = series.dots(rows, categories, "rank correlation")
    shown.add_hline(0, line={"color": style.GREY, "width": 1})
    return shown


def pictures(result: xr.Dataset, count: int = 4) -> go.Figure:
    """Rows are images; columns the image and its maps, each over its own largest value: rollout's
    are nearly even beside the others'."""
    few = range(min(count, result.sizes["picture"]))
    columns: list[tuple[str, Sequence[np.ndarray | xr.DataArray]]] = [
        ("image", list(result["original"].values[: len(few)]))
    ]
    columns += [
        (name, [_over_largest(result["picture_flow"].sel(map=name).isel(picture=at)) for at in few])
        for name in result["map"].values.tolist()
    ]
    return style.mosaic(columns, colour_title="over the largest of the map")


def _over_largest(values: xr.DataArray) -> xr.DataArray:
    largest = float(values.max())
    return values / largest if largest > 0 else values


def outlier_maps(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Where outliers lie, last layer, one map a run on one scale."""
    shown = style.maps({name: result["outlier_map"] for name, result in results.items()}, title="share of images")
    most = max(float(result["outlier_map"].max()) for result in results.values())
    return shown.update_layout(
        coloraxis={"cmin": 0, "cmax": most or 1.0}
    )  # plotly gives a constant map a scale below 0, too
