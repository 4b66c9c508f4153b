"""A map of patches or of images by what the model makes of them, beside one by raw pixels; what is
selected is shown."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import compute_button, compute_images, export, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.plain import plain, prose
from lcmae.app.dashboard.components.probe_page import PLOTLY, ask_condition, ask_for_runs, choose, condition_of, heading
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.page import Panel, ask_in_words
from lcmae.app.dashboard.stored import measured, reading
from lcmae.app.figures import embedding_map as figures
from lcmae.safety.text import printable

PROBE = "embedding_consistency"
UMAP = "--embedding-consistency.umap"
SUMMARY = (
    "Patches (or whole images) that the model represents alike lie near each other; draw around some, or click one, to see "
    "them. Beside it are the same points by their raw pixels: the difference is what the model adds. UMAP is McInnes et "
    "al.'s (arXiv 1802.03426); its distances between clusters mean little. Contrast terms are lcmae's own definition."
)
TERMS = ("patch", "invariance", "local consistency")
MOST = 48
"""Pictures that are shown at once."""


def show(page: Page, picked: picks.Picks) -> None:
    """One run's stored points; the probe alone computes planes."""
    heading(page.title, SUMMARY, TERMS)
    if not ask_for_runs(picked):
        return
    found = picks.find(picked, PROBE, ask_condition(picked, PROBE))
    mapped = {name: result for name, result in found.results.items() if figures.things(result)}
    old = [
        (
            f"{name}: the stored points have no pictures yet. This computes them:",
            command(picked, name, found.steps[name]),
        )
        for name in found.results
        if name not in mapped
    ]
    images = compute_images.ask(picked) if found.missing and not found.results else compute_images.Images("")
    absent = [*((sentence, images.of(missing)) for sentence, missing in found.missing), *old]
    if not mapped:
        offer(absent)
        return
    with st.container(horizontal=True):
        name = choose("points of", list(mapped))
        result = mapped[name]
        what = choose("map of", figures.things(result))
        planes = figures.planes(result, what)
        plane = ask_in_words(choose, "plane", planes)
        by_words = {figures.WORDS[one]: one for one in figures.colours(result, what)}
        colour_by = by_words[choose("colour", list(by_words), former=figures.WORDS)]
    words = measured.words(condition_of(result), found.conditions, {name: result}, [found.steps[name]])
    st.caption(f":material/rule: {prose(words)}")
    answer(figures.answer(result, what, plane), "embedding-map")
    st.fragment(bench)(result, name, what, plane, colour_by)
    if "umap" not in planes:
        if "umap_x" in result:
            st.info("There are too few points for a UMAP here, so their PCA is shown.", icon=":material/info:")
        else:
            compute_button.offer(
                "No UMAP is stored, so the PCA is shown. This computes it (the first use on a machine takes a minute):",
                command(picked, name, found.steps[name]),
            )
    if absent:
        with st.expander(f"Not computed: {len(absent)} of the picked runs"):
            offer(absent)
    compute_images.offer_others(picked, PROBE, picks.conditions(picked, PROBE), f" {UMAP}")


def offer(absent: Sequence[tuple[str, str]]) -> None:
    """What is not computed, with the commands."""
    for sentence, missing in absent:
        compute_button.offer(sentence, missing if UMAP in missing else f"{missing} {UMAP}")


def command(picked: picks.Picks, name: str, step: int) -> str:
    """What computes the points with their UMAP."""
    return f"{reading.probe_command(PROBE, picked.runs[name], step)} {UMAP}"


def bench(result: xr.Dataset, name: str, what: str, plane: str, colour_by: str) -> None:
    """The maps, and pictures of what is selected; a fragment, so that a lasso runs nothing else."""
    key = f"figure-embedding-map-{name}-{what}-{plane}-{colour_by}"
    # what was selected on one map stands out on both
    selected = figures.numbers_of(st.session_state.get(key, {}).get("selection", {}))
    is_term = colour_by in ("loss", "invariance", "local_consistency")
    shown = Panel(
        f"{what.capitalize()} of {name}",
        f"{plane.upper()} of {' (left) and of '.join(figures.TITLES[kind] for kind in figures.SIDES[what])} (right), each "
        f"with a plane of its own; the same points on both, coloured by {figures.WORDS[colour_by]}. "
        + ("Grey: hidden by no mask, so it has no error. " if is_term else "")
        + "Lasso, box or click selects; a double click clears the selection.",
        figures.maps(result, what, plane, colour_by, selected),
    )
    st.subheader(plain(shown.title))
    st.caption(prose(shown.caption))
    st.plotly_chart(
        shown.figure,
        key=key,
        config={**PLOTLY, "modeBarButtonsToRemove": []},
        on_select="rerun",
        selection_mode=("points", "box", "lasso"),
        alt=shown.caption,
    )
    export.figure_files(shown.figure, key.removeprefix("figure-"), caption=shown.caption, sources=SUMMARY)
    gallery(result, what, selected)


def gallery(result: xr.Dataset, what: str, selected: list[int]) -> None:
    """Pictures of the selected points, and their table."""
    st.subheader("Selected")
    if not selected:
        st.caption("Nothing is selected: draw around some points, or click one.")
        return
    more = f"; the first {MOST} are shown" if len(selected) > MOST else ""
    framed = ", each beside its image, in which it is framed" if what == "patches" else ""
    st.caption(f"{len(selected)} {what}{more}{framed}.")
    pictures = figures.pictures(result, what, selected[:MOST])
    words = [words for _, words in pictures]
    st.image([picture for picture, _ in pictures], [*map(plain, words)], alt=[*map(printable, words)])
    export.table(table(result, what, selected), f"embedding-map-{what}")


def table(result: xr.Dataset, what: str, selected: list[int]) -> pd.DataFrame:
    """The selected points with everything that is stored of them."""
    points = figures.side(result, figures.SIDES[what][0]).isel(point=selected)
    names = [name for name in ("image", "row", "column", "label", "loss", "invariance", "local_consistency")
             if name in points and (what == "patches" or name not in ("row", "column"))]  # fmt: skip
    return pd.DataFrame({name: points[name].values for name in names})
