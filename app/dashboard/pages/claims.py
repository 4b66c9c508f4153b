"""Claims: what `lcmae claims` found out about published statements, and the runs behind each
verdict. Imports no torch."""

import shlex
from pathlib import Path
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from lcmae.app.dashboard.components import export, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.command import to_copy, writing_below
from lcmae.app.dashboard.components.plain import as_code, cells, plain, prose
from lcmae.app.dashboard.components.probe_page import choose, draw, heading
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.page import Panel
from lcmae.app.dashboard.pages import PAGES
from lcmae.app.dashboard.stored.names import label, name_of
from lcmae.app.dashboard.stored.reading import Stamp, stamp
from lcmae.app.figures import claims as figures
from lcmae.errors import InputError
from lcmae.probes.claims.claim import VERDICTS, Verdict
from lcmae.probes.claims.record import FILE, OVER, SYMBOLS, Outcome, Record, interval, read_record
from lcmae.safety.files import is_regular
from lcmae.safety.text import printable

SUMMARY = (
    "Claims of the papers on masked autoencoders, each tested in a small form on runs of this machine. A verdict says "
    "whether the whole 95 % interval of the number lies where the claim says, by a fixed rule; it is about these runs only."
)
TERMS = ("masking ratio", "effective rank", "linear probe", "receptive field", "positional share", "alignment")

BADGES: dict[Verdict, str] = {"reproduced": "green", "contradicted": "red", "not decidable": "gray"}
SHOWN: dict[str, Verdict] = {f"{symbol} {verdict}": verdict for verdict, symbol in SYMBOLS.items()}
"""Verdicts as the table shows them."""


def show(page: Page, picked: picks.Picks) -> None:
    """Counts, forest plot and table of one record below the root; one claim in full."""
    heading(page.title, SUMMARY, TERMS)
    found = records_below(picked.root)
    if not found:
        st.info(
            f"There is no record of `lcmae claims` below {picked.where} yet. This makes one, in about half an hour:"
        )
        to_copy(writing_below(picked.root, "claims", "lcmae claims"))
        st.caption("It states its cost first. `--claims ID` tests single claims, `--list` names them.")
        return
    file = found[choose("record", list(found))]
    try:
        record = record_of(stamp(file))
    except InputError as error:
        st.warning(prose(str(error), 400), icon=":material/link_off:")
        return
    if not record.outcomes:
        st.info("This record holds no claim.", icon=":material/hourglass_empty:")
        return
    answer(figures.answer(record.outcomes), "claims")
    st.markdown(
        " ".join(badge(verdict, sum(one.verdict == verdict for one in record.outcomes)) for verdict in VERDICTS)
    )
    if any(one.effect is not None for one in record.outcomes):
        draw(
            Panel(
                "Numbers and the levels that decide",
                "Each claim's number with its 95 % interval (over seeds unless its details say otherwise), and the level "
                "that it must lie above, below or within. One panel per unit. The table lists what could not be measured here.",
                figures.forest(record.outcomes, SYMBOLS, interval),
            ),
            "claims",
        )
    st.subheader("Verdicts")
    st.caption(
        f"Made by {as_code(printable(record.command))} on {plain(record.written[:10])}; {plain(record.machine)}; "
        f"{plain(record.versions)}; "
        f"{record.train_minutes:.0f} minutes of training. The third column opens the runs on the number's page."
    )
    frame = cells(table(record, file.parent, picked))
    st.dataframe(
        frame.style.apply(lambda column: [tint(value) for value in column], subset=["verdict"]),
        hide_index=True,
        placeholder=export.NOTHING,
        height=min(38 + 35 * len(frame), 900),
        column_config={
            "claim": st.column_config.TextColumn(pinned=True, width=180),
            "says": st.column_config.TextColumn(width="large"),
            "runs": st.column_config.LinkColumn(display_text="open"),
        },
    )
    export.table_files(frame.drop(columns="runs"), "claims")
    in_full(record, file.parent, picked)
    export.link()


def badge(verdict: Verdict, count: int | None = None) -> str:
    """A coloured word with its symbol."""
    words = f"{SYMBOLS[verdict]} {verdict}" if count is None else f"{SYMBOLS[verdict]} {count} {verdict}"
    return f":{BADGES[verdict]}-badge[{words}]"


def tint(shown: str) -> str:
    """A background that reads on white and on near-black, for a verdict as the table shows it."""
    colour = figures.COLOURS[SHOWN[shown]].lstrip("#")
    red, green, blue = (int(colour[start : start + 2], 16) for start in (0, 2, 4))
    return f"background-color: rgba({red}, {green}, {blue}, 0.25)"


def table(record: Record, folder: Path, picked: picks.Picks) -> pd.DataFrame:
    """A row a claim."""
    return pd.DataFrame(
        [
            {
                "claim": one.id,
                "verdict": f"{SYMBOLS[one.verdict]} {one.verdict}",
                "runs": link(one, folder, picked),
                "number [95 % interval]": interval(one),
                "expected": one.expected or "-",
                "says": one.says,
                "reason": one.reason,
                "source": one.source,
            }
            for one in record.outcomes
        ]
    )


def link(one: Outcome, folder: Path, picked: picks.Picks) -> str | None:
    """The address of the page that shows a claim's runs; None where none of them is there."""
    names = [name for name, path in picked.runs.items() if any(path == folder / run for run in one.runs)]
    if not names:
        return None
    page = one.page if any(known.name == one.page for known in PAGES) else "runs"
    # the first page of the menu has the root for its address
    return f"{'' if page == PAGES[0].name else page}?{urlencode([('runs', name) for name in names])}"


def in_full(record: Record, folder: Path, picked: picks.Picks) -> None:
    """One claim: everything that is known of it."""
    st.subheader("One claim in full")
    known = {one.id: one for one in record.outcomes}
    one = known[choose("claim", list(known))]
    st.markdown(f"**{plain(one.says, 1000)}** {badge(one.verdict)}")
    rows = {"source": one.source, "number": one.quantity}
    rows |= {"interval": f"{interval(one)}, {OVER[one.over]}" if one.effect is not None else ""}
    rows |= {"each seed": ", ".join(f"{value:.4g}" for value in one.values) if len(one.values) > 1 else ""}
    rows |= {"expected": one.expected, "verdict": f"{one.verdict}: {one.reason}", "leaves open": one.leaves_open}
    lines = [f"- {name}: {plain(text, 1000)}" for name, text in rows.items() if text not in ("", "-")]
    if one.reads:
        lines.append(f"- read off the runs: {', '.join(as_code(printable(text, 200)) for text in one.reads)}")
    st.markdown("\n".join(lines))
    address = link(one, folder, picked)
    if address is not None:
        st.link_button("Open these runs", address, icon=":material/open_in_new:")
    elif one.runs:
        st.caption(f"Its runs are no longer below {picked.where}.")
    if one.reads:
        st.caption("To repeat it:")
        to_copy(f"{one.command} --out {shlex.quote(str(folder))}")


def records_below(root: Path) -> dict[str, Path]:
    """Every record at or below the root (three folders deep), by the path of its folder."""
    files = [file for depth in ("", "*/", "*/*/", "*/*/*/") for file in sorted(root.glob(f"{depth}{FILE}"))]
    return {name_of(file.parent, root): file for file in files if is_regular(file)}


@st.cache_data(max_entries=16, show_spinner=False)
def record_of(key: Stamp) -> Record:
    """The record as it is now, with texts that can be shown."""
    record = read_record(Path(key[0]))
    outcomes = []
    for one in record.outcomes:
        texts = {name: label(value, 2000) for name, value in one if isinstance(value, str)}
        outcomes.append(one.model_copy(update={**texts, "reads": tuple(map(label, one.reads))}))
    return record.model_copy(update={"outcomes": tuple(outcomes)})
