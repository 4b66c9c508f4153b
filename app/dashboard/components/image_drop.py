"""A file that somebody brings: chosen, dropped anywhere on the page, or pasted.

Streamlit's own field sends it by two requests and is drawn three times on the way, takes nothing
from the clipboard, and a drop beside it leaves the page. This one sends it by the page's own
connection, in parts, each after the receipt of the one before. What was received is kept in the
session until it is whole; it is never on the disk.
"""

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st
from pydantic import Field
from streamlit.components.v2 import component

from lcmae.settings import Settings

_DROP = component(
    "lcmae.image_drop",
    html='<label class="drop"><span class="done"></span>'
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 16v4h16v-4M12 16V4M7 9l5-5 5 5"/></svg>'
    '<span class="word"></span><input type="file" accept="image/*" aria-describedby="help">'
    '<span class="help" id="help" role="tooltip"></span><span class="everywhere"></span></label>'
    '<p class="said" role="status"></p>',
    css=Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)

MAX_PART = 6 << 20
"""Letters of one part, in base64; the browser sends up to 4 MiB, which are 5.6 million."""


class Part(Settings):
    """A stretch of a file, as the browser sends it."""

    id: int
    """Of the transfer; the browser draws it."""

    at: int = Field(ge=0)
    """Bytes of the file before it."""

    total: int = Field(gt=0)
    """Bytes of the whole file."""

    data: str = Field(max_length=MAX_PART)
    """In base64."""


@dataclass
class Incoming:
    """What was received of a file."""

    id: int = -1
    size: int = 0
    content: bytearray = field(default_factory=bytearray)
    """Empty once the file was whole, and taken."""

    def add(self, message: Any, most: int) -> bytes | None:
        """The whole file, if this message ends it; nothing changes for one that does not fit what
        was received before."""
        # from the browser, so from anybody
        try:
            part = Part.model_validate(message)
            data = base64.b64decode(part.data, validate=True)
        except ValueError:  # pydantic's and base64's are such
            return None
        if part.total > most or part.at + len(data) > part.total:
            return None
        if part.at == 0:
            self.id, self.size, self.content = part.id, 0, bytearray()
        if (part.id, part.at) != (self.id, self.size):
            return None
        self.content += data
        self.size += len(data)
        if self.size < part.total:
            return None
        whole, self.content = bytes(self.content), bytearray()
        return whole


def image_drop(
    *, label: str, help: str, most: int, key: str, on_file: Callable[[bytes], Any], on_big: Callable[[int], Any]
) -> None:
    """Draw the button. `on_file(content)` is called for a file of up to `most` bytes,
    `on_big(bytes)` for a larger one, before the script, or its fragment, runs again."""
    incoming: Incoming = st.session_state.setdefault(f"{key}-incoming", Incoming())

    def part() -> None:
        whole = incoming.add(st.session_state[key].get("part"), most)
        if whole is not None:
            on_file(whole)

    def big() -> None:
        size = st.session_state[key].get("big")
        if isinstance(size, int | float) and most < size < math.inf:
            incoming.content = bytearray()
            on_big(int(size))

    _DROP(
        key=key,
        data={"label": label, "help": help, "most": most, "received": {"id": incoming.id, "size": incoming.size}},
        width="content",
        on_part_change=part,
        on_big_change=big,
    )
