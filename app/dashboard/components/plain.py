"""Strings from elsewhere in messages, captions and labels, all of which Streamlit reads as
Markdown: a picture in a link of the address would make the browser ask a foreign host.

`plain` is for every value that is quoted: a run's name, an error, a word of the address. `prose` is
for sentences of ours that hold such values in places that nobody counted: emphasis and code stay,
and no link, picture, HTML or directive is left.
"""

import re
from typing import Any

import pandas as pd

from lcmae.safety.text import MOST, printable

# links that Markdown makes without brackets, icons and emoji; within code they are text
_LINK = r"(?P<link>[^\s`]*(?:://|www\.|@|:[A-Za-z_+-][\w+/-]*:)\S*)"
_LIST = r"^#|^[+=-](?=\s|=|-|$)|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)"
_PLAIN = re.compile(
    _LINK + r"|(?P<mark>[\\`*\[\]<>!$&~|{}]|(?<![^\W_])_|_(?![^\W_])|:(?=[A-Za-z\[{])|" + _LIST + ")", re.IGNORECASE
)
_PROSE = re.compile(
    r"(?P<escaped>\\[!-/:-@\[-`{-~])|(?P<code>(?<!`)(?P<fence>`+)(?!`).+?(?<!`)(?P=fence)(?!`))|"
    + _LINK
    + r"|(?P<mark>[\[\]<>$&~|{}`]|:(?=[A-Za-z\[{]))",
    re.IGNORECASE,
)


def plain(value: object, most: int = MOST) -> str:
    """Markdown that shows `value` as it is, in one line of at most `most` characters."""
    return _PLAIN.sub(_literal, printable(value, most).strip())


def prose(text: str, most: int = 4_000) -> str:
    """Markdown in which `*emphasis*`, `code` and escaped characters are all that there is."""
    return _PROSE.sub(_literal, printable(text, most))


def _literal(found: re.Match[str]) -> str:
    if found["link"]:
        # two spans of code side by side would share their backticks
        is_beside_code = found.start() > 0 and found.string[found.start() - 1] == "`"
        return " " * is_beside_code + as_code(found["link"])
    return f"\\{found['mark']}" if found["mark"] else found.group()


def as_code(text: str) -> str:
    """A span of code that holds any text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def cells(frame: pd.DataFrame, most: int = 10_000) -> pd.DataFrame:
    """A table whose texts and headings print, and whose numbers fit a float: a browser shows cells
    as text, but only what can be sent to it."""
    cleaned = {
        position: column.map(lambda value: _cell(value, most)) if column.dtype.kind == "O" else column
        for position, (_, column) in enumerate(frame.items())
    }
    shown = pd.DataFrame(cleaned, index=frame.index)
    shown.columns = [printable(name) for name in frame.columns]
    return shown


def _cell(value: Any, most: int) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return printable(f"a whole number of {value.bit_length()} bits")
    return printable(value, most) if isinstance(value, str) else value
