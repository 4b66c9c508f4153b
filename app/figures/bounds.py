"""Pictures of the bounds probe: both sides of each theorem against the step, a colour a run; and
alignment by overlap.

Results have a dimension `step` (`lcmae.app.dashboard.stored.trends`), or are of one step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, level, number
from lcmae.probes.statistics import intervals

LEVELS = {
    "global": "about the mean patch",
    "position": "about the mean at each position",
    "image": "about each image's mean",
}
LOSS = "loss"


@dataclass(frozen=True)
class Quantity:
    """One of several quantities that share a figure: told apart by its dash and, where a run has
    one checkpoint and so no line, by its symbol."""

    variable: str
    words: str
    dash: str
    symbol: str
    labels: Mapping[str, str] = field(default_factory=dict)


PAIR_BOUND = (
    Quantity("pair_loss", "loss on pairs", "solid", "circle"),
    Quantity("pair_bound", "bound", "dot", "square"),
    Quantity("half_alignment", "½ L_align", "dash", "diamond"),
)
SHARES = tuple(
    Quantity("share_of_variance", words, dash, symbol, {"level": level})
    for (level, words), dash, symbol in zip(
        LEVELS.items(), ("dash", "solid", "dot"), ("diamond", "circle", "square"), strict=True
    )
)
UMAE = (Quantity("umae_loss", "L_U-MAE", "solid", "circle"), Quantity(LOSS, "L_MAE", "dot", "square"))
EPS = (Quantity("autoencoding", "eps", "solid", "circle"), Quantity(LOSS, "loss", "dot", "square"))


def collapsing(level: str) -> tuple[Quantity, ...]:
    """The loss and the variance that full collapse leaves, at one of `LEVELS`."""
    loss = Quantity(LOSS, "loss", "solid", "circle")
    return loss, Quantity("variance", "Var(x2)", "dot", "square", {"level": level})


def aligned(quantity: str, centring: str) -> tuple[Quantity, ...]:
    """Alignment of pairs of one image, and of different ones."""
    chosen = {"quantity": quantity, "centring": centring}
    return (
        Quantity("alignment", "same image", "solid", "circle", {**chosen, "pair": "same_image"}),
        Quantity("alignment", "another image", "dot", "square", {**chosen, "pair": "other_image"}),
    )


def marks(quantities: Sequence[Quantity]) -> str:
    """Which line and symbol is which quantity, for the caption: the legend of many runs names the
    runs alone."""
    lines = {"solid": "solid", "dot": "dotted", "dash": "dashed"}
    text = "; ".join(f"{lines[one.dash]}, {one.symbol}s: {one.words}" for one in quantities)
    return f"{text[0].upper()}{text[1:]}."


def along_steps(result: xr.Dataset) -> xr.Dataset:
    """The same with a dimension `step`, which a result of one step lacks."""
    return result if "step" in result.dims else result.expand_dims(step=[int(result.attrs.get("step", 0))])


def pair_bound(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Theorem 3.4 on pairs: the loss, half of L_align, and the bound that holds for sure."""
    return _trends(results, PAIR_BOUND)


def against_alignment(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Each checkpoint as a point: half of L_align across, loss upwards; the line goes along the
    steps."""
    shown = style.figure(height=420)
    for position, (name, result) in enumerate(results.items()):
        result, colour = along_steps(result), style.colours(results)[name]
        shown.add_trace(
            go.Scatter(
                x=result["half_alignment"].values,
                y=result["pair_loss"].values,
                error_x={"array": intervals.half_width(result, "half_alignment"), "thickness": 1.2, "width": 3},
                error_y={"array": intervals.half_width(result, "pair_loss"), "thickness": 1.2, "width": 3},
                mode="lines+markers",
                name=name,
                line={"color": colour, "dash": style.dashes(results)[name]},
                marker={"symbol": style.SYMBOLS[position % len(style.SYMBOLS)], "size": 9},
                customdata=result["step"].values,
                hovertemplate="step %{customdata}: %{x:.4g}, %{y:.4g}<extra>" + name + "</extra>",
            )
        )
    first = next(iter(results.values()))
    shown.update_xaxes(title=style.axis_title(first["half_alignment"]), title_font={"size": 12})
    return shown.update_yaxes(title=style.axis_title(first["pair_loss"]), title_font={"size": 12})


def collapse(results: Mapping[str, xr.Dataset], level: str) -> go.Figure:
    """Theorem 3.6: the loss of each run, and Var(x2) of what it hides."""
    return _trends(results, collapsing(level)).update_yaxes(rangemode="tozero")


def share_of_variance(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Loss / Var(x2) by level; 1 is the level of full collapse."""
    shown = _trends(results, SHARES).update_yaxes(rangemode="tozero")
    shown.add_hline(1, line={"color": style.GREY}, annotation={"text": "full collapse"})
    return shown


def umae(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Theorem 4.2's left side: L_U-MAE and the loss it is made of."""
    return _trends(results, UMAE)


def tail(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Theorem 4.2's right side: the tail by rank k of each run's images and masks, a band over
    bandwidths."""
    shown = style.figure(height=400)
    for name, colour in style.colours(results).items():
        values = along_steps(results[name])["tail"].isel(step=-1)
        values = values.where(values > 0)
        middle = values.sizes["bandwidth"] // 2
        for position in range(values.sizes["bandwidth"]):
            width = float(values["bandwidth"][position])
            label = f"{name}, bandwidth {width:g}"
            dash = "solid" if position == middle else "dot" if position < middle else "dash"
            line = {"color": colour, "dash": dash, "width": 2 if position == middle else 1.5}
            shown.add_trace(
                go.Scatter(
                    x=values["rank"].values,
                    y=values.isel(bandwidth=position).values,
                    mode="lines",
                    name=label,
                    legendgroup=name,
                    line=line,
                    hovertemplate="k = %{x}: %{y:.4g}<extra>" + label + "</extra>",
                )
            )
    first = next(iter(results.values()))
    shown.update_xaxes(title=style.axis_title(first["rank"]), type="log", tickvals=style.RANKS)
    return shown.update_yaxes(
        title=style.axis_title(first["tail"]), title_font={"size": 12}, type="log", exponentformat="power"
    )


def autoencoding(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """eps, the error of reconstructing hidden patches from themselves, beside the loss."""
    return _trends(results, EPS)


def alignment(results: Mapping[str, xr.Dataset], quantity: str, centring: str) -> go.Figure:
    """Alignment of pairs of one image against the step, beside pairs of different
    images."""
    return _trends(results, aligned(quantity, centring))


def by_overlap(results: Mapping[str, xr.Dataset], quantity: str, centring: str) -> go.Figure:
    """The same at the last step, by the overlap of what the two masks show."""
    shown = style.figure(height=400)
    for name, colour in style.colours(results).items():
        result = along_steps(results[name]).isel(step=-1)
        for one in aligned(quantity, centring):
            values = result["alignment_by_overlap"].sel(one.labels)
            half = intervals.half(result, "alignment_by_overlap").sel(one.labels)
            shown.add_trace(_line(values["overlap"].values, values.values, half.values, one, colour, name))
    first = next(iter(results.values()))
    shown.update_xaxes(title=style.axis_title(first["overlap"]), title_font={"size": 12})
    return shown.update_yaxes(title=style.axis_title(first["alignment_by_overlap"]), title_font={"size": 12})


def _trends(results: Mapping[str, xr.Dataset], quantities: Sequence[Quantity]) -> go.Figure:
    """Lines of these quantities against the step for each run, with 95 % intervals."""
    shown, steps = style.figure(height=400), set[int]()
    for name, colour in style.colours(results).items():
        result = along_steps(results[name])
        steps |= set(result["step"].values.tolist())
        for one in quantities:
            values = result[one.variable].sel(one.labels)
            half = intervals.half(result, one.variable).sel(one.labels)
            shown.add_trace(_line(result["step"].values, values.values, half.values, one, colour, name))
    first = next(iter(results.values()))[quantities[0].variable]
    # several quantities of one unit share the axis: the legend names them
    several = len({one.variable for one in quantities}) > 1
    words = f"per value of a patch [{first.attrs['units']}]" if several else style.axis_title(first)
    shown.update_xaxes(title="optimiser step", tickvals=style.whole_steps(steps))
    return shown.update_yaxes(title=words, title_font={"size": 12})


def _line(x: np.ndarray, y: np.ndarray, half: np.ndarray, one: Quantity, colour: str, run: str) -> go.Scatter:
    label = f"{run}, {one.words}"
    return go.Scatter(
        x=x,
        y=y,
        error_y={"array": half, "thickness": 1.2, "width": 3},
        mode="lines+markers",
        name=label,
        legendgroup=run,
        line={"color": colour, "dash": one.dash},
        marker={"size": 9, "symbol": one.symbol},
        hovertemplate="%{x}: %{y:.4g}<extra>" + label + "</extra>",
    )


HEADLINE = Headline(
    "share_of_variance", "loss as a share of full collapse", "lowest", lambda result: {"level": "global"}, share=True,
)  # fmt: skip


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """How far the loss is from full collapse, and from what alignment bounds, at the last step."""
    last = {name: along_steps(result).isel(step=-1) for name, result in results.items()}
    if len(last) > 1:
        return answers.of_runs(last, HEADLINE)
    [result] = last.values()
    share = number(result, "share_of_variance", share=True, level="global")
    loss, bound = number(result, "pair_loss"), number(result, "pair_bound")
    collapsed = against(share, {"collapse": level(1.0, share=True)}, ", which ")
    bounded = against(loss, {"the bound by alignment": bound}, ", which ")
    sentence = f"The loss is {share} of that of full collapse{collapsed}; on pairs of masks it is {loss}{bounded}."
    tiles = [
        share.tile("share of full collapse"),
        number(result, "share_of_variance", share=True, level="position").tile("of the mean at each position"),
        loss.tile("loss on pairs", beside("bound", bound)),
        number(result, "half_alignment").tile("½ alignment loss"),
    ]
    return Answer(sentence, answers.known(tiles))
