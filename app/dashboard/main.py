"""The dashboard's frame: menu of pages by question, bar of runs and step, Ctrl-K. Started by `lcmae
dashboard`.

No page that shows stored results imports torch, which takes 20 s on a small machine.
"""

import time
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from lcmae.app.dashboard import contract, find
from lcmae.app.dashboard.components import compute_button, picks, probe_page, top_bar
from lcmae.app.dashboard.menu import GO, IS_SAME_PAGE, WITH, Page
from lcmae.app.dashboard.pages import PAGES
from lcmae.app.figures import style

# patches of the 8 x 8 in the tab's picture (a comment, since Streamlit shows a string that stands
# alone in its main file)
HIDDEN = (0, 2, 7, 9, 13, 18, 20, 27, 36, 38, 41, 47, 50, 54, 60, 63)


PAGE = "page-shown"  # in the session: the page that ran last
ASKED_FOR_CODE = "asked-for-figure-code"  # in the session: whether its first run is over
MANY_RUNS = 8


def main() -> None:
    """Build the menu out of `lcmae.app.dashboard.pages.PAGES`, ask what to look at, run the
    page."""
    st.set_page_config(page_title="lcmae", page_icon=icon(), layout="wide")
    top_bar.frame()
    code = fetch_figure_code()
    chosen: dict[str, picks.Picks] = {}
    sections: dict[str, list] = {}
    entries = {}
    for page in PAGES:
        entries[page.name] = st.Page(
            lambda page=page: open_page(page, chosen["picks"]),
            title=page.title,
            icon=page.icon,
            url_path=page.name,
            default=page is PAGES[0],
        )
        sections.setdefault(page.section, []).append(entries[page.name])
    current = st.navigation(sections, expanded=True)
    if (wanted := st.session_state.pop(GO, None)) in entries:
        # without this argument Streamlit refuses to leave an address whose words belong to widgets,
        # as the picked runs do
        st.switch_page(entries[wanted], query_params=st.session_state.pop(WITH, {}))
    # asked in the frame, not in the page: widgets of the frame keep their values when the page
    # changes
    chosen["picks"] = picks.ask()
    find.ask(chosen["picks"])
    compute_button.running()
    current.run()
    code.empty()


def fetch_figure_code() -> Any:
    """Have the browser fetch and compile plotly's 4.7 MB while the server computes the first page
    of a session that opens on many runs: an empty figure, which is taken away at the end.

    Target: the first figure of 30 runs within 3 s. Streamlit's page loads this code only when a
    figure arrives, and takes a second over it. In turns on idle cores: 2.9 to 3.4 s with it, 4.4
    and 5.4 s without (docs/LOG.md). A page of one run gains nothing.
    """
    area = st.empty()
    if ASKED_FOR_CODE not in st.session_state and len(st.query_params.get_all("runs")) > MANY_RUNS:
        blank = go.Figure(layout={"xaxis": {"visible": False}, "yaxis": {"visible": False}})
        area.plotly_chart(blank, height=10, key="figure-code", config={"staticPlot": True})
    st.session_state[ASKED_FOR_CODE] = True
    return area


@cache
def icon() -> str:
    """The tab's picture: a grid with hidden patches, as PNG, which stands in the page itself. (The
    browser would fetch a picture again at every change of the address, a Material symbol or an
    emoji from another host, and reads an SVG anew each time.)"""
    pixels = np.full((8, 8, 3), (0x00, 0x72, 0xB2), np.uint8)
    pixels.reshape(-1, 3)[list(HIDDEN)] = (0xE6, 0x9F, 0x00)
    return style.png(pixels.repeat(4, axis=0).repeat(4, axis=1))


def open_page(page: Page, picked: picks.Picks) -> None:
    """One page, given the pick."""
    module: ModuleType = import_module(f"lcmae.app.dashboard.pages.{page.name}")
    begin, state = time.monotonic(), st.session_state
    state[IS_SAME_PAGE] = state.get(PAGE) == page.name
    state[PAGE] = page.name
    try:
        if page.is_probe:
            probe_page.show(page, module.PAGE, picked)
        else:
            module.show(page, picked)
    except Exception:
        # a result that does not fit its probe is left out, with a sentence; all else is a fault of
        # ours, and shown as one
        if not contract.refuse_unfit(begin):
            raise
        st.rerun()
