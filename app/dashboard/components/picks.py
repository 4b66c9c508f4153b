"""Which runs and which checkpoint are looked at. Both live in the address bar
(?runs=a&runs=b&step=240), on every page."""

import itertools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st
import xarray as xr
from streamlit.delta_generator import DeltaGenerator

from lcmae.app.dashboard.components import top_bar
from lcmae.app.dashboard.components.plain import as_code, plain
from lcmae.app.dashboard.stored import applies, measured, reading
from lcmae.app.figures import style
from lcmae.app.figures.answers import MOST_NAMES, listed
from lcmae.errors import InputError
from lcmae.probes.results.conditions import Condition
from lcmae.safety.text import printable

NEWEST = "newest"

FIELD = "runs-field"
"""In the session: what the popover of the bar has picked."""


def runs_root() -> Path:
    """The folder whose runs are shown: `--runs DIR` of the server's script, or LCMAE_RUNS, or runs/
    here."""
    arguments = sys.argv[1:]
    if "--runs" in arguments[:-1]:
        return Path(arguments[arguments.index("--runs") + 1])
    return Path(os.environ.get("LCMAE_RUNS", "runs"))


def data_sources() -> list[str]:
    """Images of the server's owner (`--data`). As with adapters, no address can add one."""
    return [value for option, value in itertools.pairwise(sys.argv[1:]) if option == "--data"]


def adapters() -> dict[str, str]:
    """Models of the server's owner, FILE.py:FUNCTION by the names that pages show. They come from
    the command that started the server, and from nowhere else."""
    arguments = sys.argv[1:]
    given = [value for option, value in itertools.pairwise(arguments) if option == "--adapter"]
    return {f"adapter {os.path.basename(value)}": value for value in given}


@dataclass(frozen=True)
class Picks:
    """What the person has picked, out of what there is."""

    root: Path
    runs: dict[str, Path]
    """Every run there is, by name."""

    names: list[str]
    """Names of the picked runs."""

    step: int | None
    """The picked step; None is the newest one that has what a page shows."""

    bar: DeltaGenerator | None = None
    """Where the bar asks for data and condition, if the page has any to choose from."""

    @property
    def where(self) -> str:
        """The root, for messages."""
        return as_code(printable(self.root, 1000))

    @property
    def paths(self) -> dict[str, Path]:
        """The picked runs by name."""
        return {name: self.runs[name] for name in self.names}


def ask() -> Picks:
    """The bar above the page: runs, step, and room for what the page asks; called once a page run,
    before the page."""
    with st.container(key="bar", gap=None):
        row = st.container(horizontal=True, vertical_alignment="center", gap="small")
        with row:
            picked, gone = _ask()
        top_bar.legend(picked.names)
        if gone:
            st.warning(f"No longer here, and left out: {'; '.join(gone)}.", icon=":material/link_off:")
    return picked


def _ask() -> tuple[Picks, list[str]]:
    """What is picked; and what of an old link is no longer there, in words."""
    root = runs_root()
    runs = reading.runs_below(root)
    style.know({name: reading.objective_of(path) for name, path in runs.items()})
    gone = _drop_stale("runs", list(runs), "run")
    picker = st.popover(_picked_words(runs), icon=":material/table_rows:")
    # hidden, but drawn: of a field in a closed popover the browser does not know the word, and
    # leaves it out where it changes the address
    with st.container(key="runs-in-address"):
        names = st.multiselect("Runs in the address", list(runs), key="runs", bind="query-params", disabled=not runs)
    st.session_state[FIELD] = names
    picker.multiselect(
        "Runs",
        list(runs),
        key=FIELD,
        on_change=_take,
        placeholder="pick runs to look at",
        help="Every page shows these runs. The pick is part of the address, so a copied link shows the same.",
        disabled=not runs,
    )
    steps = sorted({step for name in names for step in reading.steps_of(runs[name])} | _result_steps(runs, names))
    options = [NEWEST, *map(str, reversed(steps))]
    gone += _drop_stale("step", options, "step")
    st.caption("step", width="content")
    step = st.selectbox(
        "Step",
        options,
        label_visibility="collapsed",
        width=120,
        key="step",
        bind="query-params",
        help="Optimiser step. `newest` takes, for each run, the newest step that has what the page shows.",
    )
    room = st.container(horizontal=True, vertical_alignment="center", gap="small")
    return Picks(root, runs, names, None if step in (None, NEWEST) else int(step), room), gone


def _take() -> None:
    st.session_state["runs"] = st.session_state[FIELD]


def _picked_words(runs: Mapping[str, Path]) -> str:
    """What the button of the runs says: how many of those that are there are picked, as far as it
    is known by now."""
    wanted = runs.keys() & set(st.session_state.get("runs", st.query_params.get_all("runs")))
    return f"Runs ({len(wanted)})" if wanted else "Runs"


def _result_steps(runs: dict[str, Path], names: Sequence[str]) -> set[int]:
    # results outlive their checkpoints where old ones are cleared away
    return {step for name in names for step in reading.result_steps(runs[name], "*")}


def _drop_stale(key: str, options: Sequence[str], what: str) -> list[str]:
    """What of an old link, or of the last pick, is no longer there, in words if anything is;
    streamlit would drop it without any."""
    wanted = [*st.query_params.get_all(key), *_as_list(st.session_state.get(key))]
    gone = [value for value in dict.fromkeys(wanted) if value and value not in options]
    if not gone:
        return []
    if key in st.session_state:
        available = [value for value in _as_list(st.session_state[key]) if value in options]
        st.session_state[key] = available if isinstance(st.session_state[key], list) else NEWEST
    shown = ", ".join(plain(value) for value in gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
    return [f"{what} {shown}"]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


@dataclass(frozen=True)
class Found:
    """Results of one probe for the picked runs, and in words what is missing and how to get it."""

    results: dict[str, xr.Dataset]
    steps: dict[str, int]
    missing: list[tuple[str, str]]
    """(sentence, command) for each run that has nothing to show."""

    newer: list[tuple[str, str]]
    """The same for runs whose newest checkpoint has no result, while an older one is shown."""

    conditions: list[Condition]
    """Every condition that the picked runs have, those of the most runs first."""

    refused: dict[str, list[str]] = field(default_factory=dict)
    """Why the probe cannot apply, to go after a run's name, and the runs of which that is true."""

    @property
    def inapplicable(self) -> list[str]:
        """A sentence for each reason for which the probe cannot apply to runs."""
        return [f"{_each(names)} {why}" for why, names in self.refused.items()]


def _each(names: Sequence[str]) -> str:
    """`a`, or `a, b and c: each`, of at most `MOST_NAMES`."""
    if len(names) == 1:
        return names[0]
    return f"{listed(names) if len(names) <= MOST_NAMES else f'{len(names)} runs'}: each"


def conditions(picks: Picks, probe: str) -> dict[str, dict[Condition, int]]:
    """By run, what is stored of a probe: conditions, and the newest step of each."""
    found = {}
    with _Reading(len(picks.names)) as bar:
        for name, path in picks.paths.items():
            steps = [step for step in reading.result_steps(path, probe) if picks.step in (None, step)]
            found[name] = measured.conditions_of(path, probe, steps)
            bar.advance()
    return found


def find(picks: Picks, probe: str, condition: Condition | None = None, data: str | None = None) -> Found:
    """The stored results that a page shows: under a condition (by default the one that most of the
    runs have), and of runs that do not have it, their newest; never raises for what is missing or
    torn. `data`: images, other than those of the training, that what is missing would be computed
    on."""
    known = conditions(picks, probe)
    found = Found({}, {}, [], [], measured.offered(known.values()))
    wanted = condition if condition in found.conditions else next(iter(found.conditions), None)
    with _Reading(len(picks.names)) as bar:
        for name, path in picks.paths.items():
            _find_one(found, picks, name, path, probe, known[name], wanted, data)
            bar.advance()
    return found


class _Reading:
    """A bar "12 of 30 read", from the first second on."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.begin, self.bar = total, 0, time.monotonic(), None

    def __enter__(self) -> "_Reading":
        return self

    def advance(self) -> None:
        self.done += 1
        if self.bar is None and time.monotonic() - self.begin > 1:
            self.bar = st.empty()
        if self.bar is not None:
            self.bar.progress(self.done / self.total, f"{self.done} of {self.total} read")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.empty()


def _find_one(
    found: Found,
    picks: Picks,
    name: str,
    path: Path,
    probe: str,
    known: dict[Condition, int],
    wanted: Condition | None,
    data: str | None,
) -> None:
    """What is shown of one run, or why nothing is."""
    published, with_result = reading.steps_of(path), reading.result_steps(path, probe)
    if picks.step is not None:
        with_result = [step for step in with_result if step == picks.step]
    if not with_result:
        why = applies.problem(path, probe, data)
        if why is not None:
            found.refused.setdefault(why, []).append(name)
            return
        found.missing.append(_not_computed(name, path, probe, published, picks.step))
        return
    shown = wanted if wanted in known else next(reversed(known), None)
    step = with_result[-1] if shown is None else known[shown]
    command = reading.probe_command(probe, path, step)
    try:
        found.results[name] = reading.result_of(path, step, probe, shown)
        found.steps[name] = step
    except InputError as error:
        found.missing.append((f"{name}, step {step}: {error}. Compute it again with", command))
        return
    if picks.step is None and published and published[-1] > step:
        sentence = f"{name} is shown at step {step}; its newest checkpoint, step {published[-1]}, has no result yet."
        found.newer.append((sentence, reading.probe_command(probe, path, published[-1])))


def _not_computed(name: str, path: Path, probe: str, published: list[int], step: int | None) -> tuple[str, str]:
    if not published:
        return f"{name} has no checkpoint yet, so there is nothing to probe. Once it has, this computes it:", (
            reading.probe_command(probe, path)
        )
    if step is not None and step not in published:
        have = ", ".join(map(str, published[-5:]))
        return f"{name} has no checkpoint of step {step} (it has {have}). For its newest one:", (
            reading.probe_command(probe, path)
        )
    where = f"step {published[-1] if step is None else step}"
    return f"{name}, {where}: `{probe}` has not been computed. This command does it, and the page then shows it:", (
        reading.probe_command(probe, path, step)
    )
