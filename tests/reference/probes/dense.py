"""Segmentation by patches from its definitions, by loops; numpy only."""

from collections import Counter

import numpy as np


def patch_class(pixels: np.ndarray) -> int:
    """The commonest class of a patch [y x]; the smaller of two as common, -1 where none has one."""
    counts = Counter(int(one) for one in pixels.flatten() if one >= 0)
    return min(counts, key=lambda one: (-counts[one], one)) if counts else -1


def mean_iou(named: np.ndarray, true: np.ndarray) -> float:
    """Over pixels of all images [b h w], of the classes that pixels are of; -1 is left out."""
    named, true = named[true >= 0], true[true >= 0]
    found = [((named == one) & (true == one)).sum() / ((named == one) | (true == one)).sum() for one in np.unique(true)]
    return float(np.mean(found))


def knn(bank: np.ndarray, classes: np.ndarray, token: np.ndarray, neighbours: int) -> int:
    """Commonest class of the nearest rows by cosine; of two as common that of the larger sum of
    cosines."""
    cosine = bank @ token / np.linalg.norm(bank, axis=1) / np.linalg.norm(token)
    nearest = np.argsort(-cosine)[:neighbours]
    votes = {
        one: (sum(classes[nearest] == one), cosine[nearest][classes[nearest] == one].sum()) for one in set(classes)
    }
    return int(max(votes, key=lambda one: votes[one]))


def jackknife(scores_without: list[float], whole: float) -> float:
    """Standard error from leaving out each of g equal groups."""
    g = len(scores_without)
    pseudo = [g * whole - (g - 1) * one for one in scores_without]
    return float(np.std(pseudo, ddof=1) / np.sqrt(g))
