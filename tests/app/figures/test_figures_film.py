"""Frames of an image as pictures, and moving pictures made of them."""

import io

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from lcmae.app.figures import film, patch_maps


def shown(error: float = 1.0, channels: int = 3) -> xr.Dataset:
    """2 x 2 patches of 4 x 4 pixels, of which the first is hidden; only its error counts."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (8, 8, channels), dtype=np.uint8)
    hidden = np.array([[1, 0], [0, 0]], dtype=np.uint8)
    errors = np.array([[error, 9.0], [9.0, 9.0]])
    at, positions = ("y", "x", "channel"), ("row", "column")
    units = {"units": "squared input units"}
    return xr.Dataset(
        {
            "original": (at, picture),
            "reconstruction": (at, 255 - picture),
            "hidden": (positions, hidden),
            "picture_error": (positions, errors, units),
            "error": ((), error, units),
            "error_nearest": ((), 2.0, units),
        }
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_hidden_patches_are_covered_and_visible_ones_are_the_image(channels: int):
    dataset = shown(channels=channels)
    masked, reconstruction, error = film.pictures(dataset, 2.0).values()
    assert (masked[:4, :4] == film.COVER).all()
    original = np.broadcast_to(dataset["original"].values, (8, 8, 3))
    np.testing.assert_array_equal(masked[4:], original[4:])
    np.testing.assert_array_equal(reconstruction, 255 - original)
    assert error[0, 1, 3] == 0, "a visible patch has no error"
    assert "Masked (25% hidden)" in film.pictures(dataset, 2.0)


def test_colours_of_the_error_do_not_depend_on_the_frame():
    half = film.pictures(shown(1.0), 2.0)["Error"][0, 0, :3]
    np.testing.assert_array_equal(half, patch_maps.colours()[128])
    np.testing.assert_array_equal(film.pictures(shown(5.0), 2.0)["Error"][0, 0, :3], patch_maps.colours()[255])


def test_words_say_the_error_with_its_baseline():
    words = "error of hidden patches 1 squared input units; a copy of the nearest visible patch 2"
    assert film.words(shown()) == words


@pytest.mark.parametrize("kind", film.KINDS)
def test_a_moving_picture_has_all_frames_and_repeats(kind: film.Kind):
    frames = [film.frame(shown(error), 3.0, f"ratio {error}") for error in (0.5, 1.5, 2.5)]
    with Image.open(io.BytesIO(film.encoded(frames, kind, 0.25))) as moving:
        assert moving.format == {"GIF": "GIF", "APNG": "PNG"}[kind]
        assert moving.n_frames == 3  # type: ignore[attr-defined]
        assert moving.info["loop"] == 0
        durations = []
        for number, wanted in enumerate(frames):
            moving.seek(number)
            durations.append(moving.info["duration"])
            difference = np.abs(np.asarray(moving.convert("RGB"), int) - np.asarray(wanted, int))
            # a GIF has 256 colours
            assert difference.mean() < (6 if kind == "GIF" else 1e-9)
        assert durations == [250, 250, 750]


def test_both_kinds_of_file_are_of_the_pictures_size_times_a_whole_number():
    frame = film.frame(shown(), 2.0, "ratio 0.25")
    side = round(film.SIDE / 8) * 8
    assert frame.size == (3 * side + 4 * film.GAP, side + 3 * film.GAP + 2 * film.LINE)
