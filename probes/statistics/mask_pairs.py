"""The four contrast terms as estimates of what infinitely many masks would give, by pairs of
different masks.

The exact terms (`lcmae.contrast`) depend on K, the number of masks, and on the ratio: with few
masks noise of the mask counts as structure of the image. Their limit for K -> infinity at the same
ratio is estimated without bias from products of residuals under *different* masks, which are
independent whatever happens within one; lcmae's own derivation. With S_bi = sum_k m e, n_bi =
sum_k m, s_bk = sum_i m e, S_b = sum_k s_bk, M patches hidden in each mask, and all squares per
value:

    I = sum_bi (Q_bi - |S_bi|^2 / n_bi) / sum_bi (n_bi - 1)+              Q_bi = sum_k m |e|^2
    R = 1/B sum_b (|S_b|^2 - sum_k |s_bk|^2) / (K (K - 1) M^2)           of |image's own mean|^2
    U = (|sum_b e_b|^2 - sum_b |e_b|^2) / (B (B - 1))                     of |mean of all|^2

    invariance = I,  local = loss - I - R,  global = R - U,  offset = U

so that the four add up to the loss identically. They may come out negative, which is noise and is
not clipped: clipping would bring a bias back. Where patches are hidden with different chances
(blocks at the edges), I is taken position by position and weighted with how often each was hidden.

Conditions: K >= 2 independent masks of one size for each image, drawn for each image apart
(`offset` and `global_consistency` compare images). NaN where no patch of any image was hidden
twice; `offset` and `global_consistency` are NaN of a single image. Errors: jackknife over groups of
images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.shapes import Bool, Float

GROUPS = 32
"""Groups of images of the jackknife: its intervals are hardly wider than those of a plain mean."""

UNSEEN = "no patch was hidden under two masks of an image: take more masks (num_masks) or more images"
"""Why estimates are NaN."""

ONE_IMAGE = "a single image says nothing of the differences between images, and has no error"
"""Why estimates are NaN."""


@dataclass(frozen=True)
class Estimate:
    """Numbers, their standard errors over images, and the numbers without each group of images."""

    value: Tensor
    sem: Tensor
    without: Tensor


class MaskPairs:
    """Sums by group of images; the estimates are functions of them, in time and memory linear in
    images x masks x patches and constant in images."""

    def __init__(self, num_images: int, *, even: bool = True) -> None:
        self.even = even
        """Whether masks hide every patch with the same chance."""
        self.sums = GroupedSums(num_images, GROUPS)
        self.seen = 0

    def add(
        self, pred: Float[Tensor, "b k n p"], target: Float[Tensor, "b n p"], hidden: Bool[Tensor, "b k n"]
    ) -> None:
        """Take in a batch: residuals of the hidden patches count (of tokens: `hidden` says which
        are there)."""
        pred, target = pred.double(), target.double()
        num_masks, num_values = pred.shape[1], pred.shape[-1]
        # zero where not hidden, so that nothing visible leaks in (a product would let NaN through)
        residual = torch.where(hidden[..., None], pred - target[:, None], 0.0)
        count = hidden.sum(1).double()  # n_bi [b n]
        of_cell = residual.sum(1)  # S_bi [b n p]
        of_mask = residual.sum(2)  # s_bk [b k p]
        of_image = of_cell.sum(1)  # S_b [b p]
        mean_cell = of_cell / count.clamp(min=1)[..., None]
        off = torch.where(hidden[..., None], residual - mean_cell[:, None], 0.0)
        per_mask = count.sum(1) / num_masks  # M [b]
        mean = of_image / count.sum(1, keepdim=True)
        other = of_image[:, None] - of_mask  # what the other masks of the image add up to [b k p]
        towards = torch.einsum("b k n p, b k p -> b n", residual, other) / ((num_masks - 1) * per_mask)[:, None]
        square = 1 / num_values
        self.sums.add(
            range(self.seen, self.seen + len(pred)),
            images=torch.ones(len(pred)),
            count=count,
            freedom=(count - 1).clamp(min=0),
            square=residual.square().sum((1, 3)) * square,
            within=off.square().sum((1, 3)) * square,
            towards=towards * square,
            cross=(of_mask * other).sum((1, 2)) / (num_masks * (num_masks - 1) * per_mask.square()) * square,
            mean=mean * square**0.5,
            mean_size=mean.square().sum(1) * square,
        )
        self.seen += len(pred)

    @property
    def degrees_of_freedom(self) -> int:
        """Of the standard errors."""
        return self.sums.degrees_of_freedom

    @property
    def sizes(self) -> Float[Tensor, " g"]:
        """Images in each group that was left out."""
        return self.sums.filled_sizes

    def terms(self) -> Estimate:
        """[4], in the order of `lcmae.contrast.TERMS`."""
        return self._estimate(self._terms)

    def shares(self) -> Estimate:
        """[3]: invariance, local and global of what they add up to (of tokens: mask, patch,
        image)."""

        def shares(sums: dict[str, Tensor]) -> Tensor:
            own = self._terms(sums)[:3]
            return own / own.sum()

        return self._estimate(shares)

    def invariance_map(self) -> Estimate:
        """[n]; NaN where a position was hidden twice in no image."""
        return self._estimate(_invariance)

    def local_map(self) -> Estimate:
        """[n]: the mean square of each position's deviation from its image's mean."""

        def local(sums: dict[str, Tensor]) -> Tensor:
            count = sums["count"]
            own = sums["cross"] / sums["images"]
            return sums["square"] / count - _invariance(sums) - 2 * sums["towards"] / count + own

        return self._estimate(local)

    def _estimate(self, statistic: Callable[[dict[str, Tensor]], Tensor]) -> Estimate:
        value, without = self.sums.leave_out(statistic)
        return Estimate(value, self.sums.error(value, without), without)

    def _terms(self, sums: dict[str, Tensor]) -> Tensor:
        images, count = sums["images"], sums["count"]
        loss = sums["square"].sum() / count.sum()
        if self.even:
            invariance = _divided(sums["within"].sum(), sums["freedom"].sum())
        else:
            seen = count > 0
            invariance = (count * _invariance(sums))[seen].sum() / count.sum()
        of_images = sums["cross"] / images
        offset = _divided(sums["mean"].square().sum() - sums["mean_size"], images * (images - 1))
        return torch.stack([invariance, loss - invariance - of_images, of_images - offset, offset])


def _invariance(sums: dict[str, Tensor]) -> Tensor:
    """By position."""
    return _divided(sums["within"], sums["freedom"])


def _divided(total: Tensor, count: Tensor) -> Tensor:
    return total / torch.where(count > 0, count, torch.nan)
