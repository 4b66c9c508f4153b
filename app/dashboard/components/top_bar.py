"""The bar above every page: which runs are looked at, in their colours (it is the legend of all
figures), at which step, on which data."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from lcmae.app.figures import style
from lcmae.app.figures.identity import Marking, prefix
from lcmae.app.figures.legend import brief_names

CSS = f"<style>{Path(__file__).with_suffix('.css').read_text()}</style>"

MOST = 12
"""Runs that are named one by one; more of them are named by their family, seeds together."""

MOST_GROUPS = 14


def frame() -> None:
    """What the whole page is drawn with."""
    st.html(CSS)


def legend(names: Sequence[str]) -> None:
    """The picked runs, each with the dot of its colour."""
    if names:
        st.html(words(names, style.known()))


def words(names: Sequence[str], markings: Mapping[str, Marking]) -> str:
    """HTML of the legend: short names behind dots; what they all begin with stands before them
    once."""
    shared = prefix(names)
    parts = [f'<span class="shared">{html.escape(shared)}…</span>'] if shared else []
    if len(names) <= MOST:
        colours = style.colours(names)
        parts += [_entry([colours[name]], brief, name) for name, brief in brief_names(names).items()]
        return f'<div class="lcmae-runs" role="list" aria-label="picked runs">{"".join(parts)}</div>'
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(markings[name].family if name in markings else name, []).append(name)
    colours = style.colours(names)
    shown = list(families.items())[:MOST_GROUPS]
    briefs = brief_names([family for family, _ in shown])
    for family, members in shown:
        count = f" ({len(members)})" if len(members) > 1 else ""
        parts.append(_entry([colours[name] for name in members], f"{briefs[family]}{count}", ", ".join(members)))
    if len(families) > len(shown):
        parts.append(f"<span>and {len(families) - len(shown)} more</span>")
    return f'<div class="lcmae-runs" role="list" aria-label="picked runs">{"".join(parts)}</div>'


def _entry(colours: Sequence[str], label: str, title: str) -> str:
    dots = "".join(f'<i style="background: {colour}"></i>' for colour in dict.fromkeys(colours))
    return f'<span role="listitem" title="{html.escape(title)}">{dots}{html.escape(label)}</span>'
