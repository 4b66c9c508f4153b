"""k-means of tokens, and how much the clusters tell of known groups."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.shapes import Float, Int

RESTARTS = 3
MOST_STEPS = 50
CHUNK = 8192
"""Tokens that are compared with all centres at one time."""


def kmeans(tokens: Float[Tensor, "s d"], num_clusters: int, rng: torch.Generator) -> Int[Tensor, " s"]:
    """The cluster of each token, numbered by falling size: Lloyd's algorithm on tokens of length 1
    from the best of three k-means++ starts (Arthur and Vassilvitskii, 2007). At most as many
    clusters as there are different tokens."""
    unit = F.normalize(tokens.float(), dim=-1)
    best, least = torch.zeros(len(unit), dtype=torch.int64), math.inf
    for _ in range(RESTARTS):
        clusters, error = _lloyd(unit, _starts(unit, num_clusters, rng))
        if error < least:
            best, least = clusters, error
    order = best.bincount(minlength=num_clusters).argsort(descending=True, stable=True)
    return order.argsort()[best]


def _starts(unit: Float[Tensor, "s d"], num_clusters: int, rng: torch.Generator) -> Float[Tensor, "k d"]:
    """Tokens drawn in proportion to their squared distance from those that were drawn."""
    first = torch.randint(len(unit), (1,), generator=rng)
    centres, nearest = [unit[first]], (unit - unit[first]).square().sum(1)
    for _ in range(num_clusters - 1):
        nearest = torch.where(nearest > 1e-9, nearest, 0.0)
        if not bool(nearest.any()):
            break  # every token is a centre
        # of cumulative sums: a draw by weights is limited in its number of weights
        up_to = nearest.double().cumsum(0)
        drawn = torch.searchsorted(up_to, torch.rand(1, generator=rng, dtype=torch.float64) * up_to[-1])
        drawn = drawn.clamp(max=len(unit) - 1)
        centres.append(unit[drawn])
        nearest = torch.minimum(nearest, (unit - unit[drawn]).square().sum(1))
    return torch.cat(centres)


def _lloyd(unit: Float[Tensor, "s d"], centres: Float[Tensor, "k d"]) -> tuple[Int[Tensor, " s"], float]:
    clusters = torch.full((len(unit),), -1)
    error = math.inf
    for _ in range(MOST_STEPS):
        distance = [torch.cdist(part, centres).square().min(1) for part in unit.split(CHUNK)]
        now, error = torch.cat([part.indices for part in distance]), float(sum(part.values.sum() for part in distance))
        if torch.equal(now, clusters):
            break
        clusters = now
        sums = torch.zeros_like(centres).index_add_(0, clusters, unit)
        sizes = clusters.bincount(minlength=len(centres))
        # a centre that lost all its tokens stays where it was
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    return clusters, error


def adjusted_information(counts: Float[Tensor, "k c"]) -> Float[Tensor, ""]:
    """Mutual information of clusters and groups, adjusted for chance, from how many tokens are of
    both (Vinh et al., 2010; the mean of the entropies as upper end): 0 for clusters that tell
    nothing, 1 for the groups themselves. NaN where there is one group."""
    table = counts.round().numpy().astype(np.int64)
    if (table.sum(0) > 0).sum() < 2:
        return torch.full((), torch.nan, dtype=torch.float64)
    from sklearn.metrics import adjusted_mutual_info_score

    cells = np.argwhere(table > 0)
    repeats = table[table > 0]
    groups, clusters = np.repeat(cells[:, 1], repeats), np.repeat(cells[:, 0], repeats)
    return torch.tensor(float(adjusted_mutual_info_score(groups, clusters)), dtype=torch.float64)


def contingency(
    clusters: Int[Tensor, "b n"], groups: Int[Tensor, "b n"], num_clusters: int, num_groups: int
) -> Float[Tensor, "b k c"]:
    """How many tokens of each image are of both a cluster and a group; group -1 is left out."""
    cell = clusters * (num_groups + 1) + groups + 1
    counts = torch.zeros(len(clusters), num_clusters * (num_groups + 1), dtype=torch.float64)
    counts.scatter_add_(1, cell, torch.ones(cell.shape, dtype=torch.float64))
    return counts.unflatten(1, (num_clusters, num_groups + 1))[..., 1:]
