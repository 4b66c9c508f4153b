"""Pictures of one image side by side, on which a patch is picked by a click or by arrow keys, and a
mask is painted.

Charts of Streamlit tell of no click on a picture, so this is a component of our own: three small
files that the server hands out itself. What it is given is drawn as pictures and as plain text,
never as HTML.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from lcmae.app.dashboard.components.typography import WORDS


def _component(name: str, said: str) -> Callable[..., Any]:
    board = f'<div class="choices"></div><div class="{name}" tabindex="0" role="application"></div>'
    return component(
        f"lcmae.patch_{name}",
        html=f'<h3 class="title"></h3><p class="caption"></p>{board}<div class="shared scale"></div><p class="said" {said}></p>',
        css=WORDS + Path(__file__).with_suffix(".css").read_text(),
        js=Path(__file__).with_suffix(".js").read_text(),
    )


# one of them tells a screen reader where the patch is; the others would say so again
_BOARD = _component("board", 'role="status" aria-live="polite"')
_MAPS = _component("maps", "")


@dataclass(frozen=True)
class Tile:
    """One picture of the board, or one map."""

    title: str
    source: str
    """Data address of a PNG."""

    alt: str
    """What it shows, for those who don't see it."""

    veil: str = "none"
    """What covers hidden patches: none, or `solid` (they are not there)."""

    scale: tuple[str, str, str] | None = None
    """Colours' ends and unit of a map: ("0", "1.3", "variance of a patch")."""

    disc: tuple[float, float, float, float] | None = None
    """A dotted ellipse: middle (x, y) and radii (x, y), in patches."""


@dataclass(frozen=True)
class Choice:
    """A list above the maps, out of which one is picked."""

    name: str
    label: str
    options: Sequence[str]
    value: str


def patch_board(
    panels: Sequence[Tile],
    *,
    grid: tuple[int, int],
    is_hidden: Sequence[bool],
    patch: int,
    words: Sequence[str],
    editing: bool,
    key: str,
    on_pick: Callable[[int], Any],
    on_edit: Callable[[list[bool]], Any],
    gradient: str = "",
) -> None:
    """Draw the board. `words` say what each patch is, in raster order; `gradient` are the CSS
    colours of scales; `on_pick(patch)` and, if the mask was edited, `on_edit(is_hidden)` after it
    are called before the script, or its fragment, runs again. A mask that was edited hides at least
    one patch and shows at least one."""
    data = {"hidden": [int(hidden) for hidden in is_hidden], "words": list(words), "editing": editing, "lines": True}
    _BOARD(
        key=key,
        data={**_shared(panels, grid, patch, gradient, key), **data, "kind": "pictures"},
        on_want_change=_wanted(key, grid, on_pick, on_edit),
    )


def patch_maps(
    panels: Sequence[Tile],
    *,
    title: str,
    caption: str,
    grid: tuple[int, int],
    patch: int,
    words: Sequence[str],
    scale: tuple[str, str, str],
    gradient: str,
    key: str,
    on_pick: Callable[[int], Any],
    on_choose: Callable[[str, str], Any],
    choices: Sequence[Choice] = (),
) -> None:
    """Small maps on one colour scale, in which the patch is marked and picked as on the board,
    below their heading, caption and `choices`. `on_choose(name, option)` is called before the
    script, or its fragment, runs again. (A list of Streamlit's own is drawn six times an
    answer.)"""
    data = {
        "title": title,
        "caption": caption,
        "hidden": [],
        "words": list(words),
        "editing": False,
        "lines": False,
        "scale": list(scale),
        "choices": [asdict(choice) for choice in choices],
    }
    _MAPS(
        key=key,
        data={**_shared(panels, grid, patch, gradient, key), **data, "kind": "maps"},
        on_want_change=_wanted(key, grid, on_pick),
        on_choose_change=_chosen(key, choices, on_choose),
    )


def _shared(panels: Sequence[Tile], grid: tuple[int, int], patch: int, gradient: str, key: str) -> dict[str, Any]:
    of_grid = {"rows": grid[0], "columns": grid[1], "patch": patch, "heard": st.session_state.get(_heard(key), 0)}
    return {"panels": [asdict(panel) for panel in panels], "gradient": gradient, **of_grid}


def _heard(key: str) -> str:
    """Where the session keeps the number of the last message of this board."""
    return f"{key}-heard"


def _wanted(
    key: str,
    grid: tuple[int, int],
    on_pick: Callable[[int], Any],
    on_edit: Callable[[list[bool]], Any] | None = None,
) -> Callable[[], None]:
    def call() -> None:
        wanted = st.session_state[key].get("want")
        # from the browser, so from anybody
        if not isinstance(wanted, dict):
            return
        number, patch, hidden = wanted.get("number"), wanted.get("patch"), wanted.get("hidden")
        num_patches = grid[0] * grid[1]
        if isinstance(number, int):
            st.session_state[_heard(key)] = number
        if isinstance(patch, int | float) and 0 <= patch < num_patches:
            on_pick(int(patch))
        if (
            on_edit
            and isinstance(hidden, list)
            and len(hidden) == num_patches
            and {bool(one) for one in hidden} == {True, False}
        ):
            on_edit([bool(one) for one in hidden])

    return call


def _chosen(key: str, choices: Sequence[Choice], then: Callable[[str, str], Any]) -> Callable[[], None]:
    def call() -> None:
        value = st.session_state[key].get("choose")
        # from the browser, so from anybody
        for choice in choices:
            if value in [[choice.name, option] for option in choice.options]:
                then(*value)

    return call
