"""Do the features of a patch and of an image survive another mask, and does a prediction find its
own target?

Sources: the alignment of masked views (Zhang et al., "How Mask Matters", 2210.08344, theorem 3.4:
two masked views that share their hidden part are a positive pair); the claim of Yue et al.,
2310.01994, that patch-level reconstruction hides a local contrast. Both measurements are *lcmae's
own definition*: cosines by the overlap of the visible sets (`lcmae.probes.measures.paired_views`)
and retrieval of a patch's target (`lcmae.probes.measures.retrieval`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import xarray as xr
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.masking import AnyMask, Random
from lcmae.models import Feature, MaskedImageModel
from lcmae.objectives.lcmae import visible_tokens
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.measures.paired_views import PairedViews, Views
from lcmae.probes.measures.retrieval import SIMILARITIES, chance, score_retrieval
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.sample import Collected, ImageSample
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.shapes import Bool, Float

SCOPES = ("image", "other_images")


class Invariance(Probe):
    """Returns `alignment` of tokens and pooled vectors under two masks, raw and centred, beside
    pairs of other images, overall and by `overlap` of what was visible; and `retrieval` and
    `info_nce` of hidden patches, each with chance, a shuffled baseline and a ceiling (NaN for a
    model without a prediction)."""

    name: ClassVar[str] = "invariance"
    question: ClassVar[str] = (
        "Do features survive another mask, and does a hidden patch's prediction find its own target among others?"
    )

    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("alignment", "alignment_by_overlap", "retrieval", "info_nce"),
        "pixels": ("retrieval", "info_nce"),
    }

    baseline_images: int = Field(default=128, ge=0)
    """How many of the first images the baselines see, too: as many as there are candidates at
    one position; 0 leaves them out."""

    mask: AnyMask = Random()
    """Which patches are hidden."""

    num_masks: int = Field(default=8, ge=2)
    """K: masks per image; all K (K - 1) / 2 pairs are compared. Retrieval uses the first."""

    num_bins: int = Field(default=20, ge=1)
    """Bins of the overlap of two visible sets (shared patches / visible patches), between 0 and
    1."""

    temperature: float = Field(default=0.1, gt=0)
    """Temperature of InfoNCE (dimensionless; scores are cosines, or squared distances of the same
    scale)."""

    num_sampled: int = Field(default=128, ge=1)
    """Most images whose patches at the same place are candidates for each other; chance is 1 /
    this."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass (each with all its masks); does not change the result except for
    rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Invariance":
        return _Invariance(self, model, num_images, seed)


@dataclass
class _Invariance(Accumulator):
    probe: Invariance
    model: MaskedImageModel
    num_images: int
    seed: int

    def __post_init__(self) -> None:
        self.pooled: tuple[Feature, ...] = ("cls", "mean") if self.model.num_prefix else ("mean",)
        self.quantities = ("token", *self.pooled)
        self.pairs = PairedViews(self.quantities, self.num_images, self.probe.num_bins)
        self.last_target: Tensor | None = None
        self.found = GroupedSums(self.num_images)
        self.sample = ImageSample(self.probe.num_sampled, self.num_images, self.seed)
        self.sampled = {name: Collected(self.sample) for name in ("pred", "target", "hidden")}

    def update(self, batch: Batch) -> None:
        num_masks = self.probe.num_masks
        masks, out = batch.masked(self.probe.mask, num_masks)
        tokens, shown = visible_tokens(out, masks)
        tokens = rearrange(tokens, "(b k) n d -> b k n d", k=num_masks)
        shown = rearrange(shown, "(b k) n -> b k n", k=num_masks)

        # the same patch, or the same image, under two masks; and under the mask of the image before
        views = {"token": Views(tokens, shown, shown)}
        for name in self.pooled:
            vectors = rearrange(out.feature(name), "(b k) d -> b k 1 d", k=num_masks)
            views[name] = Views(vectors, torch.ones_like(shown[..., :1]), shown)
        for name, view in views.items():
            self.pairs.add(name, view, batch.indices)

        if self.model.has_prediction:
            pred = rearrange(out.pred, "(b k) n p -> b k n p", k=num_masks)[:, 0]
            self._retrieve(pred, self.model.targets(batch.images), ~shown[:, 0], batch)

    def _retrieve(
        self, pred: Float[Tensor, "b n p"], target: Float[Tensor, "b n p"], hidden: Bool[Tensor, "b n"], batch: Batch
    ) -> None:
        own, temperature = torch.arange(self.model.num_patches), self.probe.temperature
        row = target if self.last_target is None else torch.cat([self.last_target, target])
        self.last_target = target[-1:]
        found = {
            "model": score_retrieval(pred, target, own, temperature),
            "ceiling": score_retrieval(target, target, own, temperature),
        }
        if len(row) > 1:
            # predictions against the patches of the image before; the very first image has none
            few = score_retrieval(pred[1 - len(row) :], row[:-1], own, temperature)
            found["shuffled"] = torch.cat([few.new_zeros(len(pred) - len(few), *few.shape[1:]), few])
        else:
            found["shuffled"] = torch.zeros_like(found["model"])
        weight = hidden.double() / hidden.sum(1, keepdim=True)
        means = {name: (value * weight[..., None, None]).sum(1) for name, value in found.items()}
        ones = torch.ones(len(pred))
        self.found.add(
            batch.indices, **means, images=ones, pairs=torch.tensor([float(index > 0) for index in batch.indices])
        )

        rows = self.sample.rows(batch)
        for name, value in (("pred", pred), ("target", target), ("hidden", hidden)):
            self.sampled[name].add(value[rows])

    def result(self) -> xr.Dataset:
        result = {**self.pairs.variables(), **self._retrieval()}
        coordinates = {
            **self.pairs.coordinates(),
            "scope": list(SCOPES),
            "similarity": list(SIMILARITIES),
        }
        attributes = {"temperature": self.probe.temperature, "definition": "lcmae's own"}
        return xr.Dataset(result, coordinates, attributes)

    def _retrieval(self) -> dict[str, xr.Variable]:
        """Top-1 and InfoNCE [scope similarity] of the model, shuffled, the ceiling, and chance."""
        within, across = self._within(), self._across()
        dims = ("scope", "similarity")
        # within an image errors are jackknifed; across, they are of a mean over the sample
        degrees = self.found.degrees_of_freedom
        result = {}
        for index, (name, (long_name, units)) in enumerate(_MEASURES.items()):
            for kind, label in _KINDS.items():
                value, sem = (torch.stack(pair)[..., index] for pair in zip(within[kind], across[kind], strict=True))
                result[name + kind] = variable(dims, value, f"{long_name}{label}", units)
                result[f"{name}{kind}_sem"] = error_of(dims, sem, f"{long_name}{label}", units, degrees=degrees)
            guess = [chance(self.model.num_patches)[index], chance(len(self.sample))[index]]
            result[f"{name}_chance"] = variable("scope", guess, f"{long_name}, by scores that say nothing", units)
        return result

    def _within(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Among the patches of the image, [similarity measure]."""
        if not self.found.sums:
            return dict.fromkeys(_KINDS, (_NOTHING, _NOTHING))

        def mean(name: str, count: str) -> tuple[Tensor, Tensor]:
            return self.found.estimate(lambda total: total[name] / total[count])

        return {
            "": mean("model", "images"),
            "_shuffled": mean("shuffled", "pairs"),
            "_ceiling": mean("ceiling", "images"),
        }

    def _across(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Among the patches at the same place of the sampled images; the error is over images, the
        candidates being given."""
        if not len(self.sampled["pred"]) or len(self.sample) < 2:
            return dict.fromkeys(_KINDS, (_NOTHING, _NOTHING))
        pred, target, hidden = (self.sampled[name].every() for name in ("pred", "target", "hidden"))
        own, temperature = torch.arange(len(pred)), self.probe.temperature
        sums = {kind: torch.zeros(len(pred), 2, 2, dtype=torch.float64) for kind in _KINDS}
        for column in range(pred.shape[1]):
            said, true = pred[None, :, column], target[None, :, column]
            weight = hidden[:, column, None, None].double()
            sums[""] += score_retrieval(said, true, own, temperature)[0] * weight
            sums["_shuffled"] += score_retrieval(said, true, own.roll(1), temperature)[0] * weight
            sums["_ceiling"] += score_retrieval(true, true, own, temperature)[0] * weight
        found = {}
        for kind, value in sums.items():
            running = RunningMean()
            running.add(value / hidden.sum(1)[:, None, None])
            assert running.mean is not None
            found[kind] = running.mean, running.sem
        return found


_NOTHING = torch.full((2, 2), torch.nan, dtype=torch.float64)
_MEASURES = {
    "retrieval": ("top-1 retrieval of a hidden patch's own target", "1"),
    "info_nce": ("InfoNCE of predictions and targets", "nat"),
}
_KINDS = {
    "": "",
    "_shuffled": ", with the targets of another image",
    "_ceiling": ", the targets themselves for predictions (identical patches share the credit)",
}
