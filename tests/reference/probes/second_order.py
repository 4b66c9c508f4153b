"""Linear predictors of hidden patches from the equations, block by block, by loops; numpy only.

For patch j, with C the covariance of inputs, B that of targets with inputs and masks that follow no
image, the weights of the best predictor that is the same under every mask solve

    sum_k M_jik W_jk C_ki = a_ji B_ji   for every i,   a_ji = P(j hidden, i visible),
                                                       M_jik = P(j hidden; i and k visible).
"""

import numpy as np


def random_chance(patches: int, visible: int, together: int) -> float:
    """That one patch is hidden and `together` others are visible, under masks that hide an exact
    number: a product of shares, one patch drawn after the other."""
    chance = (patches - visible) / patches
    for drawn in range(together):
        chance *= (visible - drawn) / (patches - 1 - drawn)
    return chance


def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[N N p q] blocks of the covariance of [n N p] with [n N q], a pair of patches at a time."""
    patches = one.shape[1]
    a, b = one - one.mean(0), other - other.mean(0)
    return np.stack([[a[:, i].T @ b[:, k] / len(a) for k in range(patches)] for i in range(patches)])


def by_offset(blocks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The same, averaged over all pairs of patches with one offset."""
    where = [divmod(patch, grid[1]) for patch in range(len(blocks))]
    found, pairs = np.empty_like(blocks), {}
    for i, a in enumerate(where):
        for k, b in enumerate(where):
            pairs.setdefault((b[0] - a[0], b[1] - a[1]), []).append((i, k))
    for some in pairs.values():
        mean = np.mean([blocks[pair] for pair in some], axis=0)
        for pair in some:
            found[pair] = mean
    return found


def fixed_weights(inputs: np.ndarray, cross: np.ndarray, visible: int, ridge: float) -> np.ndarray:
    """[N N p q] weights under random masks with an exact count; `ridge` is in mean variances of an
    input. A patch has no weight on itself."""
    patches, q = len(inputs), inputs.shape[-1]
    strength = ridge * np.mean([np.trace(inputs[i, i]) / q for i in range(patches)])
    one, two = (random_chance(patches, visible, together) for together in (1, 2))
    weights = np.zeros_like(cross)
    for j in range(patches):
        others = [i for i in range(patches) if i != j]
        normal = np.zeros((len(others), q, len(others), q))
        for a, i in enumerate(others):
            for b, k in enumerate(others):
                block = inputs[i, k] + (strength * np.eye(q) if i == k else 0)
                normal[a, :, b] = (one if i == k else two) * block
        right = np.concatenate([one * cross[j, i] for i in others], axis=1)
        solved = np.linalg.solve(normal.reshape(len(others) * q, -1), right.T).T
        for a, i in enumerate(others):
            weights[j, i] = solved[:, a * q : (a + 1) * q]
    return weights


def predicted(weights: np.ndarray, x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """[N p] predictions of one image's centred inputs [N q]: a sum over the visible patches."""
    found = np.zeros((len(x), weights.shape[2]))
    for j in range(len(x)):
        for i in range(len(x)):
            if not hidden[i]:
                found[j] += weights[j, i] @ x[i]
    return found
