"""Races of masks and advice on one's own images: started from a page as commands of a terminal,
followed, and read."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from lcmae.app.dashboard.components import compute_button, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.export import DOWNLOAD
from lcmae.app.dashboard.components.plain import as_code, plain
from lcmae.app.dashboard.components.probe_page import choose
from lcmae.app.dashboard.jobs.queue import Job, server_queue
from lcmae.app.dashboard.stored import race_plans, reading
from lcmae.app.figures.answers import Answer
from lcmae.errors import InputError
from lcmae.probes.results.words import called
from lcmae.progress import clock
from lcmae.safety.files import is_regular, read_regular
from lcmae.safety.text import printable

EVERY = "1s"
MOST = 1 << 26
"""Bytes of a page."""

READ = {"compare": "see its answer above, under Comparison", "advise": "see above, under Advice"}
"""Where what a command found is read, on the same page."""

RATIOS = (0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
FIRST = ("random", "block", "grid")
"""Masks that race unasked."""


def sources(picked: picks.Picks) -> list[str]:
    """Images that can be raced on: the owner's, what runs were trained on, and those that come with
    lcmae. A path comes from the owner's command or from a run, never from an address."""
    own = []
    for path in picked.runs.values():
        try:
            data = reading.config_of(path).get("data")
        except InputError:
            continue
        if isinstance(data, str) and data.isprintable() and data:
            own.append(data)
    return list(dict.fromkeys([*picks.data_sources(), "digits", *own]))


def ask(picked: picks.Picks, masks: Sequence[str]) -> None:
    """What to race, what to advise on, and the jobs of both."""
    race, advice = st.columns(2, gap="large")
    with race, st.container(border=True):
        st.subheader("Start a race", anchor=False)
        ask_race(picked, masks)
    with advice, st.container(border=True):
        st.subheader("Ask for advice", anchor=False)
        ask_advice(picked)
    jobs = jobs_below(picked.root)
    if jobs:
        num_active = sum(job.is_active for job in jobs)
        st.fragment(follow, run_every=EVERY if num_active else None)(picked.root, num_active)


def ask_race(picked: picks.Picks, masks: Sequence[str]) -> None:
    """The grid, and the button."""
    first = [one for one in FIRST if one in masks]
    chosen = st.multiselect("Masks", masks, first, key="race_masks", format_func=called)
    ratios = st.multiselect("Ratios", RATIOS, [0.5, 0.75], key="race_ratios")
    with st.container(horizontal=True):
        data = st.selectbox("Images", sources(picked), key="race_data")
        epochs = st.number_input("Epochs of a full run", 1, 1000, 24, key="race_epochs")
        images = st.number_input("Images at most", 100, None, None, key="race_images", placeholder="all")
    try:
        plan = race_plans.race(picked.root, chosen, ratios, data, epochs, images)
    except InputError as error:
        st.caption(f":material/block: {plain(error)}.")
        return
    label = "Start the race" if "--race" in plan.words else "Start the comparison"
    start(label, plan, race_plans.effort(chosen, ratios, epochs))


def ask_advice(picked: picks.Picks) -> None:
    """The images and the time, and the button."""
    st.caption(
        "Statistics of the images themselves; where they have classes, a race of small networks within the time. It says what "
        "it does not know."
    )
    with st.container(horizontal=True):
        data = st.selectbox("Images", sources(picked), key="advice_data")
        minutes = st.number_input("Minutes", 1, 600, 30, key="advice_minutes")
        images = st.number_input("Images at most", 20, 4000, None, key="advice_images", placeholder="all")
    plan = race_plans.advice(picked.root, data, minutes, images)
    start("Ask for advice", plan, f"at most {minutes} min")


def start(label: str, plan: race_plans.Plan, cost: str) -> None:
    """The button with what it costs, and the command that it is."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            label,
            key=f"start-{plan.words[0]}",
            icon=":material/play_arrow:",
            on_click=partial(_submit, plan),
            type="primary",
        )
        st.caption(plain(cost))
    to_copy(plan.line, key=f"race-{plan.words[0]}")


def _submit(plan: race_plans.Plan) -> None:
    try:
        server_queue().submit(plan.words, plan.folder)
    except InputError as error:
        st.toast(plain(error), icon=":material/error:")


def jobs_below(root: Path) -> list[Job]:
    """Races and advice that this server was asked for, the newest first."""
    found = [job for job in server_queue().known() if job.arguments[0] in ("compare", "advise")]
    return [job for job in reversed(found) if job.folder is not None and job.folder.parent == root.absolute()]


def follow(root: Path, num_before: int) -> None:
    """How far each is; the whole page is drawn anew when one has ended, or another has begun."""
    jobs = jobs_below(root)
    if num_before != sum(job.is_active for job in jobs):
        st.rerun()
    for job in jobs[:4]:
        name = plain(f"{what_of(job).capitalize()} in the folder {job.folder.name if job.folder else ''}")
        if not job.is_active:
            icon = {"done": ":material/check:", "cancelled": ":material/block:"}.get(job.state, ":material/error:")
            took = "" if job.seconds is None else f", {clock(job.seconds)}"
            where = f"; {READ[job.arguments[0]]}" if job.state == "done" else ""
            st.caption(f"{icon} {name}: {job.state}{took}{f': {plain(job.error)}' if job.error else ''}{where}")
            continue
        bar, stop = st.columns([4, 1], vertical_alignment="center")
        share = 0.0 if job.progress is None else job.progress.share
        bar.progress(share, text=f"{name}: {plain(describe(job))}")
        stop.button(
            "Cancel", key=printable(f"cancel-{job.folder}", 1000), disabled=job.state == "stopping",
            icon=":material/stop:", on_click=server_queue().cancel, args=(job,),
        )  # fmt: skip


def what_of(job: Job) -> str:
    """Its name in a sentence."""
    return "advice" if job.arguments[0] == "advise" else "race" if "--race" in job.arguments else "comparison"


def describe(job: Job) -> str:
    """How far it is, in words."""
    if job.state == "running" and job.progress is None:
        return "starting: torch is loaded, and the first runs train"
    return "waiting for what was started before it" if job.state == "waiting" else compute_button.describe(job)


def read_advice(root: Path) -> None:
    """The advice that lies below the root."""
    found = race_plans.advice_below(root)
    if not found:
        return
    st.header("Advice")
    one = found[choose("advice", list(found), key="advice")]
    answer(Answer(one.headline), "advice")
    reasons, unknown = st.columns(2, gap="medium")
    with reasons:
        st.markdown("**Why**")
        st.markdown("\n".join(f"- {plain(line, 1000)}" for line in one.reasons) or "No reason is stored.")
        if one.alternatives:
            st.caption(f"Cannot be told apart from it: {plain(', '.join(one.alternatives), 1000)}.")
    with unknown:
        st.markdown("**What is not known**")
        st.markdown("\n".join(f"- {plain(line, 1000)}" for line in one.unknown) or "Nothing is named.")
    if one.command:
        to_copy(one.command, key="advice-command", caption="The recommended training:")
    if is_regular(one.page):
        st.download_button(
            "The page with its figures", partial(read_regular, one.page, MOST), one.page.name, "text/html",
            key="advice-page", **DOWNLOAD,
        )  # fmt: skip
    st.caption(f"In {as_code(printable(one.file.parent, 1000))}.")
