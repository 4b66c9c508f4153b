"""Seven ways to corrupt an image at five severities, made on the fly, in the style of CIFAR-10-C.

Source of the idea: Hendrycks and Dietterich, 1903.12261. Kinds and parameters below are *ours*, so
accuracies are not those of CIFAR-10-C; sizes scale with the image, so that 32 and 224 pixels are
corrupted alike. Noise is a function of (seed, kind, severity, image), never of the batch.
"""

import io
import math
from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.randomness import generator
from lcmae.shapes import Float

SEVERITIES = (1, 2, 3, 4, 5)

PARAMETERS = MappingProxyType(
    {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.18, 0.26),  # deviation, in pixel values of 0 to 1
        "impulse_noise": (0.01, 0.03, 0.06, 0.10, 0.17),  # share of values set to 0 or 1
        "gaussian_blur": (0.4, 0.7, 1.0, 1.5, 2.2),  # deviation, in pixels of an image of 32
        "brightness": (0.05, 0.10, 0.20, 0.30, 0.40),  # added to every value
        "contrast": (0.75, 0.50, 0.40, 0.30, 0.15),  # of the distance to the image's mean in each channel
        "pixelate": (2.0, 3.0, 4.0, 5.0, 6.0),  # side of a block of one colour, in pixels of an image of 32
        "jpeg": (80.0, 58.0, 40.0, 25.0, 10.0),  # Pillow's quality
    }
)
"""Kind of corruption -> its parameter at severities 1 to 5."""


def corrupt(
    pixels: Float[Tensor, "b c h w"], kind: str, severity: int, seed: int, indices: Sequence[int]
) -> Float[Tensor, "b c h w"]:
    """Pixels in [0, 1] corrupted, clipped to [0, 1] again. `indices` are the images' own, and
    decide the noise."""
    parameter = PARAMETERS[kind][severity - 1]
    if kind in _NOISES:
        rngs = [generator("corruption", seed, kind, severity, index) for index in indices]
        corrupted = torch.stack(
            [_NOISES[kind](image, parameter, rng) for image, rng in zip(pixels.cpu(), rngs, strict=True)]
        )
        return corrupted.clamp(0, 1).to(pixels.device)
    return _CHANGES[kind](pixels, parameter).clamp(0, 1)


def _gaussian_noise(image: Tensor, deviation: float, rng: torch.Generator) -> Tensor:
    return image + deviation * torch.randn(image.shape, generator=rng)


def _impulse_noise(image: Tensor, share: float, rng: torch.Generator) -> Tensor:
    draw = torch.rand(image.shape, generator=rng)
    # one draw decides both: below share / 2 black, from there to share white
    return torch.where(draw < share, (draw >= share / 2).to(image.dtype), image)


def _gaussian_blur(pixels: Tensor, deviation: float) -> Tensor:
    from torchvision.transforms.v2.functional import gaussian_blur

    deviation = deviation * min(pixels.shape[-2:]) / 32
    return gaussian_blur(pixels, [2 * math.ceil(3 * deviation) + 1] * 2, [deviation] * 2)


def _contrast(pixels: Tensor, factor: float) -> Tensor:
    mean = pixels.mean((2, 3), keepdim=True)
    return mean + factor * (pixels - mean)


def _pixelate(pixels: Tensor, side: float) -> Tensor:
    height, width = pixels.shape[-2:]
    block = max(1, round(side * min(height, width) / 32))
    # blocks at the far edges are cut off
    small = F.avg_pool2d(pixels, block, ceil_mode=True, count_include_pad=False)
    return small.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :height, :width]


def _jpeg(pixels: Tensor, quality: float) -> Tensor:
    from PIL import Image

    def through(picture: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=int(quality))
        return np.asarray(Image.open(file))

    values = (pixels * 255).round().to(torch.uint8).cpu().numpy()
    if values.shape[1] == 3:
        corrupted = np.stack([through(image.transpose(1, 2, 0)).transpose(2, 0, 1) for image in values])
    else:
        # JPEG knows grey and colour: any other channels are saved one by one
        corrupted = np.stack([np.stack([through(channel) for channel in image]) for image in values])
    return torch.from_numpy(corrupted).to(pixels) / 255


_NOISES: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "impulse_noise": _impulse_noise,
}
_CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gaussian_blur": _gaussian_blur,
    "brightness": lambda pixels, step: pixels + step,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
