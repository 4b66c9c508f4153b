"""What the microscope asks for beside the checkpoint: image, mask, layer and head. What is chosen
goes to the one selection."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.components.image_drop import image_drop
from lcmae.app.dashboard.components.patch_board import Choice
from lcmae.app.dashboard.components.plain import plain
from lcmae.app.dashboard.live import models, selection, uploads
from lcmae.app.dashboard.live.inspection import Inspection
from lcmae.app.dashboard.live.selection import Selection, tied
from lcmae.app.dashboard.stored import reading
from lcmae.errors import InputError
from lcmae.probes.results.conditions import mask_words

if TYPE_CHECKING:
    from lcmae.masking import MaskStrategy

ALL = "all"
LOADING = "Loading the checkpoint (and torch, the first time: half a minute on a small machine)"
REFUSED = "microscope-refused"
"""In the session: what is wrong with files that somebody brought."""

BROUGHT = "microscope-brought"
"""In the session: images that it brought, the newest last."""

MOST_BROUGHT = 64
"""Of these; more than the server keeps."""

REDRAWN = "microscope-redrawn"
"""In the session: how often edits were dropped."""


def steps_of(picked: picks.Picks, name: str) -> list[int]:
    """Published steps of a run; none of a file."""
    return reading.steps_of(picked.runs[name]) if name in picked.runs else []


def ask_image(loaded: models.Loaded, chosen: Selection) -> None:
    """Which image: one of a source, or an upload."""
    data = chosen.data or loaded.data
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Images", models.sources(loaded), **tied("data", data), width=300)
        st.selectbox("Split", ["test", "train"], **tied("split", chosen.split), width=100)
        try:
            last = models.num_images(loaded, data, chosen.split) - 1
        except InputError:
            last = 0  # the board says what is wrong
        st.number_input(
            "Image",
            0,
            last,
            **tied("image", min(chosen.image, last)),
            width=120,
            help=f"0 to {last}, as `lcmae probe` counts them",
        )
        image_drop(
            label="Own images",
            help="PNG, JPEG, WebP, TIFF, BMP or GIF, at most 20 MB each: choose some, drop them anywhere on the page, or paste "
            "one. They are kept in memory for a while, never on the disk.",
            most=uploads.MAX_BYTES,
            key="microscope-own",
            on_file=lambda file, name: take_upload(loaded, file, name),
            on_big=lambda size, name: refuse(uploads.too_big(size), name),
            on_begin=lambda: st.session_state.pop(REFUSED, None),
        )
        ask_upload(chosen)
        if chosen.upload:
            st.button("Back to the data", on_click=lambda: selection.change(upload=""), icon=":material/undo:")
    for problem in st.session_state.get(REFUSED, []):
        st.error(plain(problem), icon=":material/block:")


def ask_upload(chosen: Selection) -> None:
    """Which of the images that this session brought, where there are several."""
    brought = [name for name in st.session_state.get(BROUGHT, []) if uploads.is_stored(name)]
    if len(brought) > 1 and chosen.upload in ("", *brought):
        st.selectbox(
            "Of your images",
            brought,
            **tied("upload", chosen.upload or None, lambda name: name or ""),
            index=None,
            placeholder=f"pick one of {len(brought)}",
            format_func=uploads.called,
            width=220,
        )


def take_upload(loaded: models.Loaded, file: bytes, called: str = "") -> None:
    """The file becomes the image, unless it is refused."""
    try:
        name = uploads.keep(file, called)
        models.uploaded(loaded, name)  # refused here, not on the board
    except InputError as error:
        refuse(str(error), called)
        return
    known = st.session_state.setdefault(BROUGHT, [])
    known[:] = [*(one for one in known if one != name), name][-MOST_BROUGHT:]
    selection.change(upload=name)


def refuse(problem: str, called: str = "") -> None:
    """Say so until others are brought; of several files each with its name."""
    problems = st.session_state.setdefault(REFUSED, [])
    problems[:] = [*problems, f"{called}: {problem}" if called else problem][-MOST_BROUGHT:]


def ask_mask(chosen: Selection, trained: "MaskStrategy | None" = None) -> bool:
    """Which mask, with a way to that of the training where it is another; whether clicks edit
    it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Mask",
            models.masks(),
            **tied("mask", chosen.mask),
            format_func=lambda kind: kind.replace("_", " "),
            width=170,
        )
        st.number_input(
            "Masking ratio",
            0.01,
            0.99,
            step=0.05,
            **tied("ratio", chosen.ratio, lambda value: round(value, 4)),
            width=130,
        )
        st.number_input(
            "Seed", 0, selection.MAX_SEED, **tied("seed", chosen.seed), width=120, help="As `--seed` of `lcmae probe`."
        )
        editing = st.toggle(
            "Edit mask",
            key="microscope-edit",
            help="A click or Space hides or shows a patch; a stroke does so along its way.",
        )
        settings = {} if trained is None else trained.model_dump()
        kind, ratio = settings.get("kind"), settings.get("ratio")
        if kind and ratio and (chosen.mask, chosen.ratio) != (kind, ratio):
            st.button(
                f"Trained at {mask_words(settings)}",
                on_click=partial(selection.change, mask=kind, ratio=ratio),
                disabled=kind not in models.masks(),
                help="Every checkpoint opens at random 0.75, so that a link shows everybody the same. This takes the kind and "
                "the ratio of its training.",
                icon=":material/school:",
            )
        if chosen.hidden:
            st.button("Back to the drawn mask", on_click=draw_again, icon=":material/undo:")
    return editing


def draw_again() -> None:
    """Drop the edits."""
    st.session_state[REDRAWN] = st.session_state.get(REDRAWN, 0) + 1
    selection.change(hidden="")


def painter(chosen: Selection) -> Callable[[list[bool]], None]:
    """What takes a mask that was edited on a page of this selection: not if another one was drawn
    in the meantime, for where the two come together, Streamlit tells of the later one first."""
    drawn = _drawn(chosen)

    def paint(is_hidden: list[bool]) -> None:
        if _drawn(selection.current()) == drawn:
            selection.change(hidden=selection.pack(is_hidden))

    return paint


def _drawn(chosen: Selection) -> tuple[str, float, int, int]:
    return chosen.mask, chosen.ratio, chosen.seed, st.session_state.get(REDRAWN, 0)


def layer_choices(what: str, layers: int, heads: int, inspected: Inspection) -> list[Choice]:
    """A block of the encoder or the decoder, and a head of it."""
    layer = inspected.encoder_layer if what == "encoder" else inspected.decoder_layer
    head = getattr(inspected.chosen, f"{what}_head")
    numbers = [[str(number) for number in range(1, most + 1)] for most in (layers, heads)]
    return [
        Choice(f"{what}_layer", f"Layer of the {what}", numbers[0], str(layer)),
        Choice(f"{what}_head", f"Head of the {what}", [ALL, *numbers[1]], ALL if head is None else str(head)),
    ]
