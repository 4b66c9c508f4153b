"""Which patches of each image are hidden and which visible. `lcmae.masking` has the strategies that
draw masks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.errors import InputError
from lcmae.shapes import Bool, Int


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

        A caller that knows `num_hidden` spares reading the map, which on a GPU would wait for the
        device.
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


def stack_masks(masks: list[Mask]) -> Mask:
    """Masks of the same counts, one after the other."""
    return Mask(
        torch.cat([mask.visible for mask in masks]),
        torch.cat([mask.hidden for mask in masks]),
        torch.cat([mask.is_hidden for mask in masks]),
    )
