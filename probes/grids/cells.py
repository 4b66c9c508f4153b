"""What is compared: a grid of masks x ratios x mask units x objectives x seeds, as settings and as
cells. No torch.

Equal compute means equal image-mask pairs unless it is asked for otherwise: every cell sees the
same images, and E epochs of one mask an image are E / K epochs of an objective with K masks an
image (LC-MAE), warm-up in proportion. An encoder of visible patches does less at a higher ratio;
equal FLOP or equal seconds (`lcmae.probes.grids.budget`) give such a cell more epochs instead."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from lcmae.errors import InputError, did_you_mean
from lcmae.settings import Settings

SETTINGS = "comparison.json"
"""File of a comparison's folder: its settings, and the names of its runs."""

UNIT_FIELDS = {"coarse_random": "unit", "checkerboard": "cell"}
"""Strategies with a mask unit, and the field that holds its side in patches. `random` at a unit
above 1 is coarse_random."""

Equal = Literal["pairs", "flops", "seconds"]

SCHEDULES = {
    "uniform": ("uniform_per_batch", ("low", "high")),
    "linear": ("linear", ("start", "end")),
    "cosine": ("cosine", ("start", "end")),
    "cyclic": ("cyclic", ("mean", "amplitude")),
}
"""Schedules of the masking ratio by the words of `--schedules`: their kind, and what their two
numbers are."""


class Comparison(Settings):
    """The grid, and what all its cells share."""

    masks: tuple[str, ...] = Field(default=("random",), min_length=1)
    """Mask strategies by name."""

    ratios: tuple[float, ...] = Field(default=(0.75,), min_length=1)
    """Masking ratios, each between 0 and 1."""

    units: tuple[int, ...] = ()
    """Sides of the mask unit, in patches, for random, coarse_random and checkerboard (other masks
    have none and come once); by default each mask's own."""

    schedules: tuple[str, ...] = ()
    """Schedules of the masking ratio over training, beside the constant `ratios`: uniform:0.5:0.9
    draws one for every step (R2MAE), linear:0.9:0.5 and cosine:0.9:0.5 go from one to the other,
    cyclic:0.75:0.1 swings round the first. Tables show them as masks of their mean ratio."""

    objectives: tuple[str, ...] = Field(default=("mae",), min_length=1)
    """Objectives: mae, umae, lcmae, simmim, usimmim."""

    seeds: int = Field(default=1, ge=1)
    """Runs of each cell, with seeds 0, 1, ...; intervals need at least 2."""

    epochs: int = Field(default=48, ge=1)
    """Epochs of objectives with one mask an image; those with K masks get this divided by K. With
    --equal flops or seconds, epochs of the baseline: MAE with random 0.75, or the nearest to it."""

    equal: Equal = "pairs"
    """What all runs get the same of: pairs (images times masks), flops (of training, by formula
    from the architecture), or seconds (of training steps, timed before the first run)."""

    data: str = "digits"
    """Where images come from: digits, hierarchy, cifar10, parquet:PATH, folder:PATH, ..."""

    recipes: str = "auto"
    """Family of recipes that models and optimisers come from: digits, hierarchy or cifar10; by
    default the data's own, else cifar10."""

    set: tuple[str, ...] = ()
    """Changes of every run's config, as FIELD=VALUE: model.depth=2 batch_size=64 limit=500."""

    probes: tuple[str, ...] = ("local_contrast", "spectrum")
    """Probes of every run's last checkpoint, or "all", or "none"."""

    images: int = Field(default=360, ge=1)
    """Test images that the probes look at (a fixed, class-balanced choice)."""

    own_masks: bool = False
    """Probe each run under the masks that it was trained with, instead of the same masks for
    all."""

    guide: str | None = None
    """Frozen checkpoint for the masks that follow an image's content (attention, loss)."""

    untrained: bool = False
    """Publish each run's initial weights as step 0 and train nothing: the baseline of what runs of
    these seeds learn."""


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    mask: str
    ratio: float
    unit: int | None
    """Side of the mask unit in patches; None for masks that have none, and for each mask's own."""
    objective: str
    seed: int
    schedule: str | None = None
    """How the ratio moves through training (`ratio` is its mean); None where it stays."""

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"{self.family}-s{self.seed}"

    @property
    def family(self) -> str:
        """Name of the cell: of its run folders, without the seed."""
        ratio = f"{self.ratio:g}" if self.schedule is None else self.schedule.replace(":", "-")
        unit = "" if self.unit is None else f"-unit{self.unit}"
        return f"{self.objective}-{self.mask}-{ratio}{unit}"

    @property
    def label(self) -> str:
        """The mask as tables name it: with its schedule, where it has one."""
        return self.mask if self.schedule is None else f"{self.mask} {self.schedule}"

    @property
    def settings(self) -> tuple[Any, ...]:
        """What a run has in common with its other seeds, as tables name it."""
        return self.objective, self.label, self.ratio, self.unit


def cells(comparison: Comparison) -> list[Cell]:
    """Every run of the grid, the first seed of all cells first, so that an early look sees every
    cell."""
    ratios = [*((ratio, None) for ratio in comparison.ratios), *((mean_ratio(it), it) for it in comparison.schedules)]
    found = [
        Cell(mask, ratio, unit, objective, seed, schedule)
        for seed in range(comparison.seeds)
        for objective in comparison.objectives
        for mask in comparison.masks
        for unit in _units(mask, comparison.units)
        for ratio, schedule in ratios
    ]
    if len({cell.name for cell in found}) < len(found):
        raise InputError("expected every mask, ratio, schedule, unit and objective once, got one twice")
    return found


def _units(mask: str, units: tuple[int, ...]) -> Iterator[int | None]:
    has_unit = mask == "random" or mask in UNIT_FIELDS
    yield from units if units and has_unit else (None,)


def schedule_settings(text: str) -> dict[str, Any]:
    """`uniform:0.5:0.9` -> the settings of that schedule (`lcmae.masking.schedules`). `InputError`
    for another form."""
    word, *numbers = text.split(":")
    if word not in SCHEDULES:
        wrong = f"expected a schedule out of {', '.join(SCHEDULES)}, as uniform:0.5:0.9, got {text!r}"
        raise InputError(wrong + did_you_mean(word, SCHEDULES))
    kind, fields = SCHEDULES[word]
    try:
        first, second = map(float, numbers)
    except ValueError as error:
        raise InputError(f"expected {word}:{fields[0].upper()}:{fields[1].upper()}, got {text!r}") from error
    return {"kind": kind, fields[0]: first, fields[1]: second}


def mean_ratio(schedule: str) -> float:
    """The masking ratio in the middle of a schedule, which is its mean over training."""
    found = schedule_settings(schedule)
    kind, first, second = found.values()
    return first if kind == "cyclic" else round((first + second) / 2, 6)
