"""Pictures of the local_contrast probe: the loss in four parts against collapse, where the parts
lie, variance of tokens."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, exactly, number
from lcmae.app.figures.baselines import baselines_of, own_numbers, rows, segments, shift
from lcmae.probes.statistics import intervals

PARTS = ("invariance", "local_consistency", "global_consistency", "offset")
TITLES = {
    "invariance": "invariance (mask noise)",
    "local_consistency": "local consistency (within images)",
    "global_consistency": "global consistency (between images)",
    "offset": "offset (mean)",
}
PART_COLOURS = dict(zip(PARTS, style.PARTS, strict=False))
COLLAPSE = "collapse"
UNBIASED = "_unbiased"


def estimated(results: Mapping[str, xr.Dataset]) -> bool:
    """Whether all of these results hold estimates for infinitely many masks; those stored before
    these existed hold the exact split alone."""
    return all(f"term{UNBIASED}" in result for result in results.values())


def _names(results: Mapping[str, xr.Dataset], *names: str) -> list[str]:
    """The estimates of these variables, or the exact split where a result has no estimates."""
    return [f"{name}{UNBIASED}" for name in names] if estimated(results) else list(names)


def terms(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """The masked loss of each run as a stack of its four parts (estimates where there are any),
    over the same stack of the best constant prediction."""
    term, collapse = _names(results, "term", COLLAPSE)
    beside, results = dict(rows(results, term)), own_numbers(results)
    stacks = {
        "term": {name: result[term] for name, result in results.items()} | beside,
        COLLAPSE: {name: result[collapse] for name, result in results.items()},
    }
    shown = style.figure(height=130 + 70 * len(stacks["term"]), barmode="relative", bargap=0.35)
    for part in PARTS:
        for variable, opacity, hatch in (("term", 1.0, ""), (COLLAPSE, 0.55, "/")):
            first = next(iter(results.values()))[term if variable == "term" else collapse]
            shown.add_trace(
                go.Bar(
                    y=list(stacks[variable]),
                    x=[float(values.sel(part=part)) for values in stacks[variable].values()],
                    orientation="h",
                    name=TITLES[part],
                    offsetgroup=variable,
                    legendgroup=part,
                    showlegend=variable == "term",
                    marker={
                        "color": PART_COLOURS[part],
                        "opacity": [opacity if name in results else 0.55 for name in stacks[variable]],
                        "pattern": {"shape": hatch},
                    },
                    hovertemplate=f"%{{y}}, {part.replace('_', ' ')}: %{{x:.4g}}<extra>{first.attrs['long_name']}</extra>",
                )
            )
    loss = next(iter(results.values()))["loss"]
    shown.update_xaxes(title=style.axis_title(loss), rangemode="tozero")
    totals = {variable: {name: float(one.sum()) for name, one in stack.items()} for variable, stack in stacks.items()}
    level = max(*(totals["term"][name] for name in results), *totals[COLLAPSE].values())
    _end(shown, level, {name: totals["term"][name] for name in stacks["term"] if name not in results})
    return shown.update_yaxes(autorange="reversed")


def _end(shown: go.Figure, level: float, baselines: Mapping[str | float, float]) -> go.Figure:
    """The axis ends at twice the level of runs and collapse: baselines that lie beyond must not
    press the runs together. What goes beyond is told in numbers, at its height, beside the plot."""
    if max(baselines.values(), default=0.0) > 2 * level:
        # no fixed range: along the steps of a run all figures share one (lcmae.app.figures.limits)
        shown.update_xaxes(autorangeoptions={"maxallowed": 2 * level})
    beyond = {height: value for height, value in baselines.items() if value > 2 * level}
    for height, value in beyond.items():
        shown.add_annotation(x=1, xref="paper", y=height, text=f"→ {value:.3g}", xanchor="left", showarrow=False)
    return shown.update_layout(margin_r=70) if beyond else shown


def terms_with_errors(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Each part with its 95 % interval over images, beside the part's collapse level (a grey bar
    across)."""
    names = list(results)
    shown = style.figure(height=150 + 4 * (26 + 16 * len(names)))
    colour = style.colours(names)
    positions = {TITLES[part]: {"part": part} for part in PARTS}
    term, collapse = _names(results, "term", COLLAPSE)
    beside = baselines_of(results, term)
    segments(shown, beside, names, positions, upright=True)
    results = own_numbers(results)
    _end(
        shown,
        max(float(result[variable].max()) for result in results.values() for variable in (term, collapse)),
        {
            position: max((float(one.values.sel(part=part)) for one in beside), default=0.0)
            for position, part in enumerate(PARTS)
        },
    )
    for position, (name, result) in enumerate(results.items()):
        label = [TITLES[part] for part in PARTS]
        heights = [row + shift(names, name) for row in range(len(PARTS))]
        ordered = result.sel(part=list(PARTS))
        shown.add_trace(
            go.Scatter(
                x=ordered[collapse].values,
                y=heights,
                mode="markers",
                name="collapse level (best constant)",
                legendgroup=COLLAPSE,
                showlegend=position == 0,
                marker={"symbol": "line-ns-open", "size": 15, "color": style.GREY, "line": {"width": 3}},
                customdata=label,
                hovertemplate="%{customdata}: %{x:.4g}<extra>collapse, " + name + "</extra>",
            )
        )
        if "collapse_position" in ordered:
            shown.add_trace(
                go.Scatter(
                    x=ordered["collapse_position"].values,
                    y=heights,
                    mode="markers",
                    name="mean patch of each position",
                    legendgroup="collapse_position",
                    showlegend=position == 0,
                    marker={"symbol": "diamond-open", "size": 9, "color": style.GREY},
                    customdata=label,
                    hovertemplate="%{customdata}: %{x:.4g}<extra>mean patch of each position, " + name + "</extra>",
                )
            )
        shown.add_trace(
            go.Scatter(
                x=ordered[term].values,
                y=heights,
                error_x={"array": intervals.half_width(ordered, term), "thickness": 1.5, "width": 4},
                mode="markers",
                name=name,
                marker={"color": colour[name], "symbol": style.SYMBOLS[position % len(style.SYMBOLS)], "size": 10},
                customdata=label,
                hovertemplate="%{customdata}: %{x:.4g}<extra>" + name + "</extra>",
            )
        )
    shown.update_xaxes(title=style.axis_title(next(iter(results.values()))[term]), rangemode="tozero")
    return shown.update_yaxes(
        tickvals=list(range(len(PARTS))), ticktext=[TITLES[part] for part in PARTS], range=[len(PARTS) - 0.5, -0.5]
    )


def position_maps(result: xr.Dataset) -> go.Figure:
    """Loss, invariance and local consistency by position on the grid, means over images; estimates
    where there are any."""
    names = ["loss_map", *_names({"": result}, "invariance_map", "local_consistency_map")]
    # the caption says which they are: titles of maps must be short
    return style.maps({str(result[name].attrs["long_name"]).split(",")[0]: result[name] for name in names})


def picture_maps(result: xr.Dataset, first: int = 0, count: int = 4) -> go.Figure:
    """Stored pictures, each beside its own maps: where in the image the loss and its parts lie."""
    chosen = slice(first, first + count)
    columns: list = [("image", list(result["original"].values[chosen]))]
    names = ("picture_loss", "picture_invariance", "picture_local_consistency")
    columns += [(str(result[name].attrs["long_name"]), list(result[name][chosen])) for name in names]
    return style.mosaic(columns, colour_title=str(result["picture_loss"].attrs["units"]))


def token_share(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """The variance of the encoder's tokens as shares that add to 1: from the mask, the patch, the
    image."""
    sources = dict(zip(("mask", "patch", "image"), style.PARTS, strict=False))
    [key] = _names(results, "token_share")
    beside, results = dict(rows(results, key)), own_numbers(results)
    shares = {name: result[key] for name, result in results.items()} | beside
    shown = style.figure(height=130 + 40 * len(shares), barmode="stack", bargap=0.35)
    for source, colour in sources.items():
        shown.add_trace(
            go.Bar(
                y=list(shares),
                x=[float(values.sel(source=source)) for values in shares.values()],
                orientation="h",
                name=source,
                marker={"color": colour, "opacity": [1.0 if name in results else 0.55 for name in shares]},
                hovertemplate="%{y}, " + source + ": %{x:.1%}<extra></extra>",
            )
        )
    share = next(iter(results.values()))[key]
    shown.update_xaxes(title=style.axis_title(share), range=[0, 1], tickformat=style.PERCENT)
    return shown.update_yaxes(autorange="reversed")


def position_share(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """How much of the variance of targets, predictions and tokens the position on the grid explains
    alone."""
    names = list(results)
    colour = style.colours(names)
    shown = style.figure(height=300, barmode="group")
    quantities = [str(quantity) for quantity in next(iter(results.values()))["quantity"].values]
    whole, results = results, own_numbers(results)
    for position, (name, result) in enumerate(results.items()):
        share = result["position_share"].sel(quantity=quantities)
        shown.add_trace(
            go.Bar(
                x=list(range(len(quantities))),
                y=share.values,
                customdata=quantities,
                name=name,
                marker={"color": colour[name], "pattern": {"shape": style.HATCHES[position // len(style.PALETTE) % 6]}},
                hovertemplate="%{customdata}: %{y:.1%}<extra>" + name + "</extra>",
            )
        )
    segments(shown, baselines_of(whole, "position_share"), names, {one: {"quantity": one} for one in quantities})
    share = next(iter(results.values()))["position_share"]
    shown.update_xaxes(tickvals=list(range(len(quantities))), ticktext=quantities)
    shown.update_yaxes(title=style.axis_title(share), range=[0, 1], tickformat=style.PERCENT)
    return series.wrap_titles(shown)


HEADLINE = Headline("loss", "masked loss", "lowest")


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """The largest part of the masked loss, and which parts lie below full collapse."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    term, collapse = _names(results, "term", COLLAPSE)
    parts = {part: number(result, term, part=part) for part in PARTS}
    levels = {part: exactly(number(result, collapse, part=part)) for part in PARTS}
    largest = answers.best_of(parts, "highest")
    assert largest is not None
    alike = [str(part).replace("_", " ") for part in largest.alike]
    name = str(largest.name)
    caution = f"; {answers.listed(alike)} cannot be told apart from it" if alike else ""
    relation = against(parts[name], {"its level at full collapse": levels[name]}, "; it ")
    sentence = (
        f"The largest part of the masked loss ({number(result, 'loss')}) is {TITLES[name]}, {largest.number}{caution}"
        f"{relation}."
    )
    tiles = [one.tile(part.replace("_", " "), beside("at collapse", levels[part])) for part, one in parts.items()]
    return Answer(sentence, answers.known(tiles))
