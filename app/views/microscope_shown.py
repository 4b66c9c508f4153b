"""What the microscope shows: the board on which patches are picked, then what the decoder and the encoder make of the patch."""

import streamlit as st

from app import live, selection, sight
from app.components.patch_board import Panel, patch_board
from app.figures import microscope as figures
from app.figures import style
from app.sight import Sight
from app.views.microscope_asked import ask_layer
from app.views.page import Shown
from app.views.probe_page import draw


def board(seen: Sight, editing: bool) -> None:
    """The pictures on which patches are picked."""
    shown = seen.pictures()
    hidden = shown["hidden"].values.reshape(-1) > 0
    picture = seen.picture
    name = f"{picture.name}, class {picture.label}" if picture.label else picture.name
    panels = [
        Panel("Image", style.png(shown["original"].values), f"the image, {name}"),
        Panel(
            f"Masked ({hidden.mean():.0%} hidden)",
            style.png(shown["original"].values),
            "the image without its hidden patches",
            "solid",
        ),
    ]
    words = ["hidden" if is_hidden else "visible" for is_hidden in hidden]
    if "reconstruction" in shown:
        own = shown["reconstruction"].values
        panels.append(Panel("Reconstruction", style.png(own), "visible patches pasted, hidden ones predicted"))
        if "reconstruction_leaky" in shown:
            leaky = style.png(shown["reconstruction_leaky"].values)
            panels.append(
                Panel(
                    "With true statistics (leaks)",
                    leaky,
                    "the same, with the true mean and deviation of hidden patches",
                )
            )
        errors = shown["picture_error"].where(shown["hidden"] == 1)
        top = figures.largest(errors)
        panels.append(
            Panel(
                "Error",
                style.png(figures.coloured(errors)),
                "squared error of each hidden patch",
                scale=("0", f"{top:.3g}", str(shown["picture_error"].attrs["units"])),
                gradient=figures.gradient(),
            )
        )
        values, nearest = errors.values.reshape(-1), shown["nearest_error"].values.reshape(-1)
        words = [
            f"{word}, error {value:.3g} (a copy of the nearest visible patch: {copy:.3g})" if word == "hidden" else word
            for word, value, copy in zip(words, values, nearest, strict=True)
        ]
    patch_board(
        panels,
        grid=seen.grid,
        is_hidden=hidden.tolist(),
        patch=seen.patch,
        words=words,
        editing=editing,
        key="microscope-board",
        on_pick=lambda patch: selection.change(patch=patch),
        on_toggle=lambda patch: toggle(hidden.tolist(), patch),
    )
    edited = " The mask was edited by hand." if seen.chosen.hidden else ""
    st.caption(f"{seen.loaded.place.label}; {name}.{edited}")


def toggle(is_hidden: list[bool], patch: int) -> None:
    """Hide a patch, or show it; at least one of each stays."""
    changed = [hidden != (place == patch) for place, hidden in enumerate(is_hidden)]
    if 0 < sum(changed) < len(changed):
        selection.change(hidden=selection.pack(changed), patch=patch)
    else:
        st.toast("A mask hides at least one patch, and shows at least one.", icon=":material/block:")


@st.fragment
def filling_in(place: live.Place) -> None:
    """What the prediction is made of: decoder attention, contrast terms."""
    seen = sight.see(live.load(place), selection.current())
    layers, heads = seen.loaded.decoder
    found = seen.attention() if layers else None
    if found is not None and "decoder" in found:
        ask_layer("decoder", layers, heads, seen)
        head = seen.chosen.decoder_head
        rows = found["decoder"].sel(decoder_layer=seen.decoder_layer)
        rest = float(found["decoder_prefix"].sel(decoder_layer=seen.decoder_layer).mean())
        is_hidden = bool(seen.pictures()["hidden"].values.reshape(-1)[seen.patch])
        caution = "" if is_hidden else " This patch is visible: its own prediction was never trained."
        draw(
            Shown(
                f"Decoder attention, layer {seen.decoder_layer}",
                f"Where the decoder looks from patch {seen.patch} to predict it. {rest:.0%} goes to the class token, mean of "
                f"heads.{caution}",
                figures.attention(rows, seen.patch, head),
            ),
            "microscope-decoder",
        )
    else:
        st.subheader("Decoder attention")
        problem = None if found is None else found.attrs.get("decoder_problem")
        st.info(
            f"Its maps need {problem}."
            if problem
            else "This model predicts by one linear layer, without a decoder of blocks."
        )
    terms = seen.contrast()
    draw(
        Shown(
            "Contrast terms",
            f"Of each patch, over {sight.NUM_MASKS} masks of the strategy: its loss; what the mask alone changes in it "
            "(invariance); how badly it is told from the image's other patches (local consistency). Empty where no mask hides "
            "the patch. The picked patch's own stand in the table below. Terms between images need more than one.",
            figures.contrast(terms),
        ),
        "microscope-contrast",
    )


@st.fragment
def encoding_it(place: live.Place) -> None:
    """What the token knows: encoder attention, receptive fields."""
    seen = sight.see(live.load(place), selection.current())
    found = seen.attention()
    if "encoder" not in found:
        st.subheader("Encoder attention")
        st.info(f"Its maps need {found.attrs['encoder_problem']}.")
        return
    ask_layer("encoder", *seen.loaded.encoder, seen)
    layer, head = seen.encoder_layer, seen.chosen.encoder_head
    masked = found["encoder"].sel(view="masked", layer=layer)
    has_token = bool(masked.notnull().any())
    view = "masked" if has_token else "full"
    rest = float(found["encoder_prefix"].sel(view=view, layer=layer).mean())
    where = "under this mask" if has_token else "in the full image, since the encoder does not see it under this mask"
    draw(
        Shown(
            f"Encoder attention, layer {layer}",
            f"Where the encoder looks from patch {seen.patch}, {where}. {rest:.0%} goes to class token and registers, mean "
            "of heads.",
            figures.attention(found["encoder"].sel(view=view, layer=layer), seen.patch, head),
        ),
        "microscope-encoder",
    )
    draw(
        Shown(
            "Effective receptive field",
            f"Size of the gradient, at every pixel, of the patch's token after layer {layer} (on the full image, and under "
            "this mask where it is visible) and of its prediction, along random signs; each map to its own maximum. Half of "
            "the gradient lies within the dotted disc.",
            figures.receptive_field(seen.receptive_field(), seen.patch, seen.grid),
        ),
        "microscope-field",
    )
