"""Where nothing can be said, nothing is: NaN with a reason, or an error."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from lcmae.errors import InputError
from lcmae.probes.base import NOT_FINITE, checked, run_probes
from lcmae.probes.baselines.position_mean import PositionMean
from lcmae.probes.bounds import uniformity
from lcmae.probes.measures import similarity
from lcmae.probes.measures.ranks import mask_share
from lcmae.probes.results.networks import trained
from lcmae.probes.spectrum import Spectrum
from lcmae.probes.statistics.moments import GroupedMoments
from lcmae.probes.statistics.variables import variable
from tests.conftest import tiny_mae


def test_overflow_is_no_number_and_says_so() -> None:
    found = checked(xr.Dataset({"x": variable("k", [1.0, np.inf], "x"), "y": variable((), 2.0, "y")}))
    np.testing.assert_array_equal(found["x"], [1.0, np.nan])
    assert found["x"].attrs["missing"] == NOT_FINITE
    assert "missing" not in found["y"].attrs


@pytest.mark.parametrize("products", [[0.1, -0.1, 0.2], [0.1, 0.0, 0.2]])
def test_points_that_hardly_differ_have_no_cka(products: list[float]) -> None:
    assert bool(similarity.cka(torch.tensor([products], dtype=torch.float64)).isnan())


def test_vectors_of_zeros_have_no_uniformity() -> None:
    outer, count = torch.zeros(3, 3, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    assert bool(uniformity({"outer": outer, "directions": count}).isnan())


def views(images: Tensor) -> tuple[GroupedMoments, GroupedMoments]:
    """[b q d]: q views of each image."""
    between, within = GroupedMoments(), GroupedMoments()
    group = torch.arange(len(images)) % 8
    centre = images.mean(1, keepdim=True)
    between.add(centre, group)
    within.add(images - centre, group)
    return between, within


def test_the_share_of_masks_is_one_for_copies_and_known_otherwise(rng: torch.Generator) -> None:
    noise = torch.randn(2000, 4, 5, generator=rng, dtype=torch.float64)
    copies = views(noise)
    assert float(mask_share(copies[0].whole(), copies[1].whole(), 4)) == pytest.approx(1, abs=0.1)
    # images of variance 1 beside a quarter of the views'
    apart = views(noise + torch.randn(2000, 1, 5, generator=rng, dtype=torch.float64))
    assert float(mask_share(apart[0].whole(), apart[1].whole(), 4)) == pytest.approx(0.2, abs=0.03)


def test_lidar_of_copies_stands_beside_the_share_that_masks_make(rng: torch.Generator) -> None:
    image = torch.randn(1, 3, 8, 12, generator=rng)
    probe = Spectrum(num_masks=4, baseline_images=0)
    found = trained(run_probes([probe], tiny_mae(), image.repeat(24, 1, 1, 1), 1).datasets["spectrum"])
    assert (found["lidar_mask_share"].dropna("feature") > 0.5).all()
    assert "lidar_mask_share" in found["lidar"].attrs["convention"]


@pytest.mark.parametrize("values", [{"pixel_mean": (float("nan"),)}, {"pixel_std": (float("inf"),)}])
def test_statistics_of_pixels_are_finite(values: dict) -> None:
    with pytest.raises(InputError, match="finite"):
        tiny_mae(**values)


def test_the_mean_of_each_position_is_the_best_that_does_not_see_the_image(rng: torch.Generator) -> None:
    target = torch.randn(7, 5, 3, generator=rng, dtype=torch.float64) + 40
    hidden = torch.rand(7, 5, generator=rng) < 0.6
    found = PositionMean()
    for part, chosen in zip(target.split(3), hidden.split(3), strict=True):
        found.add(part, chosen)
    errors = [(target[hidden[:, i], i] - target[hidden[:, i], i].mean(0)).square() for i in range(5)]
    assert float(found.error) == pytest.approx(float(torch.cat(errors).mean()), rel=1e-9)
