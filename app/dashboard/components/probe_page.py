"""Shows a probe's page: the condition, the answer with its headline numbers, figures two to a row;
folded below them numbers, provenance, exports, and whose definitions they are."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import compute_button, compute_images, export, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.command import to_copy, writing_below
from lcmae.app.dashboard.components.plain import plain, prose
from lcmae.app.dashboard.glossary import GLOSSARY
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.page import Panel, ProbePage
from lcmae.app.dashboard.stored import applies, measured, reading, trends
from lcmae.app.figures import legend, series, style
from lcmae.probes.results import tables
from lcmae.probes.results.conditions import Condition, labels
from lcmae.probes.results.words import called
from lcmae.safety.text import printable

PLOTLY = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
    "toImageButtonOptions": {"format": "png", "scale": 2},
}


OWN_IMAGES = frozenset({"hierarchy"})
"""Probes of images that are made for them: no others can be chosen."""

STYLE = """<style>
[data-testid="stMain"] h1 { font-size: 1.9rem; padding: 0.25rem 0 0.5rem }
[data-testid="stMain"] h3 { font-size: 1.125rem; padding: 0.25rem 0 0.5rem }
[data-testid="stMain"] h2 { padding-bottom: 1rem }
[data-testid="stMain"] [data-testid="stVerticalBlock"] { gap: 0.5rem }
[data-testid="stMain"] .st-key-title-row h1 { padding: 0.25rem 0 0 }
</style>"""
"""Headings that leave the height of a window to the first figure. Streamlit draws what follows a
heading half a gap into it, so a heading ends with that much room."""


def show(page: Page, content: ProbePage, picked: picks.Picks) -> None:
    """The whole page. What is missing or torn is said in a sentence with the command that computes
    it."""
    st.html(STYLE)
    beside_title = st.container(key="title-row", horizontal=True, vertical_alignment="center", gap="medium")
    beside_title.title(page.title, width="content")
    if not ask_for_runs(picked):
        about(content)
        return
    found = picks.find(picked, content.probe, ask_condition(picked, content.probe))
    if not found.results:
        images = ask_images(content.probe, picked, found)
        if images is not None and images.data is not None:
            found = picks.find(picked, content.probe, data=images.data)
        offer_missing(found, images)
        about(content)
        return
    alike = measured.groups(found.results)
    for group, (condition, results) in enumerate(alike):
        steps = [found.steps[name] for name in results]
        if group:
            st.header(plain(f"Measured under other conditions: {', '.join(results)}"))
        condition_words = prose(measured.words(condition, found.conditions, results, steps))
        (st if group else beside_title).caption(f":material/rule: {condition_words}")
        figured: Mapping[str, xr.Dataset] = results
        left_out: list[str] = []
        if content.every_step:
            figured, left_out = trends.all_along_steps(picked.paths, content.probe, results)
        key = content.probe + (f"-{group}" if group else "")
        answer(content.answer(briefly(figured)), key)
        if left_out:
            st.caption(prose(f"Not in the trends: {'; '.join(left_out)}."))
        for number, (shown, area) in enumerate(in_rows(content.panels(figured, partial(choose, group=group)))):
            with area:
                draw(shown, f"{content.probe}-{number}" + (f"-{group}" if group else ""), content.summary)
    if found.missing or found.newer or found.inapplicable:
        several = len(found.missing) + len(found.newer) + sum(map(len, found.refused.values()))
        with st.expander(f"Not computed, or not at the newest step: {several} of the picked runs"):
            offer_missing(found)
    if content.probe not in OWN_IMAGES:
        compute_images.offer_others(picked, content.probe, picks.conditions(picked, content.probe))
    with st.expander("Numbers, provenance and exports", icon=":material/table_view:"):
        numbers(content, picked, found, alike)
    about(content)


def ask_images(probe: str, picked: picks.Picks, found: picks.Found) -> compute_images.Images | None:
    """Which images what is missing is computed on; no question where others would not help."""
    others = any(applies.other_images_would_do(path, probe) for path in picked.paths.values())
    return compute_images.ask(picked) if probe not in OWN_IMAGES and (found.missing or others) else None


def briefly(results: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Results by the names that runs have in the legend, for sentences and tiles."""
    names = legend.brief_names(list(dict.fromkeys([*st.session_state.get("runs", []), *results])))
    return {names[run]: result for run, result in results.items()}


def in_rows(panels: Iterator[Panel]) -> Iterator[tuple[Panel, Any]]:
    """Each panel with the container that it belongs into, two to a row; the questions of each stand
    above it. A wide one, and one that is left alone, has the whole row."""
    while True:
        left, right = st.columns(2, gap="medium")
        first = _next(panels, left)
        if first is None:
            return
        second = None if first.is_wide else _next(panels, right)
        if second is None or second.is_wide:
            yield first, st.container()
            if second is not None:
                yield second, st.container()
        else:
            yield from zip((first, second), st.columns(2, gap="medium"), strict=True)


def _next(panels: Iterator[Panel], area: Any) -> Panel | None:
    with area.container(horizontal=True):
        return next(panels, None)


def offer_missing(found: picks.Found, images: compute_images.Images | None = None) -> None:
    """What is not computed, or not at the newest step, with the commands; and what cannot be.
    `images`: which ones what is missing is computed on."""
    for sentence in found.inapplicable:
        st.info(prose(sentence), icon=":material/block:")
    missing = [(sentence, command if images is None else images.of(command)) for sentence, command in found.missing]
    compute_button.offer_all([command for _, command in missing])
    for sentence, command in missing:
        compute_button.offer(sentence, command)
    for sentence, command in found.newer:
        compute_button.offer(sentence, command, is_note=True)


def about(content: ProbePage) -> None:
    """Whose definitions they are, and the words that the page uses."""
    with st.expander("About these numbers", icon=":material/menu_book:"):
        st.markdown(content.summary)
        if content.terms:
            st.markdown(glossary(content.terms))


def numbers(
    content: ProbePage, picked: picks.Picks, found: picks.Found, alike: Sequence[tuple[Condition, Mapping[str, Any]]]
) -> None:
    """The table, where it comes from, and files."""
    for group, (condition, results) in enumerate(alike):
        if group:
            st.caption(
                prose(f"Measured under other conditions: {measured.words(condition, found.conditions, results, [])}")
            )
        key = content.probe + (f"-{group}" if group else "")
        export.table(tables.scalars(results), key, column_config=number_format())
    st.subheader("Where this comes from")
    export.table(tables.provenance(found.results), f"{content.probe}-provenance")
    st.subheader("Export")
    export.link(**pinned(found.steps))
    export.result_files(
        {
            name: reading.result_path(picked.runs[name], step, content.probe, condition_of(found.results[name]))
            for name, step in found.steps.items()
        },
        content.probe,
    )
    commands = [
        again(content.probe, picked.runs[name], step, found.results[name]) for name, step in found.steps.items()
    ]
    st.caption("The same numbers in a terminal; add `--out FOLDER` to compute them again and store them there:")
    to_copy("\n".join(commands))


def heading(title: str, summary: str, terms: Sequence[str] = ()) -> None:
    """The title; the two sentences and the words that they use open beside it, so that the answer
    and the first figure stand above the fold."""
    st.html(STYLE)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.title(title, width="content")
        with st.popover("About this page", icon=":material/menu_book:", type="tertiary"):
            st.markdown(summary)
            if terms:
                st.markdown(glossary(terms))


def glossary(terms: Sequence[str]) -> str:
    """The words as a list."""
    return "\n".join(f"- **{term}**: {GLOSSARY[term]}" for term in terms)


def ask_for_runs(picked: picks.Picks) -> bool:
    """Whether runs are picked; a helpful sentence where not."""
    if not picked.runs:
        st.info(f"There is no run below {picked.where} yet. This trains one on built-in images in about a minute:")
        to_copy(writing_below(picked.root, "mae-digits-s0", "lcmae train mae-digits"))
    elif not picked.names:
        st.info(
            "Pick one or more runs with the button *Runs* above, or in the table of the Runs page.",
            icon=":material/arrow_upward:",
        )
    return bool(picked.names)


def condition_of(result: xr.Dataset) -> Condition:
    """The condition that results of other checkpoints can share with this one."""
    return Condition.of(result.attrs).apart_from_checkpoint


def ask_condition(picked: picks.Picks, probe: str) -> Condition | None:
    """Which of the conditions that the picked runs have is shown; no question where there is
    one."""
    known = picks.conditions(picked, probe)
    offered = measured.offered(known.values())
    if len(offered) < 2:
        return None
    with picked.bar or nullcontext():  # beside runs and step, on every page of a probe
        return _ask_condition(known, offered)


def _ask_condition(known: Mapping[str, Mapping[Condition, int]], offered: Sequence[Condition]) -> Condition:
    """The data first, where there are several; then the rest of the condition."""
    names = list(dict.fromkeys(str(one.data) for one in offered))
    if (new := compute_images.wanted(names)) is not None:
        st.session_state["measured_data"] = new
    data = choose("data", names, key="measured_data")
    offered = [one for one in offered if str(one.data) == data]
    by_words = {
        f"{words} ({sum(one in own for own in known.values())} of {len(known)} runs)": one
        for words, one in zip(labels(offered), offered, strict=True)
    }
    return by_words[choose("measured on", list(by_words))]


def choose(
    question: str, options: Sequence[Any], group: int = 0, key: str = "", *, former: Mapping[str, str] | None = None
) -> Any:
    """A select box that the address bar remembers; no question where there is no choice. Panels of
    other conditions (`group`) ask for themselves. Picked runs go by their names in the bar. Links
    from before options had words hold names of variables: `former` has the option of each; labels
    of results need none."""
    if len(options) < 2:
        return options[0]
    key = key or question.replace(" ", "_") + (f"_{group}" if group else "")
    wanted = st.query_params.get(key, "")
    names = legend.brief_names(st.session_state.get("runs", []))
    shown = [names.get(option, str(option)) for option in options]
    if wanted not in shown:
        meant = wanted if wanted in options else (former or {}).get(wanted, called(wanted))
        if meant in options and key not in st.session_state:
            st.session_state[key] = meant
    if st.session_state.get(key, options[0]) not in options:
        st.session_state[key] = options[0]
    return st.selectbox(
        question.capitalize(),
        options,
        key=key,
        bind="query-params",
        width=220,
        format_func=lambda option: names.get(option, str(option)),
    )


def draw(shown: Panel, key: str, sources: str = "") -> None:
    """A figure, its words, and the files to take away; `sources` are words that name the page's
    papers."""
    runs = st.session_state.get("runs", [])
    st.subheader(plain(legend.briefly(shown.title, runs)))
    legend.tidy(shown.figure, style.known(), runs)
    if not shown.is_wide:
        series.wrap_titles(shown.figure)
        legend.make_room(shown.figure)
    st.plotly_chart(shown.figure, key=f"figure-{key}", config=PLOTLY, alt=printable(shown.caption, 2000))
    st.caption(prose(legend.briefly(shown.caption, runs)))
    export.figure_files(
        shown.figure, key, caption=f"{shown.title}. {shown.caption}", sources=f"{sources} {shown.caption}"
    )


def number_format() -> dict[str, Any]:
    """Numbers of a table with four significant digits."""
    names = ("value", "standard error", "low (95 %)", "high (95 %)")
    return {name: st.column_config.NumberColumn(format="%.4g") for name in names}


def pinned(steps: Mapping[str, int]) -> dict[str, str]:
    """The step for a link, in place of `newest`, which will be another one some day; nothing where
    the runs' steps differ."""
    known = set(steps.values())
    return {"step": str(known.pop())} if len(known) == 1 else {}


def again(probe: str, path: Path, step: int, result: xr.Dataset) -> str:
    """The command that computes this result once more: as it was stored, for the run where it lies
    now; else put together from what is known."""
    command = reading.probe_command(probe, path, step)
    words = reading.words_of(result.attrs.get("command", ""))
    if "--checkpoint" in words[:-1]:
        words[words.index("--checkpoint") + 1] = str(reading.step_path(path, step))
        return shlex.join(words)
    if "data" in result.attrs:
        command += f" --data {shlex.quote(str(result.attrs['data']))}"
    return f"{command} --images {result.attrs.get('num_images', 500)}"
