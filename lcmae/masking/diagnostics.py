"""What is a mask strategy like, before any model? Numbers from masks alone, on grids of patches;
the definitions are ours.

Neighbours are the 4 that share a side, and the grid does not wrap round. Lengths are in patches,
entropies in bits.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.masking.base import MaskStrategy
from lcmae.patches import Grid
from lcmae.shapes import Bool, Float, Int


@dataclass(frozen=True)
class MaskDiagnostics:
    """Averages over `num_masks` masks of one strategy on one grid."""

    kind: str
    """The strategy's name."""

    num_masks: int
    """Masks that were drawn."""

    ratio: float
    """Realised masking ratio: the hidden share of all patches of all masks."""

    coverage: Float[Tensor, "rows columns"]
    """Each patch's chance to be hidden: the share of masks that hide it; float64."""

    coverage_error: float
    """Standard error of one patch's coverage if all patches had the same chance: sqrt(ratio (1 -
    ratio) / num_masks)."""

    visible_region: float
    """Mean size of the connected regions of visible patches, every region of every mask counted
    once (patches)."""

    boundary_share: float
    """Share of the hidden patches that have a visible neighbour."""

    distance: float
    """Mean distance from a hidden patch's centre to the nearest visible patch's centre, Euclidean
    (patches)."""

    coverage_entropy: float
    """Mean over patches of the entropy of being hidden, as a share of that at `ratio`: 1 for even
    coverage, 0 for a fixed mask."""

    local_entropy: float
    """Entropy of a patch being hidden given its left and upper neighbours, pooled over positions
    and masks (bits a patch)."""

    def row(self) -> dict[str, str | int | float]:
        """One row of a table: numbers only, the coverage map as its smallest and largest value."""
        return {
            "mask": self.kind,
            "ratio": self.ratio,
            "coverage min": float(self.coverage.min()),
            "coverage max": float(self.coverage.max()),
            "coverage s.e.": self.coverage_error,
            "visible region (patches)": self.visible_region,
            "boundary share": self.boundary_share,
            "distance (patches)": self.distance,
            "coverage entropy (share)": self.coverage_entropy,
            "local entropy (bits)": self.local_entropy,
        }


def diagnose(
    strategy: MaskStrategy,
    grid: Grid,
    num_masks: int,
    rng: torch.Generator,
    images: Float[Tensor, "i c h w"] | None = None,
) -> MaskDiagnostics:
    """Draw `num_masks` masks and measure them. Content-guided strategies want `images`, pixels in
    [0, 1]."""
    if num_masks < 1:
        raise InputError(f"expected at least one mask to diagnose, got {num_masks}")
    return describe(
        strategy(num_masks, grid, rng, images=images), grid, getattr(strategy, "kind", type(strategy).__name__)
    )


def describe(mask: Mask, grid: Grid, kind: str = "mask") -> MaskDiagnostics:
    """Measure masks that are already drawn. Time linear in masks."""
    if mask.num_patches != grid[0] * grid[1] or not len(mask):
        raise InputError(f"expected masks of a {grid[0]}x{grid[1]} grid, got {len(mask)} of {mask.num_patches} patches")
    hidden = rearrange(mask.is_hidden, "b (r c) -> b r c", r=grid[0])
    coverage = hidden.double().mean(0)
    ratio = float(coverage.mean())
    return MaskDiagnostics(
        kind=kind,
        num_masks=len(mask),
        ratio=ratio,
        coverage=coverage,
        coverage_error=math.sqrt(ratio * (1 - ratio) / len(mask)),
        visible_region=mean_region(~hidden),
        boundary_share=boundary_share(hidden),
        distance=mean_distance(hidden),
        coverage_entropy=float(_entropy(coverage).mean() / _entropy(coverage.mean())) if 0 < ratio < 1 else 0.0,
        local_entropy=local_entropy(hidden),
    )


def diagnostics_table(
    strategies: Iterable[MaskStrategy], grid: Grid, num_masks: int, seed: int
) -> list[dict[str, str | int | float]]:
    """One row a strategy, each drawn with a generator of the same seed; strategies that need images
    are refused."""
    return [diagnose(strategy, grid, num_masks, torch.Generator().manual_seed(seed)).row() for strategy in strategies]


def regions(present: Bool[Tensor, "b rows columns"]) -> Int[Tensor, "b rows columns"]:
    """Label connected regions: each present patch gets the smallest raster index of its region,
    absent ones n."""
    rows, columns = present.shape[1:]
    absent = rows * columns
    index = torch.arange(absent, device=present.device).view(rows, columns)
    label = torch.where(present, index, absent)
    # the smallest label spreads to neighbours until nothing changes
    while True:
        spread = torch.nn.functional.pad(label, (1, 1, 1, 1), value=absent)
        nearby = torch.stack(
            [label, spread[:, :-2, 1:-1], spread[:, 2:, 1:-1], spread[:, 1:-1, :-2], spread[:, 1:-1, 2:]]
        )
        spread = torch.where(present, nearby.amin(0), absent)
        if torch.equal(spread, label):
            return label
        label = spread


def mean_region(present: Bool[Tensor, "b rows columns"]) -> float:
    """Mean size of connected regions, in patches; 0 where nothing is present."""
    index = torch.arange(present[0].numel(), device=present.device).view(present.shape[1:])
    num_regions = int((regions(present) == index).sum())
    return int(present.sum()) / num_regions if num_regions else 0.0


def boundary_share(hidden: Bool[Tensor, "b rows columns"]) -> float:
    """Share of hidden patches with a visible neighbour; beyond the border there is none. 0 where
    nothing is hidden."""
    visible = torch.nn.functional.pad(~hidden, (1, 1, 1, 1), value=False)
    beside = visible[:, :-2, 1:-1] | visible[:, 2:, 1:-1] | visible[:, 1:-1, :-2] | visible[:, 1:-1, 2:]
    return float((beside & hidden).sum() / hidden.sum().clamp(min=1))


def mean_distance(hidden: Bool[Tensor, "b rows columns"]) -> float:
    """Mean over hidden patches of the distance to the nearest visible one, in patches; masks
    without either are left out."""
    rows, columns = hidden.shape[1:]
    position = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(hidden.device, torch.float32)
    between = torch.cdist(position, position, compute_mode="donot_use_mm_for_euclid_dist")
    total, count = 0.0, 0
    # n x n distances a mask: a bounded number of masks at a time
    for part in rearrange(hidden, "b r c -> b (r c)").split(max(1, 2**24 // (rows * columns) ** 2)):
        part = part[~part.all(1)]
        nearest = torch.where(part[:, None, :], torch.inf, between).amin(2)
        total += float(nearest[part].double().sum())
        count += int(part.sum())
    return total / count if count else 0.0


def local_entropy(hidden: Bool[Tensor, "b rows columns"]) -> float:
    """H(hidden | left, upper) from counts pooled over masks and over the positions that have both
    neighbours, in bits.

    For independent patches the entropy of a coin at the ratio; 0 where the neighbours decide, as on
    a checkerboard, and on grids of one line.
    """
    left, upper, own = hidden[:, 1:, :-1], hidden[:, :-1, 1:], hidden[:, 1:, 1:]
    count = torch.bincount((4 * left + 2 * upper + 1 * own).flatten(), minlength=8).double().view(4, 2)
    context = count.sum(1)
    share = count[:, 1] / context.clamp(min=1)
    return float((context * _entropy(share)).sum() / context.sum().clamp(min=1))


def _entropy(chance: Tensor) -> Tensor:
    """Entropy of a coin, in bits."""
    return (torch.special.entr(chance) + torch.special.entr(1 - chance)) / math.log(2)
