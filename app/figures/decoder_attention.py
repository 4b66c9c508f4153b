"""Pictures of the decoder_attention probe: masses by layer, positional shares, whole maps of a few
queries."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, exactly, number
from lcmae.app.figures.attention import across, over_heads
from lcmae.app.figures.baselines import DASHED, DOTTED, baselines_of, lines, own_numbers, rows
from lcmae.probes.results.networks import trained

KEYS = dict(zip(("self", "visible", "hidden", "class"), style.KINDS, strict=False))
HIDDEN_GREY = 128
QUERY = (213, 94, 0)  # style.RED
READINGS = {"positional_share_over_images": "images varied", "positional_share_over_masks": "masks varied"}


def masses(result: xr.Dataset) -> go.Figure:
    """Of one run: where hidden patches look, a stack a layer (mean over heads), beside uniform
    attention."""
    layers = [f"layer {layer}" for layer in result["layer"].values]
    beside = {"uniform attention": result["mass_uniform"]}
    whole, result = result, trained(result)
    by_layer = result["mass"].mean("head")
    for label, values in rows(over_heads({"": whole}, "mass"), "mass"):
        beside |= {f"{label}, {layer}": values.isel(layer=position) for position, layer in enumerate(layers)}
    shown = style.figure(height=140 + 40 * (len(layers) + len(beside)), barmode="stack", bargap=0.3)
    for key, colour in KEYS.items():
        values = [*by_layer.sel(key=key).values.tolist(), *(float(one.sel(key=key)) for one in beside.values())]
        shown.add_trace(
            go.Bar(
                y=[*layers, *beside],
                x=values,
                orientation="h",
                name="class token" if key == "class" else key,
                marker={"color": colour, "opacity": [1.0] * len(layers) + [0.55] * len(beside)},
                hovertemplate="%{y}, " + key + ": %{x:.1%}<extra></extra>",
            )
        )
    shown.update_xaxes(title=style.axis_title(result["mass"]), range=[0, 1], tickformat=style.PERCENT)
    return shown.update_yaxes(autorange="reversed")


def positional_share(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """By layer, heads pooled: solid where images vary under fixed masks, dashed where masks vary of
    fixed images."""
    names = list(results)
    colour = style.colours(names)
    # a legend of many runs stands above the plot, not on it
    lines_above = (len(READINGS) * len(names) + 1) // 3
    shown = style.figure(height=340 + 20 * lines_above, margin={"l": 60, "r": 20, "t": 44 + 20 * lines_above, "b": 50})
    for (variable, label), dash in zip(READINGS.items(), (DASHED, DOTTED), strict=True):
        lines(shown, baselines_of(results, f"{variable}_pooled"), "layer", words=label, dash=dash)
    results = own_numbers(results)
    for position, (name, result) in enumerate(results.items()):
        for (variable, label), dash in zip(READINGS.items(), ("solid", "dash"), strict=True):
            shown.add_trace(
                go.Scatter(
                    x=result["layer"].values,
                    y=result[f"{variable}_pooled"].values,
                    mode="lines+markers",
                    name=f"{name}, {label}",
                    line={"color": colour[name], "dash": dash},
                    marker={"size": 8, "symbol": style.SYMBOLS[position % len(style.SYMBOLS)]},
                    hovertemplate="layer %{x}: %{y:.3f}<extra>" + f"{name}, {label}" + "</extra>",
                )
            )
    across(shown, {0.0, 1.0}, "position ignored / nothing but position", "solid")
    shown.update_xaxes(title="layer", dtick=1)
    return shown.update_yaxes(title="share of attention that position alone explains")


def maps(result: xr.Dataset, picture: int, layer: int) -> go.Figure:
    """A row for every query (orange in the masked image), a column for every head, on one colour
    scale."""
    one = result.isel(picture=picture).sel(layer=layer)
    queries = range(one.sizes["query"])
    columns: list[tuple[str, Sequence[np.ndarray | xr.DataArray]]] = [
        ("image", [one["original"].values] * len(queries)),
        ("query", [marked(one, query) for query in queries]),
    ]
    columns += [
        (f"head {head + 1}", [one["attention_map"].isel(query=query, head=head) for query in queries])
        for head in range(one.sizes["head"])
    ]
    return style.mosaic(columns, colour_title="attention")


def marked(one: xr.Dataset, query: int) -> np.ndarray:
    """The masked image of one picture in colour, with the query patch orange: uint8 [y x 3]."""
    original, hidden = one["original"].values, one["hidden"].values.astype(bool)
    height, width = original.shape[0] // hidden.shape[0], original.shape[1] // hidden.shape[1]
    is_query = np.zeros(hidden.size, bool)
    is_query[int(one["query_patch"].values[query])] = True
    colour = original[..., :3] if original.shape[-1] >= 3 else original[..., :1].repeat(3, axis=-1)
    cells = np.select([is_query.reshape(hidden.shape), hidden], [2, 1], 0).repeat(height, 0).repeat(width, 1)[..., None]
    return np.where(cells == 2, QUERY, np.where(cells == 1, HIDDEN_GREY, colour)).astype(np.uint8)


HEADLINE = Headline(
    "positional_share_over_images_pooled", "share of the last layer's attention that position alone explains", "highest",
    lambda result: {"layer": int(result["layer"].values[-1])}, share=True,
    brief="position alone, last layer",
)  # fmt: skip


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """How much of attention is position alone, and how far hidden patches look."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    last = int(result["layer"].values[-1])
    share, untrained = (
        number(result, HEADLINE.variable, share=True, layer=last, network=network)
        for network in ("trained", "untrained")
    )
    distance, far = (number(result, "mean_distance", network=network) for network in ("trained", "untrained"))
    uniform = exactly(number(result, "distance_uniform"))
    visible = number(result, "mean_mass", share=True, key="visible")
    relation = against(distance, {"uniform attention": uniform, "an untrained network": far}, ", which ")
    sentence = (
        f"In layer {last}, position alone explains {share} of the attention of hidden patches; their attention "
        f"distance is {distance}{relation}."
    )
    tiles = [
        share.tile(f"position alone, layer {last}", beside("untrained", untrained)),
        distance.tile("attention distance", beside("uniform", uniform)),
        number(result, "mean_entropy").tile("attention entropy", f"uniform {float(result['entropy_uniform']):.3g}"),
        visible.tile("attention on visible patches", f"uniform {float(result['mass_uniform'].sel(key='visible')):.0%}"),
    ]
    return Answer(sentence, answers.known(tiles))
