"""What attention moves through all layers, what a class token gathers, and which tokens are
outliers: pure functions of maps [b h t t], whose rows sum to 1, and of norms.

Sources: attention rollout (Abnar and Zuidema, 2005.00928): `A_l = (mean over heads + I) / 2`,
multiplied over the layers; its gradient-weighted form (Chefer et al., 2103.15679, equations 5 and
6): `R <- R + mean over heads of (gradient o A)^+ R`, from R = I; what the class token gathers
(Przewiezlikowski et al., 2412.03215). The outliers' threshold is lcmae's own: those of Darcet et
al. (2309.16588) and of test-time registers (Jiang et al., 2506.08010) are absolute norms, which
mean nothing across models.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lcmae.probes.measures.attention import TINY, entropy
from lcmae.shapes import Bool, Float

DEVIATIONS = 5
"""A token is an outlier so many robust deviations above the median of its image."""

ROBUST = 1.4826
"""Of a Gaussian: its standard deviation over the median absolute deviation."""

LEAST_EXCESS = 0.001
"""Share of the median that an outlier is above it at least: equal norms differ by rounding."""

GATHERED = {
    "class_self": ("attention of the class token to itself", "1"),
    "class_patches": ("attention of the class token to patches", "1"),
    "class_registers": ("attention of the class token to other prefix tokens", "1"),
    "class_entropy": ("entropy of the class token's attention over patches, renormalised", "nats"),
    "patch_self": ("attention of patches to themselves", "1"),
    "patch_class": ("attention of patches to the class token", "1"),
    "patch_registers": ("attention of patches to other prefix tokens", "1"),
}
"""What `gathered` says, in its order."""


def defined(num_prefix: int) -> tuple[str, ...]:
    """Those that a model with so many prefix tokens has: the first is the class token, others are
    registers."""
    return tuple(
        name for name in GATHERED
        if (num_prefix > 0 or "class" not in name) and (num_prefix > 1 or "registers" not in name)
    )  # fmt: skip


def gathered(maps: Float[Tensor, "b h t t"], num_prefix: int) -> Float[Tensor, "b h 7"]:
    """`GATHERED` of one layer's maps; without a class token all but the patches' own is NaN."""
    nothing = torch.full_like(maps[:, :, 0, 0], torch.nan, dtype=torch.float64)  # see `defined`
    patches = maps[:, :, num_prefix:]
    own = patches[..., num_prefix:].diagonal(dim1=2, dim2=3).double().mean(-1)
    if not num_prefix:
        return torch.stack([*[nothing] * 4, own, nothing, nothing], dim=-1)
    row = maps[:, :, 0].double()
    to_patches = row[..., num_prefix:]
    total = to_patches.sum(-1)
    return torch.stack(
        [
            row[..., 0],
            total,
            row[..., 1:num_prefix].sum(-1),
            entropy(to_patches / total.clamp(min=TINY)[..., None]),
            own,
            patches[..., 0].double().mean(-1),
            patches[..., 1:num_prefix].double().sum(-1).mean(-1),
        ],
        dim=-1,
    )


def rollout(maps: Sequence[Float[Tensor, "b h t t"]]) -> Float[Tensor, "b t t"]:
    """How much of each token (rows, after the last layer) comes from each token before the
    first."""
    one = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype, device=maps[0].device)
    found = one.expand(len(maps[0]), -1, -1)
    for layer in maps:
        found = (layer.mean(1) + one) / 2 @ found
    return found


def gradient_rollout(
    maps: Sequence[Float[Tensor, "b h t t"]], slopes: Sequence[Float[Tensor, "b h t t"]]
) -> Float[Tensor, "b t t"]:
    """Relevance of each token before the first layer for each token (rows); the identity that it
    starts from is taken off."""
    one = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype, device=maps[0].device)
    found = one.expand(len(maps[0]), -1, -1)
    for layer, slope in zip(maps, slopes, strict=True):
        found = found + (slope * layer).clamp(min=0).mean(1) @ found
    return found - one


def spearman(one: Float[Tensor, "b n"], other: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Rank correlation of two maps; NaN where one of them does not vary. Equal values share their
    mean rank."""
    a, b = (_ranks(values.double()) for values in (one, other))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(1) / scale, torch.nan)


def _ranks(values: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    below = (values[:, None, :] < values[:, :, None]).sum(2)
    equal = (values[:, None, :] == values[:, :, None]).sum(2)
    return below + (equal - 1) / 2


def outliers(norms: Float[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Patches whose norm lies far above the others' of their image."""
    middle = norms.median(1, keepdim=True).values
    deviation = ROBUST * (norms - middle).abs().median(1, keepdim=True).values
    return norms > middle + torch.maximum(DEVIATIONS * deviation, LEAST_EXCESS * middle)


def neighbour_cosine(tokens: Float[Tensor, "b n d"], grid: tuple[int, int]) -> Float[Tensor, "b n"]:
    """Mean cosine of each patch's token to those of the patches beside, above and below it."""
    unit = torch.nn.functional.normalize(tokens.double(), dim=-1).unflatten(1, grid)
    total, count = (torch.zeros(unit.shape[:-1], dtype=torch.float64, device=tokens.device) for _ in range(2))
    down, across = ((unit[:, 1:] * unit[:, :-1]).sum(-1), (unit[:, :, 1:] * unit[:, :, :-1]).sum(-1))
    for cosine, first, second in (
        (down, (slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        (across, (slice(None), slice(None), slice(1, None)), (slice(None), slice(None), slice(None, -1))),
    ):
        for part in (first, second):
            total[part] += cosine
            count[part] += 1
    return (total / torch.where(count > 0, count, torch.nan)).flatten(1)
