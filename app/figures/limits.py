"""Ranges of axes and colour scales that several figures share, so that going from one to the next
does not jump.

`ranges` reads them off a figure, `union` joins those of several, `hold` sets them: an axis of its
own range stays, a colour scale of its own ends is widened.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

Ranges = Mapping[str, tuple[float, float]]
"""Name in the layout (xaxis2, coloraxis) -> smallest and largest value that is drawn; of
logarithmic axes, above 0."""

Figure = Any
"""plotly's figure; its own types do not know what a trace or an axis has."""

MARGIN = 0.05
"""Room beyond the largest value, as a share of the range."""


def ranges(figure: Figure) -> Ranges:
    """The extent of all numbers in a figure, by axis: values with their error bars, bars as they
    stack, heat maps."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for trace in figure.data:
        kind, parts = type(trace).__name__, trace.to_plotly_json()
        x, y = (parts.get(f"{letter}axis", letter).replace(letter, f"{letter}axis") for letter in "xy")
        if kind in ("Scatter", "Scattergl"):
            found[x] += _with_errors(parts, "x")
            found[y] += _with_errors(parts, "y")
            marker = parts.get("marker", {})
            if "coloraxis" in marker:
                found[marker["coloraxis"]].append(_numbers(marker.get("color")))
        elif kind == "Heatmap":
            found[parts["coloraxis"]].append(_numbers(parts["z"]))
    for axis, ends in _bars(figure):
        found[axis].append(ends)
    for shape in figure.layout.shapes:
        for axis, ends in ((shape.xref or "x", (shape.x0, shape.x1)), (shape.yref or "y", (shape.y0, shape.y1))):
            if axis != "paper" and "domain" not in axis:
                found[f"{axis[0]}axis{axis[1:]}"].append(_numbers(ends))
    extents = {name: _extent(np.concatenate(parts), _is_log(figure, name)) for name, parts in found.items() if parts}
    return {name: extent for name, extent in extents.items() if extent is not None}


def union(many: Iterable[Ranges]) -> Ranges:
    """The smallest ranges that hold all of them."""
    joined: dict[str, tuple[float, float]] = {}
    for one in many:
        for name, (low, high) in one.items():
            known = joined.get(name, (low, high))
            joined[name] = min(low, known[0]), max(high, known[1])
    return joined


def hold(figure: Figure, shared: Ranges) -> go.Figure:
    """Set the shared ranges on axes that have none of their own, and have colour scales reach as
    far, from and to their own ends at least; axes of categories stay as they are."""
    figure.update_layout({name: {} for name in shared})
    for name, (low, high) in shared.items():
        if name.startswith("coloraxis"):
            scale = figure.layout[name]
            if scale.cmid is not None:
                reach = max(abs(low - scale.cmid), abs(high - scale.cmid))
                low, high = scale.cmid - reach, scale.cmid + reach
            low = low if scale.cmin is None else min(low, scale.cmin)
            high = high if scale.cmax is None else max(high, scale.cmax)
            scale.update(cmin=low, cmax=high)
            continue
        axis = figure.layout[name]
        if axis.range is not None or axis.type == "category":
            continue
        ends = _padded(low, high, from_zero=axis.rangemode == "tozero", is_log=axis.type == "log")
        is_reversed = axis.autorange == "reversed"
        axis.update(range=ends[::-1] if is_reversed else ends, autorange=False)
    return figure


def _padded(low: float, high: float, *, from_zero: bool, is_log: bool) -> list[float]:
    if is_log:
        low, high = np.log10(low), np.log10(high)
    elif from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = MARGIN * (high - low) or abs(high) * MARGIN or 1.0
    return [float(low if from_zero and low == 0 else low - room), float(high + room)]


def _with_errors(trace: Mapping[str, Any], letter: str) -> list[np.ndarray]:
    values = _numbers(trace.get(letter))
    error = trace.get(f"error_{letter}", {})
    up = _numbers(error.get("array"))
    if not values.size or up.size != values.size or error.get("visible") is False:
        return [values]
    down = up if error.get("symmetric", True) else _numbers(error.get("arrayminus"))
    # a value without an error (NaN) counts all the same
    return [values, values + up, values - down]


def _bars(figure: Figure) -> Iterator[tuple[str, np.ndarray]]:
    """Ends of bars, which start at 0; stacked ones add up by position and offset group."""
    stacks: dict[tuple[str, object, object], float] = defaultdict(float)
    for number, trace in enumerate(figure.data):
        if not isinstance(trace, go.Bar):
            continue
        parts = trace.to_plotly_json()
        length, position = ("x", "y") if parts.get("orientation") == "h" else ("y", "x")
        axis = parts.get(f"{length}axis", length).replace(length, f"{length}axis")
        group = parts.get("offsetgroup") if figure.layout.barmode in ("stack", "relative") else number
        for where, value in zip(parts[position], _numbers(parts[length]), strict=True):
            stacks[axis, group, where] += float(np.nan_to_num(value))
            yield axis, np.array([0.0, stacks[axis, group, where]])


def _numbers(values: Any) -> np.ndarray:
    """A flat array of numbers; empty for categories."""
    if values is None or isinstance(values, str):
        return np.empty(0)
    array = np.asarray(values)
    if array.dtype.kind == "O" and not any(isinstance(value, str) for value in array.flat):
        array = array.astype(float)
    return array.astype(float).ravel() if array.dtype.kind in "fiub" else np.empty(0)


def _extent(values: np.ndarray, is_log: bool) -> tuple[float, float] | None:
    values = values[np.isfinite(values)]
    values = values[values > 0] if is_log else values
    return (float(values.min()), float(values.max())) if values.size else None


def _is_log(figure: Figure, name: str) -> bool:
    # a second axis that only a trace names is not in the layout
    return not name.startswith("coloraxis") and name in figure.layout and figure.layout[name].type == "log"
