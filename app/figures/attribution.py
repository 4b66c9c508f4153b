"""Pictures of the attribution probe: which methods agree, which name the patches that matter, and
maps over the photograph."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, number
from lcmae.app.figures.baselines import baselines_of, own_numbers, segments
from lcmae.app.figures.patch_maps import in_one_path, mark
from lcmae.app.figures.series import Series
from lcmae.probes.results.networks import TRAINED, trained
from lcmae.probes.statistics import intervals

ABLATION, ATTENTION, NEARNESS, RANDOM = "ablation", "attention", "nearness", "random order"
BASELINES = {NEARNESS: style.REFERENCES["position mean"], RANDOM: style.REFERENCES["chance"]}
"""Orders that look at no model, and their dashes."""

HIDDEN_GREY = 128
ACROSS = 4
MOST_PIXELS = 112
"""Side of a photograph under a map."""

HEADLINE = Headline(
    "reach", "mean distance to the visible patches that a prediction depends on", "highest",
    lambda result: {"explanation": ABLATION}, brief="mean distance, by ablation",
)  # fmt: skip


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """How many patches a prediction depends on and how far away, which method names them, and
    whether attention does."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    wide, far = (number(result, name, explanation=ABLATION) for name in ("spread", "reach"))
    if not far.is_known:
        return Answer("The predictions do not depend on what is visible: there is nothing to attribute.")
    anywhere = number(result, "reach", explanation=RANDOM)
    sentence = (
        f"A prediction depends on about {replace(wide, unit='1')} of the {result.attrs['num_visible']} visible patches (by "
        f"ablation), on average {far} away{_nearer(far, anywhere)}."
    )
    tiles = []
    found = answers.best_of(
        {
            name: number(result, "faithfulness", explanation=name)
            for name in methods_of(result)
            if name not in BASELINES
        },
        "highest",
    )
    if found is not None:
        near, chance = (number(result, "faithfulness", explanation=name) for name in BASELINES)
        relation = against(found.number, {NEARNESS: near, RANDOM: chance}, ", which ")
        sentence += (
            f" Of all methods {found.name} ranks them most faithfully: its order scores {found.number}{relation}"
            f"{found.caution('method')}."
        )
        tiles.append(found.number.tile(f"faithfulness, {found.name}", beside(NEARNESS, near)))
    pair = {"explanation": ATTENTION, "other_explanation": ABLATION}
    own, fresh = (number(result, "agreement", pair, network=name) for name in (TRAINED, "untrained"))
    if own.is_known:
        near = number(result, "agreement", explanation=NEARNESS, other_explanation=ABLATION)
        relation = against(own, {"that of nearness": near, "that of an untrained network": fresh}, ", which ")
        sentence += f" The rank correlation of attention with ablation is {own}{relation}."
        tiles.append(own.tile("attention with ablation", beside("untrained", fresh)))
    tiles.append(number(result, "additivity", share=True).tile("single ablations add up to"))
    tiles.append(number(result, "completeness_error", share=True).tile("completeness error"))
    return Answer(sentence, answers.known(tiles))


def _nearer(far: answers.Number, anywhere: answers.Number) -> str:
    """How a distance compares with that of visible patches drawn at random; nothing where that is
    not known."""
    if not anywhere.is_known:
        return ""
    words = {
        "below": "nearer than visible patches drawn at random",
        "above": "farther than visible patches drawn at random",
        "cannot be told apart from": "which cannot be told apart from visible patches drawn at random",
        "beside": "beside visible patches drawn at random",
    }[answers.verdict(answers.difference(anywhere, far))]
    return f", {words} ({replace(anywhere, unit='1')})"


def methods_of(result: xr.Dataset) -> list[str]:
    """The methods that a result has, in order."""
    return [str(name) for name in result["explanation"].values]


def agreement(result: xr.Dataset) -> go.Figure:
    """Rank correlations of every two methods of one run, with half of their 95 % intervals for the
    pointer."""
    own, names = trained(result), methods_of(result)
    half = intervals.half_width(own, "agreement")
    values = own["agreement"].values.astype(float)
    shown = style.figure(height=130 + 40 * len(names), margin={"l": 60, "r": 20, "t": 20, "b": 50})
    shown.add_trace(
        go.Heatmap(
            z=values,
            x=names,
            y=names,
            customdata=half,
            text=[["" if np.isnan(one) else f"{one:.2f}" for one in row] for row in values.round(2) + 0.0],
            texttemplate="%{text}",
            textfont={"size": 12},
            coloraxis="coloraxis",
            hoverongaps=False,
            hovertemplate="%{y}, %{x}: %{z:.3f} ± %{customdata:.2g}<extra></extra>",
        )
    )
    # every cell says its number: the bar's room is theirs
    scale = style.colour_axis("rank correlation", style.DIVERGING, cmin=-1, cmax=1, showscale=False)
    shown.update_layout(coloraxis=scale)
    shown.update_xaxes(type="category", tickangle=-35)
    return shown.update_yaxes(type="category", autorange="reversed")


def by_method(results: Mapping[str, xr.Dataset], variable: str) -> go.Figure:
    """One number of every method, with 95 % intervals; short lines: the same of an untrained
    network."""
    colour, rows = style.colours(results), []
    names = list(dict.fromkeys(name for result in results.values() for name in methods_of(result)))
    for position, (run, result) in enumerate(own_numbers(results).items()):
        low, high = intervals.ends(result, variable)
        values, symbol = result[variable].values, style.SYMBOLS[position % len(style.SYMBOLS)]
        rows.append(Series(run, methods_of(result), values, colour[run], low, high, symbol))
    title = {"faithfulness": "insertion's area less deletion's"}.get(variable)
    shown = series.dots(rows, names, title or style.axis_title(next(iter(results.values()))[variable]))
    shown.update_xaxes(tickangle=-35)
    categories = {name: {"explanation": name} for name in names}
    segments(shown, baselines_of(results, variable), list(results), categories)
    if variable == "faithfulness":
        shown.add_hline(0, line={"color": style.GREY, "width": 1})
    return shown


def curves(result: xr.Dataset, variable: str) -> go.Figure:
    """One run's curve of every method; orders that look at no model grey and dashed."""
    own, rows = trained(result), []
    named = [name for name in methods_of(result) if name not in BASELINES]
    colours = dict(zip(named, style.PARTS, strict=False))
    fractions = own["fraction"].values.tolist()
    for position, name in enumerate(methods_of(result)):
        values, shade = own[variable].sel(explanation=name).values, colours.get(name, style.GREY)
        symbol = style.SYMBOLS[position % len(style.SYMBOLS)]
        rows.append(Series(name, fractions, values, shade, symbol=symbol, dash=BASELINES.get(name, "solid")))
    verb = "removed" if variable.startswith("deletion") else "put back"
    return series.curves(
        rows, f"share of visible patches {verb}", TITLES.get(variable, style.axis_title(own[variable]))
    )


TITLES = {"deletion_curve": "prediction's change that is left", "insertion_curve": "prediction's change that is there"}
"""Short titles of axes."""


def maps(result: xr.Dataset, picture: int) -> go.Figure:
    """Of one photograph, for every query (ringed) the attributions of its visible patches, each map
    over its largest magnitude; hidden patches are grey."""
    one = result.isel(picture=picture)
    photograph = _masked(one)
    pale = np.repeat(photograph.mean(-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    grid, names = one["hidden"].shape, [str(name) for name in one["map"].values]
    panels, queries = ["query", *names], range(one.sizes["query"])
    lines = -(-len(panels) // ACROSS)
    aspect, heading = grid[1] / grid[0], 0.16
    step = 1 + style.GAP + heading
    shown = style.figure(height=round(len(queries) * lines * 165 * step), margin={"l": 10, "r": 10, "t": 10, "b": 10})
    rings = []
    for query, (position, name) in product(queries, enumerate(panels)):
        x0, y0 = position % ACROSS * (aspect + style.GAP), (query * lines + position // ACROSS) * step
        under = photograph if name == "query" else pale
        patch = int(one["query_patch"].values[query])
        words = f"query patch {patch}" if name == "query" else name
        shown.add_trace(style.picture(under, x0=x0, y0=y0, width=aspect, height=1, name=words))
        if name != "query":
            values = one["attribution_map"].isel(query=query).sel(map=name)
            trace = style.heatmap(values, name, x0=x0, y0=y0, dx=aspect / grid[1], dy=1 / grid[0])
            shown.add_trace(trace.update(opacity=0.75))
        shown.add_annotation(style.headline(words, x0 + aspect / 2, y0 - 0.02))
        rings.append(mark(patch, grid, x0=x0, y0=y0, width=aspect, height=1))
    for rectangles in zip(*rings, strict=True):
        shown.add_shape(in_one_path(rectangles))
    bar = style.colour_axis("over the largest of the map", style.DIVERGING, cmin=-1, cmax=1)
    shown.update_layout(coloraxis=bar)
    width = min(len(panels), ACROSS) * (aspect + style.GAP) - style.GAP
    return style.bare_axes(shown, width, len(queries) * lines * step - style.GAP - heading, headings=heading)


def _masked(one: xr.Dataset) -> np.ndarray:
    """The photograph in colour with its hidden patches grey, uint8 [y x 3], of few pixels."""
    original, hidden = one["original"].values, one["hidden"].values.astype(bool)
    height, width = original.shape[0] // hidden.shape[0], original.shape[1] // hidden.shape[1]
    by_pixel = hidden.repeat(height, 0).repeat(width, 1)[..., None]
    colour = original[..., :3] if original.shape[-1] >= 3 else original[..., :1].repeat(3, axis=-1)
    every = -(-max(original.shape[:2]) // MOST_PIXELS)
    return np.where(by_pixel, HIDDEN_GREY, colour).astype(np.uint8)[::every, ::every]
