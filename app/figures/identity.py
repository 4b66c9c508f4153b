"""What marks a run, and what it is called: the same in every figure, whichever runs are picked.

A run's colour is that of its family: the runs of one objective in folders whose names differ by
their seed alone. Families are numbered over all runs below the root, seeds are shades of one
colour, and beyond six families dashes tell them apart. Pure functions; `style` keeps the answer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SEED = re.compile(
    r"(?<![A-Za-z0-9])(?:seed|s)[-_=]?\d+(?![A-Za-z0-9])|(?<=[A-Za-z0-9])[-_]?seed[-_=]?\d+", re.IGNORECASE
)
"""The part of a folder's name that says its seed: `-s0`, `seed3`, `seed=1`."""

SEPARATORS = "/-_."
"""Where a name may be cut."""

SHADES = (0.0, 0.36, -0.26, 0.58, 0.18)
"""How far a seed's colour goes from its family's towards white (above 0) or black."""


@dataclass(frozen=True)
class Marking:
    """What marks one run."""

    colour: str
    """#RRGGBB."""

    turn: int
    """How often the palette was gone through before this family: figures change the dash."""

    family: str
    """Name of the run without its seed."""

    objective: str
    seed: int
    """Position among the family's runs, from 0."""


def family_of(name: str) -> str:
    """A run's name without its seed: `demo/mae-digits-s0` and `demo/mae-digits-s1` are one
    family."""
    without = SEED.sub("", name)
    tidied = re.sub(r"([-_. ])(?:[-_. ])+|[-_. ]+(?=/|$)|(?<=/)[-_. ]+", r"\1", without).strip(SEPARATORS)
    return tidied or name


def markings(objectives: Mapping[str, str], palette: Sequence[str]) -> dict[str, Marking]:
    """A marking for each run, by its name and objective ("" where unknown): a function of the set
    of runs, not of their order."""
    families: dict[tuple[str, str], list[str]] = {}
    for name in sorted(objectives, key=natural):
        families.setdefault((family_of(name), objectives[name]), []).append(name)
    found = {}
    for number, ((family, objective), names) in enumerate(families.items()):
        turn, hue = divmod(number, len(palette))
        for seed, name in enumerate(names):
            shown = shade(palette[hue], SHADES[seed % len(SHADES)])
            found[name] = Marking(shown, turn, family, objective, seed)
    return found


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts r0.5 before r0.75, and s2 before s10."""
    parts = re.split(r"(\d{1,18})", name)
    return tuple((1, int(part), "") if at % 2 else (0, 0, part) for at, part in enumerate(parts))


def shade(colour: str, amount: float) -> str:
    """A colour mixed with white (`amount` from 0 to 1) or with black (from 0 to -1)."""
    end = 255 if amount > 0 else 0
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (end - part) * abs(amount)):02X}" for part in parts)


def short(names: Iterable[str]) -> dict[str, str]:
    """Names without the beginning that all of them share, cut at a separator; a single name keeps
    its last folder."""
    names = list(dict.fromkeys(names))
    if len(names) == 1:
        return {names[0]: names[0].rpartition("/")[2]}
    common = names[0] if names else ""
    while not all(name.startswith(common) for name in names):
        common = common[:-1]
    # cut where a word begins, leave something of every name, and never 75 of 0.75
    while common and (common[-1] not in SEPARATORS or common in names or re.search(r"\d\.$", common)):
        common = common[:-1]
    return {name: name[len(common) :] for name in names}


def prefix(names: Iterable[str]) -> str:
    """What `short` leaves out of several names."""
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        return ""
    shortened = short(names)[names[0]]
    return names[0][: len(names[0]) - len(shortened)]
