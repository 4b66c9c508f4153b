"""The frame of every page: the bar that is the legend, what Ctrl-K finds, the menu by question."""

import json
from pathlib import Path

import streamlit as st
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard import find, main
from lcmae.app.dashboard.components import top_bar
from lcmae.app.dashboard.glossary import GLOSSARY
from lcmae.app.dashboard.pages import PAGES
from lcmae.app.figures import style
from tests.app import synthetic
from tests.app.pages import checked, components, open_page

SCRIPT = Path(main.__file__).parent / "script" / "run.py"
SEVEN_QUESTIONS = 7


def test_the_legend_names_runs_in_their_own_colours() -> None:
    style.know({"g/mae-s0": "mae", "g/mae-s1": "mae", "g/umae-s0": "umae"})
    shown = top_bar.words(["g/umae-s0", "g/mae-s1"], style.known())
    assert shown.index("g/…") < shown.index(">umae-s0<") < shown.index(">mae-s1<")
    assert style.known()["g/umae-s0"].colour in shown
    style.know({})


def test_many_runs_are_named_by_family_and_tags_are_text() -> None:
    names = [f"g/<b>{kind}-s{seed}" for kind in ("x", "y") for seed in range(9)]
    style.know(dict.fromkeys(names, "mae"))
    shown = top_bar.words(names, style.known())
    assert "(9)" in shown
    assert "<b>" not in shown
    style.know({})


def test_everything_can_be_found(root: Path) -> None:
    synthetic.run(root / "a", results=False)
    entries = find.entries({"a": root / "a"}, [])
    assert {(entry.kind, entry.name) for entry in entries} == {
        *(("page", page.title) for page in PAGES),
        *(("word", word) for word in GLOSSARY),
        ("run", "a"),
    }


def test_choosing_a_run_adds_it_and_takes_it_out(root: Path, monkeypatch) -> None:
    state: dict = {"runs": ["b"]}
    monkeypatch.setattr(st, "session_state", state)
    run = next(entry for entry in find.entries({"a": root / "a"}, []) if entry.kind == "run")
    find.choose(run)
    assert state["runs"] == ["b", "a"]
    find.choose(run)
    assert state["runs"] == ["b"]


def test_the_menu_has_every_page_under_a_question(root: Path) -> None:
    synthetic.run(root / "a", results=False)
    app = checked(AppTest.from_file(SCRIPT, default_timeout=60).run())
    (palette,) = components(app, "lcmae.palette")
    assert len(json.loads(palette.json)["entries"]) == len(PAGES) + len(GLOSSARY) + 1
    assert len({page.section for page in PAGES}) == SEVEN_QUESTIONS


def test_tags_and_notes_are_remembered(root: Path) -> None:
    synthetic.run(root / "a", results=False)
    synthetic.run(root / "b", results=False)
    app = open_page("runs", "a")
    app.text_area[0].set_value("the one for the paper")
    app.checkbox[0].check()
    app.button[0].click()
    checked(app.run())
    assert app.dataframe[0].value["name"].tolist() == ["b"], "a is hidden"
    again = open_page("runs", search="paper", hidden_runs="true")
    assert again.dataframe[0].value["name"].tolist() == ["a"]


def test_seeds_are_one_row(root: Path) -> None:
    for seed in range(3):
        synthetic.run(root / f"mae-s{seed}", results=False)
    table = open_page("runs", rows="seeds together").dataframe[0].value
    assert table["group"].tolist() == ["mae"]
    assert table["runs"].tolist() == [3]
