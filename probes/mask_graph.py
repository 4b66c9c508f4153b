"""Which images does masking join, and are they of one class? The mask-induced augmentation graph,
against ratio and mask unit.

Source: "How Mask Matters" (Zhang, Wang and Wang, 2210.08344): two masked images are a positive pair
when they share a hidden part. Its theory asks for few edges between classes (label error alpha,
theorem 4.1) and for a small tail of the graph's spectrum (sum over i > k of lambda_i^2, theorem
4.2). It defines these for a distribution; the estimators are *lcmae's own*:

(a) exact: a toy world of palette images (`lcmae.probes.mask_graphs.palette_images`), by
enumeration, as the reference curve; (b) kernel: on the images at hand, sharing made soft
(`lcmae.probes.mask_graphs.kernel`), for several bandwidths, as the bandwidth decides; (c) model:
canonical correlations of the checkpoint's features of visible and of hidden parts
(`lcmae.probes.measures.canonical`), which bound the
    eigenvalues from below by what its encoder can tell.

Few images inflate the eigenvalues of (b), whose content then never repeats, and shrink those of
(c): `toy_error` tells by how much, on the toy. Cost: one pass over the sample for each mask and
side, and dense algebra on sample x sample, which is capped.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xarray as xr
from pydantic import Field, field_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import AnyMask, CoarseRandom, MaskStrategy, Random, at_ratio
from lcmae.models import MaskedImageModel
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.mask_graphs.kernel import (
    Sample,
    gaussian,
    kernel_graph,
    variance_over_images,
)
from lcmae.probes.mask_graphs.numbers import DENSE, EDGES, SIDES, GraphNumbers, rising
from lcmae.probes.mask_graphs.sample import Distances, GraphSample, fixed_masks
from lcmae.probes.mask_graphs.toy import toy_variables
from lcmae.probes.measures.canonical import HeldOut, both_halves, canonical_spectrum
from lcmae.probes.statistics.jackknife import NUM_GROUPS
from lcmae.probes.statistics.two_way import TwoWay, images_alone, mean_over_masks, stacked
from lcmae.probes.statistics.variables import crossed_errors, variable
from lcmae.probes.watching.batch import Batch
from lcmae.randomness import generator

LOOKED_AT = 2
"""Masks under which groups of images are left out of the kernel form, for the errors that images
bring: each costs eight graphs."""


class MaskGraph(Probe):
    """Returns, by (mask, ratio, bandwidth): `edges` by side and kind, `label_error`, `eigenvalue`
    and `tail` by rank, and `components`, with jackknifed errors; by (mask, ratio, rank) the
    model's `model_eigenvalue` and `model_tail`; the same of the exact toy (`toy_...`), with the
    error of both estimators there (`toy_error`)."""

    name: ClassVar[str] = "mask_graph"
    question: ClassVar[str] = (
        "Which images does masking join, are they of one class, and how fast does the graph's spectrum fall?"
    )

    mask: AnyMask = Random()
    """How patches are hidden; its ratio is replaced by each of `ratios`. Random masks are swept
    over `units`, too."""

    ratios: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)
    """Masking ratios."""

    units: tuple[int, ...] = (1, 2)
    """Sides of the mask unit, in patches: hidden patches come in squares of this side."""

    num_masks: int = Field(default=8, ge=1)
    """Masks of each ratio and unit; every image gets the same ones, and numbers are means over
    them. Fewer than 4 give no error, as masks are a source of it."""

    bandwidths: tuple[float, ...] = (0.35, 0.5, 0.7)
    """Kernel bandwidths, in units of the median distance between a whole image and the nearest
    other one."""

    space: Literal["pixels", "pca", "features"] = "pixels"
    """Where contents are compared: pixels, their principal components, or the checkpoint's pooled
    vectors of the parts."""

    num_components: int = Field(default=64, ge=1)
    """Most principal components, for `space` pca."""

    num_sampled: int = Field(default=1000, ge=2, le=DENSE)
    """Most images that are used: every pair of them is compared."""

    num_eigenvalues: int | None = Field(default=None, ge=1)
    """k: largest eigenvalues that are computed, fewer than images; by default 64, or all but one
    where images are few."""

    ridge: float = Field(default=1e-2, gt=0)
    """Ridge of the canonical correlations, in units of the mean variance of a feature."""

    batch_size: int = Field(default=64, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    _rise = field_validator("ratios", "bandwidths", "units")(rising)

    def takes(self, mask: MaskStrategy) -> bool:
        """Only masks of another kind than the swept ones, that do not follow an image and can be
        had at every ratio."""
        if isinstance(mask, Random | CoarseRandom):
            return False  # the default sweeps these
        try:
            for ratio in self.ratios:
                at_ratio(mask, ratio)
        except InputError:
            return False
        return not mask.needs_images

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_MaskGraph":
        num_sampled = min(self.num_sampled, num_images)
        self.require(num_sampled >= 4, f"at least 4 images, got {num_sampled}")
        self.require(not self.mask.needs_images, f"masks that all images can share, got {self.mask.kind}")
        self.require(
            (self.num_eigenvalues or 1) < num_sampled,
            f"more images than the {self.num_eigenvalues} eigenvalues asked for, got {num_sampled}",
        )
        return _MaskGraph(self, model, num_images, seed)

    def strategies(self) -> dict[str, MaskStrategy]:
        """What is swept over ratios, by name."""
        if not isinstance(self.mask, Random | CoarseRandom):
            return {self.mask.kind: self.mask}
        return {unit_name(unit): CoarseRandom(unit=unit) for unit in self.units}


def unit_name(unit: int) -> str:
    """A mask unit in words."""
    return f"unit {unit}"


@dataclass
class _MaskGraph(Accumulator):
    probe: MaskGraph
    model: MaskedImageModel
    num_images: int
    seed: int

    def __post_init__(self) -> None:
        probe, strategies = self.probe, self.probe.strategies()
        self.names = list(strategies)
        self.cells = list(product(self.names, probe.ratios))
        drawn = [
            fixed_masks(at_ratio(strategies[name], ratio), self.model.grid, probe.num_masks, self.seed)
            for name, ratio in self.cells
        ]
        self.realised = np.array([float(masks.float().mean()) for masks in drawn])
        self.sample = GraphSample(torch.cat(drawn), probe.num_sampled, self.num_images, self.seed, probe.batch_size)
        self.num_eigenvalues = probe.num_eigenvalues or min(64, len(self.sample) - 1)
        self.kernel: list[TwoWay] = []
        self.of_model: list[TwoWay] = []

    def update(self, batch: Batch) -> None:
        self.probe.require(batch.labels is not None, "images with known classes, got images without labels")
        self.sample.add(batch, parts=True, whole=self.probe.space == "features")

    @property
    def num_steps(self) -> int:
        """Of the conclusion: a step for each ratio and mask."""
        return len(self.cells)

    def conclude(self) -> Iterator[None]:
        """The work after the last image, a cell at a time."""
        labels = self.sample.labels
        assert labels is not None
        known = Sample(labels, np.arange(len(labels)))
        distances = Distances(self.sample, self.probe.space, self.probe.num_components)
        self.label, self.unit = labels, distances.unit
        for cell in range(len(self.cells)):
            masks = range(cell * self.probe.num_masks, (cell + 1) * self.probe.num_masks)
            self.kernel.append(self._kernel(known, distances, masks))
            self.of_model.append(self._of_model(masks))
            yield

    def _kernel(self, known: Sample, distances: Distances, masks: range) -> TwoWay:
        """Numbers for each bandwidth [bandwidth q], means over masks."""

        def numbers(mask: int, rows: np.ndarray, unit: float) -> np.ndarray:
            content = contents.get(mask) or distances.under(masks[mask])
            few, at, found = Sample(known.label[rows], known.image[rows]), np.ix_(rows, rows), []
            for factor in self.probe.bandwidths:
                visible, hidden = (gaussian(part[at], factor * unit) for part in (content.visible, content.hidden))
                graph = kernel_graph(visible, hidden, few, min(self.num_eigenvalues, len(rows) - 1))
                found.append(_numbers(graph, self.num_eigenvalues))
            return np.stack(found)

        contents = {mask: distances.under(masks[mask]) for mask in range(min(LOOKED_AT, len(masks)))}
        every = np.arange(len(known.label))
        of_masks = np.stack([numbers(mask, every, self.unit) for mask in range(len(masks))])
        of_images = variance_over_images(numbers, of_masks[: len(contents)], distances.nearest)
        return mean_over_masks(torch.from_numpy(of_masks), of_images, min(NUM_GROUPS, len(every)))

    def _of_model(self, masks: range) -> TwoWay:
        """Eigenvalues and tail [2 k] by canonical correlations, means over masks."""
        size = len(self.sample)
        half = torch.randperm(size, generator=generator("graph-half", self.seed)).numpy() % 2 == 0
        group = np.arange(size) % NUM_GROUPS
        left_out = [group != index for index in range(min(NUM_GROUPS, size))]
        of_masks, without = [], []
        for mask in masks:
            halves = both_halves(*self.sample.features(mask), half, self.probe.ridge)
            # under the fits of all images: those to fewer are noisier, errors three times too large
            found = [self._spectrum(halves, judged) for judged in (None, *left_out)]
            of_masks.append(found[0])
            without.append(torch.stack(found[1:]))
        # under all masks: two alone know too little of the interaction, and errors were too wide
        whole, sizes = torch.stack(of_masks), torch.tensor([float((~judged).sum()) for judged in left_out])
        return mean_over_masks(whole, images_alone(whole, torch.stack(without, dim=1), sizes), len(left_out))

    def _spectrum(self, halves: tuple[HeldOut, HeldOut], judged: np.ndarray | None) -> Tensor:
        values, squares = canonical_spectrum(halves, self.num_eigenvalues, judged)
        return torch.from_numpy(np.stack([values, np.maximum(squares - np.cumsum(values**2), 0.0)]))

    def result(self) -> xr.Dataset:
        if not self.kernel:
            deque(self.conclude(), maxlen=0)
        probe = self.probe
        shape = len(self.names), len(probe.ratios)
        # [mask ratio bandwidth quantity]
        swept = ("mask", "ratio", "bandwidth")
        kernel = stacked(self.kernel).map(lambda values: values.unflatten(0, shape))
        result = {}
        for name, (dims, columns, long_name) in _layout(self.num_eigenvalues).items():

            def pick(values: Tensor, columns: slice = columns, name: str = name, dims: tuple = dims) -> Tensor:
                of_name = values[..., columns]
                return of_name.unflatten(-1, (2, 3)) if name == "edges" else of_name if dims else of_name[..., 0]

            part = kernel.map(pick)
            result[name] = variable((*swept, *dims), part.value, long_name)
            result |= crossed_errors((*swept, *dims), part, name, long_name, method="jackknife")
        of_model = stacked(self.of_model).map(lambda values: values.unflatten(0, shape))
        for number, name in enumerate(("eigenvalue", "tail")):
            words, dims = f"{_layout(1)[name][2]}, from below by the model's features", ("mask", "ratio", "rank")
            part = of_model.map(lambda values, number=number: values[..., number, :])
            result[f"model_{name}"] = variable(dims, part.value, words)
            result |= crossed_errors(dims, part, f"model_{name}", words, method="jackknife")
        share = np.bincount(self.label) / len(self.label)
        result |= {
            "realised_ratio": variable(swept[:2], self.realised.reshape(shape), "hidden patches / patches"),
            "chance": variable((), 1 - float((share**2).sum()), "share of pairs of images of different classes"),
            "label_chance": variable((), 1 - float(share.max()), "label error of naming the commonest class"),
            **toy_variables(self.num_eigenvalues),
        }
        used = {dim for part in result.values() for dim in part.dims}
        coordinates = {name: part for name, part in self._coordinates().items() if name in used}
        attributes = {
            "num_sampled": len(self.sample),
            "bandwidth_unit": self.unit,
            "definition": "lcmae's own estimators",
        }
        return xr.Dataset(result, coordinates, attributes)

    def _coordinates(self) -> dict[str, Any]:
        probe = self.probe
        return {
            "mask": self.names,
            "ratio": ("ratio", list(probe.ratios), {"long_name": "masking ratio", "units": "1"}),
            "bandwidth": (
                "bandwidth",
                list(probe.bandwidths),
                {"long_name": "kernel bandwidth / distance to the nearest image", "units": "1"},
            ),
            "rank": ("rank", list(range(1, self.num_eigenvalues + 1)), {"long_name": "rank k", "units": "1"}),
            "side": list(SIDES),
            "edge": list(EDGES),
        }


def _numbers(graph: GraphNumbers, count: int) -> np.ndarray:
    """Edges (6), label error, components, eigenvalues and tail (`count` each, 0 beyond what there
    are)."""
    values, tail = np.zeros(count), np.zeros(count)
    values[: len(graph.eigenvalues)], tail[: len(graph.eigenvalues)] = graph.eigenvalues, graph.tail
    return np.concatenate([graph.edges.ravel(), [graph.label_error, graph.components], values, tail])


def _layout(count: int) -> dict[str, tuple[tuple[str, ...], slice, str]]:
    """Where `_numbers` has what: dims, columns, words."""
    return {
        "edges": (("side", "edge"), slice(0, 6), "share of edge weight"),
        "label_error": ((), slice(6, 7), "label error alpha of visible parts"),
        "components": ((), slice(7, 8), "eigenvalues above 0.99 (parts that hardly communicate)"),
        "eigenvalue": (("rank",), slice(8, 8 + count), "eigenvalue of the augmentation graph"),
        "tail": (("rank",), slice(8 + count, 8 + 2 * count), "tail: sum of squared eigenvalues beyond rank k"),
    }
