"""Attributions from their definitions: every coalition, every order; plain Python and numpy."""

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np

Score = Callable[[np.ndarray], float]
"""Of a vector that says how far each feature is there, between 0 and 1."""


def ablation(score: Score, size: int) -> list[float]:
    """What is lost with each feature alone taken away."""
    whole = np.ones(size)
    return [score(whole) - score(np.where(np.arange(size) == feature, 0.0, 1.0)) for feature in range(size)]


def shapley(score: Score, size: int) -> list[float]:
    """Mean gain of each feature over all orders in which features can come."""
    gains = np.zeros(size)
    for order in permutations(range(size)):
        there = np.zeros(size)
        for feature in order:
            before = score(there)
            there[feature] = 1
            gains[feature] += score(there) - before
    return list(gains / math.factorial(size))


def integrated_gradients(score: Score, size: int, nodes: int, width: float = 1e-4) -> list[float]:
    """The integral along the diagonal, slopes by central differences."""
    total = np.zeros(size)
    for node, weight in zip(*np.polynomial.legendre.leggauss(nodes), strict=True):
        at = np.full(size, (node + 1) / 2)
        for feature in range(size):
            up, down = at.copy(), at.copy()
            up[feature] += width
            down[feature] -= width
            total[feature] += weight / 2 * (score(up) - score(down)) / (2 * width)
    return list(total)


def curve(score: Score, attribution: list[float], steps: list[int], *, insertion: bool) -> list[float]:
    """The score from no feature (0) to all (1), as so many of the first are taken away or put
    back."""
    size = len(attribution)
    order = sorted(range(size), key=lambda feature: -attribution[feature])
    nothing, whole = score(np.zeros(size)), score(np.ones(size))
    found = []
    for number in steps:
        there = np.zeros(size) if insertion else np.ones(size)
        there[order[:number]] = 1.0 if insertion else 0.0
        found.append((score(there) - nothing) / (whole - nothing))
    return found


def area(values: list[float], steps: list[int]) -> float:
    """Trapezia under a curve over [0, 1]."""
    return sum(
        (values[at] + values[at + 1]) / 2 * (steps[at + 1] - steps[at]) / steps[-1] for at in range(len(steps) - 1)
    )
