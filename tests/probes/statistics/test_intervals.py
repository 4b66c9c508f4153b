"""Student's t from the degrees of freedom that results keep; masks as a second source; what was
stored before."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import t

from lcmae.probes.results.networks import of_network, trained, with_baselines
from lcmae.probes.statistics import intervals
from lcmae.probes.statistics.two_way import TwoWay
from lcmae.probes.statistics.variables import crossed_errors, error_of, variable


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 8, 31, 200, 201, 100_000])
def test_student_is_scipys(degrees: int) -> None:
    assert intervals.student(degrees) == pytest.approx(t.ppf(0.975, degrees), abs=1e-8)


def test_no_degrees_of_freedom_no_interval() -> None:
    assert np.isnan(intervals.student(0))


def result(degrees: int) -> xr.Dataset:
    return xr.Dataset(
        {
            "x": variable("k", [1.0, 2.0], "a number"),
            "x_sem": error_of("k", [0.1, 0.2], "a number", degrees=degrees, method="jackknife"),
        }
    )


def test_eight_groups_reach_further_than_the_normal() -> None:
    found = result(7)
    np.testing.assert_allclose(intervals.half_width(found, "x"), t.ppf(0.975, 7) * np.array([0.1, 0.2]))
    low, high = intervals.ends(found, "x", k=1)
    assert high - low == pytest.approx(2 * t.ppf(0.975, 7) * 0.2)
    assert intervals.method(found, "x") == "Student's t over images, 7 degrees of freedom"
    assert found["x_sem"].attrs["long_name"] == "standard error over images (jackknife): a number"


def test_what_was_stored_before_keeps_the_normal_and_says_so() -> None:
    old = result(7)
    old["x_sem"].attrs = {}
    np.testing.assert_allclose(intervals.half_width(old, "x"), [0.196, 0.392])
    assert intervals.method(old, "x").startswith("1.96 standard errors")


def test_images_and_masks_have_a_quantile_each() -> None:
    found = TwoWay(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(0.04), torch.tensor(0.09), groups=8, masks=4)
    crossed = xr.Dataset({"x": variable((), 1.0, "x"), **crossed_errors((), found, "x", "x")})
    expected = np.sqrt(t.ppf(0.975, 7) ** 2 * 0.04 + t.ppf(0.975, 3) ** 2 * 0.09)
    assert float(intervals.half(crossed, "x")) == pytest.approx(expected, rel=1e-6)
    assert intervals.method(crossed, "x") == "Student's t over images and masks, 7 and 3 degrees of freedom"


def test_baselines_have_degrees_of_freedom_of_their_own() -> None:
    both = with_baselines(result(500), {"untrained": result(3)}, {"untrained": ("x",)})
    half = intervals.half(both, "x")
    np.testing.assert_allclose(half.sel(network="trained"), t.ppf(0.975, 500) * np.array([0.1, 0.2]))
    np.testing.assert_allclose(half.sel(network="untrained"), t.ppf(0.975, 3) * np.array([0.1, 0.2]))
    alone = of_network(both, "untrained")
    np.testing.assert_allclose(intervals.half_width(alone, "x"), half.sel(network="untrained"))
    np.testing.assert_allclose(intervals.half_width(trained(both), "x"), half.sel(network="trained"))
