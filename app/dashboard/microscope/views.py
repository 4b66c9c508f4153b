"""What the microscope shows: the board on which patches are picked, then what the decoder and the
encoder make of the patch."""

from collections.abc import Sequence

import streamlit as st

from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.patch_board import Choice, patch_board, patch_maps
from lcmae.app.dashboard.components.plain import plain
from lcmae.app.dashboard.live import inspection, models, selection
from lcmae.app.dashboard.live.inspection import Inspection
from lcmae.app.dashboard.microscope import maps, queries
from lcmae.app.dashboard.microscope.controls import ALL, layer_choices, painter
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures.patch_maps import gradient

MOVED = "microscope-moved"
"""Set where a patch was picked in a map, or the encoder's layer: the fragment is not all that
follows."""


def board(inspected: Inspection, editing: bool) -> None:
    """The pictures on which patches are picked."""
    shown = maps.pictures(inspected)
    patch_board(
        shown.panels,
        grid=inspected.grid,
        is_hidden=shown.is_hidden,
        patch=inspected.patch,
        words=shown.words,
        editing=editing,
        key="microscope-board",
        on_pick=lambda patch: selection.change(patch=patch),
        on_edit=painter(inspected.chosen),
        gradient=gradient(),
    )
    edited = " The mask was edited by hand." if inspected.chosen.hidden else ""
    st.caption(f"{plain(inspected.loaded.location.label)}; {plain(maps.name_of(inspected))}.{edited}")


def draw_maps(mapped: maps.Mapped, name: str, choices: Sequence[Choice] = ()) -> None:
    """Maps of the patch, in which another one can be picked. They are pictures, which a browser
    changes in place: a figure it would draw anew, in the time that all else takes together."""
    shown = mapped.maps
    patch_maps(
        mapped.panels,
        title=mapped.title,
        caption=mapped.caption,
        grid=shown.grid,
        patch=shown.patch,
        words=shown.words(),
        scale=("0", f"{shown.top:.3g}", shown.unit),
        gradient=gradient(),
        key=f"microscope-{name}",
        on_pick=move,
        choices=choices,
        on_choose=choose,
    )


def move(patch: int) -> None:
    """A patch was picked in a map: all views are to follow."""
    selection.change(patch=patch)
    st.session_state[MOVED] = True


def choose(name: str, option: str) -> None:
    """A layer or a head was picked. One column shows it; the encoder's layer decides numbers of the
    table, too, and the map over the photograph may be the same attention."""
    selection.change(**{name: None if option == ALL else int(option)})
    if name == "encoder_layer" or name.startswith(f"{selection.current().overlay}_"):
        st.session_state[MOVED] = True


def follow() -> None:
    """Run the whole page if a map of this fragment was asked for another patch."""
    if st.session_state.pop(MOVED, False):
        st.rerun()


@st.fragment
def filling_in(location: models.Location) -> None:
    """What the prediction is made of: decoder attention, contrast terms."""
    follow()
    inspected = inspection.inspect(models.load(location), selection.current())
    attention = maps.decoder_attention(inspected)
    if attention is not None:
        draw_maps(attention, "decoder", layer_choices("decoder", *inspected.loaded.decoder, inspected))
    else:
        st.subheader("Decoder attention")
        problem = inspected.attention().attrs.get("decoder_problem") if inspected.loaded.decoder[0] else None
        st.info(
            f"Its maps need {plain(problem)}."
            if problem
            else "This model predicts by one linear layer, without a decoder of blocks."
        )
    draw_maps(maps.contrast(inspected), "contrast")


@st.fragment
def encoding_it(location: models.Location) -> None:
    """What the token knows: encoder attention, receptive fields."""
    follow()
    inspected = inspection.inspect(models.load(location), selection.current())
    attention = maps.encoder_attention(inspected)
    if attention is not None:
        draw_maps(attention, "encoder", layer_choices("encoder", *inspected.loaded.encoder, inspected))
    else:
        st.subheader("Encoder attention")
        st.info(f"Its maps need {plain(inspected.attention().attrs['encoder_problem'])}.")
    if not inspected.loaded.encoder[0]:
        return
    fields = maps.receptive_field(inspected)
    if fields is not None:
        draw_maps(fields, "field")
    else:
        st.subheader("Effective receptive field")
        st.info("Every gradient is zero here.")
    looking = maps.query_maps(inspected)
    if looking is not None:
        draw_maps(looking, "queries")
    elif location.run is not None and location.step is not None:
        to_copy(
            reading.probe_command(queries.PROBE, location.run, location.step),
            key="microscope-queries",
            caption="This trains the queries of an attentive probe (on data with classes); where they attend is then shown "
            "here:",
        )
