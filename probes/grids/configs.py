"""From a cell of a grid to the config of its run: the recipe of its objective, with the cell's
mask, schedule of the ratio, seed and epochs."""

import json
import math
from typing import Any

from lcmae.config import RunConfig
from lcmae.errors import InputError, did_you_mean
from lcmae.masking import STRATEGIES, MaskStrategy
from lcmae.probes.grids.cells import UNIT_FIELDS, Cell, Comparison, cells, schedule_settings
from lcmae.recipes import RECIPES, recipe
from lcmae.settings import parse

_OWN_FIELDS = ("data", "epochs", "warmup_epochs", "seed", "objective.mask", "objective.kind", "ratio_schedule")
"""Fields of a config that the grid decides, so that `set` must not."""
FAMILIES = ("digits", "hierarchy", "cifar10")
"""Recipes by the data that they are meant for."""


def config_of(comparison: Comparison, cell: Cell, epochs: int | None = None) -> RunConfig:
    """The config of one run: the recipe of its objective, the cell's mask, schedule and seed; by
    default with the epochs of equal image-mask pairs."""
    family = _family(comparison)
    name = f"{cell.objective}-{family}"
    if name not in RECIPES:
        known = [recipe.removesuffix(f"-{family}") for recipe in RECIPES if recipe.endswith(f"-{family}")]
        if not known:
            raise InputError(f"expected recipes {', '.join(FAMILIES)}, got {family!r}")
        wrong = f"expected an objective out of {', '.join(known)}, got {cell.objective!r}"
        raise InputError(wrong + did_you_mean(cell.objective, known))
    base = recipe(name)
    values = base.model_dump(mode="json")
    for change in comparison.set:
        _change(values, change)

    num_masks = values["objective"].get("num_masks", 1)
    if epochs is None and comparison.epochs % num_masks:
        raise InputError(
            f"expected epochs in multiples of {num_masks} (masks an image, for equal image-mask pairs), "
            f"got {comparison.epochs}"
        )
    own_epochs = comparison.epochs // num_masks if epochs is None else epochs
    values["objective"]["mask"] = mask_of(cell, comparison.guide).model_dump(mode="json")
    values |= {"data": comparison.data, "seed": cell.seed, "epochs": own_epochs}
    if cell.schedule is not None:
        values["ratio_schedule"] = schedule_settings(cell.schedule)
    values["warmup_epochs"] = own_epochs * base.warmup_epochs / base.epochs
    # a killed run loses at most a quarter; accuracies are looked at once, at the end
    values |= {"checkpoint_every": max(1, own_epochs // 4), "monitor_every": 0}
    return parse(RunConfig, values)


def _family(comparison: Comparison) -> str:
    if comparison.recipes != "auto":
        return comparison.recipes
    kind = comparison.data.partition(":")[0]
    return kind if kind in FAMILIES else "cifar10"


def masks_an_image(comparison: Comparison) -> int:
    """Least common multiple of the masks an image of the comparison's objectives: epochs come in
    multiples of it."""
    first = {cell.objective: cell for cell in cells(comparison.model_copy(update={"epochs": 2**20}))}
    found = 1
    for objective, cell in first.items():
        name = f"{objective}-{_family(comparison)}"
        if name not in RECIPES:
            config_of(comparison, cell)  # says which objectives there are
        found = math.lcm(found, getattr(recipe(name).objective, "num_masks", 1))
    return found


def mask_of(cell: Cell, guide: str | None = None) -> MaskStrategy:
    """The cell's strategy. `InputError` for an unknown one, or settings that it does not take."""
    kind = "coarse_random" if cell.mask == "random" and cell.unit not in (None, 1) else cell.mask
    if kind not in STRATEGIES:
        raise InputError(
            f"expected a mask out of {', '.join(STRATEGIES)}, got {kind!r}{did_you_mean(kind, STRATEGIES)}"
        )
    settings: dict[str, Any] = {"ratio": cell.ratio}
    if kind in UNIT_FIELDS and cell.unit is not None:
        settings[UNIT_FIELDS[kind]] = cell.unit
    if STRATEGIES[kind].needs_images:
        if guide is None:
            raise InputError(f"expected --guide CHECKPOINT with the mask {kind}, which follows its content, got none")
        settings["checkpoint"] = guide
    return parse(STRATEGIES[kind], settings)


def _change(values: dict[str, Any], change: str) -> None:
    """Apply FIELD=VALUE; which fields there are is checked with the whole config."""
    name, equals, text = change.partition("=")
    if not equals or not name:
        raise InputError(f"expected --set FIELD=VALUE, got {change!r}")
    if name.startswith("ratio_schedule"):
        raise InputError(f"expected schedules of the ratio as --schedules uniform:0.5:0.9, got --set {name}")
    if name in _OWN_FIELDS or name.startswith("objective.mask"):
        raise InputError(f"expected --set of fields that the grid does not decide, got {name}")
    *path, last = name.replace("-", "_").split(".")
    for part in path:
        inner = values.get(part)
        if part not in values or not isinstance(inner, dict | None):
            raise InputError(f"expected --set with the name of a field, got {name!r}")
        values[part] = inner = {} if inner is None else inner
        values = inner
    try:
        values[last] = json.loads(text)
    except ValueError:
        values[last] = text
