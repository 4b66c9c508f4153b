"""What the microscope is given by a browser: masks that were edited, images of one's own."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from PIL import Image

from lcmae.app.dashboard.components.picks import Picks
from lcmae.app.dashboard.live import models, uploads
from lcmae.app.dashboard.live.selection import Selection, pack
from lcmae.app.dashboard.microscope import controls
from lcmae.app.dashboard.stored.reading import runs_below
from tests.app.pages import checked, components, open_page, words
from tests.app.trained import published

HIDDEN = [patch % 3 == 0 for patch in range(16)]


def loaded(root: Path) -> models.Loaded:
    """The model of run a."""
    return models.load(models.locate(Picks(root, runs_below(root), [], None), "a"))


def test_the_mask_of_the_training_is_said_and_taken(root: Path):
    published(root / "a", mask={"kind": "block", "ratio": 0.6})
    app = open_page("microscope")
    [button] = [one for one in app.button if one.label.startswith("Trained at")]
    assert button.label.startswith("Trained at block 0.6")
    checked(button.click().run())
    assert app.query_params == {"mask": "block", "ratio": "0.6"}
    assert not [one for one in app.button if one.label.startswith("Trained at")]


def test_an_edit_of_a_mask_that_was_replaced_is_dropped(monkeypatch: pytest.MonkeyPatch):
    """Edit and button come together, from a busy page: the button's callback runs first, though it
    was pressed last."""
    state: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(st, "query_params", {})
    paint = controls.painter(Selection())
    paint(HIDDEN)
    paint([not hidden for hidden in HIDDEN])  # of the same picture, before it was drawn anew
    assert controls.selection.current().hidden == pack([not hidden for hidden in HIDDEN])
    controls.draw_again()
    paint(HIDDEN)
    assert controls.selection.current().hidden == ""
    paint = controls.painter(controls.selection.current())
    controls.selection.change(seed=3)
    paint(HIDDEN)
    assert controls.selection.current().hidden == ""


def test_an_image_of_ones_own(root: Path, monkeypatch: pytest.MonkeyPatch):
    published(root / "a")
    changes: list[dict[str, str]] = []
    file = io.BytesIO()
    Image.new("RGB", (30, 20), (255, 0, 0)).save(file, "JPEG")
    with monkeypatch.context() as patched:
        patched.setattr(controls.selection, "change", lambda **values: changes.append(values))
        patched.setattr(st, "session_state", {})
        controls.take_upload(loaded(root), file.getvalue(), "holiday.jpg")
    [name] = [change["upload"] for change in changes]
    assert uploads.is_stored(name)
    # the link works for as long as the server keeps the file; then it says so
    app = open_page("microscope", upload=name)
    assert "; holiday.jpg" in words(app)
    [drop] = components(app, "lcmae.image_drop")
    assert json.loads(drop.json)["most"] == uploads.MAX_BYTES
    stale = open_page("microscope", upload="0" * 64)
    assert "no longer on this server" in stale.warning[0].value


def test_a_file_that_is_refused_is_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch):
    published(root / "a")
    state: dict[str, list[str]] = {}
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(controls.selection, "change", lambda **values: pytest.fail("it was taken"))
    controls.take_upload(loaded(root), b"<script>")
    controls.take_upload(loaded(root), b"<script>", "b.png")
    first, second = state[controls.REFUSED]
    assert first.startswith("expected an image file (JPEG, PNG, ")
    assert second.startswith("b.png: expected an image file (JPEG, PNG, ")
