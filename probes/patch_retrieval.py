"""Which patches of other images does a token match, and into which clusters do tokens fall?

Two pictures that dense features are looked at by, nearest patches over a data set and k-means of
patch tokens over many images, layer by layer; the definitions are lcmae's own. Beside them stand
numbers. `purity`: the share of the nearest patches of *other* images, by cosine, that are of the
same class of pixels (with segmentation masks or known parts), of an image of the same class, or at
the same position. `information`: mutual information of clusters and those same groups, adjusted
for chance (`lcmae.probes.measures.clusters`): 0 where clusters tell nothing of them.

Patches of which no pixel has a class are a class of their own. What looks like matching may be
position: tokens are also compared with the mean token of each position subtracted
(`removal`). Baselines: a network with fresh weights, and patches of pixels.
Errors are over images: of purity those of a mean over the images that ask, of information by
jackknife given the clusters. A sample of the images is held in half precision, at most
`MOST_BYTES` of tokens.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
import xarray as xr
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.models import MaskedImageModel
from lcmae.patches import patchify
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.measures import thumbnails
from lcmae.probes.measures.clusters import adjusted_information, contingency, kmeans
from lcmae.probes.measures.segmentation import class_votes, majority
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.jackknife import NUM_GROUPS, groups_of, standard_error
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.sample import ImageSample
from lcmae.probes.statistics.variables import by_groups, error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.layers import layers, layers_of, watch_layers
from lcmae.randomness import generator
from lcmae.shapes import Float, Int

UNTRAINED, PIXELS = "untrained", "pixels"
REMOVALS = ("nothing", "position mean")
TARGETS = ("pixel class", "image class", "position")
"""What the nearest patches, and clusters, may have in common."""

MOST_BYTES = 384 * 2**20
"""Of tokens in half precision."""

IGNORED = 255
PICTURE_SIDE = 96
WINDOW = 3
"""A thumbnail shows a patch with its neighbours: so many patches a side."""

Source = tuple[str, int]
"""A network and a layer, counted from 0; pixels have the layer -1."""


class PatchRetrieval(Probe):
    """Returns `purity` and `information` by (network, removal, layer, target) with standard errors,
    `last_purity` of the last layer's tokens by (network, target), `chance` by target; `cluster` by
    (picture, removal, layer, row, column) of the trained network and `pixel_cluster`;
    `match_thumbnail` by (query, view, match) with `match_image` and `match_position`."""

    name: ClassVar[str] = "patch_retrieval"
    question: ClassVar[str] = (
        "Which patches of other images does a token match, and into which clusters do tokens fall?"
    )
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        UNTRAINED: ("purity", "last_purity", "information"),
        PIXELS: ("purity", "last_purity", "information"),
    }

    num_sampled: int = Field(default=64, ge=2)
    """Most images whose tokens are held."""

    clusters: int = Field(default=8, ge=2)
    """k of k-means."""

    neighbours: int = Field(default=5, ge=1)
    """Nearest patches of other images."""

    queries: int = Field(default=4, ge=1)
    """Patches of each image whose neighbours are looked for."""

    shown: int = Field(default=5, ge=0)
    """Queries whose nearest patches are stored as pictures, of as many images."""

    num_pictures: int = Field(default=4, ge=0)
    """Images whose clusters are stored."""

    untrained: bool = True
    """Whether a network with fresh weights is measured, too."""

    batch_size: int = Field(default=32, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Retrieval":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        self.require(model.num_patches >= 2, f"at least 2 patches, got {model.num_patches}")
        self.require(num_images >= 2, f"at least 2 images, got {num_images}")
        return _Retrieval(self, model, num_images, seed)


@dataclass
class _Found:
    """What one layer's tokens say, under one removal."""

    purity: RunningMean
    information: Float[Tensor, " target"]
    information_error: Float[Tensor, " target"]
    clusters: Int[Tensor, "s n"]
    matches: Int[Tensor, "s q k"]
    """Patches of the whole sample, counted image by image."""


@dataclass
class _Retrieval(Accumulator):
    probe: PatchRetrieval
    model: MaskedImageModel
    num_images: int
    seed: int
    tokens: dict[Source, list[Tensor]] = field(default_factory=dict)
    labels: list[Tensor] = field(default_factory=list)
    classes: list[Tensor] = field(default_factory=list)
    small: list[Tensor] = field(default_factory=list)
    pixels: list[Tensor] = field(default_factory=list)
    sample: ImageSample | None = None

    def __post_init__(self) -> None:
        fresh = untrained(self.model, self.seed) if self.probe.untrained else None
        self.networks = {TRAINED: self.model} | ({} if fresh is None else {UNTRAINED: fresh})
        self.num_layers, self.found = len(self.model.blocks), dict[tuple[Source, str], _Found]()

    # --- collecting ---

    def watch(self, batch: Batch) -> None:
        watch_layers(batch)

    def update(self, batch: Batch) -> None:
        own = layers_of(batch).encoder
        if self.sample is None:
            values = self.model.num_patches * own[-1].shape[-1] * self.num_layers * len(self.networks)
            most = max(2, min(self.probe.num_sampled, MOST_BYTES // (2 * values)))
            self.sample = ImageSample(most, self.num_images, self.seed)
        rows = self.sample.rows(batch)
        if not len(rows):
            return
        images = batch.images[rows]
        for name, network in self.networks.items():
            seen = [one[rows] for one in own] if name == TRAINED else layers(network, images, decoder=False).encoder
            for layer, tokens in enumerate(seen):
                self._add((name, layer), tokens[:, self.model.num_prefix :])
        self._add((PIXELS, -1), patchify(images, self.model.patch_size))
        if batch.labels is not None:
            self.labels.append(batch.labels.cpu()[rows.cpu()])
        if batch.class_maps is not None:
            self.classes.append(self._classes(batch, rows.cpu()))
        pixels = self.model.to_pixels(images).clamp(0, 1).cpu()
        self.small.append(thumbnails.of_images(pixels, PICTURE_SIDE))
        self.pixels.append((pixels * 255).round().to(torch.uint8))

    def _add(self, source: Source, tokens: Float[Tensor, "b n d"]) -> None:
        # only directions count, and half precision ends at 65504
        length = tokens.float().square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12)
        self.tokens.setdefault(source, []).append((tokens / length).clamp(-6e4, 6e4).half().cpu())

    def _classes(self, batch: Batch, rows: Int[Tensor, " r"]) -> Int[Tensor, "r n"]:
        assert batch.class_maps is not None
        maps = batch.class_maps(slice(batch.first, batch.first + len(batch)))[rows]
        maps = maps.where(maps != IGNORED, -1)
        # numbers may be anything: those that occur in these images are counted
        numbers, counted = maps.unique(return_inverse=True)
        ignored = int((numbers < 0).sum())
        named = majority(class_votes(counted - ignored, self.model.grid, max(1, len(numbers) - ignored)))
        return torch.where(named >= 0, numbers[(named + ignored).clamp(max=len(numbers) - 1)], -1)

    # --- concluding ---

    @property
    def num_steps(self) -> int:
        return len(self.networks) * self.num_layers + 1

    def conclude(self) -> Iterator[None]:
        self._prepare()
        for source in list(self.tokens):
            tokens = torch.cat(self.tokens.pop(source)).float()
            self.found[source, REMOVALS[0]] = self._measured(tokens)
            self.found[source, REMOVALS[1]] = self._measured(tokens - tokens.mean(0))
            yield

    def _prepare(self) -> None:
        """What is the same for all tokens: groups of patches [s n], queries, and chance."""
        count, size = sum(map(len, self.small)), self.model.num_patches
        unknown = torch.full((count, size), -1)
        labels = torch.cat(self.labels)[:, None].expand(-1, size) if self.labels else unknown
        classes = torch.cat(self.classes) if self.classes else unknown
        groups = [classes, labels, torch.arange(size).expand(count, -1)]
        self.groups = torch.stack([one.unique(return_inverse=True)[1] for one in groups])
        self.is_known = torch.tensor([bool(self.classes), bool(self.labels), True])
        rngs = [generator("retrieval-queries", self.seed, image) for image in range(count)]
        self.queries = torch.stack([torch.randperm(size, generator=rng)[: self.probe.queries] for rng in rngs])
        self.chance = torch.stack([self._chance(one) for one in self.groups])

    def _chance(self, groups: Int[Tensor, "s n"]) -> Float[Tensor, ""]:
        """The share of all patches of other images that are in the group of one that asks."""
        of_image = F.one_hot(groups).sum(1).double()
        others = of_image.sum(0) - of_image
        share = others / others.sum(1, keepdim=True)
        return share.gather(1, groups.gather(1, self.queries)).mean()

    def _measured(self, tokens: Float[Tensor, "s n d"]) -> _Found:
        matches = self._matches(F.normalize(tokens, dim=-1))
        asked = self.groups.gather(2, self.queries.expand(len(TARGETS), -1, -1))
        same = self.groups.flatten(1)[:, matches] == asked[..., None]
        purity = RunningMean()
        purity.add(rearrange(same.double(), "target s q k -> s target (q k)").mean(-1))
        rng = generator("retrieval-clusters", self.seed)
        clusters = kmeans(tokens.flatten(0, 1), self.probe.clusters, rng).unflatten(0, tokens.shape[:2])
        information, error = zip(*(self._information(clusters, one) for one in self.groups), strict=True)
        return _Found(purity, torch.stack(information), torch.stack(error), clusters, matches)

    def _matches(self, unit: Float[Tensor, "s n d"]) -> Int[Tensor, "s q k"]:
        """The nearest patches of other images, by cosine."""
        count, size = unit.shape[:2]
        bank, found = unit.flatten(0, 1), []
        for image in range(count):
            cosine = unit[image, self.queries[image]] @ bank.T
            cosine[:, image * size : (image + 1) * size] = -torch.inf
            found.append(cosine.topk(min(self.probe.neighbours, (count - 1) * size), dim=1).indices)
        return torch.stack(found)

    def _information(self, clusters: Int[Tensor, "s n"], groups: Int[Tensor, "s n"]) -> tuple[Tensor, Tensor]:
        counts = contingency(clusters, groups, self.probe.clusters, int(groups.max()) + 1)
        whole, group = adjusted_information(counts.sum(0)), groups_of(range(len(counts)), len(counts))
        without = torch.stack([adjusted_information(counts[group != one].sum(0)) for one in group.unique()])
        return whole, standard_error(whole, without, group.bincount().double())

    def result(self) -> xr.Dataset:
        if not self.found:
            for _ in self.conclude():
                pass
        networks, count = [*self.networks, PIXELS], len(self.groups[0])
        shape = len(networks), len(REMOVALS), self.num_layers, len(TARGETS)
        purity, purity_error, information, information_error = (
            torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(4)
        )
        for ((network, layer), removal), found in self.found.items():
            at = networks.index(network), REMOVALS.index(removal), slice(None) if layer < 0 else layer
            assert found.purity.mean is not None
            purity[at], purity_error[at] = found.purity.mean, found.purity.sem
            information[at], information_error[at] = found.information, found.information_error
        known = torch.where(self.is_known, 1.0, torch.nan)
        dims = ("network", "removal", "layer", "target")
        share = "share of the nearest patches of other images that have it in common"
        described = "mutual information of clusters and groups, adjusted for chance"
        missing = {} if bool(self.is_known.all()) else {"missing": "needs segmentation masks, or classes of images"}
        result: dict[str, xr.Variable] = {
            "purity": variable(dims, purity * known, share, **missing),
            "purity_sem": error_of(dims, purity_error * known, share, degrees=count - 1),
            **self._last(networks, known, share),
            "information": variable(dims, information * known, described, **missing),
            "information_sem": error_of(
                dims, information_error * known, described, degrees=min(count, NUM_GROUPS) - 1, method="jackknife"
            ),
            "chance": variable(
                "target",
                self.chance * known,
                "share of patches of other images at random that have it in common",
                **missing,
            ),
            **self._cluster_maps(),
            **self._thumbnails(),
        }
        coordinates = {
            "network": networks,
            "removal": list(REMOVALS),
            "layer": variable("layer", list(range(1, self.num_layers + 1)), "encoder block"),
            "target": list(TARGETS),
            "view": list(self._views()),
        }
        used = {dim for part in result.values() for dim in part.dims}
        attributes = {
            "num_sampled": count,
            "clusters": self.probe.clusters,
            "neighbours": self.probe.neighbours,
            "definition": "lcmae's own; k-means and neighbours of tokens of length 1, unmasked images",
        }
        return xr.Dataset(result, {name: one for name, one in coordinates.items() if name in used}, attributes)

    def _last(self, networks: list[str], known: Float[Tensor, " target"], words: str) -> dict[str, xr.Variable]:
        """Purity of the last layer's tokens as they are, and its means over groups of images, of
        which two models make a paired difference."""
        last = self.num_layers - 1
        rows = [self.found[(one, -1 if one == PIXELS else last), REMOVALS[0]].purity for one in networks]
        mean, error, groups = (torch.stack([part for part in some if part is not None], dim=-2) * known for some in (
            [one.mean for one in rows], [one.sem for one in rows], [one.group_means for one in rows],
        ))  # fmt: skip
        dims, words = ("network", "target"), f"{words}, last layer"
        return {
            "last_purity": variable(dims, mean, words),
            "last_purity_sem": error_of(dims, error, words, degrees=rows[0].degrees_of_freedom),
            **by_groups(dims, groups, rows[0].count, "last_purity", words),
        }

    def _cluster_maps(self) -> dict[str, xr.Variable]:
        few, grid = self.probe.num_pictures, self.model.grid
        if not few:
            return {}

        def drawn(source: Source, removal: str) -> Tensor:
            return self.found[source, removal].clusters[:few].unflatten(1, grid).to(torch.uint8)

        of_layers = [
            torch.stack([drawn((TRAINED, one), removal) for one in range(self.num_layers)]) for removal in REMOVALS
        ]
        words = "cluster of the patch's token, by falling size"
        return {
            "original": variable(("picture", "y", "x", "channel"), torch.cat(self.small)[:few], "image", "pixel value"),
            "cluster": variable(
                ("picture", "removal", "layer", "row", "column"),
                rearrange(torch.stack(of_layers), "removal layer s r c -> s removal layer r c"),
                words,
            ),
            "pixel_cluster": variable(
                ("picture", "row", "column"), drawn((PIXELS, -1), REMOVALS[0]), "cluster of the patch's pixels"
            ),
        }

    def _views(self) -> dict[str, tuple[Source, str]]:
        """What the nearest patches are shown by."""
        last = self.num_layers - 1
        found = {f"layer {one + 1}": ((TRAINED, one), REMOVALS[0]) for one in sorted({0, last // 2, last})}
        return {
            **dict(reversed(found.items())),
            f"layer {last + 1}, position mean removed": ((TRAINED, last), REMOVALS[1]),
            "raw patches": ((PIXELS, -1), REMOVALS[0]),
        }

    def _thumbnails(self) -> dict[str, xr.Variable]:
        """Of some images the query with the most contrast, and its nearest patches."""
        pixels, size = torch.cat(self.pixels), self.model.num_patches
        few = min(self.probe.shown, len(pixels))
        if not few:
            return {}
        contrast = patchify(pixels[:few].float(), self.model.patch_size).std(-1).gather(1, self.queries[:few])
        chosen = contrast.argmax(1)
        rows = torch.arange(few)
        matches = torch.stack([self.found[one].matches[rows, chosen] for one in self._views().values()], dim=1)
        queries = rows * size + self.queries[rows, chosen]
        side = self.model.patch_size

        def windows(patches: Tensor) -> Tensor:
            return thumbnails.of_windows(pixels, patches // size, patches % size, self.model.grid, side, WINDOW)

        indices = self.sample.indices if self.sample is not None else rows
        axes, picture = ("query", "view", "match"), ("thumb_y", "thumb_x", "channel")
        words = "patch with its neighbours"
        return {
            "query_thumbnail": variable(("query", *picture), windows(queries), words, "pixel value"),
            "match_thumbnail": variable((*axes, *picture), windows(matches), f"matched {words}", "pixel value"),
            "query_image": variable("query", indices[queries // size], "index of the image"),
            "query_position": variable("query", queries % size, "raster index of the patch"),
            "match_image": variable(axes, indices[matches // size], "index of the image"),
            "match_position": variable(axes, matches % size, "raster index of the patch"),
        }
