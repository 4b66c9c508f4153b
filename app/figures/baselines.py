"""Baselines beside a run's numbers, dashed and standing back: the same numbers of an untrained
network, and of raw pixels.

A result holds them along the dimension `network` (`lcmae.probes.results.networks`). Runs of one
shape on the same images have the same ones, which are then drawn once and grey; where they
differ, each has the colour of its run. Results without them have no line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import style
from lcmae.probes.results.networks import networks_of, of_network, trained
from lcmae.probes.statistics import intervals

LABELS = {
    "untrained": "untrained network",
    "pixels": "raw pixels",
    "mean colour": "mean colour",
    "trained, leaky": "with leaked statistics",
}
MEANS = {
    "untrained": "an untrained network of the same shape",
    "pixels": "raw pixels (as predictions: copies of the nearest visible patch)",
    "mean colour": "the mean colour of the visible pixels",
    "trained, leaky": "the run itself with the hidden patches' true statistics",
}
LINE_NAMES = {"untrained": "dashed", "pixels": "dash-dotted", "mean colour": "dotted", "trained, leaky": "short dashes"}
DASHES = {kind: style.REFERENCES[kind] for kind in LABELS}
DASHED, DASH_DOTTED, DOTTED = (DASHES[kind] for kind in ("untrained", "pixels", "mean colour"))


@dataclass(frozen=True)
class Baseline:
    """A variable as it is for one baseline, of all the runs that have the same numbers."""

    kind: str
    run: str
    """The first of these runs."""

    values: xr.DataArray
    half: xr.DataArray
    """Half of the 95 % interval; NaN where none is stored."""

    is_shared: bool
    """Whether no run has other numbers."""

    colour: str

    def named(self, words: str = "") -> str:
        """As the legend has it; `words` say which of several lines it is."""
        return f"{LABELS[self.kind]}, {words}" if words else LABELS[self.kind]

    def whose(self, words: str = "") -> str:
        """With its run, where runs differ."""
        return self.named(words) if self.is_shared else f"{self.run}, {self.named(words)}"


def own_numbers(results: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The runs' own numbers, without those of baselines."""
    return {run: trained(result) for run, result in results.items()}


def baselines_of(results: Mapping[str, xr.Dataset], variable: str) -> list[Baseline]:
    """The baselines of `variable`, equal ones once: grey where all runs have the same, else in the
    colours of the runs."""
    colours, found = style.colours(results), []
    for kind in LABELS:
        apart: dict[str, xr.Dataset] = {}
        for run, result in results.items():
            if kind in networks_of(result, variable):
                names = [name for name in (variable, f"{variable}_sem", f"{variable}_masks_sem") if name in result]
                one = of_network(result[names], kind)
                if not any(_same(one[variable], other[variable]) for other in apart.values()):
                    apart[run] = one
        for run, one in apart.items():
            half = one[variable].copy(data=intervals.half_width(one, variable))
            colour = style.GREY if len(apart) == 1 else colours[run]
            found.append(Baseline(kind, run, one[variable], half, len(apart) == 1, colour))
    return found


def caption(results: Mapping[str, xr.Dataset], variable: str, drawn_as: str = "") -> str:
    """For the end of a caption: what the lines are, or what is `drawn_as` something
    else; nothing where there are none."""
    found = {kind: [one for one in results.values() if kind in networks_of(one, variable)] for kind in LABELS}
    kinds = [kind for kind, some in found.items() if some]
    if not kinds:
        return ""
    counts = sorted({int(one.attrs[f"{kind}_images"]) for kind in kinds for one in found[kind]})
    return f" {legend(kinds, drawn_as)}; of the first {' or '.join(map(str, counts))} images."


def legend(kinds: Sequence[str], drawn_as: str = "") -> str:
    """What the lines of some baselines are, in words."""
    text = "; ".join(MEANS[kind] if drawn_as else f"{LINE_NAMES[kind]}: {MEANS[kind]}" for kind in kinds)
    return f"{drawn_as}: {text}" if drawn_as else text[0].upper() + text[1:]


def lines(
    shown: go.Figure,
    found: Sequence[Baseline],
    x: str,
    *,
    words: str = "",
    dash: str | None = None,
    is_flat: bool = False,
) -> go.Figure:
    """A curve for each, which has one dimension, against its coordinate `x`; it runs across what is
    NaN. Of one that `is_flat` the pointer is told no `x`."""
    for one in found:
        there = np.isfinite(one.values.values)
        at, values, half = one.values[x].values[there], one.values.values[there], one.half.values[there]
        where = ["" if is_flat else f"{x} {label}: " for label in at]
        texts = [f"{start}{_number(*pair)}" for start, *pair in zip(where, values, half, strict=True)]
        _add(shown, one, at, values, texts, words, dash)
    return shown


def segments(
    shown: go.Figure,
    found: Sequence[Baseline],
    names: Sequence[str],
    categories: Mapping[str, Mapping[str, Any]],
    *,
    first: int = 0,
    words: str = "",
    dash: str | None = None,
    upright: bool = False,
) -> go.Figure:
    """A short line across each category, which are numbered from `first` along the axis, at the
    number with the category's labels.

    Where runs differ it stands where the run of `names` stands among its neighbours. Categories
    that a baseline lacks are left out.
    """
    for one in found:
        along: list[float | None] = []
        across: list[float | None] = []
        texts = []
        for position, (category, labels) in enumerate(categories.items(), start=first):
            if any(label not in one.values[dim].values for dim, label in labels.items()):
                continue
            middle, reach = (position, 0.4) if one.is_shared else (position + shift(names, one.run), 0.3 / len(names))
            value, half = float(one.values.sel(labels)), float(one.half.sel(labels))
            # the pointer finds both ends and the middle; None ends a line
            along += [middle - reach, middle, middle + reach, None]
            across += [value, value, value, None]
            texts += [f"{category}: {_number(value, half)}"] * 4
        x, y = (across, along) if upright else (along, across)
        _add(shown, one, x, y, texts, words, dash)
    return shown


def shift(names: Sequence[str], run: str) -> float:
    """Where a run stands within its category: runs stand side by side, so that intervals do not
    cover each other."""
    return (list(names).index(run) - (len(names) - 1) / 2) * 0.6 / max(len(names), 1)


def rows(results: Mapping[str, xr.Dataset], variable: str) -> Iterator[tuple[str, xr.DataArray]]:
    """Names and values of baselines as further rows of a table or of stacked bars."""
    for one in baselines_of(results, variable):
        yield one.whose(), one.values


def _add(shown: go.Figure, one: Baseline, x: Any, y: Any, texts: list[str], words: str, dash: str | None) -> None:
    name, drawn = one.named(words), list[Any](shown.data)
    shown.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines+markers",
            # unseen: they find the pointer, and keep lines off the edge of the figure
            marker={"size": 7, "color": "rgba(0,0,0,0)"},
            name=name,
            legendgroup=name,
            legendrank=1001,  # drawn behind the runs, and named after them
            showlegend=all(trace.name != name for trace in drawn),
            line={"color": one.colour, "dash": dash or DASHES[one.kind], "width": 1.8},
            opacity=1.0 if one.is_shared else 0.6,
            text=texts,
            hovertemplate="%{text}<extra>" + one.whose(words) + "</extra>",
        )
    )


def _number(value: float, half: float) -> str:
    return f"{value:.4g}" + (f" ± {half:.2g}" if np.isfinite(half) else "")


def _same(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Up to what batches of other sizes change."""
    if one.dims != other.dims or one.shape != other.shape:
        return False
    labels = all(np.array_equal(one[dim].values, other[dim].values) for dim in one.dims)
    return labels and bool(np.allclose(one, other, rtol=1e-4, atol=1e-6, equal_nan=True))
