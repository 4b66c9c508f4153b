"""Our models without the cast to float32 at the end, so that laws can be held to float64's
rounding."""

from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import MAE, MaskedImageModel, MaskedOutput, SimMIM, pool, spread


def _forward(model: MaskedImageModel, images: Tensor, mask: Mask | None, *, only_hidden: bool) -> MaskedOutput:
    mask = mask or Mask.none(len(images), model.num_patches)
    prefix, tokens, positions = model.encode(images, mask)
    pooled = pool(model.config.feature, prefix, tokens, mask.visible)
    if only_hidden:
        pred = spread(model.predict_hidden(prefix, tokens, mask), mask.hidden, model.num_patches)
    else:
        pred = model.predict(prefix, tokens, mask)
    return MaskedOutput(pred, tokens, positions, prefix, pooled, mask.visible)


class ExactMAE(MAE):
    def forward(self, images: Tensor, mask: Mask | None = None, *, only_hidden: bool = False) -> MaskedOutput:
        return _forward(self, images, mask, only_hidden=only_hidden)


class ExactSimMIM(SimMIM):
    def forward(self, images: Tensor, mask: Mask | None = None, *, only_hidden: bool = False) -> MaskedOutput:
        return _forward(self, images, mask, only_hidden=only_hidden)
