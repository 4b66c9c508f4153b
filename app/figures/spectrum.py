"""Pictures of the spectrum probe: rank-like numbers by feature and view, and the spectra that they
come from."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, style
from lcmae.app.figures.answers import Answer, Headline, Number, against, beside, number
from lcmae.app.figures.baselines import baselines_of, lines, own_numbers, segments, shift
from lcmae.probes.results.words import called
from lcmae.probes.statistics import intervals


def numbers(results: Mapping[str, xr.Dataset], variable: str) -> go.Figure:
    """One number of every feature and view, with 95 % intervals; a colour and symbol a run."""
    positions = {
        f"{called(feature)}, {called(view)}": {"feature": feature, "view": view}
        for feature in features(results)
        for view in ("full", "masked")
    }
    shown = _dots(results, variable, positions)
    first = next(iter(results.values()))[variable]
    return shown.update_yaxes(title=style.axis_title(first), title_font={"size": 12})


def lidar(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """LiDAR rank of pooled vectors, with 95 % intervals."""
    pooled = {called(feature): {"feature": feature} for feature in features(results) if feature != "token"}
    shown = _dots(results, "lidar", pooled)
    first = next(iter(results.values()))["lidar"]
    return shown.update_yaxes(title=style.axis_title(first), title_font={"size": 12}, rangemode="tozero")


def spectra(results: Mapping[str, xr.Dataset], variable: str, feature: str, view: str) -> go.Figure:
    """Singular values, or shares of the variance, by rank; both axes logarithmic, so zeros are left
    out."""
    names = list(results)
    colour, dash = style.colours(names), style.dashes(names)
    shown = style.figure(height=400)
    here = {
        name: result.sel(feature=feature, view=view)
        for name, result in results.items()
        if feature in result["feature"].values
    }
    lines(shown, baselines_of(here, variable), "rank")
    results, here = own_numbers(results), own_numbers(here)
    for name, result in here.items():
        values = result[variable]
        values = values.where(values > 0, drop=True)
        shown.add_trace(
            go.Scatter(
                x=values["rank"].values,
                y=values.values,
                mode="lines",
                name=name,
                line={"color": colour[name], "dash": dash[name]},
                hovertemplate="rank %{x}: %{y:.4g}<extra>" + name + "</extra>",
            )
        )
    first = next(iter(results.values()))[variable]
    shown.update_xaxes(title="rank", type="log", tickvals=style.RANKS)
    return shown.update_yaxes(
        title=style.axis_title(first), title_font={"size": 12}, type="log", exponentformat="power"
    )


def features(results: Mapping[str, xr.Dataset]) -> list[str]:
    """Features that any of the results has; models without a class token have no "cls"."""
    return [name for name in ("cls", "mean", "token") if any(name in r["feature"].values for r in results.values())]


def _dots(results: Mapping[str, xr.Dataset], variable: str, positions: Mapping[str, Mapping[str, str]]) -> go.Figure:
    names = list(results)
    colour = style.colours(names)
    shown = style.figure(height=360)
    segments(shown, baselines_of(results, variable), names, positions)
    results = own_numbers(results)
    for turn, (name, result) in enumerate(results.items()):
        here = {
            position: at
            for at, (position, labels) in enumerate(positions.items())
            if all(label in result[dim].values for dim, label in labels.items())
        }
        values, half = result[variable], intervals.half_width(result, variable)
        number_of = {dim: {label: at for at, label in enumerate(values[dim].values.tolist())} for dim in values.dims}
        there = [tuple(number_of[dim][positions[one][str(dim)]] for dim in values.dims) for one in here]
        shown.add_trace(
            go.Scatter(
                x=[at + shift(names, name) for at in here.values()],
                y=np.array([float(values.values[at]) for at in there]),
                error_y={
                    "array": np.array([float(half[at]) for at in there]),
                    "thickness": 1.5,
                    "width": 4,
                },
                mode="markers",
                name=name,
                marker={"color": colour[name], "size": 10, "symbol": style.SYMBOLS[turn % len(style.SYMBOLS)]},
                customdata=list(here),
                hovertemplate="%{customdata}: %{y:.4g}<extra>" + name + "</extra>",
            )
        )
    return shown.update_xaxes(
        tickvals=list(range(len(positions))),
        ticktext=[words.replace(" ", "<br>") for words in positions],
        tickangle=0,  # a label that leans to the right past the figure is left out
        range=[-0.5, len(positions) - 0.5],
    )


def _pooled(result: xr.Dataset) -> dict[str, str]:
    found = result["feature"].values.tolist()
    return {"feature": "mean" if "mean" in found else str(found[0]), "view": "full"}


HEADLINE = Headline("effective_rank", "effective rank of the pooled vector", "highest", _pooled)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """How many directions the pooled vector of whole images uses, beside the baselines."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = _pooled(result)

    def of(variable: str, network: str = "trained", **more: str) -> Number:
        return number(result, variable, {**at, **more}, network=network)

    own, most = of("effective_rank"), of("largest_rank")
    levels = {"an untrained network": of("effective_rank", "untrained"), "raw pixels": of("effective_rank", "pixels")}
    relation = against(own, levels, ", which ")
    sentence = (
        f"Over images the {at['feature']} token uses {own} of {most.value:.0f} directions (effective rank){relation}."
    )
    tiles = []
    words = {"effective_rank": "effective rank", "rankme": "RankMe", "lidar": "LiDAR", "uniformity": "squared cosine"}
    for variable, label in words.items():
        fresh = of(variable, "untrained")
        tiles.append(of(variable).tile(label, beside("untrained", fresh)))
    return Answer(sentence, answers.known(tiles))
