"""The gallery's page: what it asks, says and sends, and where a click leads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st

from lcmae.app.dashboard.menu import GO, WITH
from lcmae.app.dashboard.pages import gallery
from lcmae.probes.results.store import save_result
from tests.app import synthetic
from tests.app.pages import commands, components, open_page, words
from tests.app.trained import published


def shown(app) -> dict[str, Any]:
    [proto] = components(app, "lcmae.gallery")
    return json.loads(proto.json)


def test_images_sorted_by_a_number_of_a_class(root: Path):
    for name in ("a", "bb"):
        synthetic.run(root / name)
    app = open_page("gallery", "a", "bb")
    data = shown(app)
    assert len(data["items"]) == 40
    assert data["sheet"].startswith("data:image/png;base64,")
    assert "40 images, by error, largest first." in words(app)
    app = open_page(
        "gallery", "a", "bb", gallery_by="error less that of bb", gallery_class="2", gallery_order="smallest first"
    )
    values = [float(word) for _, word, _ in shown(app)["items"]]
    assert values == sorted(values)
    assert {position % 3 for position, _, _ in shown(app)["items"]} == {2}


def test_attention_distance_is_of_the_same_images(root: Path):
    run = published(root / "a")
    result = synthetic.reconstruction()
    result.attrs |= {"split": "test", "probe": "reconstruction", "num_images": 40}
    save_result(result, run.result_path(20, "reconstruction"))
    about = {"units": "patches", "long_name": "mean attention distance on the whole image"}
    distance = np.random.default_rng(5).uniform(1, 3, 40)
    attention = synthetic.RESULTS["encoder_attention"]().assign(image_distance=("image", distance, about))
    own = {name: result.attrs[name] for name in ("data", "split", "num_images")}
    attention.attrs |= own | {"data": "cifar10"}
    file = run.result_path(20, "encoder_attention")
    save_result(attention, file)
    assert gallery.figures.DISTANCE not in str(open_page("gallery", "a").main)
    attention.attrs |= own
    save_result(attention, file)
    app = open_page("gallery", "a", gallery_by=gallery.figures.DISTANCE, gallery_order="smallest first")
    assert [position for position, _, _ in shown(app)["items"]] == np.argsort(distance).tolist()


def test_an_old_result_is_offered_anew(root: Path):
    run = published(root / "a")
    save_result(synthetic.reconstruction().drop_vars("image_thumbnail"), run.result_path(20, "reconstruction"))
    app = open_page("gallery", "a")
    assert components(app, "lcmae.gallery") == []
    assert "from before single images were stored" in words(app)
    assert commands(app)[0].endswith("--overwrite")


def test_a_click_leads_to_the_image_under_its_mask():
    result = synthetic.reconstruction()
    settings = json.dumps({"mask": {"kind": "block", "ratio": 0.4, "min_block": 4}})
    command = "lcmae probe reconstruction --checkpoint x --seed 5"
    # what is stored is made of the command's seed, and larger than a browser counts
    result.attrs |= {"split": "train", "data": "digits", "settings": settings, "seed": 2**61, "command": command}
    gallery.open_microscope(result, "demo/a", 30, 17)
    assert st.session_state[GO] == "microscope"
    assert st.session_state[WITH] == {
        "a": "demo/a", "a_step": "30", "data": "digits", "split": "train", "image": "17", "mask": "block", "ratio": "0.4",
        "seed": "5",
    }  # fmt: skip


@pytest.mark.parametrize("command", ["", "lcmae probe reconstruction --seed", "lcmae probe reconstruction --seed x"])
def test_a_seed_that_is_not_known_is_not_named(command: str):
    result = synthetic.reconstruction()
    result.attrs |= {"split": "test", "seed": 2**61, "command": command}
    assert "seed" not in gallery.mask_of(result)


def test_images_that_the_microscope_counts_otherwise_are_not_named():
    result = synthetic.reconstruction()
    result.attrs |= {"split": "test", "command": "lcmae probe reconstruction --checkpoint x --images all"}
    gallery.open_microscope(result, "a", 30, 17)
    assert "image" not in st.session_state[WITH]
    assert "numbered differently" in gallery.opens(result)
