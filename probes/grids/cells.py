"""What is compared: a grid of masks x ratios x mask units x objectives x seeds, as settings and as
cells. No torch.

Equal compute means equal image-mask pairs: every cell sees the same images, and E epochs of one
mask an image are E / K epochs of an objective with K masks an image (LC-MAE), warm-up in
proportion. It does not mean equal FLOP: an encoder of visible patches does less at a higher ratio,
and the table's seconds say by how much.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from lcmae.errors import InputError
from lcmae.settings import Settings

SETTINGS = "comparison.json"
"""File of a comparison's folder: its settings, and the names of its runs."""

UNIT_FIELDS = {"coarse_random": "unit", "checkerboard": "cell"}
"""Strategies with a mask unit, and the field that holds its side in patches. `random` at a unit
above 1 is coarse_random."""


class Comparison(Settings):
    """The grid, and what all its cells share."""

    masks: tuple[str, ...] = Field(default=("random",), min_length=1)
    """Mask strategies by name; the first one is the baseline's."""

    ratios: tuple[float, ...] = Field(default=(0.75,), min_length=1)
    """Masking ratios, each between 0 and 1."""

    units: tuple[int, ...] = ()
    """Sides of the mask unit, in patches, for random, coarse_random and checkerboard (other masks
    have none and come once); by default each mask's own."""

    objectives: tuple[str, ...] = Field(default=("mae",), min_length=1)
    """Objectives: mae, umae, lcmae, simmim, usimmim."""

    seeds: int = Field(default=1, ge=1)
    """Runs of each cell, with seeds 0, 1, ...; intervals need at least 2."""

    epochs: int = Field(default=48, ge=1)
    """Epochs of objectives with one mask an image; those with K masks get this divided by K."""

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

    @property
    def name(self) -> str:
        """Name of the run folder."""
        unit = "" if self.unit is None else f"-unit{self.unit}"
        return f"{self.objective}-{self.mask}-{self.ratio:g}{unit}-s{self.seed}"

    @property
    def settings(self) -> tuple[Any, ...]:
        """What a run has in common with its other seeds."""
        return self.objective, self.mask, self.ratio, self.unit


def cells(comparison: Comparison) -> list[Cell]:
    """Every run of the grid, the first seed of all cells first, so that an early look sees every
    cell."""
    found = [
        Cell(mask, ratio, unit, objective, seed)
        for seed in range(comparison.seeds)
        for objective in comparison.objectives
        for mask in comparison.masks
        for unit in _units(mask, comparison.units)
        for ratio in comparison.ratios
    ]
    if len({cell.name for cell in found}) < len(found):
        raise InputError("expected every mask, ratio, unit and objective once, got one twice")
    return found


def _units(mask: str, units: tuple[int, ...]) -> Iterator[int | None]:
    has_unit = mask == "random" or mask in UNIT_FIELDS
    yield from units if units and has_unit else (None,)
