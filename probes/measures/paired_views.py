"""Vectors of an image under K masks, paired with each other and with those of another image, by
overlap of what was visible.

The baseline of every alignment is another image: image i is paired with image i - 1 at the same
patch, under the masks of equal number. So what position alone makes alike shows in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import xarray as xr
from einops import rearrange
from torch import Tensor

from lcmae.probes.measures.alignment import Alignment, PairsOfVectors
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.shapes import Bool, Float, Int

PAIRS = ("same_image", "other_image")
CENTRINGS = ("raw", "centred")


@dataclass(frozen=True)
class Views:
    """One kind of vector of each image under its K masks: [b k s d], and which of the s count."""

    vectors: Float[Tensor, "b k s d"]
    counts: Bool[Tensor, "b k s"]
    shown: Bool[Tensor, "b k n"]
    """What each mask shows: decides the overlap of a pair."""

    def __getitem__(self, images: slice) -> "Views":
        return Views(self.vectors[images], self.counts[images], self.shown[images])

    def after(self, last: "Views") -> "Views":
        """These images behind the last ones of the batch before."""
        return Views(
            torch.cat([last.vectors, self.vectors]),
            torch.cat([last.counts, self.counts]),
            torch.cat([last.shown, self.shown]),
        )


class PairedViews:
    """Cosine and correlation of pairs of vectors of each quantity: two masks of an image, and two
    images."""

    def __init__(self, quantities: Sequence[str], num_images: int, num_bins: int) -> None:
        self.quantities, self.num_bins = tuple(quantities), num_bins
        self.alignments = {name: Alignment(num_images, num_bins, PAIRS) for name in self.quantities}
        self._last: dict[str, Views] = {}

    def add(self, name: str, view: Views, indices: range) -> None:
        """Take in one batch's vectors of a quantity. A pair counts where both of its sides do."""
        alignment = self.alignments[name]
        vectors = rearrange(view.vectors, "b k s d -> b (k s) d")
        alignment.see(indices, vectors, rearrange(view.counts, "b k s -> b (k s)").double())
        alignment.add("same_image", indices, self._under_two_masks(view))

        # every image but the very first has one before it, if need be in the last batch
        row = view.after(self._last[name]) if name in self._last else view
        self._last[name] = view[-1:]
        if len(row.vectors) > 1:
            alignment.add("other_image", indices[1 - len(row.vectors) :], self._with_image_before(row[1:], row[:-1]))

    def _under_two_masks(self, view: Views) -> PairsOfVectors:
        for first, second in combinations(range(view.shown.shape[1]), 2):
            bins = self._bins(view.shown[:, first], view.shown[:, second])
            both = view.counts[:, first] & view.counts[:, second]
            yield view.vectors[:, first], view.vectors[:, second], both, bins

    def _with_image_before(self, view: Views, before: Views) -> PairsOfVectors:
        for mask in range(view.shown.shape[1]):
            bins = self._bins(view.shown[:, mask], before.shown[:, mask])
            both = view.counts[:, mask] & before.counts[:, mask]
            yield view.vectors[:, mask], before.vectors[:, mask], both, bins

    def _bins(self, first: Bool[Tensor, "b n"], second: Bool[Tensor, "b n"]) -> Int[Tensor, " b"]:
        # in whole numbers, so that an overlap on an edge does not fall by rounding
        shared, visible = (first & second).sum(1), first.sum(1)
        return (shared * self.num_bins // visible).clamp(max=self.num_bins - 1)

    def variables(self) -> dict[str, xr.Variable]:
        """`alignment` by (quantity, pair, centring), by overlap too, with standard errors; and
        `num_pairs`."""
        shape = len(self.quantities), len(PAIRS)
        found = [self.alignments[name].result(pair) for name in self.quantities for pair in PAIRS]
        # [quantity pair centring overlap], the last place of which holds all bins together
        value, sem = (torch.stack(part).unflatten(0, shape) for part in zip(*found, strict=True))
        count = torch.stack([self.alignments[name].num_pairs(pair) for name in self.quantities for pair in PAIRS])
        dims = ("quantity", "pair", "centring")
        name = "cosine of two vectors (centred: correlation)"
        degrees = self.alignments[self.quantities[0]].degrees_of_freedom
        return {
            "alignment": variable(dims, value[..., -1], name),
            "alignment_sem": error_of(dims, sem[..., -1], name, degrees=degrees, method="jackknife"),
            "alignment_by_overlap": variable((*dims, "overlap"), value[..., :-1], f"{name}, by overlap"),
            "alignment_by_overlap_sem": error_of(
                (*dims, "overlap"), sem[..., :-1], f"{name}, by overlap", degrees=degrees, method="jackknife"
            ),
            "num_pairs": variable(
                ("quantity", "pair", "overlap"), count[:, :-1].long().unflatten(0, shape), "pairs of vectors"
            ),
        }

    def coordinates(self) -> dict[str, object]:
        """Of those variables."""
        middles = [(index + 0.5) / self.num_bins for index in range(self.num_bins)]
        return {
            "quantity": list(self.quantities),
            "pair": list(PAIRS),
            "centring": list(CENTRINGS),
            "overlap": ("overlap", middles, _OVERLAP),
        }


_OVERLAP = {"long_name": "patches visible under both masks / visible patches (middle of the bin)", "units": "1"}
