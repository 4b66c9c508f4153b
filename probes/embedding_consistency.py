"""Does the geometry of tokens match the geometry of the image's patches, within an image and across
images?

Source: the claim of Yue et al., 2310.01994, that masked reconstruction keeps the distribution of
embeddings consistent with the image's. That paper's measure was not at hand: these are standard
ones. Debiased linear CKA (Nguyen et al., 2010.15327), representational similarity (Kriegeskorte et
al., 2008), mutual k-nearest neighbours (Huh et al., 2405.07987); for reconstructions, sliced
Wasserstein distance and the gap of Gram matrices (lcmae's own).

Tokens are those of whole images, after each block (layer 0 is the embedding with its positions),
against raw patches in input space. Points are the patches of one image (`within`: each image is a
set) or one place in many images (`across`: each place is a set, so position explains nothing). CKA
averages HSIC over these sets (minibatch CKA); the others average over sets. Everything is measured
on a capped sample of images and places.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import xarray as xr
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from lcmae.contrast import decompose_step
from lcmae.masking import AnyMask, Random
from lcmae.models import MaskedImageModel, take
from lcmae.patches import patchify
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.measures import similarity, thumbnails
from lcmae.probes.measures.points import Points, table
from lcmae.probes.statistics.jackknife import NUM_GROUPS, standard_error
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.sample import Collected, ImageSample
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.layers import Layers, layers, layers_of, watch_layers
from lcmae.probes.watching.pictures import picture_maps
from lcmae.randomness import generator
from lcmae.shapes import Bool, Float, Int

SCOPES = ("within", "across")
MEASURES = ("cka", "rsa", "neighbours")


class EmbeddingConsistency(Probe):
    """Returns `consistency` of tokens and patches by `scope`, `layer` and `measure` with standard
    errors, beside `chance` (shuffled patches) and `ceiling` (patches with themselves);
    `sliced_wasserstein` and `gram_gap` of reconstructed against true patches (NaN without a
    prediction); and a table of points (`point`) with PCA, and UMAP where asked for."""

    name: ClassVar[str] = "embedding_consistency"
    question: ClassVar[str] = (
        "Does the geometry of tokens match that of the image's patches, within an image and across images?"
    )
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("consistency", "sliced_wasserstein", "gram_gap")
    }

    baseline_images: int = Field(default=64, ge=0)
    """How many of the first images the untrained network sees, too; 0 leaves it out. Neighbours
    across images depend on their number: give `num_sampled` for a comparison of these."""

    mask: AnyMask = Random()
    """Which patches are hidden, for the reconstructed patches."""

    num_sampled: int = Field(default=128, ge=1)
    """Most images that are measured: every pair of them is compared."""

    num_places: int = Field(default=64, ge=1)
    """Most positions of the grid that are measured: every pair of them is compared."""

    num_sets: int = Field(default=16, ge=1)
    """Most positions that serve as sets across images."""

    num_neighbours: int = Field(default=10, ge=1)
    """k: neighbours that are compared; NaN where there are no more than k other points."""

    num_directions: int = Field(default=64, ge=1)
    """Directions of the sliced Wasserstein distance: random, but the same in every result."""

    num_points: int = Field(default=1000, ge=1)
    """Most tokens, and most patches, in the table of points."""

    num_masks: int = Field(default=8, ge=0)
    """Masks per image under which the points' errors and their parts are measured, as in
    local_contrast; 0 leaves them out."""

    umap: bool = False
    """Also embed the points by UMAP (its first use on a machine compiles for about 40 s)."""

    umap_neighbours: int = Field(default=15, ge=2)
    """Neighbours of UMAP."""

    batch_size: int = Field(default=32, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    def for_baselines(self) -> "EmbeddingConsistency":
        """Baselines have no table of points."""
        return self.model_copy(update={"umap": False, "num_masks": 0})

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_EmbeddingConsistency":
        blocks = getattr(model, "blocks", None)
        self.require(
            isinstance(blocks, nn.ModuleList) and len(blocks) > 0, "an encoder with a list of `blocks`, got none"
        )
        points = min(self.num_points, min(self.num_sampled, num_images) * min(self.num_places, model.num_patches))
        self.require(
            not self.umap or points > self.umap_neighbours + 1,
            f"more than {self.umap_neighbours + 1} points for UMAP with {self.umap_neighbours} neighbours, got {points}",
        )
        return _EmbeddingConsistency(self, model, num_images, seed)


IMAGES_AT_ONCE = 16
"""Sets of reconstructed patches whose distances are taken together: a ViT-Base's patches at 224
pixels are large in float64."""


@dataclass
class _EmbeddingConsistency(Accumulator):
    probe: EmbeddingConsistency
    model: MaskedImageModel
    num_images: int
    seed: int

    def __post_init__(self) -> None:
        self.sample = ImageSample(self.probe.num_sampled, self.num_images, self.seed)
        order = torch.randperm(self.model.num_patches, generator=self._rng("places"))
        self.positions = order[: self.probe.num_places].sort().values
        num_sets = min(self.probe.num_sets, len(self.positions))
        self.spread = torch.arange(num_sets) * len(self.positions) // num_sets
        self.shuffle = similarity.shuffles(len(self.sample), len(self.positions), self._rng("within"))
        self.pairs_within: list[Float[Tensor, "r l b 5"]] = []
        self.tokens = Collected(self.sample)  # of all layers, at the places that serve as sets
        self.last_tokens = Collected(self.sample)
        self.patches = Collected(self.sample)
        self.labels = Collected(self.sample)
        self.pooled = Collected(self.sample)
        self.pictures = Collected(self.sample)
        self.patch_pictures = Collected(self.sample)
        self.terms: list[dict[str, tuple[Tensor, Tensor]]] = []
        self.predicted = Collected(self.sample)
        self.hidden_targets = Collected(self.sample)

    def _rng(self, purpose: str) -> torch.Generator:
        return generator("embedding-consistency", purpose, self.seed)

    def watch(self, batch: Batch) -> None:
        if self._is_shared(batch):
            watch_layers(batch)

    def update(self, batch: Batch) -> None:
        rows = self.sample.rows(batch)
        if not len(rows):
            return
        images, positions = batch.images[rows], self.positions.to(batch.images.device)
        is_shared = self._is_shared(batch)
        found = layers_of(batch) if is_shared else layers(self.model, images, decoder=False)
        own = rows if is_shared else slice(None)
        tokens = tokens_by_layer(self.model, found)[own][:, :, positions].cpu()
        patches = patchify(images, self.model.patch_size)[:, positions].cpu()
        # an image is a set of its own, so its tokens of all layers and places need not be kept
        shuffle = self.shuffle[len(self.patches) : len(self.patches) + len(rows)]
        every_point = torch.ones(patches.shape[1], dtype=torch.bool)
        self.pairs_within.append(self._pairs(tokens, patches, shuffle, [every_point])[0])
        self.tokens.add(tokens[:, :, self.spread])
        self.last_tokens.add(tokens[:, -1])
        self.pooled.add(found.feature(self.model.config.feature)[own])
        self.patches.add(patches)
        pixels = self.model.to_pixels(images)
        self.pictures.add(thumbnails.of_images(pixels))
        self.patch_pictures.add(thumbnails.of_patches(pixels, positions, self.model.patch_size))
        none = torch.full((len(rows),), -1)
        self.labels.add(none if batch.labels is None else batch.labels[rows.to(batch.labels.device)])

        if self.model.has_prediction:
            mask = batch.masks(self.probe.mask, 1)[rows.cpu()].to(images.device)
            if is_shared:
                pred = batch.masked(self.probe.mask, 1)[1].pred[rows]
            else:
                with torch.no_grad():
                    pred = self.model(images, mask).pred
            self.predicted.add(take(pred, mask.hidden))
            self.hidden_targets.add(take(self.model.targets(images), mask.hidden))
        if self.model.has_prediction and self.probe.num_masks:
            self.terms.append(self._terms(batch, rows, is_shared=is_shared))

    def _terms(self, batch: Batch, rows: Int[Tensor, " r"], *, is_shared: bool) -> dict[str, tuple[Tensor, Tensor]]:
        """Loss, invariance and local consistency of each patch at the places, and of each image,
        over the masks."""
        count, images = self.probe.num_masks, batch.images[rows]
        of_rows = (rows[:, None] * count + torch.arange(count, device=rows.device)).flatten()
        mask = batch.masks(self.probe.mask, count)[of_rows.cpu()].to(images.device)
        if is_shared:
            pred = batch.masked(self.probe.mask, count)[1].pred[of_rows]
        else:
            with torch.no_grad():
                pred = self.model(images, mask).pred
        hidden = rearrange(mask.is_hidden, "(b k) n -> b k n", k=count)
        pred = rearrange(pred, "(b k) n p -> b k n p", k=count)
        parts = decompose_step(pred.double(), self.model.targets(images).double(), hidden)
        found, positions = {}, self.positions.to(images.device)
        for name, values in picture_maps(parts).items():
            of_patches = torch.where(parts.count > 0, values, torch.nan)[:, positions]
            of_images = (values * parts.count).sum(1) / parts.count.sum(1)
            found[name] = of_patches.cpu(), of_images.cpu()
        return found

    def _is_shared(self, batch: Batch) -> bool:
        """Whether passes over the whole batch are used: where the sample is a small part of it, its
        own cost less."""
        return 2 * len(self.sample.rows(batch)) >= len(batch)

    def result(self) -> xr.Dataset:
        tokens, patches = self.tokens.every(), self.patches.every()
        found = {"within": self._within(), "across": self._across(tokens, patches)}
        dims = ("scope", "layer", "measure")
        result = {}
        for index, (name, long_name) in enumerate(_REFERENCES.items()):
            value, sem = (torch.stack([found[scope][part][index] for scope in SCOPES]) for part in (0, 1))
            result[name] = variable(dims, value, long_name)
            result[f"{name}_sem"] = error_of(dims, sem, long_name, degrees=min(NUM_GROUPS, len(tokens)) - 1)
        result |= self._reconstructed()
        last = Points(
            self.last_tokens.every(),
            patches,
            self.pooled.every(),
            self.pictures.every(),
            self.patch_pictures.every(),
            self.labels.every(),
            self.sample.indices,
            self.positions,
            self.model.grid[1],
            {name: _joined([part[name] for part in self.terms]) for name in (self.terms[0] if self.terms else ())},
            "variance of a patch" if self.model.config.normalize_targets else "squared input units",
        )
        points, attributes = table(last, self.probe.num_points, self._rng("points"), self._umap_neighbours())
        coordinates = {
            "scope": list(SCOPES),
            "layer": ("layer", range(tokens.shape[1]), {"long_name": "encoder block (0: embedding)", "units": "1"}),
            "measure": list(MEASURES),
            "reference": list(_RECONSTRUCTED),
        }
        return xr.Dataset(
            {**result, **points},
            coordinates,
            {
                "num_sampled": len(self.sample),
                "num_places": len(self.positions),
                "num_neighbours": self.probe.num_neighbours,
                "grid": f"{self.model.grid[0]} x {self.model.grid[1]}",
                "cka": "debiased linear CKA, minibatch estimator: sets are images (within) or places (across)",
                **attributes,
            },
        )

    def _umap_neighbours(self) -> int | None:
        return self.probe.umap_neighbours if self.probe.umap else None

    def _within(self) -> tuple[Tensor, Tensor]:
        """[reference layer measure] and its error: every image is a set, so leaving it out leaves
        out a row."""
        pairs = torch.cat(self.pairs_within, dim=2)
        subset = _leave_out(pairs.shape[2])
        found = torch.stack([_over_sets(pairs[:, :, some]) for some in subset])
        return found[0], standard_error(found[0], found[1:], _left_out(subset))

    def _across(self, tokens: Float[Tensor, "b l z d"], patches: Float[Tensor, "b s p"]) -> tuple[Tensor, Tensor]:
        """The same where each of z places is a set of images, which are left out of every set."""
        tokens = rearrange(tokens, "b l z d -> z l b d")
        patches = rearrange(patches[:, self.spread], "b z p -> z b p")
        shuffle = similarity.shuffles(len(patches), patches.shape[1], self._rng("across"))
        subset = _leave_out(patches.shape[1])
        found = torch.stack([_over_sets(pairs) for pairs in self._pairs(tokens, patches, shuffle, subset)])
        return found[0], standard_error(found[0], found[1:], _left_out(subset))

    def _pairs(
        self,
        tokens: Float[Tensor, "g l s d"],
        patches: Float[Tensor, "g s p"],
        shuffle: Int[Tensor, "g s"],
        subset: list[Bool[Tensor, " s"]],
    ) -> Float[Tensor, "k r l g 5"]:
        """`similarity.compare` of tokens with patches, with shuffled patches, and of patches with
        themselves, by layer and by which points are kept."""

        def traits(points: Tensor) -> list[similarity.Traits]:
            geometry = similarity.Geometry.of(points)
            return [similarity.Traits.of(geometry.only(some), self.probe.num_neighbours) for some in subset]

        truth, chance = traits(patches), traits(take(patches, shuffle))
        layers = []
        # layer by layer, so that one layer's distances exist at a time
        for layer in range(tokens.shape[1]):
            own = traits(tokens[:, layer])
            triples = [
                torch.stack([similarity.compare(*pair) for pair in ((mine, true), (mine, other), (true, true))])
                for mine, true, other in zip(own, truth, chance, strict=True)
            ]
            layers.append(torch.stack(triples))
        return torch.stack(layers, dim=2)

    def _reconstructed(self) -> dict[str, xr.Variable]:
        """Distances of reconstructed from true hidden patches: [scope reference], each image a set,
        and all together one."""
        units = "root of the variance of a patch" if self.model.config.normalize_targets else "input units"
        value = torch.full((2, len(SCOPES), len(_RECONSTRUCTED)), torch.nan, dtype=torch.float64)
        sem = value.clone()
        if len(self.predicted):
            pred, target = self.predicted.every(), self.hidden_targets.every()
            # the same whatever the seed: else their draw is an error that all images share
            rng = generator("embedding-consistency", "directions")
            directions = similarity.unit_directions(pred.shape[-1], self.probe.num_directions, rng)
            shuffle = similarity.shuffles(1, len(target) * target.shape[1], self._rng("reconstructed"))
            for index, other in enumerate(_references(pred, target, shuffle)):
                for measure, distances in enumerate((_wasserstein(directions), similarity.gram_gap)):
                    running = RunningMean()
                    for some in torch.arange(len(target)).split(IMAGES_AT_ONCE):
                        running.add(distances(other[some], target[some]))
                    assert running.mean is not None
                    value[measure, 0, index], sem[measure, 0, index] = running.mean, running.sem
                    value[measure, 1, index], sem[measure, 1, index] = _pooled(distances, other, target)
            # all patches together are the same distribution in any order: no reference, and no
            # error
            value[0, 1, _RECONSTRUCTED.index("shuffled")] = sem[0, 1, _RECONSTRUCTED.index("shuffled")] = torch.nan
        dims = ("scope", "reference")
        result = {}
        for measure, (name, (long_name, unit)) in enumerate(_DISTANCES.items()):
            result[name] = variable(dims, value[measure], long_name, unit or units)
            degrees = min(NUM_GROUPS, len(self.predicted)) - 1  # of the scope `across`; `within` has more
            result[f"{name}_sem"] = error_of(dims, sem[measure], long_name, unit or units, degrees=max(degrees, 0))
        return result


_REFERENCES = {
    "consistency": "similarity of the geometry of tokens and patches",
    "chance": "similarity of the geometry of tokens and shuffled patches",
    "ceiling": "similarity of the geometry of the patches with themselves",
}
_RECONSTRUCTED = ("model", "shuffled", "constant", "itself")
"""What is held against the true hidden patches: predictions; true patches of random images and
places (NaN for the distribution across images, which no shuffle changes); the mean patch; they
themselves."""
_DISTANCES = {
    "sliced_wasserstein": ("sliced Wasserstein distance to true patches", ""),
    "gram_gap": ("relative gap to the true patches' Gram matrix", "1"),
}


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    of_patches, of_images = zip(*parts, strict=True)
    return torch.cat(of_patches), torch.cat(of_images)


def _over_sets(pairs: Float[Tensor, "r l g 5"]) -> Float[Tensor, "r l m"]:
    """CKA, RSA and neighbours, over the sets where they are defined."""
    return torch.stack(
        [
            torch.stack([torch.stack([similarity.cka(sets[:, :3]), *sets[:, 3:].nanmean(0)]) for sets in layers])
            for layers in pairs
        ]
    )


def _leave_out(num_images: int) -> list[Bool[Tensor, " b"]]:
    """All images, then all but one group."""
    group = torch.arange(num_images) % NUM_GROUPS
    whole = torch.ones(num_images, dtype=torch.bool)
    return [whole] + ([group != index for index in range(min(NUM_GROUPS, num_images))] if num_images > 1 else [])


def _left_out(subset: list[Bool[Tensor, " b"]]) -> Float[Tensor, " g"]:
    """How many images each group that was left out has."""
    return torch.tensor([float((~some).sum()) for some in subset[1:]], dtype=torch.float64)


def tokens_by_layer(model: MaskedImageModel, found: Layers) -> Float[Tensor, "b l n d"]:
    """Patch tokens of whole images: the embedding with its positions, then after each block; prefix
    tokens left out."""
    return torch.stack([layer[:, model.num_prefix :] for layer in (found.embedding, *found.encoder)], dim=1)


def _references(pred: Tensor, target: Tensor, shuffle: Tensor) -> list[Tensor]:
    shuffled = target.flatten(0, 1)[shuffle[0]].reshape(target.shape)
    constant = target.mean((0, 1)).expand_as(target)
    return [pred, shuffled, constant, target]


def _wasserstein(directions: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda first, second: similarity.sliced_wasserstein(first, second, directions)


def _pooled(distances: Callable[[Tensor, Tensor], Tensor], pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """All images' patches as one set; images are left out group by group for the error."""
    subset = _leave_out(len(pred))
    found = torch.cat([distances(pred[some].flatten(0, 1)[None], target[some].flatten(0, 1)[None]) for some in subset])
    return found[0], standard_error(found[0], found[1:], _left_out(subset))
