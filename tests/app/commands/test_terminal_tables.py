"""Tables of the terminal: every number can be read, however narrow the screen."""

import re
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.app.command_line.tables import columns_that_fit, print_table

HEADER = ["objective, mask, ratio", "seeds", "accuracy", "95 %", "against baseline"]
ROWS = [["mae, random, 0.75, unit 2", "5", "0.7321", "0.667 to 0.789", "worse"], ["mae, [red]grid", "5", "1", "-", ""]]


@given(widths=st.lists(st.integers(4, 60), min_size=1, max_size=12), width=st.integers(20, 200))
def test_every_column_stands_once_beside_the_first(widths: list[int], width: int) -> None:
    parts = columns_that_fit(widths, width)
    assert [column for part in parts for column in part[1:]] == list(range(1, len(widths)))
    assert all(part[0] == 0 for part in parts)
    for part in parts:
        assert len(part) <= 2 or sum(widths[column] for column in part) < width
    # no table could take the first column of the next one, too
    for part, following in pairwise(parts):
        assert sum(widths[column] for column in [*part, following[1]]) >= width


@pytest.mark.parametrize("columns", [None, 60, 90, 200])
def test_no_text_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int | None
) -> None:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table("Masks", HEADER, ROWS, note="Shares of test images.")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()  # without bold and italics
    text = "\n".join(lines)
    assert all(cell in text for row in [HEADER, *ROWS] for cell in row)
    assert "…" not in text
    assert text.count("Shares of test images.") == 1
    if columns is not None:
        assert max(map(len, lines)) <= columns
    assert text.count("Masks, continued") == {None: 0, 60: 2, 90: 0, 200: 0}[columns]


def test_a_long_text_is_wrapped_and_the_name_beside_it_is_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    words = [f"word{number}" for number in range(30)]
    print_table("Models", ["name", "what it is", "MB"], [["mae-cifar10-small", " ".join(words), "2.7"]])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(word in shown for word in [*words, "mae-cifar10-small", "2.7"])
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 60


def test_a_file_has_lines_as_long_as_they_need_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    header = ["run", *(f"measure number {number}" for number in range(20))]
    print_table("All", header, [["a", *("0.123456 ± 0.000001" for _ in range(20))]])
    shown = capsys.readouterr().out
    assert shown.count("0.123456 ± 0.000001") == 20
    assert "continued" not in shown
