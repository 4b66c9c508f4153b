"""Where does the decoder look to fill in a hidden patch: at itself, at visible or hidden patches,
and for the image's sake?

Asked for by Yue et al. (2310.01994), who look at MAE's decoder attention to call reconstruction
local. The maps are the model's own (`lcmae.probes.watching.hooks`). Distance as in
`encoder_attention`, in patches. The *positional share* is lcmae's own definition and stands at
`lcmae.probes.measures.attention.PositionalShare`: how much of the maps is the same whenever the
query stands at the same place, over images under fixed masks, and over masks of fixed images.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.masking import AnyMask, Mask, Random
from lcmae.models import MaskedImageModel
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.measures.attention import (
    ATTENTION_DISTANCE,
    ATTENTION_ENTROPY,
    PositionalShare,
    entropy,
    mean_distance,
    part,
    patch_distances,
)
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.two_way import two_way
from lcmae.probes.statistics.variables import crossed_errors, variable, with_sem
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.hooks import attention_problem, watch_attention
from lcmae.probes.watching.pictures import draw
from lcmae.randomness import generator
from lcmae.shapes import Bool, Float, Int

SHARES = tuple(f"positional_share_{over}{of}" for over in ("over_images", "over_masks") for of in ("_pooled", "_rise"))
KEYS = ("self", "visible", "hidden", "class")


class DecoderAttention(Probe):
    """Returns, of queries at hidden patches and by (layer, head), `mass` on self, visible, hidden
    and class token (sums to 1), `distance` and `entropy`, and as `mean_...` over layers and heads,
    each with a standard error and beside what uniform attention scores; the positional shares and
    their rise from first to last layer; and whole maps of a few queries of some images."""

    name: ClassVar[str] = "decoder_attention"
    question: ClassVar[str] = (
        "Where does the decoder look to fill in a hidden patch, and how much of that is position alone?"
    )
    needs_prediction: ClassVar[bool] = True
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("mass", "distance", "entropy", "mean_mass", "mean_distance", "mean_entropy", *SHARES)
    }

    baseline_images: int = Field(default=64, ge=0)
    """How many of the first images the baselines (untrained network, raw pixels) see, too; 0 leaves
    them out."""

    mask: AnyMask = Random()
    """Which patches are hidden."""

    num_masks: int = Field(default=8, ge=1)
    """K: masks that all images have in common, for the positional shares. With one, the share over
    masks is NaN; with fewer than 4, its error is."""

    num_places: int = Field(default=32, ge=2)
    """At how many query positions (drawn at random) the positional shares are taken; memory grows
    with it."""

    num_pictures: int = Field(default=4, ge=0)
    """How many of the first images get whole maps."""

    num_queries: int = Field(default=4, ge=1)
    """How many hidden patches of each such image get whole maps: evenly spaced among the hidden
    ones in raster order."""

    batch_size: int = Field(default=8, ge=1)
    """Images of one forward pass (each with K + 1 masks); does not change the result except for
    rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_DecoderAttention":
        self.require(len(model.decoder_blocks) > 0, "a decoder of blocks, got a model that predicts without one")
        problem = attention_problem(model.decoder_blocks)
        self.require(problem is None, str(problem))
        self.require(not self.mask.needs_images, f"a mask strategy that does not look at images, got {self.mask.kind}")
        return _DecoderAttention(self, model, num_images, seed)


@dataclass
class _Seen:
    """One batch under its own masks: what `_measure` says of each layer, and rows of the queries
    that get whole maps."""

    queries: Int[Tensor, "b q"]
    layers: list[Float[Tensor, "b h 6"]] = field(default_factory=list)
    rows: list[Float[Tensor, "b q h t"]] = field(default_factory=list)
    problem: str = ""


@dataclass
class _DecoderAttention(Accumulator):
    probe: DecoderAttention
    model: MaskedImageModel
    num_images: int
    seed: int
    pictures: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model, probe = self.model, self.probe
        self.table = patch_distances(model.grid).to(model.device)
        self.shared = probe.mask(probe.num_masks, model.grid, generator("shared-masks", self.seed))
        self.pairs = query_pairs(self.shared, probe.num_places, generator("query-places", self.seed))
        self.shares = [PositionalShare(*self.pairs, self.num_images) for _ in model.decoder_blocks]
        self.values, self.overall, self.uniform = RunningMean(), RunningMean(), RunningMean()

    def watch(self, batch: Batch) -> None:
        own = batch.masks(self.probe.mask, 1).to(batch.images.device)
        batch.watch(self.probe.name, lambda: self._seen(batch, own), self.probe.mask)

    def update(self, batch: Batch) -> None:
        # statistics are of each image's own mask
        self.watch(batch)
        mask, out = batch.masked(self.probe.mask, 1)
        attended: _Seen = batch.watched(self.probe.name, self.probe.mask)
        self.probe.require(not attended.problem, attended.problem)
        values = torch.stack(attended.layers, dim=1)
        self.values.add(values)
        self.overall.add(values.mean((1, 2)))
        num_tokens = self.model.num_decoder_prefix + self.model.num_patches
        even = torch.full((len(batch), 1, self.model.num_patches, num_tokens), 1 / num_tokens)
        self.uniform.add(self._measure(even.to(batch.images.device), mask)[:, 0])
        if num := len(attended.queries):
            few = slice(0, num)
            self._keep(batch.images[few], mask[few], out.pred[few], attended.queries, torch.stack(attended.rows, 2))

        # shares are of the masks that all images have in common
        position_of_pair, num_masks = self.pairs[1].to(batch.images.device), self.probe.num_masks
        mask_of_pair = self.pairs[0].to(batch.images.device)

        def share(layer: int, maps: Tensor) -> None:
            maps = rearrange(maps[:, :, self.model.num_decoder_prefix :], "(b k) h q t -> b k h q t", k=num_masks)
            self.shares[layer].add(maps[:, mask_of_pair, :, position_of_pair].transpose(0, 1))

        every = self.shared[torch.arange(num_masks).repeat(len(batch))].to(batch.images.device)
        with torch.no_grad(), watch_attention(self.model.decoder_blocks, share):
            self.model(batch.images, every)

    @contextmanager
    def _seen(self, batch: Batch, mask: Mask) -> Iterator["_Seen"]:
        num_prefix = self.model.num_decoder_prefix
        few = max(min(self.probe.num_pictures - batch.first, len(batch)), 0)
        attended = _Seen(spaced(mask.hidden[:few], self.probe.num_queries))

        def see(layer: int, maps: Tensor) -> None:
            if maps.shape[-1] != num_prefix + self.model.num_patches:
                attended.problem = (
                    f"decoder blocks that see {num_prefix} prefix tokens and every patch, got {maps.shape[-1]} tokens"
                )
                return
            of_patches = maps[:, :, num_prefix:]
            attended.layers.append(self._measure(of_patches, mask))
            image = torch.arange(few, device=maps.device)[:, None]
            attended.rows.append(of_patches[image, :, attended.queries])

        with watch_attention(self.model.decoder_blocks, see):
            yield attended

    def _measure(self, maps: Float[Tensor, "b h n t"], mask: Mask) -> Float[Tensor, "b h 6"]:
        """Masses (KEYS), distance and entropy of rows at hidden patches, means over those of an
        image."""
        to_patches = maps[..., self.model.num_decoder_prefix :]
        parts = [masses(maps, mask.is_hidden), mean_distance(to_patches, self.table[None])[..., None]]
        values = torch.cat([*(part.double() for part in parts), entropy(maps)[..., None]], dim=-1)
        weight = mask.is_hidden[:, None, :, None].double()
        return (values * weight).sum(2) / weight.sum(2)

    def _keep(
        self, images: Tensor, mask: Mask, pred: Tensor, queries: Int[Tensor, "b q"], maps: Float[Tensor, "b q l h t"]
    ) -> None:
        num_prefix = self.model.num_decoder_prefix
        drawn = draw(self.model, images, mask, pred)
        pictured = {"original": drawn["original"], "hidden": drawn["hidden"], "query_patch": queries}
        pictured["attention_map"] = maps[..., num_prefix:].unflatten(-1, self.model.grid)
        pictured["attention_class"] = maps[..., :num_prefix].sum(-1)
        for name, values in pictured.items():
            self.pictures.setdefault(name, []).append(values.cpu())

    def result(self) -> xr.Dataset:
        assert self.uniform.mean is not None
        result = {}
        for name, which, axes, long_name, units in (
            ("mass", slice(0, 4), ("key",), "attention of hidden patches", "1"),
            ("distance", 4, (), "mean attention distance of hidden patches", "patches"),
            ("entropy", 5, (), "entropy of hidden patches' attention", "nats"),
        ):
            result |= with_sem(("layer", "head", *axes), part(self.values, which), name, long_name, units)
            overall = f"{long_name}, mean over layers and heads"
            result |= with_sem(axes, part(self.overall, which), f"mean_{name}", overall, units)
            of_uniform = f"{name} of uniform attention"
            result[f"{name}_uniform"] = variable(axes, self.uniform.mean[which], of_uniform, units)
        result |= self._positional()
        for name, parts in self.pictures.items():
            axes, long_name, units = _PICTURES[name]
            result[name] = variable(axes, torch.cat(parts), long_name, units)
        num_heads = result["distance"].shape[1]
        coordinates = {
            "key": list(KEYS),
            "layer": [layer + 1 for layer in range(len(self.shares))],
            "head": [head + 1 for head in range(num_heads)],
        }
        attributes = {
            "distance_convention": ATTENTION_DISTANCE,
            "entropy_convention": ATTENTION_ENTROPY,
            "definition": "positional share: lcmae's own (lcmae.probes.measures.attention.PositionalShare)",
            "mask_ratio": self.probe.mask.ratio,
            "num_query_places": len(self.pairs[1].unique()),
            "patch_size": self.model.patch_size,
        }
        return xr.Dataset(result, coordinates, attributes)

    def _positional(self) -> dict[str, xr.Variable]:
        """Both shares by layer and head, heads pooled, and their rise; without the bias of few
        masks, with errors over images and over the masks that they share."""
        result, sums = {}, self.shares[0].sums
        for reading, what in (
            ("over_images", "images varied under fixed masks"),
            ("over_masks", "masks varied of fixed images"),
        ):
            # [layer head], the last place of which holds all heads together
            found = two_way(
                lambda groups, masks, reading=reading: torch.stack(
                    [getattr(share, reading)(groups, masks) for share in self.shares]
                ),
                sums.filled_sizes,
                self.probe.num_masks,
                combine=lambda x: torch.cat([x.flatten(-2), x[..., -1:, -1] - x[..., 0, -1:]], dim=-1),
                of_pairs=reading == "over_masks",  # a variance over masks
            )
            name, long_name = f"positional_share_{reading}", f"share of attention that position alone explains, {what}"
            for label, dims, words, pick in (
                ("", ("layer", "head"), "", lambda x: x[:-1].unflatten(0, (len(self.shares), -1))[:, :-1]),
                ("_pooled", ("layer",), ", heads pooled", lambda x: x[:-1].unflatten(0, (len(self.shares), -1))[:, -1]),
                ("_rise", (), ", last layer minus first", lambda x: x[-1]),
            ):
                part, words = found.map(pick), long_name + words
                result[name + label] = variable(dims, part.corrected, words)
                result |= crossed_errors(dims, part, name + label, words, method="jackknife")
        return result


_POSITION = ("row", "column")
_PICTURES = {
    "original": (("picture", "y", "x", "channel"), "image", "pixel value"),
    "hidden": (("picture", *_POSITION), "whether the patch was hidden", "1"),
    "query_patch": (("picture", "query"), "query patch in raster order", "index of a patch"),
    "attention_map": (("picture", "query", "layer", "head", *_POSITION), "attention of the query to each patch", "1"),
    "attention_class": (("picture", "query", "layer", "head"), "attention of the query to the class token", "1"),
}


def masses(maps: Float[Tensor, "b h n t"], is_hidden: Bool[Tensor, "b n"]) -> Float[Tensor, "b h n 4"]:
    """Attention of each patch to itself, to the other visible ones, to the other hidden ones, to
    prefix tokens; sums to 1."""
    num_prefix = maps.shape[-1] - is_hidden.shape[1]
    to_patches = maps[..., num_prefix:]
    own = to_patches.diagonal(dim1=2, dim2=3)
    hidden = to_patches @ is_hidden[:, None, :, None].to(maps.dtype)
    visible = to_patches @ (~is_hidden)[:, None, :, None].to(maps.dtype)
    own_hidden = own * is_hidden[:, None].to(maps.dtype)
    others = [visible[..., 0] - (own - own_hidden), hidden[..., 0] - own_hidden, maps[..., :num_prefix].sum(-1)]
    return torch.stack([own, *others], dim=-1).clamp(min=0)


def query_pairs(masks: Mask, num_places: int, rng: torch.Generator) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
    """(mask, position) for up to `num_places` positions that any mask hides and every mask that
    hides them."""
    hidden_once = masks.is_hidden.any(0).nonzero()[:, 0]
    chosen = hidden_once[torch.randperm(len(hidden_once), generator=rng)[:num_places]].sort().values
    mask, place = masks.is_hidden[:, chosen].nonzero(as_tuple=True)
    return mask, chosen[place]


def spaced(hidden: Int[Tensor, "b m"], num_queries: int) -> Int[Tensor, "b q"]:
    """Hidden patches evenly spaced in raster order; fewer where fewer are hidden."""
    num_hidden = hidden.shape[1]
    count = min(num_queries, num_hidden)
    index = ((torch.arange(count, dtype=torch.float64) + 0.5) * num_hidden / count).long()
    return hidden[:, index.to(hidden.device)]
