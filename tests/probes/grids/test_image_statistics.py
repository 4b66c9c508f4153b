"""Statistics of images with known answers: noise, constant images, a field whose best prediction is
known, two classes."""

import math

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from lcmae.errors import InputError
from lcmae.probes.grids.advice import of_statistics
from lcmae.probes.grids.image_statistics import image_statistics, num_steps, repeated

SMALL = {"ratios": (0.5, 0.75), "units": (1, 2)}


def test_noise_has_no_reach_and_nothing_to_predict() -> None:
    pixels = torch.randint(0, 256, (80, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    calls: list[int] = []
    found = image_statistics(pixels, None, 4, advance=lambda: calls.append(1), **SMALL)
    assert len(calls) == num_steps(**SMALL)
    assert float(found["correlation"][0]) == 1
    assert np.abs(found["correlation"].values[1:]).max() < 0.05
    # 1 to about 0 within a pixel of a patch of 4
    assert float(found["reach"]) == pytest.approx((1 - math.exp(-1)) / 4, abs=0.02)
    for name in ("r2_linear", "r2_near"):
        low = found[name].values - 4 * found[f"{name}_sem"].values
        assert (low < 0.05).all()
        assert (found[name].values < 0.05).all()
    assert "label_error" not in found


def test_small_systems_are_solved_on_one_thread() -> None:
    """On a busy machine the threads of a BLAS spin: ten times the processor time for the same
    numbers."""
    pixels = torch.randint(0, 256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    within: list[int] = []

    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        image_statistics(pixels, None, 4, ratios=(0.5,), units=(1,), advance=lambda: within.extend(threads()))
        after = threads()
    assert set(within) == {1}
    assert 2 in after, "put back"


def test_images_of_one_value_agree_everywhere() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(
        np.broadcast_to(rng.integers(0, 256, (60, 1, 1, 1)), (60, 1, 16, 16)).astype(np.uint8).copy()
    )
    found = image_statistics(pixels, None, 4, **SMALL)
    assert found["correlation"].values == pytest.approx(1)
    assert math.isnan(float(found["reach"]))
    assert (found["r2_linear"].values > 0.9).all()
    assert "beyond half of the image" in of_statistics(found)[0]


def test_neighbours_explain_what_a_markov_field_allows() -> None:
    """Patches of one pixel along a line, x_i = phi x_(i-1) + noise, depend on their neighbours
    alone: with one hidden, R2 = 2 phi^2 / (1 + phi^2) in the line and phi^2 at its ends."""
    rng, phi, count = np.random.default_rng(0), 0.9, 4000
    field = np.zeros((count, 16))
    field[:, 0] = rng.normal(size=count)
    for position in range(1, 16):
        field[:, position] = phi * field[:, position - 1] + math.sqrt(1 - phi**2) * rng.normal(size=count)
    pixels = torch.from_numpy(np.clip(128 + 28 * field, 0, 255).round().astype(np.uint8)).reshape(count, 1, 1, 16)
    found = image_statistics(pixels, None, 1, ratios=(0.0625,), units=(1,))
    ends, middle = phi**2, 2 * phi**2 / (1 + phi**2)
    expected = (2 * ends + 14 * middle) / 16
    assert found["r2_near"].item() == pytest.approx(expected, abs=0.02)
    assert found["r2_linear"].item() == pytest.approx(expected, abs=0.02)
    assert abs(found["far_gain"].item()) < 0.01


def test_classes_that_look_apart_have_no_label_error() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    pixels = np.clip(60 + 120 * label[:, None, None, None] + 6 * rng.normal(size=(60, 1, 16, 16)), 0, 255)
    found = image_statistics(torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(label), 4, **SMALL)
    assert found["label_error"].values == pytest.approx(0, abs=1e-6)
    assert float(found["chance"]) == pytest.approx(0.5)
    assert float(found["label_chance"]) == pytest.approx(0.5)
    text = " ".join(of_statistics(found))
    assert "Label error of similar visible parts" in text
    assert "so they do not choose one" in text


def test_every_number_has_a_unit_and_every_error_its_degrees() -> None:
    pixels = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = image_statistics(pixels, None, 4, **SMALL)
    for name, part in found.variables.items():
        assert {"units", "long_name"} <= set(part.attrs), name
        if str(name).endswith("_sem"):
            assert {"degrees_of_freedom", "error_sources"} <= set(part.attrs), name


def test_too_few_images_and_equal_ones_are_refused() -> None:
    with pytest.raises(InputError, match="at least 20 images for their statistics, got 8"):
        image_statistics(torch.zeros(8, 1, 8, 8, dtype=torch.uint8), None, 4)
    with pytest.raises(InputError, match="images that differ"):
        image_statistics(torch.zeros(24, 1, 8, 8, dtype=torch.uint8), None, 4)


def test_classes_say_something_when_they_repeat() -> None:
    assert repeated(torch.tensor([0, 1, 0, 1]))
    assert not repeated(torch.arange(8))
    assert not repeated(torch.zeros(8, dtype=torch.int64))
