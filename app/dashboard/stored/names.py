"""Names of folders and labels of results as pages show them: text that is nothing else in Markdown,
in plotly's HTML and in an address. No streamlit, no torch."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcmae.safety.text import printable

MOST = 200
"""Characters of a name."""

# what Markdown, plotly or a page would read as more than a letter; %XX itself stays unique
_SPECIAL = re.compile(
    r"[<>\[\]`*$&\\|~@]|:(?=[\w/])|%(?=[0-9A-F]{2})|(?<=www)\.|^[#_]|_$|^[+-](?= )|(?<=^\d)[.)](?= )", re.IGNORECASE
)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_SHOWN = ("units", "long_name", "convention")
"""Attributes that figures and captions quote."""


def name_of(path: Path, root: Path) -> str:
    """A folder's path from `root` on, as pages call it: different folders have different names.

    What is no plain character (Markdown, HTML, controls, bytes that are not UTF-8) is written as in
    an address, `%5B`; what is too long is cut, with a hash of all of it.
    """
    text = root.resolve().name if path == root else path.relative_to(root).as_posix()
    name = "".join(map(_escaped, _SPECIAL.split(text), [*_SPECIAL.findall(text), ""]))
    if len(name) <= MOST:
        return name
    return f"{name[: MOST - 13]}…{hashlib.sha256(os.fsencode(text)).hexdigest()[:12]}"


def _escaped(text: str, special: str) -> str:
    """A stretch without special characters, and the one behind it."""
    plain = "".join(letter if letter.isprintable() else _as_bytes(letter) for letter in text)
    return plain + "".join(map(_as_bytes, special))


def _as_bytes(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))


def label(text: object, most: int = MOST) -> str:
    """A class, a unit, a metric: in one line, and no tag where plotly reads HTML."""
    return _TAG.sub("‹", printable(text, most))


def labelled(result: xr.Dataset) -> xr.Dataset:
    """A result whose labels are fit to be shown: text coordinates and variables, units, long names.
    The stored file stays what it is, and so do attributes that are tables' alone."""
    changed = {}
    for name, variable in result.variables.items():
        attrs = {key: label(value) if key in _SHOWN else value for key, value in variable.attrs.items()}
        before = variable.values.reshape(-1).tolist() if variable.dtype.kind in "UO" else []
        after = [label(value) if isinstance(value, str) else value for value in before]
        if after != before:
            changed[name] = (variable.dims, np.array(after, dtype=object).reshape(variable.shape), attrs)
        elif attrs != variable.attrs:
            changed[name] = (variable.dims, variable.values, attrs)
    coords = {name: value for name, value in changed.items() if name in result.coords}
    others = {name: value for name, value in changed.items() if name not in result.coords}
    about = {key: encodable(value) for key, value in result.attrs.items()}
    if about != result.attrs:
        result = result.assign_attrs(about)
    return result.assign(others).assign_coords(coords) if changed else result


def encodable(value: Any) -> Any:
    """Text without lone surrogates, which no table and no message can hold; anything else as it
    is."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode()
