"""Pictures of the invariance probe: alignment under two masks, by overlap of what was visible, and
retrieval."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, level, number
from lcmae.app.figures.baselines import DASHED, DOTTED, baselines_of, lines, own_numbers, segments, shift
from lcmae.probes.results.words import called
from lcmae.probes.statistics import intervals

PAIRS = {"same_image": "same image", "other_image": "another image"}
SCOPES = {"image": "among the image's patches", "other_images": "among other images, same position"}
DASHES = {"same_image": DASHED, "other_image": DOTTED}
"""Of an untrained network."""

REFERENCES = {"shuffled": "line-ew-open", "ceiling": "triangle-down-open"}


def alignment(results: Mapping[str, xr.Dataset], centring: str) -> go.Figure:
    """Tokens and pooled vectors under two masks (filled), and of another image (open), with 95 %
    intervals."""
    names = list(results)
    quantities = [q for q in ("token", "cls", "mean") if any(q in r["quantity"].values for r in results.values())]
    colour = style.colours(names)
    shown = style.figure(height=360)
    for pair, words in PAIRS.items():
        chosen = {name: result.sel(centring=centring, pair=pair) for name, result in results.items()}
        positions = {quantity: {"quantity": quantity} for quantity in quantities}
        segments(shown, baselines_of(chosen, "alignment"), names, positions, words=words, dash=DASHES[pair])
    results = own_numbers(results)
    for turn, (name, result) in enumerate(results.items()):
        here = [quantity for quantity in quantities if quantity in result["quantity"].values]
        symbol = style.SYMBOLS[turn % len(style.SYMBOLS)]
        for pair, words in PAIRS.items():
            one = result.sel(centring=centring, pair=pair, quantity=here)
            shown.add_trace(
                go.Scatter(
                    x=[quantities.index(quantity) + shift(names, name) for quantity in here],
                    y=one["alignment"].values,
                    error_y={"array": intervals.half_width(one, "alignment"), "thickness": 1.5, "width": 4},
                    mode="markers",
                    name=f"{name}, {words}",
                    marker={
                        "color": colour[name],
                        "size": 10,
                        "symbol": symbol if pair == "same_image" else f"{symbol}-open",
                    },
                    customdata=[called(quantity) for quantity in here],
                    hovertemplate="%{customdata}: %{y:.4g}<extra>" + f"{name}, {words}</extra>",
                )
            )
    first = next(iter(results.values()))["alignment"]
    shown.update_xaxes(
        tickvals=list(range(len(quantities))),
        ticktext=[called(quantity) for quantity in quantities],
        range=[-0.5, len(quantities) - 0.5],
    )
    return shown.update_yaxes(title=style.axis_title(first), title_font={"size": 12})


def by_overlap(results: Mapping[str, xr.Dataset], quantity: str, centring: str) -> go.Figure:
    """The same against the overlap of the visible sets; bins without a pair are left out. Dotted:
    another image."""
    names = list(results)
    colour = style.colours(names)
    shown = style.figure(height=380)
    results = {name: result for name, result in results.items() if quantity in result["quantity"].values}
    for pair, words in PAIRS.items():
        chosen = {name: result.sel(quantity=quantity, centring=centring, pair=pair) for name, result in results.items()}
        lines(shown, baselines_of(chosen, "alignment_by_overlap"), "overlap", words=words, dash=DASHES[pair])
    results = own_numbers(results)
    for turn, (name, result) in enumerate(results.items()):
        for pair, words in PAIRS.items():
            one = result.sel(quantity=quantity, centring=centring, pair=pair)
            one = one.isel(overlap=np.isfinite(one["alignment_by_overlap"].values))
            shown.add_trace(
                go.Scatter(
                    x=one["overlap"].values,
                    y=one["alignment_by_overlap"].values,
                    error_y={"array": intervals.half_width(one, "alignment_by_overlap"), "thickness": 1.5, "width": 4},
                    mode="lines+markers",
                    name=f"{name}, {words}",
                    line={"color": colour[name], "dash": "solid" if pair == "same_image" else "dot"},
                    marker={"size": 7, "symbol": style.SYMBOLS[turn % len(style.SYMBOLS)]},
                    customdata=one["num_pairs"].values,
                    hovertemplate="overlap %{x:.3g}: %{y:.4g}, %{customdata} pairs<extra>" + f"{name}, {words}</extra>",
                )
            )
    first = next(iter(results.values()))
    shown.update_xaxes(title=style.axis_title(first["overlap"]), title_font={"size": 12}, range=[0, 1])
    return shown.update_yaxes(title=style.axis_title(first["alignment_by_overlap"]), title_font={"size": 12})


def retrieval(results: Mapping[str, xr.Dataset], variable: str, scope: str) -> go.Figure:
    """`retrieval` or `info_nce` by similarity, with 95 % intervals, over chance, shuffled images
    and the ceiling (grey)."""
    names = list(results)
    colour = style.colours(names)
    similarities = [str(value) for value in next(iter(results.values()))["similarity"].values]
    shown = style.figure(height=360)
    chosen = {name: result.sel(scope=scope) for name, result in results.items()}
    segments(shown, baselines_of(chosen, variable), names, {one: {"similarity": one} for one in similarities})
    results, chosen = own_numbers(results), own_numbers(chosen)
    for turn, (name, one) in enumerate(chosen.items()):
        x = [position + shift(names, name) for position in range(len(similarities))]
        for reference, symbol in REFERENCES.items():
            shown.add_trace(
                go.Scatter(
                    x=x,
                    y=one[f"{variable}_{reference}"].values,
                    mode="markers",
                    name=reference,
                    legendgroup=reference,
                    showlegend=turn == 0,
                    marker={"symbol": symbol, "size": 14, "color": style.GREY, "line": {"width": 3}},
                    customdata=similarities,
                    hovertemplate="%{customdata}: %{y:.4g}<extra>" + f"{reference}, {name}</extra>",
                )
            )
        shown.add_trace(
            go.Scatter(
                x=x,
                y=one[variable].values,
                error_y={"array": intervals.half_width(one, variable), "thickness": 1.5, "width": 4},
                mode="markers",
                name=name,
                marker={"color": colour[name], "size": 10, "symbol": style.SYMBOLS[turn % len(style.SYMBOLS)]},
                customdata=similarities,
                hovertemplate="%{customdata}: %{y:.4g}<extra>" + name + "</extra>",
            )
        )
    for chance in sorted({float(result[f"{variable}_chance"].sel(scope=scope)) for result in results.values()}):
        shown.add_hline(
            y=chance,
            line={"color": style.GREY, "dash": style.REFERENCES["chance"]},
            annotation_text="chance",
            annotation_position="right",
        )
    first = next(iter(results.values()))[variable]
    shown.update_xaxes(tickvals=list(range(len(similarities))), ticktext=similarities, range=[-0.5, 1.5])
    shown.update_layout(margin_r=60)  # for the word beside the line
    return shown.update_yaxes(title=style.axis_title(first), title_font={"size": 12}, rangemode="tozero")


ALIGNED = {"quantity": "token", "pair": "same_image", "centring": "centred"}
HEADLINE = Headline("alignment", "alignment of tokens under two masks", "highest", lambda result: ALIGNED)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """How far tokens survive another mask, and whether predictions find their own targets."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    own, other, untrained = (
        number(result, "alignment", {**ALIGNED, **more})
        for more in ({}, {"pair": "other_image"}, {"network": "untrained"})
    )
    relation = against(own, {"that of another image": other, "an untrained network": untrained}, ", which ")
    sentence = f"A patch's token under one mask correlates {own} with its token under another{relation}."
    tiles = [own.tile("alignment of tokens", beside("another image", other))]
    found = {"scope": "image", "similarity": "cosine"}
    retrieval = number(result, "retrieval", found, share=True)
    chance = level(float(result["retrieval_chance"].sel(scope="image")), share=True)
    if retrieval.is_known:
        sentence += f" A prediction finds its own target among the image's patches in {retrieval} of cases"
        sentence += f"{against(retrieval, {'chance': chance}, ', which ')}."
        tiles.append(retrieval.tile("predictions find their target", beside("chance", chance)))
        ceiling = number(result, "retrieval_ceiling", found, share=True)
        tiles.append(ceiling.tile("targets find themselves"))
    return Answer(sentence, answers.known(tiles))
