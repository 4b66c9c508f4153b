"""The numbers of stored results as a table: every scalar and short array with its standard error and interval."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr

from app.figures.series import bounds

MAX_LENGTH = 64
"""Arrays larger than this are drawn, not listed."""

DRAWN = frozenset({"row", "column", "y", "x", "picture", "point"})
"""Places and pictures: drawn, not listed."""

NOT_PROVENANCE = ("question", "command")
"""Attributes of results that are shown elsewhere."""

COLUMNS = ("run", "quantity", "part", "value", "standard error", "low (95 %)", "high (95 %)", "unit")


def scalars(results: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row per run, variable and coordinate. Intervals are the stored ones, else value ± 1.96 standard errors."""
    rows = [row for name, result in results.items() for row in _rows(name, result)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(name: str, result: xr.Dataset) -> list[tuple]:
    rows = []
    for key, variable in result.data_vars.items():
        is_number = variable.dtype.kind in "fiub"
        is_drawn = variable.size > MAX_LENGTH or not DRAWN.isdisjoint(variable.dims)
        if str(key).endswith(("_sem", "_interval", "_groups")) or not is_number or is_drawn:
            continue
        errors = result.get(f"{key}_sem", xr.full_like(variable, np.nan, dtype=float))
        low, high = bounds(result, str(key))
        parts = [", ".join(map(str, part)) for part in product(*(variable[dim].values for dim in variable.dims))]
        columns = (np.asarray(column, dtype=float).reshape(-1).tolist() for column in (variable, errors, low, high))
        quantity, unit = str(variable.attrs["long_name"]), str(variable.attrs["units"])
        for part, *numbers in zip(parts, *columns, strict=True):
            rows.append((name, quantity, str(part).replace("_", " "), *numbers, unit))
    return rows


def provenance(results: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Where results come from: a row per attribute (checkpoint, data, number of images, seed, settings), a column per run."""
    known = {name: {str(key): str(value) for key, value in result.attrs.items()} for name, result in results.items()}
    rows = [row for row in dict.fromkeys(key for about in known.values() for key in about) if row not in NOT_PROVENANCE]
    return pd.DataFrame({"": rows, **{name: [about.get(row, "") for row in rows] for name, about in known.items()}})
