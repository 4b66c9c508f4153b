"""What did the network learn beyond patch covariance?

The masked loss of the model beside what linear algebra reaches on the same hidden patches:

* `linear`: the best linear predictor that does not see the mask; `linear, 8 neighbours` the same
  from touching patches alone;
* `wiener`: the best linear predictor for each mask, the best of all for Gaussian images;
* `position mean`, `constant` (the best constant patch) and `nearest` (the nearest visible patch);
* `untrained`: a network of the same shape.

A model that does not pass `linear` has not yet learned what the second-order statistics say; what
it is better by than `wiener` is beyond any Gaussian account of the images. All are fitted on the
other split of the data. The closed forms are lcmae's own derivation
(`lcmae.probes.baselines.second_order`), in the family of "Linear masked autoencoders" (Bisulco et
al., arXiv 2508.15404).

Patches are reduced to their first principal components as inputs and as targets; what that leaves
out of a target counts as error. The ridge, and whether covariances depend on the offset of two
patches alone, are chosen on held-out images of the fit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from pydantic import Field, field_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import AnyMask, Mask, MaskStrategy, Random
from lcmae.models import MaskedImageModel, take
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.baselines.linear_fit import (
    Images,
    LinearFit,
    PatchBases,
    draw_masks,
    fit_linear,
    fixed_weights,
    patch_bases,
    patches_of,
)
from lcmae.probes.baselines.pixels import nearest_visible
from lcmae.probes.baselines.second_order import neighbours, predict, predict_wiener, reach, shared_spectrum
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.jackknife import NUM_GROUPS, GroupedSums, groups_of
from lcmae.probes.statistics.variables import GIVEN_FIT, error_of, variable
from lcmae.probes.watching.batch import Batch

LINEAR, NEAR, WIENER = "linear", "linear, 8 neighbours", "wiener"
POSITION, CONSTANT, NEAREST = "position mean", "constant", "nearest"
_ROUNDING = 1e-10
"""A mean squared error below this is the rounding of float32 targets of order 1."""


class SecondOrder(Probe):
    """Returns by network (the model's own label is `trained`) and masking ratio the mean squared
    `error` of hidden patches and `r2`, the share of the variance about the position mean that is
    explained; `gain_over_linear` and `gain_over_wiener` of the trained network in `r2`;
    `gain_map`, `reach`, `far_gain`, `shared_directions` and `shared_variance` of the covariance."""

    name: ClassVar[str] = "second_order"
    question: ClassVar[str] = "What did the network learn beyond patch covariance?"
    needs_prediction: ClassVar[bool] = True
    concludes_last: ClassVar[bool] = True
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("untrained", LINEAR, NEAR, WIENER, POSITION, CONSTANT, NEAREST), ("error", "r2")
    )

    mask: AnyMask = Random()
    """Mask strategy; its ratio is measured beside `ratios`."""

    ratios: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    """Masking ratios, each with the strategy's other settings; those that the grid does not allow
    are left out."""

    num_masks: int = Field(default=32, ge=8, multiple_of=8)
    """Different masks of each ratio; images take them in turn."""

    fit_images: int = Field(default=4000, ge=10)
    """Most images of the other split to fit the linear predictors on."""

    most_images: int = Field(default=1000, ge=2)
    """Most images that are measured."""

    components: int = Field(default=16, ge=1)
    """Principal components of a patch that linear predictors see."""

    untrained: bool = True
    """Whether an untrained network of the same shape is measured, too."""

    @field_validator("ratios")
    @classmethod
    def _ratios_rise(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < value < 1 for value in values) or list(values) != sorted(set(values)):
            raise ValueError("expected rising ratios between 0 and 1")
        return values

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_SecondOrder":
        self.require(num_images >= 2, f"at least 2 images, got {num_images}")
        return _SecondOrder(self, model, num_images, seed)


@dataclass
class _SecondOrder(Accumulator):
    probe: SecondOrder
    model: MaskedImageModel
    num_images: int
    seed: int
    other_split: Images | None = None
    """What linear predictors are fitted on, after the last image: covariances are large."""
    bases: PatchBases | None = None
    fit: LinearFit | None = None
    errors: dict[str, list[Tensor]] = field(default_factory=dict)
    """Squared errors of all patches by network, [ratios b n] a batch."""
    inputs: list[np.ndarray] = field(default_factory=list)
    targets: list[np.ndarray] = field(default_factory=list)
    rest: list[np.ndarray] = field(default_factory=list)
    """What the targets' components leave out of each patch, [b n] a batch."""

    def __post_init__(self) -> None:
        probe, model = self.probe, self.model
        own: float | None = getattr(probe.mask, "ratio", None)
        self.strategies: dict[float, MaskStrategy] = {}
        ratios: set[float] = {*probe.ratios, *([] if own is None else [own])}
        for ratio in sorted(ratios):
            strategy = probe.mask.model_copy(update={"ratio": ratio}) if own is not None else probe.mask
            try:
                hidden = strategy.num_hidden(model.grid)
            except InputError:
                continue
            if 0 < hidden < model.num_patches:
                self.strategies[ratio] = strategy
        probe.require(bool(self.strategies), f"a masking ratio that a grid of {model.grid[0]}x{model.grid[1]} can have")
        probe.require(
            not probe.mask.needs_images, f"masks that do not follow the image, got {type(probe.mask).__name__}"
        )
        self.own = own if own in self.strategies else next(iter(self.strategies))
        self.masks = {ratio: self._draw(strategy, probe.num_masks) for ratio, strategy in self.strategies.items()}
        fresh = untrained(model, self.seed) if probe.untrained else None
        self.networks = {TRAINED: model} | ({} if fresh is None else {"untrained": fresh})

    def _draw(self, strategy: MaskStrategy, count: int) -> Mask:
        return draw_masks(strategy, self.model.grid, count, self.seed, "second-order-mask")

    @property
    def num_steps(self) -> int:
        return len(self.strategies) + 1

    # --- fitting ---

    def prepare(self, batch: Batch) -> None:
        need = "images of a named data set, whose other split the linear predictors are fitted on"
        self.probe.require(batch.other_split is not None, need)
        assert batch.other_split is not None
        images = batch.other_split(self.probe.fit_images)
        self.probe.require(len(images) >= 10, f"at least 10 images of the other split, got {len(images)}")
        self.other_split, self.bases = images, patch_bases(self.model, images, components=self.probe.components)

    def _fitted(self) -> LinearFit:
        assert self.other_split is not None
        assert self.bases is not None
        masks, strategy = self.masks[self.own].is_hidden.numpy()[:4], self.strategies[self.own]
        return fit_linear(self.model, self.other_split, self.bases, strategy, self.seed, filter_masks=masks)

    def _fixed(self, ratio: float, allowed: np.ndarray | None = None) -> np.ndarray:
        fit, strategy = self.fit, self.strategies[ratio]
        assert fit is not None
        return fixed_weights(fit.moments, strategy, self.model.grid, fit.ridge, self.seed, allowed)

    # --- measuring ---

    def rows(self, first: int, count: int) -> Tensor:
        """The mask of each image: groups of images (those of the jackknife) have masks of their
        own, so errors over groups hold the masks' part, too."""
        indices = range(first, first + count)
        each = self.probe.num_masks // NUM_GROUPS
        measured = min(self.num_images, self.probe.most_images)
        return groups_of(indices, measured) * each + torch.tensor(list(indices)) % each

    def update(self, batch: Batch) -> None:
        if self.bases is None:
            self.prepare(batch)
        bases = self.bases
        assert bases is not None
        room = self.probe.most_images - batch.first
        if room <= 0:
            return
        images = batch.images[:room]
        inputs, targets, rest = bases.coordinates(*patches_of(self.model, images))
        target = self.model.targets(images)
        self.inputs.append(inputs.astype(np.float32))
        self.targets.append(targets.astype(np.float32))
        self.rest.append(rest)

        rows = self.rows(batch.first, len(images))
        constant = torch.as_tensor(bases.position_mean.mean(0), dtype=target.dtype, device=target.device)
        position = torch.as_tensor(bases.position_mean, dtype=target.dtype, device=target.device)
        found: dict[str, list[Tensor]] = {}
        for ratio in self.strategies:
            mask = self.masks[ratio][rows].to(images.device)
            with torch.no_grad():
                for name, network in self.networks.items():
                    found.setdefault(name, []).append((network(images, mask).pred - target).square().mean(-1))
            copied = take(target, nearest_visible(mask, self.model.grid))
            found.setdefault(NEAREST, []).append((copied - target).square().mean(-1))
            found.setdefault(POSITION, []).append((position - target).square().mean(-1))
            found.setdefault(CONSTANT, []).append((constant - target).square().mean(-1))
        for name, errors in found.items():
            self.errors.setdefault(name, []).append(torch.stack(errors).double().cpu())

    def conclude(self) -> Iterator[None]:
        fit = self.fit = self._fitted()
        yield
        x, t, rest = (np.concatenate(parts).astype(float) for parts in (self.inputs, self.targets, self.rest))
        moments, values = fit.moments, self.model.config.patch_values
        rows = self.rows(0, len(x)).numpy()
        self.linear: dict[str, list[np.ndarray]] = {LINEAR: [], NEAR: [], WIENER: []}
        self.reach: list[np.ndarray] = []
        self.spectra: list[np.ndarray] = []
        near = neighbours(self.model.grid)
        for ratio in self.strategies:
            hidden = self.masks[ratio].is_hidden.numpy()
            weights = self._fixed(ratio)
            self.reach.append(reach(moments, weights, self.model.grid))
            found = predict(moments, weights, x, hidden[rows])
            self.linear[LINEAR].append((((found - t) ** 2).sum(-1) + rest) / values)
            weights = self._fixed(ratio, near)
            found = predict(moments, weights, x, hidden[rows])
            self.linear[NEAR].append((((found - t) ** 2).sum(-1) + rest) / values)
            filtered = np.zeros_like(rest)
            for number in range(self.probe.num_masks):
                mine = rows == number
                if mine.any():
                    found = predict_wiener(moments, x[mine], hidden[number], fit.wiener_ridge)
                    filtered[mine] = (((found - t[mine]) ** 2).sum(-1) + rest[mine]) / values
            self.linear[WIENER].append(filtered)
            visible = (~hidden).astype(float)
            self.spectra.append(shared_spectrum(moments, visible.T @ visible / len(visible)))
            yield

    def result(self) -> xr.Dataset:
        if not hasattr(self, "linear"):
            for _ in self.conclude():
                pass
        fit, ratios = self.fit, list(self.strategies)
        assert fit is not None
        errors = {name: torch.cat(parts, 1) for name, parts in self.errors.items()}
        errors |= {name: torch.as_tensor(np.stack(parts)) for name, parts in self.linear.items()}
        order = [TRAINED, *(name for name in self.probe.baselines if name in errors)]
        stack = torch.stack([errors[name] for name in order])  # [network ratio image patch]
        count = stack.shape[2]
        rows = self.rows(0, count)
        hidden = torch.stack([mask.is_hidden[rows] for mask in self.masks.values()])  # [ratio image patch]
        image = (stack * hidden).sum(-1) / hidden.sum(-1)  # [network ratio image]

        sums = GroupedSums(count)
        sums.add(range(count), error=image.permute(2, 0, 1), count=torch.ones(count, 1, 1))
        base = order.index(POSITION)

        def share(total: dict[str, Tensor]) -> Tensor:
            # targets that do not vary about their positions' means leave nothing to explain
            left = total["error"][base]
            return 1 - total["error"] / torch.where(left > _ROUNDING * total["count"], left, torch.nan)

        degrees = sums.degrees_of_freedom
        mean, mean_sem = sums.estimate(lambda total: total["error"] / total["count"])
        r2, r2_sem = sums.estimate(share)
        normalised = self.model.config.normalize_targets
        units = "variance of a patch" if normalised else "squared input units"
        dims = ("network", "ratio")
        result: dict[str, xr.Variable] = {
            "error": variable(dims, mean, "mean squared error of hidden patches", units),
            "error_sem": error_of(
                dims,
                mean_sem,
                "mean squared error of hidden patches",
                units,
                degrees=degrees,
                over=GIVEN_FIT,
                method="jackknife",
            ),
            "r2": variable(dims, r2, "share of the variance about the position mean that is explained"),
            "r2_sem": error_of(
                dims,
                r2_sem,
                "share of the variance that is explained",
                degrees=degrees,
                over=GIVEN_FIT,
                method="jackknife",
            ),
        }
        for name, other in (("linear", LINEAR), ("wiener", WIENER)):
            gain, gain_sem = sums.estimate(
                lambda total, other=other: share(total)[0] - share(total)[order.index(other)]
            )
            words = f"explained share of the trained network less that of {other}"
            result[f"gain_over_{name}"] = variable(("ratio",), gain, words)
            result[f"gain_over_{name}_sem"] = error_of(
                ("ratio",), gain_sem, words, degrees=degrees, over=GIVEN_FIT, method="jackknife"
            )
        far, far_sem = sums.estimate(lambda total: share(total)[order.index(LINEAR)] - share(total)[order.index(NEAR)])
        words = "explained share of the linear predictor less that from the 8 neighbours alone"
        result["far_gain"] = variable(("ratio",), far, words)
        result["far_gain_sem"] = error_of(
            ("ratio",), far_sem, words, degrees=degrees, over=GIVEN_FIT, method="jackknife"
        )

        own = ratios.index(self.own)
        seen = hidden[own].sum(0)
        by_position = (stack[:, own] * hidden[own]).sum(1) / torch.where(seen > 0, seen, torch.nan)
        around = torch.where(by_position[base] > _ROUNDING, by_position[base], torch.nan)
        gain_map = (by_position[order.index(LINEAR)] - by_position[0]) / around
        grid = self.model.grid
        result["gain_map"] = variable(
            ("row", "column"),
            gain_map.reshape(grid),
            "gain over the linear predictor, share of the position's variance",
        )
        result["reach"] = variable(
            ("ratio",),
            np.array([one[np.isfinite(one)].mean() if np.isfinite(one).any() else np.nan for one in self.reach]),
            "mean distance of the inputs of the linear predictor, by what they contribute",
            "patches",
        )
        shares = np.stack([np.cumsum(_shares(values)) for values in self.spectra])
        result["shared_directions"] = variable(
            ("ratio",),
            (shares < 0.9).sum(1) + 1,
            "directions of a linear code for 90 % of what it explains",
            "directions",
        )
        result["shared_variance"] = variable(
            ("ratio", "direction"),
            np.stack([_shares(values) for values in self.spectra])[:, :64],
            "share of each direction of a linear code in what all explain",
        )
        directions = result["shared_variance"].shape[1]
        return xr.Dataset(
            result,
            coords={
                "network": order,
                "ratio": variable("ratio", np.array(ratios), "masking ratio"),
                "direction": variable("direction", np.arange(1, directions + 1), "direction, largest first"),
            },
            attrs={
                "normalised_targets": int(normalised),
                "own_ratio": self.own,
                "fit_images": fit.moments.num_images,
                "measured_images": count,
                "ridge": fit.ridge,
                "wiener_ridge": fit.wiener_ridge,
                "ridge_at_edge": int(fit.at_edge),
                "stationary": int(fit.is_stationary),
                "input_components": fit.bases.inputs.directions.shape[1],
                "input_variance_left_out": fit.bases.inputs.left_out,
                "target_components": fit.bases.targets.directions.shape[1],
                "definition": "lcmae's own closed forms; errors over images, whose groups have masks of their own",
            },
        )


def _shares(values: np.ndarray) -> np.ndarray:
    """Eigenvalues over their sum; NaN where they are rounding."""
    total = values.sum()
    return values / total if total > _ROUNDING else np.full_like(values, np.nan)
