"""Compare: A against B in every state, figures on one scale, and what is locked between two
models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

from lcmae.app.dashboard.live import models
from lcmae.app.dashboard.live.selection import Selection
from lcmae.app.dashboard.microscope.pair import as_b
from lcmae.app.dashboard.pages import TITLES
from lcmae.app.dashboard.pages.pair import tally, usual
from lcmae.app.figures import pair as pictures
from lcmae.app.figures import style
from lcmae.errors import InputError
from lcmae.formats.vit import ViT
from lcmae.probes.results import tables
from lcmae.probes.results.differences import differences
from lcmae.runs.run import Run
from tests.app import synthetic
from tests.app.pages import ONE_PAGE, checked, figures, open_page, traces, words
from tests.conftest import tiny_mae, tiny_simmim

NAME = "pair"


def trained(path: Path, model: torch.nn.Module) -> Run:
    """A run whose checkpoint is a model that answers."""
    config = {"data": "digits", "model": json.loads(model.config.model_dump_json())}  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    run = Run.create(path, config)
    run.publish(10, model.state_dict(), config=config, resume=None)
    return run


# --- figures ---


def grid(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("row", "column"), attrs={"units": "1", "long_name": "x"})


def test_maps_share_one_scale_and_the_difference_is_about_zero():
    a, b = grid(np.array([[0.0, 1.0], [np.nan, 2.0]])), grid(np.array([[4.0, 0.0], [1.0, 2.0]]))
    shown = pictures.maps(a, b, ("A", "B"), "attention", grid=(2, 2), patch=3)
    first, second, third = traces(shown)
    assert (first.coloraxis, second.coloraxis, third.coloraxis) == ("coloraxis", "coloraxis", "coloraxis2")
    np.testing.assert_array_equal(third.z, [[4, -1], [np.nan, 0]])
    layout = shown.layout
    assert (layout.coloraxis.cmin, layout.coloraxis.cmax) == (0, 4)
    assert (layout.coloraxis2.cmin, layout.coloraxis2.cmax) == (-4, 4)
    assert [heading.text for heading in layout.annotations] == ["A", "B", "B - A"]
    # white and red, in each of three maps, around the last patch
    assert [(shape.x0, shape.y0) for shape in list(layout.shapes)[::2]] == [
        pytest.approx((location * (1 + style.GAP) + 0.5, 0.5)) for location in range(3)
    ]


def test_maps_of_other_grids_have_no_difference():
    shown = pictures.maps(grid(np.ones((2, 2))), grid(np.ones((4, 4))), ("A", "B"), "attention")
    assert len(traces(shown)) == 2
    assert "coloraxis2" not in shown.layout


def test_shares_of_a_field_add_up():
    assert float(pictures.shares(grid(np.arange(4.0).reshape(2, 2))).sum()) == pytest.approx(1000)
    assert float(pictures.shares(grid(np.zeros((2, 2)))).sum()) == 0


def two() -> pd.DataFrame:
    return differences("local_contrast", synthetic.local_contrast(seed=1), synthetic.local_contrast(seed=2))


def test_differences_are_drawn_with_their_intervals():
    frame = two()
    shown = pictures.differences(frame, usual(frame))
    (points,) = traces(shown)
    first = frame[frame["quantity"] == "masked loss (squared error)"].iloc[0]
    location = list(points.x).index(first["B - A"])
    assert points.error_x.array[location] == pytest.approx(first["high"] - first["B - A"])
    assert points.customdata[location][0] == first["says"]
    assert shown.layout.xaxis.title.text == "B - A [squared input units]"
    with pytest.raises(ValueError, match="expected at least one difference"):
        pictures.differences(frame, [])


def test_the_better_one_has_the_colour_that_its_run_has_everywhere():
    frame = two()
    style.know({"mae": "mae", "umae": "umae"})
    (points,) = traces(pictures.differences(frame, usual(frame), ("umae", "mae")))
    known = {"A better": style.colours(["umae"])["umae"], "B better": style.colours(["mae"])["mae"]}
    outcomes = [outcome for outcome, _ in points.customdata]
    assert {"A better", "B better"} & {*outcomes}
    assert list(points.marker.color) == [known.get(outcome, style.GREY) for outcome in outcomes]


def test_runs_stand_beside_each_other_in_a_panel_a_number():
    frame = tables.scalars({name: synthetic.local_contrast(seed=seed) for seed, name in enumerate("abc")})
    shown = pictures.of_runs(frame, ["part of the masked loss"], list("abc"))
    assert len(traces(shown)) == 4 * 3
    assert list(shown.layout.yaxis.ticktext) == ["a", "b", "c"]
    assert {trace.marker.color for trace in traces(shown)} == {style.BLUE, style.ORANGE, style.GREEN}
    with pytest.raises(ValueError, match="expected at least one quantity"):
        pictures.of_runs(frame, [], ["a"])


def test_what_is_told_apart_is_drawn_before_what_is_not():
    rows = [("first", "lower", "not told apart")] * 10 + [("second", "neither", "differ")] * 2
    rows += [("third", "higher", "not told apart")] * 4 + [("third", "higher", "B better")]
    frame = pd.DataFrame(rows, columns=["quantity", "better", "says"]).assign(low=0.0)
    assert usual(frame) == ["third", "first"], "two more rows would be too many"


def test_the_tally_counts_what_has_a_better_end():
    frame = pd.DataFrame(
        [("higher", "A better", "apart"), ("lower", "B better", "paired, 7 images"), ("lower", "not told apart", "apart"),
         ("neither", "differ", "apart"), ("lower", "equal", "apart"), ("lower", "", "none stored")],
        columns=["better", "says", "interval"],
    )  # fmt: skip
    text = tally(frame)
    assert "Of 3 numbers with a better direction, A is better in 1, B in 1, and 1 cannot be told apart; at 95 %" in text
    assert "1 of 6 differences are paired" in text


# --- the page ---


def test_without_any_checkpoint_the_page_says_how_to_get_one(root: Path):
    assert "lcmae train" in words(open_page(NAME))


def test_one_run_of_one_step_has_nothing_beside_it(root: Path):
    synthetic.run(root / "a", steps=(40,))
    assert "A and B are the same checkpoint" in words(open_page(NAME, "a"))


def test_long_names_differ_in_the_lists_of_checkpoints(root: Path):
    names = [f"a-rather-long-name-of-a-run/{kind}-digits-with-cosine-s1" for kind in ("mae", "umae")]
    other = "another-long-name-of-a-run-that-is-not-picked"
    for name in (*names, other):
        synthetic.run(root / name, results=False)
    app = open_page(NAME, *names)
    shown = ["mae-digits-with-cosine-s1", "umae-digits-with-cosine-s1", "another-lon…run-that-is-not-picked"]
    assert app.selectbox(key="selection-a").options == shown
    assert [app.selectbox(key=f"selection-{letter}").value for letter in "ab"] == names


def test_two_steps_of_one_run_are_compared(root: Path):
    synthetic.run(root / "a")
    text = words(open_page(NAME, "a", b="a", b_step="20"))
    assert "Not everything is stored for B" in text
    assert "lcmae probe reconstruction second_order transfer " in text
    assert f" --checkpoint {root}/a/checkpoints/000020" in text


def test_stored_numbers_of_two_runs(root: Path):
    synthetic.run(root / "a")
    synthetic.run(root / "long")
    app = open_page(NAME, "a", "long")
    assert "A is a, step 40; B is long, step 40." in words(app)
    assert not app.warning
    frame = app.dataframe[0].value
    assert set(frame["probe"]) == {TITLES[name] for name in synthetic.RESULTS}
    assert len(figures(app)) == 1
    checked(app.selectbox(key="numbers_of").select("Reconstruction").run())
    assert set(app.dataframe[0].value["probe"]) == {"Reconstruction"}
    # all picked runs follow, with the quantity that has a better end
    assert app.multiselect(key="compare_reconstruction").value == ["mean squared error of hidden patches"]
    assert len(figures(app)) == 2


@pytest.mark.slow
def test_many_runs_stand_in_the_plot_of_runs(root: Path):
    for name in ("a", "bb", "ccc", "dddd"):
        synthetic.run(root / name)
    app = open_page(NAME, "a", "bb", "ccc", "dddd", numbers_of="Local contrast")
    assert set(figures(app)[-1]["layout"]["yaxis"]["ticktext"]) == {"a", "bb", "ccc", "dddd"}


def test_other_conditions_are_said(root: Path):
    synthetic.run(root / "a")
    other = synthetic.run(root / "b")
    from lcmae.probes.results.store import save_result

    save_result(synthetic.local_contrast(seed=9).assign_attrs(num_images=500), other.result_path(40, "local_contrast"))
    text = words(open_page(NAME, "a", "b"))
    assert "how these were measured: Local contrast: number of images (A 7, B 500). Such numbers" in text


def test_nothing_stored_comes_with_commands(root: Path):
    synthetic.run(root / "a", results=False)
    synthetic.run(root / "b", results=False)
    text = words(open_page(NAME, "a", "b"))
    assert f"lcmae probe all --checkpoint {root}/a/checkpoints/000040" in text
    assert f"lcmae probe all --checkpoint {root}/b/checkpoints/000040" in text


def test_a_torn_result_is_named(root: Path):
    synthetic.run(root / "a")
    file = synthetic.run(root / "b").result_path(40, "local_contrast")
    file.write_bytes(file.read_bytes()[:-50])
    app = open_page(NAME, "a", "b")
    assert "B, b, step 40: expected a probe result" in words(app)
    assert set(app.dataframe[0].value["probe"]) == {TITLES[name] for name in synthetic.RESULTS} - {"Local contrast"}


def test_a_checkpoint_that_is_gone_is_told(root: Path):
    synthetic.run(root / "a")
    synthetic.run(root / "b")
    app = open_page(NAME, "a", "b", b="b")
    shutil.rmtree(root / "b")
    checked(app.run())
    assert "checkpoint B, b, is no longer there" in words(app)


def test_a_run_without_checkpoint_is_told(root: Path):
    synthetic.run(root / "a")
    synthetic.run(root / "empty", steps=())
    assert "empty has no checkpoint yet" in words(open_page(NAME, "a", "empty"))


def test_the_stored_part_needs_no_torch(root: Path):
    synthetic.run(root / "a")
    synthetic.run(root / "other")
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_string({ONE_PAGE!r}.format(name="pair"), default_timeout=60)
app.query_params["runs"] = ["a", "other"]
app.run()
assert not app.exception, app.exception
assert len(app.get("plotly_chart")) == 1
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


# --- one image through both ---


def test_two_models_answer_on_one_image_under_one_mask(root: Path):
    trained(root / "a", tiny_mae(channels=1, image_size=(8, 8)))
    trained(root / "b", tiny_mae(channels=1, image_size=(8, 8), depth=3))
    app = open_page(NAME, "a", "b", live="true", encoder_layer="1")
    text = words(app)
    assert "The same pixels go to both, under the same mask." in text
    for title in (
        "Reconstructions",
        "Errors",
        "Encoder attention",
        "Decoder attention",
        "Receptive field of the token",
    ):
        assert title in text
    assert len(figures(app)) == 6


def test_other_grids_and_targets_are_shown_without_a_difference(root: Path):
    trained(root / "a", tiny_mae(channels=1, image_size=(8, 8)))
    trained(root / "b", tiny_simmim(channels=1, image_size=(8, 8), patch_size=4, normalize_targets=True))
    text = words(open_page(NAME, "a", "b", live="true"))
    assert "each on its own grid (4 x 4 and 2 x 2 patches)" in text
    assert "Errors are not compared: A's are in squared input units, B's in variance of a patch" in text
    assert "nearest visible patch" in text
    assert "Decoder attention is not compared: B has none" in text


@pytest.mark.parametrize("encoders", ["B", "AB"])
def test_an_encoder_alone_is_compared_in_what_it_has_and_the_rest_is_said_to_be_missing(root: Path, encoders: str):
    whole = tiny_mae(channels=1, image_size=(8, 8))
    settings = whole.config.model_dump(include={"image_size", "patch_size", "channels", "width", "depth", "heads"})
    for name in "ab":
        trained(root / name, ViT(**settings) if name.upper() in encoders else whole)
    app = open_page(NAME, "a", "b", live="true", patch="5")
    text = words(app)
    silent = "A and B are an encoder alone" if encoders == "AB" else "B is an encoder alone"
    assert f"{silent}, so there is no reconstruction to compare." in text
    assert f"Decoder attention is not compared: {' and '.join(encoders)} has none that can be read." in text
    described = f"Receptive field of the prediction is not compared: there is none for {' and '.join(encoders)}."
    assert described in text
    assert "The same pixels go to both, under the same mask." in text
    # what both have is drawn, with its difference: attention and the token's field
    drawn = [[note["text"] for note in figure["layout"]["annotations"]] for figure in figures(app)]
    assert drawn == [["A", "B", "B - A"]] * 2
    titles = [heading.value for heading in app.subheader]
    assert [title for title in titles if title not in ("Stored numbers", "One image through both")] == [
        "Encoder attention on the full image", "Receptive field of the token",
    ]  # fmt: skip
    for title in ("Reconstructions", "Errors"):
        assert title not in titles


def test_a_file_of_an_encoder_has_no_stored_numbers_and_says_how_to_get_some(root: Path):
    trained(root / "a", tiny_mae(channels=1, image_size=(8, 8)))
    encoder = trained(root / "elsewhere", ViT(image_size=8, patch_size=2, channels=1, width=16, depth=2, heads=2))
    weights = encoder.path / "checkpoints" / "000010" / "model.safetensors"
    save_file(load_file(weights), root / "encoder.safetensors")
    shutil.rmtree(encoder.path)
    app = open_page(NAME, "a", b="encoder.safetensors", live="true")
    assert "B is a file: results are stored with runs. `lcmae import` makes a run of it." in words(app)
    assert app.selectbox("selection-b").value == "encoder.safetensors"
    assert not app.dataframe


def test_a_patch_is_at_the_same_place_of_another_grid(tmp_path: Path):
    def loaded(name: str, patch_size: int) -> models.Loaded:
        run = trained(tmp_path / name, tiny_mae(channels=1, image_size=(8, 8), patch_size=patch_size))
        return models.load(models.Location(name, run.path / "checkpoints" / "000010", tmp_path, run.path, 10))

    fine, coarse = loaded("fine", 1), loaded("coarse", 2)
    chosen = Selection(patch=5 * 8 + 2, data="digits", hidden="abc")  # row 5, column 2 of 8 x 8
    assert as_b(chosen, fine, coarse).patch == 2 * 4 + 1
    assert as_b(chosen, fine, coarse).hidden == ""
    assert as_b(Selection(patch=2 * 4 + 1), coarse, fine).patch == 5 * 8 + 3
    with pytest.raises(InputError, match="which only A can use"):
        as_b(Selection(data="folder:/elsewhere"), fine, coarse)
