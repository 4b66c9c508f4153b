"""Pictures of one image side by side, on which a patch is picked by a click or by arrow keys, and a mask is edited.

Charts of Streamlit tell of no click on a picture, so this is a component of our own: three small files that the server hands
out itself. What it is given is drawn as pictures and as plain text, never as HTML.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

_BOARD = component(
    "lcmae.patch_board",
    html='<div class="board" tabindex="0" role="application"></div><p class="said" role="status" aria-live="polite"></p>',
    css=Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)


@dataclass(frozen=True)
class Panel:
    """One picture of the board."""

    title: str
    source: str
    """Data address of a PNG."""

    alt: str
    """What it shows, for those who don't see it."""

    veil: str = "none"
    """What covers hidden patches: none, or `solid` (they are not there)."""

    scale: tuple[str, str, str] | None = None
    """Colours' ends and unit of a map: ("0", "1.3", "variance of a patch")."""

    gradient: str = ""
    """CSS colours of the scale."""


def patch_board(
    panels: Sequence[Panel],
    *,
    grid: tuple[int, int],
    is_hidden: Sequence[bool],
    patch: int,
    words: Sequence[str],
    editing: bool,
    key: str,
    on_pick: Callable[[int], Any],
    on_toggle: Callable[[int], Any],
) -> None:
    """Draw the board. `words` say what each patch is, in raster order; `on_pick(patch)` and `on_toggle(patch)` are called
    before the script, or its fragment, runs again."""

    def called(name: str, then: Callable[[int], Any]) -> Callable[[], None]:
        def call() -> None:
            value = st.session_state[key].get(name)
            # from the browser, so from anybody
            if isinstance(value, int | float) and 0 <= int(value) < grid[0] * grid[1]:
                then(int(value))

        return call

    _BOARD(
        key=key,
        data={
            "panels": [asdict(panel) for panel in panels],
            "rows": grid[0],
            "columns": grid[1],
            "hidden": [int(hidden) for hidden in is_hidden],
            "patch": patch,
            "words": list(words),
            "editing": editing,
        },
        on_pick_change=called("pick", on_pick),
        on_toggle_change=called("toggle", on_toggle),
    )
