"""Ctrl-K: a field that finds a page, a run, a probe or a word. It is searched in the browser, and
the server hears of what was chosen alone."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from lcmae.safety.text import printable

_PALETTE = component(
    "lcmae.palette",
    html='<button type="button" class="open" aria-keyshortcuts="Control+K"><span>Find</span> <kbd>Ctrl K</kbd></button>'
    '<dialog aria-label="Find a page, a run, a probe or a word"><input type="text" role="combobox" aria-expanded="true" '
    'aria-controls="found" aria-autocomplete="list" aria-label="Find a page, a run, a probe or a word" '
    'placeholder="a page, a run, a probe, a word" maxlength="200"><ul id="found" role="listbox" aria-label="Found"></ul>'
    '<p class="none" role="status"></p></dialog>',
    css=Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)
KEY = "palette"
MOST = 2000
"""Entries that are sent to the browser."""


@dataclass(frozen=True)
class Entry:
    """What can be found."""

    kind: str
    """page, run or word."""

    name: str
    """What is chosen."""

    hint: str = ""
    """Words beside it, which are searched, too."""


def palette(entries: Sequence[Entry], on_choice: Callable[[Entry], Any]) -> None:
    """Draw the button. `on_choice` is called before the script runs again, and only with one of
    `entries`."""
    offered = list(entries[:MOST])

    def chosen() -> None:
        # from the browser, so from anybody
        number = st.session_state[KEY].get("chosen")
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(offered):
            on_choice(offered[number])

    shown = [{name: printable(value, 300) for name, value in asdict(entry).items()} for entry in offered]
    _PALETTE(key=KEY, data={"entries": shown}, width="content", on_chosen_change=chosen)
