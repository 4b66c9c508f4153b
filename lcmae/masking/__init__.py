"""Mask strategies: settings that you call with (number of images, grid, generator) and that return
a `Mask`. A new one is a file here and a line below (docs/extending.md)."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from lcmae.mask import Mask as Mask
from lcmae.mask import stack_masks as stack_masks
from lcmae.masking.base import MaskStrategy as MaskStrategy
from lcmae.masking.base import at_ratio as at_ratio

# isort: off
# in the order of tables, menus and pictures
from lcmae.masking.random import Random as Random
from lcmae.masking.coarse import CoarseRandom as CoarseRandom
from lcmae.masking.block import Block as Block
from lcmae.masking.grid import Grid as Grid
from lcmae.masking.window import Window as Window
from lcmae.masking.window import InverseBlock as InverseBlock
from lcmae.masking.multi_block import MultiBlock as MultiBlock
from lcmae.masking.noise import Noise as Noise
from lcmae.masking.pattern import Checkerboard as Checkerboard
from lcmae.masking.pattern import Stripes as Stripes
from lcmae.masking.pairs import Complementary as Complementary
from lcmae.masking.guided import AttentionGuided as AttentionGuided
from lcmae.masking.guided import LossGuided as LossGuided
# isort: on

STRATEGIES: dict[str, type[MaskStrategy]] = {
    strategy.model_fields["kind"].default: strategy
    for strategy in list(globals().values())
    if isinstance(strategy, type) and issubclass(strategy, MaskStrategy) and strategy is not MaskStrategy
}
"""Every strategy by its kind, in the order in which tables and pictures show them."""

if TYPE_CHECKING:
    AnyMask = MaskStrategy
else:
    AnyMask = Annotated[Union[tuple(STRATEGIES.values())], Field(discriminator="kind")]  # noqa: UP007 (a tuple is no type)
