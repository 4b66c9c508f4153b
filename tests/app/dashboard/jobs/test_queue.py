"""Jobs of the dashboard: one queue for all sessions, nothing left of a cancelled one, every end
told in a sentence."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lcmae.app.dashboard.jobs import queue as queue_module
from lcmae.app.dashboard.jobs.queue import Job, Queue
from lcmae.errors import InputError

COMMAND = """
import json, os, pathlib, signal, subprocess, sys, time
how, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def say(done): print(json.dumps({"label": "probing", "done": done, "total": 4, "seconds_left": 3.5, "note": ""}),
                     file=sys.stderr, flush=True)
(folder / "started").open("a").write(f"{os.getpid()}\\n")
say(1)
if how == "writes":
    (folder / "result").write_text("whole")
elif how == "fails":
    print("lcmae probe: runs/a: expected finite weights, got NaN", file=sys.stderr); sys.exit(2)
elif how == "breaks":
    raise RuntimeError("no such thing")
elif how == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
else:
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from lcmae.runs.durable import temporary_name
    (folder / temporary_name(".nc")).write_text("half")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], stderr=subprocess.DEVNULL)
    (folder / "child").write_text(str(child.pid))
    say(2)
    time.sleep(300)
"""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A queue whose command is the one above."""
    monkeypatch.setattr(queue_module, "PATIENCE", 1.0)
    new_queue = Queue(1, [sys.executable, "-c", COMMAND])
    yield new_queue
    new_queue.close()


def until(happens: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for (a grandchild's body) has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def started(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "started").read_text().split()] if (folder / "started").exists() else []


def test_a_job_is_done_and_says_how_far_it_is(queue: Queue, tmp_path: Path):
    job = queue.submit(["writes", str(tmp_path)])
    queue.wait(job)
    assert (job.state, job.error) == ("done", "")
    assert job.progress == queue_module.Progress("probing", 1, 4, 3.5)
    assert queue_module.Progress("probing", 1, 4, 3.5).share == 0.25
    assert (tmp_path / "result").read_text() == "whole"


def test_two_clicks_are_one_job_and_every_session_sees_it(queue: Queue, tmp_path: Path):
    arguments = ["sleeps", str(tmp_path)]
    job = queue.submit(arguments)
    assert queue.submit(arguments) is job
    until(lambda: (tmp_path / "child").exists())
    assert queue.submit(arguments) is job
    assert queue.find(arguments) is job
    assert queue.active() == [job]
    queue.cancel(job)
    queue.wait(job)
    assert len(started(tmp_path)) == 1
    assert queue.submit(["writes", str(tmp_path)]) is not job


def test_one_at_a_time_in_the_order_of_asking(queue: Queue, tmp_path: Path):
    positions = [tmp_path / str(position) for position in range(3)]
    for position in positions:
        position.mkdir()
    first, second, third = (queue.submit(["sleeps", str(position)]) for position in positions)
    until(lambda: (positions[0] / "child").exists())
    assert [job.state for job in (first, second, third)] == ["running", "waiting", "waiting"]
    queue.cancel(second)
    assert second.state == "cancelled"
    queue.cancel(first)
    until(lambda: started(positions[2]))
    assert third.state == "running"
    assert not started(positions[1])


@pytest.mark.parametrize("how", ["sleeps", "stubborn"])
def test_a_cancelled_job_leaves_nothing(queue: Queue, tmp_path: Path, how: str):
    job = queue.submit([how, str(tmp_path)], tmp_path)
    until(lambda: (tmp_path / "child").exists() and job.progress is not None and job.progress.done == 2)
    queue.cancel(job)
    assert job.state == "stopping"
    queue.wait(job)
    assert job.state == "cancelled"
    processes = [*started(tmp_path), int((tmp_path / "child").read_text())]
    until(lambda: all(map(is_gone, processes)))
    assert {path.name for path in tmp_path.iterdir()} == {"started", "child"}, "half a file is left"


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("fails", "runs/a: expected finite weights, got NaN"),
        ("breaks", "its process ended with exit code 1 and said: RuntimeError: no such thing"),
        ("dies", "its process was ended by SIGKILL, as the system does when memory runs out"),
    ],
)
def test_an_end_before_its_time_is_told_in_a_sentence_and_can_be_tried_again(
    queue: Queue, tmp_path: Path, how: str, sentence: str
):
    job = queue.submit([how, str(tmp_path)], tmp_path)
    queue.wait(job)
    assert (job.state, job.error) == ("failed", sentence)
    again = queue.submit([how, str(tmp_path)], tmp_path)
    assert again is not job
    queue.wait(again)
    assert len(started(tmp_path)) == 2
    whole = queue.submit(["writes", str(tmp_path)])
    queue.wait(whole)
    assert whole.state == "done", "the queue goes on"


def test_a_program_that_is_not_there_is_told(tmp_path: Path):
    queue = Queue(1, [str(tmp_path / "nothing")])
    job = queue.submit(["probe"])
    queue.wait(job)
    assert (job.state, job.error) == (
        "failed",
        "its process ended with exit code 1 and said: the process could not be started: No such file or directory",
    )
    queue.close()


def test_the_queue_is_bounded_and_forgets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(queue_module, "MAX_WAITING", 2)
    monkeypatch.setattr(queue_module, "MAX_ENDED", 1)
    queue = Queue(0, ["never"])
    first, _ = queue.submit(["0"]), queue.submit(["1"])
    with pytest.raises(InputError, match="at most 2 jobs"):
        queue.submit(["2"])
    queue.cancel(first)
    assert queue.find(["0"]) is first
    second = queue.submit(["2"])
    queue.cancel(second)
    queue.submit(["3"])
    assert queue.find(["0"]) is None
    assert queue.find(["2"]) is second


def test_closing_stops_what_runs_and_what_waits(queue: Queue, tmp_path: Path):
    running, waiting = queue.submit(["sleeps", str(tmp_path)], tmp_path), queue.submit(["writes", str(tmp_path)])
    until(lambda: (tmp_path / "child").exists())
    queue.close()
    assert (running.state, waiting.state) == ("cancelled", "cancelled")
    assert all(map(is_gone, started(tmp_path)))
    with pytest.raises(InputError):
        queue.submit(["writes", str(tmp_path)])


WORKER = """
import sys, time, pathlib
from lcmae.app.dashboard.jobs import worker
def command(arguments):
    file = pathlib.Path(arguments[0])
    try:
        file.with_name("begun").touch()
        time.sleep(300)
    finally:
        file.write_text("cleaned up")
worker.cli.main = command
sys.exit(worker.main())
"""


@pytest.mark.parametrize("how", ["its server is gone", "it is told"])
def test_a_worker_unwinds_when_its_server_is_gone_and_when_it_is_told(tmp_path: Path, how: str):
    position = tmp_path / "end"
    command = [sys.executable, "-c", WORKER, str(position)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        until(lambda: (tmp_path / "begun").exists())
        if how == "it is told":
            os.kill(process.pid, signal.SIGTERM)
        else:
            assert process.stdin is not None
            process.stdin.close()
        assert process.wait(30) == 128 + signal.SIGTERM
    assert position.read_text() == "cleaned up"


def test_the_servers_queue_is_one():
    assert queue_module.server_queue() is queue_module.server_queue()
    assert not queue_module.server_queue().active()
    assert isinstance(Job(("probe",), None), Job)


@pytest.mark.parametrize("word", ["a\0b", "\ud800", "runs/\udfff"], ids=["NUL", "surrogate", "low surrogate"])
def test_words_that_no_process_takes_are_refused_and_the_queue_goes_on(queue: Queue, tmp_path: Path, word: str):
    with pytest.raises(InputError, match="printable words"):
        queue.submit(["writes", word])
    assert queue.find(["writes", word]) is None
    job = queue.submit(["writes", str(tmp_path)])
    queue.wait(job)
    assert job.state == "done"


def test_a_folder_name_that_is_not_utf8_is_a_word(queue: Queue, tmp_path: Path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    job = queue.submit(["writes", str(folder)], folder)
    queue.wait(job)
    assert (job.state, job.error) == ("done", "")


def test_a_process_that_cannot_be_started_is_a_failed_job_and_no_dead_thread(tmp_path: Path):
    broken = Queue(1, [str(tmp_path / "no such program\0")])
    try:
        for number in range(2):
            job = broken.submit(["x", str(number)])
            broken.wait(job)
            assert job.state == "failed"
            assert "could not be started" in job.error
    finally:
        broken.close()
