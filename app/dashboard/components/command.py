"""A command to copy. Streamlit's own code block reads 1.5 MB of highlighting first, a quarter of a
second of every first page."""

import hashlib
import shlex
from pathlib import Path

from streamlit.components.v2 import component

from lcmae.app.dashboard.components.typography import WORDS
from lcmae.safety.text import printable

_COMMAND = component(
    "lcmae.command",
    html='<p class="caption"></p>'
    '<div class="room"><pre tabindex="0"><code></code></pre><button type="button">Copy</button></div>'
    '<output role="status"></output>',
    css=WORDS + Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)


DEFAULT_ROOT = Path("runs")
"""Below which commands write unasked."""


def writing_below(root: Path, name: str, command: str) -> str:
    """The command with `--out ROOT/NAME`, so that what it makes appears where this page looks;
    without it where the command writes there unasked."""
    return command if root == DEFAULT_ROOT else f"{command} --out {shlex.quote(str(root / name))}"


def to_copy(text: str, key: str = "", caption: str = "") -> None:
    """One command, or a line each, below a caption. With a `key` of its own a place of the page may
    show another command each time, and the browser changes its text alone."""
    # a path that is not UTF-8 can be shown, and only be run where it lies
    text = "\n".join(printable(line, 10_000) for line in text.split("\n"))
    name = printable(key) or hashlib.sha256(text.encode()).hexdigest()[:16]
    _COMMAND(key=f"command-{name}", data={"text": text, "caption": caption})
