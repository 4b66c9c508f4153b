"""The images themselves in a model's place: what a patch's pixels know, and what its nearest
neighbour says about it."""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lcmae.masking import Mask
from lcmae.models import MaskedImageModel, spread, take
from lcmae.patches import Grid, normalize_patches, patchify
from lcmae.shapes import Float, Int

PIXEL_SIDE = 32
"""Raw pixels as one feature are averaged to at most this many a side."""


class RawPixels(MaskedImageModel):
    """No network: tokens are the patches, and every prediction is the nearest visible patch (what
    `targets` makes of it)."""

    num_prefix = 0

    @classmethod
    def like(cls, model: MaskedImageModel) -> "RawPixels":
        """For the same images and patches, on the same device."""
        return cls(model.config.model_copy(update={"feature": "mean"})).to(model.device)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.blocks, self.decoder_blocks = nn.ModuleList(), nn.ModuleList()

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        patches = patchify(images, self.patch_size).repeat_interleave(len(mask) // len(images), 0)
        tokens = take(patches, mask.visible)
        return tokens[:, :0], tokens, mask.visible

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        patches = spread(tokens, mask.visible, self.num_patches)
        copied = take(patches, nearest_visible(mask, self.grid))
        return normalize_patches(copied) if self.config.normalize_targets else copied


def nearest_visible(mask: Mask, grid: Grid) -> Int[Tensor, "b n"]:
    """For every patch the visible patch at the smallest distance (itself where visible; ties to the
    first in raster order)."""
    position = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).double()
    distance = torch.cdist(position, position).to(mask.visible.device)
    to_visible = distance[:, mask.visible]  # [n b v]
    return mask.visible.gather(1, rearrange(to_visible.argmin(-1), "n b -> b n"))


def small_pixels(pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "1 b p"]:
    """Pixels as one feature, averaged to at most 32 x 32; on the CPU."""
    height, width = pixels.shape[-2:]
    return F.adaptive_avg_pool2d(pixels, (min(height, PIXEL_SIDE), min(width, PIXEL_SIDE))).flatten(1)[None].cpu()
