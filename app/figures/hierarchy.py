"""Pictures of the hierarchy probe: what is read off features by level, and which latents theory
says a mask shares."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, number
from lcmae.app.figures.series import Series
from lcmae.probes.results.networks import networks_of, trained
from lcmae.probes.statistics import intervals

MEASURES = {"beyond fresh weights": "gain", "above chance": "skill"}
"""What decodability is measured from -> variable."""

ENDS_SAY = {"highest": "solid", "lowest": "dot"}
"""Of all smallest shared sets the one of the highest and the one of the lowest level -> dash."""


def decodability(results: Mapping[str, xr.Dataset], feature: str) -> go.Figure:
    """Decodability of every level from one feature of each run, from that of fresh weights, and
    from pixels."""
    colour = style.colours(results)
    pixels = "patch pixels" if feature == "patch" else "pixels"
    levels, rows = _levels(results), []
    for position, (name, result) in enumerate(results.items()):
        networks = networks_of(result, "skill")
        for network, label, symbol in (
            ("trained", name, style.SYMBOLS[position % 6]),
            ("untrained", f"{name}, untrained", "circle-open"),
        ):
            if network in networks and feature in result["feature"].values:
                rows.append(_row(result, label, network, feature, colour[name], symbol))
    rows.append(_row(next(iter(results.values())), pixels, "pixels", feature, style.GREY, "line-ew-open"))
    return _from_chance(series.dots(rows, levels, "decodability (0: chance, 1: perfect)"))


def by_layer(results: Mapping[str, xr.Dataset], level: str) -> go.Figure:
    """Decodability of one level from the mean token after each block; dashed: the same network with
    fresh weights."""
    colour, rows = style.colours(results), []
    for position, (name, result) in enumerate(results.items()):
        if "layer_skill" not in result or level not in result["level"].values:
            continue
        for network in networks_of(result, "layer_skill"):
            chosen = {"network": network, "level": level}
            values = result["layer_skill"].sel(chosen)
            low, high = intervals.ends(result, "layer_skill", **chosen)
            label, dash = (
                (name, "solid") if network == "trained" else (f"{name}, untrained", style.REFERENCES["untrained"])
            )
            marks = {"dash": dash, "symbol": style.SYMBOLS[position % 6]}
            rows.append(Series(label, values["layer"].values.tolist(), values.values, colour[name], low, high, **marks))
    shown = series.curves(rows, "encoder block", "decodability (0: chance, 1: perfect)")
    series.mark_best(shown, [row for row in rows if row.name in results])
    return _from_chance(shown.update_xaxes(dtick=1))


def predicted(result: xr.Dataset, end: str) -> go.Figure:
    """Mean level of the shared latents by masking ratio and mask unit, with the numbers in the
    cells."""
    values = result["predicted_level"].sel(end=end)
    error = result["predicted_level_sem"].sel(end=end)
    shown = style.figure(height=170 + 60 * values.sizes["unit"])
    shown.add_trace(
        go.Heatmap(
            z=values.values,
            x=[f"{ratio:g}" for ratio in values["ratio"].values],
            y=[f"{unit:g}" for unit in values["unit"].values],
            customdata=error.values,
            coloraxis="coloraxis",
            texttemplate="%{z:.2f}",
            hoverongaps=False,
            hovertemplate="ratio %{x}, unit %{y}: %{z:.3f} ± %{customdata:.2g} (over masks)<extra></extra>",
        )
    )
    names = [f"{height} {name}" for name, height in _heights(result).items()]
    top = len(names)
    shown.update_layout(
        coloraxis=style.colour_axis("mean level", cmin=1, cmax=top) | {"colorbar": _level_bar(names[::-1])}
    )
    shown.update_xaxes(title=style.axis_title(values["ratio"]), type="category", showgrid=False)
    return shown.update_yaxes(title=style.axis_title(values["unit"]), type="category", showgrid=False)


def side_by_side(results: Mapping[str, xr.Dataset], feature: str, measure: str) -> go.Figure:
    """Above: share of each level's latents that the mask shares, predicted. Below: what is decoded,
    a dot for each run.

    A column for each mask unit of the runs; see `random_runs` for those that are left out.
    """
    runs = random_runs(results)
    if not runs:
        raise ValueError("expected at least one run under random masks, got none")
    units = sorted({int(result.attrs["mask_unit"]) for result in runs.values()})
    first = next(iter(runs.values()))
    levels = _levels(runs)
    colour, symbol = style.colours(levels), dict(zip(levels, style.SYMBOLS * 2, strict=False))
    titles = [f"mask unit {unit}" for unit in units]
    shown = make_subplots(
        rows=2, cols=len(units), shared_xaxes=True, shared_yaxes=True, column_titles=titles, vertical_spacing=0.08
    )
    shown.update_layout(style.figure(height=640).layout)
    for column, unit in enumerate(units, start=1):
        for level in levels:
            marks = {"legendgroup": level, "name": level}
            for end, dash in ENDS_SAY.items() if unit in first["unit"].values else ():
                y = first["predicted_share"].sel(end=end, unit=unit, level=level)
                shown.add_trace(
                    go.Scatter(
                        x=y["ratio"].values,
                        y=y.values,
                        mode="lines",
                        line={"color": colour[level], "dash": dash},
                        showlegend=False,
                        hovertemplate=f"ratio %{{x}}: %{{y:.3f}}, {end}<extra>{level}, predicted</extra>",
                        **marks,
                    ),
                    row=1,
                    col=column,
                )
            _add_measured(shown, runs, unit, level, feature, measure, column, colour[level], symbol[level], marks)
    shown.update_xaxes(range=[0, 1], dtick=0.2)
    shown.update_xaxes(title=style.axis_title(first["ratio"]), row=2)
    shown.update_yaxes(title="predicted: share of the<br>level's latents in c", range=[-0.03, 1.03], row=1, col=1)
    # matched axes do not find their range by themselves
    traces: Any = shown.data  # plotly's types do not know what a trace has
    bars = [(np.asarray(dots.y), np.asarray(dots.error_y.array)) for dots in traces if dots.mode == "markers"]
    ends = np.concatenate([[0.0], *(side for y, half in bars for side in (y - half, y + half))])
    low, high = np.nanmin(ends), np.nanmax(ends)
    room = 0.05 * (high - low or 1)
    shown.update_yaxes(range=[low - room, high + room], row=2)
    words = next(words for words, name in MEASURES.items() if name == measure)
    shown.update_yaxes(title=f"measured: decodability<br>{words}", row=2, col=1, zeroline=True)
    return shown.update_layout(margin={"l": 70, "r": 20, "t": 70, "b": 50})


def random_runs(results: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The results whose own mask is random, in units of any size, and whose images came from the
    same tree as the first of them."""
    random = {
        name: result for name, result in results.items() if result.attrs["mask_kind"] in ("random", "coarse_random")
    }
    trees = [result.attrs["tree"] for result in random.values()]
    return {name: result for name, result in random.items() if result.attrs["tree"] == trees[0]}


def _add_measured(
    shown: go.Figure,
    runs: Mapping[str, xr.Dataset],
    unit: int,
    level: str,
    feature: str,
    measure: str,
    column: int,
    colour: str,
    symbol: str,
    marks: dict[str, str],
) -> None:
    runs = {name: trained(result) for name, result in runs.items()}
    found = [
        (float(result.attrs["mask_ratio"]), name, result)
        for name, result in runs.items()
        if int(result.attrs["mask_unit"]) == unit and measure in result and feature in result["feature"].values
        and level in result["level"].values
    ]  # fmt: skip
    found.sort(key=lambda one: one[:2])
    chosen = {"feature": feature, "level": level}
    values = [float(result[measure].sel(chosen)) for _, _, result in found]
    halves = [float(intervals.half(result, measure).sel(chosen)) for _, _, result in found]
    ratios = [ratio for ratio, _, _ in found]
    shown.add_trace(
        go.Scatter(
            x=ratios,
            y=values,
            error_y={"array": halves, "thickness": 1.2, "width": 3},
            customdata=[name for _, name, _ in found],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8},
            showlegend=column == 1,
            hovertemplate="%{customdata}: %{y:.3f}<extra>" + level + "</extra>",
            **marks,
        ),
        row=2,
        col=column,
    )
    # the line goes through means where there are several runs of a ratio
    steps = sorted(set(ratios))
    means = [
        float(np.mean([value for ratio, value in zip(ratios, values, strict=True) if ratio == step])) for step in steps
    ]
    line = {"color": colour, "width": 1.5}
    trace = go.Scatter(x=steps, y=means, mode="lines", line=line, showlegend=False, hoverinfo="skip", **marks)
    shown.add_trace(trace, row=2, col=column)


def _row(result: xr.Dataset, label: str, network: str, feature: str, colour: str, symbol: str) -> Series:
    chosen = {"network": network, "feature": feature}
    values = result["skill"].sel(chosen)
    low, high = intervals.ends(result, "skill", **chosen)
    return Series(label, values["level"].values.tolist(), values.values, colour, low, high, symbol)


def _levels(results: Mapping[str, xr.Dataset]) -> list[str]:
    """Names of levels, the class first; those of the deepest tree first where trees differ."""
    deepest = sorted(results.values(), key=lambda result: -result.sizes["level"])
    return list(dict.fromkeys(name for result in deepest for name in result["level"].values.tolist()))


def _heights(result: xr.Dataset) -> dict[str, int]:
    return dict(zip(result["level"].values.tolist(), result["height"].values.tolist(), strict=True))


def _level_bar(names: list[str]) -> dict[str, object]:
    """A colour bar whose ticks are the levels, the lowest at first."""
    ticks = {"tickmode": "array", "tickvals": list(range(1, len(names) + 1)), "ticktext": names}
    return {"title": {"text": "mean level", "side": "right"}, "thickness": 12, "outlinewidth": 0, **ticks}


def _from_chance(shown: go.Figure) -> go.Figure:
    return shown.add_hline(0, line={"color": style.GREY, "dash": style.REFERENCES["chance"]})


def _top(result: xr.Dataset) -> dict[str, str]:
    found = result["feature"].values.tolist()
    return {"feature": "mean" if "mean" in found else str(found[0]), "level": str(result["level"].values[0])}


HEADLINE = Headline("skill", "decodability of the highest level", "highest", _top)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """Which level of the tree is read best off the features, beyond fresh weights."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at, levels = _top(result), [str(one) for one in result["level"].values]
    skills = {one: number(result, "skill", {**at, "level": one}) for one in levels}
    best = answers.best_of(skills, "highest")
    if best is None:
        return Answer("No level has a number.")
    fresh = {one: number(result, "skill", {**at, "level": one}, network="untrained") for one in levels}
    pixels = {one: number(result, "skill", {**at, "level": one}, network="pixels") for one in levels}
    name = str(best.name)
    relation = against(best.number, {"an untrained network": fresh[name], "raw pixels": pixels[name]}, "; it ")
    sentence = (
        f"From the {at['feature']} token, the level “{name}” is read best, {best.number} of the way from chance to perfect"
        f"{best.caution('level')}{relation}."
    )
    tiles = [skills[one].tile(one, beside("untrained", fresh[one])) for one in levels]
    return Answer(sentence, answers.known(tiles))
