"""Can parts of an image be told apart from its patch tokens?

Source: the dense evaluation of CAPI (Darcet et al., 2502.08769): kNN and logistic regression of
frozen patch tokens, here of every block, scored by mIoU over pixels
(`lcmae.probes.measures.segmentation`, which says where we differ). The classes of pixels are
segmentation masks (`--masks`), or known because the images are made of parts (`--data hierarchy`:
the layout that a pixel belongs to, `lcmae.data.hierarchy`).

A patch is learned as the commonest class of its pixels: of two as common the one of the smaller
number; ignored pixels have no vote, and a patch without any other teaches nothing. Scores are by
pixel, a patch's prediction holding for all of its pixels: even the true commonest classes score
below 1 where a patch holds several (`ceiling`). Classes that the training masks lack count as one
class that is never named. The mean is over the classes that the scored pixels are of.

Baselines: a network with fresh weights, patches of raw pixels, the commonest training class at
each position, and everywhere (`constant`). Layers are chosen on held-out training images, one for
each classifier and network. Errors are over test images, by jackknife,
given the classifiers: not over another draw of training images and patches, which can move a score
further than other test images do (with 48 training images of 8 patches, spread / error was 1.9 to
2.5; docs/LOG.md). Networks that are compared under one seed learn from the same patches.
Memory: tokens of `train_images` x `num_tokens` patches, all layers, at most `MOST_BYTES`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from pydantic import Field, field_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.models import MaskedImageModel
from lcmae.patches import patchify
from lcmae.probes.base import Accumulator, Probe, ProbeError
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.measures import thumbnails
from lcmae.probes.measures.segmentation import (
    CLASSIFIERS,
    HELD_OUT,
    NONE,
    PatchClassifiers,
    class_iou,
    class_votes,
    fit,
    majority,
    mean_iou,
    pixel_accuracy,
    pixel_counts,
)
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.variables import GIVEN_FIT, by_leaving_out, error_of, variable
from lcmae.probes.watching.batch import Batch, Images
from lcmae.probes.watching.layers import Layers, layers, layers_of, watch_layers
from lcmae.randomness import generator
from lcmae.shapes import Float, Int

UNTRAINED, PIXELS, POSITION = "untrained", "pixels", "position"
MOST_BYTES = 384 * 2**20
"""Of training tokens, float32."""

MOST_CLASSES = 1000
LEAST = 10
"""Training images without which nothing is learned."""

PICTURE_SIDE = 96
"""Longest side of a stored picture, in pixels."""

CHUNK = 32
"""Training images of one forward pass."""

Source = tuple[str, int]
"""A network and a layer, counted from 0; pixels have the layer -1."""


class Dense(Probe):
    """Returns `miou` and `accuracy` by (classifier, network) at the chosen layers, `layer_miou` and
    `layer_accuracy` also by layer, `class_iou` also by class, `gain` of mIoU over each baseline by
    (classifier, baseline), each with a standard error; `ceiling` and `constant` by measure."""

    name: ClassVar[str] = "dense"
    question: ClassVar[str] = "Can parts of an image be told apart from its patch tokens?"
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        (UNTRAINED, PIXELS, POSITION), ("miou", "accuracy", "layer_miou", "layer_accuracy", "class_iou")
    )

    train_images: int = Field(default=500, ge=LEAST)
    """Most training images, of the other split."""

    num_tokens: int = Field(default=16, ge=1)
    """Patches of each training image, drawn, or all there are."""

    num_scored: int = Field(default=64, ge=1)
    """Patches of each test image that are scored, drawn, or all there are."""

    neighbours: tuple[int, ...] = (1, 3, 10, 30)
    """Numbers of neighbours that kNN chooses from."""

    rates: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    """Learning rates that logistic regression chooses from, per 256 patches of a batch."""

    epochs: int = Field(default=30, ge=1)
    """Epochs of logistic regression."""

    ignored: tuple[int, ...] = (255,)
    """Numbers in masks that are no class."""

    untrained: bool = True
    """Whether a network with fresh weights is measured, too."""

    num_pictures: int = Field(default=4, ge=0)
    """First images whose segmentation is stored."""

    batch_size: int = Field(default=32, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    @field_validator("rates", "neighbours")
    @classmethod
    def _values_rise(cls, values: tuple[float | int, ...]) -> tuple[float | int, ...]:
        if not values or min(values) <= 0 or list(values) != sorted(set(values)):
            raise ValueError("expected one or more rising values above 0")
        return values

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Dense":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        return _Dense(self, model, num_images, seed)

    def classes_of(self, images: Batch | Images, part: slice) -> Int[Tensor, "b h w"]:
        """The class of each pixel of these images, -1 where it is ignored. `ProbeError` where there
        are no masks."""
        class_maps = getattr(images, "class_maps", None)
        self.require(
            class_maps is not None,
            "images with segmentation masks (--masks FOLDER or COLUMN) or made of parts (--data hierarchy), got neither",
        )
        assert class_maps is not None
        found: Tensor = class_maps(part).cpu()
        found = found.where(~torch.isin(found, torch.tensor(self.ignored)), NONE)
        largest, smallest = int(found.max()), int(found.min())
        self.require(
            largest < MOST_CLASSES and smallest >= NONE,
            f"masks of class numbers from 0 to {MOST_CLASSES - 1}, got {largest if largest >= MOST_CLASSES else smallest}",
        )
        return found


@dataclass
class _Dense(Accumulator):
    probe: Dense
    model: MaskedImageModel
    num_images: int
    seed: int
    learned: dict[Source, PatchClassifiers] = field(default_factory=dict)
    pictures: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fresh = untrained(self.model, self.seed) if self.probe.untrained else None
        self.networks = {TRAINED: self.model} | ({} if fresh is None else {UNTRAINED: fresh})
        self.sums = GroupedSums(self.num_images)

    def watch(self, batch: Batch) -> None:
        for network in self.networks.values():
            watch_layers(batch.of(network))

    def update(self, batch: Batch) -> None:
        if not self.learned:
            self.prepare(batch)
        pixels = self.probe.classes_of(batch, slice(batch.first, batch.first + len(batch)))
        # what no training mask has is one class, the last
        votes = class_votes(pixels.clamp(max=self.num_classes), self.model.grid, self.num_classes + 1)
        seen = {name: layers_of(batch.of(network)) for name, network in self.networks.items()}
        chosen = self._patches("dense-scored", batch.first, len(batch), self.probe.num_scored)
        some = votes.gather(1, chosen[..., None].expand(-1, -1, votes.shape[-1]))
        predicted = [
            self.learned[source].predict(tokens.flatten(0, 1)).unflatten(1, chosen.shape)
            for source, tokens in self._tokens(seen, batch.images, chosen)
        ]
        alone = [self.of_position[chosen], torch.full_like(chosen, self.commonest), majority(some).clamp(min=0)]
        self.sums.add(batch.indices, counts=pixel_counts(torch.cat([*predicted, torch.stack(alone)]), some))
        self._draw(batch, seen, votes)

    # --- learning ---

    def prepare(self, batch: Batch) -> None:
        images = self._training_images(batch)
        # numbers of classes are small: a quarter of the memory
        pixels = [
            self.probe.classes_of(images, slice(first, first + CHUNK)).short() for first in range(0, len(images), CHUNK)
        ]
        found = torch.cat([part.unique() for part in pixels]).unique()
        found = found[found != NONE]
        self.probe.require(len(found) >= 2, f"training masks of two classes or more, got {len(found)}")
        self.num_train, self.num_classes = len(images), int(found.max()) + 1
        votes = torch.cat([class_votes(part.long(), self.model.grid, self.num_classes) for part in pixels])
        self.commonest = int(votes.sum((0, 1)).argmax())
        at_position = votes.sum(0)
        self.of_position = torch.where(at_position.sum(-1) > 0, at_position.argmax(-1), self.commonest)
        self.num_learned = min(self.probe.num_tokens, self._patches_within(len(images), batch))
        chosen = self._patches("dense-learned", 0, len(images), self.num_learned)
        tokens: dict[Source, list[Tensor]] = {}
        for first in range(0, len(images), CHUNK):
            part = images[first : first + CHUNK].to(self.model.device)
            seen = {name: layers(network, part, decoder=False) for name, network in self.networks.items()}
            for source, part_tokens in self._tokens(seen, part, chosen[first : first + CHUNK]):
                tokens.setdefault(source, []).append(part_tokens)
        some = votes.gather(1, chosen[..., None].expand(-1, -1, votes.shape[-1]))
        has_class = bool((majority(some) != NONE)[torch.arange(len(some)) % HELD_OUT != 0].any())
        self.probe.require(has_class, "patches with a class in training images, got none")
        neighbours, rates, epochs = self.probe.neighbours, self.probe.rates, self.probe.epochs
        for source in list(tokens):  # let go of one by one: their classifiers hold copies
            own = torch.cat(tokens.pop(source))
            self.learned[source] = fit(own, some, neighbours=neighbours, rates=rates, epochs=epochs, seed=self.seed)

    def _training_images(self, batch: Batch) -> Images:
        probe = self.probe
        # before anything is opened: without masks there is no use in it
        probe.classes_of(batch, slice(batch.first, batch.first + 1))
        probe.require(
            batch.other_split is not None,
            "images of a named data set, whose other split it trains on (lcmae.probes.watching.views.open_view), "
            "got images without another split",
        )
        assert batch.other_split is not None
        try:
            images = batch.other_split(probe.train_images)
        except InputError as error:
            raise ProbeError(f"probe {probe.name}: needs training images of the same data: {error}") from error
        probe.require(len(images) >= LEAST, f"at least {LEAST} training images, got {len(images)}")
        return images

    def _patches_within(self, num_images: int, batch: Batch) -> int:
        """Patches of each training image that there is memory for."""
        one = batch.images[:1]
        encoders = [layers(network, one, decoder=False).encoder for network in self.networks.values()]
        values = sum(tokens.shape[-1] for encoder in encoders for tokens in encoder)
        return max(1, MOST_BYTES // (4 * num_images * values))

    def _patches(self, purpose: str, first: int, count: int, most: int) -> Int[Tensor, "b t"]:
        """Raster indices of patches: a function of (purpose, seed, image)."""
        size = self.model.num_patches
        if most >= size:
            return torch.arange(size).expand(count, -1)
        rngs = [generator(purpose, self.seed, first + image) for image in range(count)]
        return torch.stack([torch.randperm(size, generator=rng)[:most] for rng in rngs])

    def _tokens(
        self, seen: Mapping[str, Layers], images: Float[Tensor, "b c h w"], chosen: Int[Tensor, "b t"]
    ) -> Iterator[tuple[Source, Float[Tensor, "b t d"]]]:
        """Tokens of these patches, source by source; on the CPU."""
        for name, of_network in seen.items():
            for layer, tokens in enumerate(of_network.encoder):
                yield (name, layer), _pick(tokens[:, self.model.num_prefix :], chosen)
        yield (PIXELS, -1), _pick(patchify(images, self.model.patch_size), chosen)

    # --- concluding ---

    def _draw(self, batch: Batch, seen: Mapping[str, Layers], votes: Float[Tensor, "b n k"]) -> None:
        """The first images, the commonest class of each patch, and what the chosen layers name."""
        few = max(0, min(self.probe.num_pictures - batch.first, len(batch)))
        if not few:
            return
        named = []
        for number in range(len(CLASSIFIERS)):
            layer = self._chosen(TRAINED, number)
            tokens = seen[TRAINED].encoder[layer][:few, self.model.num_prefix :].cpu()
            named.append(self.learned[TRAINED, layer].predict(tokens.flatten(0, 1))[number].unflatten(0, (few, -1)))
        pixels = self.model.to_pixels(batch.images[:few]).clamp(0, 1)
        for name, part in (
            ("original", thumbnails.of_images(pixels, PICTURE_SIDE)),
            ("picture_class", majority(votes[:few])),
            ("picture_named", torch.stack(named, dim=1)),
        ):
            self.pictures.setdefault(name, []).append(part)

    def _chosen(self, network: str, classifier: int) -> int:
        """The layer that held-out training images chose, the first among equals."""
        layer_scores = [
            float(found.held_out[classifier]) for (name, _), found in self.learned.items() if name == network
        ]
        return layer_scores.index(max(layer_scores))

    def result(self) -> xr.Dataset:
        networks, depth = [*self.networks, PIXELS, POSITION], len(self.model.blocks)
        sources = list(self.learned)
        alone = 2 * len(sources)  # where the predictions without a token begin

        def rows(classifier: int, network: str) -> list[int]:
            """Of each layer."""
            if network == POSITION:
                return [alone] * depth
            layer = (lambda number: -1) if network == PIXELS else (lambda number: number)
            return [2 * sources.index((network, layer(number))) + classifier for number in range(depth)]

        at_layers = torch.tensor([[rows(number, name) for name in networks] for number in range(len(CLASSIFIERS))])
        chosen = torch.tensor([
            [self._chosen(name, number) if name in self.networks else 0 for name in networks]
            for number in range(len(CLASSIFIERS))
        ])  # fmt: skip
        best = at_layers.gather(2, chosen[..., None])[..., 0]
        pair, swept = ("classifier", "network"), ("classifier", "network", "layer")
        found: dict[str, xr.Variable] = {}
        for name, score, words in (
            ("miou", mean_iou, "mean intersection over union"),
            ("accuracy", pixel_accuracy, "share of pixels named rightly"),
        ):
            found |= self._estimated(
                name, pair, lambda counts, score=score: score(counts[best]), f"{words}, chosen layers"
            )
            found |= self._estimated(
                f"layer_{name}", swept, lambda counts, score=score: score(counts[at_layers]), f"{words}, by layer"
            )
        found |= self._estimated(
            "class_iou",
            (*pair, "class"),
            lambda counts: class_iou(counts[best])[..., : self.num_classes],
            "intersection over union of one class, chosen layers",
        )
        found |= self._estimated(
            "gain",
            ("classifier", "baseline"),
            lambda counts: mean_iou(counts[best[:, :1]]) - mean_iou(counts[best[:, 1:]]),
            "mean intersection over union beyond a baseline's, same images",
        )
        both = {
            "constant": ("the commonest class", alone + 1),
            "ceiling": ("the true commonest class of each patch", alone + 2),
        }
        for name, (words, row) in both.items():
            found |= self._estimated(
                name,
                ("measure",),
                lambda counts, row=row: torch.stack([mean_iou(counts[row]), pixel_accuracy(counts[row])]),
                f"score of naming {words}",
            )
        found |= self._settings(networks, chosen)
        found |= self._pictures()
        coordinates = {
            "classifier": list(CLASSIFIERS),
            "network": networks,
            "layer": variable("layer", list(range(1, depth + 1)), "encoder block"),
            "class": variable("class", list(range(self.num_classes)), "number of the class in the masks"),
            "baseline": networks[1:],
            "measure": ["miou", "accuracy"],
        }
        attributes = {
            "num_train_images": self.num_train,
            "num_learned": self.num_learned,
            "num_scored": min(self.probe.num_scored, self.model.num_patches),
            "num_classes": self.num_classes,
            "definition": "mIoU of patch kNN and logistic regression as CAPI's (2502.08769); held-out choice of layers, "
            "neighbours by cosine, baselines and errors are lcmae's own; unmasked images",
        }
        return xr.Dataset(found, coordinates, attributes)

    def _estimated(
        self,
        name: str,
        dims: tuple[str, ...],
        score: Callable[[Float[Tensor, "q 3 k"]], Tensor],
        words: str,
    ) -> dict[str, xr.Variable]:
        """A score of the summed counts with its error over images, and, of a few numbers, without
        each group of images."""
        whole, without = self.sums.leave_out(lambda sums: score(sums["counts"]))
        degrees = self.sums.degrees_of_freedom
        found = {
            name: variable(dims, whole, words),
            f"{name}_sem": error_of(
                dims, self.sums.error(whole, without), words, degrees=degrees, over=GIVEN_FIT, method="jackknife"
            ),
        }
        if dims == ("classifier", "network"):
            found |= by_leaving_out(dims, without, self.sums.filled_sizes, name, words)
        return found

    def _settings(self, networks: list[str], chosen: Int[Tensor, "2 f"]) -> dict[str, xr.Variable]:
        """What held-out training images chose."""
        shape = len(networks), len(self.model.blocks)
        neighbours, rate, edge = (torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(3))
        for (network, layer), learned in self.learned.items():
            at = networks.index(network), slice(None) if layer < 0 else layer
            neighbours[at], rate[at] = learned.neighbours, learned.rate
            edge[at] = float(learned.rate in (self.probe.rates[0], self.probe.rates[-1]))
        layered = torch.tensor([float("nan") if name not in self.networks else 1.0 for name in networks])
        return {
            "chosen_layer": variable(
                ("classifier", "network"), (chosen + 1) * layered, "layer that held-out training images chose"
            ),
            "chosen_neighbours": variable(("network", "layer"), neighbours, "neighbours that they chose for kNN"),
            "chosen_rate": variable(("network", "layer"), rate, "rate that they chose for logistic regression"),
            "rate_at_edge": variable(
                ("network", "layer"), edge, "whether it is the smallest or largest one tried (1: yes)"
            ),
        }

    def _pictures(self) -> dict[str, xr.Variable]:
        if not self.pictures:
            return {}
        original, classes, named = (torch.cat(part) for part in self.pictures.values())
        grid = self.model.grid
        # classes that no training mask has are one number
        return {
            "original": variable(("picture", "y", "x", "channel"), original, "image", "pixel value"),
            "picture_class": variable(
                ("picture", "row", "column"),
                classes.unflatten(1, grid).short(),
                "commonest class of the patch's pixels (-1: none)",
            ),
            "picture_named": variable(
                ("picture", "classifier", "row", "column"),
                named.unflatten(2, grid).short(),
                "class that is named, chosen layer of the trained network",
            ),
        }


def _pick(tokens: Float[Tensor, "b n d"], chosen: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
    """The tokens of these patches, on the CPU."""
    rows = torch.arange(len(chosen))[:, None]
    return tokens[rows.to(tokens.device), chosen.to(tokens.device)].float().cpu()
