"""Frames of one image along an axis that the person picks (ratios, seeds, checkpoints): a slider
that is live, and a player.

Streamlit's own slider tells of its value when it is let go; this one tells while it is dragged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from lcmae.app.dashboard.components.typography import WORDS

_FILM = component(
    "lcmae.film",
    html='<h3 class="title"></h3><p class="caption"></p><div class="film"></div>',
    css=WORDS + Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)


@dataclass(frozen=True)
class Frame:
    """What is seen at one position of the slider."""

    at: int
    """Its position, from 0."""

    pictures: Sequence[tuple[str, str]]
    """Title and data address of each."""

    words: str

    @property
    def num_bytes(self) -> int:
        """Of the pictures."""
        return sum(len(source) for _, source in self.pictures)


def film(
    frame: Frame,
    *,
    title: str,
    caption: str,
    home: int,
    axes: Mapping[str, str],
    axis: str,
    name: str,
    labels: Sequence[str],
    stride: int,
    is_live: bool,
    identity: str,
    key: str,
    on_axis: Callable[[str], Any],
    on_frame: Callable[[int], Any],
    on_keep: Callable[[int], Any],
) -> None:
    """Draw slider, player and the frame. `axes` are what can be gone along; `name` is what the
    slider moves and `labels` are its positions, of which the player takes every `stride`-th; at
    `home` the page itself is. `is_live` asks for a frame while the slider is dragged. The browser
    keeps frames as long as `identity` stays.

    `on_axis(axis)`, `on_frame(position)` and, when the slider was let go, `on_keep(position)` are
    called before the script, or its fragment, runs again.
    """

    def wanted() -> None:
        value = st.session_state[key].get("want")
        # from the browser, so from anybody
        if not isinstance(value, dict) or value.get("axis") not in axes:
            return
        at = value.get("at")
        if value["axis"] != axis:
            on_axis(value["axis"])
        elif isinstance(at, int | float) and 0 <= at < len(labels):
            (on_keep if value.get("keep") is True else on_frame)(int(at))

    _FILM(
        key=key,
        data={
            "frame": asdict(frame),
            "title": title,
            "caption": caption,
            "home": home,
            "axes": [[value, words] for value, words in axes.items()],
            "axis": axis,
            "name": name,
            "labels": list(labels),
            "stride": stride,
            "live": is_live,
            "key": identity,
        },
        on_want_change=wanted,
    )
