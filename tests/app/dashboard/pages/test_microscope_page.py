"""The microscope's page in every state, and that its numbers are those of the batch command."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.components.patch_board import Choice, _chosen
from lcmae.app.dashboard.components.picks import Picks
from lcmae.app.dashboard.live import inspection, models, prefetch
from lcmae.app.dashboard.live.selection import Selection, pack
from lcmae.app.dashboard.microscope import views
from lcmae.app.dashboard.microscope.patch_details import command
from lcmae.app.dashboard.stored.reading import runs_below
from lcmae.app.figures import style
from lcmae.formats.vit import ViT
from lcmae.models import SimMIM
from lcmae.probes.results.store import load_result
from lcmae.probes.watching import microscope
from tests.app.pages import checked, commands, components, figures, maps, open_page, own_words, words
from tests.app.trained import TINY, published, tiny
from tests.reference.tiny_runs import only_file

HIDDEN = [patch % 3 == 0 for patch in range(16)]


def table(app: AppTest) -> pd.DataFrame:
    """The patch in numbers."""
    [proto] = components(app, "lcmae.numbers")
    shown = json.loads(proto.json)
    return pd.DataFrame(shown["rows"], columns=shown["columns"]).set_index("quantity")


def seen(root: Path, **chosen: object) -> inspection.Inspection:
    """What the page shows."""
    selection = Selection.model_validate(chosen)
    picked = Picks(root, runs_below(root), [], None)
    return inspection.inspect(
        models.load(models.locate(picked, selection.a or next(iter(picked.runs)), selection.a_step)), selection
    )


def headings(figure: dict) -> list[str]:
    """Of the maps in a figure."""
    assert len(figure["layout"]["annotations"]) == [trace["type"] for trace in figure["data"]].count("heatmap")
    return [note["text"] for note in figure["layout"]["annotations"]]


def titles(board: dict) -> list[str]:
    """Of the maps of a board."""
    return [panel["title"] for panel in board["panels"]]


def test_nothing_stored(root: Path):
    app = open_page("microscope")
    assert "no checkpoint below" in words(app)
    assert "lcmae train" in words(app)
    assert figures(app) == []


def test_one_run_shows_the_middle_patch_of_its_first_image(root: Path):
    published(root / "a")
    app = open_page("microscope")
    assert "a, step 20; digits#" in words(app)
    assert "Patch 10: row 3, column 3" in words(app)
    assert not app.warning
    assert list(maps(app)) == ["decoder", "contrast", "encoder", "field"]
    for board in maps(app).values():
        assert board["patch"] == 10
        assert len(board["words"]) == 16
        assert all(panel["source"].startswith("data:image/png;base64,") for panel in board["panels"])
    assert app.query_params == {}


def test_every_picture_has_words_for_those_who_do_not_see_it(root: Path):
    published(root / "a")
    app = open_page("microscope")
    assert all(panel["alt"] for board in maps(app).values() for panel in board["panels"])
    checked(app.toggle("microscope-figure").set_value(True).run())
    charts = app.get("plotly_chart")
    assert len(charts) == 5  # the pictures, and all maps as figures
    for element in charts:
        assert len(element.proto.alt) > 20


def test_maps_are_the_same_as_figures_to_take_away(root: Path):
    published(root / "a")
    app = open_page("microscope")
    boards = maps(app)
    checked(app.toggle("microscope-figure").set_value(True).run())
    as_figures = figures(app)[1:]
    assert len(as_figures) == len(boards)
    # each after the other as they are asked for: decoder, contrast, encoder, fields
    for board, figure in zip(boards.values(), as_figures, strict=True):
        assert headings(figure) == [panel["title"] for panel in board["panels"]]
        assert figure["layout"]["coloraxis"]["colorbar"]["title"]["text"] == board["scale"][2]


def chosen(app: AppTest, name: str) -> dict[str, str]:
    """What the lists of a board of maps show."""
    return {choice["name"]: choice["value"] for choice in maps(app)[name]["choices"]}


def test_a_link_shows_what_it_says(root: Path):
    published(root / "a")
    published(root / "b")
    link = {"a": "b", "a_step": "10", "image": "3", "mask": "block", "ratio": "0.5", "seed": "9", "patch": "6"}
    link |= {"encoder_layer": "1", "decoder_head": "2", "split": "train"}
    app = open_page("microscope", **link)
    assert "b, step 10; digits#" in words(app)
    assert "Patch 6: row 2, column 3" in words(app)
    assert "Encoder attention, layer 1" in words(app)
    assert app.selectbox("selection-mask").value == "block"
    assert chosen(app, "decoder") == {"decoder_layer": "1", "decoder_head": "2"}
    assert chosen(app, "encoder") == {"encoder_layer": "1", "encoder_head": "all"}
    assert app.query_params == link
    expected = seen(root, **link)
    is_hidden = bool(expected.pictures()["hidden"].values[1, 2])
    value = table(app).loc["error", "this patch"]
    assert np.isnan(value) != is_hidden
    assert table(app).loc["error", "this image"] == pytest.approx(float(expected.pictures()["error"]), rel=1e-12)


def test_a_stale_link_falls_back_with_one_notice(root: Path):
    published(root / "a")
    app = open_page("microscope", a="gone", patch="99", mask="attention", encoder_layer="7", image="900", hidden="AAAA")
    assert len(app.warning) == 1
    for phrase in ("gone", "patch 99", "attention", "layer 7", "image 900", "edited mask"):
        assert phrase in app.warning[0].value
    assert "Patch 10" in words(app)
    assert app.query_params == {}
    assert not checked(app.run()).warning


def test_a_run_that_is_deleted_while_it_is_looked_at(root: Path):
    published(root / "a")
    published(root / "b")
    app = open_page("microscope", a="b", patch="2")
    shutil.rmtree(root / "b")
    checked(app.run())
    assert "checkpoint A, b, is no longer there" in app.warning[0].value
    assert "a, step 20; digits#" in words(app)
    shutil.rmtree(root / "a")
    assert "no checkpoint below" in words(checked(app.run()))


def test_a_run_without_a_checkpoint_and_one_that_is_torn(root: Path):
    published(root / "a", steps=())
    assert "no checkpoint yet" in words(open_page("microscope"))
    published(root / "b", steps=(10,))
    file = root / "b" / "checkpoints" / "000010" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    app = open_page("microscope", a="b")
    assert "cannot be opened" in words(app)
    assert "sha256" in words(app)
    assert app.selectbox("selection-a").options == ["a", "b"]


@pytest.mark.parametrize("hidden", [False, True], ids=["visible patch", "hidden patch"])
def test_an_encoder_alone_shows_what_it_can_and_says_what_it_cannot(root: Path, hidden: bool):
    run = published(root / "a", ViT(**TINY))
    patch = HIDDEN.index(hidden)
    app = open_page("microscope", patch=str(patch), hidden=pack(HIDDEN))
    text = words(app)
    assert [one.value for one in app.info if "An encoder alone" in one.value] == [
        "An encoder alone: it predicts no patch, so there is no reconstruction, no error and no contrast term."
    ]
    # what needs no prediction is there: two figures, drawn from the encoder's own numbers
    assert [heading.value for heading in app.subheader] == ["Among other patches", "Export"]
    titles_of_maps = [word for word in own_words(app) if len(word) < 40]
    assert titles_of_maps == ["Encoder attention, layer 2", "Effective receptive field", "In numbers"]
    attention, fields = maps(app).values()
    assert titles(attention) == ["mean of heads", "head 1", "head 2"]
    said = "in the full image, since the encoder does not see it under this mask" if hidden else "under this mask"
    assert f"Where the encoder looks from patch {patch}, {said}" in text
    # a hidden patch has no token under the mask, so no field of it
    targets = ["token, full image", *([] if hidden else ["token"])]
    assert titles(fields) == targets
    # the table has radii and nothing else; the words above it promise nothing else
    assert table(app).index.tolist() == ["radius: token, full image", "radius: token"]
    radius = table(app)["this patch"]
    expected = seen(root, patch=patch, hidden=pack(HIDDEN)).receptive_field()["half_radius"]
    np.testing.assert_array_equal(radius, expected.values)
    assert np.isnan(radius["radius: token"]) == hidden
    assert "Loss and its terms" not in text
    assert list(chosen(app, "encoder")) == ["encoder_layer", "encoder_head"]
    # nor is a command offered that this checkpoint has no answer to
    assert not any("lcmae probe reconstruction" in one for one in commands(app))
    assert f"lcmae probe embedding_consistency --checkpoint {run.path}" in text


def test_a_model_without_a_decoder_of_blocks_says_so(root: Path):
    published(root / "a", SimMIM(**TINY))
    app = open_page("microscope")
    assert "predicts by one linear layer" in words(app)
    assert "Contrast terms" in words(app)


def test_attention_that_cannot_be_read_takes_no_receptive_field_with_it(root: Path, monkeypatch: pytest.MonkeyPatch):
    published(root / "a", steps=(23,))  # weights of its own: answers are shared by all that are the same
    monkeypatch.setattr(microscope, "attention_problem", lambda blocks: "attention of a kind that is known")
    app = open_page("microscope")
    needs = [one.value for one in app.info if "attention of a kind" in one.value]
    assert needs == 2 * ["Its maps need attention of a kind that is known."]  # the decoder's, the encoder's
    assert list(maps(app)) == ["contrast", "field"]
    checked(app.toggle("microscope-figure").set_value(True).run())
    assert len(figures(app)) == 3  # the pictures, and these two


def test_a_picture_with_true_statistics_is_labelled(root: Path):
    published(root / "a", tiny(normalize_targets=True))
    app = open_page("microscope")
    checked(app.toggle("microscope-figure").set_value(True).run())
    assert "leaks the answer" in str(figures(app)[0])


def test_widgets_change_the_selection_and_the_address(root: Path):
    published(root / "a")
    app = open_page("microscope", hidden=pack(HIDDEN))
    assert "edited by hand" in words(app)
    app.selectbox("selection-mask").set_value("stripes").run()
    assert "edited by hand" not in words(checked(app))
    app.number_input("selection-image").set_value(4).run()
    assert app.query_params == {"mask": "stripes", "image": "4"}
    app.selectbox("selection-a_step").set_value("10").run()
    assert checked(app).query_params["a_step"] == "10"


def test_a_picked_layer_reaches_all_that_shows_it(monkeypatch: pytest.MonkeyPatch):
    """A choice comes from the browser, so from anybody; the encoder's layer decides numbers beside
    its own column, and the map over the photograph shows a head of one of both."""
    state: dict[str, Any] = {}
    changes: list[dict[str, int | None]] = []
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(views.selection, "change", lambda **values: changes.append(values))
    over = Selection()
    monkeypatch.setattr(views.selection, "current", lambda: over)
    choices = [Choice("encoder_layer", "Layer", ["1", "2"], "2"), Choice("decoder_head", "Head", ["all", "1"], "all")]
    called = _chosen("maps", choices, views.choose)
    for picked in (None, 3, [], ["encoder_layer"], ["encoder_layer", "3"], ["image", "1"], ["decoder_head", 1], "ab"):
        state["maps"] = {"choose": picked}
        called()
    assert changes == []
    for picked in (["decoder_head", "1"], ["decoder_head", "all"]):
        state["maps"] = {"choose": picked}
        called()
        assert views.MOVED not in state
    state["maps"] = {"choose": ["encoder_layer", "1"]}
    called()
    assert state[views.MOVED]
    assert changes == [{"decoder_head": 1}, {"decoder_head": None}, {"encoder_layer": 1}]
    state.clear()
    over = Selection(overlay="decoder")
    state["maps"] = {"choose": ["decoder_head", "1"]}
    called()
    assert state[views.MOVED]


def test_the_next_image_is_prefetched(root: Path, monkeypatch: pytest.MonkeyPatch):
    published(root / "a", steps=(17,))  # weights of its own: answers are shared by all that are the same
    asked: list[int] = []

    def take(steps: Callable[[], list[Callable[[], object]]]) -> None:
        asked.append(sum(1 for step in steps() if step() is not None))

    monkeypatch.setattr(prefetch, "start", take)
    app = open_page("microscope", image="3")
    # pictures, two attentions, receptive field, contrast terms, and the map over the photograph
    assert asked == [6]
    computed: list[str] = []
    for name in ANSWERS:
        monkeypatch.setattr(microscope, name, counted(getattr(microscope, name), computed))
    app.number_input("selection-image").set_value(4).run()
    checked(app)
    assert sorted(computed) == sorted(ANSWERS), "of the image after it alone"
    assert asked == [6, 6]


ANSWERS = ["pictures", "attention", "contrast", "receptive_field"]


def counted(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    """The same, noting its name at every call."""

    def call(*args: Any, **settings: Any) -> Any:
        calls.append(function.__name__)
        return function(*args, **settings)

    return call


def test_pictures_are_drawn_once(root: Path, monkeypatch: pytest.MonkeyPatch):
    published(root / "a", steps=(19,))
    app = open_page("microscope")
    drawn: list[str] = []
    monkeypatch.setattr(style, "png", counted(style.png, drawn))
    checked(app.run())
    assert drawn == []
    app.number_input("selection-image").set_value(4).run()
    checked(app)
    # image, reconstruction, error, and what the slider shows; three maps of each attention and of
    # contrast terms, and three fields or two
    assert len(drawn) in (3 + 3 + 3 * 3 + 3, 3 + 3 + 3 * 3 + 2)


def test_images_or_seeds_are_prefetched_in_the_direction_of_the_last_step(root: Path, monkeypatch: pytest.MonkeyPatch):
    published(root / "a")
    ways: list[int] = []
    seeds: list[int] = []

    def asked(steps: Callable[[], Any]) -> None:
        first, *_ = steps()
        [about] = first.args
        ways.append(about.chosen.image)
        seeds.append(about.chosen.seed)

    monkeypatch.setattr(prefetch, "start", asked)
    app = open_page("microscope", image="3")
    for image in (2, 1, 0, 7):
        app.number_input("selection-image").set_value(image).run()
        checked(app)
    last = models.num_images(seen(root).loaded, "digits", "test") - 1
    app.number_input("selection-image").set_value(last).run()
    assert ways == [4, 1, 0, 8], "none before the first image, and none after the last"
    assert set(seeds) == {0}
    app.number_input("selection-seed").set_value(5).run()
    app.number_input("selection-seed").set_value(4).run()
    assert (ways[4:], seeds[4:]) == ([last, last], [6, 3])
    del ways[4:]
    monkeypatch.setattr(models, "SMALL_PASS", 0)
    published(root / "b")  # not loaded before
    checked(open_page("microscope", a="b", image="3"))
    assert ways == [4, 1, 0, 8], "a large model takes too long"


def test_a_mask_that_the_grid_has_no_room_for_falls_back(root: Path):
    published(root / "a")
    app = open_page("microscope", mask="complementary", ratio="0.75")
    assert "ratio" in app.warning[0].value
    assert app.selectbox("selection-mask").value == "random"
    # asked for on the page itself, where the ratio stands beside it
    app = open_page("microscope", mask="complementary", ratio="0.5")
    assert not app.warning
    assert app.selectbox("selection-mask").value == "complementary"


def test_a_foreign_path_in_a_link_opens_nothing(root: Path):
    published(root / "a")
    published(root.parent / "outside")
    for path in ("../outside", str(root.parent / "outside"), "/etc/passwd"):
        app = open_page("microscope", a=path)
        assert "no longer there" in app.warning[0].value
    app = open_page("microscope", data="folder:/etc")
    assert "data folder:/etc cannot be picked here" in app.warning[0].value


def test_the_command_computes_the_same_numbers(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What the page shows of image 3 is picture 3 of the command's results, to the rounding of a
    batch."""
    from lcmae.app.cli import main

    published(root / "a")
    chosen = {"image": 3, "mask": "block", "ratio": 0.5, "seed": 4}
    here = seen(root, **chosen)
    words_of_command = shlex.split(command(here))
    assert words_of_command[0] == "lcmae"
    monkeypatch.chdir(tmp_path)
    assert main(words_of_command[1:]) == 0
    found = load_result(only_file(tmp_path / "microscope", "reconstruction")).isel(picture=3)
    np.testing.assert_array_equal(here.pictures()["original"], found["original"])
    np.testing.assert_array_equal(here.pictures()["hidden"], found["hidden"])
    np.testing.assert_allclose(here.pictures()["picture_error"], found["picture_error"], rtol=1e-5)
    found = load_result(only_file(tmp_path / "microscope", "local_contrast")).isel(picture=3)
    is_seen = here.contrast()["times_hidden"].values > 0
    for name in ("loss", "invariance", "local_consistency"):
        values = here.contrast()[name].values[is_seen]
        np.testing.assert_allclose(values, found[f"picture_{name}"].values[is_seen], rtol=1e-4)


def test_answers_of_an_edited_mask_are_not_those_of_the_drawn_one(root: Path):
    published(root / "a")
    drawn, edited = seen(root), seen(root, hidden=pack(HIDDEN))
    assert edited.pictures()["hidden"].values.reshape(-1).astype(bool).tolist() == HIDDEN
    assert edited.pictures() is not drawn.pictures()
    assert edited.contrast() is drawn.contrast()  # those are of the strategy's masks
    assert seen(root, patch=3).pictures() is drawn.pictures()
    assert not seen(root, patch=3).attention().equals(drawn.attention())
    assert seen(root, seed=1).pictures() is not drawn.pictures()


def test_the_page_imports_no_torch_before_a_model_is_needed():
    code = (
        "import sys\n"
        "import lcmae.app.dashboard.pages.microscope\n"
        "import lcmae.app.figures.microscope\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
