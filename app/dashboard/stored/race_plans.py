"""What a page starts of races and advice, as commands of a terminal, and the advice that lies below
the root. No streamlit, no torch."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcmae.app.dashboard.stored.names import name_of
from lcmae.app.dashboard.stored.taking_apart import free
from lcmae.errors import InputError
from lcmae.probes.grids.statistics import MIN_CELLS
from lcmae.probes.grids.table import read_json
from lcmae.safety.files import is_regular
from lcmae.safety.text import printable

ADVICE, PAGE, RACE = "advice.json", "advice.html", "race.json"
LEAST_EPOCHS = 8
"""Of a race: its first rung takes an eighth of them."""

RUNGS, SEEDS = 3, 3
"""Of a race, and of every rung of one that asks for no more seeds, and of a comparison of fewer
cells."""

FEW_IMAGES, SMALL_BATCH = 512, 32
"""So many images or fewer are trained on in batches of this size."""

PROBED = 360
"""Test images that the probes of a comparison see unasked (`lcmae.probes.grids.cells`)."""

MOST_LINES = 12
"""Reasons that are shown."""


@dataclass(frozen=True)
class Plan:
    """A command, and the folder that it fills."""

    folder: Path
    words: tuple[str, ...]
    """Behind `lcmae`."""

    @property
    def line(self) -> str:
        """For a terminal."""
        return shlex.join(["lcmae", *self.words])


def race(
    root: Path, masks: Sequence[str], ratios: Sequence[float], data: str, epochs: int, images: int | None = None
) -> Plan:
    """A race of cells on a data set, or a comparison of two or three cells with all seeds and
    epochs. `InputError` for fewer than two cells, and for epochs too few for a race."""
    cells = len(set(masks)) * len(set(ratios))
    if cells < 2:
        raise InputError(f"expected at least two cells (masks times ratios) to compare, got {cells}")
    is_race = cells >= MIN_CELLS
    if is_race and epochs < LEAST_EPOCHS:
        raise InputError(
            f"expected at least {LEAST_EPOCHS} epochs for a race (of {MIN_CELLS} cells or more), got {epochs}"
        )
    folder = free(root, "race" if is_race else "comparison")
    words = [
        "compare",
        *(["--race"] if is_race else ["--seeds", str(SEEDS)]),
        "--masks",
        ",".join(masks),
        "--ratios",
        ",".join(f"{one:g}" for one in sorted(ratios)),
    ]
    words += ["--data", data, "--epochs", str(epochs)]
    if images is not None:
        words += ["--set", f"limit={images}"]
        words += [f"batch_size={SMALL_BATCH}"] if images <= FEW_IMAGES else []
        words += ["--images", str(images)] if images < PROBED else []
    return Plan(folder, (*words, "--out", str(folder)))


def effort(masks: Sequence[str], ratios: Sequence[float], epochs: int) -> str:
    """What a race or a comparison trains at most, in words."""
    cells = len(set(masks)) * len(set(ratios))
    runs = cells * SEEDS
    if cells < MIN_CELLS:
        return (
            f"{cells} cells: {runs} runs of {epochs} {'epoch' if epochs == 1 else 'epochs'}, {SEEDS} seeds each; from "
            f"{MIN_CELLS} cells on it is a race that drops cells early"
        )
    return (
        f"{cells} cells; at most {3 * runs} short runs ({runs} of {max(1, epochs // 8)}, of {max(1, epochs // 4)} and of {epochs} "
        "epochs), fewer as cells drop out"
    )


def rungs(folder: Path) -> list[str]:
    """What each rung of a race decided, in words; nothing where no race lies there."""
    found = (read_json(folder / RACE) or {}).get("rungs")
    lines = []
    for number, rung in enumerate(found if isinstance(found, list) else [], start=1):
        cells = rung.get("cells") if isinstance(rung, dict) else None
        if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
            break
        going = sum(cell.get("goes_on") is True for cell in cells)
        seeds, epochs = (_count(rung.get(name), name[:-1]) for name in ("seeds", "epochs"))
        verb = "go on" if number < RUNGS else "may be the best"
        back = rung.get("returned")
        more = f", and {len(back)} that rung {number - 1} had dropped" if isinstance(back, list) and back else ""
        lines.append(f"rung {number}: {seeds} of {epochs}; {going} of {len(cells)} cells {verb}{more}")
    return lines[:MOST_LINES]


def _count(value: Any, of: str) -> str:
    number = value if isinstance(value, int) and not isinstance(value, bool) else "?"
    return f"{number} {of}{'' if number == 1 else 's'}"


def advice(root: Path, data: str, minutes: float, images: int | None = None) -> Plan:
    """Advice on a mask for a data set, within some minutes."""
    folder = free(root, "advice")
    words = ["advise", "--data", data, "--minutes", f"{minutes:g}"]
    words += ["--images", str(images)] if images is not None else []
    return Plan(folder, (*words, "--out", str(folder)))


@dataclass(frozen=True)
class Found:
    """Advice that was given."""

    name: str
    file: Path
    headline: str
    grounds: str
    reasons: tuple[str, ...]
    alternatives: tuple[str, ...]
    unknown: tuple[str, ...]
    command: str

    @property
    def page(self) -> Path:
        """The page that the command wrote beside it."""
        return self.file.parent / PAGE


def advice_below(root: Path) -> dict[str, Found]:
    """Every advice at or below the root (two folders deep) by the name of its folder; files that
    are not of `lcmae advise`, or are not ended, are left out."""
    files = [file for depth in ("", "*/", "*/*/") for file in sorted(root.glob(f"{depth}{ADVICE}"))]
    found = {name_of(file.parent, root): _read(file, root) for file in files if is_regular(file)}
    return {name: one for name, one in found.items() if one is not None}


def _read(file: Path, root: Path) -> Found | None:
    known = read_json(file) or {}
    given: Any = known.get("advice")
    if not isinstance(given, dict) or not isinstance(given.get("headline"), str):
        return None
    lists = {name: _texts(given.get(name)) for name in ("reasons", "alternatives", "unknown")}
    return Found(
        name_of(file.parent, root),
        file,
        printable(given["headline"], 1000),
        printable(given.get("grounds", ""), 60),
        lists["reasons"],
        lists["alternatives"],
        lists["unknown"],
        printable(known.get("command", ""), 4000),
    )


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(printable(one, 1000) for one in values[:MOST_LINES]) if isinstance(values, list) else ()
