"""Predict raw pixels of hidden patches from an encoder that sees mask tokens. SimMIM of Xie et al.,
CVPR 2022 (arXiv 2111.09886).

The paper's mask unit of 32 pixels and ratio 0.6 belong to 224-pixel images; the mask is a setting
here.
"""

from typing import Literal

from torch import Tensor

from lcmae import ranks
from lcmae.masking import AnyMask, Mask, Random
from lcmae.models import MaskedImageModel, take
from lcmae.objectives.base import Loss, Objective
from lcmae.shapes import Bool, Float


class SimMIM(Objective):
    """Mean absolute error over hidden pixels and channels, divided once (a published port divides
    twice)."""

    kind: Literal["simmim"] = "simmim"

    mask: AnyMask = Random(ratio=0.6)
    """Which patches are hidden."""

    def loss(self, model: MaskedImageModel, images: Float[Tensor, "b c h w"], masks: Mask) -> Loss:
        target = model.targets(images)

        out = model(images, masks, only_hidden=True)
        reconstruction = masked_absolute_error(out.pred, target, masks.is_hidden)

        return Loss(
            reconstruction, {"reconstruction": reconstruction}, absolute_collapse_level(take(target, masks.hidden))
        )


def masked_absolute_error(
    pred: Float[Tensor, "b n p"], target: Float[Tensor, "b n p"], is_hidden: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """|x - x_hat|_1 over the hidden patches, divided by the number of hidden values (SimMIM,
    equation 1)."""
    weight = is_hidden.to(pred.dtype)
    return ((pred - target).abs().mean(-1) * weight).sum() / weight.sum()


def absolute_collapse_level(hidden: Float[Tensor, "b m p"]) -> Float[Tensor, ""]:
    """The absolute error of the best constant patch: the median of each value over the hidden
    patches' targets.

    On several devices: the mean over devices of each one's own level.
    """
    median = hidden.flatten(0, 1).median(0).values
    return ranks.mean_over_ranks((hidden - median).abs().mean()).detach()
