"""The table of a comparison: one row a run, as Parquet; means, spreads and paired intervals over
seeds. No torch.

A column's name, unit and meaning travel with it: in the Parquet file as metadata of its field, in
memory as attributes.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from lcmae.errors import InputError
from lcmae.runs.run import write_atomically
from lcmae.safety.files import MIB, read_regular

TABLE = "table.parquet"

MOST = 64 * MIB
"""Bytes of a table or a cell that is read."""

SETTINGS = ("objective", "mask", "ratio", "unit")
"""Columns that tell cells apart; `seed` tells the runs of a cell apart."""

_TEXT = ("run", "status", "error", "objective", "mask", "data", "note")
_WHOLE = ("unit", "seed", "epochs", "steps", "image_mask_pairs")

ABOUT: dict[str, tuple[str, str]] = {
    "run": ("run folder, below the comparison's", "1"),
    "status": ("done or failed", "1"),
    "error": ("why it failed", "1"),
    "objective": ("objective", "1"),
    "mask": ("mask strategy", "1"),
    "ratio": ("masking ratio", "1"),
    "unit": ("side of the mask unit", "patches"),
    "seed": ("seed", "1"),
    "data": ("data", "1"),
    "hidden_share": ("realised masking ratio", "1"),
    "epochs": ("epochs", "1"),
    "steps": ("optimiser steps", "1"),
    "image_mask_pairs": ("images seen, times masks an image", "1"),
    "train_seconds": ("time of training, without what a kill undid", "s"),
    "probe_seconds": ("time of loading and probing, the last time it was done", "s"),
    "note": ("probes that could not run", "1"),
}
"""Long name and unit of the columns that every table has, in their order."""

Row = dict[str, Any]
Columns = Mapping[str, tuple[str, str]]


def write_table(rows: Sequence[Row], columns: Columns, path: Path) -> None:
    """Write the table whole or not at all. `columns`: long name and unit of what the rows have
    beyond `ABOUT`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {**ABOUT, **columns}
    fields, arrays = [], []
    for name in dict.fromkeys([*ABOUT, *(name for row in rows for name in row)]):
        kind = pa.string() if name in _TEXT else pa.int64() if name in _WHOLE else pa.float64()
        long_name, units = about[name]
        fields.append(pa.field(name, kind, metadata={"long_name": long_name, "units": units}))
        arrays.append(pa.array([row.get(name) for row in rows], kind))
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), file)
    write_atomically(path, file.getvalue())


def read_table(path: Path) -> xr.Dataset:
    """The table along `run`, a variable a column with its `long_name` and `units`; numbers that are
    missing are NaN.

    `InputError` of one line for a missing, damaged or foreign file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(read_regular(path, MOST)))
    except FileNotFoundError as error:
        raise InputError(f"expected the table of a comparison at {path}, found none") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"expected the table of a comparison at {path}, got a damaged or foreign file") from error
    missing = [name for name in ABOUT if name not in table.column_names]
    if missing:
        raise InputError(f"expected the table of a comparison at {path}, got one without {', '.join(missing)}")
    variables = {}
    for field in table.schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        is_text = pa.types.is_string(field.type)
        values = table.column(field.name).to_pandas()
        values = values.fillna("").to_numpy(dtype=object) if is_text else values.to_numpy(dtype=float)
        attrs = {"long_name": metadata.get("long_name", field.name), "units": metadata.get("units", "1")}
        variables[field.name] = xr.Variable("row", values, attrs)
    return xr.Dataset(variables)


def frame(table: xr.Dataset) -> pd.DataFrame:
    """The same as a data frame, for tables on a page and for grouping."""
    return pd.DataFrame({str(name): table[name].values for name in table.data_vars})


def measures(table: xr.Dataset) -> list[str]:
    """Columns that a run is judged by: numbers that are no setting, without standard errors, at
    least one of them known."""
    settings = {*SETTINGS, *_TEXT, "seed", "epochs", "steps", "image_mask_pairs", "hidden_share", "num_test_images"}
    return [
        str(name)
        for name, column in table.data_vars.items()
        if name not in settings
        and not str(name).endswith(".sem")
        and column.dtype.kind == "f"
        and bool(column.notnull().any())
    ]


@dataclass(frozen=True)
class Summary:
    """One measure of one cell over its seeds."""

    num_seeds: int
    mean: float
    spread: float
    """Seed-to-seed standard deviation (n - 1); NaN for one seed."""
    half_width: float
    """Half of the mean's 95 % interval over seeds, by Student's t; NaN for one seed."""


def summarise(values: Sequence[float] | np.ndarray) -> Summary:
    """Mean, spread and interval of the values that are known."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return Summary(0, math.nan, math.nan, math.nan)
    if len(known) == 1:
        return Summary(1, float(known[0]), math.nan, math.nan)
    from scipy.stats import t

    spread = float(known.std(ddof=1))
    reach = float(t.ppf(0.975, len(known) - 1)) / math.sqrt(len(known))
    return Summary(len(known), float(known.mean()), spread, reach * spread)


def paired(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Summary:
    """The difference to the baseline, seed by seed (weights, order of images and probes' masks are
    shared within one)."""
    common = sorted(ours.keys() & baseline.keys())
    return summarise([ours[seed] - baseline[seed] for seed in common])


def by_cell(table: xr.Dataset, measure: str) -> dict[tuple[Any, ...], dict[int, float]]:
    """(objective, mask, ratio, unit) -> seed -> value, for runs that are done, in the order of the
    table."""
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    names = (*SETTINGS, "seed", "status", measure)
    for objective, mask, ratio, unit, seed, status, value in zip(*(table[name].values for name in names), strict=True):
        if status == "done" and math.isfinite(value):
            key = (objective, mask, float(ratio), None if math.isnan(unit) else int(unit))
            found.setdefault(key, {})[int(seed)] = float(value)
    return found


def describe(key: tuple[Any, ...]) -> str:
    """A cell in words: "mae, random, 0.75, unit 2"; a unit of one patch goes without saying."""
    objective, mask, ratio, unit = key
    return f"{objective}, {mask}, {ratio:g}" + ("" if unit in (None, 1) else f", unit {unit}")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is none, or a torn one (it is made again)."""
    try:
        found = json.loads(read_regular(path, MOST))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
