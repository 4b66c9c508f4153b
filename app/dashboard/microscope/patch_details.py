"""Beside the microscope's pictures: the patch in numbers, its position among stored points, and
its export."""

import shlex

import pandas as pd
import streamlit as st

from lcmae.app.dashboard.components import export
from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.numbers import numbers_table
from lcmae.app.dashboard.components.plain import plain, prose
from lcmae.app.dashboard.components.probe_page import draw
from lcmae.app.dashboard.live.inspection import NUM_MASKS, Inspection
from lcmae.app.dashboard.microscope import maps
from lcmae.app.dashboard.page import Panel
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures import embedding_consistency
from lcmae.app.figures import microscope as figures
from lcmae.errors import InputError

MAP = "embedding_consistency"
"""The probe whose stored table of points places the patch among others."""


def numbers(inspected: Inspection) -> None:
    """The patch in numbers."""
    predicts = inspected.loaded.model.has_prediction
    row, column = divmod(inspected.patch, inspected.grid[1])
    over = f" Loss and its terms are over {NUM_MASKS} masks." if predicts else ""
    caption = (
        f"Patch {inspected.patch}: row {row + 1}, column {column + 1}. Errors are of hidden patches.{over} Radii are of the "
        "disc that holds half of a receptive field."
    )
    numbers_table(frame_of(inspected), "In numbers", caption, "microscope-numbers")


def frame_of(inspected: Inspection) -> pd.DataFrame:
    """The patch in numbers, as a table."""
    predicts = inspected.loaded.model.has_prediction
    fields = inspected.receptive_field() if inspected.loaded.encoder[0] else None
    return figures.numbers(inspected.pictures(), inspected.contrast() if predicts else None, fields, inspected.patch)


def among_others(inspected: Inspection) -> None:
    """The patch in the stored table of points, or the command that computes it."""
    st.subheader("Among other patches")
    location = inspected.loaded.location
    if location.adapter is not None:
        st.info("Points are stored with a run; this model exists only as a file.", icon=":material/terminal:")
        return
    if location.run is None or location.step is None:
        st.info("Points are stored with a run; `lcmae import` makes a run of this file.", icon=":material/terminal:")
        return
    command = f"{reading.probe_command(MAP, location.run, location.step)} --embedding-consistency.umap"
    if location.step not in reading.result_steps(location.run, MAP):
        hint(f"`{MAP}` has not been computed for {plain(location.label)}. This does it:", command)
        return
    try:
        result = reading.result_of(location.run, location.step, MAP)
    except InputError as error:
        hint(f"{plain(error)}. Compute it again with", command)
        return
    data, split = inspected.chosen.data or inspected.loaded.data, inspected.chosen.split
    wanted = {"data": data, "split": split, "checkpoint_sha256": inspected.loaded.sha256}
    has_other = any(str(result.attrs.get(name)) != value for name, value in wanted.items())
    # all images come in the order of the files, so their numbers are others
    if inspected.chosen.upload or has_other or "--images all" in str(result.attrs.get("command")):
        stored_of = f"{result.attrs.get('data')}, {result.attrs.get('split')}"
        hint(
            f"The stored points are not of this image's data ({stored_of}). This computes them for it:",
            f"{command} --data {shlex.quote(data)} --split {split}",
        )
        return
    planes = embedding_consistency.planes(result)
    tokens = result["kind"].values == "token"
    of_image = tokens & (result["image"].values == inspected.picture.index)
    is_there = bool((of_image & (result["position"].values == inspected.patch)).any())
    marked = "The star is this patch" if is_there else "This patch is not in the stored sample"
    draw(
        Panel(
            f"{planes[0].upper()} of tokens",
            f"Tokens of the last block on full images, a sample of {int(tokens.sum())}, of which {int(of_image.sum())} are of "
            f"this image. {marked}.",
            figures.in_plane(result, planes[0], inspected.picture.index, inspected.patch),
        ),
        "microscope-plane",
    )
    if "umap" not in planes:
        hint("No UMAP was computed. This does it (its first use on a machine takes a minute):", command)


def hint(sentence: str, command: str) -> None:
    """What is missing, and how to get it."""
    st.info(prose(sentence), icon=":material/terminal:")
    to_copy(command, key="microscope-points")


def export_section(inspected: Inspection) -> None:
    """The link, the pictures as a figure, the command."""
    st.subheader("Export")
    location = inspected.loaded.location
    # all else stands in the address, which may move on without this part of the page
    export.link(a=location.name, **({} if location.step is None else {"a_step": str(location.step)}))
    # not in an expander: what is folded is drawn at every click all the same
    if st.toggle("Show numbers, pictures and maps with their files", key="microscope-figure"):
        export.table_files(frame_of(inspected), "microscope")
        draw(
            Panel(
                "Image, mask, reconstruction, error",
                f"{plain(inspected.loaded.location.label)}; {plain(inspected.picture.name)}.",
                figures.pictures(inspected.pictures(), inspected.patch),
            ),
            "microscope-pictures",
        )
        # side by side, as their maps stand above: three of them fill half a page
        filling, encoding = st.columns(2, gap="large")
        for name, mapped in maps.every(inspected).items():
            with encoding if name in ("encoder", "field", "queries") else filling:
                draw(Panel(mapped.title, mapped.caption, mapped.maps.figure()), f"microscope-{name}")
    chosen = inspected.chosen
    if chosen.upload or chosen.hidden or location.adapter or not inspected.loaded.model.has_prediction:
        return  # the batch command has no such image, mask, model or number
    to_copy(
        command(inspected),
        key="microscope-command",
        caption=f"Error and contrast terms of this image in a terminal, as picture {inspected.picture.index} of each result:",
    )


def command(inspected: Inspection) -> str:
    """What computes the same by the batch command; its results hold this image as the last of their
    pictures."""
    chosen, count = inspected.chosen, str(inspected.picture.index + 1)
    words = ["lcmae", "probe", "reconstruction", "local_contrast", "--checkpoint", str(inspected.loaded.location.path)]
    words += ["--data", chosen.data or inspected.loaded.data, "--split", chosen.split, "--images", count]
    words += ["--mask", chosen.mask, "--ratio", str(chosen.ratio), "--seed", str(chosen.seed)]
    words += ["--reconstruction.num-pictures", count, "--local-contrast.num-pictures", count]
    return shlex.join([*words, "--out", "microscope"])
