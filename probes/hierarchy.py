"""Which of the latents that made the images can be read off frozen features, and which does theory
say that the mask shares?

Source: Kong et al., "Understanding Masked Autoencoders via Hierarchical Latent Variable Models"
(CVPR 2023, 2306.04898): a mask decides which latents its visible and hidden parts share, and those
are what a masked autoencoder identifies; very small and very large ratios share low levels only.
The paper tests this on photographs, where latents are unknown. Here they are known (`--data
hierarchy`), so both sides are numbers: the shared latents as a minimum cut
(`lcmae.probes.latents.separator`, no training), and how well every level is decoded linearly. The
decoding is lcmae's own experiment. "Identified up to a one-to-one map", as the theorem says, is
less than "linearly decodable", as is measured: what is not decoded may be there all the same.

Decoding is ridge regression, fitted on the data's other split, its strength chosen there
(`lcmae.probes.measures.ridge`). A kind is the largest of its one-hot targets and scores by
accuracy; attributes score by R2, 1 - squared error / variance over training images, averaged over a
level's latents. Skill puts both on one scale: 0 is the best constant answer, 1 is always right.
From a whole-image feature all latents of a level are asked for at once; from a patch token those
above its own patch. Features are of unmasked images.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
import xarray as xr
from einops import rearrange
from pydantic import Field, field_validator
from torch import Tensor

from lcmae.data.hierarchy import KnownLatents, Latents, Tree
from lcmae.errors import InputError
from lcmae.masking import AnyMask, CoarseRandom, MaskStrategy, Random
from lcmae.models import Feature, MaskedImageModel
from lcmae.patches import Grid, patchify
from lcmae.probes.base import Accumulator, Probe, ProbeError
from lcmae.probes.baselines.pixels import small_pixels
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.latents.decoding import CONSTANT, Decoder, Level
from lcmae.probes.latents.separator import Levels, expected_levels, patch_of_pixels
from lcmae.probes.latents.shared_levels import level_map, own_levels
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import GIVEN_FIT, error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.layers import Layers, layers, layers_of, watch_layers
from lcmae.randomness import generator
from lcmae.shapes import Float, Int

ENDS = ("highest", "lowest")
"""Of all smallest sets of shared latents, the one that lies highest and the one that lies
lowest."""

CHUNK = 64
"""Training images of one forward pass."""

LEAST = 20
"""Training images without which nothing is fitted."""

FRESH, BLOCK = "untrained ", "block "
"""What names of representations begin with."""

SCALE = ": 0 is chance, 1 is perfect"


class Hierarchy(Probe):
    """Returns `skill` and `score` by (network, feature, level), `chance` by (feature, level),
    `gain` over fresh weights by (feature, level) and `layer_skill` by (network, layer, level), with
    standard errors; for `mask`, `own_level` and `own_top` by end and `own_share` by (end, level);
    `predicted_level`, `predicted_top` by (end, unit, ratio), `predicted_share` also by level.
    Errors over images, given the decoders and the fresh weights, or over masks."""

    name: ClassVar[str] = "hierarchy"
    question: ClassVar[str] = (
        "Which of the latents that made the images can be decoded, and which does the mask share between its two sides?"
    )

    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("score", "skill", "layer_skill"),
        "pixels": ("score", "skill"),
    }

    mask: AnyMask = Random()
    """Mask whose shared latents are reported as `own_...` (`lcmae compare --own-masks`: the one of
    training)."""

    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Masking ratios of the map of predicted levels."""

    units: tuple[int, ...] = (1, 2)
    """Sides of its mask units, in patches; random masks, in units above 1 coarse random ones."""

    num_masks: int = Field(default=32, ge=2)
    """Masks of each ratio and unit; a cut takes about a millisecond."""

    train_images: int = Field(default=2000, ge=20)
    """Most images of the other split that decoders are fitted on. Their features are kept in
    memory."""

    num_tokens: int = Field(default=8, ge=1)
    """Patch tokens of each image that are decoded (or all there are)."""

    each_layer: bool = True
    """Whether the mean token of every block is decoded too."""

    untrained: bool = True
    """Whether a network of the same shape with fresh weights is decoded too; doubles the forward
    passes."""

    batch_size: int = Field(default=64, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    @field_validator("ratios")
    @classmethod
    def _ratios_are_shares(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or min(values) <= 0 or max(values) >= 1 or list(values) != sorted(set(values)):
            raise ValueError("expected one or more rising masking ratios above 0 and below 1")
        return values

    @field_validator("units")
    @classmethod
    def _units_rise(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values or min(values) < 1 or list(values) != sorted(set(values)):
            raise ValueError("expected one or more rising mask units of at least 1 patch")
        return values

    def takes(self, mask: MaskStrategy) -> bool:
        return not mask.needs_images

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Hierarchy":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        self.require(not self.mask.needs_images, f"a mask that does not follow the image, got {self.mask.kind}")
        self.mask.check(model.grid)
        return _Hierarchy(self, model, seed)


@dataclass
class _Hierarchy(Accumulator):
    probe: Hierarchy
    model: MaskedImageModel
    seed: int
    scores: RunningMean = field(default_factory=RunningMean)
    """[representation level], in the order of `names`."""

    above_chance: RunningMean = field(default_factory=RunningMean)
    """[representation level]: scores less those of the constant, image by image."""

    gains: RunningMean = field(default_factory=RunningMean)
    """[feature level]: scores less those of fresh weights, image by image."""

    gains_and_chance: RunningMean = field(default_factory=RunningMean)
    """[feature level]: the same and the constant's score."""

    def __post_init__(self) -> None:
        has_class_token = self.model.num_prefix > 0
        self.pooled: tuple[Feature, ...] = ("cls", "mean") if has_class_token else ("mean",)
        self.features = [*self.pooled, "patch"]
        fresh = untrained(self.model, self.seed) if self.probe.untrained else None
        self.networks = {"": self.model} | ({} if fresh is None else {FRESH: fresh})
        self.names: list[str] = []

    def watch(self, batch: Batch) -> None:
        for network in self.networks.values():
            watch_layers(batch.of(network))

    def prepare(self, batch: Batch) -> None:
        known = batch.known_latents
        self.probe.require(
            known is not None and batch.other_split is not None,
            "images whose latents are known (--data hierarchy), got other images",
        )
        assert known is not None
        self.known_latents = known
        self._learn(batch)

    def update(self, batch: Batch) -> None:
        if not self.names:
            self.prepare(batch)
        known = batch.known_latents
        assert known is not None
        seen = {name: layers_of(batch.of(network)) for name, network in self.networks.items()}
        positions, latents = self._positions(batch.first, len(batch)), known.latents()
        whole, single = self._features(seen, batch.images, positions)
        of_images = self.of_images.scores(whole, latents)
        of_patches = self.of_patches.scores(single, self._above(latents, positions))
        # a level without a latent of its own for each patch is unknown to patches
        spread = torch.full((*of_patches.shape[:2], len(self.levels)), torch.nan, dtype=torch.float64)
        spread[..., self.known] = of_patches
        of_patches = rearrange(spread, "(b t) f level -> b t f level", b=len(batch)).mean(1)
        scores = torch.cat([of_images, of_patches], dim=1)
        chance = [self._chance(name) for name in self.names]
        self.scores.add(scores)
        self.above_chance.add(scores - scores[:, chance])
        if FRESH in self.networks:
            own, fresh = ([self.names.index(f"{name}{feature}") for feature in self.features] for name in ("", FRESH))
            gains = scores[:, own] - scores[:, fresh]
            self.gains.add(gains)
            self.gains_and_chance.add(gains + scores[:, [chance[row] for row in own]])

    def _learn(self, batch: Batch) -> None:
        """Decoders from images of the other split, for whole images and for single patches."""
        assert batch.other_split is not None
        try:
            images = batch.other_split(self.probe.train_images)
        except InputError as error:
            raise ProbeError(f"probe {self.probe.name}: needs training images of the same data: {error}") from error
        self.probe.require(len(images) >= LEAST, f"at least {LEAST} training images, got {len(images)}")
        known = getattr(images, "known_latents", None)
        assert isinstance(known, KnownLatents)
        self.num_train, hierarchy, latents = len(images), known.hierarchy, known.latents()
        pairs = zip(hierarchy.tree.levels, hierarchy.num_kinds, strict=True)
        self.levels = [Level(name, number) for name, number in pairs]
        height, width = self.model.config.image_size
        self.own = owners(hierarchy.tree, height, width, self.model.grid)
        self.known = [number for number, level in enumerate(self.levels) if level.name in self.own]

        parts: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        for first in range(0, len(images), CHUNK):
            part = images[first : first + CHUNK].to(self.model.device)
            seen = {name: layers(network, part, decoder=False) for name, network in self.networks.items()}
            parts.append(self._features(seen, part, self._positions(first, len(part))))
        whole, single = (
            {name: torch.cat([part[kind][name] for part in parts]) for name in parts[0][kind]} for kind in (0, 1)
        )
        above = self._above(latents, self._positions(0, len(images)))
        self.of_images = Decoder.fit(self.levels, latents, whole, self.seed)
        self.of_patches = Decoder.fit([self.levels[number] for number in self.known], above, single, self.seed)
        self.names = [
            *self.of_images.names,
            *(f"patch {name}" if name == CONSTANT else name for name in self.of_patches.names),
        ]

    def _features(
        self, seen: dict[str, Layers], images: Float[Tensor, "b c h w"], positions: Int[Tensor, "b t"]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features of whole images [b d] and of single patches [(b t) d], by representation; on the
        CPU."""
        pixels = self.model.to_pixels(images)
        whole: dict[str, Tensor] = {}
        single: dict[str, Tensor] = {}
        for name, found in seen.items():
            whole |= {f"{name}{feature}": found.feature(feature).cpu() for feature in self.pooled}
            single[f"{name}patch"] = pick(found.tokens.cpu(), positions)
            if self.probe.each_layer:
                for layer, tokens in enumerate(found.encoder, start=1):
                    whole[f"{name}{BLOCK}{layer}"] = tokens[:, self.model.num_prefix :].mean(1).cpu()
        whole["pixels"] = small_pixels(pixels)[0]
        single["patch pixels"] = pick(patchify(pixels, self.model.patch_size).cpu(), positions)
        return whole, single

    def _positions(self, first: int, count: int) -> Int[Tensor, "b t"]:
        """Raster indices of patches: a function of (seed, image)."""
        number = min(self.probe.num_tokens, self.model.num_patches)
        rngs = [generator("hierarchy-places", self.seed, first + image) for image in range(count)]
        return torch.stack([torch.randperm(self.model.num_patches, generator=rng)[:number] for rng in rngs])

    def _above(self, latents: Latents, positions: Int[Tensor, "b t"]) -> Latents:
        """For each picked patch, its one latent of every level whose blocks hold whole patches: [(b
        t) 1 ...]."""
        rows = torch.arange(len(positions))[:, None]
        return {name: latents[name][rows, own[positions]].flatten(0, 1)[:, None] for name, own in self.own.items()}

    def result(self) -> xr.Dataset:
        names, probe = [level.name for level in self.levels], self.probe
        own = self._levels(probe.mask)
        units, predicted = self._map()
        blocks = len(self.model.blocks) if probe.each_layer else 0
        networks = [TRAINED, *(["untrained"] if FRESH in self.networks else []), "pixels"]
        values = self._decoded(networks) | own_levels(own) | predicted
        coordinates = {
            "feature": self.features,
            "network": networks,
            "layer": ("layer", list(range(1, blocks + 1)), {"long_name": "encoder block", "units": "1"}),
            "level": names,
            "end": list(ENDS),
            "unit": ("unit", units, {"long_name": "side of the mask unit", "units": "patches"}),
            "ratio": ("ratio", list(probe.ratios), {"long_name": "masking ratio", "units": "1"}),
        }
        used = {dim for part in values.values() for dim in part.dims}
        height = ("level", list(range(len(names), 0, -1)), {"long_name": "levels above the pixels", "units": "1"})
        attributes = {
            "num_train_images": self.num_train,
            "tree": self.known_latents.hierarchy.settings.model_dump_json(),
            "mask_ratio": probe.mask.ratio,
            "mask_unit": getattr(probe.mask, "unit", 1),
            "mask_kind": probe.mask.kind,
            "separator": "minimum vertex separator weighted by numbers, lcmae's reading of Kong et al. (2306.04898), Theorem 1",
            "decoding": "ridge, strength chosen on held-out training images; unmasked images",
        }
        used_coordinates = {name: part for name, part in coordinates.items() if name in used}
        return xr.Dataset(values, {**used_coordinates, "height": height}, attributes)

    def _decoded(self, networks: list[str]) -> dict[str, xr.Variable]:
        """Scores, chance, skill; gains where there are fresh weights; blocks where they were asked
        for."""
        mean, sem, degrees = self.scores.mean, self.scores.sem, self.scores.degrees_of_freedom
        above, above_sem = self.above_chance.mean, self.above_chance.sem
        assert mean is not None
        assert above is not None
        rows = torch.tensor([[self.names.index(_name(one, feature)) for feature in self.features] for one in networks])
        at_chance = [self._chance(name) for name in self.features]
        chance = mean[at_chance], sem[at_chance]
        dims, words = ("network", "feature", "level"), "accuracy of kinds, R2 of attributes"
        found = {
            "score": variable(dims, mean[rows], words),
            "score_sem": error_of(dims, sem[rows], words, degrees=degrees, over=GIVEN_FIT),
            "chance": variable(dims[1:], chance[0], "score of the best constant answer"),
            **share_of_room(
                "skill", dims, f"decodability{SCALE}", (above[rows], above_sem[rows]), chance, sem[rows], degrees
            ),
        }
        if self.gains.mean is not None:
            words, gain = "decodability beyond that of fresh weights", (self.gains.mean, self.gains.sem)
            found |= share_of_room("gain", dims[1:], words, gain, chance, self.gains_and_chance.sem, degrees)
        blocks = [
            [number for number, name in enumerate(self.names) if name.startswith(f"{network}{BLOCK}")]
            for network in self.networks
        ]
        if blocks[0]:
            constant = self._chance(BLOCK)
            # pixels have no blocks
            value, error, both = (
                F.pad(part[torch.tensor(blocks)], (0, 0, 0, 0, 0, 1), value=torch.nan)
                for part in (above, above_sem, sem)
            )
            words = f"decodability from the mean token of a block{SCALE}"
            dims, chance = ("network", "layer", "level"), (mean[constant], sem[constant])
            found |= share_of_room("layer_skill", dims, words, (value, error), chance, both, degrees)
        return found

    def _chance(self, name: str) -> int:
        return self.names.index(f"patch {CONSTANT}" if "patch" in name else CONSTANT)

    def _levels(self, mask: MaskStrategy) -> Levels:
        """Where the shared latents lie under a mask; the masks depend on the seed and the mask
        alone."""
        rng = generator("hierarchy-masks", self.seed, mask.model_dump_json())
        size, tree = self.model.config.image_size, self.known_latents.hierarchy.tree
        return expected_levels(tree, size, self.model.grid, mask, self.probe.num_masks, rng)

    def _map(self) -> tuple[list[int], dict[str, xr.Variable]]:
        """Units that the grid can have, and levels by unit and ratio; NaN where the grid cannot
        have a ratio."""
        cells: dict[tuple[int, float], Levels] = {}
        for unit in self.probe.units:
            for ratio in self.probe.ratios:
                mask = Random(ratio=ratio) if unit == 1 else CoarseRandom(ratio=ratio, unit=unit)
                with suppress(InputError):
                    mask.check(self.model.grid)
                    cells[unit, ratio] = self._levels(mask)
        units = [unit for unit in self.probe.units if any(unit == found for found, _ in cells)]
        self.probe.require(bool(units), "units and ratios that its grid can have, got none")
        return units, level_map(cells, units, self.probe.ratios, len(self.levels))


def _name(network: str, feature: str) -> str:
    """Of a network's feature among the representations that are decoded."""
    if network == "pixels":
        return "patch pixels" if feature == "patch" else "pixels"
    return feature if network == TRAINED else f"{FRESH}{feature}"


def share_of_room(
    name: str,
    dims: tuple[str, ...],
    words: str,
    value: tuple[Tensor, Tensor],
    chance: tuple[Tensor, Tensor],
    error_of_sum: Tensor,
    degrees: int,
) -> dict[str, xr.Variable]:
    """A mean over images as a share of how much better than chance one can be, 1 - chance, a mean
    over the same images; each with its standard error, and that of their sum, which tells how far
    they go together."""
    (mean, error), (constant, error_of_chance) = value, chance
    share = mean / _room(constant)
    together = (error_of_sum.square() - error.square() - error_of_chance.square()) / 2
    # delta method: d share = (d mean + share d chance) / room
    variance = error.square() + share.square() * error_of_chance.square() + 2 * share * together
    sem = variance.clamp(min=0).sqrt() / _room(constant)
    return {
        name: variable(dims, share, words),
        f"{name}_sem": error_of(dims, sem, words, degrees=degrees, over=GIVEN_FIT),
    }


def _room(chance: Tensor) -> Tensor:
    """How much better than the best constant answer one can be; NaN where that is always right:
    there is nothing to decode."""
    return torch.where(chance < 1, 1 - chance, torch.nan)


def owners(tree: Tree, height: int, width: int, grid: Grid) -> dict[str, Int[Tensor, " n"]]:
    """For each patch the one latent of a level that it lies in, for the levels whose blocks hold
    whole patches."""
    patch = patch_of_pixels(height, width, grid).flatten()
    found = {}
    for number, name in enumerate(tree.levels):
        block = tree.block(number, height, width).flatten()
        own = torch.zeros(grid[0] * grid[1], dtype=torch.int64).index_put((patch,), block)
        if bool((own[patch] == block).all()):
            found[name] = own
    return found


def pick(vectors: Float[Tensor, "b n d"], positions: Int[Tensor, "b t"]) -> Float[Tensor, "r d"]:
    """The vectors at some places of each image, image after image."""
    return vectors[torch.arange(len(vectors))[:, None], positions].flatten(0, 1)
