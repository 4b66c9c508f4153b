"""The mask_graph probe on images: against plain loops, what it refuses, what it costs."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import Block, CoarseRandom
from lcmae.models import MAE, SimMIM
from lcmae.patches import patchify
from lcmae.probes.base import ProbeError, batches, run_probes
from lcmae.probes.mask_graph import MaskGraph, unit_name
from lcmae.probes.mask_graphs.sample import fixed_masks, parts_of
from lcmae.probes.registry import probe_class
from lcmae.probes.results.store import load_result, save_result
from lcmae.settings import parse
from tests.reference.work import counted_rows, numbers_held

SMALL = MaskGraph(ratios=(0.25, 0.75), num_masks=4, num_eigenvalues=5, batch_size=5)


@dataclass(frozen=True)
class Labelled:
    images: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Tensor:
        return self.images[index]


def two_kinds(count: int, rng: torch.Generator) -> Labelled:
    """The class is the sign of a pattern that fills the image."""
    labels = torch.arange(count) % 2
    pattern = torch.randn(1, 3, 8, 12, generator=rng)
    noise = torch.randn(count, 3, 8, 12, generator=rng)
    return Labelled(pattern * (2 * labels - 1)[:, None, None, None] + noise, labels)


def plain_step(points: np.ndarray, bandwidth: float) -> np.ndarray:
    """Rows and columns of the kernel scaled to 1 in turn, until they are."""
    step = np.array([[np.exp(-((a - b) ** 2).sum() / (2 * bandwidth**2)) for b in points] for a in points])
    for _ in range(300):
        step = step / step.sum(1, keepdims=True)
        step = step / step.sum(0, keepdims=True)
    return step


def test_numbers_equal_plain_loops(mae: MAE, rng: torch.Generator) -> None:
    images = two_kinds(14, rng)
    found = run_probes([SMALL], mae, images, 7).datasets["mask_graph"]
    patches = patchify(images.images, 2).double().numpy()
    whole = patches.reshape(14, -1)
    apart = [min(np.linalg.norm(a - b) for j, b in enumerate(whole) if j != i) for i, a in enumerate(whole)]
    unit = float(np.median(apart))
    assert found.attrs["bandwidth_unit"] == pytest.approx(unit)

    label, where = images.labels, {"mask": "unit 2", "ratio": 0.75, "bandwidth": 0.5}
    assert label is not None
    other_class = (label[:, None] != label[None]).numpy()
    shares, errors, tails = [], [], []
    for hidden in fixed_masks(CoarseRandom(unit=2, ratio=0.75), mae.grid, 4, 7).numpy():
        steps = [plain_step(patches[:, part].reshape(14, -1), 0.5 * unit) for part in (hidden, ~hidden)]
        rows = []
        for step in steps:
            same, inter = np.trace(step) / 14, step[other_class].sum() / 14
            rows.append([same, 1 - same - inter, inter])
        shares.append(rows)
        votes = steps[1] * (1 - np.eye(14))
        of_zero = votes[:, label.numpy() == 0].sum(1)
        errors.append(((of_zero < votes.sum(1) - of_zero) != label.numpy()).mean())
        values = np.sort(np.linalg.eigvals(steps[0] @ steps[1]).real)[::-1]
        tails.append([(values[k:] ** 2).sum() for k in range(1, 6)])
    here = found.sel(where)
    np.testing.assert_allclose(here["edges"].values, np.mean(shares, axis=0), atol=1e-6)
    assert float(here["label_error"]) == pytest.approx(np.mean(errors))
    np.testing.assert_allclose(here["tail"].values, np.mean(tails, axis=0), atol=1e-6)


def test_the_contract(mae: MAE, rng: torch.Generator, tmp_path: Path) -> None:
    assert probe_class("mask_graph") is MaskGraph
    found = run_probes([SMALL], mae, two_kinds(14, rng), 7).datasets["mask_graph"]
    assert found["edges"].dims == ("mask", "ratio", "bandwidth", "side", "edge")
    assert found["mask"].values.tolist() == ["unit 1", "unit 2"]
    np.testing.assert_allclose(found["edges"].sum("edge"), 1, atol=1e-6)
    np.testing.assert_allclose(found["eigenvalue"].sel(rank=1), 1, atol=1e-6)
    assert (found["model_eigenvalue"].sel(rank=1) == 1).all()
    for name in ("edges", "label_error", "eigenvalue", "tail", "components", "model_eigenvalue", "model_tail"):
        assert bool(found[f"{name}_sem"].notnull().all()), name
        assert found[f"{name}_sem"].shape == found[name].shape
        # masks are a part of the error, by the spread of the numbers of each mask
        assert bool((found[f"{name}_masks_sem"] <= found[f"{name}_sem"]).all())
        assert found[f"{name}_masks_sem"].attrs["degrees_of_freedom"] == 3
        assert found[f"{name}_sem"].attrs["error_sources"] == "images and masks"
    # two equally large classes: 7 of 13 others differ, and with itself one of two
    assert float(found["chance"]) == pytest.approx(0.5)
    assert float(found["label_chance"]) == pytest.approx(0.5)
    # wider kernels lead away from the image
    assert (found["edges"].sel(edge="same_image").diff("bandwidth") < 0).all()
    save_result(found, tmp_path / "mask_graph.nc")
    xr.testing.assert_equal(load_result(tmp_path / "mask_graph.nc"), found)


def test_two_masks_give_no_error(mae: MAE, rng: torch.Generator) -> None:
    found = run_probes([SMALL.model_copy(update={"num_masks": 2})], mae, two_kinds(14, rng), 7).datasets["mask_graph"]
    assert bool(found["edges_sem"].isnull().all())
    assert "fewer than 4 masks" in found["edges_sem"].attrs["missing"]
    assert bool(found["edges"].notnull().all())


@pytest.mark.parametrize("space", ["pca", "features"])
def test_other_spaces(mae: MAE, space: str, rng: torch.Generator) -> None:
    images = two_kinds(14, rng)
    probe = parse(MaskGraph, {**SMALL.model_dump(), "space": space, "num_components": 200})
    found = run_probes([probe], mae, images, 7).datasets["mask_graph"]
    np.testing.assert_allclose(found["edges"].sum("edge"), 1, atol=1e-6)
    if space == "pca":
        # with every component these are pixels
        pixels = run_probes([SMALL], mae, images, 7).datasets["mask_graph"]
        np.testing.assert_allclose(found["edges"].values, pixels["edges"].values, atol=1e-6)


@pytest.mark.parametrize("kind", ["mae", "simmim"])
def test_vectors_of_parts_are_those_of_complementary_masks(
    kind: str, mae: MAE, simmim: SimMIM, rng: torch.Generator
) -> None:
    model = (mae if kind == "mae" else simmim).eval()
    images = torch.randn(3, 3, 8, 12, generator=rng)
    hidden = fixed_masks(CoarseRandom(ratio=0.25, unit=1), model.grid, 2, 0)
    parts = parts_of(model, images, hidden)
    swapped = parts_of(model, images, ~hidden)
    torch.testing.assert_close(parts[:, :, 0], swapped[:, :, 1])
    torch.testing.assert_close(parts[:, :, 1], swapped[:, :, 0])
    # what is hidden has no part in the vector of what is visible
    corrupted = images.clone()
    patches = patchify(corrupted, 2)
    assert patches.shape[1] == hidden.shape[1]
    rows, columns = torch.nonzero(hidden[0].reshape(4, 6), as_tuple=True)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        corrupted[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1
    torch.testing.assert_close(parts_of(model, corrupted, hidden)[:, 0, 0], parts[:, 0, 0])


@pytest.mark.parametrize("unit", [1, 2])
def test_masks_of_a_small_ratio_lie_within_those_of_a_larger_one(mae: MAE, unit: int) -> None:
    ratios = (0.1, 0.25, 0.5, 0.75, 0.9)
    few = [fixed_masks(CoarseRandom(unit=unit, ratio=ratio), mae.grid, 3, 5) for ratio in ratios]
    for small, large in pairwise(few):
        assert bool((small <= large).all())
        assert int(small.sum()) < int(large.sum())
    assert not torch.equal(few[2], fixed_masks(CoarseRandom(unit=unit, ratio=0.5), mae.grid, 3, 6))


def test_batches_do_not_matter_and_the_same_seed_gives_the_same(mae: MAE, rng: torch.Generator) -> None:
    images = two_kinds(14, rng)
    one, other = (
        run_probes([SMALL.model_copy(update={"batch_size": size})], mae, images, 3).datasets["mask_graph"]
        for size in (3, 14)
    )
    xr.testing.assert_allclose(one, other, atol=1e-4)


def test_cost_and_memory_stop_growing_at_the_cap(mae: MAE, rng: torch.Generator) -> None:
    probe = SMALL.model_copy(update={"num_sampled": 8, "num_eigenvalues": 3})
    rows, numbers = [], []
    for count in (20, 40):
        images = two_kinds(count, rng)
        accumulator = probe.start(mae, count, 0)
        with counted_rows(mae.norm) as counted:
            for batch in batches(mae, images, 5, 0):
                accumulator.update(batch)
        rows.append(sum(counted))
        numbers.append(numbers_held(accumulator.sample))
    assert numbers[0] == numbers[1]
    # 2 units x 2 ratios x 4 masks x 2 sides for each sampled image
    assert rows == [8 * 32, 8 * 32]


def test_another_strategy_has_one_row(mae: MAE, rng: torch.Generator) -> None:
    probe = SMALL.model_copy(update={"mask": Block()})
    found = run_probes([probe], mae, two_kinds(14, rng), 7).datasets["mask_graph"]
    assert found["mask"].values.tolist() == ["block"]
    assert unit_name(2) == "unit 2"


@pytest.mark.parametrize(
    ("changes", "images", "message"),
    [
        ({}, {"labels": None}, "needs images with known classes, got images without labels"),
        ({}, {"labels": torch.zeros(14, dtype=torch.long)}, "images of two classes or more, got one class"),
        ({}, {"images": torch.zeros(14, 3, 8, 12)}, "expected images that differ in their pixels, got equal ones"),
        ({"num_eigenvalues": 14}, {}, "needs more images than the 14 eigenvalues asked for, got 14"),
        ({"ratios": (0.5, 0.99)}, {}, "masking ratio 0.99 leaves 0 of the 24 patches"),
        ({"units": (1, 9)}, {}, "mask unit of at most 4 patches on a 4x6 grid, got 9"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    mae: MAE, changes: dict, images: dict, message: str, rng: torch.Generator
) -> None:
    usual = two_kinds(14, rng)
    given = Labelled(images.get("images", usual.images), images.get("labels", usual.labels))
    if "labels" in images:
        given = Labelled(usual.images, images["labels"])
    results = run_probes([SMALL.model_copy(update=changes)], mae, given, 0)
    error = results.failures["mask_graph"]
    assert isinstance(error, ProbeError)
    assert message in str(error)
    assert "\n" not in str(error)
    assert results.datasets == {}


@pytest.mark.parametrize(
    "values", [{"ratios": ()}, {"ratios": (0.0, 0.5)}, {"units": (2, 1)}, {"bandwidths": (0.5, 0.5)}]
)
def test_settings_that_do_not_rise_are_refused(values: dict) -> None:
    with pytest.raises(InputError, match="rising numbers above 0"):
        parse(MaskGraph, values)
