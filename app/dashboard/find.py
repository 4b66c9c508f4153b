"""What Ctrl-K finds, and what choosing it does: a page opens, a run is added to the pick or taken
out of it, a word is explained."""

from pathlib import Path

import streamlit as st

from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.components.palette import Entry, palette
from lcmae.app.dashboard.components.plain import plain
from lcmae.app.dashboard.glossary import GLOSSARY
from lcmae.app.dashboard.menu import GO
from lcmae.app.dashboard.pages import PAGES

WORD = "find-word"
"""In the session: the word to explain."""


def ask(picked: picks.Picks) -> None:
    """The button in the bar, and the explanation of a word that was chosen."""
    with picked.bar or st.container():
        palette(entries(picked.runs, picked.names), choose)
    word = st.session_state.pop(WORD, None)
    if word in GLOSSARY:
        explain(word)


def entries(runs: dict[str, Path], picked_names: list[str]) -> list[Entry]:
    """Pages with the question they belong to, words with their meaning, runs."""
    pages = [
        Entry("page", page.title, f"{page.section} · {page.name}" if page.is_probe else page.section) for page in PAGES
    ]
    picked = set(picked_names)
    known = [Entry("run", name, "take it out of the pick" if name in picked else "add it to the pick") for name in runs]
    return [*pages, *(Entry("word", word, meaning) for word, meaning in GLOSSARY.items()), *known]


def choose(entry: Entry) -> None:
    """Remember what was chosen, for the run of the script that follows."""
    if entry.kind == "page":
        st.session_state[GO] = next(page.name for page in PAGES if page.title == entry.name)
    elif entry.kind == "word":
        st.session_state[WORD] = entry.name
    else:
        names = list(st.session_state.get("runs", []))
        st.session_state["runs"] = (
            [name for name in names if name != entry.name] if entry.name in names else [*names, entry.name]
        )


def explain(word: str) -> None:
    """A word of the glossary in a window."""

    @st.dialog(word.capitalize())
    def window() -> None:
        meaning = GLOSSARY[word]
        st.markdown(plain(meaning[0].upper() + meaning[1:] + ".", 2000))

    window()
