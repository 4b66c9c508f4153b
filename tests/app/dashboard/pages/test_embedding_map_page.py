"""Embedding map: both sides show the same points, what is selected is pictured, the page in every
state."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from lcmae.app.figures import embedding_map as maps
from lcmae.app.figures import style
from lcmae.probes.embedding_consistency import EmbeddingConsistency
from lcmae.probes.results.store import save_result
from tests.app import synthetic
from tests.app.pages import checked, figures, open_page, traces, words
from tests.conftest import tiny_mae

NAME = "embedding_map"


class Labelled:
    """Six images of three classes."""

    pixels = torch.rand(6, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: slice) -> Tensor:
        return self.pixels[index]


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    torch.manual_seed(0)
    probe = EmbeddingConsistency(num_neighbours=3, num_sets=2, num_points=20, num_masks=2, baseline_images=0)
    found = probe(tiny_mae(), Labelled(), torch.Generator().manual_seed(0))
    return found.assign_attrs(data="digits", command="lcmae probe embedding_consistency")


def stored(path: Path, result: xr.Dataset) -> None:
    save_result(result, synthetic.run(path, results=False).result_path(40, "embedding_consistency"))


def with_umap(result: xr.Dataset) -> xr.Dataset:
    return result.assign({f"umap_{axis}": 2 * result[f"pca_{axis}"] for axis in "xy"})


def test_both_sides_show_the_same_points_in_the_same_colours(whole: xr.Dataset):
    shown = traces(maps.maps(whole, "patches", "pca", "label"))
    left, right = ([trace for trace in shown if trace.xaxis == axis] for axis in ("x", "x2"))
    assert [trace.name for trace in left] == [trace.name for trace in right] == ["class 0", "class 1", "class 2"]
    for one, other in zip(left, right, strict=True):
        assert one.customdata == other.customdata
        assert one.marker.color == other.marker.color
    assert [trace.marker.color for trace in left] == list(style.PALETTE[:3])
    tokens = maps.side(whole, "token")
    positions = {
        about[0]: (x, y) for trace in left for about, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }
    expected = dict(enumerate(zip(tokens["pca_x"].values, tokens["pca_y"].values, strict=True)))
    assert positions == expected


def test_what_is_selected_stands_out_on_both_sides(whole: xr.Dataset):
    shown = traces(maps.maps(whole, "patches", "pca", "label", [3, 7]))
    for axis in ("x", "x2"):
        found = [trace.customdata[at][0] for trace in shown if trace.xaxis == axis for at in trace.selectedpoints]
        assert sorted(found) == [3, 7]
    assert all(trace.selectedpoints is None for trace in traces(maps.maps(whole, "patches", "pca", "label")))


def test_terms_are_a_scale_with_their_unit_and_what_was_never_hidden_is_grey(whole: xr.Dataset):
    shown = maps.maps(whole, "patches", "pca", "loss")
    grey, scaled = (trace for trace in traces(shown) if trace.xaxis == "x")
    losses = maps.side(whole, "token")["loss"].values
    assert len(grey.x) == np.isnan(losses).sum() > 0
    assert grey.marker.color == style.GREY
    np.testing.assert_array_equal(scaled.marker.color, losses[np.isfinite(losses)])
    layout: Any = shown.layout
    assert layout.coloraxis.colorbar.title.text == "loss where hidden [squared input units]"


def test_images_have_no_row_and_unknown_classes_no_colour(whole: xr.Dataset):
    assert maps.things(whole) == ["patches", "images"]
    assert maps.colours(whole, "patches") == list(maps.COLOURS)
    assert maps.colours(whole, "images") == ["label", "image", "loss", "invariance", "local_consistency"]
    unknown = whole.assign(label=whole["label"] * 0 - 1).drop_vars(["loss", "invariance", "local_consistency"])
    assert maps.colours(unknown, "images") == ["image"]
    assert maps.things(whole.drop_vars("patch_thumbnail")) == []


def test_a_plane_with_gaps_is_none(whole: xr.Dataset):
    full = with_umap(whole)
    assert maps.planes(full, "images") == ["umap", "pca"]
    # too few images for a UMAP, enough patches
    images = full["kind"].isin(["pooled", "image"])
    gaps = full.assign(umap_x=full["umap_x"].where(~images))
    assert maps.planes(gaps, "images") == ["pca"]
    assert maps.planes(gaps, "patches") == ["umap", "pca"]


def test_pictures_are_those_of_the_points(whole: xr.Dataset):
    ((picture, said),) = maps.pictures(whole, "patches", [5])
    one = maps.side(whole, "token").isel(point=5)
    image, row, column = (int(one[name]) for name in ("image", "row", "column"))
    assert said == f"image {image}, class {image // 2}, row {row}, column {column}"
    patch = whole["patch_thumbnail"].values[5]
    assert picture[0, -maps.SIDE].tolist() == patch[0, 0].tolist()
    assert picture[-1, -1].tolist() == patch[-1, -1].tolist()
    # the frame lies around the patch in the image: a cell of 4 x 6 in 96 x 144 pixels is 24 wide
    corner = picture[24 * row, 24 * column].tolist()
    assert corner == [0xE6, 0x9F, 0x00]
    ((picture, said),) = maps.pictures(whole, "images", [4])
    assert said == "image 4, class 2"
    assert picture.shape == (maps.SIDE, 144, 3)
    assert picture[0, 0].tolist() == whole["image_thumbnail"].values[4, 0, 0].tolist()


def test_a_selection_is_read_by_number():
    points = [{"customdata": [7, 0, 1, 2, 3]}, {"customdata": [2, 0, 0, 0, 0]}, {"customdata": [7, 0, 1, 2, 3]}, {}]
    assert maps.numbers_of({"points": points}) == [2, 7]
    assert maps.numbers_of({}) == []


# --- the page ---


@pytest.mark.parametrize(("runs", "expected"), [([], "no run below"), (["a"], "Pick one or more runs")])
def test_without_a_run_or_a_pick(root: Path, whole: xr.Dataset, runs: list[str], expected: str):
    for run in runs:
        stored(root / run, whole)
    app = open_page(NAME)
    assert expected in words(app)
    assert figures(app) == []


def test_nothing_stored_comes_with_the_command_that_computes_a_umap(root: Path):
    synthetic.run(root / "a", results=False)
    command = f"lcmae probe embedding_consistency --checkpoint {root}/a --embedding-consistency.umap"
    assert command in words(open_page(NAME, "a"))


def test_points_without_pictures_are_told(root: Path, whole: xr.Dataset):
    stored(root / "a", whole.drop_vars("patch_thumbnail"))
    app = open_page(NAME, "a")
    assert "the stored points have no pictures yet" in words(app)
    assert figures(app) == []


def test_a_stored_map_is_shown_by_its_pca_and_then_its_umap(root: Path, whole: xr.Dataset):
    stored(root / "a", whole)
    stored(root / "b", with_umap(whole))
    app = open_page(NAME, "a", "b")
    assert "No UMAP is stored, so the PCA is shown" in words(app)
    assert "Nothing is selected" in words(app)
    checked(app.selectbox(key="points_of").select("b").run())
    assert "No UMAP is stored" not in words(app)
    assert "UMAP of tokens of the model" in words(app)
    checked(app.selectbox(key="map_of").select("images").run())
    assert "pooled vectors" in json.dumps(figures(app))


@pytest.mark.parametrize("colour", maps.COLOURS)
def test_every_colour_of_a_link_is_drawn(root: Path, whole: xr.Dataset, colour: str):
    stored(root / "a", whole)
    app = open_page(NAME, "a", colour=maps.WORDS[colour])
    assert app.selectbox(key="colour").value == maps.WORDS[colour]
    assert len(figures(app)) == 1


def test_an_encoder_alone_has_a_map_without_terms(root: Path, whole: xr.Dataset):
    stored(root / "a", whole.drop_vars(["loss", "invariance", "local_consistency"]))
    app = open_page(NAME, "a")
    assert app.selectbox(key="colour").options == ["class", "row of the grid", "column of the grid", "image"]


def test_a_torn_result_and_a_deleted_run_are_named(root: Path, whole: xr.Dataset):
    stored(root / "a", whole)
    stored(root / "b", whole)
    file = root / "b" / "probes" / "000040" / "embedding_consistency.nc"
    file.write_bytes(file.read_bytes()[:2000])
    app = open_page(NAME, "a", "b")
    assert "b, step 40: expected a probe result" in words(app)
    assert len(figures(app)) == 1
    shutil.rmtree(root / "b")
    assert "run b" in checked(app.run()).warning[0].value
