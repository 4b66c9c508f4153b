"""Every mask strategy that needs no checkpoint, and samples of each."""

from collections.abc import Mapping

import numpy as np
import torch
from einops import rearrange

from lcmae.errors import InputError
from lcmae.masking import STRATEGIES, MaskStrategy, at_ratio
from lcmae.patches import Grid


def strategies(ratio: float, grid: Grid) -> tuple[dict[str, MaskStrategy], dict[str, str]]:
    """Every strategy that needs no checkpoint, at this ratio (or at its own, where it has but one);
    and why not, for those that cannot draw on this grid."""
    usable: dict[str, MaskStrategy] = {}
    refused: dict[str, str] = {}
    for kind, cls in STRATEGIES.items():
        if cls.needs_images:
            continue
        try:
            strategy = at_ratio(cls(), ratio)
        except InputError:
            strategy = cls()
        try:
            strategy.check(grid)
        except InputError as error:
            refused[kind] = str(error)
        else:
            usable[kind] = strategy
    return usable, refused


def draw(usable: Mapping[str, MaskStrategy], grid: Grid, number: int, seed: int) -> dict[str, np.ndarray]:
    """`number` masks of each strategy, [mask rows columns], true where hidden; each from a
    generator of the same seed."""
    # strategies that draw masks in pairs want an even number
    even = number + number % 2
    return {
        kind: rearrange(
            strategy(even, grid, torch.Generator().manual_seed(seed)).is_hidden, "k (r c) -> k r c", r=grid[0]
        )[:number].numpy()
        for kind, strategy in usable.items()
    }
