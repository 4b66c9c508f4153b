"""How much of patch tokens is position: scores of directions, and tokens without them. Pure
functions of tokens [s n d], s images, n patches, d width.

Sources: the semantic-invariance score and its projection are SOAP's (Hjelkrem-Tan et al., CVPR
2026, 2604.00172): of a principal component d with P_dn, the chance that the token at position n
lies on its upper side for real images, and Q_dn, the same for images without objects,

    s_d = mean_n 2 (P Q + (1 - P)(1 - Q)) / (sqrt(P^2 + (1-P)^2) + sqrt(Q^2 + (1-Q)^2)),

1 where a position has the same sign whatever the image shows. A component that says nothing (P = Q
= 1/2) scores 1 / sqrt 2 = 0.707 (`FLOOR`; our remark): the paper's threshold of 0.75 lies close
above nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.probes.measures import ridge
from lcmae.shapes import Bool, Float, Int

FLOOR = math.sqrt(0.5)
"""The score of a component that knows neither position nor content."""

THRESHOLD = 0.75
"""Above it the paper counts a component as positional."""

TEMPERATURE = 0.05
"""Of the step in the projection's weights, as in SOAP's code."""


@dataclass(frozen=True)
class Components:
    """Principal components of tokens about their mean."""

    mean: Float[Tensor, " d"]
    vectors: Float[Tensor, "d c"]
    """Orthonormal columns, by falling variance."""
    variance: Float[Tensor, " c"]


def principal(tokens: Float[Tensor, "s n d"]) -> Components:
    """All components of the tokens of all images and positions."""
    rows = tokens.flatten(0, 1).double()
    mean = rows.mean(0)
    rows = rows - mean
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    return Components(mean, vectors.flip(1), values.flip(0).clamp(min=0))


def upper_side(tokens: Float[Tensor, "s n d"], components: Components, count: int) -> Bool[Tensor, "s n c"]:
    """Whether a token lies above the mean along each of the first components."""
    vectors = components.vectors[:, :count]
    return tokens.double() @ vectors > components.mean @ vectors


def semantic_invariance(real: Float[Tensor, "... n c"], plain: Float[Tensor, "... n c"]) -> Float[Tensor, "... c"]:
    """The score of each component from its chances of the upper side at each position."""
    together = real * plain + (1 - real) * (1 - plain)
    lengths = (real.square() + (1 - real).square()).sqrt() + (plain.square() + (1 - plain).square()).sqrt()
    return (2 * together / lengths).mean(-2)


def soap(
    tokens: Float[Tensor, "s n d"], components: Components, scores: Float[Tensor, " c"], most: int
) -> Float[Tensor, "s n d"]:
    """Tokens without their most invariant components: `I - V W V^T` on tokens that are not centred,
    `w_d = s_d sigmoid((most - 1/2 - rank) / temperature)`, ranks counted from 0."""
    rank = scores.argsort(descending=True).argsort().double()
    weight = scores * torch.sigmoid((most - 0.5 - rank) / TEMPERATURE)
    return without(tokens, components.vectors[:, : len(scores)], weight)


def without(
    tokens: Float[Tensor, "s n d"], vectors: Float[Tensor, "d c"], weight: Float[Tensor, " c"]
) -> Float[Tensor, "s n d"]:
    """Tokens less a share of what they are along each direction."""
    tokens = tokens.double()
    return tokens - (tokens @ vectors * weight) @ vectors.T


def decodability(
    train: Float[Tensor, "s n d"], test: Float[Tensor, "t n d"], grid: tuple[int, int], seed: int
) -> Float[Tensor, " t"]:
    """R2 of row and column read off each token by ridge regression, one value an image of `test`:
    1 - squared error / variance of positions, over both coordinates."""
    where = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).double()
    about = where - where.mean(0)
    fitted = ridge.fit(train.flatten(0, 1), about.repeat(len(train), 1), torch.zeros(2, dtype=torch.long), seed)
    error = (fitted(test.flatten(0, 1)).unflatten(0, test.shape[:2]) - about).square().sum((1, 2))
    return 1 - error / about.square().sum().clamp(min=1e-12)


@dataclass(frozen=True)
class Nearest:
    """What the nearest patches of other images are, a mean an image."""

    accuracy: Float[Tensor, " s"]
    """Share of patches whose neighbours' images vote for their image's class; NaN without
    labels."""
    same_position: Float[Tensor, " s"]
    """Share of neighbours that stand at the same position."""


def nearest(
    tokens: Float[Tensor, "s n d"], labels: Int[Tensor, " s"] | None, queries: Int[Tensor, "s q"], neighbours: int
) -> Nearest:
    """The patches of other images that are nearest to some patches, by cosine."""
    count, patches = tokens.shape[:2]
    unit = torch.nn.functional.normalize(tokens.float(), dim=-1)
    bank = unit.flatten(0, 1)
    accuracy = torch.full((count,), math.nan, dtype=torch.float64)
    same = torch.zeros(count, dtype=torch.float64)
    for image in range(count):
        cosine = unit[image, queries[image]] @ bank.T
        cosine[:, image * patches : (image + 1) * patches] = -math.inf
        found = cosine.topk(min(neighbours, (count - 1) * patches), dim=1).indices
        same[image] = (found % patches == queries[image][:, None]).double().mean()
        if labels is not None:
            votes = torch.nn.functional.one_hot(labels[found // patches], int(labels.max()) + 1).sum(1)
            accuracy[image] = (votes.argmax(1) == labels[image]).double().mean()
    return Nearest(accuracy, same)
