"""The curves of the picked runs, followed while one of them is being trained."""

import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import export, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.curves import SUMMARY, TERMS, all_curves
from lcmae.app.dashboard.components.plain import plain
from lcmae.app.dashboard.components.probe_page import ask_for_runs, briefly, draw, heading
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures import training as figures
from lcmae.errors import InputError

EVERY = "3s"
"""How often a page looks at the metrics of runs that are being trained."""


def show(page: Page, picked: picks.Picks) -> None:
    """Curves of the picked runs; renewed every few seconds while one is written."""
    heading(page.title, SUMMARY, TERMS)
    if not ask_for_runs(picked):
        return
    running = [name for name, path in picked.paths.items() if reading.is_running(path)]
    if running:
        st.caption(f":material/sync: followed while they are trained: {', '.join(map(plain, running))}")
    st.fragment(curves, run_every=EVERY if running else None)(picked)
    export.link()


def curves(picked: picks.Picks) -> None:
    """All curves, from the lines that are written by now."""
    runs = read(picked)
    if runs:
        answer(figures.answer(briefly(runs)), "training")
    for number, shown in enumerate(all_curves(runs)):
        draw(shown, f"training-{number}")


def read(picked: picks.Picks) -> dict[str, xr.Dataset]:
    """The metrics of the picked runs that have any; the others are named in a sentence."""
    runs = {}
    for name, path in picked.paths.items():
        try:
            lines = figures.dataset(reading.metrics_of(path), reading.target_units(path))
        except InputError as error:
            st.warning(f"{plain(name)}: {plain(error)}", icon=":material/link_off:")
            continue
        if lines.sizes.get("step", 0) and "loss" in lines:
            runs[name] = lines
        else:
            st.info(f"{plain(name)} has logged nothing yet.", icon=":material/hourglass_empty:")
    return runs
