"""Does a prediction find its own target among other patches? The local contrast that lcmae makes
explicit.

Scores compare s predictions with c candidates, and `own` names each prediction's true target among
them. Both kinds of score agree for vectors of length 1: cosine, and -|p - t|^2 / (2 mean |t|^2),
which is what a squared-error loss contrasts.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.shapes import Float, Int

Similarity = Literal["cosine", "distance"]
SIMILARITIES: tuple[Similarity, ...] = ("cosine", "distance")
TIE = 1e-9
"""Scores this close are equal: equal candidates differ by the rounding of float64."""


def scores(
    pred: Float[Tensor, "b s p"], target: Float[Tensor, "b c p"], similarity: Similarity
) -> Float[Tensor, "b s c"]:
    """How alike each prediction and each candidate are, in float64; higher is more alike."""
    pred, target = pred.double(), target.double()
    if similarity == "cosine":
        return F.normalize(pred, dim=-1) @ F.normalize(target, dim=-1).transpose(1, 2)
    scale = target.square().sum(-1).mean(-1)[:, None, None]
    squared = torch.cdist(pred, target, compute_mode="donot_use_mm_for_euclid_dist").square()
    return -squared / (2 * torch.where(scale > 0, scale, 1.0))


def top1(score: Float[Tensor, "b s c"], own: Int[Tensor, " s"]) -> Float[Tensor, "b s"]:
    """1 where a prediction's own target has the best score, shared among ties (identical patches),
    else 0."""
    best = score.amax(-1, keepdim=True)
    is_best = score >= best - TIE * (1 + best.abs())
    return is_best[:, torch.arange(len(own)), own].double() / is_best.sum(-1)


def info_nce(score: Float[Tensor, "b s c"], own: Int[Tensor, " s"], temperature: float) -> Float[Tensor, "b s"]:
    """-log softmax of the own target's score / temperature among all candidates (van den Oord et
    al., 1807.03748), in nats."""
    return -(score / temperature).log_softmax(-1)[:, torch.arange(len(own)), own]


def score_retrieval(
    pred: Float[Tensor, "b s p"], target: Float[Tensor, "b c p"], own: Int[Tensor, " s"], temperature: float
) -> Float[Tensor, "b s 2 2"]:
    """Both measures (top-1, InfoNCE) by both similarities (cosine, distance), last two axes
    [similarity measure]."""
    rows = []
    for similarity in SIMILARITIES:
        score = scores(pred, target, similarity)
        rows.append(torch.stack([top1(score, own), info_nce(score, own, temperature)], dim=-1))
    return torch.stack(rows, dim=-2)


def chance(num_candidates: int) -> tuple[float, float]:
    """Top-1 and InfoNCE of scores that say nothing: 1/c and log c."""
    return 1 / num_candidates, math.log(num_candidates)
