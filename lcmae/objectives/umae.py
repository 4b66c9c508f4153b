"""MAE that keeps its features apart. U-MAE of Zhang, Wang and Wang, "How Mask Matters", NeurIPS
2022 (arXiv 2210.08344).

    L = L_MAE + lambda L_unif,   L_unif(f) = E_{x1} E_{x1-} (f(x1)^T f(x1-))^2

Differences from the authors' code, where we follow the paper: the feature is layer-normed once
(their class token twice); the value and gradient are the same on any number of devices (there, the
gradient is divided by the number of devices, so their weight 0.01 on 8 devices is 0.00125 here); no
classifier's loss is added to the total.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import Feature, MaskedImageModel
from lcmae.objectives.base import Loss, Objective, collapse_level, masked_squared_error, uniformity
from lcmae.shapes import Float


class UMAE(Objective):
    """MAE's loss plus `weight` times the mean squared cosine similarity of the pooled vectors of
    masked images."""

    kind: Literal["umae"] = "umae"

    weight: float = Field(default=0.01, ge=0)
    """lambda: weight of the uniformity term (dimensionless)."""

    feature: Feature = "cls"
    """Which vector is kept apart: the class token, or the mean of the visible patches' tokens."""

    def loss(self, model: MaskedImageModel, images: Float[Tensor, "b c h w"], masks: Mask) -> Loss:
        target = model.targets(images)

        out = model(images, masks, only_hidden=True)
        reconstruction = masked_squared_error(out.pred, target, masks.is_hidden)
        uniform = uniformity(out.feature(self.feature))

        total = reconstruction + self.weight * uniform
        terms = {"reconstruction": reconstruction, "uniformity": uniform}
        return Loss(total, terms, collapse_level(target, masks.is_hidden))
