"""Which pixels are hidden here? Masked autoencoding of He et al., 2021 (arXiv 2111.06377).

Targets are pixels, or patches normalised each: a setting of the model, `normalize_targets`.
"""

from typing import Literal

from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import MaskedImageModel
from lcmae.objectives.base import Loss, Objective, collapse_level, masked_squared_error
from lcmae.shapes import Float


class MAE(Objective):
    """Mean squared error over the hidden patches."""

    kind: Literal["mae"] = "mae"

    def loss(self, model: MaskedImageModel, images: Float[Tensor, "b c h w"], masks: Mask) -> Loss:
        target = model.targets(images)

        out = model(images, masks, only_hidden=True)
        reconstruction = masked_squared_error(out.pred, target, masks.is_hidden)

        return Loss(reconstruction, {"reconstruction": reconstruction}, collapse_level(target, masks.is_hidden))
