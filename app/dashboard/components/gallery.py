"""Hundreds of small pictures in order, of which one is opened. They lie in one sheet, so that a new
order is a new list of numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

_GALLERY = component(
    "lcmae.gallery",
    html='<div class="gallery" role="group"></div>',
    css=Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)


def gallery(
    items: Sequence[tuple[int, str, str]],
    *,
    sheet: str,
    rows: int,
    across: int,
    ratio: float,
    key: str,
    on_open: Callable[[int], Any],
) -> None:
    """Draw them: (position in the sheet, word below it, words in full) of each. `sheet` is the data
    address of a picture of `rows` x `across` small ones, each `ratio` times as wide as high;
    `on_open(position)` is called before the script runs again."""
    known = {position for position, _, _ in items}

    def opened() -> None:
        value = st.session_state[key].get("open")
        # from the browser, so from anybody
        if isinstance(value, int | float) and value in known:
            on_open(int(value))

    _GALLERY(
        key=key,
        data={"sheet": sheet, "rows": rows, "across": across, "ratio": ratio, "items": [list(one) for one in items]},
        on_open_change=opened,
    )
