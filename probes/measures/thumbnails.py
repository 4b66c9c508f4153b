"""Small pictures of images and of patches, for maps of points: uint8, never larger than the
original."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lcmae.patches import Grid, patchify, unpatchify
from lcmae.shapes import Float, Int, UInt8

IMAGE_SIDE = 48
"""Longest side of an image's picture, in pixels."""

PATCH_SIDE = 16
"""Longest side of a patch's picture, in pixels."""

WINDOW_SIDE = 30
"""Longest side of a picture of a patch with those around it, in pixels."""


def of_images(pixels: Float[Tensor, "b c h w"], side: int = IMAGE_SIDE) -> UInt8[Tensor, "b y x c"]:
    """Pictures of images whose pixels are in [0, 1], at most `side` pixels long."""
    return _small(pixels, side)


def of_patches(
    pixels: Float[Tensor, "b c h w"], positions: Int[Tensor, " s"], patch_size: int
) -> UInt8[Tensor, "b s y x c"]:
    """Pictures of the patches at these places."""
    patches = patchify(pixels, patch_size)[:, positions]
    each = unpatchify(rearrange(patches, "b s p -> (b s) 1 p"), (1, 1), patch_size)
    return _small(each, PATCH_SIDE).unflatten(0, (len(pixels), len(positions)))


def of_windows(
    pixels: UInt8[Tensor, "b c h w"],
    images: Int[Tensor, "..."],
    positions: Int[Tensor, "..."],
    grid: Grid,
    patch_size: int,
    window: int,
) -> UInt8[Tensor, "... y x c"]:
    """Pictures of patches with those around them, `window` patches a side, of images uint8; beyond
    the edge the edge goes on."""
    around = window // 2 * patch_size
    wide = F.pad(pixels[images.flatten()].float() / 255, (around,) * 4, mode="replicate")
    rows, columns = positions.flatten() // grid[1] * patch_size, positions.flatten() % grid[1] * patch_size
    side = window * patch_size
    cut = [
        one[:, row : row + side, column : column + side]
        for one, row, column in zip(wide, rows.tolist(), columns.tolist(), strict=True)
    ]
    return _small(torch.stack(cut), WINDOW_SIDE).unflatten(0, images.shape)


def _small(pixels: Float[Tensor, "b c h w"], side: int) -> UInt8[Tensor, "b y x c"]:
    height, width = pixels.shape[-2:]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
    return rearrange((pixels.clamp(0, 1) * 255).round().to(torch.uint8), "b c h w -> b h w c").cpu()
