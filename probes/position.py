"""How much of the patch tokens is position, and does it stand in the way?

Sources: the semantic-invariance score of principal components and the projection SOAP that takes
the most invariant ones out (Hjelkrem-Tan et al., CVPR 2026, 2604.00172): a component that has the
same sign at a position whatever the image shows is about the position. The score's floor, 0.707 for
a component that says nothing, is our remark (`lcmae.probes.measures.position`). Beside it position
is read off the tokens by ridge regression, layer by layer, and the nearest patches of *other*
images are asked two things before and after position is taken out: whether their images are of the
same class, and whether they merely stand at the same position.

Ways to take it out: SOAP; the mean token of each position subtracted, which needs no synthetic
images; and as many components as SOAP takes, by variance or by chance, as controls.

A sample of the images is held in half precision, at most `MOST_BYTES` of tokens. Baselines: a
network with fresh weights (of large models its last layer alone), and patches of pixels.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from lcmae.models import MaskedImageModel
from lcmae.patches import patchify
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.measures.plain_images import plain_images
from lcmae.probes.measures.position import (
    FLOOR,
    THRESHOLD,
    Components,
    decodability,
    nearest,
    principal,
    semantic_invariance,
    soap,
    upper_side,
    without,
)
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.jackknife import NUM_GROUPS, groups_of, standard_error
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.sample import ImageSample
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.layers import layers, layers_of, watch_layers
from lcmae.randomness import generator
from lcmae.shapes import Float

UNTRAINED, PIXELS = "untrained", "pixels"
MOST_BYTES = 384 * 2**20
"""Of tokens in half precision, real and plain images together."""

ENOUGH = 64
"""With memory for fewer images the untrained network is measured at its last layer alone."""

REMOVALS = ("nothing", "SOAP", "position mean", "top components", "random components")
NUM_MAPS = 6
"""Components whose maps are stored."""

Source = tuple[str, int]
"""A network and a layer, counted from 0; pixels have the layer -1."""


class Position(Probe):
    """Returns `invariance` and `variance_share` by (network, layer, component), how many components
    are positional by the paper's threshold (`positional_components`), `position_r2` by (network,
    layer), and, of the trained network by (removal, layer), `knn_accuracy` of patches and
    `same_position`, the share of nearest patches at the same position; `component_map` of the last
    layer's most invariant components."""

    name: ClassVar[str] = "position"
    question: ClassVar[str] = "How much of the patch tokens is position, and does it stand in the way?"
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("invariance", "variance_share", "positional_components", "position_r2"),
        "pixels": ("invariance", "variance_share", "positional_components", "position_r2"),
    }

    num_sampled: int = Field(default=64, ge=8)
    """Most images whose tokens are held, and as many without objects."""

    components: int = Field(default=16, ge=2)
    """Principal components that are scored, by falling variance."""

    removed: int = Field(default=2, ge=1)
    """Components that SOAP removes (its mu)."""

    neighbours: int = Field(default=10, ge=1)
    """Nearest patches of other images."""

    queries: int = Field(default=4, ge=1)
    """Patches of each image whose neighbours are looked for."""

    untrained: bool = True
    """Whether a network with fresh weights is measured, too."""

    batch_size: int = Field(default=32, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Position":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        self.require(model.num_patches >= 2, f"at least 2 patches, got {model.num_patches}")
        self.require(num_images >= 2, f"at least 2 images, got {num_images}")
        return _Position(self, model, num_images, seed)


@dataclass
class _Position(Accumulator):
    probe: Position
    model: MaskedImageModel
    num_images: int
    seed: int
    real: dict[Source, list[Tensor]] = field(default_factory=dict)
    plain: dict[Source, list[Tensor]] = field(default_factory=dict)
    scale: dict[Source, float] = field(default_factory=dict)
    labels: list[Tensor] = field(default_factory=list)
    sample: ImageSample | None = None
    every_untrained: bool = True
    """Whether the untrained network is measured at every layer, or at the last alone."""

    def __post_init__(self) -> None:
        fresh = untrained(self.model, self.seed) if self.probe.untrained else None
        self.networks = {TRAINED: self.model} | ({} if fresh is None else {UNTRAINED: fresh})
        self.num_layers = len(self.model.blocks)
        self.found: dict[Source, _Found] = {}

    # --- collecting ---

    def watch(self, batch: Batch) -> None:
        watch_layers(batch)

    def update(self, batch: Batch) -> None:
        own = layers_of(batch).encoder
        if self.sample is None:
            self.sample = ImageSample(self._most(own[-1].shape[-1]), self.num_images, self.seed)
        rows = self.sample.rows(batch)
        if not len(rows):
            return
        images, num_prefix = batch.images[rows], self.model.num_prefix
        indices = [batch.first + row for row in rows.tolist()]
        channels, height, width = images.shape[1:]
        plain = self.model.prepare(plain_images(indices, channels, height, width, self.seed).to(images.device))
        for name, network in self.networks.items():
            real = (
                [tokens[rows] for tokens in own] if name == TRAINED else layers(network, images, decoder=False).encoder
            )
            seen = layers(network, plain, decoder=False).encoder
            for layer, (one, other) in enumerate(zip(real, seen, strict=True)):
                if name == UNTRAINED and not self.every_untrained and layer < self.num_layers - 1:
                    continue
                self._add((name, layer), one[:, num_prefix:], other[:, num_prefix:])
        size = self.model.patch_size
        self._add((PIXELS, -1), patchify(images, size), patchify(plain, size))
        if batch.labels is not None:
            self.labels.append(batch.labels.cpu()[rows.cpu()])

    def _most(self, width: int) -> int:
        """Images that there is memory for."""
        each = 4 * self.model.num_patches * width
        most = MOST_BYTES // (each * len(self.networks) * self.num_layers)
        if most < min(self.probe.num_sampled, ENOUGH) and len(self.networks) > 1:
            self.every_untrained = False
            most = MOST_BYTES // (each * (self.num_layers + 1))
        return max(8, min(self.probe.num_sampled, most))

    def _add(self, source: Source, real: Tensor, plain: Tensor) -> None:
        # one scale a layer: half precision ends at 65504
        scale = self.scale.setdefault(source, float(real.float().square().mean().sqrt().clamp(min=1e-12)))
        for name, tokens in (("real", real), ("plain", plain)):
            half = (tokens.detach().float().cpu() / scale).clamp(-6e4, 6e4).half()
            getattr(self, name).setdefault(source, []).append(half)

    # --- concluding ---

    @property
    def num_steps(self) -> int:
        return len(self.networks) * self.num_layers + 1

    def conclude(self) -> Iterator[None]:
        labels = torch.cat(self.labels) if self.labels else None
        for source in list(self.real):
            real, plain = (torch.cat(part.pop(source)).float() for part in (self.real, self.plain))
            self.found[source] = self._measured(source, real, plain, labels)
            yield

    def _measured(self, source: Source, real: Tensor, plain: Tensor, labels: Tensor | None) -> "_Found":
        probe, count = self.probe, len(real)
        components = principal(real)
        number = min(probe.components, components.vectors.shape[1])
        upper = [upper_side(tokens, components, number).double() for tokens in (real, plain)]
        scores = semantic_invariance(upper[0].mean(0), upper[1].mean(0))
        groups = groups_of(range(count), count)
        apart = [groups != group for group in groups.unique()]
        without_group = torch.stack([
            semantic_invariance(*(one[some].mean(0) for one in upper)) if bool(some.any()) else torch.full_like(scores, math.nan)
            for some in apart
        ])  # fmt: skip
        sizes = torch.tensor([float(count - int(some.sum())) for some in apart])
        half = count // 2
        r2 = RunningMean()
        if half >= 1:
            r2.add(decodability(real[:half], real[half:], self.model.grid, self.seed))
        total = components.variance.sum()
        found = _Found(
            scores,
            standard_error(scores, without_group, sizes),
            components.variance[:number] / torch.where(total > 1e-12, total, torch.nan),
            r2,
        )
        if source[0] == TRAINED:
            found.by_removal = self._removals(real, components, scores, labels)
            if source[1] == self.num_layers - 1:
                order = scores.argsort(descending=True)[:NUM_MAPS]
                found.order = order
                found.maps = ((real.double().mean(0) - components.mean) @ components.vectors[:, order]).T
        return found

    def _removals(
        self, real: Tensor, components: Components, scores: Tensor, labels: Tensor | None
    ) -> dict[str, tuple[RunningMean, RunningMean]]:
        probe, rng = self.probe, generator("position-queries", self.seed)
        size = self.model.num_patches
        queries = torch.stack([torch.randperm(size, generator=rng)[: probe.queries] for _ in range(len(real))])
        number = min(probe.removed, len(scores))
        chosen = torch.randperm(len(scores), generator=rng)[:number]
        ones, vectors = torch.ones(number, dtype=torch.float64), components.vectors
        changed = {
            "nothing": real,
            "SOAP": soap(real, components, scores, number),
            "position mean": real - real.mean(0),
            "top components": without(real, vectors[:, :number], ones),
            "random components": without(real, vectors[:, chosen], ones),
        }
        found = {}
        for name, tokens in changed.items():
            neighbours = nearest(tokens, labels, queries, probe.neighbours)
            accuracy, same = RunningMean(), RunningMean()
            accuracy.add(neighbours.accuracy)
            same.add(neighbours.same_position)
            found[name] = accuracy, same
        return found

    def result(self) -> xr.Dataset:
        if not self.found:
            for _ in self.conclude():
                pass
        networks, count = [*self.networks, PIXELS], len(self.sample) if self.sample else 0
        number = max(len(found.scores) for found in self.found.values())
        shape = len(networks), self.num_layers, number
        score, error, share = (torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(3))
        r2, r2_error = (torch.full(shape[:2], torch.nan, dtype=torch.float64) for _ in range(2))
        for (network, layer), found in self.found.items():
            at, some = (networks.index(network), slice(None) if layer < 0 else layer), slice(0, len(found.scores))
            score[(*at, some)], error[(*at, some)], share[(*at, some)] = found.scores, found.error, found.share
            if found.r2.mean is not None:
                r2[at], r2_error[at] = found.r2.mean, found.r2.sem
        dims, degrees = ("network", "layer", "component"), min(count, NUM_GROUPS) - 1
        words = "semantic invariance of a principal component of patch tokens"
        result: dict[str, xr.Variable] = {
            "invariance": variable(dims, score, words),
            "invariance_sem": error_of(dims, error, words, degrees=degrees, method="jackknife"),
            "variance_share": variable(dims, share, "share of the component in the tokens' variance"),
            "positional_components": variable(
                dims[:2],
                torch.where(score[..., 0].isnan(), torch.nan, (score >= THRESHOLD).sum(-1).double()),
                f"components of invariance {THRESHOLD} or more, of those scored",
                "components",
            ),
            "position_r2": variable(dims[:2], r2, "R2 of row and column read off patch tokens by ridge regression"),
            "position_r2_sem": error_of(dims[:2], r2_error, "R2 of row and column", degrees=count - count // 2 - 1),
            **self._of_removals(count),
            **self._maps(),
        }
        coordinates = {
            "network": networks,
            "layer": variable("layer", np.arange(1, self.num_layers + 1), "encoder block"),
            "component": variable("component", np.arange(1, number + 1), "principal component, by variance"),
            "removal": list(REMOVALS),
        }
        attributes = {
            "num_sampled": count,
            "invariance_floor": FLOOR,
            "invariance_threshold": THRESHOLD,
            "chance_same_position": 1 / self.model.num_patches,
            "removed": self.probe.removed,
            "definition": "score and projection of SOAP (2604.00172); plain images, floor and position mean are lcmae's own",
        }
        return xr.Dataset(result, coordinates, attributes)

    def _of_removals(self, count: int) -> dict[str, xr.Variable]:
        result: dict[str, xr.Variable] = {}
        about = {
            "knn_accuracy": "share of patches whose nearest patches of other images vote for their image's class",
            "same_position": "share of the nearest patches of other images that stand at the same position",
        }
        for which, (name, words) in enumerate(about.items()):
            values, errors = (
                torch.full((len(REMOVALS), self.num_layers), torch.nan, dtype=torch.float64) for _ in range(2)
            )
            for (network, layer), found in self.found.items():
                if network == TRAINED:
                    for row, removal in enumerate(REMOVALS):
                        running = found.by_removal[removal][which]
                        assert running.mean is not None
                        values[row, layer], errors[row, layer] = running.mean, running.sem
            attrs = {"missing": "needs labelled images"} if which == 0 and not self.labels else {}
            result[name] = variable(("removal", "layer"), values, words, **attrs)
            result[f"{name}_sem"] = error_of(("removal", "layer"), errors, words, degrees=count - 1)
        labels = torch.cat(self.labels) if self.labels else None
        chance = torch.nan if labels is None else float((labels.bincount().double() / len(labels)).square().sum())
        words = "chance that two of these images are of one class"
        result["knn_chance"] = variable(
            (), chance, words, **({} if labels is not None else {"missing": "needs labels"})
        )
        return result

    def _maps(self) -> dict[str, xr.Variable]:
        last = self.found[TRAINED, self.num_layers - 1]
        assert last.maps is not None
        assert last.order is not None
        maps = last.maps.reshape(len(last.maps), *self.model.grid)
        return {
            "component_map": variable(
                ("map", "row", "column"), maps, "mean along a component by position, last layer", "token units"
            ),
            "map_component": variable("map", last.order + 1, "component of the map, most invariant first"),
        }


@dataclass
class _Found:
    """What one layer's tokens say."""

    scores: Float[Tensor, " c"]
    error: Float[Tensor, " c"]
    share: Float[Tensor, " c"]
    r2: RunningMean
    by_removal: dict[str, tuple[RunningMean, RunningMean]] = field(default_factory=dict)
    maps: Float[Tensor, "m n"] | None = None
    order: Tensor | None = None
