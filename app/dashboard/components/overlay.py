"""A map over a photograph: attention from the patch under the pointer, or any map of the image, in
a perceptual colour scale on the grey photograph; beside it all heads of all layers.

The browser holds the whole matrix of the shown head, so what the pointer does asks nobody; another
head, layer or kind of map is asked for.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from lcmae.app.dashboard.components.typography import WORDS
from lcmae.app.figures.patch_maps import colours, gradient

_OVERLAY = component(
    "lcmae.overlay",
    html='<h3 class="title"></h3><div class="controls"></div><div class="room">'
    '<div class="photograph" tabindex="0" role="application"></div>'
    '<div class="model" tabindex="0" role="application"></div></div>'
    '<p class="said" role="status"></p><p class="caption"></p>',
    css=WORDS + Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)
_UNKNOWN = 65535
"""Stands for NaN among numbers of 16 bits."""


@dataclass(frozen=True)
class Packed:
    """Numbers in 16 bits between `low` and `high`, as base64; NaN is the largest."""

    text: str
    low: float
    high: float
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Of the text."""
        return len(self.text)


def pack(values: np.ndarray, low: float = 0.0, high: float | None = None) -> Packed:
    """Values from `low` to `high` (by default their largest) in steps of 1/65534 of that."""
    values = np.asarray(values, dtype=np.float64)
    top = float(np.nanmax(values, initial=low)) if high is None else high
    span = top - low or 1.0
    steps = (np.nan_to_num((values - low) / span).clip(0, 1) * (_UNKNOWN - 1)).round()
    steps = np.where(np.isfinite(values), steps, _UNKNOWN).astype("<u2")
    return Packed(base64.b64encode(steps.tobytes()).decode(), low, low + span, values.shape)


@dataclass(frozen=True)
class Shown:
    """What the browser draws."""

    title: str
    caption: str
    photograph: str
    """Data address of a PNG."""

    unit: str
    values: Packed
    """[query row column], or [row column] of a map that has no query."""

    num_prefix: int = 0
    """Queries before the patches; the last of them is the class token."""

    heads: Packed | None = None
    """[layer head row column] of the marked patch, and `class_heads` of the class token."""

    class_heads: Packed | None = None
    is_colour: bool = False
    """Whether values are [row column 3], from 0 to 1."""

    @property
    def num_bytes(self) -> int:
        """Of all that is sent."""
        packed = [one.num_bytes for one in (self.values, self.heads, self.class_heads) if one is not None]
        return len(self.photograph) + sum(packed)


def overlay(
    shown: Shown,
    *,
    grid: tuple[int, int],
    patch: int,
    kinds: Mapping[str, str],
    kind: str,
    views: Mapping[str, str],
    view: str,
    layer: int,
    head: int | None,
    key: str,
    on_pick: Callable[[int], Any],
    on_choose: Callable[[str, str], Any],
    on_head: Callable[[int, int | None], Any],
) -> None:
    """Draw it. `on_pick(patch)`, `on_choose("kind" or "view", option)` and `on_head(layer, head)`
    (None: the mean of heads) are called before the script, or its fragment, runs again."""

    def picked() -> None:
        value = st.session_state[key].get("pick")
        # from the browser, so from anybody
        if isinstance(value, int | float) and 0 <= value < grid[0] * grid[1]:
            on_pick(int(value))

    def chosen() -> None:
        value = st.session_state[key].get("choose")
        for name, options in (("kind", kinds), ("view", views)):
            if value in [[name, option] for option in options]:
                on_choose(name, value[1])

    def head_picked() -> None:
        value = st.session_state[key].get("head")
        if shown.heads is None or not isinstance(value, list) or len(value) != 2:
            return
        layers, heads = shown.heads.shape[:2]
        if all(isinstance(one, int | float) for one in value) and 1 <= value[0] <= layers and 0 <= value[1] <= heads:
            on_head(int(value[0]), int(value[1]) or None)

    _OVERLAY(
        key=key,
        data={
            "title": shown.title,
            "caption": shown.caption,
            "photograph": shown.photograph,
            "unit": shown.unit,
            "rows": grid[0],
            "columns": grid[1],
            "patch": patch,
            "values": _sent(shown.values),
            "prefix": shown.num_prefix,
            "heads": shown.heads and _sent(shown.heads),
            "classHeads": shown.class_heads and _sent(shown.class_heads),
            "isColour": shown.is_colour,
            "kinds": _options(kinds),
            "kind": kind,
            "views": _options(views),
            "view": view,
            "layer": layer,
            "head": head or 0,
            "colours": base64.b64encode(colours().tobytes()).decode(),
            "gradient": gradient(),
        },
        on_pick_change=picked,
        on_choose_change=chosen,
        on_head_change=head_picked,
    )


def _sent(packed: Packed) -> dict[str, Any]:
    return {"text": packed.text, "low": packed.low, "high": packed.high, "shape": list(packed.shape)}


def _options(options: Mapping[str, str]) -> Sequence[list[str]]:
    return [[value, words] for value, words in options.items()]
