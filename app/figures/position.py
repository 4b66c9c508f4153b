"""Pictures of the position probe: how invariant components are, how well position is read off
tokens, and what the nearest patches are with and without it."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, level, number
from lcmae.app.figures.series import Series
from lcmae.probes.statistics import intervals


def last_layer(result: xr.Dataset) -> dict[str, int]:
    """The label of the last block."""
    return {"layer": int(result["layer"].values[-1])}


HEADLINE = Headline(
    "position_r2",
    "R2 of position in the last layer's patch tokens",
    "highest",
    last_layer,
    brief="R2 of position, last layer",
)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """How much of the last layer's tokens is position, and what its removal changes."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = last_layer(result)
    own, fresh, pixels = (
        number(result, "position_r2", at, network=name) for name in ("trained", "untrained", "pixels")
    )
    relation = against(own, {"an untrained network": fresh, "patches of pixels": pixels}, ", which ")
    count = number(result, "positional_components", at)
    sentence = f"Row and column are read off the last layer's patch tokens with R2 {own}{relation}"
    sentence = f"{sentence}; {count.value:.0f} of {result.sizes['component']} components are positional."
    before, after = (number(result, "same_position", at, removal=one) for one in ("nothing", "position mean"))
    chance = level(float(result.attrs["chance_same_position"]))
    sentence += f" Of the nearest patches of other images {before} are at the same position"
    sentence += against(before, {"chance": chance, "those without the mean of each position": after}, ", which ") + "."
    knn, knn_after = (
        number(result, "knn_accuracy", at, share=True, removal=one) for one in ("nothing", "position mean")
    )
    tiles = [own.tile("R2 of position, last layer", beside("untrained", fresh))]
    tiles += [before.tile("nearest at the same position", beside("chance", chance))]
    tiles += [knn.tile("patch kNN"), knn_after.tile("patch kNN, position mean removed")]
    return Answer(sentence, answers.known(tiles))


def scores(results: Mapping[str, xr.Dataset], layer: int) -> go.Figure:
    """Semantic invariance of each principal component at one layer, with the floor of a component
    that says nothing and the paper's threshold."""
    deep = {name: result for name, result in results.items() if layer in result["layer"].values}
    rows = series.of_networks(deep, "invariance", "component", layer=layer)
    first = next(iter(results.values()))
    shown = series.curves(rows, style.axis_title(first["component"]), "semantic invariance")
    for at, words in (
        (first.attrs["invariance_floor"], "says nothing"),
        (first.attrs["invariance_threshold"], "threshold"),
    ):
        # beside the plot: within it the words would lie under points
        shown.add_hline(
            at, line={"color": style.GREY, "dash": "dot"}, annotation={"text": words}, annotation_position="right"
        )
    return shown.update_layout(margin_r=80)


def by_layer(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """R2 of row and column by layer: solid the run, dashed an untrained network and pixels."""
    rows = series.of_networks(results, "position_r2", "layer")
    first = next(iter(results.values()))
    shown = series.curves(rows, style.axis_title(first["layer"]), "R2 of row and column")
    series.mark_best(shown, [row for row in rows if row.name in results])
    return series.fit(shown.update_xaxes(dtick=1), rows)


def removals(results: Mapping[str, xr.Dataset], variable: str, layer: int) -> go.Figure:
    """One number of the nearest patches, with position as it is and taken out in each way."""
    colour, rows = style.colours(results), []
    categories = [str(one) for one in next(iter(results.values()))["removal"].values]
    for position, (name, result) in enumerate(results.items()):
        if layer in result["layer"].values:
            values = result[variable].sel(layer=layer).values
            low, high = intervals.ends(result, variable, layer=layer)
            rows.append(Series(name, categories, values, colour[name], low, high, style.SYMBOLS[position % 6]))
    first = next(iter(results.values()))
    words = {"knn_accuracy": "patch kNN accuracy", "same_position": "share at the same position"}[variable]
    shown = series.dots(rows, categories, words)
    chance = float(first["knn_chance"]) if variable == "knn_accuracy" else first.attrs["chance_same_position"]
    shown.add_hline(
        chance,
        line={"color": style.GREY, "dash": style.REFERENCES["chance"]},
        annotation={"text": "chance"},
        annotation_position="right",
    )
    shown.update_xaxes(ticktext=[category.replace(" ", "<br>") for category in categories], tickangle=0)
    return shown.update_yaxes(tickformat=style.PERCENT, rangemode="tozero").update_layout(margin_r=60)


def component_maps(result: xr.Dataset) -> go.Figure:
    """Mean along the most invariant components by position: what of position they say."""
    panels = {
        f"component {int(component)}": result["component_map"].isel(map=at)
        for at, component in enumerate(result["map_component"].values)
    }
    shown = style.maps(panels, colorscale=style.DIVERGING)
    return shown.update_layout(coloraxis={"cmid": 0})
