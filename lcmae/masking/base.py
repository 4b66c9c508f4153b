"""Which patches are hidden and which visible, and the one pattern by which strategies draw that."""

from typing import ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.patches import Grid
from lcmae.settings import Settings, parse
from lcmae.shapes import Float


class MaskStrategy(Settings):
    """Draws masks. A strategy says how much it *prefers* to hide each patch; the most preferred are
    hidden.

    Ranking makes every count exact: a shape that came out too small is topped up, and one too large
    is trimmed, by whatever order the strategy gives its leftovers (chance, unless it says
    otherwise).
    """

    needs_images: ClassVar[bool] = False
    """Whether masks depend on what is in the images, so that a call must bring them."""

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Masking ratio: the share of patches that is hidden, between 0 and 1, both excluded."""

    def num_hidden(self, grid: Grid) -> int:
        """Hidden patches on this grid: n - floor(n (1 - ratio)), as MAE counts them."""
        num_patches = grid[0] * grid[1]
        # 10 patches at ratio 0.9 keep 1, not int(0.9999999999999998) = 0
        num_visible = int(num_patches * (1 - self.ratio) + 1e-9)
        if not 0 < num_visible < num_patches:
            raise InputError(
                f"masking ratio {self.ratio} leaves {num_visible} of the {num_patches} patches of a "
                f"{grid[0]}x{grid[1]} grid visible; expected at least one visible and one hidden"
            )
        return num_patches - num_visible

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        """How much the strategy prefers to hide each patch; drawn with `rng`, on its device. Ties
        are not allowed."""
        raise TypeError(f"{type(self).__name__} does not say which patches it prefers to hide")

    def check(self, grid: Grid) -> None:
        """`InputError` where these settings ask the impossible of a grid. Reads no files: a run's
        config calls it."""
        self.num_hidden(grid)

    def open(self) -> None:
        """Read what the strategy needs beside a generator, so that a trainer refuses a bad
        checkpoint before the first step."""

    def is_uniform(self, grid: Grid) -> bool:
        """Whether every patch of this grid has the same chance to be hidden; False promises
        nothing."""
        return False

    def guide(
        self, preference: Float[Tensor, "b n"], images: Float[Tensor, "i c h w"], grid: Grid
    ) -> Float[Tensor, "b n"]:
        """What the images make of a preference drawn without them; b is a whole number of masks for
        each of i images."""
        raise TypeError(f"{type(self).__name__} does not use images")

    def __call__(
        self,
        num_images: int,
        grid: Grid,
        rng: torch.Generator,
        images: Float[Tensor, "i c h w"] | None = None,
        share: slice = slice(None),
    ) -> Mask:
        """Masks for `num_images` images on a grid of (rows, columns), a pure function of the
        generator's state.

        `share` returns only those rows of what is drawn: a process's part of a batch, whose masks
        then do not depend on the number of processes. `images` are the pixels of that share, in [0,
        1]; strategies with `needs_images` want them (each image may have several rows, in its
        order), the others ignore them.
        """
        self.check(grid)
        num_hidden = self.num_hidden(grid)
        preference = self.preference(num_images, grid, rng)[share]
        if self.needs_images:
            if images is None or not len(images) or len(preference) % len(images):
                got = "none" if images is None else str(len(images))
                raise InputError(
                    f"{type(self).__name__} uses images: expected images that {len(preference)} masks are a whole "
                    f"number for each of, got {got}"
                )
            preference = self.guide(preference, images, grid)
        is_hidden = torch.zeros_like(preference, dtype=torch.bool)
        is_hidden.scatter_(1, preference.topk(num_hidden, dim=1).indices, True)
        return Mask.from_hidden(is_hidden, num_hidden)


def chance(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1) on the generator's device."""
    return torch.rand(shape, generator=rng, device=rng.device)


Strategy = TypeVar("Strategy", bound=MaskStrategy)


def at_ratio(strategy: Strategy, ratio: float) -> Strategy:
    """The same strategy at another masking ratio. `InputError` where it does not take that
    ratio."""
    return parse(type(strategy), {**strategy.model_dump(), "ratio": ratio})
