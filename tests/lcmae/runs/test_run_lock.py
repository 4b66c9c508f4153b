"""One writer at a time in a run folder, and what a killed one leaves."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lcmae.errors import InputError
from lcmae.runs.durable import sweep, temporary_name
from lcmae.runs.run import Run
from tests.reference.run_folders import hidden, one_line, publish

HOLD = """
import os, signal, sys
from lcmae.runs.run import Run
with Run.open(sys.argv[1]).lock():
    ready, tell = os.pipe()
    child = os.fork() if "fork" in sys.argv else 0
    if "fork" in sys.argv and child == 0:
        os.write(tell, b"1")
        signal.pause()
    if child:
        os.read(ready, 1)  # the worker lives, and has let go of what it inherited
    print(child, flush=True)
    if "die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def holder(run: Run, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_second_writer_is_refused_by_name(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with holder(run) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError) as error, run.lock():
            pytest.fail("two writers")
        assert f"process {other.pid} on {os.uname().nodename}" in one_line(error)
        other.communicate("")
    with run.lock(), pytest.raises(InputError, match=f"process {os.getpid()} "), Run.open(run.path).lock():
        pytest.fail("two writers in one process")
    with run.lock():
        pass
    assert not caplog.records


def test_a_killed_writer_is_taken_over_from_and_its_workers_hold_nothing(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with holder(run, "fork", "die") as other:
        assert other.stdout is not None
        worker = int(other.stdout.readline())
        assert other.wait() == -signal.SIGKILL
        try:
            with run.lock():
                assert f"took over from process {other.pid}" in caplog.text
        finally:
            os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize(("same_boot", "taken"), [(True, True), (False, False)])
def test_a_lock_of_another_host(run: Run, same_boot: bool, taken: bool) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        pytest.skip("only Linux names its boots")
    text = {"pid": 4, "host": "far", "boot": boot.read_text().strip() if same_boot else "other", "started": "then"}
    (run.path / ".lock").write_text(json.dumps(text))
    if taken:
        with run.lock():
            pass
    else:
        with pytest.raises(InputError) as error, run.lock():
            pytest.fail("a writer that may live elsewhere")
        assert "process 4 on far" in one_line(error)
        assert "delete" in one_line(error)
        assert json.loads((run.path / ".lock").read_text()) == text


@pytest.mark.parametrize("living", [True, False])
def test_without_kernel_locks_the_text_decides(run: Run, monkeypatch: pytest.MonkeyPatch, living: bool) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr("fcntl.flock", unsupported)
    pid = os.getpid() if living else dead_pid()
    (run.path / ".lock").write_text(json.dumps({"pid": pid, "host": os.uname().nodename}))
    if living:
        with pytest.raises(InputError, match=f"process {pid}"), run.lock():
            pytest.fail("two writers")
    else:
        with run.lock():
            assert json.loads((run.path / ".lock").read_text())["pid"] == os.getpid()


def dead_pid() -> int:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def test_a_writer_clears_what_the_dead_left_and_nothing_else(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    checkpoints = run.path / "checkpoints"
    mine = temporary_name()
    _, pid, token, count = mine.split("@")[0].split("-")
    host = os.uname().nodename
    stay = [mine, f".tmp-{pid}-{token}-{count}@elsewhere@", f".tmp-1-{token}-0@{host}@", ".tmp-other", "notes"]
    go = [f".tmp-{dead_pid()}-{token}-{count}@{host}@", f".tmp-{pid}-{'0' * 8}-{count}@{host}@"]
    for name in stay + go:
        (checkpoints / name).mkdir()
        (checkpoints / name / "half").write_text("x")
    (run.path / f"{go[0]}.json").write_text("x")
    result = run.result_path(1, "x").parent
    result.mkdir(parents=True)
    (result / f"{go[0]}.nc").write_text("x")
    assert run.steps() == []
    with run.lock():
        assert sorted(os.listdir(checkpoints)) == sorted(stay)
        assert os.listdir(result) == []
        assert sorted(os.listdir(run.path)) == [".lock", "checkpoints", "config.json", "probes"]


def test_a_step_set_aside_by_a_killed_swap_gets_its_name_back(run: Run) -> None:
    publish(run, 1)
    publish(run, 2)
    checkpoints = run.path / "checkpoints"
    shutil.copytree(checkpoints / "000001", checkpoints / ".old-000001")  # killed after the second rename
    (checkpoints / "000002").rename(checkpoints / ".old-000002")  # killed between the two
    assert run.steps() == [1]
    sweep(checkpoints)
    assert run.steps() == [1, 2]
    assert hidden(checkpoints) == []
    assert run.checkpoint(2).step == 2
