"""The start page: what it offers where there is nothing, and the card of a run."""

import json
from pathlib import Path

from lcmae.probes.results.store import save_result
from tests.app import computed, synthetic
from tests.app.pages import commands, figures, open_page, words


def test_an_empty_folder_offers_ones_own_file(root: Path) -> None:
    app = open_page("start")
    assert app.selectbox(key="from").value == "your own file"
    assert "Take apart" in [button.label for button in app.button]
    assert app.button(key="take-apart").disabled, "nothing is chosen yet"


def test_a_run_has_a_card_of_what_is_stored(root: Path) -> None:
    run = synthetic.run(root / "a", results=False)
    for probe in ("reconstruction", "spectrum", "encoder_attention"):
        save_result(computed.with_baselines(probe), run.result_path(40, probe))
    app = open_page("start", card="a")
    said = words(app)
    assert "What was found" in said
    assert "directions (effective rank)" in said
    assert "Attention over the photograph" in said
    assert len(figures(app)) == 2


def test_a_run_without_results_says_how_to_get_them(root: Path) -> None:
    synthetic.run(root / "a", results=False)
    app = open_page("start", card="a")
    assert any(command.startswith("lcmae probe reconstruction second_order") for command in commands(app))


def test_an_old_link_says_so(root: Path) -> None:
    app = open_page("start", card="../../etc")
    assert "No longer here" in words(app)
    assert app.button(key="take-apart") is not None


def test_what_was_assumed_is_said_in_words(root: Path) -> None:
    run = synthetic.run(root / "a", results=False)
    assumed = {
        "feature": "cls",
        "image_size": [224, 224],
        "pixel_mean": [0.485, 0.456, 0.406],
        "prefix_positions": True,
    }
    (run.path / "config.json").write_text(json.dumps({**run.config, "source": {"format": "vit", "assumed": assumed}}))
    save_result(computed.with_baselines("encoder_attention"), run.result_path(40, "encoder_attention"))
    said = words(open_page("start", card="a"))
    assert "feature class token, image size 224 x 224, pixel mean 0.485 / 0.456 / 0.406, prefix positions yes" in said
