"""Which visible patches does a reconstructed patch depend on, and which method says so?

The prediction of a hidden patch is explained as a function of the visible patches: each is the
image's own or that of a *blank* image. The number that is explained is lcmae's own choice: how far
the prediction has moved from what it is for the blank image, along the direction in which all
visible patches together move it. It is linear in the prediction, so that for a linear model
ablation, integrated gradients, gradient x input and Shapley values are one and the same.

Methods: ablation of one patch, integrated gradients (Sundararajan et al., 1703.01365) with their
completeness error, gradient x input and Shapley values by random orders, all by captum; hiding one
more patch, a masked model's own ablation; the decoder's attention. Baselines: nearness to the
patch, random order, and the same of an untrained network.

The blank image is the mean of all images at each position. Grey says something itself (a dark or a
light patch, an edge to its neighbours); the position mean is the best guess that knows nothing of
the image, so that what a patch is said to do is what *its content* does.

Faithfulness: deletion and insertion curves (Petsiuk et al., 1806.07421), `measures.faithfulness`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from lcmae.masking import AnyMask, Mask, Random, stack_masks
from lcmae.models import MaskedImageModel
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.measures.attention import patch_distances
from lcmae.probes.measures.attention_flow import spearman
from lcmae.probes.measures.faithfulness import area, mean_reach, removed, spread_of, steps_of
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.intervals import of_baseline
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.sample import ImageSample
from lcmae.probes.statistics.variables import by_leaving_out, error_of, variable
from lcmae.probes.watching.attributions import Queried
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.pictures import draw
from lcmae.randomness import generator
from lcmae.shapes import Float

UNTRAINED = "untrained"
ABLATION, HIDING, INTEGRATED = "ablation", "hiding", "integrated gradients"
GRADIENT, SHAPLEY, ATTENTION = "gradient x input", "Shapley values", "attention"
NEARNESS, RANDOM = "nearness", "random order"
METHODS = (ABLATION, HIDING, INTEGRATED, GRADIENT, SHAPLEY, ATTENTION, NEARNESS, RANDOM)
"""In the order of tables; what a model or a grid has not is left out."""

MOST_GROUPS = 32
"""Groups of images of the jackknife; one an image where they are fewer."""

Sums = dict[str, Tensor]


class Attribution(Probe):
    """Returns, by (network, explanation): `agreement` with every `other_explanation`, a mean rank
    correlation; `deletion_curve` and `insertion_curve` by `fraction`, their areas and
    `faithfulness`, insertion's less deletion's; `reach` and `spread` of what is named. And by
    network `completeness_error`, `additivity` and `change`; and maps."""

    name: ClassVar[str] = "attribution"
    question: ClassVar[str] = "Which visible patches does a reconstructed patch depend on?"
    needs_prediction: ClassVar[bool] = True
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        UNTRAINED: (
            "agreement",
            "deletion_curve",
            "insertion_curve",
            "deletion_error",
            "insertion_error",
            "deletion",
            "insertion",
            "faithfulness",
            "reach",
            "spread",
            "completeness_error",
            "additivity",
            "change",
        )
    }

    mask: AnyMask = Random()
    """Which patches are hidden."""

    num_images: int = Field(default=16, ge=2)
    """Most images that are explained; all images make the position mean."""

    num_queries: int = Field(default=1, ge=1)
    """Hidden patches of each image, drawn at random."""

    blank: Literal["position mean", "grey"] = "position mean"
    """What replaces a visible patch that is left out."""

    path_steps: int = Field(default=16, ge=2)
    """Steps of integrated gradients, a forward and a backward pass each."""

    num_parts: int = Field(default=6, ge=2)
    """Parts of deletion and insertion curves."""

    shapley_permutations: int = Field(default=8, ge=0)
    """Random orders of the visible patches by which Shapley values are sampled, a forward pass a
    patch each; 0 leaves them out. Of the trained network alone."""

    shapley_patches: int = Field(default=24, ge=1)
    """No Shapley values where more patches are visible."""

    untrained_images: int = Field(default=8, ge=0)
    """On how many of these images a network with fresh weights is explained, too."""

    num_pictures: int = Field(default=4, ge=0)
    """How many images get maps."""

    batch_size: int = Field(default=64, ge=1)
    """Images that are computed together; does not change the result."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Attribution":
        self.require(
            num_images >= 2 or self.blank == "grey", f"at least 2 images for a position mean, got {num_images}"
        )
        return _Attribution(self, model, num_images, seed)


@dataclass
class _Attribution(Accumulator):
    probe: Attribution
    model: MaskedImageModel
    num_images: int
    seed: int
    images: list[Tensor] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    pictures: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        probe = self.probe
        self.sample = ImageSample(probe.num_images, self.num_images, self.seed)
        self.mean = RunningMean()
        fresh = untrained(self.model, self.seed) if probe.untrained_images else None
        self.networks = {TRAINED: self.model} | ({} if fresh is None else {UNTRAINED: fresh})
        self.sums: dict[str, GroupedSums] = {}
        self.methods: dict[str, list[str]] = {}

    def update(self, batch: Batch) -> None:
        self.mean.add(batch.images)
        rows = self.sample.rows(batch)
        if len(rows):
            mask = batch.masks(self.probe.mask, 1)
            num_visible = mask.visible.shape[1]
            self.probe.require(num_visible > 1, f"masks that leave at least 2 patches visible, got {num_visible}")
            self.images.append(batch.images[rows].cpu())
            self.masks.append(mask.to("cpu")[rows.cpu()])

    def _count(self, network: str) -> int:
        found = len(self.sample)
        return found if network == TRAINED else min(found, self.probe.untrained_images)

    @property
    def num_steps(self) -> int:
        return sum(self._count(network) for network in self.networks)

    def conclude(self) -> Iterator[None]:
        images, masks, device = torch.cat(self.images), stack_masks(self.masks), self.model.device
        self.images, self.masks = [], []
        assert self.mean.mean is not None
        blank = self.mean.mean.to(device, images.dtype)
        self.mean = RunningMean()
        if self.probe.blank == "grey":
            blank = self.model.prepare(torch.full_like(blank, 0.5)[None])[0]
        self.steps = steps_of(masks.visible.shape[1], self.probe.num_parts)
        for network, model in self.networks.items():
            count = self._count(network)
            self.sums[network] = GroupedSums(count, min(count, MOST_GROUPS))
            for index in range(count):
                self._explain(network, model, index, images[[index]].to(device), masks[torch.tensor([index])], blank)
                yield

    def _explain(
        self, network: str, model: MaskedImageModel, index: int, image: Tensor, mask: Mask, blank: Tensor
    ) -> None:
        """All numbers of one image."""
        rng = generator("attribution", self.seed, int(self.sample.indices[index]))
        chosen = torch.randperm(mask.hidden.shape[1], generator=rng)[: self.probe.num_queries].sort().values
        rows = torch.zeros(len(chosen), dtype=torch.long)
        query = mask.hidden[0, chosen].to(image.device)
        start = Queried(model, image[rows.to(image.device)], blank, mask[rows].to(image.device), query)
        asked, length = start.with_direction()
        found, delta = self._attributions(asked, network, rng)
        self.methods[network] = list(found)
        sums = {
            "count": length.new_tensor(len(chosen)),
            "length": length.sum(),
            "change": length.square().sum() / model.config.patch_values,
            "incomplete": delta.abs().sum(),
            "alone": found[ABLATION].sum(),
            **_known("agreement", _agreement(found)),
            **_known("spread", torch.stack([spread_of(values) for values in found.values()])),
            **_known("reach", torch.stack([mean_reach(values, 1 / found[NEARNESS]) for values in found.values()])),
            **self._curves(asked, length, image, found),
        }
        self.sums[network].add([index], **{name: value[None] for name, value in sums.items()})
        if network == TRAINED and index < self.probe.num_pictures:
            self._keep(asked, found)

    def _attributions(self, asked: Queried, network: str, rng: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """By method, float64 [q v], and the completeness error of integrated gradients."""
        probe = self.probe
        path, delta = asked.integrated_gradients(probe.path_steps)
        away = patch_distances(self.model.grid).to(asked.query.device)[asked.query].gather(1, asked.mask.visible)
        found: dict[str, Tensor | None] = {
            ABLATION: asked.ablation(),
            HIDING: asked.hiding(),
            INTEGRATED: path,
            GRADIENT: asked.gradient_times_input(),
        }
        if network == TRAINED and probe.shapley_permutations and asked.num_visible <= probe.shapley_patches:
            seed = int(torch.randint(2**62, (), generator=rng))
            found[SHAPLEY] = asked.shapley(probe.shapley_permutations, seed)
        found |= {ATTENTION: asked.attention(), NEARNESS: 1 / away}
        found[RANDOM] = torch.rand(away.shape, generator=rng).to(away.device)
        return {name: values.double() for name, values in found.items() if values is not None}, delta.double()

    def _curves(
        self, asked: Queried, length: Float[Tensor, " q"], image: Float[Tensor, "1 c h w"], found: Mapping[str, Tensor]
    ) -> Sums:
        """Sums over queries of the score (from the blank image's on) and of the squared error,
        [methods, steps], as patches are taken away and put back."""
        away = torch.stack([removed(values, self.steps[1:-1]) for values in found.values()])  # [m k q v]
        present = torch.stack([1 - away, away]).to(image.dtype)  # deletion, insertion
        rows = torch.arange(len(length), device=length.device).expand(present.shape[:-1])
        pred = asked.predict_many(present.flatten(0, -2), rows.flatten()).unflatten(0, rows.shape)
        # both ends are known
        assert asked.whole is not None
        ends = torch.stack([asked.whole, asked.nothing(length)])
        ends = ends[:, None, None].expand(-1, len(found), -1, -1, -1)
        pred = torch.cat([ends, pred, ends.flip(0)], dim=2)  # [2 m k q p]
        score = asked.score_of(pred, slice(None)) + length
        target = asked.model.targets(image)[0, asked.query].double()
        error = (pred - target).square().mean(-1)
        names = ("deletion", "insertion")
        sums = {f"{name}_curve": score[which].sum(-1) for which, name in enumerate(names)}
        return sums | {f"{name}_error": error[which].sum(-1) for which, name in enumerate(names)}

    def _keep(self, asked: Queried, found: Mapping[str, Tensor]) -> None:
        """Maps over the largest magnitude of each, NaN where patches are hidden."""
        one = slice(0, 1)
        drawn = draw(asked.model, asked.images[one], asked.mask[one], asked.model.targets(asked.images[one]))
        values = torch.stack([part for name, part in found.items() if name != RANDOM], dim=1)  # [q m v]
        values = values / values.abs().amax(-1, keepdim=True).clamp(min=1e-300)
        positions = asked.mask.visible[:, None].expand(values.shape)
        hidden = torch.full((*values.shape[:2], asked.model.num_patches), torch.nan, dtype=values.dtype)
        maps = hidden.to(values.device).scatter(2, positions, values).unflatten(2, asked.model.grid)
        pictured = {"original": drawn["original"], "hidden": drawn["hidden"], "query_patch": asked.query[None]}
        for name, part in (pictured | {"attribution_map": maps[None]}).items():
            self.pictures.setdefault(name, []).append(part.cpu())

    def result(self) -> xr.Dataset:
        if not self.sums:
            for _ in self.conclude():
                pass
        result: dict[str, xr.Variable] = {}
        units = "variance of a patch" if self.model.config.normalize_targets else "squared input units"
        degrees = self.sums[TRAINED].degrees_of_freedom
        for name, (dims, long_name, unit, statistic) in self._statistics(units).items():
            axes = ("network", *dims)
            value, error = self._estimated(dims, statistic)
            result[name] = variable(axes, value, long_name, unit)
            result[f"{name}_sem"] = error_of(axes, error, long_name, unit, degrees=degrees, method="jackknife")
            if UNTRAINED in self.sums:
                of_other = self.sums[UNTRAINED].degrees_of_freedom
                result[f"{name}_sem"].attrs[of_baseline(UNTRAINED)] = of_other
            if dims == ("explanation",):  # two runs over the same images are compared in pairs
                without = self.sums[TRAINED].leave_out(statistic)[1]
                own = torch.full((len(without), *value.shape), torch.nan, dtype=without.dtype)
                own[:, 0] = without
                result |= by_leaving_out(axes, own, self.sums[TRAINED].filled_sizes, name, long_name, unit)
        for name, parts in self.pictures.items():
            axes, long_name, unit = _PICTURES[name]
            result[name] = variable(axes, torch.cat(parts), long_name, unit)
        methods = self.methods[TRAINED]
        fractions = self.steps.double() / self.steps[-1]
        coordinates = {
            "network": list(self.sums),
            "explanation": methods,
            "other_explanation": methods,
            "fraction": variable("fraction", fractions.numpy(), "share of the visible patches"),
            "map": [name for name in methods if name != RANDOM],
        }
        attributes = {
            "num_explained": len(self.sample),
            "num_queries": self.probe.num_queries,
            "num_visible": int(self.steps[-1]),
            "blank": self.probe.blank,
            "untrained_images": self._count(UNTRAINED),
            "definition": "lcmae's own: the prediction along the direction in which all visible patches together move it "
            "away from that of a blank image",
        }
        if not self.pictures:
            del coordinates["map"]
        return xr.Dataset(result, coordinates, attributes)

    def _estimated(self, dims: tuple[str, ...], statistic: Callable[[Sums], Tensor]) -> tuple[Tensor, Tensor]:
        """Values and standard errors [network ...]; NaN for methods that a network has not."""
        found = []
        for network, sums in self.sums.items():
            positions = [self.methods[TRAINED].index(name) for name in self.methods[network]]
            both = torch.stack(sums.estimate(statistic))
            for axis, dim in enumerate(dims, start=1):
                if dim in ("explanation", "other_explanation"):
                    shape = [*both.shape]
                    shape[axis] = len(self.methods[TRAINED])
                    full = torch.full(shape, torch.nan, dtype=both.dtype)
                    both = full.index_copy(axis, torch.tensor(positions), both)
            found.append(both)
        return torch.stack([one[0] for one in found]), torch.stack([one[1] for one in found])

    def _statistics(self, units: str) -> dict[str, "_Statistic"]:
        """Dims, words, units and definition of every number."""

        def mean(name: str) -> Callable[[Sums], Tensor]:
            return lambda sums: _over(sums[name], sums[f"{name}_count"])

        def curve(name: str) -> Callable[[Sums], Tensor]:
            return lambda sums: _over(sums[f"{name}_curve"], sums["length"])

        def error(name: str) -> Callable[[Sums], Tensor]:
            return lambda sums: sums[f"{name}_error"] / sums["count"]

        def under(name: str) -> Callable[[Sums], Tensor]:
            return lambda sums: area(curve(name)(sums), self.steps)

        by_method, by_fraction = ("explanation",), ("explanation", "fraction")
        share = "share of the prediction's change that is left"
        back = "share of the prediction's change that is there"
        return {
            "agreement": (("explanation", "other_explanation"), "rank correlation, mean over queries", "1", mean("agreement")),
            "deletion_curve": (by_fraction, f"{share}, first patches taken away", "1", curve("deletion")),
            "insertion_curve": (by_fraction, f"{back}, first patches put back", "1", curve("insertion")),
            "deletion_error": (by_fraction, "mean squared error, first patches taken away", units, error("deletion")),
            "insertion_error": (by_fraction, "mean squared error, first patches put back", units, error("insertion")),
            "deletion": (by_method, "area under the deletion curve", "1", under("deletion")),
            "insertion": (by_method, "area under the insertion curve", "1", under("insertion")),
            "faithfulness": (
                by_method, "insertion's area less deletion's", "1",
                lambda sums: under("insertion")(sums) - under("deletion")(sums),
            ),
            "reach": (by_method, "mean distance of the patches that are named", "patches", mean("reach")),
            "spread": (by_method, "number of patches that are named (exp of entropy)", "patches", mean("spread")),
            "completeness_error": (
                (), "completeness error of integrated gradients, over the change", "1",
                lambda sums: _over(sums["incomplete"], sums["length"]),
            ),
            "additivity": (
                (), "sum of single ablations over the change by all together", "1",
                lambda sums: _over(sums["alone"], sums["length"]),
            ),
            "change": (
                (), "mean squared change of the prediction by what is visible", units,
                lambda sums: sums["change"] / sums["count"],
            ),
        }  # fmt: skip


_Statistic = tuple[tuple[str, ...], str, str, Callable[[Sums], Tensor]]

_PICTURES = {
    "original": (("picture", "y", "x", "channel"), "image", "pixel value"),
    "hidden": (("picture", "row", "column"), "whether the patch was hidden", "1"),
    "query_patch": (("picture", "query"), "query patch in raster order", "index of a patch"),
    "attribution_map": (
        ("picture", "query", "map", "row", "column"),
        "attribution of the prediction to visible patches, over the largest of the map",
        "1",
    ),
}


def _over(part: Tensor, whole: Tensor) -> Tensor:
    """A ratio; NaN over nothing."""
    return torch.where(whole > 0, part / whole, torch.nan)


def _known(name: str, values: Float[Tensor, "... q"]) -> Sums:
    """Sums over the queries of which a number is known, and their count."""
    return {name: values.nansum(-1), f"{name}_count": values.isfinite().double().sum(-1)}


def _agreement(found: Mapping[str, Float[Tensor, "q v"]]) -> Float[Tensor, "m m q"]:
    """Rank correlations of every two methods."""
    methods = list(found.values())
    return torch.stack([torch.stack([spearman(one, other) for other in methods]) for one in methods])
