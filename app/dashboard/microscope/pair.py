"""One image under one mask through two models: the same patch, one colour scale, and the
difference."""

from collections.abc import Callable

import numpy as np
import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components.patch_board import Tile, patch_board
from lcmae.app.dashboard.components.plain import plain
from lcmae.app.dashboard.components.probe_page import draw
from lcmae.app.dashboard.live import inspection, models, selection
from lcmae.app.dashboard.live.inspection import Inspection
from lcmae.app.dashboard.live.selection import Selection
from lcmae.app.dashboard.microscope.controls import LOADING, ask_image, ask_mask, painter
from lcmae.app.dashboard.page import Panel
from lcmae.app.figures import pair as figures
from lcmae.app.figures import style
from lcmae.errors import InputError
from lcmae.safety.text import printable

NAMES = ("A", "B")


@st.fragment
def bench(a: models.Location, b: models.Location) -> None:
    """Image, mask and patch; everything below follows them."""
    try:
        with st.spinner(LOADING, show_time=True):
            first, second = models.load(a), models.load(b)
    except InputError as error:
        st.error("A checkpoint cannot be opened:", icon=":material/block:")
        st.code(printable(error, 1000), language=None, wrap_lines=True)
        return
    chosen, notices = inspection.fit(first, selection.current())
    selection.settle(chosen, notices)
    ask_image(first, chosen)
    editing = ask_mask(chosen)
    try:
        inspected = inspection.inspect(first, chosen)
        other = inspection.inspect(second, as_b(chosen, first, second))
    except InputError as error:
        st.error(plain(error), icon=":material/block:")
        return
    board(inspected, other, editing)
    predictions(inspected, other)
    internals(inspected, other)


def as_b(chosen: Selection, first: models.Loaded, second: models.Loaded) -> Selection:
    """A's selection for B: the same data, the same position in the image on B's grid, and layers
    that B has."""
    (rows, columns), (other_rows, other_columns) = first.model.grid, second.model.grid
    # the patch whose middle is nearest to the middle of A's; the mask is locked by kind, ratio and
    # seed
    patch = rows // 2 * columns + columns // 2 if chosen.patch is None else chosen.patch
    row = int((patch // columns + 0.5) * other_rows / rows)
    column = int((patch % columns + 0.5) * other_columns / columns)
    hidden = chosen.hidden if first.model.grid == second.model.grid else ""
    data = chosen.data or first.data
    moved = chosen.changed(patch=row * other_columns + column, hidden=hidden, data=data, upload=chosen.upload)
    if data not in models.sources(second):
        raise InputError(f"expected data that both checkpoints can use, got {data}, which only A can use")
    return inspection.fit(second, moved)[0]


def board(inspected: Inspection, other: Inspection, editing: bool) -> None:
    """The image and its mask, on which the patch is picked."""
    shown, beside = inspected.pictures(), other.pictures()
    hidden = shown["hidden"].values.reshape(-1) > 0
    picture = style.png(shown["original"].values)
    panels = [
        Tile("Image", picture, f"the image, {inspected.picture.name}"),
        Tile(f"Masked ({hidden.mean():.0%} hidden)", picture, "the image without its hidden patches", "solid"),
    ]
    patch_board(
        panels,
        grid=inspected.grid,
        is_hidden=hidden.tolist(),
        patch=inspected.patch,
        words=["hidden" if one else "visible" for one in hidden],
        editing=editing,
        key="compare-board",
        on_pick=lambda patch: selection.change(patch=patch),
        on_edit=painter(inspected.chosen),
    )
    same_mask = shown["hidden"].shape == beside["hidden"].shape and bool((shown["hidden"] == beside["hidden"]).all())
    same_image = inspected.picture.key == other.picture.key
    image = "The same pixels go to both" if same_image else "The image is the same file, at each model's own size"
    mask = (
        "under the same mask"
        if same_mask
        else f"under masks of one kind, ratio and seed, but each on its own grid ({_grid(inspected)} and {_grid(other)} "
        "patches)"
    )
    st.caption(
        f"A: {plain(inspected.loaded.location.label)}. B: {plain(other.loaded.location.label)}. {image}, {mask}."
    )


def predictions(inspected: Inspection, other: Inspection) -> None:
    """Reconstructions and their errors."""
    shown, beside = inspected.pictures(), other.pictures()
    silent = [name for name, one in zip(NAMES, (shown, beside), strict=True) if "reconstruction" not in one]
    if silent:
        st.info(
            f"{' and '.join(silent)} {'is' if len(silent) == 1 else 'are'} an encoder alone, so there is no reconstruction to "
            "compare.",
            icon=":material/info:",
        )
        return
    leak = " Patches that are predicted normalised get mean and deviation of the nearest visible patch."
    normalised = any(one.loaded.model.config.normalize_targets for one in (inspected, other))
    draw(
        Panel(
            "Reconstructions",
            "Visible patches pasted, hidden ones predicted; the difference is that of pixel values, mean over channels."
            + (leak if normalised else ""),
            figures.pictures(shown, beside, NAMES),
        ),
        "compare-pictures",
    )
    first, second = (one["picture_error"].where(one["hidden"] == 1) for one in (shown, beside))
    of_image = f"Of this image: A {float(shown['error']):.4g}, B {float(beside['error']):.4g}."
    units = [str(one["picture_error"].attrs["units"]) for one in (shown, beside)]
    if units[0] != units[1]:
        st.caption(
            f"Errors are not compared: A's are in {units[0]}, B's in {units[1]}, since they predict different targets. "
            f"{of_image}"
        )
        return
    draw(
        Panel(
            "Errors",
            f"Mean squared error of each hidden patch, in the space of the targets. {of_image} Blue: B is better.",
            figures.maps(
                first, second, NAMES, f"squared error [{units[0]}]", grid=inspected.grid, patch=inspected.patch
            ),
        ),
        "compare-errors",
    )


def internals(inspected: Inspection, other: Inspection) -> None:
    """Attention and receptive fields of the patch, where both have them."""
    left, right = inspected.attention(), other.attention()
    views: list[tuple[str, str, Callable[[xr.Dataset, Inspection], xr.DataArray]]] = [
        (
            "encoder",
            "Encoder attention on the full image",
            lambda found, one: found["encoder"].sel(view="full", layer=one.encoder_layer).mean("head"),
        ),
        (
            "decoder",
            "Decoder attention",
            lambda found, one: found["decoder"].sel(decoder_layer=one.decoder_layer).mean("decoder_head"),
        ),
    ]
    for name, title, rows in views:
        if name not in left or name not in right:
            lacking = [letter for letter, found in zip(NAMES, (left, right), strict=True) if name not in found]
            st.caption(f"{title} is not compared: {' and '.join(lacking)} has none that can be read.")
            continue
        layers = [getattr(one, f"{name}_layer") for one in (inspected, other)]
        draw(
            Panel(
                title,
                f"From the outlined patch to every patch, mean of heads, layer {layers[0]} of A and {layers[1]} of B. "
                + _only_alike(inspected, other),
                figures.maps(
                    rows(left, inspected),
                    rows(right, other),
                    NAMES,
                    "attention",
                    grid=inspected.grid,
                    patch=inspected.patch,
                ),
            ),
            f"compare-{name}",
        )
    if not inspected.loaded.encoder[0] or not other.loaded.encoder[0]:
        return
    fields = [one.receptive_field()["field"] for one in (inspected, other)]
    for target, title in (("token, full image", "Receptive field of the token"), ("prediction", "… of the prediction")):
        lacking = [letter for letter, field in zip(NAMES, fields, strict=True) if target not in field["target"].values]
        if lacking:
            st.caption(f"Receptive field of the prediction is not compared: there is none for {' and '.join(lacking)}.")
            continue
        first, second = (figures.shares(field.sel(target=target)) for field in fields)
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            continue
        draw(
            Panel(
                title,
                f"Size of the gradient at every pixel, as a share of all of it, since its scale says nothing between models; "
                f"token after block {inspected.encoder_layer} of A and {other.encoder_layer} of B."
                if target != "prediction"
                else "The same of the patch's prediction, under the mask.",
                figures.maps(
                    first, second, NAMES, "share of the gradient [‰]", grid=inspected.grid, patch=inspected.patch
                ),
            ),
            f"compare-field-{target.split(',')[0]}",
        )


def _only_alike(inspected: Inspection, other: Inspection) -> str:
    return "" if inspected.grid == other.grid else "The grids differ, so there is no difference to draw."


def _grid(one: Inspection) -> str:
    return f"{one.grid[0]} x {one.grid[1]}"
