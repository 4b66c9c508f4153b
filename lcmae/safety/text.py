"""Strings from files, links, folders and errors, made fit for a person's eyes."""

import errno
import os
import re
from pathlib import Path

from lcmae.errors import InputError

MOST = 200


def printable(value: object, most: int = MOST) -> str:
    """`value` as plain text of one line and at most `most` characters, for a terminal, a page, a
    log.

    Control characters, lone surrogates and marks that turn the direction of writing become escapes
    (`\\n`, `\\ud800`, `\\u202e`); what is too long ends in an ellipsis. Markdown and HTML stay what
    they are: the page that shows them must show text. A number of too many digits is no error.
    """
    try:
        text = value if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):  # a whole number of more than 4,300 digits
        text = f"a {type(value).__name__} that is too long to print"
    text = text[: most + 1]  # escapes make text longer, and a text of megabytes costs time
    if not text.isprintable():
        text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def show(path: Path | str) -> str:
    """A path in a message of one line, whatever characters it has."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


def reason(error: BaseException) -> str:
    """Why it failed, in one line: "No space left on device"."""
    if is_full(error):
        return os.strerror(errno.ENOSPC)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_full(error: BaseException) -> bool:
    """Whether a full disk (or quota) lies behind an error: nobody's input is to blame for that.

    torch, safetensors and HDF5 hide it in errors of their own, and the system's number in a text.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # an error of ours may quote anything, the name of a file too
        hidden = not isinstance(cause, InputError)
        if hidden and re.search(r"No space left on device|os error 28\b|errno = 28\b|Disk quota exceeded", str(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
