"""Reported errors against the spread over independent draws of images and masks; every stored error
is measured."""

import math

import numpy as np
import pytest
import xarray as xr

from benchmarks.trust import (
    EXCEPTIONS,
    LEFT_OUT,
    REFERENCES,
    SETTINGS,
    Measured,
    document,
    draws,
    measure,
    outside,
)
from lcmae.probes.registry import PROBES
from lcmae.probes.statistics.variables import error_of, variable


def known(value: float, error: float) -> dict[str, xr.Dataset]:
    values = {"x": variable((), value, "x"), "x_sem": error_of((), error, "x", degrees=7)}
    return {"reconstruction": xr.Dataset(values)}


def test_the_ratio_is_spread_over_error() -> None:
    rng = np.random.default_rng(0)
    (row,) = measure([known(float(value), 0.5) for value in rng.normal(size=400)])
    assert row.ratio == pytest.approx(2.0, rel=0.1)
    assert outside([row]) == {("reconstruction", "x"): row.ratio}
    assert "`reconstruction.x`" in document([row], known(0.0, 0.5))


def test_what_does_not_vary_has_no_ratio() -> None:
    (row,) = measure([known(1.0, 0.0)] * 3)
    assert math.isnan(row.ratio)
    assert outside([row]) == {}


def test_every_probe_is_measured_or_left_out_by_name() -> None:
    left_out = set(PROBES) - set(SETTINGS)
    assert left_out == {"hierarchy", "transfer", "dense", "second_order", "attribution"}
    assert all(f"`{probe}`" in LEFT_OUT for probe in left_out)
    assert set(REFERENCES) == set(SETTINGS)


@pytest.mark.slow
def test_every_stored_error_says_from_what_it_is() -> None:
    (found,) = draws(1)
    for probe, result in found.items():
        for name, values in result.data_vars.items():
            if str(name).endswith("_sem"):
                assert {"degrees_of_freedom", "error_sources"} <= values.attrs.keys(), (probe, name)
                assert {str(name).removesuffix(end) for end in ("_sem", "_masks_sem")} & {*result}, (probe, name)
    assert found["mask_graph"]["label_error_sem"].attrs["error_sources"] == "images and masks"


@pytest.fixture(scope="module")
def rows() -> list[Measured]:
    """Eight minutes on an idle core, more beside other tests: who asks has its own timeout."""
    return measure(list(draws()))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_reported_errors_are_the_spread(rows: list[Measured]) -> None:
    assert set(outside(rows)) <= set(EXCEPTIONS)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_exceptions_are_still_needed(rows: list[Measured]) -> None:
    assert set(EXCEPTIONS) <= set(outside(rows))
