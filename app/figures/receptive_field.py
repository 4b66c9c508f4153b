"""Pictures of the receptive_field probe: radius against masking ratio and depth, area ratios, the
fields themselves."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, style
from lcmae.app.figures.answers import Answer, Headline, Number, against, beside, number
from lcmae.app.figures.baselines import DASH_DOTTED, DASHED, DOTTED, baselines_of, lines, own_numbers
from lcmae.probes.statistics import intervals

UNTRAINED = (DASHED, DASH_DOTTED, DOTTED)
"""Dashes of an untrained network, by strategy."""


def radius_by_ratio(results: Mapping[str, xr.Dataset], target: str, mass: float) -> go.Figure:
    """Mean radius over images with 95 % intervals against the masking ratio; a colour a run, a dash
    a strategy."""
    return _by_ratio(results, "image_radius", target, mass)


def area_by_ratio(results: Mapping[str, xr.Dataset], target: str, mass: float, form: str) -> go.Figure:
    """The published area ratio, of the raw or the log form, against the masking ratio."""
    chosen = {name: result.sel(form=form) for name, result in results.items()}
    return _by_ratio(chosen, "area_ratio", target, mass).update_yaxes(rangemode="tozero")


def _by_ratio(results: Mapping[str, xr.Dataset], variable: str, target: str, mass: float) -> go.Figure:
    names = list(results)
    colour = style.colours(names)
    # a legend of many runs and strategies stands above the plot, not on it
    rows = sum(len(set(result["strategy"].values.tolist()) - {"none"}) for result in results.values()) // 3
    shown = style.figure(height=360 + 20 * rows, margin={"l": 60, "r": 20, "t": 44 + 20 * rows, "b": 50})
    chosen = {name: result.sel(target=target, mass=mass) for name, result in results.items()}
    kinds = list(dict.fromkeys(kind for one in chosen.values() for kind in _strategies(one)))
    for turn, strategy in enumerate(kinds):
        available = {name: _of(one, strategy) for name, one in chosen.items() if strategy in _strategies(one)}
        lines(shown, baselines_of(available, variable), "ratio", words=strategy, dash=UNTRAINED[turn % len(UNTRAINED)])
    results, chosen = own_numbers(results), own_numbers(chosen)
    for position, (name, one) in enumerate(chosen.items()):
        for turn, strategy in enumerate(_strategies(one)):
            here = _of(one, strategy)
            label = f"{name}, {strategy}"
            shown.add_trace(
                go.Scatter(
                    x=here["ratio"].values,
                    y=here[variable].values,
                    error_y={"array": intervals.half_width(here, variable), "thickness": 1.5, "width": 4},
                    mode="lines+markers",
                    name=label,
                    line={"color": colour[name], "dash": style.DASHES[turn % len(style.DASHES)]},
                    marker={"size": 8, "symbol": style.SYMBOLS[position % len(style.SYMBOLS)]},
                    hovertemplate="ratio %{x}: %{y:.4g}<extra>" + label + "</extra>",
                )
            )
    first = next(iter(results.values()))[variable]
    shown.update_xaxes(title="masking ratio (0: the full image)", range=[-0.03, 1])
    return shown.update_yaxes(title=style.axis_title(first))


def _strategies(result: xr.Dataset) -> list[str]:
    return [kind for kind in dict.fromkeys(result["strategy"].values.tolist()) if kind != "none"]


def _of(result: xr.Dataset, strategy: str) -> xr.Dataset:
    """Views under one strategy by rising ratio; the full image is every strategy's start."""
    return result.isel(view=np.isin(result["strategy"].values, ["none", strategy])).sortby("ratio")


def radius_by_depth(results: Mapping[str, xr.Dataset], mass: float) -> go.Figure:
    """Radius of the centre token after each block, on full images, with 95 % intervals."""
    names = list(results)
    colour, dash = style.colours(names), style.dashes(names)
    shown = style.figure(height=360)
    chosen = {name: result.sel(mass=mass) for name, result in results.items()}
    lines(shown, baselines_of(chosen, "depth_image_radius"), "layer")
    results, chosen = own_numbers(results), own_numbers(chosen)
    for position, (name, one) in enumerate(chosen.items()):
        shown.add_trace(
            go.Scatter(
                x=one["layer"].values,
                y=one["depth_image_radius"].values,
                error_y={"array": intervals.half_width(one, "depth_image_radius"), "thickness": 1.5, "width": 4},
                mode="lines+markers",
                name=name,
                line={"color": colour[name], "dash": dash[name]},
                marker={"size": 8, "symbol": style.SYMBOLS[position % len(style.SYMBOLS)]},
                hovertemplate="layer %{x}: %{y:.4g}<extra>" + name + "</extra>",
            )
        )
    first = next(iter(results.values()))["depth_image_radius"]
    shown.update_xaxes(title="layer", dtick=1 if first.sizes["layer"] <= 16 else None)
    return shown.update_yaxes(title=style.axis_title(first), rangemode="tozero")


def fields(result: xr.Dataset, target: str, strategy: str, form: str) -> go.Figure:
    """Maps of one run, each scaled to its own maximum: the full image (tokens only), then the
    strategy's ratios."""
    here = result.sel(target=target, form=form)
    here = here.isel(view=np.isin(here["strategy"].values, ["none", strategy]))
    panels = {}
    for view in here["view"].values:
        field = here["field"].sel(view=view)
        if not bool(field.isnull().all()):
            panels[str(view)] = field / max(float(field.max()), np.finfo(float).tiny)
    return style.maps(panels, height=260, title="share of the maximum")


def depth_fields(result: xr.Dataset, form: str, most: int = 6) -> go.Figure:
    """Maps of one run by depth, each scaled to its own maximum: up to `most` layers, first and last
    among them."""
    layers = result["layer"].values
    chosen = sorted({int(position) for position in np.linspace(0, len(layers) - 1, min(most, len(layers))).round()})
    panels = {}
    for position in chosen:
        field = result["depth_field"].sel(form=form).isel(layer=position)
        panels[f"layer {layers[position]}"] = field / max(float(field.max()), np.finfo(float).tiny)
    return style.maps(panels, height=260, title="share of the maximum")


HEADLINE = Headline(
    "half_radius", "radius of a token's receptive field on full images", "highest",
    lambda result: {"target": "token", "view": "full"},
    brief="radius of a token, full image",
)  # fmt: skip


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """The radius that holds half of a token's gradient, whole and masked."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()

    def radius(target: str, view: str, network: str = "trained") -> Number:
        return number(result, "half_radius", target=target, view=view, network=network)

    full, untrained = radius("token", "full"), radius("token", "full", "untrained")
    masked = [str(view) for view in result["view"].values if str(view) != "full"]
    view = masked[len(masked) // 2] if masked else "full"
    levels = {"an untrained network": untrained} | ({f"that under {view}": radius("token", view)} if masked else {})
    relation = against(full, levels, ", which ")
    sentence = f"On full images half of what a token depends on lies within {full} of it{relation}."
    tiles = [full.tile("token, full image", beside("untrained", untrained))]
    if masked:
        tiles += [radius("token", view).tile(f"token, {view}"), radius("prediction", view).tile(f"prediction, {view}")]
    area = number(result, "area_ratio", share=True, target="token", view="full", form="raw", mass=0.5)
    tiles.append(area.tile("image area with half of the gradient"))
    return Answer(sentence, answers.known(tiles))
