"""One row of a comparison's table: what a finished run is, was, and says of itself."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from lcmae.config import RunConfig
from lcmae.probes.grids.cells import UNIT_FIELDS, Cell
from lcmae.probes.grids.flops import flops_an_image
from lcmae.probes.grids.table import Row
from lcmae.probes.results.networks import BASELINES, NETWORK
from lcmae.runs.run import Run
from lcmae.settings import parse


def describe_run(cell: Cell, run: Run) -> tuple[Row, dict[str, tuple[str, str]]]:
    """Settings, accuracies, last loss and time of a finished run, and what its columns mean."""
    config = parse(RunConfig, run.config)
    lines = run.metrics()
    steps = [line for line in lines if "seconds_per_step" in line]
    counts = [
        line["step"] - before for line, before in zip(steps, [0, *(line["step"] for line in steps)], strict=False)
    ]
    num_steps = run.steps()[-1]
    num_masks = getattr(config.objective, "num_masks", 1)
    grid = config.model.grid
    unit = getattr(config.objective.mask, UNIT_FIELDS.get(run.config["objective"]["mask"]["kind"], ""), None)
    row: Row = {
        **settings_row(cell),
        "unit": 1 if unit is None and cell.mask == "random" else unit,
        "status": "done",
        "data": config.data,
        "hidden_share": config.objective.mask.num_hidden(grid) / (grid[0] * grid[1]),
        "epochs": config.epochs,
        "steps": num_steps,
        "image_mask_pairs": num_steps * config.batch_size * num_masks,
        "train_seconds": sum(line["seconds_per_step"] * n for line, n in zip(steps, counts, strict=True)),
    }
    row["train_gflop"] = 1e-9 * flops_an_image(config) * num_steps * config.batch_size
    columns: dict[str, tuple[str, str]] = {"train_gflop": ("FLOP of training, by formula", "GFLOP")}
    measured = [line for line in lines if "mean_knn" in line]
    for name, (long_name, units) in _ACCURACIES.items():
        if measured and name in measured[-1]:
            row[name], columns[name] = measured[-1][name], (long_name, units)
    if measured and "num_test_images" in measured[-1]:
        row["num_test_images"] = measured[-1]["num_test_images"]
        columns["num_test_images"] = "test images behind the accuracies", "images"
    space = "variance of a patch" if getattr(config.model, "normalize_targets", False) else "squared input units"
    for name, long_name in (("loss", "training loss, last lines"), ("collapse", "collapse level, last lines")):
        values = [line[name] for line in steps if name in line][-5:]
        if values:
            row[f"train_{name}"], columns[f"train_{name}"] = sum(values) / len(values), (long_name, space)
    return row, columns


_ACCURACIES = {
    f"{feature}_{name}": (f"{long_name}, {words}", units)
    for feature, words in (("mean", "mean token"), ("cls", "class token"))
    for name, long_name, units in (
        ("knn", "kNN accuracy", "share of test images"),
        ("linear", "ridge accuracy", "share of test images"),
        ("effective_rank", "effective rank", "dimensions"),
    )
}


def settings_row(cell: Cell) -> Row:
    """The columns that a cell decides."""
    return {
        "run": cell.name, "objective": cell.objective, "mask": cell.label, "ratio": cell.ratio, "unit": cell.unit,
        "seed": cell.seed,
    }  # fmt: skip


def add_scalars(row: Row, columns: dict[str, tuple[str, str]], probe: str, file: Path) -> None:
    """Every single number of a probe's result, as `probe.name` or `probe.name[part]`; errors as
    `.sem`."""
    from lcmae.probes.jobs.batch import scalars
    from lcmae.probes.results.catalogue import load

    result = load(file, probe)
    for label, (value, sem) in scalars(result).items():
        attrs = _attrs_of(result, label.partition("[")[0])
        part = label.partition("[")[2].rstrip("]")
        long_name = f"{attrs['long_name']}, {part.replace('_', ' ')}" if part else str(attrs["long_name"])
        row[f"{probe}.{label}"] = value
        columns[f"{probe}.{label}"] = long_name, str(attrs["units"])
        if math.isfinite(sem):
            row[f"{probe}.{label}.sem"] = sem
            columns[f"{probe}.{label}.sem"] = f"standard error over images: {long_name}", str(attrs["units"])


def _attrs_of(result: xr.Dataset, name: str) -> dict[str, Any]:
    """Attributes of a variable; for `NAME_untrained` and other baselines, of NAME with the network
    in its long name."""
    if name in result:
        return dict(result[name].attrs)
    for network in map(str, result[NETWORK].values if NETWORK in result.dims else ()):
        if name.removesuffix(f"_{network}") in result:
            attrs = result[name.removesuffix(f"_{network}")].attrs
            return {**attrs, "long_name": f"{attrs['long_name']}, {BASELINES.get(network, network)}"}
    raise KeyError(name)


def without_nan(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
