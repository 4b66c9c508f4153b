"""Races and advice started from a page: the command that is shown is the job, its progress and its
end are seen, and the advice is read."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.components import races
from lcmae.app.dashboard.jobs.queue import Queue
from tests.app.pages import checked, commands, components, words

PAGE = """
from lcmae.app.dashboard.components import picks, races
picked = picks.ask()
races.read_advice(picked.root)
races.ask(picked, ["random", "block", "grid", "window"])
"""

COMMAND = """
import json, pathlib, sys, time
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--out") + 1])
out.mkdir()
print(json.dumps({"label": "runs", "done": 2, "total": 9, "seconds_left": 61.0, "note": ""}), file=sys.stderr, flush=True)
while not (out.parent / "go").exists():
    time.sleep(0.01)
advice = {"headline": "Keep random 0.75.", "reasons": ["One.", "Two."], "unknown": ["Longer schedules."]}
(out / "advice.json").write_text(json.dumps({"advice": advice, "command": "lcmae train mae-digits"}))
"""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """The server's queue, with a command that waits for a file named `go` beside its folder."""
    job_queue = Queue(1, [sys.executable, "-c", COMMAND])
    monkeypatch.setattr(races, "server_queue", lambda: job_queue)
    yield job_queue
    job_queue.close()


def opened() -> AppTest:
    return checked(AppTest.from_string(PAGE, default_timeout=60).run())


def press(app: AppTest, label: str) -> AppTest:
    (found,) = [button for button in app.button if button.label == label]
    return checked(found.click().run())


def test_a_race_is_started_followed_and_ends(root: Path, queue: Queue):
    app = opened()
    assert "6 cells; at most 54 short runs (18 of 3, of 6 and of 24 epochs)" in words(app)
    shown = shlex.split(commands(app)[0])
    assert shown[:6] == ["lcmae", "compare", "--race", "--masks", "random,block,grid", "--ratios"]
    press(app, "Start the race")
    (job,) = queue.active()
    assert list(job.arguments) == shown[1:]
    while job.progress is None:
        queue.wait(job, 0.01)
    for session in (checked(app.run()), opened()):
        assert "Race in the folder race: runs: 2 of 9, 1:01 left" in str(
            [one.proto.text for one in session.get("progress")]
        )
    (root / "go").touch()
    queue.wait(job)
    assert "Race in the folder race: done" in words(checked(app.run()))
    assert "see its answer above, under Comparison" in words(app)
    assert any("race-2" in command for command in commands(app)), "the next one goes into a folder of its own"


def test_too_few_cells_cannot_race(root: Path, queue: Queue):
    app = opened()
    app.multiselect(key="race_masks").set_value(["random"])
    app.multiselect(key="race_ratios").set_value([0.5])
    checked(app.run())
    assert "expected at least two cells (masks times ratios) to compare, got 1" in words(app)
    assert [button.label for button in app.button] == ["Ask for advice"]


def test_fewer_cells_than_a_race_has_are_compared_whole(root: Path, queue: Queue):
    app = opened()
    app.multiselect(key="race_masks").set_value(["random", "block"])
    app.multiselect(key="race_ratios").set_value([0.5])
    app.number_input(key="race_epochs").set_value(1)
    checked(app.run())
    assert "2 cells: 6 runs of 1 epoch, 3 seeds each; from 4 cells on it is a race" in words(app)
    press(app, "Start the comparison")
    (job,) = queue.active()
    assert job.arguments[:3] == ("compare", "--seeds", "3")
    assert "Comparison in the folder comparison: " in str(
        [one.proto.text for one in checked(app.run()).get("progress")]
    )


def test_advice_is_asked_for_and_read(root: Path, queue: Queue):
    (root / "go").touch()
    app = press(opened(), "Ask for advice")
    (job,) = queue.known()
    queue.wait(job)
    assert job.arguments[:3] == ("advise", "--data", "digits")
    checked(app.run())
    (shown,) = components(app, "lcmae.answer")
    assert json.loads(shown.json)["sentence"] == "Keep random 0.75."
    assert "- Longer schedules." in words(app)
    assert "lcmae train mae-digits" in commands(app)


def test_jobs_of_other_roots_and_kinds_are_not_shown(root: Path, queue: Queue, tmp_path: Path):
    queue.submit(["compare", "--race", "--out", str(tmp_path / "x" / "race")], tmp_path / "x" / "race")
    assert races.jobs_below(root) == []
