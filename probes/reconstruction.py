"""How well, and where, are hidden patches filled in?

Source: the reconstruction error of MAE (He et al., 2111.06377). Baselines are ours: the best
constant patch (the level of full collapse, Theorem 3.6 of "How Mask Matters", 2210.08344), the mean
patch of each position (where objects are centred, the constant flatters a model), a copy of the
nearest visible patch, and the best linear predictor that does not see the mask, fitted on the other
split (`lcmae.probes.baselines.second_order`; the probe `second_order` asks more of it).

Pictures of models with normalised targets need a mean and deviation for each hidden patch. With the
*true* ones the answer leaks into the picture: such pictures are kept apart, and labelled, from
those that use the nearest visible patch's.

Of each image its own errors are kept, too, with its class and a small picture: what a gallery sorts
images by, and what errors of two models differ by, image by image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import AnyMask, Mask, Random
from lcmae.models import MaskedImageModel, take
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.baselines.linear_fit import LinearFit, fit_linear, fixed_weights, patch_bases, patches_of
from lcmae.probes.baselines.pixels import nearest_visible
from lcmae.probes.baselines.position_mean import PositionMean
from lcmae.probes.baselines.second_order import predict
from lcmae.probes.measures import thumbnails
from lcmae.probes.statistics.running import RunningCovariance, RunningMean
from lcmae.probes.statistics.variables import variable, with_sem
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.pictures import draw, labelled

COMPONENTS, MOST_INPUTS, MOST_TARGETS = 16, 1568, 3136
"""Principal components of a patch that the linear predictor sees, and values of an image that enter
and are predicted: 8 and 16 of each of 196 patches."""

MOST_THUMBNAILS, THUMBNAIL = 1000, 32
"""Images that are kept as small pictures, the first ones, and their longest side in pixels: up to
3 KB each, in results of every step."""


class Reconstruction(Probe):
    """Returns errors over hidden patches in target space: `error` (model), `error_nearest` and
    `error_linear` with standard errors, `error_constant` and `error_position`, which are the least
    of their kind; `error_map` by position; of every image `image_error`, `image_error_nearest`,
    `image_class` (-1: unknown) and `image_thumbnail` (of the first `MOST_THUMBNAILS`); and pictures
    of the first images."""

    name: ClassVar[str] = "reconstruction"
    question: ClassVar[str] = "How well, and where, are hidden patches filled in?"
    needs_prediction: ClassVar[bool] = True
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {"untrained": ("error",)}

    baseline_images: int = Field(default=64, ge=0)
    """How many of the first images the baselines (untrained network, raw pixels) see, too; 0 leaves
    them out."""

    mask: AnyMask = Random()
    """Which patches are hidden."""

    num_pictures: int = Field(default=8, ge=0)
    """How many of the first images are kept as pictures."""

    linear_images: int = Field(default=2000, ge=0)
    """Most images of the other split to fit the linear predictor on; 0 leaves it out."""

    def for_baselines(self) -> "Reconstruction":
        """Without the linear predictor, which is no network's."""
        return self.model_copy(update={"linear_images": 0})

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Reconstruction":
        return _Reconstruction(self, model, num_images, seed)


@dataclass
class _Reconstruction(Accumulator):
    probe: Reconstruction
    model: MaskedImageModel
    num_images: int
    seed: int
    error: RunningMean = field(default_factory=RunningMean)
    nearest: RunningMean = field(default_factory=RunningMean)
    target: RunningCovariance = field(default_factory=RunningCovariance)
    position_mean: PositionMean = field(default_factory=PositionMean)
    linear: RunningMean = field(default_factory=RunningMean)
    fit: LinearFit | None = None
    no_linear: str | None = None
    """Why there is no linear predictor."""

    by_position: Tensor | None = None
    by_image: dict[str, Tensor] = field(default_factory=dict)
    """Error, the nearest patch's error, class and small picture of every image."""

    num_seen: int = 0

    pictures: dict[str, list[Tensor]] = field(default_factory=dict)

    def update(self, batch: Batch) -> None:
        mask, out = batch.masked(self.probe.mask, 1)
        target = self.model.targets(batch.images)

        # errors of the model, and of a copy of the nearest visible patch
        squared = (out.pred - target).square().mean(-1)
        copied = take(target, nearest_visible(mask, self.model.grid))
        error = squared.gather(1, mask.hidden).mean(1)
        nearest = (copied - target).square().mean(-1).gather(1, mask.hidden).mean(1)
        self.error.add(error)
        self.nearest.add(nearest)
        self._keep(batch, error, nearest)
        self.position_mean.add(target, mask.is_hidden)
        self._linear(batch, mask)
        # the best constant patch leaves the variance of the hidden targets
        self.target.add(take(target, mask.hidden).flatten(0, 1))

        sums = torch.stack([torch.where(mask.is_hidden, squared, 0.0).double().sum(0), mask.is_hidden.double().sum(0)])
        self.by_position = sums.cpu() + (0 if self.by_position is None else self.by_position)

        room = self.probe.num_pictures - batch.first
        if room > 0:
            few = slice(0, room)
            for name, picture in draw(self.model, batch.images[few], mask[few], out.pred[few]).items():
                self.pictures.setdefault(name, []).append(picture.cpu())

    def _keep(self, batch: Batch, error: Tensor, nearest: Tensor) -> None:
        """What is told of each image by itself."""
        classes = torch.full((len(batch),), -1) if batch.labels is None else batch.labels
        own = {"error": error.float(), "nearest": nearest.float(), "class": classes.to(torch.int32)}
        room = MOST_THUMBNAILS - batch.first
        if room > 0:
            pictures = rearrange(self.model.to_picture(batch.images[:room]), "b h w c -> b c h w")
            own["thumbnail"] = thumbnails.of_images(pictures.float() / 255, THUMBNAIL)
        for name, values in own.items():
            if name not in self.by_image:
                most = min(self.num_images, MOST_THUMBNAILS) if name == "thumbnail" else self.num_images
                self.by_image[name] = torch.empty((most, *values.shape[1:]), dtype=values.dtype)
            self.by_image[name][batch.first : batch.first + len(values)] = values.cpu()
        self.num_seen = batch.first + len(batch)

    def _linear(self, batch: Batch, mask: Mask) -> None:
        """The error of the best linear predictor on this batch."""
        if self.fit is None and self.no_linear is None:
            self.prepare(batch)
        fit = self.fit
        if fit is None:
            return
        hidden = mask.is_hidden.cpu().numpy()
        inputs, targets, rest = fit.bases.coordinates(*patches_of(self.model, batch.images))
        squared = ((predict(fit.moments, self.weights, inputs, hidden) - targets) ** 2).sum(-1) + rest
        by_image = np.where(hidden, squared, 0).sum(1) / hidden.sum(1) / self.model.config.patch_values
        self.linear.add(torch.from_numpy(by_image))

    def prepare(self, batch: Batch) -> None:
        probe, model, grid = self.probe, self.model, self.model.grid
        if probe.linear_images == 0:
            self.no_linear = "left out (linear_images 0)"
        elif probe.mask.needs_images:
            self.no_linear = f"needs masks that do not follow the image, got {type(probe.mask).__name__}"
        elif batch.other_split is None:
            self.no_linear = "needs images of a named data set, whose other split it is fitted on"
        else:
            try:
                images = batch.other_split(probe.linear_images)
            except InputError as error:
                self.no_linear = f"needs another split of the data: {error}"
                return
            if len(images) < 10:
                self.no_linear = f"needs at least 10 images of the other split, got {len(images)}"
                return
            # the ridge is chosen under random masks of the same ratio: one inverse a ridge
            alike = Random(ratio=probe.mask.num_hidden(grid) / model.num_patches)
            bases = patch_bases(
                model, images, components=COMPONENTS, most_inputs=MOST_INPUTS, most_targets=MOST_TARGETS
            )
            self.fit = fit_linear(model, images, bases, alike, self.seed)
            self.weights = fixed_weights(self.fit.moments, probe.mask, grid, self.fit.ridge, self.seed)
            self.fit = self.fit.without_covariances()

    def result(self) -> xr.Dataset:
        model, grid = self.model, self.model.grid
        assert self.by_position is not None
        normalised = model.config.normalize_targets
        units = "variance of a patch" if normalised else "squared input units"
        error_map = self.by_position[0] / self.by_position[1]  # NaN where no mask ever hid the place
        result = {
            **with_sem((), self.error, "error", "mean squared error of hidden patches", units),
            **with_sem(
                (),
                self.nearest,
                "error_nearest",
                "mean squared error of hidden patches, copying the nearest visible patch",
                units,
            ),
            "error_constant": variable(
                (),
                self.target.covariance.trace() / model.config.patch_values,
                "mean squared error of hidden patches, by the best constant patch",
                units,
            ),
            "error_position": variable(
                (),
                self.position_mean.error,
                "mean squared error of hidden patches, by the mean patch of each position",
                units,
            ),
            **self._error_linear(units),
            "error_map": variable(
                ("row", "column"), error_map.reshape(grid), "mean squared error where the patch was hidden", units
            ),
        }
        result |= self._images(units)
        result |= labelled({name: torch.cat(parts) for name, parts in self.pictures.items()}, units)
        attributes = {"normalised_targets": int(normalised), "patch_size": model.patch_size}
        if self.fit is not None:
            attributes |= {
                "linear_images": self.fit.moments.num_images,
                "linear_ridge": self.fit.ridge,
                "linear_stationary": int(self.fit.is_stationary),
            }
        return xr.Dataset(result, attrs=attributes)

    def _images(self, units: str) -> Mapping[str, xr.Variable]:
        own = {name: values[: self.num_seen] for name, values in self.by_image.items()}
        axes = ("thumbnail", "thumbnail_y", "thumbnail_x", "channel")
        return {
            "image_error": variable("image", own["error"], "mean squared error of an image's hidden patches", units),
            "image_error_nearest": variable(
                "image",
                own["nearest"],
                "mean squared error of an image's hidden patches, copying the nearest visible patch",
                units,
            ),
            "image_class": variable("image", own["class"], "class of the image (-1: unknown)"),
            "image_thumbnail": variable(axes, own["thumbnail"], "a small picture of the image", "pixel value"),
        }

    def _error_linear(self, units: str) -> Mapping[str, xr.Variable]:
        words = "mean squared error of hidden patches, by the best linear predictor of the visible patches"
        if self.linear.mean is not None:
            return with_sem((), self.linear, "error_linear", words, units)
        return {"error_linear": variable((), np.nan, words, units, missing=self.no_linear)}
