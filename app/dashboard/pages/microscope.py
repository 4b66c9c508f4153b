"""One checkpoint, one image, one mask, one patch: everything that the model says about it, linked.

The page itself asks for the checkpoint. The rest is a fragment, so a click on a patch redraws what
belongs to the patch; within it, choosing a layer or a head redraws one column.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import streamlit as st

from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.components.command import to_copy, writing_below
from lcmae.app.dashboard.components.plain import plain
from lcmae.app.dashboard.components.probe_page import heading
from lcmae.app.dashboard.live import inspection, models, prefetch, selection
from lcmae.app.dashboard.live.selection import Selection, tied
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.microscope import maps, overlay
from lcmae.app.dashboard.microscope.controls import LOADING, ask_image, ask_mask, steps_of
from lcmae.app.dashboard.microscope.film import ratio_and_film
from lcmae.app.dashboard.microscope.patch_details import among_others, export_section, numbers
from lcmae.app.dashboard.microscope.views import board, encoding_it, filling_in
from lcmae.app.figures.legend import names_in_list
from lcmae.errors import InputError
from lcmae.safety.text import printable

SUMMARY = (
    "Everything that one checkpoint says about one patch of one image under one mask. Click a patch, or move with the arrow "
    "keys: every picture follows. The numbers are the probes' own, for this single image: reconstruction error as in MAE, "
    "the model's attention, Luo et al.'s receptive field, and contrast terms that are lcmae's own definition."
)

TERMS = (
    "patch", "masking ratio", "error", "nearest-patch baseline", "receptive field", "invariance", "local consistency",
    "normalised targets", "leaky picture",
)  # fmt: skip

ENCODER_ONLY = "An encoder alone: it predicts no patch, so there is no reconstruction, no error and no contrast term."

LAST, DIRECTION = "microscope-last", "microscope-direction"
"""In the session: the selection that was answered last; what was gone through, image or seed, and 1
or -1."""


def show(page: Page, picked: picks.Picks) -> None:
    """Heading, checkpoint, and the bench with everything else."""
    heading(page.title, SUMMARY, TERMS)
    names = models.names(picked)
    if not names:
        st.info(f"There is no checkpoint below {picked.where} yet. This trains one on built-in images in a minute:")
        to_copy(writing_below(picked.root, "mae-digits-s0", "lcmae train mae-digits"))
        return
    chosen, notices = selection.fit_checkpoints(selection.follow_address(), names, partial(steps_of, picked))
    ask_checkpoint(picked, names, chosen)
    try:
        location = models.locate(picked, chosen.a or names[0], chosen.a_step)
        with st.spinner(LOADING, show_time=True):
            chosen, more = inspection.fit(models.load(location), chosen)
    except InputError as error:
        selection.settle(chosen, notices)
        st.error("This checkpoint cannot be opened:", icon=":material/block:")
        st.code(printable(error, 1000), language=None, wrap_lines=True)
        return
    selection.settle(chosen, [*notices, *more])
    bench(location)


def ask_checkpoint(picked: picks.Picks, names: list[str], chosen: Selection) -> None:
    """The checkpoint and its step."""
    name = chosen.a or names[0]
    with st.container(horizontal=True):
        brief = names_in_list(names, picked.names)
        st.selectbox("Checkpoint", names, **tied("a", name), width=340, format_func=lambda one: brief[one])
        if steps := steps_of(picked, name):
            newest = picks.NEWEST
            st.selectbox(
                "Step",
                [newest, *map(str, reversed(steps))],
                **tied(
                    "a_step",
                    newest if chosen.a_step is None else str(chosen.a_step),
                    lambda step: None if step == newest else int(step),
                ),
                help="`newest` is the step picked in the bar above if this run has it, otherwise its newest.",
                width=120,
            )


@st.fragment
def bench(location: models.Location) -> None:
    """Image, mask, board, and all that belongs to the selected patch."""
    loaded, chosen = models.load(location), selection.current()
    try:
        inspected, problem = inspection.inspect(loaded, chosen), ""
    except InputError as error:
        inspected, problem = None, str(error)
    if inspected is not None and loaded.is_small:
        # before anything is sent: each view that came alone would have the browser draw the page
        # once more
        compute_views(inspected)
    ask_image(loaded, chosen)
    editing = ask_mask(chosen, inspection.trained_mask(loaded))
    if inspected is None:
        st.error(plain(problem), icon=":material/block:")
        return
    board(inspected, editing)
    if loaded.model.has_prediction:
        ratio_and_film(location)
    overlay.over_photograph(inspected)
    if not loaded.model.has_prediction:
        st.info(ENCODER_ONLY, icon=":material/info:")
    left, right = st.columns(2, gap="large")
    filling, encoding = (left, right) if loaded.model.has_prediction else (right, left)
    with filling:
        if loaded.model.has_prediction:
            filling_in(location)
    with encoding:
        encoding_it(location)
    with filling:  # in the same columns: a second row of them would begin below the longer one
        numbers(inspected)
    with encoding:
        among_others(inspected)
    export_section(inspected)
    prefetch_next(inspected)


def prefetch_next(inspected: inspection.Inspection) -> None:
    """Compute the next image, or the next mask seed: whichever of them was changed last, in the
    direction of that step. Only for a small model: a step of a large one would keep the person
    waiting."""
    chosen, state = inspected.chosen, st.session_state
    last: Selection = state.get(LAST, chosen)
    for name in ("image", "seed"):
        if getattr(chosen, name) != getattr(last, name):
            state[DIRECTION] = name, 1 if getattr(chosen, name) > getattr(last, name) else -1
    state[LAST] = chosen
    name, step = state.get(DIRECTION, ("image", 1))
    value = getattr(chosen, name) + step
    if name == "seed":
        end = selection.MAX_SEED + 1
    elif chosen.upload:
        end = 0
    else:
        end = models.num_images(inspected.loaded, chosen.data or inspected.loaded.data, chosen.split)
    if inspected.loaded.is_small and 0 <= value < end:
        next_one = chosen.changed(**{name: value})

        # the image is not read before there is time for it
        prefetch.start(lambda: steps(inspection.inspect(inspected.loaded, next_one)))


def compute_views(inspected: inspection.Inspection) -> None:
    """Everything that is computed for a selection: the contrast terms beside the rest."""
    with ThreadPoolExecutor(1) as other:
        terms = other.submit(inspected.contrast) if inspected.loaded.model.has_prediction else None
        for step in steps(inspected):
            step()
        if terms is not None:
            terms.result()


def steps(inspected: inspection.Inspection) -> list[Callable[[], object]]:
    """Everything that is computed for a selection, one call a view."""
    return [*maps.steps(inspected), *overlay.steps(inspected)]
