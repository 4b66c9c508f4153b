"""The table of runs as a table of numbers: what is searched, filtered and grouped. No streamlit, no
torch."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lcmae.app.dashboard.stored import reading
from lcmae.app.dashboard.stored.notes import Note
from lcmae.app.figures.answers import Number, best_of
from lcmae.app.figures.identity import family_of
from lcmae.errors import InputError
from lcmae.probes.statistics.intervals import student

FILTERS = ("objective", "mask", "ratio", "data", "model", "state", "tags")
"""Columns whose values can be picked to filter by."""

MEASURES = ("loss", "knn", "linear", "rank")
"""Columns whose means a group has."""

POINTS = 40
"""Of a run's sparkline."""

BY = {"objective": ["objective"], "mask": ["mask", "ratio"], "seeds": ["family", "objective"]}
"""Ways to group -> the columns that the runs of a group share."""


def table_of(runs: Mapping[str, Path], notes: Mapping[str, Note]) -> pd.DataFrame:
    """A row a run: its overview, the losses of its training in `POINTS` numbers, its notes."""
    rows = []
    for name, path in runs.items():
        note = notes.get(name, Note())
        row = reading.overview(name, path)
        row |= {"losses": losses(path), "tags": list(note.tags), "note": note.text, "hidden": note.hidden}
        rows.append(row | {"family": family_of(name)})
    return pd.DataFrame(rows)


def losses(path: Path) -> list[float]:
    """A run's losses, thinned to `POINTS` means of neighbours; none where it logged none, or does
    not read."""
    try:
        found = [line["loss"] for line in reading.metrics_of(path) if isinstance(line.get("loss"), float)]
    except InputError:
        return []
    finite = [value for value in found if math.isfinite(value)]
    if len(finite) <= POINTS:
        return finite
    ends = [round(number * len(finite) / POINTS) for number in range(POINTS + 1)]
    return [sum(finite[low:high]) / (high - low) for low, high in itertools.pairwise(ends)]


def visible(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that nobody has hidden."""
    return _those(table, [not hidden for hidden in table["hidden"]])


def searched(table: pd.DataFrame, words: str) -> pd.DataFrame:
    """Rows that have all the words somewhere in what is text or a setting, whatever their case."""
    wanted = words.lower().split()
    if not wanted or table.empty:
        return table
    columns = [name for name in ("name", *FILTERS, "note", "results", "seed") if name in table]
    texts = [" ".join(map(_text, row)).lower() for row in table[columns].itertuples(index=False)]
    return _those(table, [all(word in text for word in wanted) for text in texts])


def choices(table: pd.DataFrame) -> list[str]:
    """What can be filtered by: "objective: mae", of every column whose rows differ."""
    found = []
    for column in FILTERS:
        if column in table:
            values = sorted({part for value in table[column] for part in _parts(value)})
            if len(values) > 1 or (column == "tags" and values):
                found += [f"{column}: {value}" for value in values]
    return found


def filtered(table: pd.DataFrame, chosen: Sequence[str]) -> pd.DataFrame:
    """Rows that have, of each column that is chosen from, one of the values chosen."""
    wanted: dict[str, set[str]] = {}
    for choice in chosen:
        column, _, value = choice.partition(": ")
        wanted.setdefault(column, set()).add(value)
    for column, values in wanted.items():
        if column in table:
            table = _those(table, [not values.isdisjoint(_parts(value)) for value in table[column]])
    return table


def grouped(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """A row a group: what its runs share, how many they are, their names, and of each measure the
    mean with half of its 95 % interval over runs (Student's t; NaN for a single run).

    Losses have a mean only where all runs of the group minimise the same.
    """
    rows: list[dict[str, Any]] = []
    keys = [column for column in BY[by] if column in table]
    frame: Any = table  # pandas' own types know neither keys nor columns
    families = frame.groupby("family")["objective"].nunique(dropna=False)
    for values, group in frame.groupby(keys, dropna=False, sort=True):
        name = ", ".join(_text(value) or "unknown" for value in values[: 1 if by == "seeds" else None])
        if by == "seeds" and families[values[0]] > 1:
            name += f", {_text(values[1]) or 'objective unknown'}"
        row: dict[str, Any] = {"group": name, "runs": len(group), "names": list(group["name"])}
        for measure in MEASURES:
            comparable = measure != "loss" or group["objective"].nunique(dropna=False) == 1
            row[measure], row[f"{measure}_half"] = mean(group[measure]) if comparable else (math.nan, math.nan)
        rows.append(row)
    columns = ["group", "runs", *(part for one in MEASURES for part in (one, f"{one}_half")), "names"]
    return pd.DataFrame(rows, columns=columns)


def sentence(table: pd.DataFrame) -> str:
    """What the table says, in a sentence: how many runs of what, and the highest accuracy by
    neighbours, over seeds where there are several, among the runs of one data source."""
    states = ", ".join(f"{count} {state.partition(':')[0]}" for state, count in table["state"].value_counts().items())
    text = f"{len(table)} run{'' if len(table) == 1 else 's'} ({states})"
    if "knn" not in table or not any(_is_known(value) for value in table["knn"]):
        return f"{text}; none has logged its kNN accuracy."
    known, text = table.loc[[_is_known(value) for value in table["knn"]]], f"{text}; "
    if "data" in known and known["data"].nunique() > 1:  # accuracies on other images are no rivals
        data = known["data"].value_counts().idxmax()
        known, text = known.loc[known["data"] == data], f"{text}on {data}, "
    groups = grouped(known, "seeds")
    several: Any = groups.loc[groups["knn_half"].notna()]
    if not several.empty:
        best = several.loc[several["knn"].idxmax()]
        half = f"{best['knn'] * 100:.1f} ± {best['knn_half'] * 100:.1f} % over {best['runs']} runs"
        numbers = {
            row["group"]: Number(row["knn"], row["knn"] - row["knn_half"], row["knn"] + row["knn_half"])
            for row in several.to_dict("records")
        }
        found = best_of(numbers, "highest")
        alike = "" if found is None else found.caution("group")
        return f"{text}with seeds together, {best['group']} has the highest mean kNN accuracy, {half}{alike}."
    best = known.loc[known["knn"].astype(float).idxmax()]
    accuracy = f"{best['knn']:.1%}".replace("%", " %")
    return f"{text}{best['name']} has the highest kNN accuracy, {accuracy}, of a single run, so without an interval."


def _is_known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def mean(values: Iterable[Any]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return math.nan, math.nan
    middle = sum(known) / len(known)
    if len(known) == 1:
        return middle, math.nan
    deviation = math.sqrt(sum((value - middle) ** 2 for value in known) / (len(known) - 1))
    return middle, student(len(known) - 1) * deviation / math.sqrt(len(known))


def _those(table: pd.DataFrame, wanted: Sequence[bool]) -> pd.DataFrame:
    rows: Any = table[list(wanted)]
    return rows


def _parts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(part) for part in value]
    text = _text(value)
    return [text] if text else []


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
