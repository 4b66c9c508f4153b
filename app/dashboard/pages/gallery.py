"""Hundreds of images of one result in the order of any number that is stored of each; a click opens
the microscope there."""

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import compute_button, gallery, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.plain import prose
from lcmae.app.dashboard.components.probe_page import (
    STYLE,
    again,
    ask_condition,
    ask_for_runs,
    briefly,
    choose,
    condition_of,
)  # fmt: skip
from lcmae.app.dashboard.menu import GO, WITH, Page
from lcmae.app.dashboard.stored import measured, reading
from lcmae.app.figures import gallery as figures
from lcmae.errors import InputError
from lcmae.probes.results.conditions import Condition, split_settings

PROBE, ATTENTION = "reconstruction", "encoder_attention"
SUMMARY = (
    "Every image that *Reconstruction* was measured on, with its error on hidden patches under one mask. Beside it are the "
    "error of a copy of the nearest visible patch, that of another picked run on the same image under the same mask, and the "
    "attention distance on the whole image, where *Encoder attention* was measured on the same. An error under one mask is noisy: "
    "the order says where to look, not which image is harder."
)
PER_PAGE = 300
FIRST, LAST = "largest first", "smallest first"
ALL = "all classes"


def show(page: Page, picked: picks.Picks) -> None:
    """One run's images."""
    st.html(STYLE)
    st.title(page.title)
    if not ask_for_runs(picked):
        st.markdown(SUMMARY)
        return
    found = picks.find(picked, PROBE, ask_condition(picked, PROBE))
    by_run = {name: result for name, result in found.results.items() if figures.has_images(result)}
    old = [
        (
            f"{name}: the stored result is from before single images were stored. This computes it again:",
            f"{again(PROBE, picked.runs[name], found.steps[name], result)} --overwrite",
        )
        for name, result in found.results.items()
        if name not in by_run
    ]
    for sentence, command in [*found.missing, *old]:
        compute_button.offer(sentence, command)
    for sentence in found.inapplicable:
        st.info(prose(sentence), icon=":material/block:")
    if by_run:
        of_run(picked, found, {name: beside(picked, found, name) for name in by_run})
    st.caption(SUMMARY)


def beside(picked: picks.Picks, found: picks.Found, name: str) -> xr.Dataset:
    """The images of a run with their attention distance, where it is stored of the same weights and
    the same images."""
    result, path, step = found.results[name], picked.runs[name], found.steps[name]
    wanted = Condition.of(result.attrs)
    for condition in reversed(measured.conditions_of(path, ATTENTION, [step])):
        if all(getattr(condition, part) == getattr(wanted, part) for part in ("checkpoint", "data", "split", "images")):
            try:
                return figures.with_distance(result, reading.result_of(path, step, ATTENTION, condition))
            except InputError:
                continue  # its own page says why it cannot be read
    return result


def of_run(picked: picks.Picks, found: picks.Found, by_run: Mapping[str, xr.Dataset]) -> None:
    """What is asked, the sentence, the pictures."""
    with st.container(horizontal=True):
        name = choose("images of", list(by_run))
        key = choose("sorted by", figures.sort_keys(by_run, name), key="gallery_by")
        order = choose("order", [FIRST, LAST], key="gallery_order")
        classes = sorted({int(one) for one in figures.class_of(by_run[name]) if one >= 0})
        chosen = choose("class", [ALL, *map(str, classes)], key="gallery_class") if len(classes) > 1 else ALL
        shown = figures.ordered(
            by_run, name, key, descending=order == FIRST, of_class=None if chosen == ALL else int(chosen)
        )
        starts = range(0, max(len(shown.images), 1), PER_PAGE)
        pages = [f"{first + 1} to {min(first + PER_PAGE, len(shown.images))}" for first in starts]
        part = pages.index(choose("images", pages, key="gallery_part"))
    result, step = by_run[name], found.steps[name]
    st.caption(
        f":material/rule: {prose(measured.words(condition_of(result), found.conditions, {name: result}, [step]))}"
    )
    names = dict(zip(by_run, briefly(by_run), strict=True))
    brief = {names[run]: one for run, one in by_run.items()}
    answer(figures.answer(brief, names[name], brief_key(key, names)), "gallery")
    st.caption(prose(f"{len(shown.images)} images, by {key}, {order}. {opens(result)}"))
    sheet, rows, height, width = figures.sheet(result)
    here = slice(part * PER_PAGE, (part + 1) * PER_PAGE)
    gallery.gallery(
        list(zip(shown.images[here], shown.words[here], shown.titles[here], strict=True)),
        sheet=sheet,
        rows=rows,
        across=min(figures.ACROSS, result.sizes["thumbnail"]),
        ratio=width / height,
        key="gallery-pictures",
        on_open=lambda image: open_microscope(result, name, step, image),
    )


def brief_key(key: str, names: Mapping[str, str]) -> str:
    """The number that images are sorted by, with the other run's name as the legend has it."""
    return next((figures.less(short) for full, short in names.items() if key == figures.less(full)), key)


def opens(result: xr.Dataset) -> str:
    """Where a click leads."""
    if is_in_order(result):
        return "A click opens the microscope at that image."
    return "A click opens the microscope at this run, where images are numbered differently: pick the image there."


def is_in_order(result: xr.Dataset) -> bool:
    """Whether the microscope counts images as this result does: the first of the fixed choice of
    one split. All images come in the order of their files."""
    return result.attrs.get("split") in ("test", "train") and "--images all" not in str(result.attrs.get("command"))


def open_microscope(result: xr.Dataset, name: str, step: int, image: int) -> None:
    """The image there, under the mask that it had."""
    words: dict[str, Any] = {"a": name, "a_step": step}
    if is_in_order(result):
        words |= {"data": result.attrs.get("data", ""), "split": result.attrs["split"], "image": image}
    words |= mask_of(result)
    st.session_state[GO] = "microscope"
    st.session_state[WITH] = {field: str(value) for field, value in words.items()}


def mask_of(result: xr.Dataset) -> dict[str, Any]:
    """The mask strategy and the seed, as the microscope asks for them: that of the command line, of
    which the stored one is made (`lcmae.probes.statistics.seeds`)."""
    mask, _ = split_settings(str(result.attrs.get("settings", "")))
    found = json.loads(mask) if mask else {}
    words = reading.words_of(result.attrs.get("command", ""))
    seed = words[words.index("--seed") + 1] if "--seed" in words[:-1] else ""
    return {
        **{name: found[key] for name, key in (("mask", "kind"), ("ratio", "ratio")) if key in found},
        **({"seed": seed} if seed.isdecimal() else {}),
    }
