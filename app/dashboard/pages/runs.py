"""Every run below the root in one table; rows that are ticked are the pick of all pages."""

import pandas as pd
import streamlit as st

from lcmae.app.dashboard.components import compute_button, export, picks
from lcmae.app.dashboard.components.plain import cells, plain
from lcmae.app.dashboard.components.probe_page import ask_for_runs
from lcmae.app.dashboard.glossary import GLOSSARY
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.stored import reading

COLUMNS = {
    "name": st.column_config.TextColumn("Run", help="Path of the run below the root.", pinned=True),
    "state": st.column_config.TextColumn(
        "State",
        help="running; finished; stopped before its end (asked to, or its loss was no number any more); "
        "ended (one of the two: its checkpoints do not say which); "
        "interrupted (its process died); empty",
    ),
    "objective": st.column_config.TextColumn("Objective", help="What was minimised."),
    "mask": st.column_config.TextColumn("Mask", help="The strategy that hides patches."),
    "ratio": st.column_config.NumberColumn("Ratio", format="%.2f", help=GLOSSARY["masking ratio"]),
    "data": st.column_config.TextColumn("Data"),
    "step": st.column_config.NumberColumn("Step", format="%d", help="Optimiser steps that are logged."),
    "loss": st.column_config.NumberColumn("Loss", format="%.4f", help=GLOSSARY["loss"]),
    "collapse": st.column_config.NumberColumn("Collapse level", format="%.4f", help=GLOSSARY["collapse level"]),
    "knn": st.column_config.NumberColumn("kNN", format="percent", help=GLOSSARY["kNN accuracy"]),
    "linear": st.column_config.NumberColumn("Ridge", format="percent", help=GLOSSARY["ridge accuracy"]),
    "rank": st.column_config.NumberColumn("Eff. rank", format="%.1f", help=GLOSSARY["effective rank"]),
    "checkpoints": st.column_config.NumberColumn("Checkpoints", format="%d", help="Published steps."),
    "results": st.column_config.TextColumn("Probed", help="Probes with a stored result of any step."),
    "model": st.column_config.TextColumn("Model"),
    "seed": st.column_config.NumberColumn("Seed", format="%d"),
}


EVERY = "3s"
"""How often the table looks at runs that are being trained."""


def show(page: Page, picked: picks.Picks) -> None:
    """The table; a click on a heading sorts it, the boxes at the left pick."""
    st.title(page.title)
    st.markdown(
        f"Every run below {picked.where}. Tick runs to look at them on the other pages; click a heading to sort. "
        "Accuracies are of frozen features of unmasked test images, on the class token where there is one."
    )
    if not picked.runs:
        ask_for_runs(picked)
        return
    is_live = any(reading.is_running(path) for path in picked.runs.values())
    st.fragment(table_of_runs, run_every=EVERY if is_live else None)(picked)
    unprobed = {name: path for name, path in picked.runs.items() if not reading.probes_of(path)}
    commands = [reading.probe_command("all", path) for path in unprobed.values()]
    compute_button.offer_all(commands)
    for name, command in list(zip(unprobed, commands, strict=True))[:5]:
        compute_button.offer(f"{name} is not taken apart yet; this runs every probe on its newest checkpoint:", command)
    export.link()


def table_of_runs(picked: picks.Picks) -> None:
    """All runs as they are now; renewed every few seconds while one of them is trained."""
    if st.session_state.get("runs", picked.names) != picked.names:
        st.rerun()  # a tick renewed this part alone, and the side bar is to show it, too
    table = pd.DataFrame([reading.overview(name, path) for name, path in picked.runs.items()]).reindex(
        columns=list(COLUMNS)
    )
    rows = [position for position, name in enumerate(table["name"]) if name in picked.names]
    # the key changes with the pick of the side bar, so that the table shows that pick and not its
    # own old one
    st.dataframe(
        cells(table),
        hide_index=True,
        column_config=COLUMNS,
        key=f"table-{'/'.join(picked.names)}",
        on_select=lambda: take(picked, table),
        selection_mode="multi-row",
        selection_default={"selection": {"rows": rows}},
        height=min(38 + 35 * len(table), 700),
    )
    running = [name for name, path in picked.runs.items() if reading.is_running(path)]
    if running:
        st.caption(
            f":material/sync: being trained, and followed here: {', '.join(map(plain, running))}. Training has their curves."
        )
    export.table_files(table, "runs")


def take(picked: picks.Picks, table: pd.DataFrame) -> None:
    """What was ticked becomes the pick of the side bar, and of the address bar."""
    state = st.session_state[f"table-{'/'.join(picked.names)}"]
    st.session_state["runs"] = [str(table["name"].iloc[row]) for row in state["selection"]["rows"]]
