"""Alignment and retrieval pair by pair."""

import math

import torch
from torch import Tensor


def alignment(
    vectors: Tensor, counts: Tensor, shown: Tensor, other_image: bool, num_bins: int
) -> dict[int, tuple[float, float, int]]:
    """Bin of overlap -> cosine, correlation and number of pairs; key -1 for all. Of [b k s d], [b k
    s] and [b k n]."""
    vectors = vectors.double()
    centre = vectors[counts].mean(0)
    pairs: dict[int, list[tuple[Tensor, Tensor]]] = {}
    num_images, num_masks, size = counts.shape
    for image in range(num_images):
        for mask in range(num_masks):
            partners = [(image, other) for other in range(mask)]
            if other_image:
                partners = [(image - 1, mask)] if image else []
            for there, other in partners:
                shared = int((shown[image, mask] & shown[there, other]).sum())
                index = min(shared * num_bins // int(shown[image, mask].sum()), num_bins - 1)
                for slot in range(size):
                    if counts[image, mask, slot] and counts[there, other, slot]:
                        pair = vectors[image, mask, slot], vectors[there, other, slot]
                        pairs.setdefault(index, []).append(pair)
                        pairs.setdefault(-1, []).append(pair)
    return {index: (*_alike(some, centre), len(some)) for index, some in pairs.items()}


def _alike(pairs: list[tuple[Tensor, Tensor]], centre: Tensor) -> tuple[float, float]:
    cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in pairs]
    product = sum(float((a - centre) @ (b - centre)) for a, b in pairs)
    square = sum(float((a - centre).square().sum() + (b - centre).square().sum()) / 2 for a, b in pairs)
    return sum(cosines) / len(cosines), product / square


def retrieval(pred: Tensor, target: Tensor, similarity: str, temperature: float) -> tuple[list[float], list[float]]:
    """Credit and InfoNCE of each prediction, whose own target is the one of the same index."""
    scale = float(target.double().square().sum(-1).mean())
    credits, losses = [], []
    for own, guess in enumerate(pred.double()):
        found = []
        for candidate in target.double():
            if similarity == "cosine":
                found.append(float(torch.cosine_similarity(guess, candidate, dim=0)))
            else:
                found.append(-float((guess - candidate).square().sum()) / (2 * scale))
        best = max(found)
        winners = [index for index, value in enumerate(found) if value > best - 1e-9]
        credits.append(1 / len(winners) if own in winners else 0.0)
        total = sum(math.exp(value / temperature) for value in found)
        losses.append(-math.log(math.exp(found[own] / temperature) / total))
    return credits, losses
