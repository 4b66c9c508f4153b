"""The mask-induced augmentation graph of images that are few enough to be listed: every number by
enumeration.

What the estimators on real images are held against. Images are rows of palette colours, one a
patch, with a probability and a class each.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from lcmae.errors import InputError
from lcmae.probes.mask_graphs.numbers import GraphNumbers, largest_eigenvalues
from lcmae.shapes import Bool, Float, Int

MAX_STATES = 10_000


@dataclass(frozen=True)
class Discrete:
    """A distribution over images, all different."""

    colours: Int[np.ndarray, "s n"]
    """Palette colour of each patch of each image."""

    probability: Float[np.ndarray, " s"]

    label: Int[np.ndarray, " s"]
    """Class of each image, from 0."""

    def __post_init__(self) -> None:
        if not 0 < len(self.colours) <= MAX_STATES:
            raise InputError(f"expected 1 to {MAX_STATES} images to enumerate, got {len(self.colours)}")
        if len(np.unique(self.label)) < 2:
            raise InputError("expected images of two classes or more, got one class")
        if (self.probability <= 0).any() or not np.isclose(self.probability.sum(), 1):
            raise InputError(f"expected probabilities above 0 that add to 1, got a sum of {self.probability.sum():g}")
        if len(np.unique(self.colours, axis=0)) < len(self.colours):
            raise InputError("expected different images, got some twice")


def exact_graph(images: Discrete, hidden: Bool[np.ndarray, " n"], num_eigenvalues: int) -> GraphNumbers:
    """All numbers of the graph under one mask. `InputError` for a mask that hides nothing, or
    everything."""
    if hidden.all() or not hidden.any():
        raise InputError(f"expected a mask that hides some patches and shows some, got {hidden.sum()} of {len(hidden)}")
    visible_part, hidden_part = _parts(images, ~hidden), _parts(images, hidden)
    joint = sparse.csr_array((images.probability, (visible_part, hidden_part)))

    # B = D1^-1/2 M D2^-1/2, and of B B^T and B^T B the smaller
    of_visible, of_hidden = joint.sum(1), joint.sum(0)
    scaled = sparse.diags_array(of_visible**-0.5) @ joint @ sparse.diags_array(of_hidden**-0.5)
    gram = scaled @ scaled.T if scaled.shape[0] <= scaled.shape[1] else scaled.T @ scaled
    eigenvalues = largest_eigenvalues(lambda x: gram @ x, gram.shape[0], num_eigenvalues, gram.toarray)

    # hidden contents are numbered after the visible ones
    rows, columns = visible_part, len(of_visible) + hidden_part
    num_nodes = len(of_visible) + len(of_hidden)
    bipartite = sparse.coo_array((images.probability, (rows, columns)), shape=(num_nodes, num_nodes))
    return GraphNumbers(
        edges=np.stack([_edges(images, part) for part in (hidden_part, visible_part)]),
        label_error=1 - float(_by_class(images, visible_part).max(1).sum()),
        eigenvalues=eigenvalues,
        squares=float((gram.data**2).sum()),
        components=float(connected_components(bipartite, directed=False, return_labels=False)),
    )


def _parts(images: Discrete, patches: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " s"]:
    """Which of the different contents of these patches each image has."""
    return np.unique(images.colours[:, patches], axis=0, return_inverse=True)[1].reshape(-1)


def _by_class(images: Discrete, part: Int[np.ndarray, " s"]) -> Float[np.ndarray, "t c"]:
    """Probability of each content together with each class."""
    return sparse.coo_array((images.probability, (part, images.label))).toarray()


def _edges(images: Discrete, part: Int[np.ndarray, " s"]) -> Float[np.ndarray, " 3"]:
    """From an image to its content, and on to an image of this content: is it the same, another of
    its class, or neither?"""
    by_class = _by_class(images, part)
    of_part = by_class.sum(1)
    same = float((images.probability**2 / of_part[part]).sum())
    same_class = float((by_class**2 / of_part[:, None]).sum())
    return np.array([same, same_class - same, 1 - same_class])
