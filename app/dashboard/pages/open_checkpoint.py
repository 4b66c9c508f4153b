"""What a checkpoint from elsewhere is: format, what its file says, what had to be assumed, and how
to make a run of it."""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from lcmae.app.command_line.checkpoint_options import Overrides
from lcmae.app.dashboard.components import export, picks
from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.plain import as_code, cells
from lcmae.app.dashboard.jobs import reader
from lcmae.app.dashboard.menu import Page
from lcmae.safety.text import printable
from lcmae.safety.text import show as shown_path

ENCODER_ONLY = "Encoder only: no patch can be predicted, so probes of reconstructions do not apply to it."


def show(page: Page, picked: picks.Picks) -> None:
    """Pick or type a path, then what is known of it. What a file says is shown as plain text, never
    as Markdown."""
    st.title(page.title)
    st.markdown(
        f"Files and folders below {picked.where} that may be checkpoints of MAE, U-MAE, SimMIM, timm, Hugging Face and "
        "others. No code in a file is run: a separate process reads names and shapes; it can write no byte to a file and "
        "take at most 1 GiB beyond torch and the file. Weights are not read before the import."
    )
    path = ask(picked.root)
    if path is None:
        return
    with st.spinner(
        "Reading names and shapes in a separate process (half a minute on a small machine)", show_time=True
    ):
        answer = reader.inspect_below(picked.root, path)
    if answer.facts is None:
        st.error("This cannot be opened:", icon=":material/block:")
        st.code(printable(answer.refusal, 1000), language=None, wrap_lines=True)
    else:
        describe(answer.facts)
        continue_with(answer.facts, picked.root, path)


def ask(root: Path) -> str | None:
    """A candidate, or the path that was typed; both live in the session, and a typed path in the
    address bar, too."""
    listing = reader.candidates_below(root)
    if not listing.names:
        st.info(
            f"No file below {as_code(printable(root, 1000))} ends "
            f"in {', '.join(reader.SUFFIXES)}, and no folder is one of Hugging Face. "
            "Put a checkpoint there, or a link to its folder.",
            icon=":material/upload_file:",
        )
    elif not listing.is_complete:
        st.caption(f"The search ended early, with {len(listing.names)} found; type a path that is not in the list.")
    chosen = st.selectbox("Found", listing.names, index=None, key="candidate", placeholder="pick a checkpoint")
    written = st.text_input(
        "Or a path",
        key="path",
        bind="query-params",
        max_chars=4000,
        help="Relative to the root, or absolute within it.",
    )
    return written.strip() or chosen


def describe(facts: dict[str, Any]) -> None:
    """Format and architecture; what was read, what was assumed and how that is overridden;
    notes."""
    rows = {
        "format": facts["format"],
        "architecture": f"{facts['architecture']}, {facts['parameters']:,} parameters",
        "predicts patches": "yes" if facts["has_prediction"] else "no (encoder only)",
        "step": facts["step"],
        "objective": facts["objective"],
        "sha256": facts["sha256"],
    }
    known = [{"": name, "what it is": printable(value)} for name, value in rows.items() if value is not None]
    st.subheader("What it is")
    st.dataframe(cells(pd.DataFrame(known)), hide_index=True, placeholder=export.NOTHING, key="known")
    if not facts["has_prediction"]:
        st.info(ENCODER_ONLY, icon=":material/info:")
    st.subheader("Assumed")
    if facts["assumed"]:
        st.caption(
            "The file does not state these, and a wrong value loads without an error. Compare them with your source."
        )
        st.dataframe(
            settings_table(facts["assumed"], facts["origins"], is_assumed=True), hide_index=True, key="assumed"
        )
    else:
        st.caption("Nothing: the file states everything.")
    if facts["read"]:
        st.subheader("Read from the file")
        st.dataframe(
            settings_table(facts["read"], facts["origins"]), hide_index=True, placeholder=export.NOTHING, key="read"
        )
    for note in facts["notes"]:
        st.text(printable(f"note: {note}", 1000))


def settings_table(values: dict[str, Any], origins: dict[str, str], *, is_assumed: bool = False) -> pd.DataFrame:
    """Settings, where each comes from and, for assumed ones, the option of `lcmae import` that
    replaces it."""
    rows = []
    for name, value in values.items():
        row = {"setting": printable(name.replace("_", "-")), "value": printable(value)}
        row["from"] = printable(origins.get(name, ""))
        field = Overrides.model_fields.get(name)
        if is_assumed:
            row["replaced by"] = "" if field is None else option(name, value)
            row["what it means"] = "" if field is None else field.description or ""
        rows.append(row)
    return cells(pd.DataFrame(rows))


def option(name: str, value: Any) -> str:
    """A setting as a command line takes it: --pixel-mean 0.5 0.5 0.5."""
    values = value if isinstance(value, list | tuple) else [value]
    return shlex.join([f"--{name.replace('_', '-')}", *map(str, values)])


def continue_with(facts: dict[str, Any], root: Path, path: str) -> None:
    """The command that makes a run of it; for a run, the one that probes it."""
    file = (root / path).absolute()
    st.subheader("Go on")
    if facts["format"] == "run":
        st.caption("It is a run, or a step of one, so it needs no import. This computes every probe:")
        to_copy(f"lcmae probe all --checkpoint {shlex.quote(shown_path(file))}")
        return
    st.caption("This imports it as a run, which the other pages and every command take, and checks the weights.")
    command = f"lcmae import {shlex.quote(shown_path(file))} --out {shlex.quote(shown_path(free_run(root, file)))}"
    to_copy(command)
    replaceable = [name for name in facts["assumed"] if name in Overrides.model_fields]
    if replaceable:
        st.caption("The same with the assumed values as options; correct them where needed:")
        options = " ".join(option(name, facts["assumed"][name]) for name in replaceable)
        to_copy(f"{command} {options}")


def free_run(root: Path, file: Path) -> Path:
    """A folder below the root that is not taken, named after the checkpoint."""
    name, number = (file.stem if file.is_file() else file.name), 1
    while (found := root.absolute() / f"{name}-imported{'' if number == 1 else f'-{number}'}").exists():
        number += 1
    return found
