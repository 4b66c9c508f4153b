"""Checkpoint A against checkpoint B: every stored number with its difference, and one image through
both models.

The stored part needs no model. (Grids of runs, from `lcmae compare`, are on the page of mask
strategies.)
"""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache, partial

import pandas as pd
import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import compute_button, export, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.plain import cells, plain, prose
from lcmae.app.dashboard.components.probe_page import ask_for_runs, choose, draw, heading, number_format
from lcmae.app.dashboard.live import models, selection
from lcmae.app.dashboard.live.selection import tied
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.microscope.controls import steps_of
from lcmae.app.dashboard.microscope.pair import bench
from lcmae.app.dashboard.page import Panel
from lcmae.app.dashboard.pages import PAGES, TITLES
from lcmae.app.dashboard.stored import measured, reading
from lcmae.app.figures import pair as figures
from lcmae.app.figures.legend import names_in_list
from lcmae.errors import InputError
from lcmae.probes.results import tables
from lcmae.probes.results.conditions import Condition, contrasts
from lcmae.probes.results.differences import differences
from lcmae.probes.results.metric_directions import BETTER

SUMMARY = (
    "Two checkpoints under the same conditions: every stored number with the interval of its difference, and one image under "
    "one mask through both models on one colour scale. "
    "The numbers are those of the probes' own pages. Whether high or low is better, and why, is lcmae's own table; for most "
    "numbers neither is."
)
TERMS = ("standard error", "masking ratio", "error", "receptive field")
ALL = "all probes"
MOST_ROWS = 16
"""Differences that are drawn unasked."""


def show(page: Page, picked: picks.Picks) -> None:
    """Pick A and B, then stored numbers, then the live part."""
    heading(page.title, SUMMARY, TERMS)
    names = models.names(picked)
    if not names:
        ask_for_runs(picked)
        return
    chosen, notices = selection.fit_checkpoints(selection.follow_address(), names, partial(steps_of, picked))
    selection.settle(chosen, notices)
    name_a = chosen.a or names[0]
    name_b = chosen.b or next((name for name in names if name != name_a), name_a)
    left, right = st.columns(2, gap="medium")
    with left:
        ask(picked, names, "a", name_a, chosen.a_step)
    with right:
        ask(picked, names, "b", name_b, chosen.b_step)
    try:
        a, b = models.locate(picked, name_a, chosen.a_step), models.locate(picked, name_b, chosen.b_step)
    except InputError as error:
        st.info(f"{plain(error)}. Choose another checkpoint above.", icon=":material/hourglass_empty:")
        return
    if (a.path, a.step) == (b.path, b.step):
        st.info("A and B are the same checkpoint: choose another run or another step for B.", icon=":material/rule:")
        return
    st.header("Stored numbers")
    stored_numbers(picked, a, b)
    st.header("One image through both")
    if st.toggle(
        "Load both models",
        key="live",
        bind="query-params",
        help="Takes half a minute the first time on a small machine (torch), then a moment.",
    ):
        bench(a, b)


def ask(picked: picks.Picks, names: list[str], letter: str, name: str, step: int | None) -> None:
    """A checkpoint and its step."""
    with st.container(horizontal=True):
        brief = names_in_list(names, picked.names)
        st.selectbox(
            f"Checkpoint {letter.upper()}", names, **tied(letter, name), width=280, format_func=lambda one: brief[one]
        )
        if steps := steps_of(picked, name):
            shown = picks.NEWEST if step is None else str(step)
            st.selectbox(
                f"Step of {letter.upper()}",
                [picks.NEWEST, *map(str, reversed(steps))],
                **tied(f"{letter}_step", shown, lambda text: None if text == picks.NEWEST else int(text)),
                help="`newest` is the step picked in the bar above if this run has it, otherwise its newest.",
                width=130,
            )


def stored_numbers(picked: picks.Picks, a: models.Location, b: models.Location) -> None:
    """The table of differences, its picture, and all picked runs beside each other."""
    of_a, of_b = results_of(a, "A", b), results_of(b, "B", a)
    both = [probe for probe in of_a if probe in of_b]
    if not both:
        describe_missing(a, b, of_a, of_b)
        return
    if unlike := not_alike({probe: (of_a[probe], of_b[probe]) for probe in both}):
        st.warning(
            f"Not only the models differ, but also how these were measured: {plain(unlike, 4000)}. Such numbers are never paired.",
            icon=":material/rule:",
        )
    whole = pd.concat(
        [_differences(*_stamped(a, probe, b), *_stamped(b, probe, a)) for probe in both], ignore_index=True
    )
    if whole.empty:
        st.info("The two have no number in common.", icon=":material/rule:")
        return
    probes = {ALL: ALL, **{TITLES[probe]: probe for probe in dict.fromkeys(whole["probe"])}}
    probe = probes[choose("numbers of", list(probes), former=TITLES)]
    frame = whole if probe == ALL else whole.loc[whole["probe"] == probe]
    answer(figures.answer(frame, (a.label, b.label)), "compare")
    st.markdown(tally(frame))
    chosen = usual(frame)
    if chosen:
        draw(
            Panel(
                "What differs",
                "B minus A with 95 % intervals; triangles in the colour of the better one (to the left: A, to the right: B), "
                "diamonds differ but neither is better, open circles cannot be told apart. Paired intervals are by groups of "
                "the same images; the table says which are.",
                figures.differences(frame, chosen, (a.name, b.name)),
                is_wide=True,
            ),
            "compare-differences",
        )
    st.subheader("Every number")
    st.caption(f"A is {plain(a.label)}; B is {plain(b.label)}.")
    st.dataframe(
        cells(frame.assign(probe=[TITLES[name] for name in frame["probe"]])),
        hide_index=True,
        placeholder=export.NOTHING,
        column_config=columns(),
    )
    export.table_files(frame, "compare")
    with st.expander("Which direction is better, and why", icon=":material/menu_book:"):
        st.caption("Numbers that are not listed have no better direction: they describe, or are baselines.")
        reasons = [(name, direction, reason) for name, (direction, reason) in BETTER.items()]
        st.dataframe(
            pd.DataFrame(reasons, columns=["number", "better", "because"]), hide_index=True, placeholder=export.NOTHING
        )
    if probe != ALL:
        all_runs(picked, probe, frame)
    if set(of_a) != set(of_b):
        with st.expander("Not computed for both"):
            describe_missing(a, b, of_a, of_b)


def not_alike(results: Mapping[str, tuple[xr.Dataset, xr.Dataset]]) -> str:
    """What the results of A and B do not share, and the probes of which that is true; nothing where
    all were measured alike."""
    found: dict[str, list[str]] = {}
    for probe, (a, b) in results.items():
        if words := ", ".join(contrasts(Condition.of(a.attrs), Condition.of(b.attrs))):
            found.setdefault(words, []).append(TITLES[probe])
    return "; ".join(f"{', '.join(titles)}: {words}" for words, titles in found.items())


def tally(frame: pd.DataFrame) -> str:
    """How many numbers speak for whom, and how many would by chance."""
    decided = frame.loc[(frame["better"] != "neither") & ~frame["says"].isin(["", "equal"])]
    count = Counter(decided["says"])
    paired = int(frame["interval"].str.startswith("paired").sum())
    if decided.empty:
        return f"{paired} of {len(frame)} differences are paired over images."
    return (
        f"Of {len(decided)} numbers with a better direction, A is better in {count['A better']}, B in {count['B better']}, and "
        f"{count['not told apart']} cannot be told apart; at 95 % each, about one in twenty would stand out by chance, and "
        f"numbers of one probe are correlated. {paired} of {len(frame)} differences are paired over images."
    )


def usual(frame: pd.DataFrame) -> list[str]:
    """Quantities that are drawn, a few of them: those in which one is better first, then others
    with a better end, then those that only differ."""
    known = frame.loc[frame["low"].notna() & (frame["says"] != "equal")]
    is_decided = known["quantity"].isin(known.loc[known["says"].isin(["A better", "B better"]), "quantity"])
    is_neither = known["better"] == "neither"
    known = pd.concat(
        [known.loc[is_decided], known.loc[~is_decided & ~is_neither], known.loc[~is_decided & is_neither]]
    )
    chosen, rows = [], 0
    for quantity, group in known.groupby("quantity", sort=False):
        if rows + len(group) <= MOST_ROWS:
            chosen.append(str(quantity))
            rows += len(group)
    return chosen


def columns() -> dict:
    """Numbers with four digits; words of the headings."""
    number = st.column_config.NumberColumn(format="%.4g")
    names = ("A", "A low", "A high", "B", "B low", "B high", "B - A", "low", "high")
    return {
        **dict.fromkeys(names, number),
        "part": None,  # as it is stored: in the files
        "interval": st.column_config.TextColumn("interval", help="paired over images; apart: from the two intervals"),
        "better": st.column_config.TextColumn("better", help="which direction is better; the table below says why"),
        "says": st.column_config.TextColumn("says", help="what the 95 % interval of the difference says"),
    }


def all_runs(picked: picks.Picks, probe: str, frame: pd.DataFrame) -> None:
    """The probe's numbers of every picked run."""
    found = picks.find(picked, probe)
    if len(found.results) < 2:
        return
    (condition, results), *others = measured.groups(found.results)
    if others:
        left_out = ", ".join(name for _, group in others for name in group)
        st.caption(prose(f"Measured on {condition}; left out, because measured under other conditions: {left_out}."))
    numbers = tables.scalars(results, in_words=True)
    options = list(dict.fromkeys(numbers["quantity"]))
    default = [name for name in usual(frame) if name in options] or options[:1]
    key = f"compare_{probe}"
    if not set(st.session_state.get(key, [])) <= set(options):
        del st.session_state[key]
    st.subheader("All picked runs")
    quantities = st.multiselect("Quantities", options, default=default, key=key, bind="query-params")
    if quantities:
        steps = ", ".join(f"{name}: {step}" for name, step in found.steps.items())
        draw(
            Panel(
                f"{TITLES[probe]}: all picked runs",
                f"Dots with 95 % intervals, of the newest stored step or the bar's above ({steps}).",
                figures.of_runs(numbers, quantities, list(results)),
                is_wide=True,
            ),
            f"compare-runs-{probe}",
        )
    export.table(numbers, f"compare-runs-{probe}", column_config=number_format())


def shared_condition(a: models.Location, b: models.Location, probe: str) -> Condition | None:
    """The newest condition under which a probe was measured at both; None where there is none."""
    known = []
    for one in (a, b):
        if one.run is None or one.step is None:
            return None
        known.append(reading.conditions_at(one.run, one.step, probe))
    return next((condition for condition in measured.offered(known) if all(condition in one for one in known)), None)


def results_of(location: models.Location, letter: str, other: models.Location) -> dict[str, xr.Dataset]:
    """Stored results of exactly this step, by probe, under the condition that the other one has,
    too, where there is one; a torn file is named."""
    found: dict[str, xr.Dataset] = {}
    if location.run is None or location.step is None:
        return found
    for known in PAGES:
        if known.is_probe and location.step in reading.result_steps(location.run, known.name):
            try:
                condition = shared_condition(location, other, known.name)
                found[known.name] = reading.result_of(location.run, location.step, known.name, condition)
            except InputError as error:
                st.info(
                    f"{letter}, {plain(location.label)}: {plain(error)}. Compute it again with",
                    icon=":material/terminal:",
                )
                to_copy(reading.probe_command(known.name, location.run, location.step), key=f"{letter}-{known.name}")
    return found


def describe_missing(
    a: models.Location, b: models.Location, of_a: Mapping[str, xr.Dataset], of_b: Mapping[str, xr.Dataset]
) -> None:
    """What only one of them has, or neither, and the commands."""
    for letter, location, own, other in (("A", a, of_a, of_b), ("B", b, of_b, of_a)):
        if location.run is None:
            st.info(
                f"{letter} is a file: results are stored with runs. `lcmae import` makes a run of it.",
                icon=":material/terminal:",
            )
            continue
        missing = [probe for probe in other if probe not in own] or ([] if own else ["all"])
        if missing:
            command = reading.probe_command(" ".join(missing), location.run, location.step)
            compute_button.offer(f"Not everything is stored for {letter}. This computes what is missing:", command)


def _stamped(
    location: models.Location, probe: str, other: models.Location
) -> tuple[models.Location, str, reading.Stamp]:
    assert location.run is not None
    assert location.step is not None
    condition = shared_condition(location, other, probe)
    return location, probe, reading.stamp(reading.result_path(location.run, location.step, probe, condition))


@lru_cache(maxsize=512)
def _differences(
    a: models.Location, probe: str, _: reading.Stamp, b: models.Location, __: str, ___: reading.Stamp
) -> pd.DataFrame:
    assert a.run is not None
    assert b.run is not None
    results = (
        reading.result_of(location.run, location.step, probe, shared_condition(a, b, probe))
        for location in (a, b)
        if location.run and location.step is not None
    )
    return differences(probe, *results)
