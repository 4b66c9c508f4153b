"""What classes can be read off the frozen features of each layer, and does that survive corrupted
images?

Sources: weighted kNN (Wu et al., 1805.01978; k 20, temperature 0.07) and the linear probe of MAE
(He et al., 2111.06377), whose protocol is fixed in `lcmae.probes.measures.linear_probe`;
corruptions in the style of Hendrycks and Dietterich, 1903.12261, with our own parameters
(`lcmae.probes.measures.corruptions`); fine-tuning, where asked for, as in
`lcmae.probes.watching.finetuning`. Always on *unmasked* images: U-MAE's own online accuracy is
measured on masked ones, and is another number. Which feature is judged decides much, so the class
token and the mean of the patch tokens are both told, after the last norm and after every block
(before any final norm).

How the tokens are pooled decides as much: on the same training images `pooled_accuracy` compares
class token and mean with classifiers that learn where to attend, efficient probing (Psomas et al.,
2506.10178) and AbMILP (Przewiezlikowski et al., 2412.03215), and with an MLP of as many parameters
(`lcmae.probes.measures.pooling`), after every block; beside them what the same classifiers make of
shuffled labels.

Training images are those of the same data's other split, which the images under test are not from.
Memory: the features of the training images are held (float32, images x layers x 2 x width, up to
`train_images`), and the tokens of `pooled_images` in half precision, at most 512 MiB; images under
test are classified batch by batch. Baselines: a network with fresh weights, raw pixels (averaged to
at most 32 x 32; patches of them for poolings), and the commonest class of the training images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from einops import rearrange
from pydantic import Field, field_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.models import Feature, MaskedImageModel
from lcmae.patches import patchify
from lcmae.probes.base import Accumulator, Probe, ProbeError
from lcmae.probes.baselines.pixels import small_pixels
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.measures.classifiers import CLASSIFIERS, Bank, with_interval
from lcmae.probes.measures.corruptions import PARAMETERS, SEVERITIES, corrupt
from lcmae.probes.measures.linear_probe import fit
from lcmae.probes.measures.pooled_accuracy import PooledAccuracy, Source
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.sample import ImageSample
from lcmae.probes.statistics.variables import GIVEN_FIT, by_groups, by_network, error_of, variable
from lcmae.probes.watching.batch import Batch, Images
from lcmae.probes.watching.finetuning import Classifier, finetune
from lcmae.probes.watching.layers import Layers, layers, layers_of, watch_layers
from lcmae.shapes import Bool, Float, Int

TRAINED, PIXELS, BLOCKS = "trained", "pixels", " blocks"
TESTED = (TRAINED, PIXELS)
"""Whose confusion and robustness are told."""

CHUNK = 32
"""Training images of one forward pass."""


class Transfer(Probe):
    """Returns `accuracy` by (classifier, network, feature), `layer_accuracy` also by layer,
    `corruption_accuracy` also by (corruption, severity) beside `clean_accuracy` of the same images,
    each with a standard error and a 95 % interval; `corrupted_accuracy`, its mean; `confusion` also
    by (true, predicted); `pooled_accuracy` by (pooling, network, layer); on demand
    `finetuned_accuracy` by network. Raw pixels, which are one
    feature, stand at every feature."""

    name: ClassVar[str] = "transfer"
    question: ClassVar[str] = (
        "Which classes can be read off the frozen features of each layer, on clean and corrupted images?"
    )

    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("accuracy", "layer_accuracy", "finetuned_accuracy", "pooled_accuracy"),
        "pixels": (
            *("accuracy", "confusion", "corruption_accuracy", "clean_accuracy", "corrupted_accuracy"),
            "pooled_accuracy",
        ),
    }

    train_images: int = Field(default=2000, ge=10)
    """Most training images: a fixed, class-balanced choice of the other split. Their features are
    kept in memory."""

    neighbours: int = Field(default=20, ge=1)
    """k of kNN."""

    temperature: float = Field(default=0.07, gt=0)
    """Temperature of kNN's weights, exp(cosine / temperature)."""

    rates: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    """Learning rates that the linear probe chooses from, per 256 images of a batch; `rate_at_edge`
    says where the first or last is best."""

    epochs: int = Field(default=90, ge=1)
    """Epochs of the linear probe."""

    seeds: int = Field(default=3, ge=1)
    """Heads trained from different weights and orders; accuracies are their means. Blocks and
    baselines get one."""

    each_layer: bool = True
    """Whether every block is measured, or the output alone."""

    untrained: bool = True
    """Whether a network of the same shape with fresh weights is measured too; doubles the forward
    passes."""

    corruptions: tuple[str, ...] = tuple(PARAMETERS)
    """Kinds of corruption; none switches robustness off."""

    severities: tuple[int, ...] = (1, 3, 5)
    """Severities of each, out of 1 to 5."""

    num_corrupted: int = Field(default=200, ge=1)
    """Most images that are corrupted; each costs a forward pass for each kind and severity."""

    finetune_epochs: int = Field(default=0, ge=0)
    """Epochs of fine-tuning, from the checkpoint and from fresh weights; 0 leaves it out.
    Expensive: hours for a large model. The training images themselves are then kept in memory."""

    pooled_images: int = Field(default=500, ge=0)
    """Training images of the comparison of poolings, which is made where `each_layer` is; 0 leaves
    it out."""

    pooled_rates: tuple[float, ...] = (0.001, 0.003, 0.01)
    """Learning rates (Adam's) that its classifiers choose from on held-out training images."""

    pooled_epochs: int = Field(default=30, ge=1)
    """Epochs of its classifiers, in batches of 64."""

    batch_size: int = Field(default=32, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    @field_validator("corruptions")
    @classmethod
    def _corruptions_are_known(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if not set(values) <= set(PARAMETERS) or len(set(values)) < len(values):
            raise ValueError(f"expected different corruptions out of {', '.join(PARAMETERS)}")
        return values

    @field_validator("severities")
    @classmethod
    def _severities_are_known(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values or not set(values) <= set(SEVERITIES) or len(set(values)) < len(values):
            raise ValueError("expected one or more different severities out of 1, 2, 3, 4, 5")
        return values

    @field_validator("rates", "pooled_rates")
    @classmethod
    def _rates_rise(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or min(values) <= 0 or list(values) != sorted(set(values)):
            raise ValueError("expected one or more rising learning rates above 0")
        return values

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Transfer":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        return _Transfer(self, model, num_images, seed)


@dataclass
class _Transfer(Accumulator):
    probe: Transfer
    model: MaskedImageModel
    num_images: int
    seed: int
    right: dict[str, RunningMean] = field(default_factory=dict)
    """Share of right answers, [b classifier feature], by network (or pixels); [b] for the majority
    and fine-tuned classifiers."""

    confusion: dict[str, Tensor] = field(default_factory=dict)
    by_seed: RunningMean = field(default_factory=RunningMean)
    clean: RunningMean = field(default_factory=RunningMean)
    corrupted: RunningMean = field(default_factory=RunningMean)
    corrupted_mean: RunningMean = field(default_factory=RunningMean)

    def __post_init__(self) -> None:
        self.features: tuple[Feature, ...] = ("cls", "mean") if self.model.num_prefix else ("mean",)
        self.num_layers = len(self.model.blocks) if self.probe.each_layer else 0
        fresh = untrained(self.model, self.seed) if self.probe.untrained else None
        self.networks = {TRAINED: self.model} | ({} if fresh is None else {"untrained": fresh})
        self.sample = ImageSample(self.probe.num_corrupted, self.num_images, self.seed)
        self.banks: dict[str, Bank] = {}
        self.pooled: PooledAccuracy | None = None
        self.tuned: dict[str, Classifier] = {}

    def prepare(self, batch: Batch) -> None:
        self._labels(batch)
        self._learn(batch)

    def watch(self, batch: Batch) -> None:
        for network in self.networks.values():
            watch_layers(batch.of(network))

    def update(self, batch: Batch) -> None:
        labels = self._labels(batch)
        if not self.banks:
            self.prepare(batch)
        self._classify(batch, labels)
        rows = self.sample.rows(batch)
        if len(rows) and self.probe.corruptions:
            self._corrupt(batch, labels, rows)

    def _labels(self, batch: Batch) -> Int[Tensor, " b"]:
        need = "labelled images (one folder a class, a column label, KEY.cls)"
        self.probe.require(batch.labels is not None, f"{need}, got images without labels")
        need = "images that are opened by name or path, whose other split it trains on"
        self.probe.require(batch.other_split is not None, f"{need}, got images without another split")
        assert batch.labels is not None
        return batch.labels.cpu()

    def _learn(self, batch: Batch) -> None:
        """Features of the training images, and heads upon them."""
        probe = self.probe
        images, labels = self._training_images(batch)
        banks: dict[str, Tensor] = {}
        all_images = []
        few = min(probe.pooled_images if self.num_layers else 0, len(images))
        chosen = torch.arange(few) * len(images) // max(few, 1)
        for first in range(0, len(images), CHUNK):
            part = images[first : first + CHUNK].to(self.model.device)
            seen = {name: layers(network, part, decoder=False) for name, network in self.networks.items()}
            for name, rows in self._features(seen, self.model.to_pixels(part)).items():
                if name not in banks:  # in one tensor from the start: parts are held twice when they are joined
                    banks[name] = rows.new_empty(len(rows), len(images), rows.shape[-1])
                banks[name][:, first : first + rows.shape[1]] = rows
            here = chosen[(chosen >= first) & (chosen < first + len(part))] - first
            if len(here):
                pooled = self.pooled = self.pooled or self._start_pooled(seen[TRAINED], few)
                for source, tokens in self._tokens(seen, part).items():
                    pooled.add(source, tokens[here.to(part.device)])
            if probe.finetune_epochs:
                all_images.append(part.cpu())
        if self.pooled is not None:  # first, because it lets go of its tokens
            self.pooled.learn(labels[chosen], self.num_classes)
        num_seeds = {name: probe.seeds if name == TRAINED else 1 for name in banks}
        train = {"rates": probe.rates, "epochs": probe.epochs, "num_seeds": num_seeds, "seed": self.seed}
        linear = fit(banks, labels, self.num_classes, **train)
        for name, bank in banks.items():
            self.banks[name] = Bank(bank, labels, linear[name], probe.neighbours, probe.temperature)
        if probe.finetune_epochs:
            for name, network in self.networks.items():
                tune = {"epochs": probe.finetune_epochs, "seed": self.seed}
                self.tuned[name] = finetune(network, torch.cat(all_images), labels, self.num_classes, **tune).eval()

    def _start_pooled(self, seen: Layers, num_images: int) -> PooledAccuracy:
        probe, (_, num_tokens, width) = self.probe, seen.encoder[-1].shape
        self.pooled_layers = PooledAccuracy.layers_within(self.num_layers, num_images, num_tokens, width)
        return PooledAccuracy(
            self.num_layers,
            self.model.num_prefix > 0,
            self.model.grid,
            probe.pooled_rates,
            probe.pooled_epochs,
            self.seed,
            num_images,
        )

    def _tokens(self, seen: dict[str, Layers], images: Float[Tensor, "b c h w"]) -> dict[Source, Tensor]:
        """What poolings are compared on: layers of the model, the last of the untrained network,
        and patches of pixels; the class token first."""
        num_prefix, found = self.model.num_prefix, dict[Source, Tensor]()
        for name, of_network in seen.items():
            for layer in self.pooled_layers if name == TRAINED else self.pooled_layers[-1:]:
                tokens = of_network.encoder[layer]
                found[name, layer] = torch.cat([tokens[:, : min(1, num_prefix)], tokens[:, num_prefix:]], dim=1)
        return found | {(PIXELS, -1): patchify(images, self.model.patch_size)}

    def _training_images(self, batch: Batch) -> tuple[Images, Int[Tensor, " n"]]:
        probe = self.probe
        assert batch.other_split is not None
        try:
            images = batch.other_split(probe.train_images)
        except InputError as error:
            raise ProbeError(f"probe {probe.name}: needs training images of the same data: {error}") from error
        labels = getattr(images, "labels", None)
        probe.require(labels is not None, "labels of its training images, got none")
        assert labels is not None
        labels, least = labels.cpu(), max(probe.neighbours, 10)
        self.num_train, self.num_classes = len(labels), int(labels.max()) + 1
        probe.require(
            self.num_train >= least,
            f"at least {least} training images (kNN has {probe.neighbours} neighbours), got {self.num_train}",
        )
        num_found = len(labels.unique())
        probe.require(
            num_found >= 2 and int(labels.min()) >= 0, f"training images of two classes or more, got {num_found}"
        )
        self.majority = int(labels.bincount().argmax())
        names = getattr(images, "label_names", None)
        self.classes = (
            [str(index) for index in range(self.num_classes)] if names is None else list(names[: self.num_classes])
        )
        return images, labels

    def _features(self, seen: dict[str, Layers], pixels: Float[Tensor, "b c h w"]) -> dict[str, Float[Tensor, "f b d"]]:
        """What is judged, on the CPU: each network's outputs, its blocks where asked for, and the
        pixels."""
        found = {}
        for name, of_network in seen.items():
            found[name] = torch.stack([of_network.feature(feature) for feature in self.features]).cpu()
            if self.num_layers:
                num_prefix = self.model.num_prefix
                rows = {
                    "cls": [tokens[:, 0] for tokens in of_network.encoder],
                    "mean": [tokens[:, num_prefix:].mean(1) for tokens in of_network.encoder],
                }
                found[name + BLOCKS] = torch.stack([row for feature in self.features for row in rows[feature]]).cpu()
        return found | {PIXELS: small_pixels(pixels)}

    def _classify(self, batch: Batch, labels: Int[Tensor, " b"]) -> None:
        """Count what the classifiers get right on the images as they are."""
        self.probe.require(
            int(labels.min()) >= 0 and int(labels.max()) < self.num_classes,
            f"images of the classes 0 to {self.num_classes - 1} of its training images, "
            f"got {int(labels.min())} to {int(labels.max())}",
        )
        seen = {name: layers_of(batch.of(network)) for name, network in self.networks.items()}
        for name, features in self._features(seen, self.model.to_pixels(batch.images)).items():
            opinions = self.banks[name].classify(features)
            self._count(name, opinions.right(labels))
            if name in TESTED:
                self.confusion[name] = opinions.confusion(labels, self.num_classes) + self.confusion.get(name, 0)
            if name == TRAINED:
                self.by_seed.add((opinions.linear == labels).double().permute(2, 0, 1))
        if self.pooled is not None:
            for source, tokens in self._tokens(seen, batch.images).items():
                self.pooled.count(source, tokens, labels)
        self._count("majority", (labels == self.majority).double())
        for name, classifier in self.tuned.items():
            self._count(f"tuned {name}", (classifier.predict(batch.images) == labels).double())

    def _count(self, name: str, right: Float[Tensor, "b ..."]) -> None:
        self.right.setdefault(name, RunningMean()).add(right)

    def _corrupt(self, batch: Batch, labels: Int[Tensor, " b"], rows: Int[Tensor, " r"]) -> None:
        """Count what the classifiers get right on some of the images, corrupted in every way, and
        as they are."""
        pixels, labels = self.model.to_pixels(batch.images[rows]).clamp(0, 1), labels[rows.cpu()]
        indices = [batch.first + row for row in rows.tolist()]
        found = []
        for kind in self.probe.corruptions:
            # all severities of a kind in one pass
            parts = [corrupt(pixels, kind, severity, self.seed, indices) for severity in self.probe.severities]
            right = self._right(torch.cat(parts), labels.repeat(len(parts)))
            found.append(rearrange(right, "(s b) j f -> b j f s", s=len(parts)))
        right = torch.stack(found, dim=-2)
        self.corrupted.add(right)
        self.corrupted_mean.add(right.mean((-2, -1)))
        self.clean.add(self._right(pixels, labels))

    def _right(self, pixels: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b j f"]:
        """What the classifiers of the model's outputs and of pixels get right."""
        seen = {TRAINED: layers(self.model, self.model.prepare(pixels), decoder=False)}
        features = self._features(seen, pixels)
        return torch.cat([self.banks[name].classify(features[name]).right(labels) for name in TESTED], dim=-1)

    def result(self) -> xr.Dataset:
        count, mean = self.num_images, {name: part.mean for name, part in self.right.items() if part.mean is not None}
        networks = [*self.networks, PIXELS]
        by_seed = self.by_seed.mean
        assert by_seed is not None
        rates = {name: self.banks[name].linear.rate for name in networks}
        edges = {name: at_edge(rate, self.probe.rates).double() for name, rate in rates.items()}
        of_features = ("classifier", "network", "feature")
        result = {
            **with_interval(
                "accuracy",
                of_features,
                self._stacked({name: mean[name] for name in networks}),
                count,
                "accuracy",
            ),
            **self._groups(networks),
            **with_interval(
                "majority_accuracy", (), mean["majority"], count, "accuracy of the commonest training class"
            ),
            "seed_deviation": variable(
                "feature", by_seed.std(0, correction=1 if len(by_seed) > 1 else 0), "linear probe: deviation over seeds"
            ),
            "learning_rate": variable(
                of_features[1:], self._stacked(rates, 0), "rate that held-out training images chose"
            ),
            "rate_at_edge": variable(
                of_features[1:],
                self._stacked(edges, 0).long(),
                "whether that rate is the smallest or largest one tried (1: yes)",
            ),
            "confusion": variable(
                (*of_features, "true", "predicted"),
                self._stacked(self.confusion),
                "images by true and predicted class",
                "images",
            ),
        }
        if self.num_layers:
            shape = len(self.features), self.num_layers
            rows = self._stacked({name: mean[name + BLOCKS].unflatten(1, shape) for name in self.networks})
            result |= with_interval("layer_accuracy", (*of_features, "layer"), rows, count, "accuracy after each block")
        if self.pooled is not None:
            result |= self.pooled.variables(networks, count)
        if self.probe.corruptions:
            result |= self._robustness()
        if self.tuned:
            nothing = torch.full((), torch.nan, dtype=torch.float64)
            tuned = torch.stack([*(mean[f"tuned {name}"] for name in self.tuned), nothing])  # pixels have no weights
            result |= with_interval("finetuned_accuracy", ("network",), tuned, count, "accuracy after fine-tuning")
        coordinates = {
            "classifier": list(CLASSIFIERS),
            "network": networks,
            "feature": list(self.features),
            "layer": ("layer", list(range(1, self.num_layers + 1)), {"long_name": "encoder block", "units": "1"}),
            "pooling": [] if self.pooled is None else list(self.pooled.poolings),
            "query_layer": [] if self.pooled is None else [layer + 1 for layer in self.pooled.held_layers],
            "corruption": list(self.probe.corruptions),
            "bound": ("bound", [0.025, 0.975], {"long_name": "quantile", "units": "1"}),
            "severity": ("severity", list(self.probe.severities), {"long_name": "severity", "units": "1"}),
            "true": self.classes,
            "predicted": self.classes,
        }
        used = {dim for part in result.values() for dim in part.dims}
        attributes = {
            "num_train_images": self.num_train,
            "num_pooled_images": 0 if self.pooled is None else self.pooled.num_images,
            "num_corrupted": len(self.sample),
            "num_classes": self.num_classes,
            "num_classes_tested": int((self.confusion[TRAINED][0, 0].sum(1) > 0).sum()),
            "protocol": "frozen features of unmasked images; linear: batch norm without affine + linear, SGD (linear_probe.py)",
            "interval": "95 %, Wilson, over test images; standard errors are binomial",
            "corruptions": "lcmae's own parameters (corruptions.py), not CIFAR-10-C's",
        }
        return xr.Dataset(result, {name: part for name, part in coordinates.items() if name in used}, attributes)

    def _stacked(self, parts: Mapping[str, Tensor], axis: int = 1) -> Tensor:
        """Networks side by side; pixels, one feature, stand at every feature."""
        return by_network(parts, [*self.networks, PIXELS], len(self.features), axis)

    def _groups(self, networks: list[str]) -> Mapping[str, xr.Variable]:
        """Accuracies of groups of images, for paired differences."""
        means = {name: part for name in networks if (part := self.right[name].group_means) is not None}
        dims = ("classifier", "network", "feature")
        return by_groups(dims, self._stacked(means, 2), self.num_images, "accuracy", "accuracy")

    def _robustness(self) -> dict[str, xr.Variable]:
        clean, corrupted, overall = self.clean.mean, self.corrupted.mean, self.corrupted_mean.mean
        assert clean is not None
        assert corrupted is not None
        assert overall is not None
        count, dims = len(self.sample), ("classifier", "network", "feature", "corruption", "severity")
        words, groups = "accuracy, mean over corruptions and severities", self.corrupted_mean.group_means
        assert groups is not None
        return {
            **with_interval(
                "corruption_accuracy", dims, self._tested(corrupted), count, "accuracy on corrupted images"
            ),
            **with_interval(
                "clean_accuracy", dims[:3], self._tested(clean), count, "accuracy on the same images, clean"
            ),
            "corrupted_accuracy": variable(dims[:3], self._tested(overall), words),
            "corrupted_accuracy_sem": error_of(
                dims[:3],
                self._tested(self.corrupted_mean.sem),
                words,
                degrees=self.corrupted_mean.degrees_of_freedom,
                over=GIVEN_FIT,
            ),
            **by_groups(dims[:3], self._tested(groups, 2), self.corrupted_mean.count, "corrupted_accuracy", words),
        }

    def _tested(self, values: Tensor, axis: int = 1) -> Tensor:
        """What was counted of `TESTED`, features one after the other, as networks side by side."""
        sizes = [len(self.features), 1]
        return self._stacked(dict(zip(TESTED, values.split(sizes, axis), strict=True)), axis)


def at_edge(rate: Float[Tensor, " f"], rates: tuple[float, ...]) -> Bool[Tensor, " f"]:
    """Whether a better rate may lie beyond the ones that were tried; of a single one nothing is
    known."""
    return torch.isin(rate, torch.tensor([rates[0], rates[-1]] if len(rates) > 1 else []))
