"""What every small file of a run and every string passes before a person sees it."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.errors import InputError
from lcmae.runs.durable import write_atomically
from lcmae.runs.run import Run
from lcmae.safety.files import is_regular, read_regular
from lcmae.safety.text import is_full, printable, reason


@given(st.text() | st.integers() | st.binary(), st.integers(2, 300))
def test_printable_is_one_line_of_plain_text(value: object, most: int) -> None:
    shown = printable(value, most)
    assert shown.isprintable()
    assert len(shown) <= most
    shown.encode()


def test_printable_survives_what_has_no_text() -> None:
    assert "too long" in printable(10**5000)
    assert printable("\ud800\u202e\n") == "\\ud800\\u202e\\n"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", ".lock"])
def test_a_pipe_or_link_in_a_run_is_one_line_and_waits_for_nobody(name: str, make, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"a": 1})
    (run.path / name).unlink(missing_ok=True)
    make(run.path / name)
    assert not is_regular(run.path / name)
    if name == "metrics.jsonl" and not os.path.isfile(run.path / name):
        assert run.metrics() == []  # no metrics yet: a pipe is none
        return
    with pytest.raises(InputError), run.lock():
        Run.open(run.path).metrics()


def test_reading_has_a_bound(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    assert len(read_regular(tmp_path / "a", 100)) == 100
    with pytest.raises(InputError, match="at most 99 bytes, got 100"):
        read_regular(tmp_path / "a", 99)


@pytest.mark.parametrize("text", [b'{"pid": 1' + b"0" * 30 + b"}", b"[" * 4000, b'{"pid": "x"}', b"\xff"])
def test_a_lock_of_nonsense_is_taken_over(text: bytes, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    (run.path / ".lock").write_bytes(text)
    with run.lock():
        assert json.loads((run.path / ".lock").read_bytes())["pid"] == os.getpid()


def test_a_metric_of_four_thousand_digits_is_a_broken_line(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    (run.path / "metrics.jsonl").write_text('{"step": 1, "loss": ' + "1" * 4000 + '}\n{"step": 2}\n')
    assert run.metrics() == [{"step": 2}]


@pytest.mark.parametrize(
    "error", [RuntimeError("Error: os error 28"), OSError(errno.ENOSPC, "x"), OSError("errno = 28")]
)
def test_a_full_disk_is_seen_behind_every_library(error: Exception, tmp_path: Path) -> None:
    def write(_: Path) -> None:
        raise error

    with pytest.raises(InputError, match=r"cannot write .*: No space left on device") as answer:
        write_atomically(tmp_path / "a", write)
    assert is_full(answer.value)
    assert reason(answer.value) == "No space left on device"
    assert not is_full(InputError("a file called No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_two_dots_make_no_folder(tmp_path: Path) -> None:
    assert Run.create(tmp_path / "a" / ".." / "b", {}).metrics() == []
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_first_signal_waits_and_a_second_unwinds(number: signal.Signals) -> None:
    from lcmae.training.train import stop_signal

    before = signal.getsignal(number)
    with stop_signal() as stop:
        os.kill(os.getpid(), number)
        assert stop.received == number
        with pytest.raises(SystemExit) as left:
            os.kill(os.getpid(), number)
    assert left.value.code == 128 + number
    assert signal.getsignal(number) is before
