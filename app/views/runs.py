"""Every run below the root in one table; rows that are ticked are the pick of all pages."""

import pandas as pd
import streamlit as st

from app import picks, stored
from app.glossary import GLOSSARY
from app.views import Page, take_away
from app.views.probe_page import ask_for_runs

COLUMNS = {
    "name": st.column_config.TextColumn("Run", help="Path of the run below the root.", pinned=True),
    "state": st.column_config.TextColumn(
        "State", help="running; ended (at its end, or asked to stop); interrupted (its process died); empty"
    ),
    "objective": st.column_config.TextColumn("Objective", help="What was minimised."),
    "mask": st.column_config.TextColumn("Mask", help="The strategy that hides patches."),
    "ratio": st.column_config.NumberColumn("Ratio", format="%.2f", help=GLOSSARY["masking ratio"]),
    "data": st.column_config.TextColumn("Data"),
    "step": st.column_config.NumberColumn("Step", format="%d", help="Optimiser steps that are logged."),
    "loss": st.column_config.NumberColumn("Loss", format="%.4f", help=GLOSSARY["loss"]),
    "collapse": st.column_config.NumberColumn("Collapse level", format="%.4f", help=GLOSSARY["collapse level"]),
    "knn": st.column_config.NumberColumn("kNN", format="percent", help=GLOSSARY["kNN accuracy"]),
    "linear": st.column_config.NumberColumn("Linear", format="percent", help=GLOSSARY["linear accuracy"]),
    "rank": st.column_config.NumberColumn("Eff. rank", format="%.1f", help=GLOSSARY["effective rank"]),
    "checkpoints": st.column_config.NumberColumn("Checkpoints", format="%d", help="Published steps."),
    "results": st.column_config.TextColumn("Probed", help="Probes with a stored result of any step."),
    "model": st.column_config.TextColumn("Model"),
    "seed": st.column_config.NumberColumn("Seed", format="%d"),
}


def show(page: Page, picked: picks.Picks) -> None:
    """The table; a click on a heading sorts it, the boxes at the left pick."""
    st.title(page.title)
    st.markdown(
        f"Every run below `{picked.root}`. Tick runs to look at them on the other pages; click a heading to sort. "
        "Accuracies are of frozen features of unmasked test images, on the class token where there is one."
    )
    if not picked.runs:
        ask_for_runs(picked)
        return
    table = pd.DataFrame([stored.overview(name, path) for name, path in picked.runs.items()]).reindex(
        columns=list(COLUMNS)
    )
    rows = [place for place, name in enumerate(table["name"]) if name in picked.names]
    # the key changes with the pick of the side bar, so that the table shows that pick and not its own old one
    st.dataframe(
        table,
        hide_index=True,
        column_config=COLUMNS,
        key=f"table-{'/'.join(picked.names)}",
        on_select=lambda: take(picked, table),
        selection_mode="multi-row",
        selection_default={"selection": {"rows": rows}},
        height=min(38 + 35 * len(table), 700),
    )
    unprobed = [name for name, results in zip(table["name"], table["results"], strict=True) if not results]
    if unprobed:
        st.caption("Not taken apart yet; this computes every probe on the newest checkpoint:")
        st.code("\n".join(stored.probe_command("all", picked.runs[name]) for name in unprobed[:5]), language="bash")
    running = [name for name, path in picked.runs.items() if stored.is_running(path)]
    if running:
        st.caption(f":material/sync: being trained: {', '.join(running)}. The Training page follows them.")
    take_away.table_files(table, "runs")
    take_away.link()


def take(picked: picks.Picks, table: pd.DataFrame) -> None:
    """What was ticked becomes the pick of the side bar, and of the address bar."""
    state = st.session_state[f"table-{'/'.join(picked.names)}"]
    st.session_state["runs"] = [str(table["name"].iloc[row]) for row in state["selection"]["rows"]]
