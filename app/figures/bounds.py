"""Pictures of the bounds probe: both sides of each theorem against the step, a colour a run; and
alignment by overlap.

Results have a dimension `step` (`lcmae.app.dashboard.stored.trends`), or are of one step.
"""

from collections.abc import Mapping, Sequence

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


def along_steps(result: xr.Dataset) -> xr.Dataset:
    """The same with a dimension `step`, which a result of one step lacks."""
    return result if "step" in result.dims else result.expand_dims(step=[int(result.attrs.get("step", 0))])


def pair_bound(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Theorem 3.4 on pairs: the loss, half of L_align, and the bound that holds for sure."""
    rows = {
        "pair_loss": ("loss on pairs", "solid"),
        "pair_bound": ("bound", "dot"),
        "half_alignment": ("½ L_align", "dash"),
    }
    return _trends(results, [(name, {}, words, dash) for name, (words, dash) in rows.items()], "pair_loss")


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
    """Theorem 3.6: the loss of each run, and Var(x2) of what it hides (dotted)."""
    parts = [(LOSS, {}, "loss", "solid"), ("variance", {"level": level}, "Var(x2)", "dot")]
    return _trends(results, parts, LOSS).update_yaxes(rangemode="tozero")


def share_of_variance(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Loss / Var(x2) by level; 1 is the level of full collapse."""
    dashes = ("dash", "solid", "dot")
    parts = [
        ("share_of_variance", {"level": level}, words, dash)
        for (level, words), dash in zip(LEVELS.items(), dashes, strict=True)
    ]
    shown = _trends(results, parts, "share_of_variance").update_yaxes(rangemode="tozero")
    shown.add_hline(1, line={"color": style.GREY}, annotation={"text": "full collapse"})
    return shown


def umae(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Theorem 4.2's left side: L_U-MAE and the loss it is made of."""
    return _trends(results, [("umae_loss", {}, "L_U-MAE", "solid"), (LOSS, {}, "L_MAE", "dot")], "umae_loss")


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
            marks = {
                "color": colour,
                "dash": "solid" if position == middle else "dot",
                "width": 2 if position == middle else 1,
            }
            shown.add_trace(
                go.Scatter(
                    x=values["rank"].values,
                    y=values.isel(bandwidth=position).values,
                    mode="lines",
                    name=label,
                    legendgroup=name,
                    line=marks,
                    hovertemplate="k = %{x}: %{y:.4g}<extra>" + label + "</extra>",
                )
            )
    first = next(iter(results.values()))
    shown.update_xaxes(title=style.axis_title(first["rank"]), type="log", tickvals=style.RANKS)
    return shown.update_yaxes(
        title=style.axis_title(first["tail"]), title_font={"size": 12}, type="log", exponentformat="power"
    )


def autoencoding(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """eps, the error of reconstructing hidden patches from themselves, beside the loss (dotted)."""
    return _trends(results, [("autoencoding", {}, "eps", "solid"), (LOSS, {}, "loss", "dot")], "autoencoding")


def alignment(results: Mapping[str, xr.Dataset], quantity: str, centring: str) -> go.Figure:
    """Alignment of pairs of one image against the step; dotted, pairs of different images."""
    parts = [
        ("alignment", {"quantity": quantity, "centring": centring, "pair": pair}, words, dash)
        for pair, words, dash in (("same_image", "same image", "solid"), ("other_image", "another image", "dot"))
    ]
    return _trends(results, parts, "alignment")


def by_overlap(results: Mapping[str, xr.Dataset], quantity: str, centring: str) -> go.Figure:
    """The same at the last step, by the overlap of what the two masks show."""
    shown = style.figure(height=400)
    for name, colour in style.colours(results).items():
        result = along_steps(results[name]).isel(step=-1)
        for pair, words, dash in (("same_image", "same image", "solid"), ("other_image", "another image", "dot")):
            where = {"quantity": quantity, "centring": centring, "pair": pair}
            values = result["alignment_by_overlap"].sel(where)
            half = intervals.half(result, "alignment_by_overlap").sel(where)
            shown.add_trace(
                _line(values["overlap"].values, values.values, half.values, f"{name}, {words}", colour, dash, name)
            )
    first = next(iter(results.values()))
    shown.update_xaxes(title=style.axis_title(first["overlap"]), title_font={"size": 12})
    return shown.update_yaxes(title=style.axis_title(first["alignment_by_overlap"]), title_font={"size": 12})


def _trends(
    results: Mapping[str, xr.Dataset], parts: Sequence[tuple[str, dict[str, str], str, str]], title: str
) -> go.Figure:
    """Lines of (variable, labels, words, dash) against the step for each run, with 95 %
    intervals."""
    shown = style.figure(height=400)
    for name, colour in style.colours(results).items():
        result = along_steps(results[name])
        for variable, labels, words, dash in parts:
            values, half = result[variable].sel(labels), intervals.half(result, variable).sel(labels)
            line = _line(result["step"].values, values.values, half.values, f"{name}, {words}", colour, dash, name)
            shown.add_trace(line)
    first = next(iter(results.values()))[title]
    # several quantities of one unit share the axis: the legend names them
    several = len({variable for variable, *_ in parts}) > 1
    words = f"per value of a patch [{first.attrs['units']}]" if several else style.axis_title(first)
    return shown.update_xaxes(title="optimiser step").update_yaxes(title=words, title_font={"size": 12})


def _line(x: np.ndarray, y: np.ndarray, half: np.ndarray, label: str, colour: str, dash: str, group: str) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        error_y={"array": half, "thickness": 1.2, "width": 3},
        mode="lines+markers",
        name=label,
        legendgroup=group,
        line={"color": colour, "dash": dash},
        marker={"size": 7},
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
