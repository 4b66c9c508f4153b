"""Errors by loops, neighbours by brute force, and pictures that show what they say and nothing that
leaks unlabelled."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import xarray as xr
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.masking import Block, Mask, Random
from lcmae.models import MAE, SimMIM
from lcmae.patches import normalize_patches, patchify, unpatchify
from lcmae.probes.baselines.pixels import nearest_visible
from lcmae.probes.reconstruction import Reconstruction
from lcmae.probes.results.networks import trained
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.pictures import draw
from tests.conftest import tiny_mae, tiny_simmim
from tests.reference.probes import second_order as reference


def result(model: Any, images: Any, **settings: Any) -> xr.Dataset:
    return trained(Reconstruction(**settings)(model, images, torch.Generator().manual_seed(0)))


@pytest.fixture(params=["mae", "simmim", "normalised"])
def model(request: pytest.FixtureRequest) -> MAE | SimMIM:
    kinds = {"mae": tiny_mae, "simmim": tiny_simmim, "normalised": lambda: tiny_mae(normalize_targets=True)}
    return kinds[request.param]()


def brute_nearest(is_hidden: Tensor, grid: tuple[int, int]) -> list[int]:
    """For every patch the visible one at the smallest distance, the first in raster order among
    equals."""
    visible = [position for position in range(len(is_hidden)) if not is_hidden[position]]

    def squared(a: int, b: int) -> int:
        return (a // grid[1] - b // grid[1]) ** 2 + (a % grid[1] - b % grid[1]) ** 2

    return [min(visible, key=lambda other: (squared(position, other), other)) for position in range(len(is_hidden))]


@given(rows=st.integers(1, 7), columns=st.integers(2, 7), share=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_nearest_visible_is_the_nearest(rows: int, columns: int, share: float, seed: int) -> None:
    num_patches = rows * columns
    num_hidden = min(max(1, round(share * num_patches)), num_patches - 1)
    order = torch.rand(3, num_patches, generator=torch.Generator().manual_seed(seed)).argsort(1)
    mask = Mask.from_hidden(order < num_hidden)
    found = nearest_visible(mask, (rows, columns))
    for image in range(3):
        assert found[image].tolist() == brute_nearest(mask.is_hidden[image], (rows, columns))


@pytest.mark.parametrize("batch_size", [2, 64])
def test_errors_are_those_of_a_loop(model: Any, images: Tensor, batch_size: int) -> None:
    dataset = result(model, images, batch_size=batch_size)
    mask, out = Batch(model, images, 0, int(dataset.attrs["seed"])).masked(Random(), 1)
    target = model.targets(images)
    errors: dict[str, list[float]] = {"error": [], "error_nearest": []}
    by_position: dict[int, list[float]] = {}
    hidden_targets = []
    for image in range(len(images)):
        nearest = brute_nearest(mask.is_hidden[image], model.grid)
        own, copied = [], []
        for position in mask.hidden[image].tolist():
            truth = target[image, position]
            own.append(float((out.pred[image, position] - truth).square().mean()))
            copied.append(float((target[image, nearest[position]] - truth).square().mean()))
            by_position.setdefault(position, []).append(own[-1])
            hidden_targets.append(truth)
        errors["error"].append(float(np.mean(own)))
        errors["error_nearest"].append(float(np.mean(copied)))
    for name, values in errors.items():
        assert float(dataset[name]) == pytest.approx(np.mean(values), rel=1e-5)
        assert float(dataset[f"{name}_sem"]) == pytest.approx(np.std(values, ddof=1) / math.sqrt(5), rel=1e-4)
        np.testing.assert_allclose(dataset[f"image_{name}"], values, rtol=1e-5)
    assert dataset["image_class"].values.tolist() == [-1] * 5
    assert dataset["image_thumbnail"].shape == (5, 8, 12, 3)
    np.testing.assert_array_equal(dataset["image_thumbnail"], model.to_picture(images))
    every = torch.stack(hidden_targets).double()
    assert float(dataset["error_constant"]) == pytest.approx(float((every - every.mean(0)).square().mean()), rel=1e-6)
    for position, error in enumerate(dataset["error_map"].values.flat):
        if position in by_position:
            assert error == pytest.approx(np.mean(by_position[position]), rel=1e-4)
        else:
            assert math.isnan(error)  # never hidden, so nothing is known there


def test_visible_patches_are_pasted_and_hidden_ones_predicted(model: Any, images: Tensor) -> None:
    dataset = result(model, images, num_pictures=3, batch_size=2)
    mask, out = Batch(model, images, 0, int(dataset.attrs["seed"])).masked(Random(), 1)
    hidden = mask.is_hidden[:3].numpy().reshape(3, *model.grid)
    assert np.array_equal(dataset["hidden"].values, hidden)
    by_pixel = hidden.repeat(2, 1).repeat(2, 2)
    original, picture = dataset["original"].values, dataset["reconstruction"].values
    assert original.dtype == picture.dtype == np.uint8
    assert np.array_equal(original[~by_pixel], picture[~by_pixel])
    assert not np.array_equal(original[by_pixel], picture[by_pixel])
    squared = (out.pred - model.targets(images)).square().mean(-1)[:3].reshape(3, *model.grid)
    np.testing.assert_allclose(dataset["picture_error"].values, squared.numpy(), rtol=1e-4, atol=1e-6)


def test_bytes_survive_the_way_through_the_networks_space(rng: torch.Generator) -> None:
    model = tiny_mae(pixel_mean=(0.485, 0.456, 0.406), pixel_std=(0.229, 0.224, 0.225))
    pixels = torch.arange(256).repeat(3, 3, 1)[:, :1].reshape(1, 3, 16, 16).to(torch.uint8)[:, :, :8, :12]
    mask = Random(ratio=0.5)(1, model.grid, rng)
    pictures = draw(model, model.prepare(pixels), mask, torch.zeros(1, 24, 12))
    assert torch.equal(pictures["original"], rearrange(pixels, "b c h w -> b h w c"))


class TestLeak:
    def test_only_normalised_targets_can_leak(self, images: Tensor) -> None:
        assert "reconstruction_leaky" not in result(tiny_mae(), images)
        dataset = result(tiny_mae(normalize_targets=True), images)
        assert "leaks the answer" in dataset["reconstruction_leaky"].attrs["long_name"]
        assert "leak" not in dataset["reconstruction"].attrs["long_name"]

    def test_the_leaky_picture_of_a_perfect_prediction_is_the_truth(self, rng: torch.Generator) -> None:
        model = tiny_mae(normalize_targets=True)
        pixels = torch.randint(256, (4, 3, 8, 12), generator=rng, dtype=torch.uint8)
        images = model.prepare(pixels)
        mask = Random()(4, model.grid, rng)
        pictures = draw(model, images, mask, normalize_patches(patchify(images, 2)))
        assert torch.equal(pictures["reconstruction_leaky"], pictures["original"])
        # without the answer, even that prediction does not restore level and contrast
        assert not torch.equal(pictures["reconstruction"], pictures["original"])

    def test_the_honest_picture_does_not_know_the_hidden_pixels(self, rng: torch.Generator) -> None:
        model = tiny_mae(normalize_targets=True)
        images = torch.randn(2, 3, 8, 12, generator=rng) * 0.2
        mask = Random()(2, model.grid, rng)
        hidden = mask.is_hidden.reshape(2, 1, *model.grid).repeat_interleave(2, 2).repeat_interleave(2, 3)
        other = torch.where(hidden, torch.rand(images.shape, generator=rng), images)
        pred = torch.randn(2, 24, 12, generator=rng)
        mine, theirs = (draw(model, seen, mask, pred) for seen in (images, other))
        assert torch.equal(mine["reconstruction"], theirs["reconstruction"])
        assert not torch.equal(mine["reconstruction_leaky"], theirs["reconstruction_leaky"])

    def test_plain_targets_show_the_prediction_itself(self, images: Tensor, rng: torch.Generator) -> None:
        model = tiny_mae()
        mask = Random()(5, model.grid, rng)
        pictures = draw(model, images.clamp(-1, 1), mask, patchify(images.clamp(-1, 1), 2))
        assert torch.equal(pictures["reconstruction"], pictures["original"])


@pytest.mark.parametrize("num_pictures", [0, 2, 50])
def test_as_many_pictures_as_asked_for(images: Tensor, num_pictures: int) -> None:
    dataset = result(tiny_mae(), images, num_pictures=num_pictures, batch_size=2)
    assert dataset.sizes.get("picture", 0) == min(num_pictures, 5)


def test_a_single_image_has_no_error_bar(images: Tensor) -> None:
    dataset = result(tiny_mae(), images[:1])
    assert math.isnan(dataset["error_sem"])
    assert np.isfinite(dataset["error"])


@dataclass(frozen=True)
class Split:
    """Images that are mixes of their patches, and as many of another split as asked for."""

    pixels: Tensor
    others: int = 300

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice) -> Tensor:
        return self.pixels[index]

    def other_split(self, limit: int | None) -> "Split":
        return Split(mixed(min(self.others, limit or self.others), seed=1))


class Following(Random):
    """Says that it follows the image."""

    needs_images: ClassVar[bool] = True

    def guide(self, preference: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
        return preference


def mixed(count: int, seed: int) -> Tensor:
    """Patches of 12 values that share three directions, 4 x 6 of them."""
    mix = torch.randn(3, 24 * 12, generator=torch.Generator().manual_seed(9))
    rng = torch.Generator().manual_seed(seed)
    patches = torch.randn(count, 3, generator=rng) @ mix + 0.3 * torch.randn(count, 24 * 12, generator=rng)
    return unpatchify(patches.reshape(count, 24, 12), (4, 6), 2)


class TestLinear:
    def test_its_error_is_that_of_the_equations(self) -> None:
        model, images = tiny_mae(), mixed(9, seed=0)
        dataset = result(model, Split(images), batch_size=4)
        mask, _ = Batch(model, images, 0, int(dataset.attrs["seed"])).masked(Random(), 1)
        taught = patchify(mixed(300, seed=1), 2).double().numpy()
        teaching = taught[np.arange(300) % 5 != 0]  # the others chose the ridge
        assert dataset.attrs["linear_images"] == len(teaching)
        blocks = reference.covariance(teaching, teaching)
        if dataset.attrs["linear_stationary"]:
            blocks = reference.by_offset(blocks, model.grid)
        weights = reference.fixed_weights(blocks, blocks, 24 - mask.hidden.shape[1], dataset.attrs["linear_ridge"])
        errors = []
        for image, patches in enumerate(patchify(images, 2).double().numpy()):
            hidden = mask.is_hidden[image].numpy()
            found = teaching.mean(0) + reference.predicted(weights, patches - teaching.mean(0), hidden)
            errors.append(((found - patches)[hidden] ** 2).mean())
        assert float(dataset["error_linear"]) == pytest.approx(np.mean(errors), rel=1e-6)
        assert float(dataset["error_linear_sem"]) == pytest.approx(np.std(errors, ddof=1) / 3, rel=1e-4)
        # three directions carry 91 % of the variance, and six visible patches tell them
        assert float(dataset["error_linear"]) < 0.4 * float(dataset["error_position"])

    @pytest.mark.slow
    def test_blocks_have_weights_of_their_own(self) -> None:
        dataset = result(tiny_mae(), Split(mixed(9, seed=0)), mask=Block(ratio=0.5, min_block=2))
        assert 0.09 < float(dataset["error_linear"]) < 0.4 * float(dataset["error_position"])

    @pytest.mark.parametrize(
        ("images", "settings", "reason"),
        [
            (mixed(9, seed=0), {}, "needs images of a named data set"),
            (Split(mixed(9, seed=0), others=9), {}, "at least 10 images of the other split, got 9"),
            (Split(mixed(9, seed=0)), {"linear_images": 0}, "left out"),
            (Split(mixed(9, seed=0)), {"mask": Following()}, "masks that do not follow the image"),
        ],
    )
    def test_where_there_is_none_the_reason_is_said(self, images: Any, settings: dict[str, Any], reason: str) -> None:
        found = result(tiny_mae(), images, **settings)["error_linear"]
        assert math.isnan(float(found))
        assert reason in found.attrs["missing"]
