"""Pictures of spectra: what the probe makes, a run without class token, one image, spectra that end
in zeros."""

import numpy as np
import pytest
import torch
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.spectrum import PAGE
from lcmae.app.figures import spectrum as figures
from lcmae.probes.results.networks import trained
from lcmae.probes.spectrum import Spectrum
from lcmae.probes.statistics import intervals
from tests.app.pages import own, traces
from tests.conftest import tiny_mae


def result(num_images: int = 6) -> xr.Dataset:
    """What the probe makes of a tiny model; with one image most errors are NaN."""
    torch.manual_seed(0)
    images = torch.randn(num_images, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    return Spectrum(num_masks=2)(tiny_mae(), images, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    return result()


def test_numbers_stand_at_their_feature_and_view(whole: xr.Dataset) -> None:
    without = whole.sel(feature=["mean", "token"])
    shown = figures.numbers({"a": whole, "b": without}, "rankme")
    first, second = own(shown)
    assert first.y.tolist() == trained(whole)["rankme"].values.reshape(-1).tolist()
    np.testing.assert_allclose(first.error_y.array, intervals.half_width(trained(whole), "rankme").reshape(-1))
    assert list(second.customdata) == [
        "mean token, whole images", "mean token, masked images", "single tokens, whole images", "single tokens, masked images",
    ]  # fmt: skip
    assert [round(x) for x in second.x] == [2, 3, 4, 5]
    assert shown.layout.yaxis.title.text == "RankMe"
    assert first.marker.symbol != second.marker.symbol


def test_lidar_is_of_pooled_vectors(whole: xr.Dataset) -> None:
    (trace,) = own(figures.lidar({"a": whole}))
    assert list(trace.customdata) == ["class token", "mean token"]
    assert np.isfinite(trace.y).all()


def test_a_spectrum_s_zeros_are_left_out_of_a_logarithmic_axis(whole: xr.Dataset) -> None:
    (trace,) = own(figures.spectra({"a": whole}, "variance_share", "cls", "full"))
    # 6 vectors vary along 5 directions of 16
    assert trace.x.tolist() == [1, 2, 3, 4, 5]
    assert sum(trace.y) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("awkward", [False, True])
def test_page_shows_runs_that_differ(whole: xr.Dataset, awkward: bool) -> None:
    results = {"a": whole, "b": result(1).sel(feature=["mean", "token"])} if awkward else {"a": whole}
    shown = list(PAGE.panels(results, take_first))
    assert len(shown) == 4
    assert all(page.caption and traces(page.figure) for page in shown)
    assert "exp entropy" in shown[0].caption
