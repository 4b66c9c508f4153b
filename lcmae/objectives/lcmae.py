"""What happens when the contrastive parts of the masked loss are weighed apart? The question is
that of LC-MAE, "Understanding Masked Autoencoders From a Local Contrastive Perspective" (Yue et
al., arXiv 2310.01994); the definition is lcmae's own.

K masks an image; the loss is split exactly into invariance, local and global consistency, and
offset (`lcmae.contrast`). With all weights 1 this *is* the K-mask MAE loss, value and gradient.
Other weights are the experiment.
"""

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae import ranks
from lcmae.contrast import decompose_step, token_info_nce
from lcmae.masking import Mask
from lcmae.models import MaskedImageModel, MaskedOutput, take
from lcmae.objectives.base import Loss, Objective, collapse_level, per_mask
from lcmae.shapes import Bool, Float


class LCMAE(Objective):
    """The masked squared error under K masks per image, with a weight for each of its four terms,
    and optionally a contrast of tokens."""

    kind: Literal["lcmae"] = "lcmae"

    num_masks: int = Field(default=2, ge=2)
    """K: masks per image; the cost of a step grows with it."""

    invariance: float = Field(default=1.0, ge=0)
    """Weight of the spread of one patch's predictions over masks."""

    local_consistency: float = Field(default=1.0, ge=0)
    """Weight of the mismatch of differences between patches of one image."""

    global_consistency: float = Field(default=1.0, ge=0)
    """Weight of the mismatch of differences between images."""

    offset: float = Field(default=1.0, ge=0)
    """Weight of the mismatch of the overall mean."""

    token_contrast: float = Field(default=0.0, ge=0)
    """Weight of InfoNCE between encoder tokens of the same patch visible under two masks; 0 leaves
    it out."""

    temperature: float = Field(default=0.1, gt=0)
    """Temperature of that InfoNCE (dimensionless)."""

    @property
    def masks_per_image(self) -> int:
        return self.num_masks

    def loss(self, model: MaskedImageModel, images: Float[Tensor, "b c h w"], masks: Mask) -> Loss:
        target = model.targets(images)
        hidden = rearrange(masks.is_hidden, "(b k) n -> b k n", k=self.num_masks)

        out = model(images, masks, only_hidden=True)
        parts = decompose_step(per_mask(out, len(images)), target, hidden, ranks.mean_over_ranks)

        terms = parts.terms()
        total = sum((getattr(self, name) * term for name, term in terms.items()), torch.zeros_like(parts.loss))
        if self.token_contrast:
            terms["token_contrast"] = self._token_contrast(out, masks)
            total = total + self.token_contrast * terms["token_contrast"]
        terms["reconstruction"] = parts.loss
        return Loss(total, terms, collapse_level(target, parts.count))

    def _token_contrast(self, out: MaskedOutput, masks: Mask) -> Float[Tensor, ""]:
        """InfoNCE of each mask's tokens against the next mask's, the last against the first."""
        tokens, shown = visible_tokens(out, masks)
        tokens = rearrange(tokens, "(b k) n d -> k b n d", k=self.num_masks)
        shown = rearrange(shown, "(b k) n -> k b n", k=self.num_masks)
        pairs = zip(tokens, tokens.roll(-1, 0), shown, shown.roll(-1, 0), strict=True)
        losses = [token_info_nce(*pair, self.temperature, ranks.mean_over_ranks) for pair in pairs]
        return torch.stack(losses).mean()


def visible_tokens(out: MaskedOutput, masks: Mask) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
    """Encoder tokens of visible patches at their positions among all n patches (zeros elsewhere),
    and where they are."""
    shown = ~masks.is_hidden
    if out.tokens.shape[1] == masks.num_patches:
        return out.tokens * shown[..., None], shown
    slot = torch.zeros_like(masks.is_hidden, dtype=torch.long)
    slot = slot.scatter(
        1, out.positions, torch.arange(out.tokens.shape[1], device=slot.device).expand_as(out.positions)
    )
    return take(out.tokens, slot) * shown[..., None], shown
