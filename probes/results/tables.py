"""The numbers of stored results as a table: every scalar and short array with its standard error
and interval."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr

from lcmae.probes.results.networks import BASELINES, NETWORK, TRAINED, networks_of
from lcmae.probes.results.words import located
from lcmae.probes.statistics import intervals

MAX_LENGTH = 64
"""Arrays larger than this are drawn, not listed."""

DRAWN = frozenset(
    {
        "row",
        "column",
        "y",
        "x",
        "picture",
        "image",
        "thumbnail",
        "point",
        "drawn",
        "fraction",
        "component",
        "rank",
        "other_explanation",
        "query_layer",
    }
)
"""Places, pictures, curves, matrices and weights: drawn, not listed."""

NOT_PROVENANCE = ("question", "command")
"""Attributes of results that are shown elsewhere."""

COLUMNS = ("run", "quantity", "part", "value", "standard error", "low (95 %)", "high (95 %)", "unit")


def scalars(results: Mapping[str, xr.Dataset], *, in_words: bool = False) -> pd.DataFrame:
    """One row per run, variable and coordinate. Intervals are the stored ones, else those of
    `lcmae.probes.statistics.intervals`. `in_words`: parts as a person reads them (`Cell.where`),
    not as they are stored."""
    rows = [row for name, result in results.items() for row in _rows(name, result, in_words)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(name: str, result: xr.Dataset, in_words: bool) -> list[tuple]:
    return [
        (
            name,
            cell.quantity,
            cell.where if in_words else cell.part,
            cell.value,
            cell.error,
            cell.low,
            cell.high,
            cell.unit,
        )
        for cell in cells(result)
    ]


@dataclass(frozen=True)
class Cell:
    """One number of a result, with the ends of its 95 % interval; NaN for an error that is not
    stored."""

    variable: str
    position: tuple[int, ...]
    """Of the number in its variable."""

    long_name: str
    beside: str
    """The baseline whose number it is; nothing for the model's own."""

    quantity: str
    """`long_name`, and the baseline in words."""

    part: str
    """Its labels as they are stored."""

    value: float
    error: float
    low: float
    high: float
    unit: str
    where: str = ""
    """`part` in words: "layer 3, head 2", "class token, whole images"."""


def cells(result: xr.Dataset) -> Iterator[Cell]:
    """Every number that is listed, variable by variable."""
    for key, variable in result.data_vars.items():
        is_number = variable.dtype.kind in "fiub"
        is_drawn = variable.size > MAX_LENGTH * variable.sizes.get(NETWORK, 1) or not DRAWN.isdisjoint(variable.dims)
        if str(key).endswith(("_sem", "_interval", "_groups", "_without")) or not is_number or is_drawn:
            continue
        name = f"{key}_sem"
        errors = result[name] if name in result else np.full(variable.shape, np.nan)
        low, high = intervals.ends(result, str(key))
        columns = (np.asarray(column, dtype=float).reshape(-1).tolist() for column in (variable, errors, low, high))
        long_name, unit = str(variable.attrs["long_name"]), str(variable.attrs["units"])
        measured = set(networks_of(result, str(key)))
        labels = product(*(_labels(variable, dim) for dim in variable.dims))
        for position, label, value, error, bottom, top in zip(
            np.ndindex(variable.shape), labels, *columns, strict=True
        ):
            parts = dict(zip(variable.dims, label, strict=True))
            network = parts.pop(NETWORK, TRAINED)
            if network != TRAINED and network not in measured:
                continue  # what a baseline has no number for
            beside = "" if network == TRAINED else network
            quantity = f"{long_name}, {BASELINES.get(beside, beside)}" if beside else long_name
            part = ", ".join(parts.values()).replace("_", " ")
            where = ", ".join(located(str(dim), one) for dim, one in parts.items())
            yield Cell(str(key), position, long_name, beside, quantity, part, value, error, bottom, top, unit, where)


def _labels(variable: xr.DataArray, dim: Hashable) -> list[str]:
    return [str(label) for label in variable[dim].values]


def provenance(results: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Where results come from: a row per attribute (checkpoint, data, number of images, seed,
    settings), a column per run."""
    known = {name: {str(key): str(value) for key, value in result.attrs.items()} for name, result in results.items()}
    rows = [row for row in dict.fromkeys(key for about in known.values() for key in about) if row not in NOT_PROVENANCE]
    return pd.DataFrame({"": rows, **{name: [about.get(row, "") for row in rows] for name, about in known.items()}})
