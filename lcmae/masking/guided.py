"""Masks that follow the content of the image, read from a frozen checkpoint: AttMask and HPM's hard
patches."""

from typing import ClassVar, Literal

import torch
from einops import repeat
from pydantic import Field
from torch import Tensor

from lcmae.masking.base import MaskStrategy, chance
from lcmae.patches import Grid
from lcmae.shapes import Float


class Guided(MaskStrategy):
    """Hides the patches of highest score first, and fills up by chance. Sub-classes say what the
    score is."""

    needs_images: ClassVar[bool] = True

    checkpoint: str = Field(min_length=1)
    """The frozen model that scores patches: a run folder, one of its steps, or any file that
    `lcmae.load` reads."""

    guided: float = Field(default=1.0, ge=0, le=1)
    """Share of the hidden patches that the scores choose; the others are hidden by chance."""

    def scores(self, images: Float[Tensor, "i c h w"], grid: Grid) -> Float[Tensor, "i n"]:
        """How much to hide each patch of this grid, from pixels in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not score patches")

    def preference(self, num_images: int, grid: Grid, rng: torch.Generator) -> Float[Tensor, "b n"]:
        return chance((num_images, grid[0] * grid[1]), rng)

    def guide(
        self, preference: Float[Tensor, "b n"], images: Float[Tensor, "i c h w"], grid: Grid
    ) -> Float[Tensor, "b n"]:
        scores = self.scores(images, grid).to(preference.device)
        scores = repeat(scores, "i n -> (i k) n", k=len(preference) // len(images))
        return prefer_top(preference, scores, round(self.guided * self.num_hidden(grid)))


class AttentionGuided(Guided):
    """The patches that a class token attends to most are hidden (AttMask, Kakogeorgiou et al.,
    2203.12719).

    In a picture: the object is dark and the background lit (`high`), the reverse (`low`), or the
    object is dark but for a few lit spots (`hint`). The score is the attention of the class token
    in the last encoder block of a frozen checkpoint that sees the whole image, averaged over heads;
    AttMask takes it from a moving teacher and hides 10 to 50 %. With `guided` 1, several masks of
    one image differ in nothing (`hint`: only in the spots).
    """

    kind: Literal["attention"] = "attention"

    mode: Literal["high", "low", "hint"] = "high"
    """Hide the most attended patches, the least attended, or the most attended but for a few
    hints."""

    hint_pool: float = Field(default=0.1, gt=0, lt=1)
    """Mode `hint`: hints are taken from this share of all patches, the most attended ones
    (AttMask's show_max)."""

    hint: float = Field(default=0.5, gt=0, le=1)
    """Mode `hint`: share of that pool that is shown, at least one patch; which ones is left to
    chance."""

    def open(self) -> None:
        from lcmae.masking.scores import check_attention, frozen

        check_attention(frozen(self.checkpoint))

    def scores(self, images: Float[Tensor, "i c h w"], grid: Grid) -> Float[Tensor, "i n"]:
        from lcmae.masking.scores import attention_scores, frozen

        scores = attention_scores(frozen(self.checkpoint), images, grid)
        return -scores if self.mode == "low" else scores

    def guide(
        self, preference: Float[Tensor, "b n"], images: Float[Tensor, "i c h w"], grid: Grid
    ) -> Float[Tensor, "b n"]:
        if self.mode != "hint":
            return super().guide(preference, images, grid)
        num_patches, num_hidden = grid[0] * grid[1], self.num_hidden(grid)
        scores = self.scores(images, grid).to(preference.device)
        scores = repeat(scores, "i n -> (i k) n", k=len(preference) // len(images))

        # chance shows some of the pool: they are the last to be hidden
        pool = max(1, round(self.hint_pool * num_patches))
        num_hints = min(max(1, round(self.hint * pool)), num_patches - num_hidden)
        in_pool = prefer_top(preference, scores, pool)
        hints = in_pool.topk(num_hints, dim=1).indices
        scores = scores.scatter(1, hints, -torch.inf)
        preference = prefer_top(preference, scores, round(self.guided * num_hidden))
        return preference.scatter(1, hints, -1.0)


class LossGuided(Guided):
    """The patches that a frozen checkpoint finds hardest to predict are hidden (hard patches of
    HPM, Wang et al., 2304.05919).

    In a picture: textured and rare parts are dark, flat background is lit, with some of each by
    chance. The score of a patch is the checkpoint's squared error on it, averaged over the masks of
    a fixed partition of the image into `num_parts` random parts of which one is visible at a time;
    HPM predicts that error with a moving teacher and an extra head, and raises `guided` from 0 to
    0.5 over training.
    """

    kind: Literal["loss"] = "loss"

    guided: float = Field(default=0.5, ge=0, le=1)
    """Share of the hidden patches that the scores choose; the others are hidden by chance."""

    num_parts: int = Field(default=4, ge=2, le=16)
    """Parts of the partition: the checkpoint sees 1 / num_parts of the image at a time, and runs as
    many times."""

    def open(self) -> None:
        from lcmae.masking.scores import check_prediction, frozen

        check_prediction(frozen(self.checkpoint), self.num_parts)

    def scores(self, images: Float[Tensor, "i c h w"], grid: Grid) -> Float[Tensor, "i n"]:
        from lcmae.masking.scores import frozen, loss_scores

        return loss_scores(frozen(self.checkpoint), images, grid, self.num_parts)


def prefer_top(preference: Float[Tensor, "b n"], scores: Float[Tensor, "b n"], count: int) -> Float[Tensor, "b n"]:
    """A preference in [0, 1), raised by 1 for the `count` patches of highest score."""
    return preference.scatter_add(1, scores.topk(count, dim=1).indices, preference.new_ones(len(preference), count))
