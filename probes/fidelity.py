"""How close are reconstructed pictures to the images, in the eyes of low-level measures, with and
without masking?

Source: the low-level evaluations of Kong et al., "Understanding Masked Autoencoders via
Hierarchical Latent Variable Models", 2306.04898: SSIM (Wang et al., 2004), PSNR and mean squared
error of what the model makes of *unmasked* images. With a mask the picture is the usual one:
visible patches pasted, hidden ones predicted.

All is measured on pixels in [0, 1], predictions clipped to it. A model with normalised targets
needs a mean and deviation for each patch: `trained` takes those of the nearest visible patch (on
unmasked images: the patch's own, which the model saw), and `trained, leaky` the true ones, which
give the answer away under a mask. Baselines, ours: `pixels` copies the nearest other visible patch,
`mean colour` paints the mean colour of all visible pixels, `untrained` is a network of the same
shape with fresh weights, and `position mean` the mean image.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import torch
import xarray as xr
from einops import rearrange, reduce, repeat
from pydantic import field_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import AnyMask, Mask, Random, at_ratio
from lcmae.models import MaskedImageModel, take
from lcmae.patches import Grid, patch_statistics, patchify, unpatchify
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.baselines.pixels import nearest_visible
from lcmae.probes.baselines.position_mean import PositionMean
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import with_sem
from lcmae.probes.watching.batch import Batch
from lcmae.shapes import Bool, Float, Int

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels (deviation 1.5), centred at every pixel; images are
reflected at their edges."""

MOST_PSNR = 100.0
"""What a perfect picture gets, in dB, so that means stay finite."""

MEASURES = {
    "ssim": ("structural similarity (SSIM)", "1"),
    "psnr": ("peak signal-to-noise ratio", "dB"),
    "mse": ("mean squared error of pixels", "squared pixel value (0 to 1)"),
}


VARIABLES = (*MEASURES, "mse_hidden", *(f"{name}_unmasked" for name in MEASURES))


POSITION_MEAN = "position mean"


class Fidelity(Probe):
    """Returns `ssim`, `psnr` and `mse` of whole pictures by (ratio, network), `mse_hidden` of
    hidden patches alone, and `ssim_unmasked`, `psnr_unmasked`, `mse_unmasked` of full predictions
    from unmasked images by network; with standard errors. SSIM is NaN for images of less than 6
    pixels."""

    name: ClassVar[str] = "fidelity"
    question: ClassVar[str] = "How close are reconstructed pictures to the images, masked and unmasked?"
    needs_prediction: ClassVar[bool] = True
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(("untrained", "pixels", "mean colour"), VARIABLES),
        POSITION_MEAN: ("mse", "mse_hidden", "mse_unmasked"),
    }

    mask: AnyMask = Random()
    """Which patches are hidden; its ratio gives way to each of `ratios`."""

    ratios: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    """Masking ratios, between 0 and 1, both excluded; unmasked images are always looked at."""

    untrained: bool = True
    """Whether a network of the same shape with fresh weights is measured, too; doubles the forward
    passes."""

    @field_validator("ratios")
    @classmethod
    def _ratios_fit(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or not all(0 < value < 1 for value in values) or len(set(values)) < len(values):
            raise ValueError("expected one or more different ratios between 0 and 1, both excluded")
        return values

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Fidelity":
        strategies = {}
        for ratio in self.ratios:
            try:
                strategies[ratio] = at_ratio(self.mask, ratio)
                strategies[ratio].check(model.grid)
            except InputError as error:
                self.require(False, f"ratios that its mask and the model's grid allow ({error})")
        return _Fidelity(self, model, strategies, untrained(model, seed) if self.untrained else None)


@dataclass
class _Fidelity(Accumulator):
    probe: Fidelity
    model: MaskedImageModel
    strategies: dict[float, AnyMask]
    fresh: MaskedImageModel | None
    masked: RunningMean = field(default_factory=RunningMean)
    """Of [b ratio network measure]."""

    unmasked: RunningMean = field(default_factory=RunningMean)
    """Of [b network measure]."""

    def __post_init__(self) -> None:
        leaky = ["trained, leaky"] if self.model.config.normalize_targets else []
        fresh = [] if self.fresh is None else ["untrained"]
        self.networks = [TRAINED, *leaky, "pixels", "mean colour", *fresh]
        self.position_means = [PositionMean() for _ in range(1 + len(self.strategies))]

    def update(self, batch: Batch) -> None:
        truth = self.model.to_pixels(batch.images)
        # unmasked images: every patch of the picture is a prediction
        none = Mask.none(len(batch), self.model.num_patches, batch.images.device)
        guess = None if self.fresh is None else batch.of(self.fresh).unmasked().pred
        pictures = self._pictures(batch.images, none, batch.unmasked().pred, guess)
        self.unmasked.add(torch.stack([measures(picture, truth) for picture in pictures], dim=1))
        patches = patchify(truth, self.model.patch_size)
        self.position_means[0].add(patches, ~none.is_hidden)

        # masked images: visible patches are pasted
        of_ratios = []
        for strategy, position_mean in zip(self.strategies.values(), self.position_means[1:], strict=True):
            mask, out = batch.masked(strategy, 1)
            position_mean.add(patches, mask.is_hidden)
            guess = None if self.fresh is None else batch.of(self.fresh).masked(strategy, 1)[1].pred
            hidden = by_pixel(mask, self.model.grid, self.model.patch_size)
            pasted = [torch.where(hidden, part, truth) for part in self._pictures(batch.images, mask, out.pred, guess)]
            whole = torch.stack([measures(picture, truth) for picture in pasted], dim=1)
            # pasted pixels have no error, so the mean over hidden ones follows
            of_ratios.append(torch.cat([whole, whole[..., -1:] / mask.ratio], dim=-1))
        self.masked.add(torch.stack(of_ratios, dim=1))

    def _pictures(
        self,
        images: Float[Tensor, "b c h w"],
        mask: Mask,
        pred: Float[Tensor, "b n p"],
        guess: Float[Tensor, "b n p"] | None,
    ) -> list[Float[Tensor, "b c h w"]]:
        """Every predictor's picture, all patches predicted, pixels clipped to [0, 1]; `guess` is
        the untrained network's."""
        model = self.model
        patches = patchify(images, model.patch_size)
        neighbour = nearest_visible(mask, model.grid) if mask.hidden.shape[1] else None
        found = self._denormalised(pred, patches, neighbour)
        other = nearest_other(model.grid, images.device).expand(len(images), -1) if neighbour is None else neighbour
        found += [take(patches, other), mean_colour(patches, mask, model.config.channels)]
        if guess is not None:
            found.append(self._denormalised(guess, patches, neighbour)[0])
        return [model.to_pixels(unpatchify(part, model.grid, model.patch_size)).clamp(0, 1) for part in found]

    def _denormalised(
        self, pred: Float[Tensor, "b n p"], patches: Float[Tensor, "b n p"], neighbour: Int[Tensor, "b n"] | None
    ) -> list[Float[Tensor, "b n p"]]:
        """Predictions as patches of the input: with the nearest visible patch's statistics, then
        with the true ones."""
        if not self.model.config.normalize_targets:
            return [pred]
        mean, std = patch_statistics(patches)
        leaky = pred * std + mean
        honest = leaky if neighbour is None else pred * take(std, neighbour) + take(mean, neighbour)
        return [honest, leaky]

    def result(self) -> xr.Dataset:
        assert self.masked.mean is not None
        assert self.unmasked.mean is not None
        result = {}
        for position, (name, (long_name, units)) in enumerate(MEASURES.items()):
            of_whole = self.unmasked.part(position)
            named = f"{long_name} of predictions from unmasked images", units
            result |= with_sem("network", of_whole, f"{name}_unmasked", *named)
            result |= with_sem(
                ("ratio", "network"), self.masked.part(position), name, f"{long_name}, visible patches pasted", units
            )
        named = "mean squared error of hidden pixels", MEASURES["mse"][1]
        result |= with_sem(("ratio", "network"), self.masked.part(len(MEASURES)), "mse_hidden", *named)
        ratio = "ratio", list(self.strategies), {"long_name": "masking ratio", "units": "1"}
        found = xr.Dataset(
            result,
            {"ratio": ratio, "network": self.networks},
            {
                "normalised_targets": int(self.model.config.normalize_targets),
                "pixels": "in [0, 1], predictions clipped",
                "ssim": f"Gaussian window of {SSIM_WINDOW} pixels, deviation 1.5, at every pixel of the reflected image",
                "psnr": f"of each image, peak 1, at most {MOST_PSNR:g} dB; then the mean over images",
                POSITION_MEAN.replace(
                    " ", "_"
                ): "known when all images are: squared errors alone, and no standard error",
            },
        )
        return self._with_position_mean(found)

    def _with_position_mean(self, found: xr.Dataset) -> xr.Dataset:
        """The best picture that does not depend on the image; its squared errors follow from sums,
        NaN stands for all else."""
        found = found.reindex(network=[*self.networks, POSITION_MEAN])
        whole, *hidden = (float(one.error) for one in self.position_means)
        at = {"network": POSITION_MEAN}
        found["mse_unmasked"].loc[at] = whole
        found["mse_hidden"].loc[at] = hidden
        shares = [
            strategy.num_hidden(self.model.grid) / self.model.num_patches for strategy in self.strategies.values()
        ]
        found["mse"].loc[at] = [error * share for error, share in zip(hidden, shares, strict=True)]
        return found


def measures(picture: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3"]:
    """SSIM, PSNR in dB and mean squared error of each picture, pixels in [0, 1]; float64."""
    error = (picture.double() - truth.double()).square().mean((1, 2, 3))
    # one formula with its limit: an error of 1e-10 or less is 100 dB
    psnr = -10 * error.clamp(min=10 ** (-MOST_PSNR / 10)).log10()
    return torch.stack([ssim(picture, truth), psnr, error], dim=1)


def ssim(picture: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Structural similarity of each picture (Wang et al., 2004, equation 13), mean over pixels and
    channels, float64.

    The convention is torchmetrics' and a test holds the two equal; two small matrix products are
    many times faster than its 11 x 11 convolutions. NaN where an image is too small to reflect.
    """
    height, width = truth.shape[-2:]
    if min(height, width) <= SSIM_WINDOW // 2:
        return truth.new_full((len(truth),), math.nan, dtype=torch.float64)
    # float64: variances are differences of squares, and flat regions would be rounding
    one, two = picture.double(), truth.double()
    down, across = (blur_matrix(side).to(truth.device) for side in (height, width))
    maps = torch.stack([one, two, one * one, two * two, one * two])
    mean_one, mean_two, square_one, square_two, product = (down @ maps @ across.T).unbind()

    variances = square_one - mean_one.square() + square_two - mean_two.square()
    covariance = product - mean_one * mean_two
    alike = (2 * mean_one * mean_two + 0.01**2) * (2 * covariance + 0.03**2)
    most = (mean_one.square() + mean_two.square() + 0.01**2) * (variances + 0.03**2)
    return (alike / most).mean((1, 2, 3))


@cache
def blur_matrix(side: int) -> Float[Tensor, "w w"]:
    """Row i weighs a reflected line of pixels with the Gaussian around pixel i; rows sum to 1."""
    reach = SSIM_WINDOW // 2
    weight = torch.exp(-torch.arange(-reach, reach + 1).double().square() / (2 * 1.5**2))
    source = (torch.arange(side)[:, None] + torch.arange(-reach, reach + 1)).abs()
    source = torch.where(source >= side, 2 * (side - 1) - source, source)
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(
        1, source, (weight / weight.sum()).expand(side, -1)
    )


def by_pixel(mask: Mask, grid: Grid, patch_size: int) -> Bool[Tensor, "b 1 h w"]:
    """Whether each pixel is hidden."""
    is_hidden = rearrange(mask.is_hidden, "b (r c) -> b 1 r c", r=grid[0])
    return is_hidden.repeat_interleave(patch_size, 2).repeat_interleave(patch_size, 3)


def mean_colour(patches: Float[Tensor, "b n p"], mask: Mask, channels: int) -> Float[Tensor, "b n p"]:
    """Every patch painted in the mean colour of the image's visible pixels."""
    colour = reduce(take(patches, mask.visible), "b v (p c) -> b 1 c", "mean", c=channels)
    return repeat(colour, "b 1 c -> b n (p c)", n=patches.shape[1], p=patches.shape[2] // channels)


def nearest_other(grid: Grid, device: torch.device) -> Int[Tensor, " n"]:
    """For every patch the nearest other one (ties to the first in raster order; itself where it is
    the only one)."""
    position = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).double()
    return torch.cdist(position, position).fill_diagonal_(math.inf).argmin(1).to(device)
