"""The exact numbers of the toy world beside real ones, and how far the estimators are from them
with so many images."""

from functools import lru_cache

import numpy as np
import xarray as xr

from lcmae.probes.mask_graphs.discrete import exact_graph
from lcmae.probes.mask_graphs.kernel import Sample, gaussian, kernel_graph, squared_distances
from lcmae.probes.mask_graphs.numbers import GraphNumbers
from lcmae.probes.mask_graphs.palette_images import PATCHES, exact_sweep, masks, palette_images
from lcmae.probes.measures.canonical import both_halves, canonical_spectrum
from lcmae.probes.statistics.variables import variable

SIZES = (100, 300, 1000)
ROUNDS = 3
QUANTITIES = ("inter_class", "label_error", "second_eigenvalue", "tail")
"""What is compared under a mask that hides two of the four blocks; edges share what is visible, and
the tail is beyond rank 2."""

BANDWIDTH = 0.1  # different colours are at a distance of sqrt(2): only equal contents are alike


def toy_variables(num_eigenvalues: int) -> dict[str, xr.Variable]:
    """Exact numbers by (toy_unit, toy_ratio), NaN where a ratio is not one of whole units; and the
    estimators' errors."""
    units, counts = (1, 2), range(1, PATCHES)
    empty = GraphNumbers(np.full((2, 3), np.nan), np.nan, np.full(num_eigenvalues, np.nan), np.nan, np.nan)
    sweep = exact_sweep(num_eigenvalues)
    found = [[sweep.get((unit, count), empty) for count in counts] for unit in units]

    def column(name: str) -> np.ndarray:
        return np.array([[getattr(graph, name) for graph in row] for row in found])

    swept = ("toy_unit", "toy_ratio")
    errors = estimator_errors()
    return {
        "toy_unit": variable("toy_unit", list(units), "side of the mask unit", "patches"),
        "toy_ratio": variable("toy_ratio", [count / PATCHES for count in counts], "masking ratio"),
        "toy_edges": variable((*swept, "side", "edge"), column("edges"), "share of edge weight, exact toy"),
        "toy_label_error": variable(swept, column("label_error"), "label error alpha of visible parts, exact toy"),
        "toy_components": variable(swept, column("components"), "parts of the graph, mean over masks, exact toy"),
        "toy_eigenvalue": variable((*swept, "rank"), column("eigenvalues"), "eigenvalue, mean over masks, exact toy"),
        "toy_tail": variable((*swept, "rank"), column("tail"), "tail beyond rank k, exact toy"),
        "toy_size": variable("toy_size", list(SIZES), "images of the toy", "images"),
        "toy_estimator": variable("toy_estimator", ["kernel", "model"], "estimator"),
        "toy_quantity": variable("toy_quantity", list(QUANTITIES), "quantity"),
        "toy_error": variable(
            ("toy_estimator", "toy_quantity", "toy_size"), errors, "root mean square error on the toy"
        ),
    }


@lru_cache
def estimator_errors(sizes: tuple[int, ...] = SIZES) -> np.ndarray:
    """Root mean square error over `ROUNDS` samples [estimator quantity size]; NaN for what the
    model form does not tell."""
    images, ((hidden, _),) = palette_images(), masks(PATCHES // 2, unit=2)
    exact = _described(exact_graph(images, hidden, 2))
    rng = np.random.default_rng(0)
    squares = np.zeros((2, len(QUANTITIES), len(sizes)))
    for number, size in enumerate(sizes):
        for _ in range(ROUNDS):
            rows = rng.choice(len(images.label), size, p=images.probability)
            by_colour = np.eye(2)[images.colours[rows]]
            kernels = [
                gaussian(squared_distances(by_colour[:, part].reshape(size, -1)), BANDWIDTH)
                for part in (~hidden, hidden)
            ]
            of_kernel = kernel_graph(kernels[0], kernels[1], Sample(images.label[rows], rows), 2)
            # the features of the best encoder: which content it is
            visible, other = (_which(images.colours[rows][:, part]) for part in (~hidden, hidden))
            values, total = canonical_spectrum(both_halves(visible, other, rng.random(size) < 0.5, 1e-2), 2)
            of_model = np.array([np.nan, np.nan, values[1], total - float((values**2).sum())])
            squares[:, :, number] += (np.stack([_described(of_kernel), of_model]) - exact) ** 2
    return np.sqrt(squares / ROUNDS)


def _described(graph: GraphNumbers) -> np.ndarray:
    return np.array([graph.edges[1, 2], graph.label_error, graph.eigenvalues[1], graph.tail[1]])


def _which(content: np.ndarray) -> np.ndarray:
    """One coordinate for each different content."""
    contents = np.unique(content, axis=0, return_inverse=True)[1].reshape(-1)
    return np.eye(int(contents.max()) + 1)[contents]
