"""Which patches are hidden and which visible, and the one pattern by which strategies draw that."""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from lcmae.errors import InputError
from lcmae.patches import Grid
from lcmae.settings import Settings, parse
from lcmae.shapes import Bool, Float, Int


@dataclass(frozen=True)
class Mask:
    """For each image, a split of its n patches: `visible` and `hidden` hold raster-order indices,
    ascending."""

    visible: Int[Tensor, "b v"]
    hidden: Int[Tensor, "b m"]
    is_hidden: Bool[Tensor, "b n"]

    @classmethod
    def from_hidden(cls, is_hidden: Bool[Tensor, "b n"], num_hidden: int | None = None) -> "Mask":
        """From a boolean map; every image must hide the same number of patches, so that batches
        keep one shape.

        A caller that knows `num_hidden` spares the look at the map, which on a GPU would wait for
        the device.
        """
        if num_hidden is None:
            counts = is_hidden.sum(1).tolist()
            if len(set(counts)) > 1:
                raise InputError(
                    f"expected the same number of hidden patches in every image, got {min(counts)} to {max(counts)}"
                )
            num_hidden = counts[0] if counts else 0
        # a stable sort of the booleans lists the visible patches first, both parts in raster order
        order = is_hidden.to(torch.uint8).argsort(dim=1, stable=True)
        num_visible = is_hidden.shape[1] - num_hidden
        return cls(order[:, :num_visible], order[:, num_visible:], is_hidden)

    @classmethod
    def none(cls, num_images: int, num_patches: int, device: torch.device | str = "cpu") -> "Mask":
        """Nothing hidden: the unmasked image."""
        return cls.from_hidden(torch.zeros(num_images, num_patches, dtype=torch.bool, device=device), 0)

    def __len__(self) -> int:
        return len(self.is_hidden)

    def __getitem__(self, images: slice | Tensor) -> "Mask":
        return Mask(self.visible[images], self.hidden[images], self.is_hidden[images])

    def to(self, device: torch.device | str) -> "Mask":
        return Mask(self.visible.to(device), self.hidden.to(device), self.is_hidden.to(device))

    @property
    def num_patches(self) -> int:
        return self.is_hidden.shape[1]

    @property
    def ratio(self) -> float:
        """The realised masking ratio: the hidden share of the patches."""
        return self.hidden.shape[1] / self.num_patches

    def complement(self) -> "Mask":
        """What was hidden becomes visible, and the reverse."""
        return Mask(self.hidden, self.visible, ~self.is_hidden)


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
        raise TypeError(f"{type(self).__name__} does not look at images")

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
                    f"{type(self).__name__} looks at images: expected images that {len(preference)} masks are a whole "
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


def stack_masks(masks: list[Mask]) -> Mask:
    """Masks of the same counts, one after the other."""
    return Mask(
        torch.cat([mask.visible for mask in masks]),
        torch.cat([mask.hidden for mask in masks]),
        torch.cat([mask.is_hidden for mask in masks]),
    )
