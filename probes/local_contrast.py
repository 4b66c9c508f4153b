"""What is the masked loss made of: noise from the mask, structure within the image, differences
between images?

The four terms are *lcmae's own definition*, exact (`lcmae.contrast`), asked for by the claim of Yue
et al., 2310.01994 ("From a Local Contrastive Perspective") that patch-level reconstruction hides a
contrast; they are not that paper's formulas. The exact split is of *this* loss over these K masks
and depends on K and on the ratio; beside it stands what infinitely many masks would give, estimated
without bias by pairs of different masks (`lcmae.probes.statistics.mask_pairs`). Pages and
comparisons of runs use the estimates; the exact split is the objective's, and that of single
images. Collapse levels: what the best constant prediction
scores in each term (Theorem 3.6 of "How Mask Matters", 2210.08344). The same split is made of the
encoder's tokens, whose variance has a share from the mask, from the patch and from the image.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import xarray as xr
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.contrast import TERMS, Decomposition, decompose_step
from lcmae.masking import AnyMask, Complementary, Random
from lcmae.models import MaskedImageModel
from lcmae.objectives.lcmae import visible_tokens
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.statistics.mask_pairs import ONE_IMAGE, UNSEEN, MaskPairs
from lcmae.probes.statistics.running import RunningCovariance, RunningGroupMeans, RunningMean
from lcmae.probes.statistics.variables import by_groups, by_leaving_out, error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.pictures import draw, picture_maps
from lcmae.shapes import Bool, Float


class LocalContrast(Probe):
    """Returns `term` (four parts of `loss` over these masks, exact) and `term_unbiased` (the same
    as estimates for infinitely many masks, which may be negative), with standard errors, beside
    `collapse` and `collapse_unbiased`; maps of both by position, exact ones of the first images;
    `token_share` and `token_share_unbiased` (mask, patch, image); and `position_share`, what
    position alone explains."""

    name: ClassVar[str] = "local_contrast"
    question: ClassVar[str] = (
        "What is the masked loss made of: mask noise, structure within images, differences between them?"
    )
    needs_prediction: ClassVar[bool] = True
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("loss", "term", "term_unbiased", "token_share", "token_share_unbiased", "position_share"),
        "pixels": ("loss", "term", "term_unbiased", "token_share", "token_share_unbiased"),
    }

    baseline_images: int = Field(default=64, ge=0)
    """How many of the first images the baselines (untrained network, raw pixels) see, too; 0 leaves
    them out."""

    mask: AnyMask = Random()
    """Which patches are hidden."""

    num_masks: int = Field(default=8, ge=2)
    """K: masks per image. The exact terms depend on it; the estimates (`term_unbiased`) do not, but
    have smaller errors with more."""

    num_pictures: int = Field(default=8, ge=0)
    """How many of the first images get maps of their own."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass (each with all its masks); does not change the result except for
    rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_LocalContrast":
        return _LocalContrast(self, model, num_images)


@dataclass
class _LocalContrast(Accumulator):
    probe: LocalContrast
    model: MaskedImageModel
    num_images: int

    def __post_init__(self) -> None:
        self.residual = NestedVariance()
        self.constant = NestedVariance()
        self.tokens = NestedVariance()
        even = self.probe.mask.is_uniform(self.model.grid)
        self.estimated = MaskPairs(self.num_images, even=even)
        self.estimated_tokens = MaskPairs(self.num_images, even=even)
        self.whole_means, self.whole_spread, self.of_positions = RunningCovariance(), RunningMean(), RunningMean()
        self.positions = {name: RunningGroupMeans(self.num_images) for name in ("target", "prediction", "token")}
        self.maps: dict[str, list[Tensor]] = {}

    def update(self, batch: Batch) -> None:
        num_masks = self.probe.num_masks
        masks, out = batch.masked(self.probe.mask, num_masks)
        target = self.model.targets(batch.images)
        hidden = rearrange(masks.is_hidden, "(b k) n -> b k n", k=num_masks)
        pred = rearrange(out.pred, "(b k) n p -> b k n p", k=num_masks)
        tokens, shown = visible_tokens(out, masks)
        tokens = rearrange(tokens, "(b k) n d -> b k n d", k=num_masks)
        shown = rearrange(shown, "(b k) n -> b k n", k=num_masks)

        # the residual, the residual of a constant (any one: only the offset depends on which), and
        # the tokens themselves
        parts = self.residual.add(pred, target, hidden)
        self.constant.add(torch.zeros_like(pred), target, hidden)
        self.tokens.add(tokens, torch.zeros_like(tokens[:, 0]), shown)

        # the same without the bias of few masks; of a constant, all patches of the image are known
        self.estimated.add(pred, target, hidden)
        self.estimated_tokens.add(tokens, torch.zeros_like(tokens[:, 0]), shown)
        self.whole_means.add(target.mean(1))
        self.whole_spread.add((target - target.mean(1, keepdim=True)).double().square().mean((1, 2))[:, None])

        self.of_positions.add(target)
        weight = hidden.sum(1)
        self.positions["target"].add(target, weight.double())
        self.positions["prediction"].add(_mean_over_masks(pred, hidden), weight.double())
        self.positions["token"].add(_mean_over_masks(tokens, shown), shown.sum(1).double())

        room = self.probe.num_pictures - batch.first
        if room > 0:
            few = slice(0, room)
            first_masks = masks[torch.arange(0, len(masks), num_masks, device=masks.hidden.device)]
            originals = draw(self.model, batch.images[few], first_masks[few], pred[few, 0])["original"]
            maps = {f"picture_{name}": values[few] for name, values in picture_maps(parts).items()}
            for name, values in {"original": originals, **maps}.items():
                self.maps.setdefault(name, []).append(values.cpu())

    def result(self) -> xr.Dataset:
        grid, place = self.model.grid, ("row", "column")
        units = "variance of a patch" if self.model.config.normalize_targets else "squared input units"
        terms, sems = self.residual.terms(), self.residual.sems()
        collapse = self.constant.terms() | {"invariance": 0.0, "offset": 0.0}
        tokens = self.tokens.terms()
        spread = math.fsum(tokens[name] for name in TERMS[:3])

        positions = list(self.positions.values())
        position, position_sem = (
            torch.stack(part) for part in zip(*(part.estimate() for part in positions), strict=True)
        )
        degrees = self.residual.per_image.degrees_of_freedom
        of_position = "share of the variance that position alone explains"

        result = {
            "loss": variable((), self.residual.loss, "masked loss (squared error)", units),
            "loss_sem": error_of((), self.residual.loss_sem, "masked loss", units, degrees=degrees),
            "term": variable("part", [terms[name] for name in TERMS], "part of the masked loss", units),
            "term_sem": error_of(
                "part", [sems[name] for name in TERMS], "part of the masked loss", units, degrees=degrees
            ),
            **self._groups(units),
            **self._estimates(units),
            "collapse": variable(
                "part",
                [collapse[name] for name in TERMS],
                "part of the masked loss of the best constant prediction",
                units,
            ),
            "token_share": variable(
                "source",
                [tokens[name] / spread if spread > 0 else math.nan for name in TERMS[:3]],
                "share of the encoder tokens' variance",
            ),
            "position_share": variable("quantity", position, of_position),
            "position_share_sem": error_of(
                "quantity",
                position_sem,
                of_position,
                degrees=self.positions["target"].sums.degrees_of_freedom,
                method="jackknife",
            ),
            **by_leaving_out(
                "quantity",
                torch.stack([part.leave_out()[1] for part in positions], dim=1),
                positions[0].sums.filled_sizes,
                "position_share",
                of_position,
            ),
        }
        for name, values in self.residual.maps().items():
            result[f"{name}_map"] = variable(
                place, values.reshape(grid), f"{name.replace('_', ' ')} where hidden", units
            )
        for name, parts in self.maps.items():
            if name == "original":
                result[name] = variable(("picture", "y", "x", "channel"), torch.cat(parts), "image", "pixel value")
            else:
                values = torch.cat(parts).unflatten(1, grid)
                result[name] = variable(
                    ("picture", *place), values, name.removeprefix("picture_").replace("_", " "), units
                )
        coordinates = {"part": list(TERMS), "source": ["mask", "patch", "image"], "quantity": list(self.positions)}
        attributes = {
            "definition": "lcmae's own (DESIGN.md), not the LC-MAE paper's",
            "exact": f"term, collapse, token_share and maps: the split over these {self.probe.num_masks} masks an image",
            "unbiased": "by pairs of different masks: what infinitely many masks would give; never clipped",
        }
        return xr.Dataset(result, coordinates, attributes)

    def _estimates(self, units: str) -> Mapping[str, xr.Variable]:
        """Terms, maps by position and token shares as estimates for infinitely many masks; NaN,
        with the reason in the attribute `missing`, where they cannot be had."""
        assert self.whole_means.mean is not None
        assert self.whole_spread.mean is not None
        count, place, grid = self.whole_means.count, ("row", "column"), self.model.grid
        few = "estimate for infinitely many masks"
        found: dict[str, xr.Variable] = {}
        for name, dims, words, unit, pairs, estimate in (
            ("term", "part", "part of the masked loss", units, self.estimated, self.estimated.terms()),
            ("token_share", "source", "share of the encoder tokens' variance", "1", self.estimated_tokens,
             self.estimated_tokens.shares()),
        ):  # fmt: skip
            key, words = f"{name}_unbiased", f"{words}, {few}"
            degrees = pairs.degrees_of_freedom
            found[key] = variable(dims, self._independent(estimate.value), words, unit, **self._missing(estimate.value))
            found[f"{key}_sem"] = error_of(
                dims, self._independent(estimate.sem), words, unit, degrees=degrees, method="jackknife"
            )
            found |= by_leaving_out(dims, self._independent(estimate.without), pairs.sizes, key, words, unit)
        for name, estimate in (
            ("invariance", self.estimated.invariance_map()),
            ("local_consistency", self.estimated.local_map()),
        ):
            key, words = f"{name}_map_unbiased", f"{name.replace('_', ' ')} where hidden, {few}"
            value, sem = (self._independent(part).reshape(grid) for part in (estimate.value, estimate.sem))
            found[key] = variable(place, value, words, units, **self._missing(estimate.value))
            degrees = self.estimated.degrees_of_freedom
            found[f"{key}_sem"] = error_of(place, sem, words, units, degrees=degrees, method="jackknife")
        spread = self.whole_means.covariance.diagonal().mean()
        between = float(spread) * count / (count - 1) if count > 1 else math.nan
        constant = [0.0, float(self.whole_spread.mean[0]), between, 0.0]
        # less what differs between positions in every image alike
        means = self.of_positions.mean
        assert means is not None
        of_position = float((means - means.mean(0)).square().mean())
        position = [0.0, constant[1] - of_position, between, 0.0]
        return found | {
            "collapse_position": variable(
                "part", position, "part of the masked loss of the mean patch of each position", units
            ),
            "collapse_unbiased": variable(
                "part", constant, "part of the loss of the best constant prediction over all patches", units
            ),
            "invariance_unbiased": variable((), found["term_unbiased"].values[0], f"invariance, {few}", units),
        }

    def _independent(self, values: Tensor) -> Tensor:
        """The values, or NaN where the masks of an image depend on each other."""
        return torch.full_like(values, math.nan) if isinstance(self.probe.mask, Complementary) else values

    def _missing(self, values: Tensor) -> dict[str, str]:
        if isinstance(self.probe.mask, Complementary):
            return {"missing": "complementary masks of an image are not independent of each other"}
        return {"missing": UNSEEN if self.num_images > 1 else ONE_IMAGE} if bool(values.isnan().any()) else {}

    def _groups(self, units: str) -> Mapping[str, xr.Variable]:
        """Means by group, for paired differences: of the loss, and of the parts that are means over
        images."""
        per_image = self.residual.per_image
        means = per_image.group_means
        assert means is not None
        loss, parts = means[:, 0], means.new_full((len(means), len(TERMS)), math.nan)
        parts[:, :2] = means[:, 1:]
        return {
            **by_groups((), loss, per_image.count, "loss", "masked loss", units),
            **by_groups("part", parts, per_image.count, "term", "part of the masked loss", units),
        }


class NestedVariance:
    """The four terms of `lcmae.contrast` over any number of images: sums by image, merged; equal to
    one big `decompose`.

    Every image must have the same number of weighted values, which strategies' exact counts
    guarantee.
    """

    def __init__(self) -> None:
        self.per_image = RunningMean()  # loss, invariance, local consistency of each image
        self.image_means = RunningCovariance()  # (e_b, |e_b|^2)
        self.by_position: Tensor | None = None

    def add(
        self, pred: Float[Tensor, "b k n p"], target: Float[Tensor, "b n p"], hidden: Bool[Tensor, "b k n"]
    ) -> Decomposition:
        """Take in a batch; returns its own decomposition."""
        pred, target = pred.double(), target.double()
        parts = decompose_step(pred, target, hidden)
        per_image = parts.count.sum(1)
        maps = torch.stack([parts.loss_map, parts.invariance_map, parts.local_consistency_map])
        self.per_image.add((maps.sum(2) / per_image).T)

        residual = torch.where(hidden[..., None], pred - target[:, None], 0.0)
        means = residual.sum((1, 2)) / per_image[:, None]
        self.image_means.add(torch.cat([means, means.square().sum(1, keepdim=True)], dim=1))
        self.num_values = pred.shape[-1]

        sums = torch.cat([maps.sum(1), parts.count.sum(0)[None]]).cpu()
        self.by_position = sums + (0 if self.by_position is None else self.by_position)
        return parts

    @property
    def loss(self) -> float:
        assert self.per_image.mean is not None
        return float(self.per_image.mean[0])

    @property
    def loss_sem(self) -> float:
        return float(self.per_image.sem[0])

    def terms(self) -> dict[str, float]:
        """The four terms by name."""
        assert self.per_image.mean is not None
        assert self.image_means.mean is not None
        centre = self.image_means.mean[:-1]
        spread = self.image_means.covariance.diagonal()[:-1].sum()
        values = (*self.per_image.mean[1:], spread / self.num_values, centre.square().mean())
        return dict(zip(TERMS, map(float, values), strict=True))

    def sems(self) -> dict[str, float]:
        """Standard errors over images; those of the last two terms by the delta method from the
        means' covariance."""
        assert self.image_means.mean is not None
        count = self.image_means.count
        if count < 2:
            return dict.fromkeys(TERMS, math.nan)
        covariance, centre = self.image_means.covariance * count / (count - 1), self.image_means.mean[:-1]
        # |e_b - e_0|^2 = |e_b|^2 - 2 e_b . e_0 + const, and d |e_0|^2 = 2 e_0 . d e_0
        towards = torch.cat([-2 * centre, torch.ones(1, dtype=torch.float64)])
        of_global = (towards @ covariance @ towards).clamp(min=0)
        of_offset = 4 * (centre @ covariance[:-1, :-1] @ centre).clamp(min=0)
        means = (torch.stack([of_global, of_offset]) / count).sqrt() / self.num_values
        return dict(zip(TERMS, map(float, (*self.per_image.sem[1:], *means)), strict=True))

    def maps(self) -> dict[str, Float[Tensor, " n"]]:
        """Loss, invariance and local consistency by place, means over the times the place was
        weighted."""
        assert self.by_position is not None
        loss, invariance, local, count = self.by_position
        return {"loss": loss / count, "invariance": invariance / count, "local_consistency": local / count}


def _mean_over_masks(values: Float[Tensor, "b k n p"], seen: Bool[Tensor, "b k n"]) -> Float[Tensor, "b n p"]:
    weight = seen[..., None].to(values.dtype)
    return (values * weight).sum(1) / weight.sum(1).clamp(min=1)
