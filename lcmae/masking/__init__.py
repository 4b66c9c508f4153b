"""Mask strategies: settings that you call with (number of images, grid, generator) and that return
a `Mask`."""

from typing import Annotated

from pydantic import Field

from lcmae.masking.base import Mask, MaskStrategy, at_ratio, stack_masks
from lcmae.masking.block import Block
from lcmae.masking.coarse import CoarseRandom
from lcmae.masking.grid import Grid
from lcmae.masking.guided import AttentionGuided, LossGuided
from lcmae.masking.multi_block import MultiBlock
from lcmae.masking.noise import Noise
from lcmae.masking.pairs import Complementary
from lcmae.masking.pattern import Checkerboard, Stripes
from lcmae.masking.random import Random
from lcmae.masking.window import InverseBlock, Window
from lcmae.settings import members

AnyMask = Annotated[
    Random
    | CoarseRandom
    | Block
    | Grid
    | Window
    | InverseBlock
    | MultiBlock
    | Noise
    | Checkerboard
    | Stripes
    | Complementary
    | AttentionGuided
    | LossGuided,
    Field(discriminator="kind"),
]

STRATEGIES: dict[str, type[MaskStrategy]] = {
    strategy.model_fields["kind"].default: strategy
    for strategy in members(AnyMask)
    if issubclass(strategy, MaskStrategy)
}
"""Every strategy by its kind, in the order in which tables and pictures show them."""

__all__ = [
    "STRATEGIES",
    "AnyMask",
    "AttentionGuided",
    "Block",
    "Checkerboard",
    "CoarseRandom",
    "Complementary",
    "Grid",
    "InverseBlock",
    "LossGuided",
    "Mask",
    "MaskStrategy",
    "MultiBlock",
    "Noise",
    "Random",
    "Stripes",
    "Window",
    "at_ratio",
    "stack_masks",
]
