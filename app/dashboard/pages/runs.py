"""Every run below the root in one table: searched, filtered, grouped; rows that are ticked are the
pick of all pages. Tags, notes and what is hidden are remembered beside the runs."""

from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from lcmae.app.dashboard.components import compute_button, compute_images, export, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.plain import cells, plain
from lcmae.app.dashboard.components.probe_page import ask_for_runs
from lcmae.app.dashboard.glossary import GLOSSARY
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.stored import notes, reading, run_table
from lcmae.app.dashboard.stored.notes import Note
from lcmae.app.figures.answers import Answer
from lcmae.errors import InputError

COLUMNS = {
    "name": st.column_config.TextColumn("Run", help="Path of the run below the root.", pinned=True),
    "state": st.column_config.TextColumn(
        "State",
        help="running; finished; stopped early (on request, or because its loss was not a number); ended (finished or "
        "stopped: its checkpoints do not say which); interrupted (its process died); empty",
    ),
    "objective": st.column_config.TextColumn("Objective", help="The loss that was minimised."),
    "mask": st.column_config.TextColumn("Mask", help="The strategy that hides patches."),
    "ratio": st.column_config.NumberColumn("Ratio", format="%.2f", help=GLOSSARY["masking ratio"]),
    "losses": st.column_config.LineChartColumn("Course", help="The loss through training.", width="small"),
    "loss": st.column_config.NumberColumn("Loss", format="%.4f", help=GLOSSARY["loss"]),
    "collapse": st.column_config.NumberColumn("Collapse level", format="%.4f", help=GLOSSARY["collapse level"]),
    "knn": st.column_config.NumberColumn("kNN", format="percent", help=GLOSSARY["kNN accuracy"]),
    "linear": st.column_config.NumberColumn("Ridge", format="percent", help=GLOSSARY["ridge accuracy"]),
    "rank": st.column_config.NumberColumn("Eff. rank", format="%.1f", help=GLOSSARY["effective rank"]),
    "tags": st.column_config.ListColumn("Tags"),
    "note": st.column_config.TextColumn("Note"),
    "data": st.column_config.TextColumn("Data"),
    "step": st.column_config.NumberColumn("Step", format="%d", help="Optimiser steps that are logged."),
    "checkpoints": st.column_config.NumberColumn("Checkpoints", format="%d", help="Published steps."),
    "results": st.column_config.TextColumn("Probed", help="Probes with a stored result of any step."),
    "model": st.column_config.TextColumn("Model"),
    "seed": st.column_config.NumberColumn("Seed", format="%d"),
}

GROUPED = {
    "group": st.column_config.TextColumn("Group", pinned=True),
    "runs": st.column_config.NumberColumn("Runs", format="%d"),
}
for name, form in (("loss", "%.2g"), ("knn", "percent"), ("linear", "percent"), ("rank", "%.2g")):
    GROUPED[name] = COLUMNS[name]
    GROUPED[f"{name}_half"] = st.column_config.NumberColumn(
        "± 95 %", format=form, help="Half of the 95 % interval of the mean over runs (Student's t)."
    )

BY = {"each run": "", "objective": "objective", "mask": "mask", "seeds together": "seeds"}

EVERY = "3s"
"""How often the table looks at runs that are being trained."""


def show(page: Page, picked: picks.Picks) -> None:
    """The table; a click on a heading sorts it, the boxes at the left pick."""
    st.title(page.title)
    st.markdown(
        f"Every run below {picked.where}. Tick runs to show them on the other pages; click a heading to sort. "
        "Accuracies are of frozen features of unmasked test images, on the class token where there is one."
    )
    if not picked.runs:
        ask_for_runs(picked)
        return
    is_live = any(reading.is_running(path) for path in picked.runs.values())
    st.fragment(table_of_runs, run_every=EVERY if is_live else None)(picked)
    annotate(picked)
    unprobed = {name: path for name, path in picked.runs.items() if not reading.probes_of(path)}
    images = compute_images.ask(replace(picked, names=list(unprobed))) if unprobed else None
    commands = [reading.probe_command("all", path) for path in unprobed.values()]
    commands = commands if images is None else [images.of(command) for command in commands]
    compute_button.offer_all(commands)
    for name, command in list(zip(unprobed, commands, strict=True))[:5]:
        compute_button.offer(
            f"{name} has no probe results yet; this runs every probe on its newest checkpoint:", command
        )
    export.link()


def known_notes(picked: picks.Picks) -> dict[str, Note]:
    """What people say of runs; a sentence where the file is not ours."""
    try:
        return notes.read(picked.root)
    except InputError as error:
        st.warning(plain(error, 1000), icon=":material/link_off:")
        return {}


def table_of_runs(picked: picks.Picks) -> None:
    """All runs as they are now; renewed every few seconds while one of them is trained."""
    if st.session_state.get("runs", picked.names) != picked.names:
        st.rerun()  # a tick renewed this part alone, and the bar is to show it, too
    table = run_table.table_of(picked.runs, known_notes(picked))
    answer(Answer(run_table.sentence(run_table.visible(table))), "runs")
    table, by = ask_what_is_shown(table)
    if table.empty:
        st.info("No run fits. Clear the search or the filter to see them all.", icon=":material/search_off:")
        return
    names = [[name] for name in table["name"]]
    shown: Any = table.reindex(columns=list(COLUMNS))
    columns = COLUMNS
    shown = shown.drop(columns=[name for name in ("tags", "note") if not any(table[name])])
    if by:
        groups = run_table.grouped(table, by)
        names, shown, columns = list(groups["names"]), groups.drop(columns="names"), GROUPED
        shown = shown.drop(columns=[name for name in shown if bool(pd.isna(shown[name]).all())])
        st.caption("Means over the runs of a group. A loss has a mean only within one objective.")
    rows = [number for number, members in enumerate(names) if set(members) <= set(picked.names)]
    # the key changes with the pick and with what is shown, so that the table shows that pick and
    # not its own old one
    key = f"table-{by}-{hash(tuple(map(tuple, names)))}-{'/'.join(picked.names)}"
    st.dataframe(
        cells(shown),
        hide_index=True,
        placeholder=export.NOTHING,
        column_config=columns,
        column_order=[name for name in columns if name in shown],
        key=key,
        on_select=partial(take, key, names, picked.names),
        selection_mode="multi-row",
        selection_default={"selection": {"rows": rows}},
        height=min(38 + 35 * len(shown), 700),
    )
    running = [name for name, path in picked.runs.items() if reading.is_running(path)]
    if running:
        st.caption(
            f":material/sync: being trained, and followed here: {', '.join(map(plain, running))}. Training has their curves."
        )
    export.table_files(shown.drop(columns=[name for name in ("losses", "tags") if name in shown]), "runs")


def ask_what_is_shown(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Search, filter, hidden runs, and how to group; all of it lives in the address."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        words = st.text_input(
            "Search", key="search", bind="query-params", placeholder="words of name, setting, tag or note",
            max_chars=200, width=260,
        )  # fmt: skip
        offered = run_table.choices(table)
        known = st.session_state.get("filter")
        if isinstance(known, list):
            st.session_state["filter"] = [choice for choice in known if choice in offered]
        chosen = st.multiselect(
            "Filter", offered, key="filter", bind="query-params", placeholder="objective, mask, data ...", width=300
        )
        by = st.segmented_control(
            "Rows", list(BY), key="rows", bind="query-params", default="each run", required=True, width="content"
        )
        num_hidden = sum(map(bool, table["hidden"]))
        with_hidden = num_hidden > 0 and st.toggle(f"Show {num_hidden} hidden", key="hidden_runs", bind="query-params")
    if not with_hidden:
        table = run_table.visible(table)
    return run_table.filtered(run_table.searched(table, words), chosen).reset_index(drop=True), BY.get(by or "", "")


def take(key: str, names: list[list[str]], before: list[str]) -> None:
    """What was ticked becomes the pick of the bar, and of the address; picked runs that the table
    does not show stay picked."""
    shown = {name for members in names for name in members}
    ticked = [name for row in st.session_state[key]["selection"]["rows"] for name in names[row]]
    st.session_state["runs"] = [*(name for name in before if name not in shown), *ticked]


def annotate(picked: picks.Picks) -> None:
    """Tags, a note and hiding for the picked runs."""
    if not picked.names:
        return
    known = known_notes(picked)
    count = f"the {len(picked.names)} picked runs" if len(picked.names) > 1 else plain(picked.names[0])
    with st.expander(f"Tags and note of {count}", icon=":material/sell:"), st.form("notes", border=False):
        own = [known.get(name, Note()) for name in picked.names]
        shared = [tag for tag in own[0].tags if all(tag in note.tags for note in own)]
        tags = st.multiselect(
            "Tags", sorted({*notes.all_tags(known), *shared}), default=shared, accept_new_options=True,
            max_selections=notes.MOST_TAGS, key=f"tags-{'/'.join(picked.names)}",
        )  # fmt: skip
        texts = {note.text for note in own}
        text = st.text_area(
            "Note", texts.pop() if len(texts) == 1 else "", max_chars=notes.MOST_NOTE, height=80,
            key=f"note-{'/'.join(picked.names)}",
        )  # fmt: skip
        hidden = st.checkbox(
            "Hide from the table", all(note.hidden for note in own), key=f"hide-{'/'.join(picked.names)}"
        )
        if st.form_submit_button("Remember", icon=":material/save:"):
            remember(picked, shared, tags, text, hidden)


def remember(picked: picks.Picks, before: list[str], tags: list[str], text: str, hidden: bool) -> None:
    """Write it beside the runs: shared tags that went are taken away, the others of each run
    stay."""

    def changed(note: Note) -> Note:
        own = [tag for tag in note.tags if tag not in before]
        return Note(tags=tuple(dict.fromkeys([*own, *tags])), text=text, hidden=hidden)

    try:
        notes.change(picked.root, picked.names, changed)
    except (InputError, ValueError) as error:
        st.error(plain(error, 1000), icon=":material/error:")
        return
    st.rerun()
