"""What lies over the microscope's photograph: every kind of map, and what a browser asks for."""

import base64
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.components import overlay as component
from lcmae.app.dashboard.components.overlay import Packed, Shown, pack
from lcmae.app.dashboard.components.picks import Picks
from lcmae.app.dashboard.live import inspection, models
from lcmae.app.dashboard.live.selection import Overlay, Selection
from lcmae.app.dashboard.microscope.overlay import KINDS
from lcmae.app.dashboard.stored.reading import runs_below
from lcmae.models import SimMIM
from tests.app.pages import components, open_page
from tests.app.trained import TINY, published


def sent(app: AppTest) -> dict:
    [proto] = components(app, "lcmae.overlay")
    return json.loads(proto.json)


def unpacked(packed: dict) -> np.ndarray:
    """As the browser reads it."""
    steps = np.frombuffer(base64.b64decode(packed["text"]), "<u2").reshape(packed["shape"])
    values = packed["low"] + steps / 65534 * (packed["high"] - packed["low"])
    return np.where(steps == 65535, np.nan, values)


def test_every_kind_has_its_words():
    assert set(KINDS) == set(get_args(Overlay))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "queries"])
def test_every_kind_of_map_is_drawn(root: Path, kind: str):
    published(root / "a")
    data = sent(open_page("microscope", overlay=kind))
    assert data["kind"] == kind
    # `queries` needs a stored result (test_microscope_queries.py)
    assert [name for name, _ in data["kinds"]] == [name for name in KINDS if name != "queries"]
    values = unpacked(data["values"])
    patches = data["rows"] * data["columns"]
    shape = values.shape
    if kind in ("encoder", "decoder", "rollout", "likeness", "pixel_likeness"):
        assert shape == (patches + data["prefix"], data["rows"], data["columns"])
    elif kind == "colours":
        assert shape == (data["rows"], data["columns"], 3)
    else:
        assert shape[0] % data["rows"] == 0
    assert np.isfinite(values).any()
    assert (data["heads"] is not None) == (kind in ("encoder", "decoder"))
    assert data["caption"].endswith(".")


def test_maps_of_the_whole_image_are_computed_once_for_all_masks(root: Path):
    published(root / "a")
    loaded = models.load(models.locate(Picks(root, runs_below(root), [], None), "a"))
    first, second = (inspection.inspect(loaded, Selection(seed=seed)) for seed in (0, 1))
    for what in ("encoder", "rollout", "likeness", "pixel_likeness"):
        assert first.matrix(what, "full", 1) is second.matrix(what, "full", 1)
    assert first.colours("full", 1) is second.colours("full", 1)
    others: list[tuple[Overlay, str]] = [("encoder", "masked"), ("decoder", "full")]
    for what, view in others:
        assert not first.matrix(what, view, 1).identical(second.matrix(what, view, 1))


def test_attention_is_that_of_the_layer_and_head_and_rows_are_queries(root: Path):
    published(root / "a")
    whole = sent(open_page("microscope", overlay="encoder", encoder_layer="1", patch="3"))
    one = sent(open_page("microscope", overlay="encoder", encoder_layer="1", encoder_head="2", patch="3"))
    heads = unpacked(whole["heads"])
    row = unpacked(one["values"])[one["prefix"] + 3]
    assert np.allclose(heads[0, 1], row, atol=1e-3)
    mean = unpacked(whole["values"])[whole["prefix"] + 3]
    assert np.allclose(heads[0].mean(0), mean, atol=1e-3)
    of_class = unpacked(whole["classHeads"])[0].mean(0)
    assert np.allclose(of_class, unpacked(whole["values"])[whole["prefix"] - 1], atol=1e-3)


def test_under_the_mask_hidden_patches_have_no_attention(root: Path):
    published(root / "a")
    data = sent(open_page("microscope", overlay="encoder", overlay_view="masked"))
    assert np.isnan(unpacked(data["values"])).any()


def test_a_model_without_a_class_token_or_a_decoder_offers_what_it_has(root: Path):
    published(root / "s", model=SimMIM(**TINY))
    data = sent(open_page("microscope", overlay="decoder"))
    assert "decoder" not in dict(data["kinds"])
    assert data["kind"] == "encoder"


def test_numbers_survive_their_way_to_the_browser():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 7))
    values[2, 3] = np.nan
    found = pack(values, float(np.nanmin(values)))
    back = unpacked({"text": found.text, "low": found.low, "high": found.high, "shape": found.shape})
    assert np.allclose(back, values, atol=np.nanmax(values) - np.nanmin(values), equal_nan=True)
    assert np.nanmax(np.abs(back - values)) < 1e-4
    assert np.isnan(unpacked(component._sent(pack(np.full((2, 2), np.nan))))).all()
    assert (unpacked(component._sent(pack(np.zeros((2, 2))))) == 0).all()


@pytest.mark.parametrize(
    ("trigger", "value", "expected"),
    [
        ("pick", 3, ("pick", 3)), ("pick", 99, None), ("pick", "x", None), ("pick", -1, None), ("pick", float("nan"), None),
        ("choose", ["kind", "field"], ("kind", "field")), ("choose", ["kind", "no"], None), ("choose", {"a": 1}, None),
        ("head", [1, 2], (1, 2)), ("head", [1, 0], (1, None)), ("head", [9, 1], None), ("head", [1, 9], None),
        ("head", ["a", 1], None), ("head", [float("nan"), 1], None),
    ],
)  # fmt: skip
def test_what_a_browser_says_is_checked(
    monkeypatch: pytest.MonkeyPatch, trigger: str, value: object, expected: tuple | None
):
    calls: list[tuple] = []
    given: dict = {}
    monkeypatch.setattr(component, "_OVERLAY", lambda **keywords: given.update(keywords))
    monkeypatch.setattr(st, "session_state", {"k": {trigger: value}})
    heads = Packed("", 0, 1, (2, 3, 4, 4))
    component.overlay(
        Shown("t", "c", "", "", Packed("", 0, 1, (16, 4, 4)), heads=heads),
        grid=(4, 4), patch=0, kinds={"encoder": "e", "field": "f"}, kind="encoder", views={"full": "w"}, view="full",
        layer=1, head=None, key="k", on_pick=lambda patch: calls.append(("pick", patch)),
        on_choose=lambda name, option: calls.append((name, option)), on_head=lambda layer, head: calls.append((layer, head)),
    )  # fmt: skip
    given[f"on_{trigger}_change"]()
    assert calls == ([] if expected is None else [expected])
