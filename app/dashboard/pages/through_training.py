"""Stored results along the steps of runs: a scrubber over the figures of every probe, and its
numbers against the step."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import compute_button, compute_images, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.plain import plain, prose
from lcmae.app.dashboard.components.probe_page import (
    ask_condition,
    ask_for_runs,
    briefly,
    choose,
    draw,
    heading,
    in_rows,
)
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.page import Panel, ProbePage
from lcmae.app.dashboard.pages import TITLES
from lcmae.app.dashboard.stored import measured, reading
from lcmae.app.figures import limits
from lcmae.app.figures import through_training as figures
from lcmae.app.figures.baselines import LABELS, legend
from lcmae.errors import InputError
from lcmae.probes.results.conditions import Condition

SUMMARY = (
    "What probes have stored at each checkpoint of the picked runs: numbers against the step, and the figures of the probe's "
    "own page at the step of the slider. "
    "Axes and colour scales are the same for all steps, so only the model changes under the slider; definitions are those of "
    "the probe's page."
)
TERMS = ("standard error",)
WHEN = (
    "The step at which each number first made half of its change from the first stored step to the last, earliest on top "
    "(lcmae's own definition, docs/probes.md). Intervals: the same crossing with each value varied within its error. Left "
    "out: numbers without an error, and those whose change is within theirs."
)


@dataclass(frozen=True)
class Moment:
    """One stored result; `stamp` changes when the file does, so a moment can be the key of a
    cache."""

    run: str
    path: Path
    step: int
    probe: str
    stamp: reading.Stamp
    condition: Condition | None = None
    """Which of several results of the step it is; None for the newest."""

    def result(self) -> xr.Dataset:
        """The result; `InputError` for a torn file."""
        return reading.result_of(self.path, self.step, self.probe, self.condition)


@dataclass(frozen=True)
class Summary:
    """What stays in memory of a result: its numbers, and the condition under which they were
    measured."""

    numbers: pd.DataFrame
    condition: Condition


@lru_cache(maxsize=4096)
def summary(moment: Moment) -> Summary:
    """The numbers of one result, computed once for each file."""
    result = moment.result()
    numbers = figures.numbers({(moment.run, moment.step): result})
    return Summary(numbers, Condition.of(result.attrs))


def show(page: Page, picked: picks.Picks) -> None:
    """Pick a probe, and of several conditions one; its numbers and figures follow the slider."""
    heading(page.title, SUMMARY, TERMS)
    if not ask_for_runs(picked):
        return
    probes = {title: name for name, title in TITLES.items() if _has_results(picked, name)}
    if not probes:
        images = compute_images.ask(picked)
        for name, path in picked.paths.items():
            sentence = f"No probe has been stored for {name}. This computes every probe at every step:"
            compute_button.offer(sentence, images.of(reading.every_step_command(path)))
        return
    with picked.bar or nullcontext():  # beside runs and condition: height belongs to the figures
        probe = probes[choose("probe", list(probes), former=TITLES)]
    moments = whole_moments(picked, probe, ask_condition(picked, probe))
    if moments:
        st.fragment(scrub)(probe, moments)
    describe_missing(picked, probe, moments)


def _has_results(picked: picks.Picks, probe: str) -> bool:
    return any(reading.result_steps(path, probe) for path in picked.paths.values())


def whole_moments(picked: picks.Picks, probe: str, condition: Condition | None = None) -> list[Moment]:
    """Every result that reads, by run, then by step: of each step the one under this condition (by
    default the one that most runs have), else its newest. A torn one is named with the command that
    computes it again."""
    found = []
    known = [measured.conditions_of(path, probe, reading.result_steps(path, probe)) for path in picked.paths.values()]
    wanted = condition or next(iter(measured.offered(known)), None)
    for run, path in picked.paths.items():
        for step in reading.result_steps(path, probe):
            stamp = reading.stamp(reading.result_path(path, step, probe, wanted))
            moment = Moment(run, path, step, probe, stamp, wanted)
            try:
                moment.result()  # a file may have been found unfit since it was summed up
                summary(moment)
                found.append(moment)
            except InputError as error:
                st.info(f"{plain(run)}, step {step}: {plain(error)}. Compute it again with", icon=":material/terminal:")
                to_copy(reading.probe_command(probe, path, step), key=f"torn-{run}-{step}-{probe}")
    return found


def describe_missing(picked: picks.Picks, probe: str, moments: Sequence[Moment]) -> None:
    """Checkpoints that have no result, and the command that computes them as the others were
    computed."""
    offers = []
    for run, path in picked.paths.items():
        own = [moment for moment in moments if moment.run == run]
        own = [moment for moment in own if condition_of(moment) == moment.condition] or own
        missing = sorted(set(reading.steps_of(path)) - {moment.step for moment in own})
        if missing:
            first = ", ".join(map(str, missing[:6])) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
            sentence = f"{run} has no result of {TITLES[probe]} at step {first}. This computes it; what is stored stays as it is:"
            offers.append((sentence, reading.every_step_command(path, own[-1].result() if own else None)))
    if offers:
        with st.expander(f"Steps without a result: {len(offers)} of the picked runs", icon=":material/terminal:"):
            for sentence, command in offers:
                compute_button.offer(sentence, command, is_note=True)


def condition_of(moment: Moment) -> Condition:
    """The condition that results of other steps and runs can share with this one."""
    return summary(moment).condition.apart_from_checkpoint


def alike(moments: Sequence[Moment]) -> list[tuple[Condition, list[Moment]]]:
    """Moments that were measured alike: those of the condition that was chosen first, then the
    larger groups."""
    found: dict[Condition, list[Moment]] = {}
    for moment in moments:
        found.setdefault(condition_of(moment), []).append(moment)
    wanted = moments[0].condition
    return sorted(found.items(), key=lambda group: (group[0] != wanted, -len(group[1])))


def scrub(probe: str, moments: Sequence[Moment]) -> None:
    """Slider, and a part for each condition; a fragment, so that only this is run again when the
    slider moves."""
    steps = sorted({moment.step for moment in moments})
    left, right = st.columns([2, 3], gap="medium")
    with left:
        at = ask_step(steps)
    groups = alike(moments)
    for group, (condition, own) in enumerate(groups):
        here = at_step(own, at)
        results = {moment.run: moment.result() for moment in here}
        if group:
            st.header(plain(f"Measured under other conditions: {_by_steps(own)}"))
        words = measured.words(condition, (other for other, _ in groups), results, [])
        st.caption(f":material/rule: {prose(words)}")
        draw_group(probe, own, steps, at, group, nullcontext() if group else right)


def _by_steps(moments: Sequence[Moment]) -> str:
    """`a at 20, 40; b at 20`: runs with the steps at which they were measured so."""
    runs = dict.fromkeys(moment.run for moment in moments)
    at = {run: [str(moment.step) for moment in moments if moment.run == run] for run in runs}
    return "; ".join(
        f"{run} at {', '.join(own[:6])}{f' and {len(own) - 6} more' if len(own) > 6 else ''}" for run, own in at.items()
    )


def draw_group(
    probe: str, moments: Sequence[Moment], steps: Sequence[int], at: int, group: int, beside: AbstractContextManager
) -> None:
    """Numbers and figures of results that were measured alike, at one step; which numbers is asked
    `beside` the slider."""
    key = f"through-{probe}" + (f"-{group}" if group else "")
    here = at_step(moments, at)
    apart = [f"{moment.run} at {moment.step}" for moment in here if moment.step != at]
    if apart:
        st.caption(
            f"Not stored at step {at}; shown at the step before it, or at their first: {', '.join(map(plain, apart))}."
        )

    content: ProbePage = import_module(f"lcmae.app.dashboard.pages.{probe}").PAGE
    answer(content.answer(briefly({moment.run: moment.result() for moment in here})), key)
    frame = pd.concat([summary(moment).numbers for moment in moments], ignore_index=True)
    with beside:
        quantities = ask_quantities(probe, frame, group)
    if quantities:
        runs = list(dict.fromkeys(moment.run for moment in moments))
        chart = figures.against_steps(frame, quantities, runs=runs, at=at if len(steps) > 1 else None)
        caption = "With 95 % intervals where an error is stored; the dotted line is the slider's step."
        kinds = [kind for kind in LABELS if kind in set(frame["beside"])]
        caption += f" {legend(kinds)}." if kinds else ""
        more = len(figures.panels(frame, quantities)) - figures.MOST_PANELS
        if more > 0:
            caption += f" The first {figures.MOST_PANELS} panels; choose fewer quantities for the other {more}."
        draw(Panel("Numbers against the step", caption, chart), f"{key}-numbers")

    answers: dict[str, Any] = {}

    def ask(question: str, options: Sequence[Any]) -> Any:
        answers[question] = choose(question, options, group=group)
        return answers[question]

    # each figure gets its place under its own questions; ranges are known once every question is
    # answered
    drawn = list(in_rows(content.panels({moment.run: moment.result() for moment in here}, ask)))
    shared = shared_ranges(probe, [at_step(moments, step) for step in steps], answers)
    for number, (name, (one, area)) in enumerate(zip(_keyed(one for one, _ in drawn), drawn, strict=True)):
        limits.hold(one.figure, shared.get(name, {}))
        with area:
            draw(one, f"{key}-{number}", content.summary)
    draw_halves(frame, moments, key)


def draw_halves(frame: pd.DataFrame, moments: Sequence[Moment], key: str) -> None:
    """In what order numbers changed, where there are more than two steps to tell it by."""
    if len({moment.step for moment in moments}) > 2:
        halves = figures.half_changes(frame, runs=list(dict.fromkeys(moment.run for moment in moments)))
        if halves is not None:
            draw(Panel("When half of the change was made", WHEN, halves), f"{key}-when")


def ask_step(steps: Sequence[int]) -> int:
    """The slider, kept in the address bar (?at=240); arrow keys move it. The newest step to begin
    with."""
    wanted = st.query_params.get("at")
    if wanted and wanted not in map(str, steps):
        st.warning(f"No longer here: step {plain(wanted)}. Shown at step {steps[-1]}.", icon=":material/link_off:")
        st.session_state.pop("at", None)
        del st.query_params["at"]
    if st.session_state.get("at", steps[-1]) not in steps:
        del st.session_state["at"]
    if len(steps) == 1:
        st.caption(f"There is one stored step, {steps[0]}; the slider comes with the second.")
        return steps[0]
    return st.select_slider(
        "Step",
        steps,
        value=steps[-1],
        key="at",
        bind="query-params",
        help="Optimiser steps that have a stored result of this probe. Arrow keys move the slider, too.",
    )


def ask_quantities(probe: str, frame: pd.DataFrame, group: int = 0) -> list[str]:
    """Which numbers are drawn; the address bar remembers."""
    options = list(dict.fromkeys(frame["quantity"]))
    if not options:
        st.caption("This probe stores curves and maps only.")
        return []
    key = f"numbers_{probe}" + (f"_{group}" if group else "")
    if not set(st.session_state.get(key, [])) <= set(options):
        del st.session_state[key]
    return st.multiselect("Quantities", options, default=figures.usual(frame), key=key, bind="query-params")


def at_step(moments: Sequence[Moment], step: int) -> tuple[Moment, ...]:
    """Of each run the newest result that is no newer than `step`, or its first: all runs at all
    steps keep their colours."""
    shown: dict[str, Moment] = {}
    for moment in moments:
        if moment.run not in shown or moment.step <= step:
            shown[moment.run] = moment
    return tuple(shown.values())


def shared_ranges(
    probe: str, states: Sequence[tuple[Moment, ...]], answers: Mapping[str, Any]
) -> dict[tuple[str, int], limits.Ranges]:
    """Ranges of each figure over all steps; what takes long is drawn once, with its progress."""
    area, begin = st.empty(), time.monotonic()
    found = []
    for done, state in enumerate(states):
        found.append(_ranges(probe, state, tuple(answers.items())))
        spent = time.monotonic() - begin
        if spent > 1:
            left = spent / (done + 1) * (len(states) - done - 1)
            area.progress((done + 1) / len(states), f"one scale for all steps: {left:.0f} s left")
    area.empty()
    keys = dict.fromkeys(key for one in found for key in one)
    return {key: limits.union(one[key] for one in found if key in one) for key in keys}


@lru_cache(maxsize=4096)
def _ranges(
    probe: str, state: tuple[Moment, ...], answers: tuple[tuple[str, Any], ...]
) -> dict[tuple[str, int], limits.Ranges]:
    known = dict(answers)

    def again(question: str, options: Sequence[Any]) -> Any:
        return known[question] if known.get(question) in options else options[0]

    shown = import_module(f"lcmae.app.dashboard.pages.{probe}").PAGE.panels(
        {moment.run: moment.result() for moment in state}, again
    )
    return {key: limits.ranges(one.figure) for key, one in _keyed(shown).items()}


def _keyed(shown: Iterable[Panel]) -> dict[tuple[str, int], Panel]:
    """Figures by their title, and by their turn among those of the same title."""
    keyed: dict[tuple[str, int], Panel] = {}
    for one in shown:
        turn = sum(title == one.title for title, _ in keyed)
        keyed[one.title, turn] = one
    return keyed
