"""The one selection: its address, its fall-backs, its compact masks; in a session, and after a page
change."""

import subprocess
import sys
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.live import models, selection
from lcmae.app.dashboard.live.selection import Selection, fit_checkpoints, fit_model, pack, read_address, unpack
from lcmae.masking import STRATEGIES

CHOICES = st.builds(
    Selection,
    a=st.text(max_size=20),
    a_step=st.none() | st.integers(0, 10**9),
    b=st.sampled_from(["", "b/c"]),
    data=st.sampled_from(["", "digits", "folder:/x y/&?"]),
    split=st.sampled_from(["test", "train"]),
    image=st.integers(0, 499),
    upload=st.sampled_from(["", "0" * 64]),
    mask=st.sampled_from(models.masks()),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, selection.MAX_SEED),
    patch=st.none() | st.integers(0, 10**6),
    encoder_layer=st.none() | st.integers(1, 99),
    decoder_head=st.none() | st.integers(1, 99),
)


@given(CHOICES)
def test_an_address_brings_the_same_selection(chosen: Selection):
    travelled = dict(parse_qsl(urlencode(chosen.address()), keep_blank_values=True))
    assert read_address(travelled) == (chosen, [])


def test_defaults_need_no_address():
    assert Selection().address() == {}


def test_values_of_an_address_that_are_not_valid_are_told_and_left_out():
    address = {"patch": "-3", "ratio": "nan", "split": "validation", "seed": "7", "upload": "../x", "image": ""}
    chosen, notices = read_address(address)
    assert chosen == Selection(seed=7)
    assert all(name in notices[0] for name in ("patch", "ratio", "split", "upload"))
    assert "image" not in notices[0]
    assert "\n" not in notices[0]


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_masks_travel_as_letters(is_hidden: list[bool]):
    text = pack(is_hidden)
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(text) <= len(is_hidden) / 6 + 2
    useful = 0 < sum(is_hidden) < len(is_hidden)
    assert unpack(text, len(is_hidden)) == (is_hidden if useful else None)


@pytest.mark.parametrize("text", ["", "A", "AAAA", "??", "__8", "_w", "abc=", "ä"])
def test_letters_that_are_no_mask_of_ten_patches(text: str):
    assert unpack(text, 10) is None


def test_a_mask_of_ten_patches_by_hand():
    assert unpack("gEA", 10) == [True, *[False] * 8, True]  # 0b1000000001 and six bits of nothing: 0x80 0x40


def test_masks_are_those_that_need_no_images():
    assert "random" in models.masks()
    assert all(STRATEGIES[kind]().ratio for kind in models.masks()), "each is usable with its defaults"
    assert set(STRATEGIES) - set(models.masks()) == {"attention", "loss"}


def test_another_mask_or_image_drops_what_belonged_to_the_old_one():
    edited = Selection(hidden="gEA", upload="0" * 64, a="x", a_step=3)
    assert edited.changed(seed=2).hidden == ""
    assert edited.changed(image=2).upload == ""
    assert edited.changed(image=2).hidden == "gEA"
    assert edited.changed(a="y").a_step is None
    assert edited.changed(a="y", a_step=5).a_step == 5
    assert edited.changed(patch=4) == edited.model_copy(update={"patch": 4})
    with pytest.raises(ValidationError):
        edited.changed(ratio=1.0)


def steps(name: str) -> list[int]:
    return {"one": [10, 20], "two": []}.get(name, [])


@pytest.mark.parametrize(
    ("chosen", "expected", "words"),
    [
        (Selection(), Selection(), []),
        (Selection(a_step=20), Selection(a_step=20), []),  # of the first
        (Selection(a="one", a_step=30), Selection(a="one"), ["one has no step 30"]),
        (Selection(a="two", a_step=10), Selection(a="two"), ["two has no step 10"]),
        (Selection(a="gone", a_step=10), Selection(), ["checkpoint A, gone, is no longer there"]),
        (Selection(b="gone", b_step=10), Selection(), ["checkpoint B, gone, is no longer there"]),
        (Selection(a="two", b="one", b_step=10), Selection(a="two", b="one", b_step=10), []),
    ],
)
def test_checkpoints_that_are_gone_fall_back(chosen: Selection, expected: Selection, words: list[str]):
    assert fit_checkpoints(chosen, ["one", "two"], steps) == (expected, words)


def test_what_a_model_does_not_have_falls_back_with_a_phrase_each():
    chosen = Selection(patch=24, mask="attention", hidden="AAAA", encoder_layer=3, encoder_head=3, decoder_layer=1)
    fitted, notices = fit_model(chosen, num_patches=24, encoder=(2, 2), decoder=(1, 3), masks=["random"])
    assert fitted == Selection(decoder_layer=1)
    assert len(notices) == 5
    assert fit_model(fitted, num_patches=24, encoder=(2, 2), decoder=(1, 3), masks=["random"]) == (fitted, [])


def test_an_encoder_alone_is_no_news():
    """A link that names a decoder's layer is not stale where there is no decoder: the page says
    that once, in its place."""
    fitted, notices = fit_model(
        Selection(decoder_layer=2), num_patches=4, encoder=(2, 2), decoder=(0, 0), masks=["random"]
    )
    assert (fitted, notices) == (Selection(), [])


PAGE = """
import streamlit as st
from lcmae.app.dashboard.live import models, selection
chosen = selection.follow_address()
chosen = selection.settle(chosen, [])
st.button("next", on_click=lambda: selection.change(patch=(selection.current().patch or 0) + 1))
st.text(repr(chosen.patch))
"""


def test_the_session_and_the_address_agree():
    app = AppTest.from_string(PAGE)
    app.query_params["patch"] = "5"
    app.query_params["other"] = "kept"
    app.run()
    assert app.text[0].value == "5"
    app.button[0].click().run()
    assert app.text[0].value == "6"
    assert app.query_params == {"patch": "6", "other": "kept"}
    # an address that changed under the page: the back button, or a link pasted into the same tab
    app.query_params["patch"] = "2"
    app.run()
    assert app.text[0].value == "2"


def test_a_page_without_the_address_gets_it_back():
    app = AppTest.from_string(PAGE)
    app.query_params["patch"] = "5"
    app.run()
    del app.query_params["patch"]  # what another page does
    app.run()
    assert app.text[0].value == "5"
    assert app.query_params == {"patch": "5"}


def test_a_bad_address_gives_one_notice_once():
    app = AppTest.from_string(PAGE)
    app.query_params["patch"] = "five"
    app.query_params["seed"] = "-1"
    app.run()
    assert len(app.warning) == 1
    assert "patch" in app.warning[0].value
    assert "seed" in app.warning[0].value
    assert app.query_params == {}
    app.run()
    assert len(app.warning) == 0


def test_importing_it_imports_no_torch():
    code = (
        "import sys\n"
        "import lcmae.app.dashboard.live.selection\n"
        "import lcmae.app.dashboard.live.models\n"
        "import lcmae.app.dashboard.live.uploads\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_selection_is_that_of_a_new_session():
    assert selection.current() == Selection()
