"""Pixels <-> patches. The only file that knows the layout: patches in raster order, values ordered
(row, column, channel)."""

from einops import rearrange
from torch import Tensor

from lcmae.errors import InputError
from lcmae.shapes import Float

Grid = tuple[int, int]  # rows, columns


def grid_of(image_size: tuple[int, int], patch_size: int) -> Grid:
    """Rows and columns of the patch grid of an image of (height, width) pixels."""
    height, width = image_size
    if patch_size < 1 or height < patch_size or width < patch_size or height % patch_size or width % patch_size:
        raise InputError(f"image {height}x{width} is not a whole number of {patch_size}-pixel patches")
    return height // patch_size, width // patch_size


def patchify(images: Float[Tensor, "b c h w"], patch_size: int) -> Float[Tensor, "b n p"]:
    """Images to patches, p = patch_size * patch_size * c values each."""
    grid_of((images.shape[-2], images.shape[-1]), patch_size)
    return rearrange(images, "b c (gh ph) (gw pw) -> b (gh gw) (ph pw c)", ph=patch_size, pw=patch_size)


def unpatchify(patches: Float[Tensor, "b n p"], grid: Grid, patch_size: int) -> Float[Tensor, "b c h w"]:
    """Patches back to images; the inverse of `patchify`."""
    if patches.shape[1] != grid[0] * grid[1]:
        raise InputError(f"expected {grid[0]}x{grid[1]} patches, got {patches.shape[1]}")
    if patch_size < 1 or patches.shape[2] % patch_size**2:
        raise InputError(
            f"expected patches of a whole number of {patch_size}x{patch_size}-pixel channels, got {patches.shape[2]} values"
        )
    return rearrange(
        patches, "b (gh gw) (ph pw c) -> b c (gh ph) (gw pw)", gh=grid[0], gw=grid[1], ph=patch_size, pw=patch_size
    )


def patch_statistics(
    patches: Float[Tensor, "b n p"], eps: float = 1e-6
) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
    """Mean and standard deviation of each patch's values; sqrt(unbiased variance + eps), as He et
    al. (2111.06377) do."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + eps).sqrt()


def normalize_patches(patches: Float[Tensor, "b n p"], eps: float = 1e-6) -> Float[Tensor, "b n p"]:
    """Each patch to mean 0 and variance 1 (MAE's normalised target). A constant predictor then
    scores (p-1)/p."""
    mean, std = patch_statistics(patches, eps)
    return (patches - mean) / std
