"""Errors of a number whose images all share a few masks: images and masks are crossed, and both are
sources of error.

theta is a function of sums over cells (group of images g of G, mask k of K). Leaving out groups,
masks, and both (lcmae's own; simulated, coverage 0.95 to 0.98 for K >= 4):

    v_images = (G - 1)/G sum_g (theta_(-g) - mean)^2     df G - 1     image variance + interaction
    v_masks  = (K - 1)/K sum_k (theta_(-k) - mean)^2     df K - 1     mask variance + interaction
    P_gk     = G K theta - (G-1) K theta_(-g) - G (K-1) theta_(-k) + (G-1)(K-1) theta_(-g,-k)

    v_inter  = sum_gk (P_gk - P_g. - P_.k + P_..)^2 / (G (G - 1) K (K - 1))

v_images + v_masks holds the interaction twice, which makes the error up to 1.4 times too large
where it outweighs the other two. The standard error is the root of v_images + v_masks - v_inter,
and never below that of either: 1.0 to 1.2 times the spread, intervals that cover 0.95 to 0.99
(simulated for K = 4 and 8, images, masks and interaction from none to all; docs/LOG.md,
2026-11-29). The interval is Banerjee's (`lcmae.probes.statistics.intervals`). The mean of the P_gk
is theta without its bias of first order in 1/G, 1/K and 1/GK. Fewer than `LEAST` masks give no
error: with two, the masks' variance is known by one degree of freedom, and no verdict can rest on
it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import torch
from torch import Tensor

from lcmae.probes.statistics.jackknife import counted_once, standard_error
from lcmae.shapes import Float

LEAST = 4
"""Fewest masks that give an error."""

MOST_PAIRS = 28
"""All pairs of 8 masks."""

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
    interaction: Tensor | None = None
    """What both variances hold of images and masks together; None where it is not known."""

    def map(self, pick: Callable[[Tensor], Tensor]) -> "TwoWay":
        """Some of the numbers, in another shape."""
        parts = (self.value, self.corrected, self.of_images, self.of_masks)
        both = None if self.interaction is None else pick(self.interaction)
        return TwoWay(*map(pick, parts), groups=self.groups, masks=self.masks, interaction=both)

    @property
    def sem(self) -> Tensor:
        """Over images and masks."""
        both = self.of_images + self.of_masks
        if self.interaction is None:
            return both.sqrt()
        return torch.maximum(both - self.interaction, torch.maximum(self.of_images, self.of_masks)).sqrt()

    @property
    def masks_sem(self) -> Tensor:
        """The part that masks bring."""
        return self.of_masks.sqrt()


def two_way(
    of_subset: Callable[[Sequence[int], Sequence[int]], Tensor],
    sizes: Float[Tensor, " g"],
    num_masks: int,
    combine: Callable[[Tensor], Tensor] = lambda numbers: numbers,
    *,
    of_pairs: bool = False,
) -> TwoWay:
    """What `combine` makes of the numbers of (groups, masks); `sizes`: images in each group.

    `of_pairs`: the numbers are made of pairs of masks, as a variance over masks is, and the
    variance over masks is that of `corrected` (`variance_of_pairs`).
    """

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
    if of_pairs:
        of_corrected = variance_of_pairs(lambda some: statistic(groups, some), num_masks)
        of_masks = torch.where(of_corrected.isfinite(), of_corrected, of_masks)
    both = of_both(no_group, no_mask, neither)
    return TwoWay(whole, corrected, of_images, of_masks, len(groups), num_masks, both)


def variance_of_pairs(statistic: Callable[[Sequence[int]], Tensor], num_masks: int) -> Tensor:
    """Variance over masks of `statistic` without its bias of few masks, K theta - (K - 1) mean
    theta_(-k), where it is made of pairs of masks.

    Masks of one size have little of their own (each hides as much as any other), and a variance
    over them is nearly all pairs, which a jackknife counts twice; and what is corrected varies less
    than what is not, as the bias of one draw goes with its value. So the corrected number is left
    out of, and pairs count once (`lcmae.probes.statistics.jackknife.counted_once`); at most
    `MOST_PAIRS` of them, evenly spaced.
    """
    masks = list(range(num_masks))

    @cache
    def left(out: frozenset[int]) -> Tensor:
        return statistic([mask for mask in masks if mask not in out])

    def corrected(*out: int) -> Tensor:
        rest = [mask for mask in masks if mask not in out]
        fewer = torch.stack([left(frozenset((*out, mask))) for mask in rest])
        return len(rest) * left(frozenset(out)) - (len(rest) - 1) * fewer.mean(0)

    whole, without = corrected(), torch.stack([corrected(mask) for mask in masks])
    every = list(combinations(masks, 2))
    pairs = every[:: -(-len(every) // MOST_PAIRS)]
    without_both = torch.stack([corrected(*pair) for pair in pairs])
    variance = standard_error(whole, without, torch.ones(num_masks)).square()
    return counted_once(variance, whole, without, pairs, without_both)


def of_both(
    no_group: Float[Tensor, "g ..."],
    no_mask: Float[Tensor, "k ..."],
    neither: Float[Tensor, "c ..."],
) -> Float[Tensor, "..."]:
    """v_inter; of P_gk, theta itself drops out."""
    num_groups, num_masks = len(no_group), len(no_mask)
    cells = (num_groups - 1) * (num_masks - 1) * neither.unflatten(0, (num_groups, num_masks))
    cells = cells - num_masks * (num_groups - 1) * no_group[:, None] - num_groups * (num_masks - 1) * no_mask
    cells = cells - cells.mean(0, keepdim=True) - cells.mean(1, keepdim=True) + cells.mean((0, 1))
    return cells.square().sum((0, 1)) / (num_groups * (num_groups - 1) * num_masks * (num_masks - 1))


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
    known = [part.interaction for part in parts if part.interaction is not None]
    both = torch.stack(known) if len(known) == len(parts) else None
    return TwoWay(**found, groups=parts[0].groups, masks=parts[0].masks, interaction=both)


def mean_over_masks(of_masks: Float[Tensor, "k ..."], of_images: Float[Tensor, "..."], num_groups: int) -> TwoWay:
    """Of a mean of one number a mask, whose variance over images is known from elsewhere."""
    num_masks, mean = len(of_masks), of_masks.mean(0)
    if num_masks < LEAST:
        nothing = torch.full_like(mean, torch.nan)
        return TwoWay(mean, mean, nothing, nothing, num_groups, num_masks)
    return TwoWay(mean, mean, of_images, of_masks.var(0) / num_masks, num_groups, num_masks)


def images_alone(
    whole: Float[Tensor, "k ..."], without: Float[Tensor, "g k ..."], sizes: Float[Tensor, " g"]
) -> Float[Tensor, "..."]:
    """The variance over images of a mean over masks, from each mask's own estimate and those
    without each group under the same few masks; without their interaction, which the variance over
    all masks holds already (`mean_over_masks`). Never negative."""
    num_groups, num_masks = without.shape[:2]
    of_images = standard_error(whole.mean(0), without.mean(1), sizes).square()
    if num_groups < 2 or num_masks < 2:
        return of_images
    left = without - without.mean(1, keepdim=True)
    left = (num_groups - 1) * (left - left.mean(0))
    both = left.square().sum((0, 1)) / (num_groups * (num_groups - 1) * num_masks * (num_masks - 1))
    return (of_images - both).clamp(min=0)


def _without(numbers: Sequence[int], one: int) -> list[int]:
    return [number for number in numbers if number != one]
