"""Ranks by their definitions: all vectors at once, singular values instead of moments, pairs by
loops."""

import math

import torch
from torch import Tensor


def entropy_rank(values: Tensor) -> float:
    shares = [float(value) / float(values.sum()) for value in values]
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def effective_rank(vectors: Tensor) -> float:
    return entropy_rank(torch.linalg.svdvals(vectors.double() - vectors.double().mean(0)).square())


def rankme(vectors: Tensor) -> float:
    return entropy_rank(torch.linalg.svdvals(vectors.double()))


def mean_squared_cosine(vectors: Tensor, with_itself: bool) -> float:
    cosines = [
        float(torch.cosine_similarity(a.double(), b.double(), dim=0)) ** 2
        for i, a in enumerate(vectors)
        for j, b in enumerate(vectors)
        if with_itself or i != j
    ]
    return sum(cosines) / len(cosines)


def lidar(views: Tensor, ridge: float) -> float:
    """Of views [b k d]: generalised eigenvalues of the scatter between images against that
    within."""
    views = views.double()
    num_images, num_views, width = views.shape
    centre = views.mean((0, 1))
    between, within = torch.zeros(width, width).double(), torch.zeros(width, width).double()
    for image in views:
        step = image.mean(0) - centre
        between += torch.outer(step, step) / num_images
        for view in image:
            step = view - image.mean(0)
            within += torch.outer(step, step) / (num_images * num_views)
    within += ridge * torch.eye(width)
    values, directions = torch.linalg.eigh(within)
    whiten = directions @ torch.diag(values.rsqrt()) @ directions.T
    return entropy_rank(torch.linalg.eigvalsh(whiten @ between @ whiten).clamp(min=0))


def alpha(values: Tensor, first: int, last: int) -> float:
    """Weighted least squares by its normal equations."""
    ranks = range(first, min(last, len(values)) + 1)
    rows = torch.tensor([[1.0, math.log(rank)] for rank in ranks], dtype=torch.float64)
    heights = torch.tensor([math.log(float(values[rank - 1])) for rank in ranks], dtype=torch.float64)
    weight = torch.diag(torch.tensor([1 / rank for rank in ranks], dtype=torch.float64))
    return -float(torch.linalg.solve(rows.T @ weight @ rows, rows.T @ weight @ heights)[1])


def two_nn(points: Tensor, discard: float = 0.1) -> float:
    """Facco et al.'s line through the origin, point by point."""
    ratios = []
    for i, point in enumerate(points.double()):
        near = sorted(float((point - other).norm()) for j, other in enumerate(points.double()) if j != i)
        ratios.append(math.log(near[1] / near[0]))
    ratios.sort()
    count = len(ratios)
    retained = [(x, -math.log(1 - (i + 1) / count)) for i, x in enumerate(ratios[: int(count * (1 - discard))])]
    return sum(x * y for x, y in retained) / sum(x * x for x, _ in retained)


def wang_isola(vectors: Tensor) -> float:
    unit = torch.nn.functional.normalize(vectors.double(), dim=-1)
    values = [
        math.exp(-2 * float((unit[i] - unit[j]).square().sum()))
        for i in range(len(unit))
        for j in range(i + 1, len(unit))
    ]
    return math.log(sum(values) / len(values))


def jackknife(groups: list[Tensor], statistic) -> float:
    """Standard error by leaving out groups of equal size, the textbook form."""
    without = [statistic(torch.cat(groups[:i] + groups[i + 1 :])) for i in range(len(groups))]
    centre = sum(without) / len(without)
    return math.sqrt((len(groups) - 1) / len(groups) * sum((value - centre) ** 2 for value in without))
