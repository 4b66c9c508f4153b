"""Images in the order of their stored numbers, and what is said of them."""

import base64
import io

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from lcmae.app.figures import gallery
from tests.app import synthetic


@pytest.fixture
def results() -> dict[str, xr.Dataset]:
    return {"a": synthetic.reconstruction(seed=0), "b": synthetic.reconstruction(seed=1)}


def test_images_come_in_the_order_of_the_number(results: dict[str, xr.Dataset]):
    errors = results["a"]["image_error"].values
    down = gallery.ordered(results, "a", gallery.OWN, descending=True)
    assert list(down.images) == np.argsort(-errors).tolist()
    assert down.words[0] == f"{errors.max():.3g}"
    assert f"image {errors.argmax()}, class {errors.argmax() % 3}: error" in down.titles[0]
    up = gallery.ordered(results, "a", gallery.OWN, descending=False)
    assert list(up.images) == list(down.images)[::-1]


def test_images_by_attention_distance_where_the_same_images_have_one(results: dict[str, xr.Dataset]):
    assert gallery.DISTANCE not in gallery.sort_keys(results, "a")
    about = {"units": "patches", "long_name": "mean attention distance on the whole image"}
    distance = np.random.default_rng(5).uniform(1, 3, 40)
    attention = xr.Dataset({"image_distance": ("image", distance, about)})
    older = attention.drop_vars("image_distance")
    for other in (older, attention.isel(image=slice(7))):
        assert gallery.with_distance(results["a"], other) is results["a"]
    results["a"] = gallery.with_distance(results["a"], attention)
    assert gallery.DISTANCE in gallery.sort_keys(results, "a")
    assert gallery.DISTANCE not in gallery.sort_keys(results, "b")
    shown = gallery.ordered(results, "a", gallery.DISTANCE, descending=True)
    assert list(shown.images) == np.argsort(-distance).tolist()
    assert f"attention distance {distance.max():.3g}" in shown.titles[0]
    said = gallery.answer(results, "a", gallery.DISTANCE)
    assert said.sentence.startswith(f"Over 40 whole images the attention distance is {distance.mean():.2f}")
    assert said.tiles[2].label == f"largest distance, image {distance.argmax()}"


def test_one_class_and_a_difference_of_two_runs(results: dict[str, xr.Dataset]):
    key = gallery.less("b")
    assert gallery.sort_keys(results, "a") == [gallery.OWN, gallery.OVER_COPY, key, gallery.BY_CLASS, gallery.IN_ORDER]
    apart = results["a"]["image_error"].values - results["b"]["image_error"].values
    shown = gallery.ordered(results, "a", key, descending=True, of_class=1)
    assert set(shown.images) == set(range(1, 40, 3))
    assert np.all(np.diff(apart[list(shown.images)]) <= 0)
    assert shown.words[0] == f"{apart[shown.images[0]]:.3g}"
    np.testing.assert_allclose(
        gallery.numbers(results, "a", gallery.OVER_COPY), results["a"]["image_error"].values / 0.5, rtol=1e-6
    )


def test_runs_of_other_conditions_or_units_are_not_subtracted(results: dict[str, xr.Dataset]):
    results["b"].attrs["seed"] = 4
    assert gallery.comparable(results, "a") == []
    results["b"] = synthetic.reconstruction(seed=1, normalised=True)
    assert gallery.comparable(results, "a") == []


def test_the_sheet_has_every_picture_at_its_place(results: dict[str, xr.Dataset]):
    address, rows, height, width = gallery.sheet(results["a"])
    small = results["a"]["image_thumbnail"].values
    assert (rows, height, width) == (2, 6, 8)
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as sheet:
        pixels = np.asarray(sheet)
    for position in (0, 31, 32, 39):
        row, column = divmod(position, gallery.ACROSS)
        np.testing.assert_array_equal(
            pixels[row * 6 : row * 6 + 6, column * 8 : column * 8 + 8], small[position, ..., 0]
        )


def test_the_answer_names_the_hardest_class_only_as_far_as_its_interval_goes(results: dict[str, xr.Dataset]):
    result = results["a"]
    errors = np.where(np.arange(40) % 3 == 2, 2.0, 1.0) + 0.01 * np.arange(40) % 0.05
    result["image_error"] = ("image", errors, result["image_error"].attrs)
    said = gallery.answer(results, "a", gallery.OWN)
    assert said.sentence.startswith("Class 2 has the largest mean error, 2.0")
    assert "over 13 images; over all 40 it is 1.3" in said.sentence
    assert "told apart" not in said.sentence
    result["image_error"] = ("image", 1 + 0.01 * (np.arange(40) // 3 % 2), result["image_error"].attrs)
    assert "2 other classes cannot be told apart from it" in gallery.answer(results, "a", gallery.OWN).sentence


def test_the_answer_of_a_difference_is_paired(results: dict[str, xr.Dataset]):
    own = results["a"]["image_error"]
    results["b"]["image_error"] = own + 0.1 + 0.001 * xr.DataArray(np.arange(40) % 2, dims="image")
    results["b"]["image_error"].attrs = own.attrs
    said = gallery.answer(results, "a", gallery.less("b"))
    assert said.sentence.startswith("a has the lower error: a less b is -0.100")
    assert "a is better on 40 of them" in said.sentence
    results["b"]["image_error"] = own + xr.DataArray(np.where(np.arange(40) % 2, 0.1, -0.1), dims="image")
    results["b"]["image_error"].attrs = own.attrs
    assert "cannot be told apart" in gallery.answer(results, "a", gallery.less("b")).sentence


def test_without_classes_the_middle_half_is_said(results: dict[str, xr.Dataset]):
    result = results["a"]
    result["image_class"] = ("image", np.full(40, -1), result["image_class"].attrs)
    assert gallery.BY_CLASS not in gallery.sort_keys(results, "a")
    assert "half of the images lie between" in gallery.answer(results, "a", gallery.OWN).sentence
    assert "class" not in gallery.ordered(results, "a", gallery.OWN, descending=True).titles[0]


def test_an_old_result_has_no_images():
    old = synthetic.reconstruction().drop_vars(["image_thumbnail", "image_class"])
    assert not gallery.has_images(old)
    assert gallery.has_images(synthetic.reconstruction())
