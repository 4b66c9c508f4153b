"""Trained at one masking ratio, tested at another: what the numbers of all runs say, by training
and test ratio. No torch; `lcmae.probes.grids.ratio_matrix` measures them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.grids.table import describe
from lcmae.probes.grids.verdict import Key, verdict
from lcmae.probes.results.store import load_result

FILE = "matrix.nc"
LOSS, KNN = "local_contrast.loss", "mean_knn"
"""Measures by the names that comparisons know them by."""
_SHARE = "share of test images"
MEASURES = {
    LOSS: ("masked loss, mean squared error over hidden patches", "squared units of the target"),
    KNN: ("kNN accuracy, mean token of visible patches", _SHARE),
    "mean_linear": ("ridge accuracy, mean token of visible patches", _SHARE),
    "spectrum.effective_rank": ("effective rank, mean token of visible patches", "dimensions"),
}
_PARTS = ("mean", "low", "high", "may_be_best")


def assembled(found: dict[str, xr.Dataset], keys: dict[str, tuple[Key, int]], images: int) -> xr.Dataset:
    """Means over seeds with intervals along `cell` (in the order of training ratios) and
    `test_ratio`, and which cells may be the best at each."""
    ratios = next(iter(found.values()))["test_ratio"]
    cells = sorted({key for key, _ in keys.values()}, key=lambda key: (key[0], key[1], key[3] or 0, key[2]))
    shape = (len(cells), len(ratios))
    variables: dict[str, Any] = {}
    for name, (long_name, units) in MEASURES.items():
        parts = {part: np.full(shape, np.nan) for part in _PARTS}
        for column in range(len(ratios)):
            table = _table(found, keys, name, column, images)
            if table is None:
                continue
            verdicts = {cell.key: cell for cell in verdict(table, name).cells}
            for row, key in enumerate(cells):
                if key in verdicts:
                    for part, values in parts.items():
                        value = getattr(verdicts[key], part)
                        values[row, column] = np.nan if value is None else float(value)
        about = {"units": units}
        short = name.rpartition(".")[2]
        for part, values in parts.items():
            words = {
                "mean": long_name,
                "may_be_best": f"{long_name}: may be the best at this test ratio (1) or not (0)",
            }
            own = {"units": "1"} if part == "may_be_best" else about
            label = words.get(part, f"{long_name}, {part} end of the 95 % interval over seeds")
            variables[f"{short}_{part}"] = (("cell", "test_ratio"), values, {**own, "long_name": label})
    seeds = [sum(key == one for one, _ in keys.values()) for key in cells]
    coords = {
        "name": ("cell", [_short(key, cells) for key in cells]),
        "train_ratio": (
            "cell",
            [key[2] for key in cells],
            {"long_name": "masking ratio of the training", "units": "1"},
        ),
        "num_seeds": ("cell", seeds, {"long_name": "seeds", "units": "runs"}),
        "test_ratio": ratios,
    }
    return xr.Dataset(variables, coords, {"images": images})


def _short(key: Key, cells: Sequence[Key]) -> str:
    """A cell without the objective where all have the same."""
    words = describe(key).split(", ")
    return ", ".join(words[1:] if len({one[0] for one in cells}) == 1 else words)


def _table(
    found: dict[str, xr.Dataset], keys: dict[str, tuple[Key, int]], name: str, column: int, images: int
) -> xr.Dataset | None:
    """One measure at one test ratio, in the form of a comparison's table; None where no run has
    it."""
    values = np.array([float(found[run][name][column]) for run in keys])
    if not np.isfinite(values).any():
        return None
    rows = [key for key, _ in keys.values()]
    columns: dict[str, Any] = {
        part: np.array([key[number] for key in rows], dtype=object) for number, part in enumerate(("objective", "mask"))
    }
    columns["ratio"] = np.array([key[2] for key in rows], dtype=float)
    columns["unit"] = np.array([np.nan if key[3] is None else key[3] for key in rows], dtype=float)
    columns["seed"] = np.array([seed for _, seed in keys.values()], dtype=float)
    columns["status"] = np.array(["done"] * len(rows), dtype=object)
    columns["num_test_images"] = np.full(len(rows), float(images))
    columns["train_seconds"] = columns["probe_seconds"] = np.full(len(rows), np.nan)
    table = xr.Dataset({part: ("row", data, {"units": "1"}) for part, data in columns.items()})
    return table.assign({name: ("row", values, dict(found[next(iter(keys))][name].attrs))})


def read_matrix(file: Path) -> xr.Dataset:
    """A stored matrix. `InputError` of one line for a missing, damaged or foreign file."""
    found = load_result(file)
    wanted = {f"{name.rpartition('.')[2]}_{part}" for name in MEASURES for part in _PARTS}
    axes = {"name": ("cell",), "train_ratio": ("cell",), "num_seeds": ("cell",), "test_ratio": ("test_ratio",)}
    axes |= dict.fromkeys(wanted, ("cell", "test_ratio"))
    if any(name not in found or found[name].dims != dims for name, dims in axes.items()) or "images" not in found.attrs:
        raise InputError(f"expected what lcmae compare --matrix writes in {file}, got another form")
    if any(found[name].dtype.kind not in "fiu" for name in axes if name != "name"):
        raise InputError(f"expected numbers in {file}, got text")
    return found


# --- in words ---


def sentences(together: xr.Dataset) -> list[str]:
    """For loss and kNN: which training leads at which test ratios, and where the others are ruled
    out; how often the ratio of the training is that of the test."""
    found = []
    for short, label, sign in (("loss", "Masked loss", -1), ("mean_knn", "kNN accuracy", 1)):
        mean = sign * together[f"{short}_mean"].values
        columns = [column for column in range(mean.shape[1]) if np.isfinite(mean[:, column]).any()]
        if not columns or len(mean) < 2:
            continue
        leads: dict[int, list[int]] = {}
        for column in columns:
            leads.setdefault(int(np.nanargmax(mean[:, column])), []).append(column)
        parts = [_lead(together, short, row, mine) for row, mine in leads.items()]
        found.append(f"{label}: {'; '.join(parts)}.")
        diagonal = _diagonal(together, short, leads)
        if diagonal:
            found.append(diagonal)
    return found


def _lead(together: xr.Dataset, short: str, row: int, columns: Sequence[int]) -> str:
    ratios = together["test_ratio"].values
    best = together[f"{short}_may_be_best"].values
    alone = [column for column in columns if np.nansum(best[:, column]) == 1]
    beyond = (
        "beyond chance"
        if alone == list(columns)
        else f"beyond chance at {_listed([ratios[column] for column in alone])}"
        if alone
        else "not beyond chance"
    )
    name = str(together["name"].values[row])
    plural = "ratio" if len(columns) == 1 else "ratios"
    return f"trained with {name} leads at test {plural} {_listed([ratios[column] for column in columns])}, {beyond}"


def _diagonal(together: xr.Dataset, short: str, leads: dict[int, list[int]]) -> str:
    """How often a cell leads at its own ratio, over test ratios that were trained at."""
    trained = together["train_ratio"].values
    ratios = together["test_ratio"].values
    leader = {column: row for row, columns in leads.items() for column in columns}
    own = [column for column in leader if ratios[column] in trained]
    if not own:
        return ""
    hits = sum(bool(trained[leader[column]] == ratios[column]) for column in own)
    what = "loss" if short == "loss" else "kNN accuracy"
    return f"The best {what} is of the training at the test's own ratio at {hits} of {len(own)} test ratios."


def _listed(ratios: Sequence[float]) -> str:
    words = [f"{ratio:g}" for ratio in ratios]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
