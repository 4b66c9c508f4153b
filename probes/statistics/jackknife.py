"""Standard errors of what is no mean (ranks, correlations, ratios): leave a group of images out,
estimate again.

Source: the delete-a-group jackknife for groups of unequal size, Busing, Meijer and van der Leeden,
"Delete-m jackknife for unequal m", Statistics and Computing 9 (1999). It says how far the number
would move with other images of the same kind; it says nothing of the bias of a rank that is
estimated from few images.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.shapes import Float, Int

NUM_GROUPS = 8
"""Groups of images; each keeps sums of its own, so memory grows with their number and never with
that of the images."""

BLOCK = 64


def groups_of(indices: Iterable[int], num_images: int, num_groups: int = NUM_GROUPS) -> Int[Tensor, " b"]:
    """The group of each image: blocks of up to 64 images are dealt out in turn, whatever batches
    the images come in."""
    block = max(1, min(BLOCK, num_images // num_groups))
    return torch.tensor([index // block % num_groups for index in indices])


def standard_error(
    whole: Float[Tensor, "..."], without: Float[Tensor, "g ..."], sizes: Float[Tensor, " g"]
) -> Float[Tensor, "..."]:
    """Of an estimate from all groups, given the estimates without each group and the number of
    images in each.

    NaN for fewer than two groups, and where an estimate is NaN. For the mean of images in groups of
    one this is s / sqrt(N).
    """
    if len(without) < 2:
        return torch.full_like(whole, math.nan)
    whole, without, sizes = whole.double(), without.double(), sizes.double()
    share = (sizes.sum() / sizes).reshape(-1, *[1] * whole.ndim)  # h_j = n / m_j
    pseudo = share * whole - (share - 1) * without
    centre = len(without) * whole - ((1 - 1 / share) * without).sum(0)
    return ((pseudo - centre).square() / (share - 1)).mean(0).sqrt()


def counted_once(
    variance: Float[Tensor, "..."],
    whole: Float[Tensor, "..."],
    without: Float[Tensor, "g ..."],
    pairs: Sequence[tuple[int, int]],
    without_both: Float[Tensor, "p ..."],
) -> Float[Tensor, "..."]:
    """A jackknife's `variance` over G groups, what two groups bring together counted once; from the
    estimates without each group, and without both of some pairs.

    A jackknife holds what is made of j groups together j times: an estimate that is made of pairs
    (a variance, an edge between images) gets up to twice its variance. Of Efron and Stein (Annals
    of Statistics 9 (1981)), for the mean over pairs:

        Q_gh = G theta - (G - 1) (theta_(-g) + theta_(-h)) + (G - 2) theta_(-g,-h)
        variance - 1/2 mean (Q_gh - Q_..)^2

    This is unbiased up to the second order, but noisy where pairs are nearly all there is, and too
    small where more than two count together; so it is at least half of the variance, which is what
    pairs alone leave. (Simulated, 8 groups, from pairs alone to none: spread / error 0.86 to 1.04,
    without it 0.65 to 0.98, 0.92 to 0.96 covered; docs/LOG.md, 2026-11-30.) Where an estimate
    without two groups is NaN, the variance stays.
    """
    size = len(without)
    if len(pairs) < 2:
        return variance
    first, second = (without[[pair[side] for pair in pairs]] for side in (0, 1))
    joint = size * whole - (size - 1) * (first + second) + (size - 2) * without_both
    excess = joint.var(0) / 2
    return torch.where(excess.isfinite(), torch.maximum(variance - excess, variance / 2), variance)


class GroupedSums:
    """Named sums of images by group; any function of the total sums is estimated with its standard
    error.

    Sums are float64; those of the names `single` are held in float32, which halves what large ones
    take. Such values should stand around zero: of a large mean, squares would lose digits."""

    def __init__(self, num_images: int, num_groups: int = NUM_GROUPS, single: Collection[str] = ()) -> None:
        self.num_images, self.num_groups, self.single = num_images, num_groups, single
        self.sizes = torch.zeros(num_groups, dtype=torch.float64)
        self.sums: dict[str, Tensor] = {}

    def add(self, indices: Iterable[int], **values: Float[Tensor, "b ..."]) -> None:
        """Take in one value (of any shape) an image under each name; every call brings the same
        names."""
        self.add_to(groups_of(indices, self.num_images, self.num_groups), **values)

    def add_to(self, group: Int[Tensor, " b"], **values: Float[Tensor, "b ..."]) -> None:
        """The same for images of these groups."""
        self.sizes.index_add_(0, group, torch.ones(len(group), dtype=torch.float64))
        for name, value in values.items():
            value = value.detach().to("cpu", torch.float32 if name in self.single else torch.float64)
            if name not in self.sums:
                self.sums[name] = torch.zeros(self.num_groups, *value.shape[1:], dtype=value.dtype)
            self.sums[name].index_add_(0, group, value)

    def estimate(self, statistic: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
        """`statistic` of the summed values, and its standard error over images."""
        whole, without = self.leave_out(statistic)
        return whole, self.error(whole, without)

    def leave_out(self, statistic: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Float[Tensor, "g ..."]]:
        """`statistic` of the summed values, and of those without each group."""
        total = {name: value.sum(0, dtype=torch.float64) for name, value in self.sums.items()}
        without = [
            statistic({name: total[name] - value[group] for name, value in self.sums.items()}) for group in self._filled
        ]
        return statistic(total), torch.stack(without)

    def of(self, groups: Sequence[int]) -> dict[str, Tensor]:
        """Sums over some of the groups that have images, counted from 0."""
        chosen = [self._filled[group] for group in groups]
        return {name: value[chosen].sum(0, dtype=torch.float64) for name, value in self.sums.items()}

    def error(self, whole: Tensor, without: Float[Tensor, "g ..."]) -> Tensor:
        """The standard error of what was made of `leave_out`."""
        return standard_error(whole, without, self.sizes[self._filled])

    @property
    def filled_sizes(self) -> Float[Tensor, " g"]:
        """Images in each group that has any."""
        return self.sizes[self._filled]

    @property
    def degrees_of_freedom(self) -> int:
        """Of the standard errors."""
        return max(len(self._filled) - 1, 0)

    @property
    def _filled(self) -> list[int]:
        return self.sizes.nonzero().flatten().tolist()


@dataclass(frozen=True)
class Refitted:
    """Named sums over images that were measured with something fitted to other images, where both
    are a sample: the error holds both.

    Leaving out measured images under the fit of all gives v_given; leaving out images of both
    kinds, and fitting again, v_refitted. A fit that is at its best moves what it explains in second
    order alone, and a jackknife counts the second order twice (Efron and Stein, Annals of
    Statistics 9 (1981)), so the variance is v_given + (v_refitted - v_given) / 2, and at least
    v_given.
    """

    sums: dict[str, Tensor]
    given: dict[str, Float[Tensor, "g ..."]]
    """Without each group of measured images."""
    refitted: dict[str, Float[Tensor, "g ..."]]
    """Without each group of measured and of fitted images."""
    measured_sizes: Float[Tensor, " g"]
    fitted_sizes: Float[Tensor, " g"]

    def leave_out(
        self, statistic: Callable[[dict[str, Tensor]], Tensor]
    ) -> tuple[Tensor, Float[Tensor, "g ..."], Float[Tensor, "g ..."]]:
        """`statistic` of the sums, and of what is left of them: under the fit of all, and fitted
        again."""

        def each(without: dict[str, Tensor]) -> Tensor:
            groups = range(len(self.measured_sizes))
            return torch.stack([statistic({name: value[g] for name, value in without.items()}) for g in groups])

        return statistic(self.sums), each(self.given), each(self.refitted)

    def error(self, whole: Tensor, given: Float[Tensor, "g ..."], refitted: Float[Tensor, "g ..."]) -> Tensor:
        """The standard error of what was made of `leave_out`."""
        of_given = standard_error(whole, given, self.measured_sizes).square()
        of_both = standard_error(whole, refitted, self.measured_sizes + self.fitted_sizes).square()
        return ((of_given + torch.maximum(of_both, of_given)) / 2).sqrt()

    def estimate(self, statistic: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
        """`statistic` of the sums, and its standard error over images."""
        whole, given, refitted = self.leave_out(statistic)
        return whole, self.error(whole, given, refitted)

    @property
    def degrees_of_freedom(self) -> int:
        """Of the standard errors."""
        return max(len(self.measured_sizes) - 1, 0)
