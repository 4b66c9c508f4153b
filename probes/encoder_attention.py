"""How far, how widely and how differently do the encoder's heads look, on whole and on masked
images?

Sources: attention distance (Dosovitskiy et al., 2010.11929; class token dropped and rows
renormalised as in Park et al., 2305.00729), normalised mutual information of queries and keys (Park
et al.), entropy and KL between heads (Xie et al., "Dark Secrets of Masked Image Modeling",
2205.13543). Distance is in patches, not pixels.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from lcmae.masking import AnyMask, Mask, Random
from lcmae.models import MaskedImageModel
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.measures.attention import (
    ATTENTION_DISTANCE,
    ATTENTION_ENTROPY,
    TINY,
    entropy,
    head_divergence,
    mean_distance,
    normalised_mutual_information,
    part,
    patch_distances,
)
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import variable, with_sem
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.hooks import attention_problem, watch_attention
from lcmae.shapes import Float

VIEWS = ("full", "masked")
NUM_PICTURES = 8
"""Of the first whole images the maps are stored that go over a photograph."""
MEASURES = {
    "distance": ("mean attention distance", "patches"),
    "entropy": ("entropy of attention rows", "nats"),
    "mutual_information": ("normalised mutual information of queries and keys", "1"),
    "head_divergence": ("KL divergence to the layer's other heads", "nats"),
    "prefix_mass": ("attention of patches to class token and registers", "1"),
}


class EncoderAttention(Probe):
    """Returns `distance`, `entropy`, `mutual_information`, `head_divergence` and `prefix_mass` by
    (view, layer, head), and as `mean_...` over layers and heads, each with a standard error, views
    being whole and masked images; what uniform attention scores in the first two; of
    every image `image_distance`, that mean distance on the whole image; and for the first
    images `attention_map`: what the class token (without one, the mean patch) attends to."""

    name: ClassVar[str] = "encoder_attention"
    question: ClassVar[str] = "How far, how widely and how differently do the encoder's heads look?"
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": (*MEASURES, *(f"mean_{name}" for name in MEASURES))
    }

    baseline_images: int = Field(default=64, ge=0)
    """How many of the first images the baselines (untrained network, raw pixels) see, too; 0 leaves
    them out."""

    mask: AnyMask = Random()
    """Which patches are hidden in the masked view."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_EncoderAttention":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        problem = attention_problem(model.blocks)
        self.require(problem is None, str(problem))
        self.require(not self.mask.needs_images, f"a mask strategy that does not look at images, got {self.mask.kind}")
        return _EncoderAttention(self, model, num_images)


@dataclass
class _Seen:
    """One view of a batch: every measure by layer, [b h 5] each, or what is wrong with its
    blocks."""

    distance: Float[Tensor, "b t t"]
    layers: list[Float[Tensor, "b h 5"]] = field(default_factory=list)
    maps: list[Float[Tensor, "p h n"]] = field(default_factory=list)
    """Of the images that are pictured, each layer's attention to patches."""

    problem: str = ""


def measures(maps: Float[Tensor, "b h q k"], distance: Float[Tensor, "b t t"]) -> Float[Tensor, "b h 5"]:
    """`MEASURES` of one layer's maps, means over the queries of patches; `distance` between the
    patches at hand."""
    num_prefix = maps.shape[-1] - distance.shape[-1]
    rows = maps[:, :, num_prefix:]
    to_patches = rows[..., num_prefix:]
    share = to_patches.sum(-1, keepdim=True)
    values = [
        mean_distance(to_patches, distance).mean(2),
        entropy(rows).mean(2),
        normalised_mutual_information(to_patches / share.clamp(min=TINY)),
        head_divergence(rows),
        1 - share.mean((2, 3)),
    ]
    return torch.stack([value.double() for value in values], dim=-1)


def pictured(maps: Float[Tensor, "p h q k"], num_prefix: int) -> Float[Tensor, "p h n"]:
    """What the class token attends to among the patches; without one, what patches attend to on
    average."""
    rows = maps[:, :, 0] if num_prefix else maps.mean(2)
    return rows[..., num_prefix:].float()


@dataclass
class _EncoderAttention(Accumulator):
    probe: EncoderAttention
    model: MaskedImageModel
    num_images: int
    num_seen: int = 0

    def __post_init__(self) -> None:
        self.table = patch_distances(self.model.grid).to(self.model.device)
        self.values, self.overall, self.uniform = RunningMean(), RunningMean(), RunningMean()
        self.by_image = torch.zeros(self.num_images)
        self.pictures: list[Tensor] = []
        self.maps: list[Float[Tensor, "p l h n"]] = []

    def watch(self, batch: Batch) -> None:
        none = Mask.none(len(batch), self.model.num_patches, batch.images.device)
        masked = batch.masks(self.probe.mask, 1).to(batch.images.device)
        few = max(min(NUM_PICTURES - batch.first, len(batch)), 0)
        batch.watch(self.probe.name, lambda: self._seen(none, few))
        batch.watch(self.probe.name, lambda: self._seen(masked), self.probe.mask)

    def update(self, batch: Batch) -> None:
        self.watch(batch)
        all_attended: list[_Seen] = [batch.watched(self.probe.name), batch.watched(self.probe.name, self.probe.mask)]
        for attended in all_attended:
            self.probe.require(not attended.problem, attended.problem)
        values = torch.stack([torch.stack(attended.layers, dim=1) for attended in all_attended], dim=1)
        if maps := [one for one in all_attended[0].maps if len(one)]:
            self.pictures.append(self.model.to_picture(batch.images[: len(maps[0])]).cpu())
            self.maps.append(torch.stack(maps, dim=1).cpu())
        self.values.add(values)
        overall = values.mean((2, 3))
        self.overall.add(overall)
        self.num_seen = batch.first + len(batch)
        self.by_image[batch.first : self.num_seen] = overall[:, 0, 0].float().cpu()  # whole images, distance
        self.uniform.add(torch.stack([self._of_uniform(attended.distance) for attended in all_attended], dim=1))

    def _of_uniform(self, distance: Float[Tensor, "b t t"]) -> Float[Tensor, "b 2"]:
        """Distance and entropy of uniform attention."""
        tokens = torch.full_like(distance[:, 0, 0], math.log(self.model.num_prefix + distance.shape[1]))
        return torch.stack([distance.mean((1, 2)), tokens], dim=1)

    @contextmanager
    def _seen(self, mask: Mask, few: int = 0) -> Iterator["_Seen"]:
        """Measures of each layer while inside, and maps of the first `few` images; the patches that
        have tokens are known before, because hooks fire during it."""
        num_prefix = self.model.num_prefix
        visible = mask.visible
        if self.model.encodes_hidden:
            visible = Mask.none(len(mask), mask.num_patches, mask.visible.device).visible
        attended = _Seen(self.table[visible[:, :, None], visible[:, None, :]])

        def see(layer: int, maps: Tensor) -> None:
            if maps.shape[-1] == num_prefix + visible.shape[1]:
                attended.layers.append(measures(maps, attended.distance))
                attended.maps.append(pictured(maps[:few], num_prefix))
            else:
                expected = f"{num_prefix} prefix tokens and {visible.shape[1]} patches"
                attended.problem = f"blocks that see {expected}, got {maps.shape[-1]} tokens"

        with watch_attention(self.model.blocks, see):
            yield attended

    def result(self) -> xr.Dataset:
        assert self.uniform.mean is not None
        result = {}
        for index, (name, (long_name, units)) in enumerate(MEASURES.items()):
            result |= with_sem(("view", "layer", "head"), part(self.values, index), name, long_name, units)
            overall = f"{long_name}, mean over layers and heads"
            result |= with_sem("view", part(self.overall, index), f"mean_{name}", overall, units)
        for index, (name, units) in enumerate((("distance", "patches"), ("entropy", "nats"))):
            long_name = f"{name} of uniform attention"
            result[f"{name}_uniform"] = variable("view", self.uniform.mean[:, index], long_name, units)
        words = "mean attention distance on the whole image, mean over layers and heads"
        result["image_distance"] = variable("image", self.by_image[: self.num_seen], words, "patches")
        if self.maps:
            maps = torch.cat(self.maps).unflatten(-1, self.model.grid)
            query = "class token" if self.model.num_prefix else "mean patch"
            names = ("picture", "layer", "head", "row", "column")
            result["attention_map"] = variable(names, maps, f"attention of the {query} to each patch, whole image", "1")
            result["original"] = variable(
                ("picture", "y", "x", "channel"), torch.cat(self.pictures), "image", "pixel value"
            )
        coordinates = {
            "view": list(VIEWS),
            "layer": [layer + 1 for layer in range(len(self.model.blocks))],
            "head": [head + 1 for head in range(result["distance"].shape[-1])],
        }
        conventions = {"distance_convention": ATTENTION_DISTANCE, "entropy_convention": ATTENTION_ENTROPY}
        return xr.Dataset(result, coordinates, {"mask_ratio": self.probe.mask.ratio, **conventions})
