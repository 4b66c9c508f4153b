"""Pictures of masks: what is drawn is what was given."""

import subprocess
import sys
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from lcmae.app.figures import masks
from lcmae.app.figures.masks import coverage, gallery, side_by_side

SAMPLES = {
    "random": np.arange(2 * 3 * 4).reshape(2, 3, 4) % 3 > 0,
    "block": np.ones((2, 3, 4), bool),
    "grid": np.zeros((1, 3, 4), bool),
}


def heat_maps(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if isinstance(trace, go.Heatmap)]


def test_samples_stand_side_by_side_with_a_gap() -> None:
    strip, which = side_by_side(SAMPLES["random"].astype(float))
    assert strip.shape == (3, 9)
    np.testing.assert_array_equal(strip[:, :4], SAMPLES["random"][0])
    assert np.isnan(strip[:, 4]).all()
    np.testing.assert_array_equal(strip[:, 5:], SAMPLES["random"][1])
    assert which[2, 6].tolist() == [1, 1]


def test_the_gallery_shows_every_strategy() -> None:
    figure = gallery(SAMPLES)
    maps = heat_maps(figure)
    assert len(maps) == 3
    for trace, samples in zip(maps, SAMPLES.values(), strict=True):
        np.testing.assert_array_equal(trace.z, side_by_side(samples.astype(float))[0])
        assert (trace.zmin, trace.zmax) == (0, 1)
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["random, 67% hidden", "block, 100% hidden", "grid, 0% hidden"]
    assert [trace.name for trace in figure.data if isinstance(trace, go.Scatter)] == ["visible", "hidden"]


def test_patches_are_square_and_the_first_row_is_on_top() -> None:
    for figure in (gallery(SAMPLES), coverage({"a": np.eye(3), "b": np.eye(3)})):
        axes = list(figure.select_yaxes())
        assert [axis.autorange for axis in axes] == ["reversed"] * len(axes)
        assert [axis.scaleanchor for axis in axes] == [axis.anchor for axis in axes]


def test_coverage_is_on_one_scale() -> None:
    figure = coverage({"flat": np.full((2, 3), 0.75), "centre": np.array([[0.1, 0.9]])})
    assert [trace.coloraxis for trace in heat_maps(figure)] == ["coloraxis", "coloraxis"]
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)
    assert [note.text for note in figure.layout.annotations] == ["flat, 0.75 to 0.75", "centre, 0.10 to 0.90"]
    figure.to_json()


def test_empty_and_misshapen_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one mask strategy"):
        gallery({})
    with pytest.raises(ValueError, match=r"expected samples \[mask rows columns\] of a, got 2 axes"):
        gallery({"a": np.eye(3)})
    with pytest.raises(ValueError, match=r"expected coverage \[rows columns\] of a, got 3 axes"):
        coverage({"a": np.zeros((1, 2, 3))})


def test_a_picture_needs_no_torch() -> None:
    code = "import sys, lcmae.app.figures.masks; assert not {'torch', 'streamlit', 'lcmae.models'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_photograph_keeps_what_is_visible_and_greys_what_is_hidden():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 12, 3)).astype(np.uint8)
    hidden = np.array([[[True, False, False], [False, False, True]], [[False] * 3] * 2])
    strip = masks.over_photograph(pixels, hidden, gap=0.25)
    assert strip.shape == (8, 12 + 3 + 12, 4)
    assert (strip[:, 12:15, 3] == 0).all(), "gaps are transparent"
    assert np.array_equal(strip[:, 15:, :3], pixels), "nothing is hidden under the second mask"
    assert np.array_equal(strip[:4, 4:12, :3], pixels[:4, 4:12])
    grey = 0.86 * 118 + 0.14 * pixels[:4, :4]
    assert np.abs(strip[:4, :4, :3] - grey).max() <= 0.5
    with pytest.raises(ValueError, match="whole patches"):
        masks.over_photograph(pixels[:7], hidden)


def test_distances_stand_in_order_and_the_sentence_names_both_ends():
    values = {"a": 1.5, "b": 3.25, "c": 1.0}
    bar: Any = masks.distances(values).data[0]
    assert list(bar.y) == ["c", "a", "b"]
    sentence = masks.answer(values, 0.75, 14, 256).sentence
    assert "3.25 patches" in sentence
    assert "under b" in sentence
    assert "1.00 under c" in sentence
    assert "256 masks" in sentence
