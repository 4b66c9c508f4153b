"""From a cell of a comparison to the command that trains it."""

from shlex import quote
from typing import Any

from lcmae.probes.grids.cells import Cell, Comparison
from lcmae.probes.grids.configs import config_of
from lcmae.probes.grids.verdict import Key
from lcmae.recipes import recipe

RECIPES = "cifar10-small"
"""The recipes of `lcmae advise`, mae-cifar10-small for one: small networks."""


def train_command(base: Comparison, key: Key) -> str:
    """`lcmae train` with the config of a run of this mask, as it was (or would be) tested, but that
    epochs of warm-up are rounded: 33, not 33.3333."""
    objective, mask, ratio, unit = key
    name = f"{objective}-{RECIPES}"
    config = config_of(base, Cell(mask, ratio, unit, objective, 0))
    warmup = config.warmup_epochs
    rounded = float(f"{warmup:.0f}" if warmup >= 10 else f"{warmup:.2g}")
    config = config.model_copy(update={"checkpoint_every": 0, "warmup_epochs": rounded})
    wanted, start = config.model_dump(mode="json"), recipe(name).model_dump(mode="json")
    words = ["lcmae", "train", name]
    kind = wanted["objective"]["mask"]["kind"]
    if kind != start["objective"]["mask"]["kind"]:
        words += ["--mask", kind]
        own = type(config.objective.mask)(ratio=start["objective"]["mask"]["ratio"])
        start["objective"]["mask"] = own.model_dump(mode="json")
    for path, value in _changes(wanted, start):
        option = f"--{path.replace('_', '-')}"
        values = value if isinstance(value, list) else [value]
        words += [option, *(f"{one:.6g}" if isinstance(one, float) else str(one) for one in values)]
    return " ".join(map(quote, words))


def _changes(wanted: dict[str, Any], start: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in wanted.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, dict) and isinstance(start.get(name), dict):
            found += _changes(value, start[name], here)
        elif value != start.get(name):
            found.append((here, value))
    return found
