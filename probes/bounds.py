"""How does the loss of a checkpoint stand to the bounds of "How Mask Matters"? Over a run's
checkpoints: `--every-step`.

Source: Zhang, Wang and Wang, 2210.08344, with h = g o f (decoder after encoder), x1 visible and x2
hidden:

    theorem 3.4   L_MAE(h)   >= 1/2 L_align(h) - eps + const,   L_align(h) = - E h(x1)^T h(x1+)
    theorem 3.6   f constant  =>  L_MAE(h) >= Var(x2)
    theorem 4.2   L_U-MAE(h) >= 1/(4 L) sum over i > k of lambda_i^2 - eps + const

The constants, and the decoder's Lipschitz constant L, are unknown, so nothing here proves or
refutes a theorem: the sides are measured and followed. How each is measured is *lcmae's own*:

* A positive pair shares a hidden part. We draw K masks and take x2 = the patches that both masks of
  a pair hide. For these an exact identity holds, and it is told beside the theorem: with
  predictions p, p+ of the target t, and means over pairs, 1/2 (|p - t|^2 + |p+ - t|^2) = |(p +
  p+)/2 - t|^2 + 1/2 |p|^2 + 1/2 L_align, so the loss is at least half of the mean squared length
  plus half of L_align, without eps (`pair_bound`).
* Var(x2) about the mean hidden patch (global), about the mean at each place (what a decoder that
  knows places alone can reach, so the level of a constant encoder), and about each image's own
  mean.
* eps: the loss of reconstructing x2 from f(x2), masks swapped. The decoder was never trained to do
  so, hence an upper bound of what its class could reach.
* Eigenvalues of the graph: kernel form in pixels (`lcmae.probes.mask_graphs.kernel`), the same at
  every checkpoint, for several bandwidths.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from einops import rearrange
from pydantic import Field, field_validator
from torch import Tensor

from lcmae.masking import AnyMask, Random
from lcmae.models import Feature, MaskedImageModel, take
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.mask_graphs.kernel import gaussian, spectrum
from lcmae.probes.mask_graphs.numbers import DENSE, rising
from lcmae.probes.mask_graphs.sample import Distances, GraphSample, fixed_masks
from lcmae.probes.measures.paired_views import PairedViews, Views
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.shapes import Bool, Float

LEVELS = ("global", "position", "image")
CONSTANT = 1e-12
"""Variance below this share of the mean square is rounding."""

ROUNDING = 1e-6
"""Variance of normalised targets, 1 for a patch with any content, that is rounding: patches of one
colour, divided by 1e-3."""


class Bounds(Probe):
    """Returns `loss`; `pair_loss`, `half_alignment` and `pair_bound` of pairs that share a hidden
    part, and their `alignment` (by overlap of what is visible); `variance` of hidden patches by
    `level`, and `share_of_variance`; `uniformity` and `umae_loss`; `autoencoding` (eps); `tail` of
    the augmentation graph by (bandwidth, rank), and `tail_at_width`."""

    name: ClassVar[str] = "bounds"
    question: ClassVar[str] = (
        'How does the loss stand to alignment, variance and spectrum, the bounds of "How Mask Matters"?'
    )
    needs_prediction: ClassVar[bool] = True

    mask: AnyMask = Random()
    """Which patches are hidden. The theorems are about the mask of the training."""

    num_masks: int = Field(default=4, ge=2)
    """K: masks per image; all K (K - 1) / 2 pairs are compared."""

    num_bins: int = Field(default=10, ge=1)
    """Bins of the overlap of two visible sets (shared patches / visible patches), between 0 and
    1."""

    weight: float = Field(default=0.01, ge=0)
    """lambda of L_U-MAE = L_MAE + lambda L_unif (dimensionless)."""

    feature: Feature | None = None
    """Which vector L_unif is of: the class token or the mean of the visible tokens; by default the
    model's own choice."""

    rank: int | None = Field(default=None, ge=1)
    """k of theorem 4.2, fewer than images; by default the encoder's width, or all but one where
    images are few."""

    num_sampled: int = Field(default=500, ge=2, le=DENSE)
    """Most images that the graph is made of: every pair of them is compared."""

    num_graph_masks: int = Field(default=2, ge=1)
    """Masks that the graph's spectrum is the mean over."""

    bandwidths: tuple[float, ...] = (0.35, 0.5, 0.7)
    """Kernel bandwidths, in units of the median distance between a whole image and the nearest
    other one."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass (each with all its masks); does not change the result except for
    rounding."""

    _rise = field_validator("bandwidths")(rising)

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Bounds":
        num_sampled = min(self.num_sampled, num_images)
        self.require(num_sampled >= 2, f"at least 2 images, got {num_sampled}")
        self.require(
            (self.rank or 1) < num_sampled, f"more images than the rank {self.rank} of the tail, got {num_sampled}"
        )
        self.require(not self.mask.needs_images, f"masks that all images can share, got {self.mask.kind}")
        self.require(
            self.feature != "cls" or model.num_prefix > 0, "a class token for feature cls, got a model without"
        )
        return _Bounds(self, model, num_images, seed)


@dataclass
class _Bounds(Accumulator):
    probe: Bounds
    model: MaskedImageModel
    num_images: int
    seed: int

    def __post_init__(self) -> None:
        probe = self.probe
        self.feature: Feature = probe.feature or self.model.config.feature
        self.sums = GroupedSums(self.num_images)
        self.pairs = PairedViews(("prediction", self.feature), self.num_images, probe.num_bins)
        masks = fixed_masks(probe.mask, self.model.grid, probe.num_graph_masks, self.seed)
        self.sample = GraphSample(masks, probe.num_sampled, self.num_images, self.seed)
        self.rank = probe.rank or min(self.model.config.width, len(self.sample) - 1)
        self.tail: np.ndarray | None = None

    def update(self, batch: Batch) -> None:
        num_masks = self.probe.num_masks
        masks, out = batch.masked(self.probe.mask, num_masks)
        target = self.model.targets(batch.images)
        pred = rearrange(out.pred, "(b k) n p -> b k n p", k=num_masks)
        hidden = rearrange(masks.is_hidden, "(b k) n -> b k n", k=num_masks)
        pooled = rearrange(out.feature(self.feature), "(b k) d -> b k d", k=num_masks)

        sums = {
            "images": torch.ones(len(target)),
            **masked_sums(pred, target, hidden),
            **pair_sums(pred, target, hidden),
            "outer": torch.einsum("b d, b e -> b d e", *[_unit(pooled[:, 0])] * 2),
            "directions": (_unit(pooled[:, 0]).square().sum(-1) > 0).double(),
            "autoencoding": self._autoencoding(batch),
        }
        self.sums.add(batch.indices, **sums)
        shown = ~hidden
        self.pairs.add("prediction", Views(pred, hidden, shown), batch.indices)
        self.pairs.add(self.feature, Views(pooled[:, :, None], torch.ones_like(shown[..., :1]), shown), batch.indices)
        self.sample.add(batch, parts=False, whole=False)

    def _autoencoding(self, batch: Batch) -> Float[Tensor, " b"]:
        """Mean squared error of x2 as reconstructed from f(x2): what the first mask hides is all
        that the encoder sees."""
        mask = batch.masks(self.probe.mask, self.probe.num_masks)[:: self.probe.num_masks].to(batch.images.device)
        with torch.no_grad():
            pred = self.model(batch.images, mask.complement()).pred
        return (take(pred, mask.hidden) - take(self.model.targets(batch.images), mask.hidden)).square().mean((1, 2))

    @property
    def num_steps(self) -> int:
        """Of the conclusion: a step for each mask of the graph."""
        return self.probe.num_graph_masks

    def conclude(self) -> Iterator[None]:
        """The graph's spectrum, a mask at a time: [mask bandwidth rank], and the sums of
        squares."""
        size, found = len(self.sample), []
        distances = Distances(self.sample, "pixels", 1)
        equal = np.full(size, 1 / size)
        for mask in range(self.probe.num_graph_masks):
            content = distances.under(mask)
            rows = []
            for factor in self.probe.bandwidths:
                kernels = [gaussian(squares, factor * distances.unit) for squares in (content.visible, content.hidden)]
                values, squares = spectrum(kernels[0], kernels[1], self.rank, equal)
                rows.append(np.maximum(squares - np.cumsum(values**2), 0.0))
            found.append(rows)
            yield
        self.tail = np.mean(found, axis=0)

    def result(self) -> xr.Dataset:
        if self.tail is None:
            deque(self.conclude(), maxlen=0)
        assert self.tail is not None
        units = "variance of a patch" if self.model.config.normalize_targets else "squared input units"
        result = {}
        for name, (statistic, dims, long_name, unit) in self._statistics().items():
            value, sem = self.sums.estimate(statistic)
            result[name] = variable(dims, value, long_name, unit or units)
            result[f"{name}_sem"] = error_of(
                dims, sem, long_name, unit or units, degrees=self.sums.degrees_of_freedom, method="jackknife"
            )
        result["tail"] = variable(("bandwidth", "rank"), self.tail, "tail: sum of squared eigenvalues beyond rank k")
        result["tail_at_width"] = variable(
            "bandwidth", self.tail[:, -1], f"tail of the graph's spectrum beyond rank {self.rank}"
        )
        coordinates = {
            **self.pairs.coordinates(),
            "level": list(LEVELS),
            "bandwidth": (
                "bandwidth",
                list(self.probe.bandwidths),
                {"long_name": "kernel bandwidth / distance to the nearest image", "units": "1"},
            ),
            "rank": ("rank", list(range(1, self.rank + 1)), {"long_name": "rank k", "units": "1"}),
        }
        attributes = {
            "feature": self.feature,
            "weight": self.probe.weight,
            "rank": self.rank,
            "num_sampled": len(self.sample),
            "definition": "sides of the theorems measured by lcmae's own estimators; constants of the theorems are unknown",
        }
        return xr.Dataset({**result, **self.pairs.variables()}, coordinates, attributes)

    def _statistics(self) -> dict[str, tuple]:
        """Of total sums: function, dims, words, units (empty: those of the loss)."""
        weight = self.probe.weight

        def mean(name: str):
            return lambda total: total[name] / total["pairs"]

        def umae(total: dict[str, Tensor]) -> Tensor:
            return total["loss"] / total["images"] + weight * uniformity(total)

        return {
            "loss": (lambda total: total["loss"] / total["images"], (), "masked loss L_MAE (squared error)", ""),
            "pair_loss": (mean("pair_loss"), (), "loss on patches that both masks of a pair hide", ""),
            "half_alignment": (mean("half_alignment"), (), "half of L_align: minus half the product of a pair", ""),
            "half_length": (mean("half_length"), (), "half of the mean squared length of predictions", ""),
            "pair_bound": (
                lambda total: (total["half_alignment"] + total["half_length"]) / total["pairs"],
                (),
                "bound of the loss on pairs: half of L_align + half of the mean squared length",
                "",
            ),
            "variance": (variances, ("level",), "Var(x2): variance of hidden patches", ""),
            "share_of_variance": (
                lambda total: share_of_variance(total, ROUNDING if self.model.config.normalize_targets else 0.0),
                ("level",),
                "masked loss / Var(x2)",
                "1",
            ),
            "autoencoding": (
                lambda total: total["autoencoding"] / total["images"],
                (),
                "eps: loss of hidden patches as reconstructed from themselves",
                "",
            ),
            "uniformity": (uniformity, (), "L_unif: mean squared cosine of two images' vectors", "1"),
            "umae_loss": (umae, (), f"L_U-MAE: masked loss + {weight:g} L_unif", ""),
        }


def masked_sums(
    pred: Float[Tensor, "b k n p"], target: Float[Tensor, "b n p"], hidden: Bool[Tensor, "b k n"]
) -> dict[str, Float[Tensor, "b ..."]]:
    """Of each image: its loss, and what `variances` is made of (about 0; the targets are of order
    1)."""
    pred, target = pred.double(), target.double()
    error = torch.where(hidden, (pred - target[:, None]).square().mean(-1), 0.0)
    count = hidden.sum(1).double()  # how many masks hide each patch
    weighted = target * count[..., None]
    square = (target.square().sum(-1) * count).sum(1)
    own_mean = weighted.sum(1).square().sum(-1) / count.sum(1)
    return {
        "loss": (error.sum(-1) / hidden.sum(-1)).mean(1),
        "count": count,
        "target": weighted,
        "square": square,
        "within_image": square - own_mean,
    }


def pair_sums(
    pred: Float[Tensor, "b k n p"], target: Float[Tensor, "b n p"], hidden: Bool[Tensor, "b k n"]
) -> dict[str, Float[Tensor, " b"]]:
    """Of each image, over pairs of masks and the patches that both hide: losses, products and
    lengths per value; and how many."""
    names = ("pairs", "pair_loss", "half_alignment", "half_length")
    total: dict[str, Tensor] = {name: torch.zeros(len(pred)).double() for name in names}
    pred, target = pred.double().cpu(), target.double().cpu()
    for first, second in combinations(range(pred.shape[1]), 2):
        one, other = pred[:, first], pred[:, second]
        both = (hidden[:, first] & hidden[:, second]).double().cpu()
        of_patch = {
            "pairs": torch.ones_like(both),
            "pair_loss": ((one - target).square() + (other - target).square()).mean(-1) / 2,
            "half_alignment": -(one * other).mean(-1) / 2,
            "half_length": (one.square() + other.square()).mean(-1) / 4,
        }
        total = {name: total[name] + (value * both).sum(1) for name, value in of_patch.items()}
    return total


def variances(total: dict[str, Tensor]) -> Float[Tensor, " 3"]:
    """Var(x2) per value about the mean hidden patch, the mean at each place, and each image's own
    mean."""
    count, sums = total["count"], total["target"]
    values = count.sum() * sums.shape[-1]
    of_all = sums.sum(0).square().sum() / count.sum()
    of_positions = (sums.square().sum(-1) / count.clamp(min=1)).sum()
    return torch.stack([total["square"] - of_all, total["square"] - of_positions, total["within_image"]]) / values


def share_of_variance(total: dict[str, Tensor], least: float = 0.0) -> Float[Tensor, " 3"]:
    """Loss / Var(x2) by level; NaN where hidden patches do not vary: at most by `least`, or by
    rounding."""
    spread = variances(total)
    square = total["square"] / (total["count"].sum() * total["target"].shape[-1])
    varies = (spread > CONSTANT * square) & (spread > least)
    return total["loss"] / total["images"] / torch.where(varies, spread, math.nan)


def uniformity(total: dict[str, Tensor]) -> Float[Tensor, ""]:
    """L_unif over pairs of different images, from the sum of z z^T (z of length 1): (|sum|_F^2 - N)
    / (N (N - 1)). Vectors of zeros have no direction and do not count; NaN below two others."""
    count = total["directions"]
    return (total["outer"].square().sum() - count) / (count * (count - 1))


def _unit(vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    return torch.nn.functional.normalize(vectors.double(), dim=-1)
