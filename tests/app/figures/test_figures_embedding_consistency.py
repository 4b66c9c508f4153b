"""Pictures of embedding consistency: what the probe makes, two units, no prediction, a UMAP beside
the PCA."""

import numpy as np
import pytest
import torch
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages.embedding_consistency import PAGE
from lcmae.app.figures import embedding_consistency as figures
from lcmae.probes.embedding_consistency import EmbeddingConsistency
from lcmae.probes.results.networks import trained
from tests.app.pages import own, traces
from tests.conftest import tiny_mae


def result(*, normalize_targets: bool = False) -> xr.Dataset:
    torch.manual_seed(0)
    images = torch.randn(6, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    probe = EmbeddingConsistency(num_neighbours=3, num_sets=2, num_points=10)
    return probe(tiny_mae(normalize_targets=normalize_targets), images, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    return result()


def test_consistency_stands_between_chance_and_ceiling(whole: xr.Dataset) -> None:
    shown = figures.consistency({"a": whole, "b": whole}, "within", "cka")
    names = [trace.name for trace in own(shown) if trace.showlegend is not False]
    assert names == ["chance", "ceiling", "a", "b"]
    line = next(trace for trace in traces(shown) if trace.name == "a")
    np.testing.assert_allclose(line.y, trained(whole)["consistency"].sel(scope="within", measure="cka"))
    assert line.x.tolist() == [0, 1, 2]
    assert shown.layout.xaxis.title.text == "encoder block (0: embedding)"


def test_the_caption_calls_dashes_what_they_are(whole: xr.Dataset) -> None:
    shown = next(PAGE.panels({"a": whole}, take_first))
    dashes = {trace.name: trace.line.dash for trace in traces(shown.figure)}
    longest = {name: int(dashes[name].partition("px")[0]) for name in ("ceiling", "untrained network")}
    assert longest["ceiling"] > longest["untrained network"]
    assert "(ceiling, long dashes)" in shown.caption
    assert "Dashed: an untrained network" in shown.caption


def test_distances_have_their_unit_and_references(whole: xr.Dataset) -> None:
    shown = figures.distances({"a": whole}, "sliced_wasserstein")
    assert [trace.name for trace in own(shown)] == ["shuffled", "constant", "itself", "a"]
    assert shown.layout.yaxis.title.text.endswith("[input units]")
    assert shown.layout.yaxis.rangemode == "tozero"
    assert all(trace.cliponaxis is False for trace in own(shown)), "the patches themselves, at 0, are drawn whole"


def test_points_of_both_kinds_share_their_labels(whole: xr.Dataset) -> None:
    tokens, patches = traces(figures.points(whole, "pca", "position"))
    assert tokens.marker.color.tolist() == patches.marker.color.tolist()
    assert len(tokens.x) == len(patches.x) == 10
    with_umap = whole.assign(umap_x=whole["pca_x"], umap_y=whole["pca_y"])
    assert figures.planes(whole) == ["pca"]
    assert figures.planes(with_umap) == ["umap", "pca"]


def test_page_keeps_units_apart_and_leaves_out_what_is_not_there(whole: xr.Dataset) -> None:
    one = list(PAGE.panels({"a": whole}, take_first))
    assert len(one) == 5
    two = list(PAGE.panels({"a": whole, "b": result(normalize_targets=True)}, take_first))
    # the Wasserstein distance has a unit, the Gram gap has none
    assert len(two) == 6
    missing = whole.assign({name: whole[name] * np.nan for name in ("sliced_wasserstein", "gram_gap")})
    assert len(list(PAGE.panels({"a": missing}, take_first))) == 3
    assert all(page.caption and traces(page.figure) for page in two)
