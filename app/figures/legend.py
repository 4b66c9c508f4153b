"""What is done to every figure before it is shown: runs by their short names, and a legend of at
most eight entries.

Where a figure has more, runs of one family (which differ by their seed) share an entry; where that
is not enough, runs of one objective; and if those are still too many, all runs together.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lcmae.app.figures.identity import Marking, short

MOST = 8
"""Entries of a legend."""

MOST_LETTERS = 34
"""Of a name; longer ones are cut."""

UNTRAINED = ", untrained"
"""What the label of a run's untrained network ends in."""

HALF, SAMPLE, LETTER, LINE, FREE = 330, 60, 6, 19, 2
"""Pixels of a legend on half a page of a 1280 px window, of a sample of a line, of a letter and of
a line of entries; lines that a figure's height has room for."""

ALL = "runs, coloured as in the bar above"


def tidy(figure: go.Figure, markings: Mapping[str, Marking], picked: Sequence[str]) -> go.Figure:
    """The figure itself, changed. `markings` are those of all runs by their full names; `picked`
    are the runs that the page shows."""
    owners = _owners(figure, markings)
    names = brief_names(picked)
    replaced = {full: name for full, name in names.items() if full != name}
    if replaced:
        _rename(figure, replaced)
    _fit_headings(figure)
    _fold_untrained(figure, owners)
    _group(figure, owners, markings)
    return figure


def make_room(figure: go.Figure) -> None:
    """As much height for a legend on half a page as it takes from the plot."""
    entries = [str(trace.name) for trace in _traces(figure) if trace.name and is_entry(trace)]
    if figure.layout.showlegend is False or len(entries) < 2 or figure.layout.height is None:
        return
    across = max(1, HALF // (SAMPLE + LETTER * max(map(len, entries))))
    lines = -(-len(entries) // across)
    figure.update_layout(height=figure.layout.height + LINE * max(lines - FREE, 0))


def is_entry(trace: Any) -> bool:
    """Whether the legend has a trace."""
    return "showlegend" in trace and trace.showlegend is not False


def _fold_untrained(figure: go.Figure, owners: Mapping[int, str]) -> None:
    """The untrained network of a run's shape goes with the run's own entry: captions say that its
    line is dashed, and all runs of one shape share it."""
    entries = {str(trace.name): trace for at, trace in enumerate(_traces(figure)) if at in owners and is_entry(trace)}
    for label, trace in entries.items():
        own = entries.get(label.removesuffix(UNTRAINED))
        if label.endswith(UNTRAINED) and own is not None:
            own.update(legendgroup=own.legendgroup or own.name)
            trace.update(legendgroup=own.legendgroup, showlegend=False)


def brief_names(picked: Sequence[str]) -> dict[str, str]:
    """Short names of at most `MOST_LETTERS`, as long as those differ."""
    whole = short(picked)
    cut_names = {full: cut(name) for full, name in whole.items()}
    return cut_names if len(set(cut_names.values())) == len(cut_names) else whole


def names_in_list(names: Sequence[str], picked: Sequence[str]) -> dict[str, str]:
    """Names for a list of all there is: picked runs as in the bar, the others cut; whole ones where
    two would be the same."""
    found = {name: cut(name) for name in names} | brief_names(picked)
    return found if len(set(found.values())) == len(found) else {name: name for name in names}


def briefly(text: str, picked: Sequence[str]) -> str:
    """A title or a caption with short names for those of picked runs."""
    names = {full: name for full, name in brief_names(picked).items() if full != name}
    return _in_words(names)(text) if names else text


def _in_words(names: Mapping[str, str]) -> Callable[[Any], Any]:
    """What puts short names for full ones into a text, and leaves all else as it is."""
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
    return lambda text: pattern.sub(lambda found: names[found.group()], text) if isinstance(text, str) else text


def cut(name: str, most: int = MOST_LETTERS) -> str:
    """A name of at most so many letters: its beginning and its longer end, where runs differ."""
    if len(name) <= most:
        return name
    begin = most // 3
    return f"{name[:begin]}…{name[len(name) - (most - begin - 1) :]}"


def _owners(figure: go.Figure, markings: Mapping[str, Marking]) -> dict[int, str]:
    """Which run each trace belongs to, by its name or its legend's group."""
    longest_first = sorted(markings, key=len, reverse=True)
    found: dict[int, str] = {}
    for at, trace in enumerate(_traces(figure)):
        texts = [str(trace.name or ""), str(trace.legendgroup or "") if "legendgroup" in trace else ""]
        owner = next((name for text in texts if text for name in longest_first if _is_about(text, name)), None)
        if owner is not None:
            found[at] = owner
    return found


def _is_about(label: str, name: str) -> bool:
    """Whether a label is a run's name, alone or with words behind it."""
    return label == name or (label.startswith(name) and label[len(name)] in ",: ·(<")


def _rename(figure: go.Figure, names: Mapping[str, str]) -> None:
    """Short names for full ones in all the places of a figure that hold text."""
    brief = _in_words(names)
    for trace in _traces(figure):
        trace.update(name=brief(trace.name))
        for field in ("hovertemplate", "text", "x", "y", "customdata"):
            if field in trace and trace[field] is not None:
                trace[field] = _each(trace[field], brief)
    for annotation in figure.layout.annotations:
        annotation.update(text=brief(annotation.text))
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        if axis.ticktext is not None:
            axis.update(ticktext=[brief(text) for text in axis.ticktext])
        if axis.categoryarray is not None:
            axis.update(categoryarray=[brief(text) for text in axis.categoryarray])


def _fit_headings(figure: go.Figure) -> None:
    """Names above columns of pictures, no longer than the columns are wide."""
    letters = (figure.layout.meta or {}).get("heading_letters")
    if letters is not None:
        for annotation in figure.layout.annotations:
            first, *others = annotation.text.split("<br>")
            annotation.update(text="<br>".join([cut(first, letters), *others]))


def _each(values: Any, brief: Callable[[Any], Any]) -> Any:
    """A label, or a row of labels, renamed; numbers as they are."""
    if isinstance(values, str):
        return brief(values)
    if np.ndim(values) != 1 or not any(isinstance(value, str) for value in values[:1]):
        return values
    return [brief(value) for value in values]


def _group(figure: go.Figure, owners: Mapping[int, str], markings: Mapping[str, Marking]) -> None:
    """Merge the entries of runs until there are at most `MOST`."""
    traces = _traces(figure)
    entries = [at for at, trace in enumerate(traces) if "showlegend" in trace and trace.showlegend is not False]
    if len(entries) <= MOST or not owners:
        return
    others = [at for at in entries if at not in owners]
    merged = next(
        (names for names in _levels(owners.values(), markings) if len(set(names.values())) + len(others) <= MOST),
        dict.fromkeys(owners.values(), ALL),
    )
    groups = list(dict.fromkeys(merged.values()))
    titles = (
        {group: cut(title) for group, title in short(groups).items()} if len(groups) > 1 else {groups[0]: groups[0]}
    )
    in_legend: set[str] = set()
    for at, owner in owners.items():
        group = merged[owner]
        # one group, so that a click hides its runs together
        traces[at].update(legendgroup=group, showlegend=at in entries and group not in in_legend)
        if at in entries and group not in in_legend:
            count = sum(other == group for other in merged.values())
            traces[at].update(name=f"{titles[group]} ({count} runs)" if count > 1 else titles[group])
            in_legend.add(group)
    for at in others[max(MOST - len(in_legend), 0) :]:
        traces[at].update(showlegend=False)


def _levels(owners: Iterable[str], markings: Mapping[str, Marking]) -> list[dict[str, str]]:
    """By run, its group: itself (which may have several traces), its family, its objective."""
    runs = list(dict.fromkeys(owners))
    return [
        {run: run for run in runs},
        {run: markings[run].family for run in runs},
        {run: markings[run].objective or "objective unknown" for run in runs},
    ]


def _traces(figure: go.Figure) -> list[Any]:
    """As anything, because plotly's own types know no traces."""
    return list(figure.data)
