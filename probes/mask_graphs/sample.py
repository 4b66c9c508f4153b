"""A capped sample of images under fixed masks: what the estimators of the mask-induced augmentation
graph look at.

The graph falls apart by mask, because visible patches tell by their places which mask it was. So
all images get the same mask, and numbers are means over a few masks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import repeat
from torch import Tensor

from lcmae.masking import Mask, MaskStrategy
from lcmae.models import MaskedImageModel
from lcmae.patches import Grid, patchify
from lcmae.probes.mask_graphs.kernel import (
    nearest_distance,
    nearest_distances,
    principal_components,
    squared_distances,
)
from lcmae.probes.statistics.sample import ImageSample
from lcmae.probes.watching.batch import Batch
from lcmae.randomness import generator
from lcmae.shapes import Bool, Float

MOST_PATCHES = 4096
"""Patches of one pass, hidden ones counted: bounds memory for large images."""


@dataclass(frozen=True)
class Content:
    """Squared distances between the visible parts of all pairs of images, and between their hidden
    parts."""

    visible: Float[np.ndarray, "n n"]
    hidden: Float[np.ndarray, "n n"]


class GraphSample:
    """Patches of the sampled images, and the model's pooled vectors of visible and of hidden parts
    under each mask.

    Memory: at most `size` images, and `size` x masks x 2 x width numbers. Images wait until they
    make a pass of `most_images` or `MOST_PATCHES`: there are two passes a mask, and those of few
    images cost several times as much an image.
    """

    def __init__(
        self, masks: Bool[Tensor, "k n"], size: int, num_images: int, seed: int, most_images: int = 64
    ) -> None:
        self.most_images = most_images
        self._waiting: list[Tensor] = []
        self.chosen = ImageSample(size, num_images, seed)
        self.masks = masks
        self._patches: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._parts: list[Tensor] = []
        self._whole: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.chosen)

    def add(self, batch: Batch, *, parts: bool, whole: bool) -> None:
        """Take in what the batch has of the sample; on request with the model's vectors of the
        parts, and of whole images."""
        rows = self.chosen.rows(batch)
        if not len(rows):
            return
        images = batch.images[rows]
        self._patches.append(patchify(images, batch.model.patch_size).cpu())
        if batch.labels is not None:
            self._labels.append(batch.labels[rows.to(batch.labels.device)].cpu())
        if parts:
            self._waiting.append(images)
            self._see(batch.model)
        if whole:
            self._whole.append(batch.unmasked().pooled[rows].cpu())

    def _see(self, model: MaskedImageModel) -> None:
        """The parts of the images that wait, once they make a pass or are the last."""
        waiting = sum(map(len, self._waiting))
        is_last = waiting + sum(map(len, self._parts)) == len(self)
        if waiting and (is_last or waiting >= min(self.most_images, max(1, MOST_PATCHES // model.num_patches))):
            self._parts.append(parts_of(model, torch.cat(self._waiting), self.masks).cpu())
            self._waiting.clear()

    @property
    def patches(self) -> Float[np.ndarray, "n l p"]:
        """Patches of each image, in input space."""
        return torch.cat(self._patches).double().numpy()

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each image, counted from 0 among those that occur; None where labels are not
        known."""
        if not self._labels:
            return None
        return np.unique(torch.cat(self._labels).numpy(), return_inverse=True)[1]

    def features(self, mask: int) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
        """Pooled vectors of what mask number `mask` shows, and of what it hides."""
        visible, hidden = torch.cat([part[:, mask] for part in self._parts]).double().unbind(1)
        return visible.numpy(), hidden.numpy()

    @property
    def whole(self) -> Float[np.ndarray, "n d"]:
        """Pooled vectors of whole images."""
        return torch.cat(self._whole).double().numpy()


class Distances:
    """Distances between parts of images in one space: pixels, principal components of the pixels,
    or frozen features.

    `unit` is the median of `nearest`, the distance of each whole image to the nearest other one.
    `InputError` where images are equal.
    """

    def __init__(self, sample: GraphSample, space: str, num_components: int) -> None:
        self.sample, self.space, self.num_components = sample, space, num_components
        self._patches = sample.patches
        points = sample.whole if space == "features" else self._in_space(self._patches)
        self._whole = squared_distances(points)
        self.unit = nearest_distance(self._whole, space)
        self.nearest = nearest_distances(self._whole)

    def under(self, mask: int) -> Content:
        """Under mask number `mask` of the sample."""
        hidden = self.sample.masks[mask].numpy()
        if self.space == "features":
            return Content(*(squared_distances(points) for points in self.sample.features(mask)))
        of_hidden = squared_distances(self._in_space(self._patches[:, hidden]))
        if self.space == "pixels":
            # squares of parts add to those of the whole
            return Content(np.maximum(self._whole - of_hidden, 0.0), of_hidden)
        return Content(squared_distances(self._in_space(self._patches[:, ~hidden])), of_hidden)

    def _in_space(self, patches: Float[np.ndarray, "n l p"]) -> Float[np.ndarray, "n d"]:
        points = patches.reshape(len(patches), -1)
        return principal_components(points, self.num_components) if self.space == "pca" else points


def fixed_masks(strategy: MaskStrategy, grid: Grid, num_masks: int, seed: int) -> Bool[Tensor, "k n"]:
    """Masks that all images share: a function of (seed, strategy).

    The draw is the same for every ratio, so where a strategy ranks patches whatever the ratio
    (random masks, of any unit), the masks of a small ratio lie within those of a larger one, and
    curves do not jump from one set of places to another.
    """
    draw = generator("graph-mask", seed, strategy.model_dump_json(exclude={"ratio"}))
    return strategy(num_masks, grid, draw).is_hidden


@torch.no_grad()
def parts_of(
    model: MaskedImageModel, images: Float[Tensor, "b c h w"], is_hidden: Bool[Tensor, "k n"]
) -> Float[Tensor, "b k 2 d"]:
    """Pooled vectors of what each mask shows, and of what it hides (the encoder then sees that
    instead)."""
    found = []
    # masks may hide different numbers of patches, so they go one by one
    for hidden in is_hidden.to(images.device):
        mask = Mask.from_hidden(repeat(hidden, "n -> b n", b=len(images)))
        found.append(torch.stack([_pooled(model, images, part) for part in (mask, mask.complement())], dim=1))
    return torch.stack(found, dim=1)


def _pooled(model: MaskedImageModel, images: Float[Tensor, "b c h w"], mask: Mask) -> Float[Tensor, "b d"]:
    """What the model's own pass gives, without its decoder."""
    low_precision = model.precision == "bfloat16"
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=low_precision):
        prefix, tokens, _ = model.encode(images, mask)
    return model.summarize(prefix.float(), tokens.float(), mask.visible)
