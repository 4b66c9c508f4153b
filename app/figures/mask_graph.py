"""Pictures of the mask_graph probe: where edges lead, label error, tail and spectrum, each with its
band over bandwidths."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, exactly, number
from lcmae.probes.statistics import intervals

EDGES = {"same_image": "the image itself", "intra_class": "another of its class", "inter_class": "another class"}
EDGE_COLOURS = dict(zip(EDGES, (style.GREY, style.BLUE, style.ORANGE), strict=True))
SIDES = {"share_visible": "what is visible", "share_hidden": "what is hidden"}
SHADE = 0.18  # opacity of a band
LEAST_TAIL = 1e-3


def edges(result: xr.Dataset, mask: str, side: str) -> go.Figure:
    """Share of edge weight by where edges lead, over the ratio; dotted, the exact toy under the
    same mask unit."""
    shown = style.figure(height=420)
    here = result["edges"].sel(mask=mask, side=side)
    half = intervals.half(result, "edges").sel(mask=mask, side=side)
    for edge, name in EDGES.items():
        _band(shown, here.sel(edge=edge), half.sel(edge=edge), name, EDGE_COLOURS[edge])
    unit = toy_unit(result, mask)
    if unit is not None:
        toy = result["toy_edges"].sel(toy_unit=unit, side=side)
        for edge, name in EDGES.items():
            _toy(shown, toy.sel(edge=edge), f"toy: {name}", EDGE_COLOURS[edge])
    shown.update_xaxes(title=style.axis_title(result["ratio"]), range=[0, 1])
    return shown.update_yaxes(title=style.axis_title(result["edges"]), range=[-0.02, 1.02], tickformat=style.PERCENT)


def label_error(result: xr.Dataset) -> go.Figure:
    """alpha over the ratio for each mask unit; dashed, the error of naming the commonest class;
    dotted, the toy."""
    shown = style.figure(height=400)
    names = result["mask"].values.tolist()
    for name, colour in style.colours(names).items():
        half = intervals.half(result, "label_error").sel(mask=name)
        _band(shown, result["label_error"].sel(mask=name), half, name, colour)
        unit = toy_unit(result, name)
        if unit is not None:
            _toy(shown, result["toy_label_error"].sel(toy_unit=unit), f"toy: {name}", colour)
    shown.add_hline(
        float(result["label_chance"]),
        line={"color": style.GREY, "dash": style.REFERENCES["chance"]},
        annotation={"text": "naming the commonest class"},
    )
    shown.update_xaxes(title=style.axis_title(result["ratio"]), range=[0, 1])
    return shown.update_yaxes(
        title=style.axis_title(result["label_error"]), rangemode="tozero", tickformat=style.PERCENT
    )


def tails(results: Mapping[str, xr.Dataset], mask: str, rank: int) -> go.Figure:
    """Tail of the spectrum beyond `rank` over the ratio: a run's features as lines, the pixels of
    the first as a band.

    The axis is logarithmic from `LEAST_TAIL` up; what is less is drawn at half of that, below the
    frame.
    """
    shown = _spectral(results, "tail", mask, rank)
    available = [row for row in results.values() if mask in row["mask"].values and rank in row["rank"].values]
    tops = [float(row[name].sel(mask=mask, rank=rank).max()) for row in available for name in ("tail", "model_tail")]
    top = float(np.log10(max(2 * max(tops), 10 * LEAST_TAIL)))
    return shown.update_yaxes(type="log", range=[np.log10(LEAST_TAIL), top], dtick=1, exponentformat="power")


def connectivity(results: Mapping[str, xr.Dataset], mask: str) -> go.Figure:
    """The second eigenvalue over the ratio: 1 where the graph falls apart, 0 where every image
    leads to all alike."""
    return _spectral(results, "eigenvalue", mask, 2).update_yaxes(title="second eigenvalue", range=[-0.02, 1.02])


def spectra(results: Mapping[str, xr.Dataset], mask: str, ratio: float) -> go.Figure:
    """Eigenvalues by rank at one ratio: a run's features as lines, the pixels of the first as a
    band."""
    shown = style.figure(height=400)
    first = next(iter(results.values()))
    values = first["eigenvalue"].sel(mask=mask, ratio=ratio)
    _band(shown, values, first["eigenvalue_sem"].sel(mask=mask, ratio=ratio), "kernel", style.GREY, over="rank")
    for name, colour in style.colours(results).items():
        row = results[name]
        if mask in row["mask"].values and ratio in row["ratio"].values:
            here = row["model_eigenvalue"].sel(mask=mask, ratio=ratio)
            shown.add_trace(_line(here["rank"].values, here.values, name, colour, style.dashes(results)[name]))
    shown.update_xaxes(title=style.axis_title(first["rank"]), type="log", tickvals=style.RANKS)
    return shown.update_yaxes(title=style.axis_title(first["eigenvalue"]), range=[-0.02, 1.02])


def toy_errors(result: xr.Dataset) -> go.Figure:
    """How far the estimators are from the exact toy with so many images, on logarithmic axes."""
    shown = style.figure(height=380)
    error = result["toy_error"]
    names = [str(name) for name in error["toy_quantity"].values]
    for name, colour in style.colours(names).items():
        for estimator, dash in (("kernel", "solid"), ("model", "dash")):
            values = error.sel(toy_quantity=name, toy_estimator=estimator)
            if bool(values.notnull().any()):
                label = f"{name.replace('_', ' ')}, {estimator}"
                shown.add_trace(_line(values["toy_size"].values, values.values, label, colour, dash))
    shown.update_xaxes(title="images of the toy", type="log", tickvals=style.RANKS)
    return shown.update_yaxes(title=style.axis_title(error), type="log", dtick=1, exponentformat="power")


def toy_unit(result: xr.Dataset, mask: str) -> int | None:
    """The toy's mask unit that is this mask's, if it has one."""
    unit = mask.removeprefix("unit ")
    return int(unit) if unit.isdigit() and int(unit) in result["toy_unit"].values else None


def _spectral(results: Mapping[str, xr.Dataset], variable: str, mask: str, rank: int) -> go.Figure:
    shown = style.figure(height=420)
    # on a logarithmic axis zeros cannot be shown
    least = LEAST_TAIL / 2 if variable == "tail" else 0.0
    first = next(iter(results.values()))
    half = intervals.half(first, variable).sel(mask=mask, rank=rank)
    _band(shown, first[variable].sel(mask=mask, rank=rank).clip(least), half, "kernel", style.GREY)
    for position, (name, colour) in enumerate(style.colours(results).items()):
        row = results[name]
        if mask not in row["mask"].values or rank not in row["rank"].values:
            continue
        here = row[f"model_{variable}"].sel(mask=mask, rank=rank).clip(least)
        half = intervals.half(row, f"model_{variable}").sel(mask=mask, rank=rank)
        line = _line(here["ratio"].values, here.values, name, colour, style.dashes(results)[name])
        line.update(error_y={"array": half.values, "thickness": 1.5, "width": 4})
        shown.add_trace(line.update(marker={"symbol": style.SYMBOLS[position % len(style.SYMBOLS)], "size": 7}))
    unit = toy_unit(first, mask)
    if unit is not None:
        _toy(shown, first[f"toy_{variable}"].sel(toy_unit=unit, rank=rank).clip(least), "toy, exact", style.PINK)
    shown.update_xaxes(title=style.axis_title(first["ratio"]), range=[0, 1])
    return shown.update_yaxes(title=style.axis_title(first[variable]), title_font={"size": 12})


def _band(
    shown: go.Figure, values: xr.DataArray, half: xr.DataArray, name: str, colour: str, *, over: str = "ratio"
) -> None:
    """The middle bandwidth with 95 % intervals, and a band from the least to the largest value over
    bandwidths."""
    x, low, high = values[over].values, values.min("bandwidth").values, values.max("bandwidth").values
    shown.add_trace(
        go.Scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=_faint(colour),
            line={"width": 0},
            hoverinfo="skip",
            legendgroup=name,
            showlegend=False,
        )
    )
    middle = values.sizes["bandwidth"] // 2
    line = _line(x, values.isel(bandwidth=middle).values, name, colour, "solid").update(legendgroup=name)
    line.update(error_y={"array": half.isel(bandwidth=middle).values, "thickness": 1.5, "width": 4})
    shown.add_trace(line)


def _toy(shown: go.Figure, values: xr.DataArray, name: str, colour: str) -> None:
    known = values.dropna("toy_ratio")
    shown.add_trace(_line(known["toy_ratio"].values, known.values, name, colour, "dot").update(marker={"size": 4}))


def _line(x: np.ndarray, y: np.ndarray, name: str, colour: str, dash: str) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=name,
        line={"color": colour, "dash": dash},
        marker={"size": 6},
        hovertemplate="%{x}: %{y:.4g}<extra>" + name + "</extra>",
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{SHADE})"


def _middle(result: xr.Dataset) -> dict[str, str | float]:
    widths, ratios = result["bandwidth"].values.tolist(), result["ratio"].values.tolist()
    ratio = min(ratios, key=lambda value: abs(value - 0.5))
    return {"mask": str(result["mask"].values[0]), "bandwidth": widths[len(widths) // 2], "ratio": ratio}


HEADLINE = Headline("label_error", "label error at the middle bandwidth", "lowest", _middle, share=True)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """The ratio at which what is visible tells classes best, beside naming the commonest class."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = _middle(result)
    chance = exactly(number(result, "label_chance", share=True))
    ratios = result["ratio"].values.tolist()
    by_ratio = {ratio: number(result, "label_error", {**at, "ratio": ratio}, share=True) for ratio in ratios}
    best = answers.best_of({f"{ratio:g}": one for ratio, one in by_ratio.items()}, "lowest")
    if best is None:
        return Answer("No ratio has a number.")
    width = f"bandwidth {at['bandwidth']:g}, {at['mask']}"
    sentence = (
        f"Label error is lowest at ratio {best.name} ({width}), {best.number}{best.caution('ratio')}"
        f"{against(best.number, {'naming the commonest class': chance}, '; it ')}."
    )
    here = f"ratio {at['ratio']:g}"
    second = number(result, "eigenvalue", {**at, "rank": 2})
    edge = {"side": "share_visible", **at}
    tiles = [
        best.number.tile(f"label error, ratio {best.name}", beside("commonest class", chance)),
        number(result, "edges", edge, share=True, edge="same_image").tile(f"edges to the image itself, {here}"),
        number(result, "edges", edge, share=True, edge="inter_class").tile(f"edges to other classes, {here}"),
        second.tile(f"second eigenvalue, {here}"),
    ]
    return Answer(sentence, answers.known(tiles))
