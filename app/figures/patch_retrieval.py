"""Pictures of the patch_retrieval probe: what nearest patches and clusters have in common, and both
as pictures."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, Number, against, beside, level, number
from lcmae.app.figures.patch_classes import overlaid
from lcmae.probes.results.networks import TRAINED

REMOVALS = {"nothing": "tokens as they are", "position mean": "position mean removed"}
"""In words, in their order."""

WORDS = {"pixel class": "of the same class of pixels", "image class": "of an image of the same class"}


def last_layer(result: xr.Dataset) -> dict[str, int]:
    """The label of the last block."""
    return {"layer": int(result["layer"].values[-1])}


def is_known(result: xr.Dataset, target: str) -> bool:
    """Whether the groups were known: masks and classes are not always."""
    return bool(result["chance"].sel(target=target).notnull())


def target_of(result: xr.Dataset) -> str:
    """The most telling group that is known."""
    known = [name for name in WORDS if is_known(result, name)]
    return known[0] if known else "position"


HEADLINE = Headline(
    "last_purity",
    "share of nearest patches at the same position (last layer)",
    "lowest",
    lambda result: {"target": "position"},
    share=True,
    brief="nearest at the same position",
)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """What the nearest patches of the last layer have in common; of several runs, which match by
    position the least."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = last_layer(result)

    def share(target: str, removal: str = "nothing", network: str = TRAINED) -> Number:
        return number(result, "purity", at, share=True, target=target, removal=removal, network=network)

    def chance(target: str) -> Number:
        return level(float(result["chance"].sel(target=target)), share=True)

    own = share("position")
    relation = against(
        own, {"chance": chance("position"), "raw patches": share("position", network="pixels")}, ", which "
    )
    sentence = f"Of the last layer's nearest patches in other images {own} are at the same position{relation}."
    tiles = [own.tile("at the same position", beside("chance", chance("position")))]
    target = target_of(result)
    if target in WORDS:
        purity = share(target)
        others = {"chance": chance(target), "raw patches": share(target, network="pixels")}
        others["those with the position mean removed"] = share(target, "position mean")
        sentence += f" {purity} are {WORDS[target]}{against(purity, others, ', which ')}."
        tiles.append(purity.tile(WORDS[target], beside("raw patches", others["raw patches"])))
    informed = number(result, "information", at, target=target, removal="nothing")
    fresh = number(result, "information", at, target=target, removal="nothing", network="untrained")
    tiles.append(informed.tile(f"clusters tell about the {target}", beside("untrained", fresh)))
    return Answer(sentence, answers.known(tiles))


def by_layer(results: Mapping[str, xr.Dataset], variable: str, target: str, removal: str) -> go.Figure:
    """Purity or information by layer: runs in their colours, baselines grey, chance dotted."""
    rows = series.of_networks(results, variable, "layer", target=target, removal=removal)
    first = next(iter(results.values()))
    words = {"purity": f"share with the same {target}", "information": f"information about the {target}"}
    shown = series.curves(rows, style.axis_title(first["layer"]), words[variable])
    chance = float(first["chance"].sel(target=target)) if variable == "purity" else 0.0
    shown.add_hline(chance, line={"color": style.GREY, "dash": style.REFERENCES["chance"]})
    if variable == "purity":
        shown.update_yaxes(tickformat=style.PERCENT, rangemode="tozero")
    return shown.update_xaxes(dtick=1)


def matches(result: xr.Dataset, view: str) -> go.Figure:
    """A row for each query: the patch in its surroundings, and its nearest patches."""
    queries = [framed(one) for one in result["query_thumbnail"].values]
    columns: list[tuple[str, list[np.ndarray]]] = [("query", queries)]
    found = result["match_thumbnail"].sel(view=view).values
    for position, windows in enumerate(found.swapaxes(0, 1), start=1):
        columns.append((f"match {position}", [framed(one) for one in windows]))
    return style.mosaic(columns)


def framed(window: np.ndarray) -> np.ndarray:
    """A picture [y x channel] of a patch with those around it, as colours, what is around it
    nearer to grey."""
    pixels = np.repeat(window, 3, axis=-1) if window.shape[-1] == 1 else window[..., :3]
    shown = 0.55 * pixels.astype(float) + 0.45 * 150
    height, width = pixels.shape[:2]
    own = slice(round(height / 3), round(2 * height / 3)), slice(round(width / 3), round(2 * width / 3))
    shown[own] = pixels[own]
    return shown.round().astype(np.uint8)


def clusters(result: xr.Dataset, removal: str) -> go.Figure:
    """Images, and the cluster of each patch at up to four layers and of its pixels, in colours."""
    images, layers = list(result["original"].values), result["layer"].values
    at = sorted({int(layers[one]) for one in np.linspace(0, len(layers) - 1, min(4, len(layers))).round().astype(int)})
    maps = {f"layer {layer}": result["cluster"].sel(removal=removal, layer=layer).values for layer in at}
    maps["raw patches"] = result["pixel_cluster"].values
    columns: list[tuple[str, list[np.ndarray]]] = [("image", images)]
    for words, classes in maps.items():
        columns.append((words, [overlaid(*pair) for pair in zip(images, classes, strict=True)]))
    return style.mosaic(columns)
