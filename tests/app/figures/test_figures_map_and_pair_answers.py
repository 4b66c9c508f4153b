"""What the embedding map and the pair say in a sentence, held against sets made for it."""

from textwrap import wrap

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lcmae.app.figures import embedding_map, pair


def points(classes: int, spread: float, *, labelled: bool = True) -> xr.Dataset:
    """60 images, each a pooled vector and an image: the model's lie in clusters by class, pixels
    anywhere."""
    rng = np.random.default_rng(0)
    label = np.arange(60) % classes
    centre = np.stack([np.cos(2 * np.pi * label / classes), np.sin(2 * np.pi * label / classes)], 1)
    own, raw = centre + spread * rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    where = np.concatenate([own, raw])
    return xr.Dataset(
        {
            "kind": ("point", ["pooled"] * 60 + ["image"] * 60),
            "image": ("point", np.tile(np.arange(60), 2)),
            "label": ("point", np.tile(label if labelled else np.full(60, -1), 2)),
            "pca_x": ("point", where[:, 0]),
            "pca_y": ("point", where[:, 1]),
        }
    )


def test_clusters_by_class_are_said_beside_pixels_and_chance():
    said = embedding_map.answer(points(3, 0.01), "images", "pca")
    assert said.sentence.startswith("100")
    assert "of the 10 nearest images of other images in this PCA are of the same class, which is above" in said.sentence
    assert "that by chance (32.2" in said.sentence
    assert [tile.label for tile in said.tiles] == ["same class, by the model", "by raw pixels"]


def test_without_structure_nothing_is_claimed():
    said = embedding_map.answer(points(3, 50.0), "images", "pca").sentence
    assert "cannot be told apart from the share by raw pixels" in said


def test_without_classes_shared_neighbours_are_counted():
    result = points(3, 50.0, labelled=False)
    said = embedding_map.answer(result, "images", "pca").sentence
    assert "are near by raw pixels, too" in said
    first = slice(0, 60)
    for axis in "xy":
        result[f"pca_{axis}"].values[60:] = result[f"pca_{axis}"].values[first]
    assert embedding_map.answer(result, "images", "pca").sentence.startswith("100")


@pytest.mark.parametrize(
    ("position", "read"),
    [
        ({"part": "cls, full", "where": "class token, whole images"}, "error, class token, whole images"),
        ({"part": "cls, full"}, "error, cls, full"),  # a table from before it had words
        ({"part": "", "where": ""}, "error"),
    ],
)
@pytest.mark.parametrize("outcome", ["A better", "not told apart"])
def test_the_clearest_difference_is_named(outcome: str, position: dict[str, str], read: str):
    row = {"probe": "reconstruction", "quantity": "error", **position, "A": 0.3, "A low": 0.28, "A high": 0.32, "B": 0.5,
           "B low": 0.4, "B high": 0.6, "B - A": 0.2, "low": 0.1, "high": 0.3, "better": "lower", "says": outcome,
           "unit": "1"}  # fmt: skip
    other = {**row, "quantity": "rank", "B - A": 0.2, "low": 0.01, "high": 0.39}
    said = pair.answer(pd.DataFrame([other, row]), ("a, step 1", "b, step 2"))
    if outcome == "A better":
        assert said.sentence == (
            f"The clearest difference is in {read}, where A is better: A has 0.300 ± 0.020, B 0.50 ± 0.10, a difference "
            "of 0.20 ± 0.10; lower is better."
        )
        assert [tile.label for tile in said.tiles] == ["A: a, step 1", "B: b, step 2", "B less A"]
        assert pair.labels_of(pd.DataFrame([row])) == [read.replace(",", ":", 1)]
        long = {**row, "quantity": "mean squared error of all of the hidden patches, in words"}
        _, _, where = read.partition(", ")
        lines = [*wrap(f"{long['quantity']}:", pair.WIDE), where] if where else wrap(long["quantity"], pair.WIDE)
        assert pair.labels_of(pd.DataFrame([long])) == ["<br>".join(lines)]
    else:
        assert said.sentence == "No stored number with a better direction tells A and B apart."
