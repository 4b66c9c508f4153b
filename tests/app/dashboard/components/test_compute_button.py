"""Computing from a page: the button starts the command that is shown, its progress is on every
page, its end draws the page."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from lcmae.app.cli import main
from lcmae.app.dashboard.components import compute_button
from lcmae.app.dashboard.jobs.queue import Job, Queue
from lcmae.app.dashboard.server.launch import SCRIPT
from lcmae.probes.results import tables
from lcmae.probes.results.store import load_result, save_result
from tests.app import synthetic
from tests.app.pages import checked, commands, figures, open_page, words
from tests.reference.tiny_runs import only_file, tiny_config, tiny_run

COMMAND = """
import json, pathlib, shutil, sys, time
words = sys.argv[1:]
step = pathlib.Path(words[words.index("--checkpoint") + 1])
run = step.parent.parent if step.parent.name == "checkpoints" else step
print(json.dumps({"label": "probing", "done": 32, "total": 64, "seconds_left": 61.0, "note": ""}), file=sys.stderr, flush=True)
while not (run / "go").exists():
    time.sleep(0.01)
if (run / "go").read_text() == "fail":
    print("lcmae probe: expected a better run, got this one", file=sys.stderr)
    sys.exit(2)
target = run / "probes" / "000040" / f"{words[1]}.nc"
target.parent.mkdir(parents=True, exist_ok=True)
shutil.copy(run.parent / "result.nc", target)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCMAE_RUNS", str(tmp_path))
    save_result(synthetic.reconstruction(), tmp_path / "result.nc")
    return tmp_path


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """The server's queue, with a command that waits for a file named `go` in the run."""
    job_queue = Queue(1, [sys.executable, "-c", COMMAND])
    monkeypatch.setattr(compute_button, "server_queue", lambda: job_queue)
    yield job_queue
    job_queue.close()


def press(app: AppTest, label: str) -> AppTest:
    (found,) = [button for button in app.button if button.label == label]
    return checked(found.click().run())


def wait_for_progress(queue: Queue) -> Job:
    (job, *_) = queue.active()
    while job.progress is None:
        queue.wait(job, 0.01)
    return job


def test_what_is_missing_is_computed_and_shown(root: Path, queue: Queue):
    synthetic.run(root / "a", results=False)
    app = press(open_page("reconstruction", "a"), "Compute now")
    job = wait_for_progress(queue)
    shown = shlex.split(commands(app)[0])
    assert list(job.arguments) == shown[1:] == ["probe", "reconstruction", "--checkpoint", f"{root}/a"]
    other = open_page("reconstruction", "a")
    for session in (checked(app.run()), other):
        assert "probing: 32 of 64, 1:01 left" in str([element.proto.text for element in session.get("progress")])
        assert [button.label for button in session.button if "Compute" in button.label] == []
    (root / "a" / "go").touch()
    queue.wait(job)
    assert job.state == "done"
    for session in (app, other):
        checked(session.run())
        assert len(figures(session)) >= 2
        assert not session.info


def test_a_job_can_be_cancelled_from_another_session(root: Path, queue: Queue):
    synthetic.run(root / "a", results=False)
    press(open_page("reconstruction", "a"), "Compute now")
    job = wait_for_progress(queue)
    press(open_page("reconstruction", "a"), "Cancel")
    queue.wait(job)
    assert job.state == "cancelled"
    app = open_page("reconstruction", "a")
    assert "It was cancelled" in words(app)
    assert not list((root / "a").glob("probes/*/*"))
    assert [button.label for button in app.button] == ["Compute now"]


def test_a_failure_is_a_sentence_and_can_be_tried_again(root: Path, queue: Queue):
    run = synthetic.run(root / "a", results=False)
    (run.path / "go").write_text("fail")
    app = press(open_page("reconstruction", "a"), "Compute now")
    job = queue.find(["probe", "reconstruction", "--checkpoint", f"{root}/a"])
    assert job is not None
    queue.wait(job)
    checked(app.run())
    assert [error.value for error in app.error] == ["It could not be computed: expected a better run, got this one."]
    (run.path / "go").write_text("")
    press(app, "Compute now")
    again = queue.find(job.arguments)
    assert again is not None
    assert again is not job
    queue.wait(again)
    assert len(figures(checked(app.run()))) >= 2


def test_several_are_asked_for_at_once_and_wait_for_each_other(root: Path, queue: Queue):
    for name in "abc":
        synthetic.run(root / name, results=False)
    app = press(open_page("reconstruction", *"abc"), "Compute all 3 now")
    wait_for_progress(queue)
    checked(app.run())
    assert [job.state for job in queue.active()] == ["running", "waiting", "waiting"]
    text = words(app)
    assert "waiting for 1 before it" in text
    assert "waiting for 2 before it" in text


def test_the_frame_tells_on_every_page_what_is_computed(root: Path, queue: Queue):
    synthetic.run(root / "a", results=False)
    job = queue.submit(["probe", "reconstruction", "--checkpoint", str(root / "a")])
    wait_for_progress(queue)
    app = AppTest.from_file(str(SCRIPT), default_timeout=60)
    checked(app.run())
    assert "computing `probe reconstruction`: probing: 32 of 64, 1:01 left" in words(app)
    queue.cancel(job)
    queue.wait(job)
    assert "computing" not in words(checked(app.run()))


def test_a_run_without_checkpoint_offers_no_button(root: Path, queue: Queue):
    synthetic.run(root / "a", steps=(), results=False)
    app = open_page("reconstruction", "a")
    assert "no checkpoint yet" in words(app)
    assert not app.button


def test_the_command_of_the_page_gives_the_numbers_of_the_page_bit_for_bit(root: Path, tmp_path: Path):
    """A run that was probed together with others, under a mask of its own: the page's command, in a
    terminal."""
    from lcmae.training.train import build_model

    run = tiny_run(root / "tiny")
    run.publish(3, build_model(tiny_config()).state_dict(), config=run.config, resume=None)
    options = ["--images", "40", "--mask", "block", "--ratio", "0.6", "--seed", "5", "--device", "cpu"]
    assert main(["probe", "reconstruction", "local_contrast", "--checkpoint", str(run.path), *options]) == 0
    moved = run.path.rename(root / "moved")
    torch.manual_seed(99)  # nothing may hang on it
    for probe in ("reconstruction", "local_contrast"):
        app = open_page(probe, "moved")
        command = shlex.split(commands(app)[-1])
        assert command[0] == "lcmae"
        assert main([*command[1:], "--out", str(tmp_path / "again")]) == 0
        again = load_result(only_file(tmp_path / "again", probe))
        stored = load_result(only_file(moved / "probes" / "000003", probe))
        for name, variable in stored.variables.items():
            assert np.array_equal(again[name].values, variable.values, equal_nan=variable.dtype.kind == "f"), name
        shown = app.dataframe[0].value
        wanted = tables.scalars({"moved": again})
        assert len(wanted) > 2
        assert shown["value"].tolist() == wanted["value"].tolist()
        assert shown["quantity"].tolist() == wanted["quantity"].tolist()
