"""What the microscope shows: the board on which patches are picked, then what the decoder and the
encoder make of the patch."""

from collections.abc import Sequence

import streamlit as st

from lcmae.app.dashboard.components.patch_board import Choice, patch_board, patch_maps
from lcmae.app.dashboard.live import inspection, selection
from lcmae.app.dashboard.live import models as live
from lcmae.app.dashboard.live.inspection import Sight
from lcmae.app.dashboard.microscope import controls as asked
from lcmae.app.dashboard.microscope import maps as microscope_maps
from lcmae.app.figures import patch_maps as maps

MOVED = "microscope-moved"
"""Set where a patch was picked in a map, or the encoder's layer: the fragment is not all that
follows."""


def stay_clear(*models: live.Loaded) -> None:
    """Have nothing fade while a small model's answer is on its way. From half a second on Streamlit
    fades what is not drawn anew; small models answer before, but the browser makes a layer of every
    element that waits for its fade: a twentieth to a tenth of an answer's time. A large model's
    page fades, as all others."""
    if all(loaded.is_small for loaded in models):
        st.html("<style>[data-stale=true] { opacity: 1 !important; transition: none !important }</style>")


def board(seen: Sight, editing: bool) -> None:
    """The pictures on which patches are picked."""
    shown = microscope_maps.pictures(seen)
    patch_board(
        shown.panels,
        grid=seen.grid,
        is_hidden=shown.is_hidden,
        patch=seen.patch,
        words=shown.words,
        editing=editing,
        key="microscope-board",
        on_pick=lambda patch: selection.change(patch=patch),
        on_edit=asked.painter(seen.chosen),
        gradient=maps.gradient(),
    )
    edited = " The mask was edited by hand." if seen.chosen.hidden else ""
    st.caption(f"{seen.loaded.place.label}; {microscope_maps.name_of(seen)}.{edited}")


def draw_maps(mapped: microscope_maps.Mapped, name: str, choices: Sequence[Choice] = ()) -> None:
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
        gradient=maps.gradient(),
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
    table, too."""
    selection.change(**{name: None if option == asked.ALL else int(option)})
    if name == "encoder_layer":
        st.session_state[MOVED] = True


def follow() -> None:
    """Run the whole page if a map of this fragment was asked for another patch."""
    if st.session_state.pop(MOVED, False):
        st.rerun()


@st.fragment
def filling_in(place: live.Place) -> None:
    """What the prediction is made of: decoder attention, contrast terms."""
    follow()
    seen = inspection.see(live.load(place), selection.current())
    attention = microscope_maps.decoder_attention(seen)
    if attention is not None:
        draw_maps(attention, "decoder", asked.layer_choices("decoder", *seen.loaded.decoder, seen))
    else:
        st.subheader("Decoder attention")
        problem = seen.attention().attrs.get("decoder_problem") if seen.loaded.decoder[0] else None
        st.info(
            f"Its maps need {problem}."
            if problem
            else "This model predicts by one linear layer, without a decoder of blocks."
        )
    draw_maps(microscope_maps.contrast(seen), "contrast")


@st.fragment
def encoding_it(place: live.Place) -> None:
    """What the token knows: encoder attention, receptive fields."""
    follow()
    seen = inspection.see(live.load(place), selection.current())
    attention = microscope_maps.encoder_attention(seen)
    if attention is not None:
        draw_maps(attention, "encoder", asked.layer_choices("encoder", *seen.loaded.encoder, seen))
    else:
        st.subheader("Encoder attention")
        st.info(f"Its maps need {seen.attention().attrs['encoder_problem']}.")
    if not seen.loaded.encoder[0]:
        return
    fields = microscope_maps.receptive_field(seen)
    if fields is not None:
        draw_maps(fields, "field")
    else:
        st.subheader("Effective receptive field")
        st.info("Every gradient is zero here.")
