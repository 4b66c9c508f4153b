"""Reported errors against the spread over independent draws of images and masks; every stored error
is measured."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from benchmarks.trust import (
    EXCEPTIONS,
    REFERENCES,
    SETTINGS,
    Measured,
    document,
    draws,
    made_draw,
    measure,
    network,
    outside,
    split,
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


def test_every_probe_is_measured() -> None:
    assert set(SETTINGS) == set(PROBES)
    assert set(REFERENCES) == set(SETTINGS)
    assert {probe for probe, _ in EXCEPTIONS} <= set(SETTINGS)


def test_draws_are_independent_and_what_is_fitted_on_is_the_same() -> None:
    first, second = split(0), split(1)
    assert not torch.equal(first.images, second.images)
    assert torch.equal(first.other_split(9).images, second.other_split(9).images)
    model = network((16, 16), 4, 1)
    one, other = made_draw(model, 0), made_draw(model, 1)
    assert one[:3].shape == (3, 1, 16, 16)
    assert not torch.equal(one.known_latents.rows, other.known_latents.rows)
    assert other.other_split(5).known_latents.rows.tolist() == [0, 1, 2, 3, 4]
    assert other.other_split(5).known_latents.hierarchy.split == "train"
    assert one.class_maps(slice(0, 2)).shape == (2, 16, 16)


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
    """About eleven minutes on an idle core, more beside other tests: who asks has its timeout."""
    return measure(list(draws()))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_reported_errors_are_the_spread(rows: list[Measured]) -> None:
    assert set(outside(rows)) <= set(EXCEPTIONS)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_exceptions_are_still_needed(rows: list[Measured]) -> None:
    assert set(EXCEPTIONS) <= set(outside(rows))
