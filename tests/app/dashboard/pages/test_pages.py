"""Every page in every state it can meet: nothing stored, one run, several, torn files, deleted
runs, stale links."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.pages import PAGES
from lcmae.app.dashboard.server.launch import SCRIPT
from lcmae.app.dashboard.stored import applies
from lcmae.probes.registry import probe_class
from tests.app import synthetic
from tests.app.pages import ONE_PAGE, checked, commands, figures, open_page, words
from tests.app.trained import published
from tests.few import few

PROBES = [page.name for page in PAGES if page.is_probe]
NAMES = ["runs", "training", *PROBES]


@pytest.mark.parametrize("name", NAMES)
def test_without_any_run_a_page_says_how_to_get_one(root: Path, name: str):
    app = open_page(name)
    assert "no run below" in words(app)
    assert "lcmae train" in words(app)
    assert figures(app) == []


def test_a_missing_root_is_no_failure(root: Path):
    root.rmdir()
    assert "no run below" in words(open_page("runs"))


@pytest.mark.parametrize("name", NAMES[1:])
def test_without_a_pick_a_page_asks_for_one(root: Path, name: str):
    synthetic.run(root / "a")
    app = open_page(name)
    assert "Pick one or more runs" in words(app)
    assert figures(app) == []


@pytest.mark.parametrize("name", PROBES)
def test_what_is_not_computed_comes_with_its_command(root: Path, name: str):
    run = synthetic.run(root / "a", results=False)
    if name in ("hierarchy", "dense"):
        config = json.loads((run.path / "config.json").read_text())
        (run.path / "config.json").write_text(json.dumps({**config, "data": "hierarchy"}))
    app = open_page(name, "a")
    assert f"`{name}` has not been computed" in words(app)
    assert f"lcmae probe {name} --checkpoint {root}/a" in words(app)
    assert figures(app) == []


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize(
    "runs", [pytest.param(["a"], marks=pytest.mark.slow), ["a", "b", "deep/c"]], ids=["one", "three"]
)
def test_stored_results_are_shown(root: Path, name: str, runs: list[str]):
    synthetic.run(root / "a")
    synthetic.run(root / "b", kind="umae")
    synthetic.run(root / "deep" / "c", normalised=True)
    app = open_page(name, *runs)
    shown = figures(app)
    assert len(shown) >= 2
    assert all(figure["data"] for figure in shown)
    assert not app.warning
    text = json.dumps(shown)
    assert all(f'"{run}' in text for run in runs), "every picked run is in a figure"


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("hierarchy", {}, "was trained on digits"),
        ("dense", {}, "images without segmentation masks"),
        ("reconstruction", {"model": {"kind": "vit"}}, "is an encoder alone"),
        ("decoder_attention", {"model": {"kind": "simmim"}}, "without a decoder"),
    ],
)
def test_a_probe_that_cannot_apply_is_not_offered(root: Path, name: str, changes: dict, words: str):
    run = synthetic.run(root / "a", results=False)
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, **changes}))
    app = open_page(name, "a")
    assert words in app.info[0].value
    assert "lcmae probe" not in "".join(commands(app))
    assert not [button for button in app.button if button.label == "Compute now"]


def test_what_needs_a_prediction_is_what_the_probes_say():
    assert {name for name in PROBES if probe_class(name).needs_prediction} == applies.OF_PREDICTIONS


def test_runs_of_other_units_get_figures_of_their_own(root: Path):
    synthetic.run(root / "a")
    synthetic.run(root / "n", normalised=True)
    text = words(open_page("reconstruction", "a", "n"))
    assert "Error of hidden patches, in squared input units" in text
    assert "Error of hidden patches, in variance of a patch" in text
    assert "give the answer away" in text


def test_the_definition_is_said_to_be_ours(root: Path):
    assert "lcmae's own" in words(open_page("local_contrast"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [("reconstruction", kind) for kind in ("cut", "empty", "flipped", "text", "folder")] + [("local_contrast", "cut")],
)
def test_a_torn_result_is_named_and_the_others_shown(root: Path, name: str, damage: str):
    synthetic.run(root / "good")
    file = synthetic.run(root / "bad").result_path(40, name)
    content = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"cut": content[:middle], "empty": b"", "flipped": flipped, "text": b"<html>"}[damage])
    app = open_page(name, "good", "bad")
    assert "bad, step 40: " in words(app)
    assert "Compute it again" in words(app)
    assert f"lcmae probe {name} --checkpoint {root}/bad/checkpoints/000040" in words(app)
    assert '"good' in json.dumps(figures(app))
    assert '"bad' not in json.dumps(figures(app))


@pytest.mark.parametrize("name", few(NAMES))
def test_a_run_that_is_deleted_while_open_is_named(root: Path, name: str):
    synthetic.run(root / "a")
    synthetic.run(root / "b")
    app = open_page(name, "a", "b")
    shutil.rmtree(root / "b")
    checked(app.run())
    assert "run b" in app.warning[0].value
    assert app.multiselect[0].value == ["a"]
    shutil.rmtree(root / "a")
    checked(app.run())
    assert "no run below" in words(app)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        *[(name, {"runs": "gone"}) for name in NAMES],
        ("reconstruction", {"runs": "a", "step": "999"}),
        ("runs", {"step": "abc"}),
        ("training", {"runs": "../../etc"}),
    ],
)
def test_a_stale_link_is_explained(root: Path, name: str, query: dict[str, str]):
    synthetic.run(root / "a")
    app = open_page(name, **query)
    assert "No longer here" in app.warning[0].value
    assert app.selectbox(key="step").value == "newest"
    assert app.multiselect[0].value == (["a"] if query.get("runs") == "a" else [])


def test_a_stale_link_leaves_the_row_of_the_bar_whole(root: Path):
    synthetic.run(root / "a")
    app = open_page("reconstruction", "a", "gone", step="999")
    [said] = app.warning
    assert said.value == "No longer here, and left out: run gone; step 999."
    [picker] = app.get("popover")
    assert picker.proto.popover.label == "Runs (1)", "of those that are there"
    [row] = [block for block in app.get("flex_container") if picker in block.children.values()]
    kinds = [child.type for child in row.children.values()]
    assert kinds[kinds.index("caption") + 1] == "selectbox"
    assert "warning" not in kinds


@pytest.mark.parametrize(
    ("name", "query", "option"),
    [
        ("through_training", {"probe": "local_contrast"}, "Local contrast"),
        ("spectrum", {"view": "masked"}, "masked images"),
        ("encoder_attention", {"view": "masked"}, "masked images"),
        ("embedding_consistency", {"colour": "position"}, "position"),
        ("spectrum", {"view": "nonsense"}, "whole images"),
    ],
)
def test_a_link_from_before_options_had_words(root: Path, name: str, query: dict[str, str], option: str):
    synthetic.run(root / "a")
    synthetic.run(root / "b")
    [key] = query
    app = open_page(name, "a", "b", **query)
    assert app.selectbox(key=key).value == option
    others = [one for one in app.selectbox(key=key).options if one != option]
    checked(app.selectbox(key=key).select(others[0]).run())
    assert app.selectbox(key=key).value == others[0]


def test_long_names_are_brief_in_titles_captions_and_lists(root: Path):
    group = "a-rather-long-name-of-a-run"
    names = [f"{group}/mae-digits-with-cosine-s1", f"{group}/umae-digits-with-cosine-s1"]
    for name in names:
        synthetic.run(root / name)
    app = open_page("attribution", *names, maps_and_curves_of=names[1])
    asked = app.selectbox(key="maps_and_curves_of")
    assert asked.options == ["mae-digits-with-cosine-s1", "umae-digits-with-cosine-s1"]
    assert asked.value == names[1], "links from before lists were brief"
    assert any(one.value.endswith("  umae-digits-with-cosine-s1") for one in app.subheader)
    assert not any(group in one.value for one in app.subheader)
    again = open_page("attribution", *names, maps_and_curves_of="umae-digits-with-cosine-s1")
    assert again.selectbox(key="maps_and_curves_of").value == names[1]
    caption = [one.value for one in open_page("transfer", *names).caption if "classifiers trained on" in one.value]
    assert not any(group in one for one in caption)


def test_a_step_is_picked_and_the_newest_is_the_default(root: Path):
    run = synthetic.run(root / "a")
    run.result_path(20, "x").parent.mkdir(parents=True)
    shutil.copy(run.result_path(40, "reconstruction"), run.result_path(20, "reconstruction"))
    app = open_page("reconstruction", "a")
    assert app.selectbox(key="step").options == ["newest", "40", "20"]
    assert "checkpoints/000040" in words(app)
    checked(app.selectbox(key="step").select("20").run())
    assert "checkpoints/000020" in words(app)


def test_a_step_that_a_run_lacks_is_said(root: Path):
    synthetic.run(root / "a", steps=(20, 40))
    synthetic.run(root / "b", steps=(30,))
    app = open_page("reconstruction", "a", "b", step="30")
    assert "a has no checkpoint of step 30 (it has 20, 40)" in words(app)
    assert '"b' in json.dumps(figures(app))


def test_a_newer_checkpoint_without_result_is_said(root: Path):
    run = synthetic.run(root / "a")
    run.result_path(40, "reconstruction").rename(run.path / "old.nc")
    (run.path / "probes" / "000020").mkdir()
    (run.path / "old.nc").rename(run.result_path(20, "reconstruction"))
    text = words(open_page("reconstruction", "a"))
    assert "a is shown at step 20; its newest checkpoint, step 40, has no result yet" in text


def test_a_run_without_checkpoint_has_nothing_to_probe(root: Path):
    synthetic.run(root / "a", steps=())
    assert "no checkpoint yet" in words(open_page("reconstruction", "a"))


def test_pictures_are_paged(root: Path):
    synthetic.run(root / "a")
    app = open_page("reconstruction", "a")
    (picture,) = [box for box in app.selectbox if box.label == "First picture"]
    assert picture.options == ["0", "4"]
    before = figures(app)[1]
    checked(picture.select(4).run())
    assert figures(app)[1] != before


def test_training_follows_a_run_that_is_written(root: Path):
    run = synthetic.run(root / "a", results=False)
    with run.lock():
        app = open_page("training", "a")
        assert "followed while they are trained: a" in words(app)
        before = figures(app)[0]["data"][0]["x"]
        run.log_metrics({"step": 50, "loss": 0.1, "lr": 0.0})
        checked(app.run())
        assert figures(app)[0]["data"][0]["x"] != before
    assert "followed" not in words(checked(app.run()))


def test_training_bears_torn_and_broken_metrics(root: Path):
    run = synthetic.run(root / "a", results=False)
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'nonsense\n{"step": 60, "loss": "nan", "lr": 0.1}\n{"step": 70, "lo')
    assert len(figures(open_page("training", "a"))) >= 2
    (run.path / "metrics.jsonl").write_bytes(b"")
    assert "has logged nothing yet" in words(open_page("training", "a"))


def test_the_table_has_every_run_with_its_state(root: Path):
    synthetic.run(root / "a")
    synthetic.run(root / "new", steps=(), results=False)
    (root / "new" / "metrics.jsonl").unlink()
    (root / "torn" / "checkpoints").mkdir(parents=True)
    (root / "torn" / "config.json").write_text('{"data": ')
    dead = synthetic.run(root / "dead", results=False)
    (dead.path / ".lock").write_text(json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename}))
    alive = synthetic.run(root / "alive", results=False)
    for name, num_steps in (("finished", 40), ("stopped", 41)):
        published(root / name, steps=(40,), num_steps=num_steps)
    with alive.lock():
        table = open_page("runs").dataframe[0].value.set_index("name")
    assert table["state"].drop("torn").to_dict() == {
        "a": "ended", "new": "empty", "dead": "interrupted", "alive": "running", "finished": "finished", "stopped": "stopped",
    }  # fmt: skip
    assert table.loc["torn", "state"].startswith("unreadable: expected JSON")
    assert table.loc["a", ["objective", "mask", "ratio", "step"]].tolist() == ["mae", "random", 0.75, 40]
    assert table.loc["a", "knn"] == 0.8
    assert table.loc["a", "results"] == ", ".join(sorted(synthetic.RESULTS))


def test_the_frame_opens_on_the_start(root: Path):
    synthetic.run(root / "a")
    app = AppTest.from_file(SCRIPT, default_timeout=60)
    assert checked(app.run()).title[0].value == "Start"


NO_TORCH = f"""
import sys
from streamlit.testing.v1 import AppTest
for name in {NAMES!r}:
    app = AppTest.from_string({ONE_PAGE!r}.format(name=name), default_timeout=60)
    app.query_params["runs"] = ["a", "b"]
    app.run()
    assert not app.exception, app.exception
    assert name == "runs" or len(app.get("plotly_chart")) >= 2, name
app = AppTest.from_file({str(SCRIPT)!r}, default_timeout=60).run()
assert not app.exception
from pathlib import Path
from lcmae.app.report import write_report
write_report([Path(sys.argv[1]) / "a"], Path(sys.argv[1]) / "report.html")
heavy = [name for name in ("torch", "timm", "torchvision", "sklearn") if name in sys.modules]
assert not heavy, heavy
"""


def test_no_page_imports_torch():
    names = [f"lcmae.app.dashboard.pages.{page.name}" for page in PAGES]
    code = (
        f"import sys, lcmae.app.dashboard.main, lcmae.app.report, {', '.join(names)}; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_stored_results_are_shown_without_torch(root: Path):
    synthetic.run(root / "a")
    synthetic.run(root / "b", normalised=True)
    done = subprocess.run([sys.executable, "-c", NO_TORCH, str(root)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
