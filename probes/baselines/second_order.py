"""The best linear predictors of hidden patches from visible ones: what the covariance alone knows.

Inputs are patches x [n N q] (N positions, q values each), targets t [n N p]; masks are drawn
without looking at the images. With C the covariance of centred inputs, B that of targets with
inputs, and for patch j

    p_j = P(j hidden),  a_ji = P(j hidden, i visible),  M_jik = P(j hidden; i and k visible)

the predictor `sum_i [i visible] W_ji x_i` that is the same under every mask has the expected
squared error `p_j tr T_jj - 2 sum_i a_ji tr(W_ji B_ji^T) + sum_ik M_jik tr(W_ji C_ik W_jk^T)`,
least where `W_j (M_j o C) = a_j o B_j` (`o` multiplies whole blocks). For random masks with an
exact count all M_j have two values, and one inverse serves every patch. A predictor that may look
at the mask is the Wiener filter `B_hv C_vv^-1` of that mask: the best of all predictors for
Gaussian images.

The closed forms are lcmae's own derivation, in the family of
Bisulco et al., "Linear masked autoencoders" (arXiv 2508.15404), whose loss is on all pixels and
whose masks are Bernoulli. Arrays are float64 of numpy; nothing here knows a model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from lcmae.shapes import Bool, Float


@dataclass(frozen=True)
class PatchBasis:
    """Principal directions of patches, the same for all positions."""

    directions: Float[np.ndarray, "p q"]
    """Orthonormal columns, by falling variance."""

    left_out: float
    """Share of the variance that the directions leave out."""

    def project(self, patches: Float[np.ndarray, "n patches p"]) -> Float[np.ndarray, "n patches q"]:
        """Coordinates of patches."""
        return patches @ self.directions


def patch_basis(patches: Float[np.ndarray, "n patches p"], size: int) -> PatchBasis:
    """The first `size` principal directions of patches about the mean patch of each position."""
    centred = (patches - patches.mean(0)).reshape(-1, patches.shape[-1]).astype(float)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    size = min(size, len(values))
    total = float(values.sum())
    explained = float(values[::-1][:size].sum())
    return PatchBasis(np.ascontiguousarray(vectors[:, ::-1][:, :size]), 1 - explained / total if total > 0 else 0.0)


@dataclass(frozen=True)
class PatchMoments:
    """Means and covariances of inputs and targets over images."""

    mean_input: Float[np.ndarray, "patches q"]
    mean_target: Float[np.ndarray, "patches p"]
    inputs: Float[np.ndarray, "inputs inputs"]
    """Covariance of inputs, [N q, N q]."""
    cross: Float[np.ndarray, "targets inputs"]
    """Covariance of targets with inputs, [N p, N q]."""
    num_images: int

    @property
    def num_patches(self) -> int:
        """N."""
        return len(self.mean_input)

    @property
    def input_size(self) -> int:
        """q."""
        return self.mean_input.shape[1]

    @property
    def target_size(self) -> int:
        """p."""
        return self.mean_target.shape[1]

    def ridged(self, ridge: float) -> Float[np.ndarray, "inputs inputs"]:
        """The inputs' covariance with `ridge` x its mean variance added on the diagonal."""
        size = len(self.inputs)
        return self.inputs + ridge * float(np.trace(self.inputs)) / size * np.eye(size)

    def stationary(self, grid: tuple[int, int]) -> "PatchMoments":
        """The same with covariances that depend on the offset of two patches alone: averages over
        all pairs of that offset. Well determined where images are few."""
        return PatchMoments(
            self.mean_input,
            self.mean_target,
            _by_offset(self.inputs, grid, self.input_size, self.input_size),
            _by_offset(self.cross, grid, self.target_size, self.input_size),
            self.num_images,
        )


def patch_moments(parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> PatchMoments:
    """Means and covariances from batches of inputs [n N q] and targets [n N p], summed in float64
    about the first batch's means; batches are not kept."""
    count, shift = 0, None
    sums: list[np.ndarray] = []
    shape = ((0, 0), (0, 0))
    for inputs, targets in parts:
        shape = inputs.shape[1:], targets.shape[1:]
        x = inputs.reshape(len(inputs), -1).astype(float)
        t = targets.reshape(len(targets), -1).astype(float)
        if shift is None:
            shift = x.mean(0), t.mean(0)
            widths = [(x.shape[1],), (t.shape[1],), (x.shape[1], x.shape[1]), (t.shape[1], x.shape[1])]
            sums = [np.zeros(width) for width in widths]
        x, t = x - shift[0], t - shift[1]
        count += len(x)
        # in place, here and below: of large images covariances are 400 MB
        sums[0] += x.sum(0)
        sums[1] += t.sum(0)
        sums[2] += x.T @ x
        sums[3] += t.T @ x
    if shift is None or count < 2:
        raise ValueError(f"expected at least 2 images for a covariance, got {count}")
    for total in sums:
        total /= count
    mean_x, mean_t, inputs, cross = sums
    inputs -= np.outer(mean_x, mean_x)
    cross -= np.outer(mean_t, mean_x)
    return PatchMoments(
        (shift[0] + mean_x).reshape(shape[0]), (shift[1] + mean_t).reshape(shape[1]), inputs, cross, count
    )


@dataclass(frozen=True)
class MaskChances:
    """How often patches are hidden and visible together, over masks."""

    hidden: Float[np.ndarray, " patches"]
    """P(j hidden)."""
    one: Float[np.ndarray, "patches patches"]
    """P(j hidden, i visible)."""
    two: Float[np.ndarray, "patches patches patches"]
    """P(j hidden; i and k visible)."""


def mask_chances(hidden: Bool[np.ndarray, "masks patches"]) -> MaskChances:
    """Shares over drawn masks: counts, divided once, so that patches which are always hidden
    together have equal ones."""
    h = hidden.astype(float)
    v, count = 1 - h, len(h)
    beside = (v[hidden[:, j]] for j in range(h.shape[1]))  # what masks that hide patch j leave
    return MaskChances(h.mean(0), h.T @ v / count, np.stack([seen.T @ seen for seen in beside]) / count)


def random_chances(num_patches: int, num_visible: int) -> MaskChances:
    """Exact chances of random masks that leave `num_visible` patches, 1 <= visible < N."""
    if not 1 <= num_visible < num_patches:
        raise ValueError(f"expected 1 to {num_patches - 1} visible patches, got {num_visible}")
    n, v = num_patches, num_visible
    a = (n - v) * v / (n * (n - 1))
    rho = (v - 1) / (n - 2) if n > 2 else 0.0
    others = ~np.eye(n, dtype=bool)
    two = np.where(np.eye(n, dtype=bool), a, a * rho) * others[:, :, None] * others[:, None, :]
    return MaskChances(np.full(n, (n - v) / n), a * others, two)


def fixed_linear(
    moments: PatchMoments, chances: MaskChances, ridge: float = 0.0, allowed: np.ndarray | None = None
) -> Float[np.ndarray, "targets inputs"]:
    """Weights [N p, N q] of the best linear predictor that does not see the mask, for masks of any
    strategy. `allowed` [N N] says which inputs i a patch j may use; by default all.

    A patch that is never hidden, or never beside a visible one, has zero weights.
    """
    covariance, size, q, p = moments.ridged(ridge), moments.num_patches, moments.input_size, moments.target_size
    blocks = covariance.reshape(size, q, size, q)
    cross = moments.cross.reshape(size, p, size, q)
    weights = np.zeros((size, p, size, q))
    usable = chances.one > 0 if allowed is None else (chances.one > 0) & allowed
    for together in _of_one_system(chances, usable):
        used = np.flatnonzero(usable[together[0]])
        if len(used) == 0:
            continue
        two = chances.two[together[0]][np.ix_(used, used)]
        normal = blocks[used][:, :, used] * two[:, None, :, None]
        right = cross[together][:, :, used] * chances.one[together[0], used][:, None]
        unknowns = len(used) * q
        found = _solve(normal.reshape(unknowns, unknowns), right.reshape(-1, unknowns))
        of_used = np.zeros((len(together), p, size, q))
        of_used[:, :, used] = found.reshape(len(together), p, len(used), q)
        weights[together] = of_used
    return weights.reshape(size * p, size * q)


def _of_one_system(chances: MaskChances, usable: Bool[np.ndarray, "patches patches"]) -> list[list[int]]:
    """Patches in groups with equal chances and inputs, whose weights solve one system: those of a
    mask unit, say."""
    groups: dict[bytes, list[int]] = {}
    for j, two in enumerate(chances.two):
        groups.setdefault(usable[j].tobytes() + chances.one[j].tobytes() + two.tobytes(), []).append(j)
    return list(groups.values())


def fixed_linear_random(
    moments: PatchMoments, num_visible: int, ridge: float = 0.0
) -> Float[np.ndarray, "targets inputs"]:
    """The same for random masks with an exact count, by one inverse for all patches: `V = rho C +
    (1 - rho) blkdiag C`, and the inverse without the rows of one patch from the inverse with
    them."""
    size, q, p = moments.num_patches, moments.input_size, moments.target_size
    if not 1 <= num_visible < size:
        raise ValueError(f"expected 1 to {size - 1} visible patches, got {num_visible}")
    rho = (num_visible - 1) / (size - 2) if size > 2 else 0.0
    covariance = moments.ridged(ridge)
    shrunk = rho * covariance
    for j in range(size):
        block = slice(j * q, (j + 1) * q)
        shrunk[block, block] = covariance[block, block]
    inverse = _solve(shrunk, np.eye(size * q))
    own = range(size)
    right = moments.cross.reshape(size, p, size, q).copy()
    right[own, :, own] = 0.0
    product = (right.reshape(size * p, size * q) @ inverse).reshape(size, p, size, q)
    rows = inverse.reshape(size, q, size * q)
    # (V without j)^-1 = K - K_.j K_jj^-1 K_j. , on the other patches
    for j in own:
        mine = slice(j * q, (j + 1) * q)
        product[j] -= (_solve(inverse[mine, mine], product[j, :, j]) @ rows[j]).reshape(p, size, q)
    product[own, :, own] = 0.0
    return product.reshape(size * p, size * q)


def wiener(
    moments: PatchMoments, hidden: Bool[np.ndarray, " patches"], ridge: float = 0.0
) -> Float[np.ndarray, "targets inputs"]:
    """Weights [hidden p, visible q] of the best linear predictor for this very mask."""
    q, p = moments.input_size, moments.target_size
    visible, targets = np.repeat(~hidden, q), np.repeat(hidden, p)
    normal = moments.ridged(ridge)[np.ix_(visible, visible)]
    return _solve(normal, moments.cross[np.ix_(targets, visible)])


def predict(
    moments: PatchMoments,
    weights: Float[np.ndarray, "targets inputs"],
    inputs: Float[np.ndarray, "n patches q"],
    hidden: Bool[np.ndarray, "n patches"],
) -> Float[np.ndarray, "n patches p"]:
    """Predictions of every patch from the visible ones, under a mask an image."""
    centred = (inputs - moments.mean_input) * ~hidden[:, :, None]
    found = centred.reshape(len(inputs), -1) @ weights.T
    return moments.mean_target + found.reshape(len(inputs), moments.num_patches, moments.target_size)


def predict_wiener(
    moments: PatchMoments,
    inputs: Float[np.ndarray, "n patches q"],
    hidden: Bool[np.ndarray, " patches"],
    ridge: float = 0.0,
) -> Float[np.ndarray, "n patches p"]:
    """Predictions of hidden patches by the Wiener filter of one mask; visible ones have the
    mean."""
    found = np.broadcast_to(moments.mean_target, (len(inputs), *moments.mean_target.shape)).copy()
    centred = (inputs - moments.mean_input)[:, ~hidden].reshape(len(inputs), -1)
    filtered = centred @ wiener(moments, hidden, ridge).T
    found[:, hidden] += filtered.reshape(len(inputs), int(hidden.sum()), moments.target_size)
    return found


def neighbours(grid: tuple[int, int]) -> Bool[np.ndarray, "patches patches"]:
    """Which patches touch each other, corners included: at most 8 of each."""
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    down, across = abs(row[:, None] - row), abs(column[:, None] - column)
    return (np.maximum(down, across) == 1).astype(bool)


def reach(
    moments: PatchMoments, weights: Float[np.ndarray, "targets inputs"], grid: tuple[int, int]
) -> Float[np.ndarray, " patches"]:
    """Mean distance of the inputs that a patch is predicted from, in patches: weighted by what each
    contributes, `tr W_ji C_ii W_ji^T`. NaN for a patch without weights."""
    size, q, p = moments.num_patches, moments.input_size, moments.target_size
    blocks = weights.reshape(size, p, size, q)
    own = np.stack([moments.inputs[i * q : (i + 1) * q, i * q : (i + 1) * q] for i in range(size)])
    power = np.einsum("jpia,iab,jpib->ji", blocks, own, blocks, optimize=True)
    row, column = np.divmod(np.arange(size), grid[1])
    distance = np.hypot(row[:, None] - row, column[:, None] - column)
    total = power.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (power * distance).sum(1) / total, np.nan)


def shared_spectrum(moments: PatchMoments, visible_pairs: Float[np.ndarray, "patches patches"]) -> np.ndarray:
    """Eigenvalues, largest first, of what a linear code of the visible patches explains of all
    patches: the closed form of the loss on all pixels, `B_g V_g^-1 B_g^T` with `V_g = P(i and k
    visible) o C` and `B_g = C diag P(i visible)` (targets are the inputs here)."""
    q = moments.input_size
    ones = np.ones((q, q))
    normal = np.kron(visible_pairs, ones) * moments.inputs
    right = moments.inputs * np.repeat(np.diag(visible_pairs), q)[None]
    explained = _solve(normal, right) @ right.T
    return np.maximum(np.linalg.eigvalsh((explained + explained.T) / 2)[::-1], 0)


def _by_offset(covariance: np.ndarray, grid: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    size = grid[0] * grid[1]
    blocks = covariance.reshape(size, rows, size, columns).transpose(0, 2, 1, 3)
    row, column = np.divmod(np.arange(size), grid[1])
    offset = (row[:, None] - row + grid[0] - 1) * (2 * grid[1] - 1) + column[:, None] - column + grid[1] - 1
    sums = np.zeros((offset.max() + 1, rows, columns))
    np.add.at(sums, offset.ravel(), blocks.reshape(-1, rows, columns))
    counts = np.bincount(offset.ravel(), minlength=len(sums))
    mean = sums / np.maximum(counts, 1)[:, None, None]
    return mean[offset].transpose(0, 2, 1, 3).reshape(size * rows, size * columns)


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """right matrix^-1, for a symmetric positive (semi-)definite matrix: Cholesky's, else the
    pseudo-inverse (patches that never vary, more values than images)."""
    try:
        return cho_solve(cho_factor(matrix, lower=True, check_finite=False), right.T, check_finite=False).T
    except np.linalg.LinAlgError:
        return right @ np.linalg.pinv(matrix, hermitian=True)
