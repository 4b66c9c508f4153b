"""Forest plot: each claim's effect with its 95 % interval beside the level that decides. Units
never share an axis."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lcmae.app.figures import style
from lcmae.app.figures.answers import Answer

COLOURS = {"reproduced": style.GREEN, "contradicted": style.RED, "not decidable": style.GREY}
MARKERS = {"reproduced": "circle", "contradicted": "x", "not decidable": "diamond-open"}
ROW, AXIS, TOP = 26, 62, 34
"""Pixels of a claim, of the axis below its group, of the legend."""


class Outcome(Protocol):
    """What of a claim's outcome is drawn: its effect with its interval, and the level that
    decides."""

    @property
    def id(self) -> str: ...
    @property
    def quantity(self) -> str: ...
    @property
    def units(self) -> str: ...
    @property
    def expected(self) -> str: ...
    @property
    def side(self) -> str: ...
    @property
    def level(self) -> float: ...
    @property
    def effect(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def verdict(self) -> str: ...


def answer(outcomes: Sequence[Outcome]) -> Answer:
    """How many claims have which verdict, and whose intervals decide."""
    count = Counter(one.verdict for one in outcomes)
    decided = "by an interval that lies on one side of the level that decides"
    if len(outcomes) == 1:
        [verdict] = count
        return Answer(
            "The one claim cannot be decided here."
            if verdict == "not decidable"
            else f"The one claim is {verdict} {decided}."
        )
    are = "is" if count["reproduced"] == 1 else "are"
    return Answer(
        f"Of the {len(outcomes)} claims, {count['reproduced']} {are} reproduced and {count['contradicted']} contradicted "
        f"{decided}; {count['not decidable']} cannot be decided here."
    )


def forest(outcomes: Sequence[Outcome], symbols: Mapping[Any, str], in_words: Callable[[Any], str]) -> go.Figure:
    """A row a claim that has a number, a panel a unit; verdicts differ by colour and by marker, the
    deciding level is a bar.

    `symbols`: a sign for each verdict; `in_words`: an outcome's effect with its interval, for the
    hover.
    """
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        if one.effect is not None:
            groups.setdefault(one.units, []).append(one)
    if not groups:
        raise ValueError("expected at least one claim with a number, got none")
    heights = [ROW * len(group) + AXIS for group in groups.values()]
    total = sum(heights)
    shown = make_subplots(rows=len(groups), cols=1, figure=style.figure(height=total + TOP))
    below = 1.0
    for position, (units, group) in enumerate(groups.items(), start=1):
        _panel(shown, position, group, in_words)
        # make_subplots cannot keep the height of a row the same in all panels
        plot = ROW * len(group) / total
        shown.update_yaxes(row=position, domain=[below - plot, below])
        below -= heights[position - 1] / total
        shown.update_xaxes(row=position, title="number" if units == "1" else f"number [{units}]", title_standoff=4)
    for verdict in COLOURS:
        shown.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="markers", name=f"{symbols[verdict]} {verdict}",
                marker={"color": COLOURS[verdict], "symbol": MARKERS[verdict], "size": 10},
            )
        )  # fmt: skip
    bar = {"color": style.BLUE, "symbol": "line-ns-open", "size": 14, "line": {"width": 2}}
    shown.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name="level that decides", marker=bar))
    return shown.update_layout(margin={"l": 10, "r": 20, "t": TOP, "b": 0})


def _panel(shown: go.Figure, position: int, group: Sequence[Outcome], in_words: Callable[[Any], str]) -> None:
    names = [one.id for one in group]
    for one in group:
        levels = (-one.level, one.level) if one.side == "within" else (one.level,)
        shown.add_trace(
            go.Scatter(
                x=levels, y=[one.id] * len(levels), mode="markers", showlegend=False, hoverinfo="skip",
                marker={"color": style.BLUE, "symbol": "line-ns-open", "size": 14, "line": {"width": 2}},
            ),
            row=position, col=1,
        )  # fmt: skip
        shown.add_trace(_dot(one, in_words(one)), row=position, col=1)
    shown.update_yaxes(
        row=position, categoryorder="array", categoryarray=names[::-1], ticks="", range=[-0.6, len(group) - 0.4]
    )


def _dot(one: Outcome, words: str) -> go.Scatter:
    error: dict[str, Any] = {}
    if one.effect is not None and one.low is not None and one.high is not None:
        error = {"error_x": {
            "array": [one.high - one.effect], "arrayminus": [one.effect - one.low], "thickness": 2, "width": 4,
            "color": COLOURS[one.verdict],
        }}  # fmt: skip
    return go.Scatter(
        x=[one.effect],
        y=[one.id],
        mode="markers",
        name=one.id,
        showlegend=False,
        marker={"color": COLOURS[one.verdict], "symbol": MARKERS[one.verdict], "size": 10},
        customdata=[[one.quantity, words, one.expected, one.verdict]],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}, expected %{customdata[2]}: %{customdata[3]}<extra>%{y}</extra>",
        **error,
    )
