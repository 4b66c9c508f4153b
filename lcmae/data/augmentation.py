"""Random resized crop and flip, batched, on the images' device, as a function of (seed, epoch,
index).

The crop is the one that MAE trains with (He et al. 2021, arXiv 2111.06377, appendix A.1): a share
of the area drawn evenly, an aspect ratio drawn evenly on a log scale, ten tries to fit, else the
largest central box of an allowed aspect. Ours has box edges between pixels. It is cut from the
stored image, which already has the model's size, so it is always enlarged: antialiasing has nothing
to do, and detail that an original file may hold beyond that size is not used. PIL's bicubic kernel
(a = -0.5) differs from torch's (a = -0.75).
"""

import math

import torch
from einops import rearrange
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import grid_sample

from lcmae.data.counter import uniforms
from lcmae.settings import Settings
from lcmae.shapes import Bool, Float, Int, UInt8

_PURPOSE = 0x6175676D656E74  # "augment": shares no stream with orders or masks
_TRIES = 10
_AREA, _ASPECT, _LEFT, _TOP = range(4)  # draws of one try
_FLIP = 4 * _TRIES


class Augmentation(Settings):
    """How an image is varied from epoch to epoch."""

    scale: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest share of the image's area that a crop keeps."""

    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest ratio of a crop's width to its height, both in pixels."""

    flip: bool = True
    """Mirror left and right with probability one half."""

    @model_validator(mode="after")
    def _ordered(self) -> "Augmentation":
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"expected scale to be two ascending shares above 0 and up to 1, got {self.scale}")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"expected aspect to be two ascending ratios above 0, got {self.aspect}")
        return self


def augment(
    images: UInt8[Tensor, "b c h w"],
    indices: Int[Tensor, " b"],
    *,
    seed: int,
    epoch: int,
    settings: Augmentation | None,
) -> Float[Tensor, "b c h w"]:
    """Float32 images in [0, 1]; `indices` say which images of the source these are. None only
    changes the type."""
    pixels = images.float() / 255
    if settings is None:
        return pixels
    height, width = images.shape[2:]
    boxes, flips = draw_crops(indices.to(images.device), height / width, seed=seed, epoch=epoch, settings=settings)
    grid = crop_grid(boxes.float(), flips, height, width)
    # bicubic overshoots at edges: back into the range of pixels
    return grid_sample(pixels, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp_(0, 1)


def draw_crops(
    indices: Int[Tensor, " b"], shape: float, *, seed: int, epoch: int, settings: Augmentation
) -> tuple[Float[Tensor, "b 4"], Bool[Tensor, " b"]]:
    """Boxes (left, top, width, height) as shares of the image's sides, and whether each is
    mirrored.

    `shape` is the image's height over its width.
    """
    tries = torch.arange(_TRIES, device=indices.device)

    def draw(what: int) -> Float[Tensor, "b tries"]:
        return uniforms(_PURPOSE, seed, epoch, indices[:, None], 4 * tries + what)

    area = settings.scale[0] + (settings.scale[1] - settings.scale[0]) * draw(_AREA)
    low, high = (math.log(ratio * shape) for ratio in settings.aspect)  # in shares of the sides instead of pixels
    aspect = (low + (high - low) * draw(_ASPECT)).exp()
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()

    # the first try that fits into the image; a hair of rounding is allowed, so that the whole image
    # fits into itself
    fits = (width < 1 + 1e-9) & (height < 1 + 1e-9)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    width, height = width.gather(1, first).clamp(max=1), height.gather(1, first).clamp(max=1)
    left = draw(_LEFT).gather(1, first) * (1 - width)
    top = draw(_TOP).gather(1, first) * (1 - height)
    boxes = torch.cat([left, top, width, height], 1)

    # where none fits: the largest central box whose aspect is allowed
    nearest = math.exp(min(max(0.0, low), high))
    wide, tall = min(1.0, nearest), min(1.0, 1 / nearest)
    central = ((1 - wide) / 2, (1 - tall) / 2, wide, tall)
    any_fits = fits.any(1, keepdim=True)
    # side by side as numbers: a tensor made of them here would have to be copied to the device
    boxes = torch.cat(
        [torch.where(any_fits, box, side) for box, side in zip(boxes.split(1, 1), central, strict=True)], 1
    )

    flips = uniforms(_PURPOSE, seed, epoch, indices, _FLIP) < 0.5 if settings.flip else torch.zeros_like(fits[:, 0])
    return boxes, flips


def crop_grid(
    boxes: Float[Tensor, "b 4"], flips: Bool[Tensor, " b"], height: int, width: int
) -> Float[Tensor, "b h w 2"]:
    """Where each pixel of the crop lies in the image, in `grid_sample`'s coordinates (-1 and 1 are
    the outer edges).

    Written out because `affine_grid` multiplies matrices, which a GPU may do in TF32: off by a
    tenth of a pixel.
    """
    left, top, wide, tall = rearrange(boxes, "b side -> side b 1")
    along = (torch.arange(width, device=boxes.device) + 0.5) / width
    down = (torch.arange(height, device=boxes.device) + 0.5) / height
    along = torch.where(flips[:, None], 1 - along, along)
    x, y = 2 * (left + wide * along) - 1, 2 * (top + tall * down) - 1
    return torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
