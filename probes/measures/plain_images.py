"""Images without objects: what a network says of them at a position is not about content.

The kinds are SOAP's (Hjelkrem-Tan et al., 2604.00172): pink noise, white noise under a pink
envelope, and gradients, mixed by Dirichlet(1, 1, 2) weights. Parameters are lcmae's own.
"""

import torch
from torch import Tensor

from lcmae.randomness import generator
from lcmae.shapes import Float


def plain_images(indices: list[int], channels: int, height: int, width: int, seed: int) -> Float[Tensor, "b c h w"]:
    """Pixels from 0 to 1, each image a function of (seed, index)."""
    return torch.stack([_one(channels, height, width, generator("plain-image", seed, index)) for index in indices])


def _one(channels: int, height: int, width: int, rng: torch.Generator) -> Float[Tensor, "c h w"]:
    shape = channels, height, width
    envelope = torch.sigmoid(_pink(1, height, width, rng))
    kinds = [_pink(*shape, rng), _standard(torch.randn(shape, generator=rng) * envelope), _gradient(*shape, rng)]
    # Dirichlet(1, 1, 2) from exponential draws: a gamma of 2 is a sum of two
    draws = -torch.rand(4, generator=rng).clamp(min=1e-12).log()
    weight = torch.stack([draws[0], draws[1], draws[2] + draws[3]])
    mixed = sum((kind * share for kind, share in zip(kinds, weight / weight.sum(), strict=True)), torch.zeros(shape))
    return (0.5 + 0.25 * _standard(mixed)).clamp(0, 1)


def _pink(channels: int, height: int, width: int, rng: torch.Generator) -> Float[Tensor, "c h w"]:
    """Power falls with the square of the frequency's length, as in photographs."""
    spectrum = torch.fft.rfft2(torch.randn(channels, height, width, generator=rng))
    frequency = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()).sqrt()
    frequency[0, 0] = 1 / max(height, width)
    return _standard(torch.fft.irfft2(spectrum / frequency, s=(height, width)))


def _gradient(channels: int, height: int, width: int, rng: torch.Generator) -> Float[Tensor, "c h w"]:
    angle = 2 * torch.pi * torch.rand(1, generator=rng)
    down, across = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    slope = torch.randn(channels, 1, 1, generator=rng)
    return _standard(slope * (angle.sin() * down + angle.cos() * across) + torch.randn(channels, 1, 1, generator=rng))


def _standard(values: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Mean 0 and variance 1 over all values; 0 where they are equal."""
    return (values - values.mean()) / values.std(correction=0).clamp(min=1e-6)
