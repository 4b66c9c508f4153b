"""What the microscope's film shows: the microscope's own numbers, along each axis."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcmae.app.dashboard.components.picks import Picks
from lcmae.app.dashboard.live import inspection, models
from lcmae.app.dashboard.live.selection import Selection
from lcmae.app.dashboard.microscope import film
from lcmae.app.dashboard.stored.reading import runs_below
from lcmae.models import SimMIM
from tests.app.pages import components, open_page
from tests.app.trained import TINY, published


def located(root: Path) -> models.Location:
    return models.locate(Picks(root, runs_below(root), [], None), "a")


def shown(app) -> dict[str, Any]:
    [proto] = components(app, "lcmae.film")
    return json.loads(proto.json)


def test_a_frame_has_the_numbers_of_the_pictures(root: Path):
    published(root / "a")
    loaded = models.load(located(root))
    for chosen in (Selection(), Selection(ratio=0.3, seed=4, mask="block", image=2)):
        one = inspection.inspect(loaded, chosen)
        frame, pictures = one.frame(), one.pictures()
        assert set(frame) == set(pictures)
        for name, values in frame.items():
            np.testing.assert_allclose(values.values, pictures[name].values, rtol=1e-4, atol=1e-6)


def test_the_page_opens_at_its_own_ratio_and_step(root: Path):
    published(root / "a", steps=(10, 20, 30))
    data = shown(open_page("microscope", ratio="0.5", seed="3"))
    assert data["labels"][data["home"]] == "0.50"
    assert data["frame"]["at"] == data["home"]
    assert data["frame"]["words"].startswith("Masking ratio 0.50: error of hidden patches ")
    assert [title for title, _ in data["frame"]["pictures"]] == ["Masked (50% hidden)", "Reconstruction", "Error"]
    assert dict(data["axes"]).keys() == {"ratio", "seed", "a_step"}
    assert data["live"]


def test_one_checkpoint_has_no_film_of_training_and_an_encoder_alone_has_none(root: Path):
    published(root / "a", SimMIM(**TINY), steps=(10,))
    assert dict(shown(open_page("microscope"))["axes"]).keys() == {"ratio", "seed"}


@pytest.mark.parametrize(("name", "home"), [("ratio", "0.75"), ("seed", "7"), ("a_step", "44")])
def test_every_axis_has_the_selection_among_its_places(root: Path, name: str, home: str):
    published(root / "a", steps=tuple(range(45)))
    location = located(root)
    axis = film.axis_of(name, Selection(seed=7), location)
    assert axis.labels[axis.position(float(home))] == home
    assert len(axis.values) <= 1 + max(film.MOST_STEPS, 91)
    assert list(axis.values) == sorted(axis.values)


def test_frames_of_checkpoints_are_of_their_weights(root: Path):
    published(root / "a", steps=(10, 20, 30))
    location = located(root)
    axis = film.axis_of("a_step", Selection(), location)
    seen = [film.seen(location, axis, at) for at in axis.played]
    assert [one.loaded.location.step for one in seen] == [10, 20, 30]
    assert len({one.loaded.sha256 for one in seen}) == 3
    first, last = (one.frame()["picture_error"].values for one in (seen[0], seen[-1]))
    assert not np.array_equal(first, last)


def test_where_the_page_is_the_film_shows_its_pictures_without_a_pass_of_its_own(root: Path):
    published(root / "a")
    page = inspection.inspect(models.load(located(root)), Selection(image=7, seed=90210))  # nobody else asks for it
    axis = film.axis_of("ratio", page.chosen, page.loaded.location)
    home, computed = axis.position(0.75), len(models._computed)
    assert film.frame_at(page, axis, home, film.error_top(page)).pictures
    assert len(models._computed) - computed == 3  # the pass, its pictures, and the frame
    assert film.frame_at(page, axis, home - 5, 1.0).words.startswith("Masking ratio 0.70: ")
    assert len(models._computed) - computed == 5  # an answer of its own, and the frame


def test_a_frame_whose_checkpoint_is_gone_says_why(root: Path):
    published(root / "a")
    page = inspection.inspect(models.load(located(root)), Selection())
    frame = film.frame_at(page, film.Axis("a_step", [20, 99], 1), 1, 1.0)
    assert frame.pictures == []
    assert "expected a checkpoint" in frame.words
