"""Mask strategies: samples and diagnostics of every strategy, and what a comparison found out about
them.

The one page that imports torch, and only to draw masks: strategies are torch code. It says so while
it waits.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import comparison, export, picks, races
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.command import to_copy, writing_below
from lcmae.app.dashboard.components.plain import cells, plain, prose
from lcmae.app.dashboard.components.probe_page import PLOTLY, choose, draw, heading, in_rows
from lcmae.app.dashboard.components.ratio_matrix import notes as matrix_notes
from lcmae.app.dashboard.components.ratio_matrix import panels as matrix_panels
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.page import Panel
from lcmae.app.dashboard.stored import grid_progress, race_plans
from lcmae.app.dashboard.stored.names import name_of
from lcmae.app.dashboard.stored.reading import Stamp, stamp
from lcmae.app.figures import grid as figures
from lcmae.app.figures import masks as mask_figures
from lcmae.errors import InputError
from lcmae.probes.grids.cells import SETTINGS
from lcmae.probes.grids.ratio_verdict import FILE as MATRIX
from lcmae.probes.grids.ratio_verdict import read_matrix, sentences
from lcmae.probes.grids.table import TABLE, frame, measures, read_json, read_table, summarise
from lcmae.probes.grids.verdict import verdict
from lcmae.progress import clock
from lcmae.safety.files import is_regular, read_regular

SUMMARY = (
    "Which patches a strategy hides, with diagnostics that need no model. Below are the results of `lcmae compare`: its runs "
    "have equal image-mask pairs (or FLOP, or seconds, where it says so), so points differ by mask, ratio or objective alone."
)

TERMS = ("masking ratio", "kNN accuracy", "ridge accuracy", "invariance", "local consistency", "global consistency")

FIRST = (
    "mean_linear",
    "mean_knn",
    "local_contrast.term_unbiased[invariance]",
    "local_contrast.term_unbiased[local_consistency]",
)
"""Measures that are offered first."""

MOST = 1 << 28
"""Bytes of a table."""

NUM_MASKS, SAMPLES, PIXELS = 256, 4, 168
"""Masks that diagnostics are of; masks that are drawn; about the side of the photograph."""

SHARE_OFF = 0.03
"""How far the hidden share may lie from the ratio that was asked for: a grid has whole patches."""

EVERY = "3s"
"""How often a running comparison is looked at."""


def show(page: Page, picked: picks.Picks) -> None:
    """Gallery and diagnostics, then the comparisons below the root."""
    heading(page.title, SUMMARY, TERMS)
    masks = strategies(picked)
    comparisons(picked)
    races.read_advice(picked.root)
    st.header("Try it")
    races.ask(picked, masks)
    export.link()


# --- strategies ---


def strategies(picked: picks.Picks) -> list[str]:
    """Every strategy over a photograph at a ratio, on a grid, from a seed; what it is, in a
    sentence; and its diagnostics. Returns their names."""
    left, middle, right = st.columns(3)
    ratio = left.slider("Masking ratio", 0.05, 0.95, 0.75, 0.05, key="mask_ratio", bind="query-params")
    side = middle.select_slider("Patches per side", [4, 7, 8, 14, 16], 14, key="mask_side", bind="query-params")
    seed = right.number_input("Seed (change it to draw again)", 0, 10_000, 0, key="mask_seed", bind="query-params")
    with st.spinner("Drawing masks (loading torch, the first time: up to half a minute on a small machine)"):
        shown = drawn(float(ratio), int(side), int(seed))
    for kind, why in shown.refused.items():
        st.info(f"{plain(kind)} is left out: {plain(why)}", icon=":material/block:")
    if not shown.strips:
        return []
    names = [str(kind).replace("_", " ") for kind in shown.table["mask"]]
    # strategies that hide another share, as masks in pairs do, are no rivals of those at the ratio
    is_at_ratio = (shown.table["ratio"] - float(ratio)).abs() <= SHARE_OFF
    distances = dict(zip(names, shown.table["distance (patches)"], strict=True))
    at_ratio = {name: distances[name] for name, is_one in zip(names, is_at_ratio, strict=True) if is_one}
    answer(mask_figures.answer(at_ratio or distances, float(ratio), int(side), NUM_MASKS), "masks")
    columns = st.columns(2, gap="medium")
    for position, (kind, strip) in enumerate(shown.strips.items()):
        share = float(shown.table.loc[shown.table["mask"] == kind, "ratio"].iloc[0])
        with columns[position % 2]:
            st.markdown(f"**{plain(kind.replace('_', ' '))}**, {share:.0%} hidden")
            st.image(strip, width="stretch", alt=f"the same photograph under {SAMPLES} masks of the strategy {kind}")
            st.caption(f"{prose(shown.sentences[kind])} {through_microscope(picked, kind, float(ratio))}")
    draw(
        Panel(
            "How far is the nearest visible patch?",
            f"Mean over hidden patches and {NUM_MASKS} masks, without any model. Where it is near, copying it works well; "
            "where it is far, the model must know more than texture.",
            mask_figures.distances(
                {
                    name if name in at_ratio else f"{name} ({share:.0%} hidden)": distances[name]
                    for name, share in zip(names, shown.table["ratio"], strict=True)
                }
            ),
        ),
        "mask-distances",
        SUMMARY,
    )
    with st.expander("All diagnostics", icon=":material/table_view:"):
        st.caption(
            f"From {NUM_MASKS} masks, without any model. Visible region: mean size of connected visible patches. Boundary "
            "share: hidden patches with a visible neighbour. Distance: from a hidden patch to the nearest visible one. "
            "Coverage: the smallest and largest chance of a patch to be hidden, with the standard error that an even chance "
            "would have."
        )
        table = shown.table
        numbers = {
            name: st.column_config.NumberColumn(format="%.3f")
            for name in table.columns
            if table[name].dtype.kind == "f"
        }
        export.table(table, "mask-diagnostics", column_config=numbers)
    return list(shown.strips)


def through_microscope(picked: picks.Picks, kind: str, ratio: float) -> str:
    """A link that opens the microscope with this mask and the picked runs."""
    query = [("runs", name) for name in picked.names] + [("mask", kind), ("ratio", f"{ratio:g}")]
    return f"[See a model fill it in](microscope?{urlencode(query)})"


def in_words(table: xr.Dataset, columns: Sequence[str]) -> dict[str, str]:
    """Columns of a comparison by the words that a person picks; a column that shares its words with
    another keeps its name beside them."""
    words = [str(table[name].attrs["long_name"]) for name in columns]
    return {one if words.count(one) == 1 else f"{one} ({name})": name for one, name in zip(words, columns, strict=True)}


@dataclass(frozen=True)
class Drawn:
    """What is shown of the strategies that need no checkpoint."""

    strips: dict[str, np.ndarray]
    """The photograph under several masks each."""

    sentences: dict[str, str]
    table: pd.DataFrame
    """Diagnostics, a row a strategy."""

    refused: dict[str, str]
    """Why the others are left out."""


@st.cache_data(max_entries=32, show_spinner=False)
def drawn(ratio: float, side: int, seed: int) -> Drawn:
    """Every strategy that needs no checkpoint over a photograph, and its diagnostics."""
    from lcmae.data import open_source
    from lcmae.masking.diagnostics import diagnostics_table
    from lcmae.masking.gallery import draw as draw_masks
    from lcmae.masking.gallery import strategies as all_strategies

    grid = (side, side)
    usable, refused = all_strategies(ratio, grid)
    table = pd.DataFrame(diagnostics_table(usable.values(), grid, NUM_MASKS, seed))
    height = side * (PIXELS // side)
    photograph = open_source("photographs", split="test", image_size=(height, height), channels=3, limit=4)[:1]
    pixels = photograph[0].permute(1, 2, 0).numpy()
    samples = draw_masks(usable, grid, SAMPLES, seed)
    strips = {kind: mask_figures.over_photograph(pixels, hidden) for kind, hidden in samples.items()}
    sentences = {kind: first_paragraph(type(strategy).__doc__) for kind, strategy in usable.items()}
    return Drawn(strips, sentences, table, refused)


def first_paragraph(text: str | None) -> str:
    """What a docstring says first, in one line."""
    return " ".join((text or "").split("\n\n")[0].split())


# --- comparisons ---


def comparisons(picked: picks.Picks) -> None:
    """Figures and table of one comparison below the root."""
    st.header("Comparison")
    found = tables_below(picked.root)
    if not found:
        st.info(f"There is no comparison below {picked.where} yet. A small one, two seeds of four cells:")
        command = "lcmae compare --masks random,grid --ratios 0.5,0.75 --seeds 2"
        to_copy(writing_below(picked.root, "compare", command))
        return
    asked = st.container(horizontal=True)
    with asked:
        name = choose("comparison", list(found))
    try:
        table = table_of(stamp(found[name]))
    except InputError as error:
        st.warning(plain(error), icon=":material/link_off:")
        return
    going = grid_progress.progress_of(found[name].parent, table)
    if going is not None:
        st.fragment(follow, run_every=EVERY if going.is_running else None)(found[name], going)
    equal = (read_json(found[name].parent / SETTINGS) or {}).get("equal")
    if isinstance(equal, str):
        st.caption(plain(equal))
    for line in race_plans.rungs(found[name].parent.parent):
        st.caption(plain(line))
    failed = table["run"].values[table["status"].values == "failed"]
    for run, error in zip(failed, table["error"].values[table["status"].values == "failed"], strict=True):
        st.warning(f"{plain(run)} failed: {plain(error)}", icon=":material/error:")
    known = measures(table)
    if not known:
        st.info("No run of this comparison is done yet.", icon=":material/hourglass_empty:")
        return

    known = [*(name for name in FIRST if name in known), *(name for name in known if name not in FIRST)]
    by_words = in_words(table, known)
    with asked:
        measure = by_words[choose("measure", list(by_words))]
    num_seeds = len(set(table["seed"].values))
    named = conclusions(table, measure) if num_seeds > 1 else {}
    words = (
        "bars are 95 % intervals over seeds (Student's t; with few seeds they may extend beyond the picture)"
        if num_seeds > 1
        else "one seed, so no intervals"
    )
    named["ratio"] = Panel(
        f"{comparison.capital(str(table[measure].attrs['long_name']))} against the masking ratio",
        f"Means over seeds; {words}; open circles are single runs.",
        figures.against_ratio(table, measure, interval),
    )
    if len(set(table["unit"].dropna("row").values)) > 1:
        named["unit"] = Panel(
            "Ratio x mask unit",
            "Means over the seeds (and over the objectives and masks, if there are several) of runs whose mask has a unit. "
            "The theory of hierarchical latent variables (Kong et al., 2306.04898) expects the best accuracy in the "
            "interior, not at an edge.",
            figures.ratio_by_unit(table, measure),
        )
    for (one, area), key in zip(in_rows(iter(named.values())), named, strict=True):
        with area:
            draw(one, f"compare-{key}-{measure}")
    ratio_matrix(found[name].parent)
    st.subheader("Any column against any other")
    by_words = in_words(table, [*known, "ratio", "hidden_share"])
    [ratio] = (words for words, name in by_words.items() if name == "ratio")
    with st.container(horizontal=True):
        y = by_words[choose("upwards", list(by_words))]
        x = by_words[choose("across", [ratio, *(words for words in by_words if words != ratio)])]
    st.caption("A dot is a run. Click dots to pick their runs for all pages.")
    figure, key = figures.scatter(table, x, y), f"compare-scatter-{name}-{x}-{y}"
    st.plotly_chart(
        figure,
        key=f"figure-{key}",
        config=PLOTLY,
        on_select=lambda: take(picked, found[name], f"figure-{key}"),
        selection_mode="points",
        alt=f"{table[y].attrs['long_name']} against {table[x].attrs['long_name']}, a dot for each run",
    )
    export.figure_files(figure, key)
    st.subheader("Table")
    headings = {column: str(table[column].attrs.get("long_name", column)) for column in frame(table)}
    headings = {column: words.replace("_", " ") for column, words in headings.items()}
    export.table(frame(table), "comparison", parquet=partial(read_regular, found[name], MOST), column_config=headings)


def conclusions(table: xr.Dataset, measure: str) -> dict[str, Panel]:
    """The verdict in words; its pictures by a name that stays: bands, cost, and what more seeds
    would decide."""
    found = verdict(table, measure)
    answer(comparison.answer(found), f"compare-{measure}")
    for note in found.notes():
        st.caption(plain(note))
    return dict(comparison.panels(found, table))


def ratio_matrix(folder: Path) -> None:
    """What `lcmae compare --matrix` stored of the runs of this comparison, or the command."""
    st.subheader("Trained at one ratio, tested at another")
    file = folder / "matrix" / MATRIX
    if not is_regular(file):
        st.caption("Loss and features of these runs at every test ratio:")
        to_copy(f"lcmae compare --matrix {shlex.quote(str(folder))}")
        return
    try:
        found = matrix_of(stamp(file))
    except InputError as error:
        st.warning(plain(error), icon=":material/link_off:")
        return
    for line in [*sentences(found), *matrix_notes(found)]:
        st.markdown(plain(line, 4000))
    for position, panel in enumerate(matrix_panels(found)):
        draw(panel, f"compare-matrix-{position}")


@st.cache_data(max_entries=16, show_spinner=False)
def matrix_of(key: Stamp) -> xr.Dataset:
    """The matrix as it is now. `InputError` for a file that is none."""
    return read_matrix(Path(key[0]))


def follow(file: Path, before: grid_progress.Going) -> None:
    """How far the comparison is; when a run of it has ended the whole page is drawn anew."""
    try:
        going = grid_progress.progress_of(file.parent, table_of(stamp(file)))
    except InputError:
        going = None
    if going is None or (going.num_ended, going.is_running) != (before.num_ended, before.is_running):
        st.rerun()
    total, ended = len(going.names), going.num_ended
    if going.is_running:
        left = "" if going.seconds_left is None else f", about {clock(going.seconds_left)} left"
        parts = [f"{number} {state}" for state, number in going.counts.items() if state != "done"]
        st.progress(ended / max(total, 1), text=f"{ended} of {total} runs have ended ({', '.join(parts)}){left}")
        if going.at:
            st.dataframe(cells(pd.DataFrame(going.at)), hide_index=True, placeholder=export.NOTHING)
    elif ended < total:
        st.caption(f"It stopped after {ended} of {total} runs; the same command in a terminal continues from there.")


def tables_below(root: Path) -> dict[str, Path]:
    """Every comparison at or below the root (three folders deep), by the path of its folder: that
    which was written last first, so of a race its last rung."""
    files = [file for depth in ("", "*/", "*/*/", "*/*/*/") for file in sorted(root.glob(f"{depth}{TABLE}"))]
    newest = sorted(filter(is_regular, files), key=lambda file: stamp(file)[1], reverse=True)
    return {name_of(file.parent, root): file for file in newest}


@st.cache_data(max_entries=16, show_spinner=False)
def table_of(key: Stamp) -> xr.Dataset:
    """The table as it is now."""
    return read_table(Path(key[0]))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its interval."""
    found = summarise(values)
    return found.mean, found.half_width


def take(picked: picks.Picks, table: Path, key: str) -> None:
    """The runs of the dots that were clicked become the pick of the side bar."""
    state: Any = st.session_state[key]
    names = [point.get("customdata") for point in state["selection"]["points"]]
    chosen = {str(name[0] if isinstance(name, list | tuple) else name) for name in names}
    folders = {name for name, path in picked.runs.items() if path.parent == table.parent and path.name in chosen}
    if folders:
        st.session_state["runs"] = sorted(folders)
