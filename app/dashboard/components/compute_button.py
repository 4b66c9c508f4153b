"""What is missing, in a sentence with its command, and a button that computes it: started here,
seen by every session."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.plain import as_code, plain, prose
from lcmae.app.dashboard.jobs.queue import Arguments, Job, server_queue
from lcmae.app.dashboard.stored import costs, reading
from lcmae.errors import InputError
from lcmae.progress import clock
from lcmae.safety.text import printable

EVERY = "1s"
"""How often a page looks at its jobs."""


def offer(sentence: str, command: str, *, is_note: bool = False) -> None:
    """The sentence, the command, and the button; while it is computed, progress in the button's
    place."""
    if is_note:
        st.caption(prose(sentence))
    else:
        st.info(prose(sentence), icon=":material/terminal:")
    to_copy(command)
    arguments = tuple(shlex.split(command)[1:])
    if not reading.steps_of(run_of(arguments)):
        return  # nothing to compute it from yet
    job = server_queue().find(arguments)
    is_active = job is not None and job.is_active
    st.fragment(button, run_every=EVERY if is_active else None)(arguments, is_active)


def offer_all(commands: Sequence[str]) -> None:
    """One button for several commands."""
    arguments = [tuple(shlex.split(command)[1:]) for command in commands]
    queue = server_queue()
    missing = [
        one for one in arguments
        if reading.steps_of(run_of(one)) and ((job := queue.find(one)) is None or not job.is_active)
    ]  # fmt: skip
    if len(missing) > 1:
        label, icon = f"Compute all {len(missing)} now", ":material/play_arrow:"
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.button(
                label, key=printable(f"compute-all-{missing[0]}", 10_000), icon=icon, on_click=_submit, args=(missing,)
            )
            if cost := cost_of_all(missing):
                st.caption(cost)


def button(arguments: Arguments, was_active: bool) -> None:
    """Starts the command, or shows how far it is. When it has begun or ended the whole page is
    drawn anew."""
    queue = server_queue()
    job = queue.find(arguments)
    if was_active != (job is not None and job.is_active):
        st.rerun()
    key = printable("-".join(arguments), 10_000)
    if job is None or not job.is_active:
        if job is not None and job.state == "failed":
            st.error(f"It could not be computed: {plain(job.error)}.", icon=":material/error:")
        elif job is not None and job.state == "cancelled":
            st.caption("It was cancelled; nothing was written.")
        icon = ":material/play_arrow:"
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.button("Compute now", key=f"compute-{key}", icon=icon, on_click=_submit, args=([arguments],))
            if cost := cost_of(arguments):
                st.caption(cost)
        return
    message, stop = st.columns([4, 1], vertical_alignment="center")
    if job.state == "waiting":
        before = sum(one.asked < job.asked for one in queue.active())
        message.caption(f":material/hourglass_empty: waiting for {before} before it")
    else:
        message.progress(0.0 if job.progress is None else job.progress.share, text=plain(describe(job)))
    is_stopping, icon = job.state == "stopping", ":material/stop:"
    stop.button("Cancel", key=f"cancel-{key}", disabled=is_stopping, icon=icon, on_click=queue.cancel, args=(job,))


def cost_of(arguments: Arguments) -> str:
    """About how long it will take, in words; nothing where that is not known."""
    run = run_of(arguments)
    try:
        return costs.words(arguments, reading.config_of(run), len(reading.steps_of(run)))
    except InputError:
        return ""  # the run's own line says why


def cost_of_all(commands: Sequence[Arguments]) -> str:
    """The same of several commands."""
    known: list[tuple[Arguments, dict[str, Any], int]] = []
    for arguments in commands:
        run = run_of(arguments)
        try:
            known.append((arguments, reading.config_of(run), len(reading.steps_of(run))))
        except InputError:
            known.append((arguments, {}, 1))  # the run's own line says why
    return costs.words_of_all(known)


def describe(job: Job) -> str:
    """How far a job is, in words: "probing: 128 of 500, 0:12 left"."""
    if job.state == "stopping":
        return "stopping"
    if job.progress is None:
        return "starting: torch is loaded, and the checkpoint"
    now = job.progress
    left = f", {clock(now.seconds_left)} left" if now.done < now.total else ""
    return f"{now.label}: {now.done} of {now.total}{left}"


def running() -> None:
    """A line in the side bar, on every page, while anything is computed."""
    if server_queue().active():
        with st.sidebar:
            st.fragment(_running, run_every=EVERY)()


def _running() -> None:
    active = server_queue().active()
    if not active:
        st.rerun()  # the line goes, and what was computed may be on this page
    waiting = sum(job.state == "waiting" for job in active)
    more = f"; {waiting} waiting" if waiting else ""
    first = active[0]
    st.caption(
        f":material/sync: computing {as_code(printable(' '.join(first.arguments[:2])))}: {plain(describe(first))}{more}"
    )


def run_of(arguments: Arguments) -> Path:
    """The run that a command of ours probes; it names the run, or one of its steps."""
    checkpoint = Path(arguments[arguments.index("--checkpoint") + 1])
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint


def _submit(commands: Sequence[Arguments]) -> None:
    try:
        for arguments in commands:
            server_queue().submit(arguments, run_of(arguments) / "probes")
    except InputError as error:
        st.toast(plain(error), icon=":material/error:")
