"""Similarity of geometries by definition: U-statistics over tuples, scipy's Spearman and optimal
matching, loops."""

import math
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr
from torch import Tensor


def hsic(first: Tensor, second: Tensor) -> float:
    """Mean over all tuples of four different points of k_ij (l_ij + l_qr - 2 l_iq), linear kernels
    of [s d] points."""
    one, two = (points.double() @ points.double().T for points in (first, second))
    terms = [
        float(one[i, j] * (two[i, j] + two[q, r] - 2 * two[i, q])) for i, j, q, r in permutations(range(len(first)), 4)
    ]
    return sum(terms) / len(terms)


def cka(first: Tensor, second: Tensor) -> float:
    """Minibatch CKA of sets [g s d]."""

    def mean(one: Tensor, two: Tensor) -> float:
        return sum(hsic(*pair) for pair in zip(one, two, strict=True)) / len(one)

    return mean(first, second) / math.sqrt(mean(first, first) * mean(second, second))


def rsa(first: Tensor, second: Tensor) -> float:
    """Of points [s d]."""
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    one, two = (
        [float((points[i].double() - points[j].double()).norm()) for i, j in pairs] for points in (first, second)
    )
    return float(np.asarray(spearmanr(one, two))[0])


def mutual_neighbours(first: Tensor, second: Tensor, num_neighbours: int) -> float:
    """Of points [s d]."""
    shares = []
    for own in range(len(first)):
        near = []
        for points in (first, second):
            others = [i for i in range(len(points)) if i != own]
            others.sort(key=lambda i: float((points[own].double() - points[i].double()).norm()))
            near.append(set(others[:num_neighbours]))
        shares.append(len(near[0] & near[1]) / num_neighbours)
    return sum(shares) / len(shares)


def sliced_wasserstein(first: Tensor, second: Tensor, directions: Tensor) -> float:
    """By the cheapest matching along each direction, not by sorting."""
    costs = []
    for direction in directions.double().T:
        one, two = (np.asarray(points.double() @ direction) for points in (first, second))
        cost = (one[:, None] - two[None]) ** 2
        costs.append(cost[linear_sum_assignment(cost)].mean())
    return math.sqrt(sum(costs) / len(costs))


def gram_gap(first: Tensor, second: Tensor) -> float:
    own, true = (points.double() @ points.double().T for points in (first, second))
    return float((own - true).norm() / true.norm())
