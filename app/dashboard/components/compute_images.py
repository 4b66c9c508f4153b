"""Which images *Compute now* takes: those of the run's training, the owner's (`lcmae dashboard
--data`), those that come with lcmae, or images that are dropped on the page.

What the browser says is a number in the server's own list; no path comes from it. What is chosen
holds for the session, on every page.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from lcmae.app.dashboard.components import compute_button, picks
from lcmae.app.dashboard.components.image_drop import image_drop
from lcmae.app.dashboard.components.plain import plain, prose
from lcmae.app.dashboard.jobs.dropped import MOST_FILE, MOST_IMAGES, DroppedSet, server_store
from lcmae.app.dashboard.stored import applies, reading
from lcmae.data.names import lasting
from lcmae.errors import InputError
from lcmae.probes.results.conditions import Condition
from lcmae.safety.text import printable

BUILT_IN = {"photographs": "four photographs that come with lcmae", "digits": "handwritten digits"}
SPLITS = ("test", "train", "all")
MOST_NAME = 60

_CHOSEN, _SPLIT, _DROPPED, _REFUSED = (f"compute-{what}" for what in ("chosen", "split", "dropped", "refused"))
_WANTED = "compute-wanted"
"""In the session: the data whose results a page shows as soon as they are there."""


@dataclass(frozen=True)
class Images:
    """Images for a command."""

    words: str
    """For people."""

    data: str | None = None
    """The source's name; None: what each run was trained on."""

    split: str | None = None
    """None: the command's own, or data without splits."""

    def of(self, command: str) -> str:
        """The command with these images."""
        if self.data is None:
            return command
        split = "" if self.split is None else f" --split {self.split}"
        return f"{command} --data {shlex.quote(self.data)}{split}"

    def are_those(self, condition: Condition) -> bool:
        """Whether a stored result was measured on these."""
        is_split = self.split in (None, condition.split)
        return self.data is not None and condition.data == lasting(self.data) and is_split


def ask(picked: picks.Picks) -> Images:
    """Which images, and room to drop some."""
    offered = _offered(picked)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = offered[_ask_number(offered)]
        if chosen.split in SPLITS and not _is_dropped(chosen):
            chosen = Images(chosen.words, chosen.data, _ask_split())
        image_drop(
            label="Drop images",
            help=f"Up to {MOST_IMAGES}: choose some, drop them anywhere on the page, or paste one. Their pixels are kept until "
            "the server ends.",
            most=MOST_FILE,
            key="compute-drop",
            on_file=_take,
            on_big=lambda size, name: _refuse(f"expected at most {MOST_FILE >> 20} MiB, got {size / 2**20:.1f}", name),
            on_begin=lambda: st.session_state.pop(_REFUSED, None),
        )
        if _is_dropped(chosen):
            st.button("Forget them", icon=":material/undo:", on_click=_forget)
    for problem in st.session_state.get(_REFUSED, []):
        st.error(plain(problem, 1000), icon=":material/block:")
    return chosen


def offer_others(picked: picks.Picks, probe: str, known: Mapping[str, Mapping[Condition, int]], more: str = "") -> None:
    """A folded part of a page that shows results: the same probe on other images. `known` is what
    is stored by run; `more` are words behind each command."""
    with st.expander("Compute on other images", icon=":material/add_photo_alternate:"):
        images = ask(picked)
        if images.data is None:  # what is missing of these the page offers elsewhere
            return
        missing: list[tuple[str, str]] = []
        for name, path in picked.paths.items():
            steps = reading.steps_of(path)
            if not steps or (picked.step is not None and picked.step not in steps):
                continue
            if why := applies.problem(path, probe, images.data):
                st.caption(prose(f"{name} {why}"))
                continue
            if any(images.are_those(condition) for condition in known.get(name, {})):
                st.caption(
                    f"{plain(name)}: stored for {plain(images.words)}; the page shows it, or offers it under *data*."
                )
            else:
                command = f"{reading.probe_command(probe, path, picked.step or steps[-1])}{more}"
                missing.append((f"{name}, on {images.words}:", images.of(command)))
        compute_button.offer_all([command for _, command in missing])
        for sentence, command in missing:
            compute_button.offer(sentence, command, is_note=True)
        st.session_state[_WANTED] = lasting(images.data)


def wanted(offered: Sequence[str]) -> str | None:
    """The data that was asked for last, once there are results of it; said once."""
    data = st.session_state.get(_WANTED)
    if data not in offered:
        return None
    del st.session_state[_WANTED]
    return data


def _offered(picked: picks.Picks) -> list[Images]:
    """What can be chosen, what is usual first."""
    trained = list(dict.fromkeys(_trained_on(path) for path in picked.paths.values()))
    own = [] if None in trained or not trained else [Images(_words_of_training([one for one in trained if one]))]
    owners = [Images(_brief(name), name, "test") for name in picks.data_sources()]
    built_in = [
        Images(words, name, None if name == "photographs" else "test")
        for name, words in BUILT_IN.items()
        if [name] != trained
    ]
    dropped: DroppedSet | None = st.session_state.get(_DROPPED)
    if dropped is not None and not server_store().has(dropped):
        dropped = st.session_state[_DROPPED] = None
    brought = [] if dropped is None else [Images(f"the {len(dropped)} dropped", dropped.data, "all")]
    return [*own, *owners, *built_in, *brought]


def _words_of_training(data: Sequence[str]) -> str:
    return f"those of its training ({_brief(data[0])})" if len(data) == 1 else "those of each run's training"


def _ask_number(offered: Sequence[Images]) -> int:
    """The number of the chosen ones; the first where what was chosen is no longer offered."""
    names = [images.data for images in offered]
    chosen = st.session_state.get(_CHOSEN)
    key = f"{_CHOSEN}-number"
    st.session_state[key] = names.index(chosen) if chosen in names else 0
    number: Any = st.selectbox(
        "Images",
        range(len(offered)),
        # what a browser makes up comes here as it is, too
        format_func=lambda one: f"{one + 1}. {offered[one].words}" if one in range(len(offered)) else str(one),
        key=key,
        width=330,
        on_change=lambda: _choose(names, st.session_state[key]),
    )
    return number if number in range(len(offered)) else 0


def _choose(names: Sequence[str | None], number: Any) -> None:
    if isinstance(number, int) and number in range(len(names)):
        st.session_state[_CHOSEN] = names[number]


def _ask_split() -> str:
    key = f"{_SPLIT}-name"
    st.session_state[key] = st.session_state.get(_SPLIT, "test")
    split = st.selectbox(
        "Split",
        SPLITS,
        key=key,
        width=100,
        on_change=lambda: st.session_state.update({_SPLIT: st.session_state[key]}),
        help="Of images without splits of their own, test is one in five.",
    )
    return split if split in SPLITS else "test"


def _take(file: bytes, called: str) -> None:
    """One more image of the session's set, which becomes what is chosen."""
    state = st.session_state
    try:
        state[_DROPPED] = server_store().add(state.get(_DROPPED), file, called)
        state[_CHOSEN] = state[_DROPPED].data
    except InputError as error:
        _refuse(str(error), called)


def _refuse(problem: str, called: str) -> None:
    problems = st.session_state.setdefault(_REFUSED, [])
    problems[:] = [*problems, f"{called}: {problem}" if called else problem][-MOST_IMAGES:]


def _forget() -> None:
    for key in (_DROPPED, _CHOSEN, _REFUSED):
        st.session_state.pop(key, None)


def _is_dropped(images: Images) -> bool:
    dropped: DroppedSet | None = st.session_state.get(_DROPPED)
    return dropped is not None and images.data == dropped.data


def _trained_on(path: Path) -> str | None:
    """The data of a run's config, where it says it."""
    try:
        data = reading.config_of(path).get("data")
    except InputError:
        return None
    return data if isinstance(data, str) and data else None


def _brief(name: str) -> str:
    """The end of a long name."""
    shown = printable(name, 4000)
    return shown if len(shown) <= MOST_NAME else f"...{shown[-MOST_NAME:]}"
