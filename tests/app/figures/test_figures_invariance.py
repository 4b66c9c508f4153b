"""Pictures of invariance: what the probe makes, empty bins, no class token, one image, no
prediction."""

import numpy as np
import pytest
import torch
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.invariance import PAGE
from lcmae.app.figures import invariance as figures
from lcmae.probes.invariance import Invariance
from lcmae.probes.results.networks import trained
from tests.app.pages import own, traces
from tests.conftest import tiny_mae


def result(num_images: int = 5) -> xr.Dataset:
    """What the probe makes of a tiny model; with one image there is no other to compare with."""
    torch.manual_seed(0)
    images = torch.randn(num_images, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    return Invariance(num_masks=3)(tiny_mae(), images, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    return result()


def without_prediction(data: xr.Dataset) -> xr.Dataset:
    names = [
        name for name in data if str(name).startswith(("retrieval", "info_nce")) and not str(name).endswith("chance")
    ]
    return data.assign({name: data[name] * np.nan for name in names})


def test_alignment_sets_the_same_image_beside_another(whole: xr.Dataset) -> None:
    same, other = own(figures.alignment({"a": whole}, "raw"))
    np.testing.assert_allclose(same.y, trained(whole)["alignment"].sel(pair="same_image", centring="raw"))
    np.testing.assert_allclose(other.y, trained(whole)["alignment"].sel(pair="other_image", centring="raw"))
    assert (same.marker.symbol, other.marker.symbol) == ("circle", "circle-open")


def test_bins_without_a_pair_are_left_out(whole: xr.Dataset) -> None:
    same, other = own(figures.by_overlap({"a": whole}, "token", "centred"))
    here = whole.sel(quantity="token", pair="same_image")
    assert same.x.tolist() == here["overlap"].values[here["num_pairs"].values > 0].tolist()
    assert len(same.x) < here.sizes["overlap"]
    assert (same.line.dash, other.line.dash) == ("solid", "dot")


def test_retrieval_has_its_references_and_chance(whole: xr.Dataset) -> None:
    shown = figures.retrieval({"a": whole, "b": whole}, "retrieval", "image")
    names = [trace.name for trace in own(shown) if trace.showlegend is not False]
    assert names == ["shuffled", "ceiling", "a", "b"]
    (line,) = shown.layout.shapes
    assert line.y0 == pytest.approx(1 / 24)
    assert figures.retrieval({"a": whole}, "info_nce", "image").layout.yaxis.title.text.endswith("[nat]")


@pytest.mark.parametrize(("kind", "count"), [("whole", 6), ("one image", 6), ("encoder only", 2), ("no cls", 6)])
def test_page_shows_what_there_is(whole: xr.Dataset, kind: str, count: int) -> None:
    data = {
        "whole": lambda: whole,
        "one image": lambda: result(1),
        "encoder only": lambda: without_prediction(whole),
        "no cls": lambda: whole.sel(quantity=["token", "mean"]),
    }[kind]()
    shown = list(PAGE.panels({"a": data}, take_first))
    assert len(shown) == count
    assert all(page.caption and traces(page.figure) for page in shown)
