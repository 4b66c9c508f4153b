"""Beside the microscope's pictures: the patch in numbers, its place among stored points, and what
can be taken away."""

import shlex

import pandas as pd
import streamlit as st

from lcmae.app.dashboard.components import export
from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.numbers import numbers_table
from lcmae.app.dashboard.components.probe_page import draw
from lcmae.app.dashboard.live.inspection import NUM_MASKS, Sight
from lcmae.app.dashboard.microscope import maps
from lcmae.app.dashboard.page import Shown
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures import embedding_consistency
from lcmae.app.figures import microscope as figures
from lcmae.errors import InputError

MAP = "embedding_consistency"
"""The probe whose stored table of points places the patch among others."""


def numbers(seen: Sight) -> None:
    """The patch in numbers."""
    predicts = seen.loaded.model.has_prediction
    row, column = divmod(seen.patch, seen.grid[1])
    over = f" Loss and its terms are over {NUM_MASKS} masks." if predicts else ""
    caption = (
        f"Patch {seen.patch}: row {row + 1}, column {column + 1}. Errors are of hidden patches.{over} Radii are of the disc that "
        "holds half of a receptive field."
    )
    numbers_table(frame_of(seen), "In numbers", caption, "microscope-numbers")


def frame_of(seen: Sight) -> pd.DataFrame:
    """The patch in numbers, as a table to take away."""
    predicts = seen.loaded.model.has_prediction
    fields = seen.receptive_field() if seen.loaded.encoder[0] else None
    return figures.numbers(seen.pictures(), seen.contrast() if predicts else None, fields, seen.patch)


def among_others(seen: Sight) -> None:
    """The patch in the stored table of points, or the command that computes it."""
    st.subheader("Among other patches")
    place = seen.loaded.place
    if place.run is None or place.step is None:
        st.info("Points are stored with a run; `lcmae import` makes one of this file.", icon=":material/terminal:")
        return
    command = f"{reading.probe_command(MAP, place.run, place.step)} --embedding-consistency.umap"
    if place.step not in reading.result_steps(place.run, MAP):
        tell(f"`{MAP}` has not been computed for {place.label}. This does it:", command)
        return
    try:
        result = reading.result_of(place.run, place.step, MAP)
    except InputError as error:
        tell(f"{error}. Compute it again with", command)
        return
    data, split = seen.chosen.data or seen.loaded.data, seen.chosen.split
    wanted = {"data": data, "split": split, "checkpoint_sha256": seen.loaded.sha256}
    has_other = any(str(result.attrs.get(name)) != value for name, value in wanted.items())
    # all images come in the order of the files, so their numbers are others
    if seen.chosen.upload or has_other or "--images all" in str(result.attrs.get("command")):
        stored_of = f"{result.attrs.get('data')}, {result.attrs.get('split')}"
        tell(
            f"The stored points are not of this image's data ({stored_of}). This computes them for it:",
            f"{command} --data {shlex.quote(data)} --split {split}",
        )
        return
    planes = embedding_consistency.planes(result)
    tokens = result["kind"].values == "token"
    of_image = tokens & (result["image"].values == seen.picture.index)
    is_there = bool((of_image & (result["position"].values == seen.patch)).any())
    said = "The star is this patch" if is_there else "This patch was not drawn into the table"
    draw(
        Shown(
            f"{planes[0].upper()} of tokens",
            f"Tokens of the last block on full images, a sample of {int(tokens.sum())}, of which {int(of_image.sum())} are of "
            f"this image. {said}.",
            figures.in_plane(result, planes[0], seen.picture.index, seen.patch),
        ),
        "microscope-plane",
    )
    if "umap" not in planes:
        tell("No UMAP was computed. This does it (its first use on a machine takes a minute):", command)


def tell(sentence: str, command: str) -> None:
    """What is missing, and how to get it."""
    st.info(sentence, icon=":material/terminal:")
    to_copy(command, key="microscope-points")


def take_it_away(seen: Sight) -> None:
    """The link, the pictures as a figure, the command."""
    st.subheader("Take it away")
    place = seen.loaded.place
    # all else stands in the address, which may move on without this part of the page
    export.link(a=place.name, **({} if place.step is None else {"a_step": str(place.step)}))
    # not in an expander: what is folded is drawn at every click all the same
    if st.toggle("Show numbers, pictures and maps with their files", key="microscope-figure"):
        export.table_files(frame_of(seen), "microscope")
        draw(
            Shown(
                "Image, mask, reconstruction, error",
                f"{seen.loaded.place.label}; {seen.picture.name}.",
                figures.pictures(seen.pictures(), seen.patch),
            ),
            "microscope-pictures",
        )
        # side by side, as their maps stand above: three of them fill half a page
        filling, encoding = st.columns(2, gap="large")
        for name, mapped in maps.every(seen).items():
            with encoding if name in ("encoder", "field") else filling:
                draw(Shown(mapped.title, mapped.caption, mapped.maps.figure()), f"microscope-{name}")
    if seen.chosen.upload or seen.chosen.hidden or not seen.loaded.model.has_prediction:
        return
    to_copy(
        command(seen),
        key="microscope-command",
        caption=f"Error and contrast terms of this image in a terminal, as picture {seen.picture.index} of each result:",
    )


def command(seen: Sight) -> str:
    """What computes the same by the batch command; its results hold this image as the last of their
    pictures."""
    chosen, count = seen.chosen, str(seen.picture.index + 1)
    words = ["lcmae", "probe", "reconstruction", "local_contrast", "--checkpoint", str(seen.loaded.place.path)]
    words += ["--data", chosen.data or seen.loaded.data, "--split", chosen.split, "--images", count]
    words += ["--mask", chosen.mask, "--ratio", str(chosen.ratio), "--seed", str(chosen.seed)]
    words += ["--reconstruction.num-pictures", count, "--local-contrast.num-pictures", count]
    return shlex.join([*words, "--out", "microscope"])
