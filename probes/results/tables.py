"""The numbers of stored results as a table: every scalar and short array with its standard error
and interval."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr

from lcmae.probes.statistics import intervals

MAX_LENGTH = 64
"""Arrays larger than this are drawn, not listed."""

DRAWN = frozenset({"row", "column", "y", "x", "picture", "point", "drawn"})
"""Places and pictures: drawn, not listed."""

NOT_PROVENANCE = ("question", "command")
"""Attributes of results that are shown elsewhere."""

COLUMNS = ("run", "quantity", "part", "value", "standard error", "low (95 %)", "high (95 %)", "unit")


def scalars(results: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row per run, variable and coordinate. Intervals are the stored ones, else value ± 1.96
    standard errors."""
    rows = [row for name, result in results.items() for row in _rows(name, result)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(name: str, result: xr.Dataset) -> list[tuple]:
    return [
        (name, cell.quantity, cell.part, cell.value, cell.error, cell.low, cell.high, cell.unit)
        for cell in cells(result)
    ]


@dataclass(frozen=True)
class Cell:
    """One number of a result, with the ends of its 95 % interval; NaN for an error that is not
    stored."""

    variable: str
    place: tuple[int, ...]
    """Of the number in its variable."""

    quantity: str
    part: str
    value: float
    error: float
    low: float
    high: float
    unit: str


def cells(result: xr.Dataset) -> Iterator[Cell]:
    """Every number that is listed, variable by variable."""
    for key, variable in result.data_vars.items():
        is_number = variable.dtype.kind in "fiub"
        is_drawn = variable.size > MAX_LENGTH or not DRAWN.isdisjoint(variable.dims)
        if str(key).endswith(("_sem", "_interval", "_groups")) or not is_number or is_drawn:
            continue
        errors = result.get(f"{key}_sem", xr.full_like(variable, np.nan, dtype=float))
        low, high = intervals.ends(result, str(key))
        labels = product(*(variable[dim].values for dim in variable.dims))
        parts = [", ".join(map(str, label)).replace("_", " ") for label in labels]
        columns = (np.asarray(column, dtype=float).reshape(-1).tolist() for column in (variable, errors, low, high))
        quantity, unit = str(variable.attrs["long_name"]), str(variable.attrs["units"])
        places = np.ndindex(variable.shape)
        for place, part, value, error, bottom, top in zip(places, parts, *columns, strict=True):
            yield Cell(str(key), place, quantity, part, value, error, bottom, top, unit)


def provenance(results: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Where results come from: a row per attribute (checkpoint, data, number of images, seed,
    settings), a column per run."""
    known = {name: {str(key): str(value) for key, value in result.attrs.items()} for name, result in results.items()}
    rows = [row for row in dict.fromkeys(key for about in known.values() for key in about) if row not in NOT_PROVENANCE]
    return pd.DataFrame({"": rows, **{name: [about.get(row, "") for row in rows] for name, about in known.items()}})
