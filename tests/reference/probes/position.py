"""Position in tokens from the definitions, a position and a component at a time; numpy only."""

import math

import numpy as np


def semantic_invariance(real: np.ndarray, plain: np.ndarray, direction: np.ndarray, mean: np.ndarray) -> float:
    """SOAP's score (Hjelkrem-Tan et al., 2604.00172) of one direction for tokens [s n d] of real
    and of plain images."""
    scores = []
    for position in range(real.shape[1]):
        p = np.mean([(token - mean) @ direction > 0 for token in real[:, position]])
        q = np.mean([(token - mean) @ direction > 0 for token in plain[:, position]])
        together = p * q + (1 - p) * (1 - q)
        scores.append(2 * together / (math.hypot(p, 1 - p) + math.hypot(q, 1 - q)))
    return float(np.mean(scores))


def soap(token: np.ndarray, directions: np.ndarray, scores: np.ndarray, most: int) -> np.ndarray:
    """One token without its most invariant directions (columns)."""
    order = sorted(range(len(scores)), key=lambda component: -scores[component])
    found = token.copy()
    for rank, component in enumerate(order):
        weight = scores[component] / (1 + math.exp(-(most - 0.5 - rank) / 0.05))
        found = found - weight * (token @ directions[:, component]) * directions[:, component]
    return found


def same_position(tokens: np.ndarray, image: int, position: int, neighbours: int) -> float:
    """Share of the nearest patches of other images, by cosine, at the same position."""
    own = tokens[image, position]
    others = [
        (float(own @ other / np.linalg.norm(own) / np.linalg.norm(other)), at)
        for number, image_tokens in enumerate(tokens)
        if number != image
        for at, other in enumerate(image_tokens)
    ]
    nearest = sorted(others, key=lambda pair: -pair[0])[:neighbours]
    return float(np.mean([at == position for _, at in nearest]))
