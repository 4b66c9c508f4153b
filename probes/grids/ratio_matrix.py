"""Trained at one masking ratio, tested at another: loss and features of any set of runs at every
test ratio.

    OUT/<run>.nc      one run: its numbers along `test_ratio`, and what it was asked
    OUT/matrix.nc     all runs: cells x test ratios, means over seeds with 95 % intervals

Test masks are random ones, the same for all runs, so a row differs from its neighbours by the
training alone. Features are mean tokens of what is visible, of training images (the bank of the
nearest neighbours, what the linear map is fitted on) and of test images alike; test ratio 0 is
whole images, which have no loss. Runs that differ by seed alone are a cell; statistics are those of
a comparison (`lcmae.probes.grids.verdict`), for each test ratio apart."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.probes.grids.ratio_verdict import FILE, MEASURES, assembled
from lcmae.probes.grids.verdict import Key
from lcmae.probes.results.store import load_result, save_result
from lcmae.runs.durable import make_folder
from lcmae.runs.run import Run, find_runs
from lcmae.settings import parse

TEST_RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9)
Report = Callable[[str, int, int], object]
"""report(run, runs done, runs in all), after each run."""


# --- one run ---


def measure(
    run: Run,
    test_ratios: Sequence[float],
    *,
    images: int = 360,
    seed: int = 0,
    device: str | None = None,
    opened: dict[str, Any] | None = None,
) -> xr.Dataset:
    """Loss and features of a run's newest checkpoint at every test ratio; `opened` has the images
    of runs before, by what decides them. `InputError` where the
    run has no checkpoint, or a ratio does not fit its grid."""
    import torch

    from lcmae.formats import load

    config = parse(RunConfig, run.config)
    _check_ratios(test_ratios, config)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load(run.path, device=device)
    train, test = _images(config, images, {} if opened is None else opened)
    found = np.full((len(MEASURES), len(test_ratios)), np.nan)
    for column, ratio in enumerate(test_ratios):
        found[:, column] = _at(model, train, test, ratio, seed)
    variables = {
        name: xr.Variable("test_ratio", row, {"long_name": long_name, "units": units})
        for row, (name, (long_name, units)) in zip(found, MEASURES.items(), strict=True)
    }
    ratios = xr.Variable("test_ratio", list(test_ratios), {"long_name": "masking ratio of the test", "units": "1"})
    return xr.Dataset(variables, {"test_ratio": ratios}, asked(run, test_ratios, images, seed))


def _images(config: RunConfig, images: int, opened: dict[str, Any]) -> Any:
    from lcmae.training.train import open_training_data

    shape = (config.model.image_size, config.model.patch_size, config.model.channels)
    name = repr((config.data, config.limit, config.monitor_images, shape, images))
    if name not in opened:
        limits = {"train": config.monitor_images, "test": images}
        opened[name] = [open_training_data(config, split, limit=limit) for split, limit in limits.items()]
    return opened[name]


def _at(model: Any, train: Any, test: Any, ratio: float, seed: int) -> list[float]:
    """The measures at one ratio, in their order; NaN for what images without classes, or whole
    images, do not have."""
    from lcmae.training.monitor import evaluate

    bank, _ = _pass(model, train, ratio, ("train", seed))
    features, loss = _pass(model, test, ratio, ("test", seed))
    if train.labels is None or test.labels is None:
        return [loss, np.nan, np.nan, np.nan]
    values = evaluate(bank, train.labels, features, test.labels)
    return [loss, values["knn"], values["linear"], values["effective_rank"]]


def _pass(model: Any, source: Any, ratio: float, purpose: tuple[str, int], batch: int = 256) -> tuple[Any, float]:
    """Mean tokens of visible patches [b d] on the CPU, and the masked loss, NaN at ratio 0."""
    import torch

    from lcmae.masking import Random
    from lcmae.objectives.base import masked_squared_error
    from lcmae.randomness import generator

    rng = generator("ratio matrix", *purpose, round(1e6 * ratio), device=model.device)
    features, errors, counts = [], [], []
    with torch.inference_mode():
        for first in range(0, len(source), batch):
            images = model.prepare(source[slice(first, first + batch)])
            if ratio == 0:
                features.append(model(images).feature("mean").cpu())
                continue
            mask = Random(ratio=ratio)(len(images), model.grid, rng)
            out = model(images, mask)
            features.append(out.feature("mean").cpu())
            errors.append(float(masked_squared_error(out.pred, model.targets(images), mask.is_hidden)))
            counts.append(len(images))
    loss = float(np.average(errors, weights=counts)) if errors else np.nan
    return torch.cat(features), loss


def _check_ratios(test_ratios: Sequence[float], config: RunConfig) -> None:
    from lcmae.masking import Random

    for ratio in test_ratios:
        if ratio:
            parse(Random, {"ratio": ratio}).check(config.model.grid)


def asked(run: Run, test_ratios: Sequence[float], images: int, seed: int) -> dict[str, Any]:
    """All that decides a run's numbers, as attributes of its file."""
    steps = run.steps()
    if not steps:
        raise InputError(f"expected a published checkpoint in {run.path}, got none")
    checkpoint = run.checkpoint(steps[-1])
    return {
        "sha256": checkpoint.sha256,
        "step": checkpoint.step,
        "test_ratios": " ".join(f"{ratio:g}" for ratio in test_ratios),
        "images": images,
        "seed": seed,
    }


# --- many runs ---


def matrix(
    folder: Path,
    out: Path,
    test_ratios: Sequence[float] = TEST_RATIOS,
    *,
    images: int = 360,
    seed: int = 0,
    device: str | None = None,
    report: Report | None = None,
) -> xr.Dataset:
    """Cells x test ratios of every run below a folder; runs that are measured already are read.
    `InputError` where there is no run, or where they are of different images."""
    every = _named(folder)
    runs = {name: run for name, run in every.items() if _is_done(run)}
    if not runs:
        raise InputError(f"expected finished runs below {folder}, found none: `lcmae compare` makes some")
    keys = cells_of(runs)
    make_folder(out)
    found: dict[str, xr.Dataset] = {}
    opened: dict[str, Any] = {}
    for number, (name, run) in enumerate(runs.items(), start=1):
        file = out / f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}.nc"
        wanted = asked(run, test_ratios, images, seed)
        stored = load_result(file) if file.is_file() else None
        if stored is None or {name: stored.attrs.get(name) for name in wanted} != wanted:
            stored = measure(run, test_ratios, images=images, seed=seed, device=device, opened=opened)
            save_result(stored, file)
        found[name] = stored
        if report is not None:
            report(name, number, len(runs))
    together = assembled(found, keys, images)
    together.attrs["left_out"] = ", ".join(name for name in every if name not in runs)
    save_result(together, out / FILE)
    return together


def _is_done(run: Run) -> bool:
    """Whether training came to its end, as far as the newest checkpoint knows."""
    steps = run.steps()
    num_steps = run.checkpoint(steps[-1]).num_steps if steps else None
    return bool(steps) and (num_steps is None or steps[-1] >= num_steps)


def _named(folder: Path) -> dict[str, Run]:
    return {
        str(path.relative_to(folder)) if path != folder else path.name: Run.open(path) for path in find_runs(folder)
    }


def cells_of(runs: dict[str, Run]) -> dict[str, tuple[Key, int]]:
    """Cell and seed of each run: runs that differ by seed alone are a cell. A cell is named by its
    objective, mask and ratio, and where two are called the same by its folder, too. `InputError`
    for runs of different images, or two of one seed."""
    configs = {name: parse(RunConfig, run.config) for name, run in runs.items()}
    first_name, first = next(iter(configs.items()))
    for name, config in configs.items():
        for what, one, other in (
            ("data", first.data, config.data),
            ("images of", first.model.image_size, config.model.image_size),
            ("targets normalised", first.model.normalize_targets, config.model.normalize_targets),
        ):
            if one != other:
                raise InputError(
                    f"expected runs on the same images, got {what} {one} in {first_name} and {other} in {name}: "
                    "give a folder of one of them"
                )
    groups: dict[str, list[str]] = {}
    for name, config in configs.items():
        groups.setdefault(config.model_copy(update={"seed": 0}).model_dump_json(), []).append(name)
    plain = {text: _key(configs[names[0]]) for text, names in groups.items()}
    found = {}
    for text, names in groups.items():
        key = plain[text]
        if list(plain.values()).count(key) > 1:
            parent = Path(names[0]).parent.name or Path(names[0]).name
            key = (key[0], f"{key[1]} ({parent})", *key[2:])
        for name in names:
            found[name] = (key, configs[name].seed)
    if len(set(found.values())) < len(found):
        twice = next(name for name, one in found.items() if list(found.values()).count(one) > 1)
        raise InputError(f"expected runs that can be told apart by mask, folder or seed, got {twice} twice")
    return found


def _key(config: RunConfig) -> Key:
    from lcmae.probes.grids.cells import SCHEDULES, UNIT_FIELDS

    mask, schedule = config.objective.mask, config.ratio_schedule
    kind = mask.model_dump()["kind"]
    unit = getattr(mask, UNIT_FIELDS.get(kind, ""), 1 if kind == "random" else None)
    name = "random" if kind == "coarse_random" else kind
    if schedule is not None:
        values = schedule.model_dump()
        words = {known: word for word, (known, _) in SCHEDULES.items()}
        numbers = [f"{value:g}" for field, value in values.items() if field != "kind"][:2]
        name = f"{name} {':'.join([words.get(schedule.kind, schedule.kind), *numbers])}"
    return (config.objective.model_dump()["kind"], name, mask.ratio, unit)
