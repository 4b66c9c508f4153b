"""What the board believes of what a browser tells it."""

import math
from typing import Any

import pytest

from lcmae.app.dashboard.components import patch_board

GRID = (1, 3)


def sent(monkeypatch: pytest.MonkeyPatch, message: Any) -> list[Any]:
    """What a board of three patches was asked for by this message."""
    state: dict[str, Any] = {"board": {"want": message}}
    monkeypatch.setattr("streamlit.session_state", state)
    asked: list[Any] = []
    patch_board._wanted("board", GRID, asked.append, asked.append)()
    heard = state.get("board-heard")
    return asked if heard is None else [*asked, f"heard {heard}"]


def test_a_patch_and_then_a_mask(monkeypatch: pytest.MonkeyPatch):
    assert sent(monkeypatch, {"patch": 2, "hidden": None}) == [2]
    assert sent(monkeypatch, {"patch": 3, "number": 5}) == ["heard 5"], "also what cannot be"
    assert sent(monkeypatch, {"patch": 2.0, "hidden": [1, 0, 1]}) == [2, [True, False, True]]


@pytest.mark.parametrize(
    "message",
    [
        None,
        "2",
        [2],
        {},
        {"patch": 3},
        {"patch": -1},
        {"patch": math.nan},
        {"patch": "2"},
        {"number": "5"},
        {"hidden": [1, 0]},
        {"hidden": [1, 1, 1]},
        {"hidden": [0, 0, 0]},
        {"hidden": "101"},
        {"hidden": {"0": 1}},
    ],
)
def test_nothing_else(monkeypatch: pytest.MonkeyPatch, message: Any):
    assert sent(monkeypatch, message) == []
