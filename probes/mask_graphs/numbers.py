"""What is told of a mask-induced augmentation graph, however it was found, and the linear algebra
that all estimators share.

The graph of "How Mask Matters" (Zhang et al., 2210.08344, section 3), for one mask: an image is
(x1, x2), what is visible and what is hidden. M(x1, x2) is their joint distribution, and two visible
parts are joined by A(x1, x1+) = E_x2 M(x1|x2) M(x1+|x2). Normalised by its degrees it is B B^T with
B = D1^-1/2 M D2^-1/2, so its eigenvalues are the squared singular values of B (the squared
canonical correlations of x1 and x2), lie between 0 and 1, and are the same for the graph on hidden
parts, B^T B.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigvalsh
from scipy.sparse.linalg import LinearOperator, eigsh

from lcmae.shapes import Float

SIDES = ("share_hidden", "share_visible")
"""Which content two images have in common: what is hidden (x1 - x2 - x1+, the positive pairs of
theorem 3.4), or what is visible (x2 - x1 - x2+)."""

EDGES = ("same_image", "intra_class", "inter_class")
"""Where an edge leads: back to the image itself, to another one of its class, to one of another
class."""

DENSE = 4000
"""Most rows of a dense matrix."""

NEAR_ONE = 0.99
"""An eigenvalue above this belongs to a part of the graph that hardly communicates with the
rest."""


@dataclass(frozen=True)
class GraphNumbers:
    """Of one graph, or means over several."""

    edges: Float[np.ndarray, "2 3"]
    """Share of edge weight by `SIDES` and `EDGES`; each row adds to 1."""

    label_error: float
    """alpha of theorem 4.1: how often the most likely class given the visible part is not the
    image's."""

    eigenvalues: Float[np.ndarray, " k"]
    """The k largest, descending; the first is 1."""

    squares: float
    """Sum of the squares of all eigenvalues."""

    components: float
    """Parts that do not communicate."""

    @property
    def tail(self) -> Float[np.ndarray, " k"]:
        """Sum over i > k of lambda_i^2, for k = 1 to the number of eigenvalues."""
        return np.maximum(self.squares - np.cumsum(self.eigenvalues**2), 0.0)

    def flat(self) -> Float[np.ndarray, " q"]:
        """All of it as one row of numbers: `unflatten` is the inverse."""
        head = [*self.edges.ravel(), self.label_error, self.squares, self.components]
        return np.concatenate([head, self.eigenvalues])

    @classmethod
    def unflatten(cls, row: Float[np.ndarray, " q"]) -> "GraphNumbers":
        return cls(row[:6].reshape(2, 3), float(row[6]), row[9:], float(row[7]), float(row[8]))


def rising(values: tuple) -> tuple:
    """One or more rising numbers above 0: a setting that is swept over. `ValueError` otherwise."""
    if not values or min(values) <= 0 or list(values) != sorted(set(values)):
        raise ValueError("expected one or more rising numbers above 0")
    return values


def largest_eigenvalues(
    apply: Callable[[np.ndarray], np.ndarray], size: int, count: int, dense: Callable[[], np.ndarray]
) -> Float[np.ndarray, " k"]:
    """The `count` largest eigenvalues of a symmetric matrix of `size` rows, descending, 0 where it
    has fewer.

    Lanczos on `apply` (a matrix-vector product), or the matrix itself, `dense()`, where that costs
    less and is allowed.
    """
    wanted = min(count, size)
    if size <= DENSE and 8 * wanted > size:
        found = eigvalsh(dense(), subset_by_index=(size - wanted, size - 1))
    elif wanted >= size:
        raise ValueError(f"expected at most {size - 1} eigenvalues of a matrix of {size} rows, got {wanted}")
    else:
        operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)  # pyright: ignore[reportCallIssue]
        # a start that no symmetry of the graph makes orthogonal to an eigenvector; the same every
        # time
        start = 1 + np.cos(np.arange(size))
        found = eigsh(operator, k=wanted, which="LA", v0=start, return_eigenvectors=False)
    values = np.zeros(count)
    values[:wanted] = np.sort(np.clip(found, 0.0, 1.0))[::-1]
    return values
