"""Pictures of the embedding_consistency probe: geometry by layer, distances of reconstructions,
points in a plane."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.colors import qualitative

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, number
from lcmae.app.figures.baselines import baselines_of, lines, own_numbers, segments, shift
from lcmae.app.figures.series import Series
from lcmae.probes.statistics import intervals

CLASS_COLOURS = (*style.PALETTE, *qualitative.Dark24)
SCOPES = {"within": "within images", "across": "across images"}
REFERENCES = {"shuffled": "x-thin-open", "constant": "line-ew-open", "itself": "triangle-down-open"}


def consistency(results: Mapping[str, xr.Dataset], scope: str, measure: str) -> go.Figure:
    """One measure against depth with 95 % intervals; grey: chance (dotted) and ceiling (long
    dashes)."""
    names = list(results)
    colour, dash = style.colours(names), style.dashes(names)
    shown = style.figure(height=380)
    chosen = {name: result.sel(scope=scope, measure=measure) for name, result in results.items()}
    lines(shown, baselines_of(chosen, "consistency"), "layer")
    results, chosen = own_numbers(results), own_numbers(chosen)
    for turn, (name, one) in enumerate(chosen.items()):
        for reference in ("chance", "ceiling"):
            shown.add_trace(
                go.Scatter(
                    x=one["layer"].values,
                    y=one[reference].values,
                    mode="lines",
                    name=reference,
                    legendgroup=reference,
                    showlegend=turn == 0,
                    line={"color": style.GREY, "dash": style.REFERENCES[reference]},
                    hovertemplate="layer %{x}: %{y:.4g}<extra>" + f"{reference}, {name}</extra>",
                )
            )
        shown.add_trace(
            go.Scatter(
                x=one["layer"].values,
                y=one["consistency"].values,
                error_y={"array": intervals.half_width(one, "consistency"), "thickness": 1.5, "width": 4},
                mode="lines+markers",
                name=name,
                line={"color": colour[name], "dash": dash[name]},
                marker={"size": 8, "symbol": style.SYMBOLS[turn % len(style.SYMBOLS)]},
                hovertemplate="layer %{x}: %{y:.4g}<extra>" + name + "</extra>",
            )
        )
    own = [
        Series(name, one["layer"].values.tolist(), one["consistency"].values, colour[name])
        for name, one in chosen.items()
    ]
    series.mark_best(shown, own)
    first = next(iter(results.values()))
    shown.update_xaxes(title=style.axis_title(first["layer"]), dtick=1 if first.sizes["layer"] <= 16 else None)
    return shown.update_yaxes(title=style.axis_title(first["consistency"]), title_font={"size": 12})


def distances(results: Mapping[str, xr.Dataset], variable: str) -> go.Figure:
    """`sliced_wasserstein` or `gram_gap` of reconstructions from true patches, over their
    references (grey)."""
    names = list(results)
    colour = style.colours(names)
    shown = style.figure(height=340)
    positions = {words: {"scope": scope, "reference": "model"} for scope, words in SCOPES.items()}
    segments(shown, baselines_of(results, variable), names, positions)
    results = own_numbers(results)
    for turn, (name, result) in enumerate(results.items()):
        x = [position + shift(names, name) for position in range(len(SCOPES))]
        ordered = result.sel(scope=list(SCOPES))
        for reference, symbol in REFERENCES.items():
            shown.add_trace(
                go.Scatter(
                    x=x,
                    y=ordered[variable].sel(reference=reference).values,
                    mode="markers",
                    name=reference,
                    legendgroup=reference,
                    showlegend=turn == 0,
                    marker={"symbol": symbol, "size": 14, "color": style.GREY, "line": {"width": 3}},
                    customdata=list(SCOPES.values()),
                    hovertemplate="%{customdata}: %{y:.4g}<extra>" + f"{reference}, {name}</extra>",
                )
            )
        own = ordered.sel(reference="model")
        shown.add_trace(
            go.Scatter(
                x=x,
                y=own[variable].values,
                error_y={"array": intervals.half_width(own, variable), "thickness": 1.5, "width": 4},
                mode="markers",
                name=name,
                marker={"color": colour[name], "size": 10, "symbol": style.SYMBOLS[turn % len(style.SYMBOLS)]},
                customdata=list(SCOPES.values()),
                hovertemplate="%{customdata}: %{y:.4g}<extra>" + name + "</extra>",
            )
        )
    shown.update_traces(cliponaxis=False)  # markers at 0 are whole
    first = next(iter(results.values()))[variable]
    shown.update_xaxes(tickvals=list(range(len(SCOPES))), ticktext=list(SCOPES.values()), range=[-0.5, 1.5])
    shown.update_xaxes(ticklabelstandoff=8)  # room for the lower half of these markers
    return shown.update_yaxes(title=style.axis_title(first), title_font={"size": 12}, rangemode="tozero")


def planes(result: xr.Dataset) -> list[str]:
    """Which planes the table of points has: "umap" first, where it was computed."""
    return [name for name in ("umap", "pca") if f"{name}_x" in result]


def points(result: xr.Dataset, plane: str, colour_by: str) -> go.Figure:
    """Tokens (left) and patches (right), each in its own plane, coloured by `label`, `position` or
    `image`."""
    shown = style.figure(height=440, showlegend=False)
    for side, kind in enumerate(("token", "patch")):
        one = result.isel(point=result["kind"].values == kind)
        shown.add_trace(
            go.Scatter(
                x=one[f"{plane}_x"].values,
                y=one[f"{plane}_y"].values,
                mode="markers",
                name={"token": "tokens", "patch": "patches"}[kind],
                xaxis=f"x{side + 1}" if side else "x",
                yaxis=f"y{side + 1}" if side else "y",
                marker={"size": 5, "opacity": 0.75, "color": one[colour_by].values, "coloraxis": "coloraxis"},
                customdata=list(
                    zip(*(one[name].values.tolist() for name in ("image", "position", "label")), strict=True)
                ),
                hovertemplate="image %{customdata[0]}, patch %{customdata[1]}, class %{customdata[2]}"
                f"<extra>{kind}</extra>",
            )
        )
    title = str(result[colour_by].attrs["long_name"])
    shown.update_layout(
        coloraxis=_classes(result[colour_by].values) if colour_by == "label" else style.colour_axis(title),
        xaxis={"domain": [0, 0.47], "title": "tokens"},
        xaxis2={"domain": [0.53, 1], "title": "patches", "anchor": "y2"},
        yaxis2={"anchor": "x2"},
    )
    return shown.update_xaxes(showticklabels=False).update_yaxes(showticklabels=False)


def _classes(labels: np.ndarray) -> dict[str, object]:
    """A colour of its own for each class, in steps: classes have no order. Unknown classes are
    grey."""
    first, last = int(labels.min()), int(labels.max())
    known = range(first, last + 1)
    colours = [style.GREY if one < 0 else CLASS_COLOURS[one % len(CLASS_COLOURS)] for one in known]
    steps = [[(at + end) / len(known), colour] for at, colour in enumerate(colours) for end in (0, 1)]
    ticks = {"tickvals": list(known), "ticktext": ["none" if one < 0 else str(one) for one in known]}
    shown = style.colour_axis("class", cmin=first - 0.5, cmax=last + 0.5) | {"colorscale": steps}
    if len(known) <= 24:
        shown["colorbar"] = {"title": {"text": "class", "side": "right"}, "thickness": 12, "outlinewidth": 0, **ticks}
    return shown


def _last(result: xr.Dataset) -> dict[str, str | int]:
    return {"scope": "within", "measure": "cka", "layer": int(result["layer"].values[-1])}


HEADLINE = Headline(
    "consistency", "similarity of tokens and patches within images (CKA)", "highest", _last, brief="CKA within images"
)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """Whether the last block's tokens are arranged as the patches that they stand for."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = _last(result)
    own, untrained = (number(result, "consistency", at, network=network) for network in ("trained", "untrained"))
    relation = against(
        own, {"shuffled patches": number(result, "chance", at), "an untrained network": untrained}, ", which "
    )
    sentence = (
        f"Within images, the last block's tokens agree in arrangement with their patches by {own} (CKA){relation}."
    )
    tiles = []
    for scope, words in SCOPES.items():
        fresh = number(result, "consistency", {**at, "scope": scope}, network="untrained")
        tiles.append(
            number(result, "consistency", {**at, "scope": scope}).tile(f"CKA {words}", beside("untrained", fresh))
        )
        distance = {"scope": scope, "reference": "model"}
        mean = number(result, "gram_gap", {**distance, "reference": "constant"})
        tiles.append(number(result, "gram_gap", distance).tile(f"Gram gap {words}", beside("mean patch", mean)))
    return Answer(sentence, answers.known(tiles))
