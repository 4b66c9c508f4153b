"""What a probe's page is made of, without any streamlit: the dashboard shows it, the report prints
it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures.answers import Answer
from lcmae.probes.results.words import called

Results = Mapping[str, xr.Dataset]
"""Stored results of one probe by the name of their run."""

Choose = Callable[[str, Sequence[Any]], Any]
"""`choose("first picture", [0, 4])` asks the person; a report takes the first option."""


@dataclass(frozen=True)
class Panel:
    """A figure with its words. The caption is also its alternative text."""

    title: str
    caption: str
    figure: go.Figure
    is_wide: bool = False
    """Whether it needs the width of the page, as rows of pictures do; others stand two to a row."""


@dataclass(frozen=True)
class ProbePage:
    """Everything that differs between one probe's page and another's."""

    probe: str
    """Name of the probe, as in `lcmae probe`."""

    summary: str
    """Two sentences: what the pictures say, and whose definition it is."""

    panels: Callable[[Results, Choose], Iterator[Panel]]
    """The figures, in order. Quantities of different units never share an axis
    (`style.by_units`)."""

    answer: Callable[[Results], Answer]
    """What the results say in a sentence with its interval, and up to four headline numbers: the
    function of the probe's figure file (`lcmae.app.figures.answers`)."""

    terms: tuple[str, ...] = ()
    """Words of app/dashboard/glossary.py that the page explains."""

    every_step: bool = False
    """Whether results come with a dimension `step`, all stored steps of a run joined
    (`lcmae.app.dashboard.stored.trends`)."""


def take_first(question: str, options: Sequence[Any]) -> Any:
    """The answer of a report: the first option."""
    return options[0]


def ask_in_words(choose: Choose, question: str, labels: Sequence[str]) -> str:
    """One of the labels of a result; the person reads words, never `cls`."""
    known = {called(label): label for label in labels}
    return known[choose(question, list(known))]
