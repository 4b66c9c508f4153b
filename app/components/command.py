"""A command to copy. Streamlit's own code block reads 1.5 MB of highlighting first, a quarter of a second of every first sight."""

import hashlib
from pathlib import Path

from streamlit.components.v2 import component

_COMMAND = component(
    "lcmae.command",
    html='<pre tabindex="0"><code></code></pre><button type="button">Copy</button><output role="status"></output>',
    css=Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)


def to_copy(text: str, key: str = "") -> None:
    """One command, or a line each. `key` tells the same command apart at two places of a page."""
    name = hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()[:16]
    _COMMAND(key=f"command-{name}", data={"text": text})
