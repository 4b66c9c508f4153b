"""Curves of training: a run's metric lines as a labelled dataset over steps, and the pictures of
several runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from lcmae.app.figures import answers, style
from lcmae.app.figures.answers import Answer, Number

TARGET = "target"
"""Stands for the unit of the run's own targets."""

UNITLESS_TERMS = ("uniformity", "token_contrast")
"""Terms of objectives that are no squared errors."""

LABELS = {
    "loss": ("loss", TARGET),
    "collapse": ("collapse level", TARGET),
    "lr": ("learning rate", "1"),
    "grad_norm": ("norm of the gradient", "1"),
    "seconds_per_step": ("time of a step", "s"),
    "num_test_images": ("test images", "images"),
    "cls_knn": ("kNN accuracy, class token", "share of test images"),
    "cls_linear": ("ridge accuracy, class token", "share of test images"),
    "cls_effective_rank": ("effective rank, class token", "dimensions"),
    "mean_knn": ("kNN accuracy, mean token", "share of test images"),
    "mean_linear": ("ridge accuracy, mean token", "share of test images"),
    "mean_effective_rank": ("effective rank, mean token", "dimensions"),
}
"""Name of a metric -> its long name and unit. Anything else in the lines is a term of the
objective."""

MONITORS = ("knn", "linear", "effective_rank")


def dataset(lines: Iterable[Mapping[str, Any]], target_units: str) -> xr.Dataset:
    """Metric lines as variables along `step`, each with `long_name` and `units`; NaN at steps that
    did not log it.

    `target_units` is the unit of a squared error in the space of the run's targets.
    """
    by_step: dict[int, dict[str, float]] = {}
    for line in lines:
        if isinstance(line.get("step"), int):
            numbers = {name: float(value) for name, value in line.items() if isinstance(value, int | float)}
            by_step.setdefault(line["step"], {}).update(numbers)
    steps = sorted(by_step)
    names = dict.fromkeys(name for step in steps for name in by_step[step] if name != "step")
    variables = {}
    for name in names:
        long_name, units = LABELS.get(name, (name.replace("_", " "), "1" if name in UNITLESS_TERMS else TARGET))
        values = np.array([by_step[step].get(name, np.nan) for step in steps])
        units = target_units if units == TARGET else units
        variables[name] = xr.Variable("step", values, {"long_name": long_name, "units": units})
    return xr.Dataset(variables, {"step": ("step", steps, {"long_name": "optimiser step", "units": "1"})})


def answer(runs: Mapping[str, xr.Dataset]) -> Answer:
    """Where each run stands against its own collapse level at its last logged step. One run logs
    one number: there is no interval, and the sentence says so."""
    shares = {}
    for name, run in runs.items():
        loss, collapse = _last(run, "loss"), _last(run, "collapse")
        if np.isfinite(loss) and np.isfinite(collapse) and collapse > 0:
            shares[name] = Number(loss / collapse, is_share=True)
    if not shares:
        return Answer("No picked run has logged a loss beside its collapse level.")
    order = sorted(shares, key=lambda name: shares[name].value)
    first = order[0]
    if len(runs) == 1:
        run = runs[first]
        ending = (
            "the level of predicting nothing but the mean patch" if shares[first].value >= 1 else "the rest was learned"
        )
        sentence = (
            f"At its last logged step the loss of {first} is {_last(run, 'loss'):.3g}, {shares[first]} of its collapse level: "
            f"{ending}. One run has no interval."
        )
        tiles = [Number(_last(run, "loss")).tile("loss"), shares[first].tile("of the collapse level")]
        for metric, label in (("mean_linear", "ridge accuracy, mean token"), ("mean_effective_rank", "effective rank")):
            tiles.append(Number(_last(run, metric), is_share=metric == "mean_linear").tile(label))
        return Answer(sentence, answers.known(tiles))
    more = [f"{len(order) - answers.MOST_NAMES} more"] if len(order) > answers.MOST_NAMES else []
    others = answers.listed([*(f"{name} {shares[name]}" for name in order[1 : answers.MOST_NAMES]), *more])
    beside = f" ({others})" if others else ""
    sentence = (
        f"At the last logged steps {first} has the lowest loss against its own collapse level, {shares[first]}{beside}. A run "
        "has one number, so there is no interval; losses of different masks or targets cannot be compared directly."
    )
    return Answer(sentence, answers.known([shares[name].tile(f"{name}, of collapse") for name in order]))


def _last(run: xr.Dataset, metric: str) -> float:
    """The last number that was logged; NaN where there is none."""
    values = run[metric].dropna("step").values if metric in run else np.array([])
    return float(values[-1]) if len(values) else float("nan")


def term_names(runs: Mapping[str, xr.Dataset]) -> list[str]:
    """Names of the objectives' terms in these runs, in the order in which they are first met."""
    return list(dict.fromkeys(str(name) for run in runs.values() for name in run.data_vars if name not in LABELS))


def loss(runs: Mapping[str, xr.Dataset]) -> go.Figure:
    """The training loss of each run; in grey, the collapse level of the same hidden patches.
    Logarithmic where it can be."""
    shown = curves(runs, ["loss"], height=380)
    for position, (name, run) in enumerate(runs.items()):
        if "collapse" in run:
            line = _line(run, "collapse", name, colour=style.GREY, dash="dot", width=1.5)
            line.update(name="collapse level", legendgroup="collapse", showlegend=position == 0)
            shown.add_trace(line)
    shown.layout.annotations = ()  # one panel needs no heading
    shown.update_yaxes(title=style.axis_title(first_with(runs, "loss")))
    values = np.concatenate([run["loss"].dropna("step").values for run in runs.values()])
    if values.size and (values > 0).all() and np.isfinite(values).all():
        digits = (1, 2, 5) if values.max() > 5 * values.min() else range(1, 10)
        ticks = [digit * 10.0**power for power in range(-12, 13) for digit in digits]
        shown.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    return shown


def curves(runs: Mapping[str, xr.Dataset], names: Sequence[str], *, height: int = 260, across: int = 2) -> go.Figure:
    """One panel a metric, one line a run; a run that did not log a metric is absent from its
    panel."""
    names = [name for name in names if any(name in run for run in runs.values())]
    if not names:
        raise ValueError("expected at least one metric that a run has logged, got none")
    across = min(across, len(names))
    down = -(-len(names) // across)
    shown = style.figure(height=height * down + 40)
    shown = make_subplots(
        rows=down,
        cols=across,
        figure=shown,
        subplot_titles=[str(first_with(runs, name).attrs["long_name"]) for name in names],
        vertical_spacing=0.36 / down,
        horizontal_spacing=0.1,
    )
    colours, dashes = style.colours(runs), style.dashes(runs)
    in_legend: set[str] = set()
    for position, metric in enumerate(names):
        row, column = 1 + position // across, 1 + position % across
        steps = set[int]()
        for name, run in runs.items():
            if metric in run:
                line = _line(run, metric, name, colour=colours[name], dash=dashes[name])
                shown.add_trace(line.update(showlegend=name not in in_legend), row=row, col=column)
                in_legend.add(name)
                steps |= set(np.asarray(line.x).tolist())
        ticks = style.whole_steps(steps)
        shown.update_xaxes(title=style.axis_title(run_steps(runs)), tickvals=ticks, row=row, col=column)
        units = str(first_with(runs, metric).attrs["units"])
        shown.update_yaxes(title="" if units == "1" else units, row=row, col=column)
        if units.startswith("share"):
            # around a single number plotly's range is 2 wide
            shown.update_yaxes(autorangeoptions={"minallowed": 0, "maxallowed": 1}, row=row, col=column)
            shown.update_traces(cliponaxis=False, row=row, col=column)
    shown.for_each_annotation(lambda title: title.update(font={"size": 13}))
    return shown


def first_with(runs: Mapping[str, xr.Dataset], metric: str) -> xr.DataArray:
    """The first run's metric, for its name and unit."""
    return next(run[metric] for run in runs.values() if metric in run)


def run_steps(runs: Mapping[str, xr.Dataset]) -> xr.DataArray:
    """The step coordinate, for its name and unit."""
    return next(iter(runs.values()))["step"]


def _line(run: xr.Dataset, metric: str, name: str, *, colour: str, dash: str, width: float = 2) -> go.Scatter:
    values = run[metric].dropna("step") if metric != "loss" else run[metric].where(_logged(run), drop=True)
    few = values.size < 12
    return go.Scatter(
        x=values["step"].values,
        y=values.values,
        mode="lines+markers" if few else "lines",
        name=name,
        legendgroup=name,
        line={"color": colour, "dash": dash, "width": width},
        marker={"size": 7},
        hovertemplate="step %{x}: %{y:.4g}<extra>" + name + "</extra>",
    )


def _logged(run: xr.Dataset) -> xr.DataArray:
    # a loss that is NaN was logged with a learning rate: it stays, as the gap in the line that it
    # is
    return run["lr"].notnull() if "lr" in run else run["loss"].notnull()
