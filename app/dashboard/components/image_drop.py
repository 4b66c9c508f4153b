"""Files that somebody brings: chosen, dropped anywhere on the page, or pasted; several come one
after the other.

Streamlit's own field sends it by two requests and is drawn three times on the way, takes nothing
from the clipboard, and a drop beside it leaves the page. This one sends it by the page's own
connection, in parts, each after the receipt of the one before. What was received is kept in the
session until it is whole; it is never on the disk.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st
from pydantic import Field
from streamlit.components.v2 import component

from lcmae.safety.text import printable
from lcmae.settings import Settings

_DROP = component(
    "lcmae.image_drop",
    html='<label class="drop"><span class="done"></span>'
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 16v4h16v-4M12 16V4M7 9l5-5 5 5"/></svg>'
    '<span class="word"></span><input type="file" accept="image/*" multiple aria-describedby="help">'
    '<span class="help" id="help" role="tooltip"></span><span class="everywhere"></span></label>'
    '<p class="said" role="status"></p>',
    css=Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)

MAX_PART = 6 << 20
"""Letters of one part, in base64; the browser sends up to 4 MiB, which are 5.6 million."""


MAX_FILES = 32
"""Files at once."""


class Part(Settings):
    """A stretch of a file, as the browser sends it."""

    id: int
    """Of the transfer; the browser draws it."""

    at: int = Field(ge=0)
    """Bytes of the file before it."""

    total: int = Field(gt=0)
    """Bytes of the whole file."""

    name: str = Field(default="", max_length=200)
    """Of the file, its end."""

    first: bool = False
    """Whether it is the first of those that were chosen or dropped at once."""

    data: str = Field(max_length=MAX_PART)
    """In base64."""


class Big(Settings):
    """A file that is not sent, because it is too large."""

    id: int
    size: int = Field(gt=0, lt=2**53)
    name: str = Field(default="", max_length=200)
    first: bool = False


@dataclass
class Incoming:
    """What was received of a file."""

    id: int = -1
    size: int = 0
    name: str = ""
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
            self.id, self.size, self.name, self.content = part.id, 0, part.name, bytearray()
        if (part.id, part.at) != (self.id, self.size):
            return None
        self.content += data
        self.size += len(data)
        if self.size < part.total:
            return None
        whole, self.content = bytes(self.content), bytearray()
        return whole


def image_drop(
    *,
    label: str,
    help: str,
    most: int,
    key: str,
    on_file: Callable[[bytes, str], Any],
    on_big: Callable[[int, str], Any],
    on_begin: Callable[[], Any] = lambda: None,
) -> None:
    """Draw the button. `on_begin()` is called when files are chosen or dropped; then
    `on_file(content, name)` for each file of up to `most` bytes, `on_big(bytes, name)` for a larger
    one, before the script, or its fragment, runs again."""
    incoming: Incoming = st.session_state.setdefault(f"{key}-incoming", Incoming())

    def part() -> None:
        message = st.session_state[key].get("part")
        before = incoming.id
        whole = incoming.add(message, most)
        if incoming.id != before and message.get("first"):
            on_begin()
        if whole is not None:
            on_file(whole, printable(incoming.name, 200))

    def big() -> None:
        try:
            found = Big.model_validate(st.session_state[key].get("big"))
        except ValueError:
            return
        if found.size > most:
            incoming.id, incoming.size, incoming.content = found.id, found.size, bytearray()
            if found.first:
                on_begin()
            on_big(found.size, printable(found.name, 200))

    _DROP(
        key=key,
        data={
            "label": label,
            "help": help,
            "most": most,
            "files": MAX_FILES,
            "received": {"id": incoming.id, "size": incoming.size},
        },
        width="content",
        on_part_change=part,
        on_big_change=big,
    )
