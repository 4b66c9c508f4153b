"""The bar "12 of 30 read": from the first second on, and not before."""

from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from lcmae.app.dashboard.components import picks
from tests.app import synthetic
from tests.app.pages import figures, open_page


class Recorded:
    """Streamlit as `picks` has it, but for `empty`, whose progress is written down."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(st, name)

    def empty(self) -> Any:
        recorded = self

        class Bar:
            def progress(self, share: float, text: str) -> None:
                assert 0 < share <= 1
                recorded.said.append(text)

            def empty(self) -> None:
                recorded.said.append("gone")

        return Bar()


@pytest.mark.parametrize(("seconds", "shown"), [(0.001, False), (0.4, True)])
def test_a_bar_tells_how_many_are_read_after_a_second(
    root: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, shown: bool
) -> None:
    names = [f"run{number}" for number in range(6)]
    for name in names:
        synthetic.run(root / name)
    now = [0.0]
    find_one, recorded = picks._find_one, Recorded()

    def slow(*given: Any) -> None:
        now[0] += seconds  # what one run takes to be read
        find_one(*given)

    monkeypatch.setattr(picks, "_find_one", slow)
    monkeypatch.setattr(picks, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
    monkeypatch.setattr(picks, "st", recorded)
    app = open_page("local_contrast", *names)
    assert figures(app)
    expected = ["3 of 6 read", "4 of 6 read", "5 of 6 read", "6 of 6 read", "gone"]
    assert recorded.said == (expected if shown else [])
