"""The mask-induced augmentation graph of real images, which never share a content exactly: sharing
is made soft by a kernel.

Estimator: *lcmae's own*. Two images share what is hidden with weight exp(-|x2 - x2+|^2 / 2h^2), and
what is visible likewise. Each kernel is scaled to be bistochastic (symmetric, rows add to 1), so
its rows are the chances of a step to an image of like content, and as an operator it stands for the
conditional expectation given this content. The graph on visible parts is their product, S1 S2; its
eigenvalues are those of B B^T (`lcmae.probes.mask_graphs.numbers`) when the kernels are exact
matches, and lie between 0 and 1.

The bandwidth h decides the answer, so several are always told. It is given in units of the median
distance between a whole image and the nearest other one, and is the same for every mask: hiding
more must be able to make hidden parts more different.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import cholesky
from scipy.sparse import coo_array
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from lcmae.errors import InputError
from lcmae.probes.mask_graphs.numbers import DENSE, NEAR_ONE, GraphNumbers, largest_eigenvalues
from lcmae.probes.statistics.jackknife import NUM_GROUPS
from lcmae.probes.statistics.two_way import images_alone
from lcmae.shapes import Float, Int

JITTER = 1e-10
"""Added to a diagonal of about 1, so that kernels of equal contents have a Cholesky factor."""

PRECISE, MOST_ROUNDS = 1e-8, 2000

ROUNDING = 1e-12
"""Points whose squared distance is below this share of their squared lengths are one: float32
cannot tell them apart."""


@dataclass(frozen=True)
class Sample:
    """What is known of the images of a sample."""

    label: Int[np.ndarray, " n"]
    """Class of each, from 0."""

    image: Int[np.ndarray, " n"]
    """Which image each is: all different, unless the sample was drawn with repetition."""

    def __post_init__(self) -> None:
        if len(self.label) > DENSE:
            raise InputError(
                f"expected at most {DENSE} images in a sample whose pairs are compared, got {len(self.label)}"
            )
        if len(np.unique(self.label)) < 2:
            raise InputError(f"expected images of two classes or more, got one class ({len(self.label)} images)")


def squared_distances(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Squared Euclidean distances, 0 on the diagonal and for points that are equal up to
    rounding."""
    least = ROUNDING * np.add.outer(*[(points**2).sum(1)] * 2)
    points = points - points.mean(0)
    length = (points**2).sum(1)
    squares = length[:, None] + length[None] - 2 * points @ points.T
    squares[squares <= least] = 0.0
    np.fill_diagonal(squares, 0.0)
    return squares


def nearest_distances(squares: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """Distance of each image to the nearest other one."""
    others = squares.copy()
    np.fill_diagonal(others, np.inf)
    return np.sqrt(others.min(1))


def nearest_distance(squares: Float[np.ndarray, "n n"], space: str = "pixels") -> float:
    """Median distance to the nearest other image: the unit of bandwidths. `InputError` where it is
    0."""
    unit = float(np.median(nearest_distances(squares)))
    if not unit > 0:
        raise InputError(f"expected images that differ in their {space}, got equal ones in most cases")
    return unit


def principal_components(points: Float[np.ndarray, "n d"], count: int) -> Float[np.ndarray, "n c"]:
    """Scores on the first principal components, at most `count`; by Lanczos, without the
    covariance."""
    centred = points - points.mean(0)
    if count >= min(centred.shape):
        return centred
    gram = LinearOperator((len(centred),) * 2, matvec=lambda x: centred @ (centred.T @ x), dtype=np.float64)  # pyright: ignore[reportCallIssue]
    variance, scores = eigsh(gram, k=count, which="LA", v0=1 + np.cos(np.arange(len(centred))))
    return scores * np.sqrt(np.maximum(variance, 0.0))


def gaussian(squares: Float[np.ndarray, "n n"], bandwidth: float) -> Float[np.ndarray, "n n"]:
    """exp(-distance^2 / 2h^2)."""
    return np.exp(squares * (-0.5 / bandwidth**2))


def bistochastic(kernel: Float[np.ndarray, "n n"], weight: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    """The kernel scaled to d_i K_ij d_j so that the weighted rows add to 1, as a symmetric matrix:
    times sqrt(w_i w_j).

    `weight` adds to 1. Sinkhorn's iteration for symmetric kernels (Knight, Ruiz and Ucar, 2014);
    the scaling of Marshall and Coifman (1711.06711). Its eigenvalues lie between 0 and 1 where K is
    positive definite; the first, of sqrt(w), is 1.
    """
    weighted = kernel * weight[None]
    scale = 1 / np.sqrt(weighted.sum(1))
    for _ in range(MOST_ROUNDS):
        rows = scale * (weighted @ scale)
        if np.abs(rows - 1).max() < PRECISE:
            root = scale * np.sqrt(weight)
            return kernel * root[:, None] * root[None]
        scale /= np.sqrt(rows)
    raise InputError(
        f"the kernel's scaling did not settle within {MOST_ROUNDS} rounds; expected a larger bandwidth or fewer far outliers"
    )


def spectrum(
    visible: Float[np.ndarray, "n n"],
    hidden: Float[np.ndarray, "n n"],
    num_eigenvalues: int,
    weight: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " k"], float]:
    """The largest eigenvalues of the graph with these kernels, and the sum of squares of all.

    `InputError` where no fewer eigenvalues are asked for than there are images.
    """
    return _spectrum(bistochastic(visible, weight), bistochastic(hidden, weight), num_eigenvalues)


def _spectrum(
    of_visible: Float[np.ndarray, "n n"], of_hidden: Float[np.ndarray, "n n"], num_eigenvalues: int
) -> tuple[Float[np.ndarray, " k"], float]:
    size = len(of_visible)
    if num_eigenvalues >= size:
        raise InputError(f"expected fewer eigenvalues than images, got {num_eigenvalues} of {size} images")
    # the eigenvalues of S1 S2 are those of L^T S1 L with S2 = L L^T; their squares add to the trace
    # of (S1 S2)^2
    lower = cholesky(of_hidden + JITTER * np.eye(size), lower=True)
    eigenvalues = largest_eigenvalues(
        lambda x: lower.T @ (of_visible @ (lower @ x)), size, num_eigenvalues, lambda: lower.T @ of_visible @ lower
    )
    walk = of_visible @ of_hidden
    return eigenvalues, float(np.einsum("ij,ji->", walk, walk))


def kernel_graph(
    visible: Float[np.ndarray, "n n"],
    hidden: Float[np.ndarray, "n n"],
    sample: Sample,
    num_eigenvalues: int,
    weight: Float[np.ndarray, " n"] | None = None,
) -> GraphNumbers:
    """All numbers from the kernels of visible and of hidden content. `weight`: of each image,
    adding to 1 (equal if left out).

    `components` counts eigenvalues above `NEAR_ONE`, among those that are computed.
    """
    weight = np.full(len(visible), 1 / len(visible)) if weight is None else weight
    of_visible, of_hidden = bistochastic(visible, weight), bistochastic(hidden, weight)
    edges, label_error = _edges_and_error(of_visible, of_hidden, sample, weight)
    eigenvalues, squares = _spectrum(of_visible, of_hidden, num_eigenvalues)
    return GraphNumbers(
        edges=edges,
        label_error=label_error,
        eigenvalues=eigenvalues,
        squares=squares,
        components=float((eigenvalues > NEAR_ONE).sum()),
    )


def kernel_edges(
    visible: Float[np.ndarray, "n n"], hidden: Float[np.ndarray, "n n"], sample: Sample, weight: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "2 3"], float]:
    """Edges and label error of `kernel_graph`, without its spectrum."""
    return _edges_and_error(bistochastic(visible, weight), bistochastic(hidden, weight), sample, weight)


def _edges_and_error(
    of_visible: Float[np.ndarray, "n n"],
    of_hidden: Float[np.ndarray, "n n"],
    sample: Sample,
    weight: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, "2 3"], float]:
    edges = np.stack([_edges(step, sample, weight) for step in (of_hidden, of_visible)])
    return edges, _label_error(of_visible, sample.label, weight)


def _edges(step: Float[np.ndarray, "n n"], sample: Sample, weight: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 3"]:
    """Chances that a step leads to the image itself, to another one of its class, to one of another
    class."""
    root = np.sqrt(weight)

    def within(groups: Int[np.ndarray, " n"]) -> float:
        chosen = coo_array((root, (np.arange(len(groups)), groups))).tocsr()
        return float(((step @ chosen) * chosen.toarray()).sum())

    same, same_class = within(sample.image), within(sample.label)
    return np.array([same, same_class - same, 1 - same_class])


def _label_error(
    step: Float[np.ndarray, "n n"], label: Int[np.ndarray, " n"], weight: Float[np.ndarray, " n"]
) -> float:
    """Share of images whose class loses the vote of the *other* images of like visible content (own
    vote left out).

    An image that no other is like has nothing to be confused with, and counts as right.
    """
    root = np.sqrt(weight)
    votes = (step * root[None]) / root[:, None]
    np.fill_diagonal(votes, 0.0)
    by_class = votes @ np.eye(int(label.max()) + 1)[label]
    wrong = (by_class.argmax(1) != label) & (by_class.max(1) > 1e-12)
    return float(weight @ wrong)


def variance_over_images(
    numbers: Callable[[int, Int[np.ndarray, " m"], float], Float[np.ndarray, "..."]],
    whole: Float[np.ndarray, "k ..."],
    nearest: Float[np.ndarray, " n"],
) -> Float[Tensor, "..."]:
    """Variance over images of a mean over masks, of which the first few are looked at: `whole` is
    what `numbers(mask, rows, unit)` makes of all images under these; `nearest` is the distance of
    each image to the nearest other one.

    Groups of images are left out, and the unit of bandwidths, a median over the images that are
    left, goes with them: taken as given it made errors of edges to an image itself 1.4 times too
    wide, and those of edges between classes too small by a quarter. Its distances are those within
    the whole sample, because fewer images are further apart. (Drawing images with repetition was
    tried: one that is drawn twice doubles its edge to itself; as one image of double weight it made
    errors of eigenvalues too small by a third.)
    """
    group = np.arange(len(nearest)) % NUM_GROUPS
    sizes = np.bincount(group)
    without = []
    for one in range(len(sizes)):
        rows = (group != one).nonzero()[0]
        unit = unit_of(nearest, rows)
        without.append([numbers(mask, rows, unit) for mask in range(len(whole))])
    return images_alone(torch.from_numpy(whole), torch.tensor(np.array(without)), torch.from_numpy(sizes).double())


def unit_of(nearest: Float[np.ndarray, " n"], rows: Int[np.ndarray, " m"]) -> float:
    """The unit of bandwidths by some of the images; by all of them where most of these have an
    equal one."""
    return float(np.median(nearest[rows])) or float(np.median(nearest))
