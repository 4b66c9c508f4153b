"""The local-contrastive algebra: what part of a masked loss is invariance, what part consistency
within and across images.

This is *lcmae's own definition*, exact, and not the LC-MAE paper's (Yue et al., 2310.01994), whose
method text was not at hand. It is a nested analysis of variance of the residual e = prediction -
target over masks, patches and images:

    loss               = 1/n sum m |e_bki|^2
      invariance         = 1/n sum m |e_bki - e_bi|^2      the same patch under two masks
      local_consistency  = 1/n sum n_bi |e_bi - e_b|^2     two patches of one image
      global_consistency = 1/n sum n_b |e_b - e_0|^2       two images
      offset             = |e_0|^2                         first-moment mismatch

and loss = invariance + local_consistency + global_consistency + offset, for any predictions. Each
term equals a mean over pairs (tests/reference/contrast.py forms them), but is computed from means,
in time linear in images x masks x patches. All values are divided by p, the number of values in a
patch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.errors import InputError
from lcmae.shapes import Bool, Float

TERMS = ("invariance", "local_consistency", "global_consistency", "offset")


@dataclass(frozen=True)
class Decomposition:
    """The masked loss and its four parts, as scalars and as maps whose (weighted) sums they are.
    All per patch value."""

    loss: Float[Tensor, ""]
    invariance: Float[Tensor, ""]
    local_consistency: Float[Tensor, ""]
    global_consistency: Float[Tensor, ""]
    offset: Float[Tensor, ""]

    loss_map: Float[Tensor, "b n"]
    """Sum over masks of |e_bki|^2 / p; the sum of this map over n is `loss`."""

    invariance_map: Float[Tensor, "b n"]
    """Sum over masks of |e_bki - e_bi|^2 / p."""

    local_consistency_map: Float[Tensor, "b n"]
    """n_bi |e_bi - e_b|^2 / p."""

    global_consistency_map: Float[Tensor, " b"]
    """n_b |e_b - e_0|^2 / p, one value an image."""

    count: Float[Tensor, "b n"]
    """n_bi: how many of the masks hid each patch."""

    def terms(self) -> dict[str, Float[Tensor, ""]]:
        """The four parts by name."""
        return {name: getattr(self, name) for name in TERMS}


def decompose(
    pred: Float[Tensor, "b k n p"],
    target: Float[Tensor, "b n p"],
    hidden: Bool[Tensor, "b k n"],
    mean_over_ranks: Callable[[Tensor], Tensor] = lambda mean: mean,
) -> Decomposition:
    """Split the masked squared error of `pred` into its four terms.

    `mean_over_ranks` averages a tensor over devices when the images of one batch lie on several
    (see `lcmae.training.distributed`): then `offset` and the centre of `global_consistency` belong
    to the whole batch. Each device must hide the same number of patches. Raises `InputError` where
    shapes differ or nothing is hidden.
    """
    if not hidden.any():
        raise InputError("expected at least one hidden patch, got none")
    return decompose_step(pred, target, hidden, mean_over_ranks)


def decompose_step(
    pred: Float[Tensor, "b k n p"],
    target: Float[Tensor, "b n p"],
    hidden: Bool[Tensor, "b k n"],
    mean_over_ranks: Callable[[Tensor], Tensor] = lambda mean: mean,
) -> Decomposition:
    """`decompose` without reading the values of `hidden`, for which a training step would have to
    wait for the GPU."""
    if pred.shape[0] != target.shape[0] or pred.shape[2:] != target.shape[1:] or pred.shape[:3] != hidden.shape:
        raise InputError(
            "expected pred [b k n p], target [b n p] and hidden [b k n], "
            f"got {tuple(pred.shape)}, {tuple(target.shape)} and {tuple(hidden.shape)}"
        )
    weight = hidden.to(pred.dtype)[..., None]
    # zero where not hidden, so that nothing visible leaks in (a product would let NaN through)
    residual = torch.where(hidden[..., None], pred - target[:, None], 0.0)
    num_values = pred.shape[-1]

    # nested means: over the masks that hide a patch, over the patches of an image, over images
    per_patch = weight.sum(1)  # n_bi [b n 1]
    per_image = per_patch.sum(1)  # n_b [b 1]
    total = per_image.sum()
    mean_patch = residual.sum(1) / per_patch.clamp(min=1)  # e_bi [b n p]
    mean_image = (per_patch * mean_patch).sum(1) / per_image.clamp(min=1)  # e_b [b p]
    mean_all = mean_over_ranks((per_image * mean_image).sum(0) / total)  # e_0 [p]

    scale = 1 / (total * num_values)
    loss_map = residual.square().sum((1, 3))
    invariance_map = (weight * (residual - mean_patch[:, None]).square()).sum((1, 3))
    local_map = (per_patch * (mean_patch - mean_image[:, None]).square()).sum(2)
    global_map = (per_image * (mean_image - mean_all).square()).sum(1)
    return Decomposition(
        loss=loss_map.sum() * scale,
        invariance=invariance_map.sum() * scale,
        local_consistency=local_map.sum() * scale,
        global_consistency=global_map.sum() * scale,
        offset=mean_all.square().mean(),
        loss_map=loss_map / num_values,
        invariance_map=invariance_map / num_values,
        local_consistency_map=local_map / num_values,
        global_consistency_map=global_map / num_values,
        count=per_patch[..., 0],
    )


def token_info_nce(
    first: Float[Tensor, "b n d"],
    second: Float[Tensor, "b n d"],
    in_first: Bool[Tensor, "b n"],
    in_second: Bool[Tensor, "b n"],
    temperature: float,
    mean_over_ranks: Callable[[Tensor], Tensor] = lambda mean: mean,
) -> Float[Tensor, ""]:
    """InfoNCE (van den Oord et al., 1807.03748) between encoder tokens under two masks of the same
    image.

    Positive: the same patch, visible under both masks. Negatives: the other patches of the image
    that the second mask shows. Cosine similarity over `temperature`; the mean over patches visible
    in both. A batch where no patch is visible in both contributes 0. How many are visible in both
    differs between devices, so `mean_over_ranks` averages the count: then the mean of the devices'
    losses is the loss of the whole batch.
    """
    # autocast would make the product bfloat16, and a temperature of 0.1 multiplies its error by ten
    with torch.autocast(first.device.type, enabled=False):
        similarity = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).transpose(1, 2) / temperature
    # an image of which the second mask shows nothing has no positive; its row stays finite and
    # carries no weight
    comparable = in_second | ~in_second.any(1, keepdim=True)
    similarity = similarity.masked_fill(~comparable[:, None, :], -torch.inf)
    in_both = in_first & in_second
    log_chance = similarity.diagonal(dim1=1, dim2=2) - similarity.logsumexp(-1)
    count = mean_over_ranks(in_both.sum().to(similarity.dtype))
    return -torch.where(in_both, log_chance, 0.0).sum() / torch.where(count > 0, count, 1.0)
