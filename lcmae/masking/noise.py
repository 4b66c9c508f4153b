"""Thresholded filtered noise: the coloured masks of ColorMAE, with filters of our own."""

import math
from typing import Literal

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking.base import MaskStrategy
from lcmae.patches import Grid
from lcmae.shapes import Float

Colour = Literal["red", "green", "blue", "purple"]


class Noise(MaskStrategy):
    """White noise is filtered and its highest values are hidden (the idea of ColorMAE, Hinojosa et
    al., 2407.13036).

    In a picture: red (low pass) gives large soft blobs, blue (high pass) an even sprinkle, green
    (band pass) blobs of one size, purple (band stop) blobs with sprinkle. The authors publish ready
    noise, not its filters; these are ours, Gaussians G(s) = exp(-2 (pi s f)^2) of the frequency f
    in cycles a patch: red G(sigma), blue 1 - G(sigma), green G(sigma) - G(wide) scaled to a peak of
    1, purple 1 - green. The noise has the size of the grid and is filtered round its border, so
    every patch has the same chance to be hidden.
    """

    kind: Literal["noise"] = "noise"

    colour: Colour = "green"
    """Which frequencies are kept (ColorMAE found green best)."""

    sigma: float = Field(default=0.75, gt=0)
    """Standard deviation of the Gaussian filter, in patches."""

    wide: float = Field(default=1.5, gt=0)
    """Standard deviation of the wider Gaussian of green and purple, in patches; red and blue do not
    use it."""

    @model_validator(mode="after")
    def _band_is_a_band(self) -> "Noise":
        if self.wide <= self.sigma:
            raise ValueError(f"expected wide above sigma ({self.sigma}), got {self.wide}")
        return self

    def check(self, grid: Grid) -> None:
        super().check(grid)
        # beyond that, even the slowest wave is filtered away and nothing is left to rank
        widest = max(grid) / 2
        used = self.sigma if self.colour in ("red", "blue") else self.wide
        if used > widest:
            raise InputError(
                f"expected a filter of at most {widest:g} patches for {self.colour} noise on a {grid[0]}x{grid[1]} grid, "
                f"got {used:g}"
            )

    def is_uniform(self, grid: Grid) -> bool:
        return True

    def filter(self, grid: Grid, device: torch.device) -> Float[Tensor, "rows half"]:
        """Gain of each frequency of the real Fourier transform; the mean (frequency 0) is left out,
        ranks ignore it."""
        down = torch.fft.fftfreq(grid[0], device=device)
        across = torch.fft.rfftfreq(grid[1], device=device)
        frequency = down.square()[:, None] + across.square()

        def gaussian(sigma: float) -> Tensor:
            return (-2 * (math.pi * sigma) ** 2 * frequency).exp()

        if self.colour == "red":
            gain = gaussian(self.sigma)
        elif self.colour == "blue":
            gain = 1 - gaussian(self.sigma)
        else:
            band = gaussian(self.sigma) - gaussian(self.wide)
            band = band / band.max()
            gain = band if self.colour == "green" else 1 - band
        gain[0, 0] = 0
        return gain

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        white = torch.randn((num_images, *grid), generator=rng, device=rng.device)
        waves = torch.fft.rfft2(white) * self.filter(grid, rng.device)
        return rearrange(torch.fft.irfft2(waves, s=grid), "b r c -> b (r c)")
