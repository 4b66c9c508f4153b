"""How well, and where, are hidden patches filled in?

Source: the reconstruction error of MAE (He et al., 2111.06377). Baselines are ours: the best
constant patch (the level of full collapse, Theorem 3.6 of "How Mask Matters", 2210.08344), the mean
patch of each position (where objects are centred, the constant flatters a model) and a copy of the
nearest visible patch.

Pictures of models with normalised targets need a mean and deviation for each hidden patch. With the
*true* ones the answer leaks into the picture: such pictures are kept apart, and labelled, from
those that use the nearest visible patch's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from lcmae.masking import AnyMask, Random
from lcmae.models import MaskedImageModel, take
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.baselines.pixels import nearest_visible
from lcmae.probes.baselines.position_mean import PositionMean
from lcmae.probes.statistics.running import RunningCovariance, RunningMean
from lcmae.probes.statistics.variables import variable, with_sem
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.pictures import draw, labelled


class Reconstruction(Probe):
    """Returns errors over hidden patches in target space: `error` (model) and `error_nearest` with
    standard errors, `error_constant` and `error_position`, which are the least of their kind;
    `error_map` by position; and pictures of the first images."""

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

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Reconstruction":
        return _Reconstruction(self, model)


@dataclass
class _Reconstruction(Accumulator):
    probe: Reconstruction
    model: MaskedImageModel
    error: RunningMean = field(default_factory=RunningMean)
    nearest: RunningMean = field(default_factory=RunningMean)
    target: RunningCovariance = field(default_factory=RunningCovariance)
    position_mean: PositionMean = field(default_factory=PositionMean)
    by_position: Tensor | None = None
    pictures: dict[str, list[Tensor]] = field(default_factory=dict)

    def update(self, batch: Batch) -> None:
        mask, out = batch.masked(self.probe.mask, 1)
        target = self.model.targets(batch.images)

        # errors of the model, and of a copy of the nearest visible patch
        squared = (out.pred - target).square().mean(-1)
        copied = take(target, nearest_visible(mask, self.model.grid))
        self.error.add(squared.gather(1, mask.hidden).mean(1))
        self.nearest.add((copied - target).square().mean(-1).gather(1, mask.hidden).mean(1))
        self.position_mean.add(target, mask.is_hidden)
        # the best constant patch leaves the variance of the hidden targets
        self.target.add(take(target, mask.hidden).flatten(0, 1))

        sums = torch.stack([torch.where(mask.is_hidden, squared, 0.0).double().sum(0), mask.is_hidden.double().sum(0)])
        self.by_position = sums.cpu() + (0 if self.by_position is None else self.by_position)

        room = self.probe.num_pictures - batch.first
        if room > 0:
            few = slice(0, room)
            for name, picture in draw(self.model, batch.images[few], mask[few], out.pred[few]).items():
                self.pictures.setdefault(name, []).append(picture.cpu())

    def result(self) -> xr.Dataset:
        model, grid = self.model, self.model.grid
        assert self.by_position is not None
        normalised = model.config.normalize_targets
        units = "variance of a patch" if normalised else "squared input units"
        error_map = self.by_position[0] / self.by_position[1]  # NaN where no mask ever hid the place
        result = {
            **with_sem((), self.error, "error", "mean squared error of hidden patches", units),
            **with_sem((), self.nearest, "error_nearest", "the same, copying the nearest visible patch", units),
            "error_constant": variable(
                (),
                self.target.covariance.trace() / model.config.patch_values,
                "the same, by the best constant patch",
                units,
            ),
            "error_position": variable(
                (), self.position_mean.error, "the same, by the mean patch of each position", units
            ),
            "error_map": variable(
                ("row", "column"), error_map.reshape(grid), "mean squared error where the patch was hidden", units
            ),
        }
        result |= labelled({name: torch.cat(parts) for name, parts in self.pictures.items()}, units)
        return xr.Dataset(result, attrs={"normalised_targets": int(normalised), "patch_size": model.patch_size})
