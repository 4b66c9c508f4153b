"""Errors of a number whose images all share a few masks: images and masks are crossed, and both are
sources of error.

theta is a function of sums over cells (group of images g of G, mask k of K). Leaving out groups,
masks, and both (lcmae's own; simulated, coverage 0.95 to 0.98 for K >= 4):

    v_images = (G - 1)/G sum_g (theta_(-g) - mean)^2     df G - 1     image variance + interaction
    v_masks  = (K - 1)/K sum_k (theta_(-k) - mean)^2     df K - 1     mask variance + interaction
    P_gk     = G K theta - (G-1) K theta_(-g) - G (K-1) theta_(-k) + (G-1)(K-1) theta_(-g,-k)

The standard error is sqrt(v_images + v_masks), which holds the interaction twice: where masks
hardly matter it is 1 to 11 % too large in variance at K = 8, and never too small. The interval is
Banerjee's (`lcmae.probes.statistics.intervals`). The mean of the P_gk is theta without its bias of
first order in 1/G, 1/K and 1/GK. Fewer than `LEAST` masks give no error: with two, the masks'
variance is known by one degree of freedom, and no verdict can rest on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.probes.statistics.jackknife import standard_error
from lcmae.shapes import Float

LEAST = 4
"""Fewest masks that give an error."""

FEW_MASKS = (
    f"images share fewer than {LEAST} masks, which are too few for the error that masks bring: take more (num_masks)"
)
"""Why there is no error."""


@dataclass(frozen=True)
class TwoWay:
    """A number (of any shape), and its variances over images and over masks."""

    value: Tensor
    corrected: Tensor
    """Without the bias of few groups and few masks; `value` where there are fewer than `LEAST`
    masks."""
    of_images: Tensor
    of_masks: Tensor
    groups: int
    masks: int

    def map(self, pick: Callable[[Tensor], Tensor]) -> "TwoWay":
        """Some of the numbers, in another shape."""
        parts = (self.value, self.corrected, self.of_images, self.of_masks)
        return TwoWay(*map(pick, parts), groups=self.groups, masks=self.masks)

    @property
    def sem(self) -> Tensor:
        """Over images and masks."""
        return (self.of_images + self.of_masks).sqrt()

    @property
    def masks_sem(self) -> Tensor:
        """The part that masks bring."""
        return self.of_masks.sqrt()


def two_way(
    of_subset: Callable[[Sequence[int], Sequence[int]], Tensor],
    sizes: Float[Tensor, " g"],
    num_masks: int,
    combine: Callable[[Tensor], Tensor] = lambda numbers: numbers,
) -> TwoWay:
    """What `combine` makes of the numbers of (groups, masks); `sizes`: images in each
    group."""

    def statistic(groups: Sequence[int], masks: Sequence[int]) -> Tensor:
        return combine(of_subset(groups, masks))

    groups, masks = list(range(len(sizes))), list(range(num_masks))
    whole = statistic(groups, masks)
    if num_masks < LEAST or len(groups) < 2:
        nothing = torch.full_like(whole, torch.nan)
        return TwoWay(whole, whole, nothing, nothing, len(groups), num_masks)
    no_group = torch.stack([statistic(_without(groups, g), masks) for g in groups])
    no_mask = torch.stack([statistic(groups, _without(masks, k)) for k in masks])
    neither = torch.stack([statistic(_without(groups, g), _without(masks, k)) for g in groups for k in masks])
    corrected = mean_pseudo_value(whole, no_group, no_mask, neither)
    of_images = standard_error(whole, no_group, sizes).square()
    of_masks = standard_error(whole, no_mask, torch.ones(num_masks)).square()
    return TwoWay(whole, corrected, of_images, of_masks, len(groups), num_masks)


def mean_pseudo_value(
    whole: Float[Tensor, "..."],
    no_group: Float[Tensor, "g ..."],
    no_mask: Float[Tensor, "k ..."],
    neither: Float[Tensor, "c ..."],
) -> Float[Tensor, "..."]:
    """The mean over cells of P_gk; `whole` where an estimate without a group or a mask is NaN."""
    num_groups, num_masks = len(no_group), len(no_mask)
    found = (
        num_groups * num_masks * whole
        - (num_groups - 1) * num_masks * no_group.mean(0)
        - num_groups * (num_masks - 1) * no_mask.mean(0)
        + (num_groups - 1) * (num_masks - 1) * neither.mean(0)
    )
    return torch.where(found.isfinite(), found, whole)


def stacked(parts: Sequence[TwoWay]) -> TwoWay:
    """Several of one shape, images and masks, along a new first axis."""
    names = ("value", "corrected", "of_images", "of_masks")
    found = {name: torch.stack([getattr(part, name) for part in parts]) for name in names}
    return TwoWay(**found, groups=parts[0].groups, masks=parts[0].masks)


def mean_over_masks(of_masks: Float[Tensor, "k ..."], of_images: Float[Tensor, "..."], num_groups: int) -> TwoWay:
    """Of a mean of one number a mask, whose variance over images is known from elsewhere."""
    num_masks, mean = len(of_masks), of_masks.mean(0)
    if num_masks < LEAST:
        nothing = torch.full_like(mean, torch.nan)
        return TwoWay(mean, mean, nothing, nothing, num_groups, num_masks)
    return TwoWay(mean, mean, of_images, of_masks.var(0) / num_masks, num_groups, num_masks)


def _without(numbers: Sequence[int], one: int) -> list[int]:
    return [number for number in numbers if number != one]
