"""Pictures of the pixels_by_layer probe: what is read of a patch and of those around it, by layer
and offset."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, level, number
from lcmae.probes.results.networks import TRAINED


def _last(result: xr.Dataset) -> dict[str, int]:
    return {"layer": int(result["layer"].values[-1])}


HEADLINE = Headline(
    "own",
    "share of a patch's own pixels that its last token holds",
    "highest",
    _last,
    share=True,
    brief="own patch, last layer",
)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """What the last layer keeps of itself, and where most is gathered of the patches around."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = _last(result)
    own, fresh = (number(result, "own", at, share=True, network=name) for name in (TRAINED, "untrained"))
    sentence = f"The last layer's token holds {own} of its own patch's variance"
    sentence += against(own, {"an untrained network's": fresh}, ", which ") + "."
    found = answers.best_of(
        {int(layer): number(result, "gathered", share=True, layer=int(layer)) for layer in result["layer"].values},
        "highest",
    )
    tiles = [own.tile("own patch, last layer", beside("untrained", fresh))]
    if found is not None:
        relation = against(found.number, {"what its own pixels tell": level(0.0, share=True)}, ", which ")
        sentence += f" Of the touching patches layer {found.name} holds most beyond its own pixels: {found.number}"
        sentence += f"{relation}{found.caution('layer')}."
        tiles.append(found.number.tile(f"gathered of neighbours, layer {found.name}"))
    reach = number(result, "reach", at)
    tiles.append(reach.tile("reach, last layer", beside("pixels", number(result, "reach", at, network="pixels"))))
    return Answer(sentence, answers.known(tiles))


def by_layer(results: Mapping[str, xr.Dataset], variable: str) -> go.Figure:
    """One number by layer: runs in their colours, untrained network and pixels grey."""
    rows = series.of_networks(results, variable, "layer")
    first = next(iter(results.values()))
    title = {
        "own": "share of the own patch",
        "around": "share of touching patches",
        "gathered": "gathered share",
        "reach": "mean distance [patches]",
    }
    shown = series.curves(
        rows, style.axis_title(first["layer"]), title.get(variable) or style.axis_title(first[variable])
    )
    if variable == "gathered":
        shown.add_hline(y=0, line={"color": style.GREY, "width": 1})
        series.mark_best(shown, [row for row in rows if row.name in results])
    levels = [0.0] if variable == "gathered" else []
    return series.fit(shown.update_xaxes(dtick=1), rows, *levels)


def maps(result: xr.Dataset) -> go.Figure:
    """What is read at each offset, at up to five layers, and what pixels alone tell."""
    layers = result["layer"].values
    chosen = sorted(
        {int(layers[at]) for at in np.linspace(0, len(layers) - 1, min(5, len(layers))).round().astype(int)}
    )
    panels = {f"layer {layer}": result["r2"].sel(network=TRAINED, layer=layer) for layer in chosen}
    panels["pixels"] = result["r2"].sel(network="pixels", layer=layers[-1])
    return style.maps(panels, title="share read").update_layout(coloraxis={"cmin": 0, "cmax": 1})
