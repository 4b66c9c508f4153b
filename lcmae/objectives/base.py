"""Model + images + rng -> Loss. An objective owns its masks and returns its terms by name,
unweighted."""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor

from lcmae import ranks
from lcmae.masking import AnyMask, Mask, Random
from lcmae.models import MaskedImageModel, MaskedOutput
from lcmae.settings import Settings
from lcmae.shapes import Bool, Float


@dataclass(frozen=True)
class Loss:
    """A total to minimise and what it is made of; float32 scalars."""

    total: Float[Tensor, ""]

    terms: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    """Unweighted, by name; they carry gradients, so that a term can be looked at alone."""

    collapse: Float[Tensor, ""] | None = None
    """What the best constant prediction would score on these hidden patches: the level of full
    collapse."""


class Objective(Settings):
    """Settings that you call with (model, images, rng). `images` are in the model's input space, [b
    c h w]."""

    mask: AnyMask = Random()
    """Which patches are hidden."""

    @property
    def masks_per_image(self) -> int:
        """Masks that an image is shown under in one step."""
        return 1

    def __call__(self, model: MaskedImageModel, images: Float[Tensor, "b c h w"], rng: torch.Generator) -> Loss:
        return self.loss(model, images, self.draw(model, images, rng, self.masks_per_image))

    def loss(self, model: MaskedImageModel, images: Float[Tensor, "b c h w"], masks: Mask) -> Loss:
        """The loss under these masks, `masks_per_image` an image: all of an objective in which
        nothing is random."""
        raise TypeError(f"{type(self).__name__} does not compute a loss")

    def draw(
        self, model: MaskedImageModel, images: Float[Tensor, "b c h w"], rng: torch.Generator, num_masks: int = 1
    ) -> Mask:
        """Masks for this process's share of the batch, `num_masks` an image, ordered image by
        image.

        They are drawn for the whole batch and cut by rank, so the masks of an image do not depend
        on how many devices share the work.
        """
        rows = len(images) * num_masks
        mine = slice(ranks.rank() * rows, (ranks.rank() + 1) * rows)
        pixels = model.to_pixels(images) if self.mask.needs_images else None
        masks = self.mask(rows * ranks.world_size(), model.grid, rng, images=pixels, share=mine)
        return masks.to(images.device)


def masked_squared_error(
    pred: Float[Tensor, "b n p"], target: Float[Tensor, "b n p"], is_hidden: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Mean over hidden patches and their values of the squared error (MAE, section 3)."""
    weight = is_hidden.to(pred.dtype)
    return ((pred - target).square().mean(-1) * weight).sum() / weight.sum()


def collapse_level(
    target: Float[Tensor, "b n p"], hidden: Bool[Tensor, "b n"] | Float[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Var(x2) of Theorem 3.6 of "How Mask Matters" (Zhang et al., 2210.08344): the squared error of
    the best constant.

    The variance of hidden patches around their mean patch, per value, over the whole batch.
    `hidden` says which patches are, or how many of an image's masks hide each; its sum must be the
    same on every device.
    """
    weight = hidden.to(target.dtype)[..., None]
    centre = ranks.mean_over_ranks((target * weight).sum((0, 1)) / weight.sum())
    spread = ((target - centre).square() * weight).sum() / (weight.sum() * target.shape[-1])
    return ranks.mean_over_ranks(spread).detach()


def second_moment(vectors: Float[Tensor, "b d"]) -> Float[Tensor, "d d"]:
    """C = mean of z z^T over the batch of all devices, z the vectors scaled to length 1."""
    # autocast would make the product bfloat16, whose three digits are too few for a mean of squared
    # cosines
    with torch.autocast(vectors.device.type, enabled=False):
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        return ranks.mean_over_ranks(unit.T @ unit / len(unit))


def uniformity(vectors: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """U-MAE's regulariser, mean over all pairs (the pair with itself included) of the squared
    cosine similarity.

    By mean_ij (z_i . z_j)^2 = |C|_F^2 it needs no pairs and no gather, and it is 1 / participation
    ratio of C's eigenvalues, so its floor is 1 / min(N, d) for N vectors of width d.
    """
    return second_moment(vectors).square().sum()


def per_mask(out: MaskedOutput, num_images: int) -> Float[Tensor, "b k n p"]:
    """Predictions of one image under its masks, side by side."""
    return rearrange(out.pred, "(b k) n p -> b k n p", b=num_images)
