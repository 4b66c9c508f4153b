"""Progress where there is no terminal: lines with time left, seldom enough for a log, and one at
the end."""

import json

import pytest

from lcmae import progress
from lcmae.progress import ProgressBar, clock


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_lines_come_every_few_seconds_and_at_the_end(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("training", 10) as bar:
        for step in range(10):
            time.now += 2
            bar.advance(note=f"loss {step}")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "training: 3/10 (30 %), 0:06 elapsed, 0:14 left  loss 2",
        "training: 6/10 (60 %), 0:12 elapsed, 0:08 left  loss 5",
        "training: 9/10 (90 %), 0:18 elapsed, 0:02 left  loss 8",
        "training: 10/10 (100 %), 0:20 elapsed, 0:00 left  loss 9",
    ]


def test_time_left_counts_from_where_a_resumed_run_began(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("training", 1000, done=900) as bar:
        time.now += 10
        bar.advance(10)
        assert capsys.readouterr().err == "training: 910/1000 (91 %), 0:10 elapsed, 1:30 left\n"
    assert capsys.readouterr().err == ""  # the end was shown already


def test_more_steps_than_were_counted_on(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("check", 2) as bar:
        for _ in range(3):
            time.now += 3
            bar.advance()
        bar.more(2)
        time.now += 3
        bar.advance()
    # no time left is never below 0, and a total that grew is counted with
    assert capsys.readouterr().err.splitlines() == [
        "check: 2/2 (100 %), 0:06 elapsed, 0:00 left",
        "check: 4/4 (100 %), 0:12 elapsed, 0:00 left",
    ]


def test_a_program_that_watches_gets_objects(
    time: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LCMAE_PROGRESS", "json")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressBar("probing", 8) as bar:
        for _ in range(4):
            time.now += 0.3
            bar.advance(2, note="a\nb")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["done"] for line in lines] == [4, 8]
    left = lines[0].pop("seconds_left")
    assert left == pytest.approx(0.6)
    assert lines[0] == {"label": "probing", "done": 4, "total": 8, "note": "a\nb"}


def test_nothing_done_is_nothing_said_and_an_error_speaks_for_itself(
    time: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar("training", 5, done=5):
        pass

    def breaks() -> None:
        with ProgressBar("training", 5) as bar:
            bar.advance()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        breaks()
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar_with_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(progress, "_console", lambda: Console(stderr=True, force_terminal=True, width=100))
    with ProgressBar("training", 3) as bar:
        bar.advance(3, note="loss 0.5")
    err = capsys.readouterr().err
    assert "training" in err
    assert "3/3" in err
    assert "left" in err
    assert "loss 0.5" in err


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (61.0, "1:01"), (3661.0, "1:01:01")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
