"""Start: a checkpoint and photographs, one button, and the answer card."""

import shlex
from pathlib import Path
from typing import Any

import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import compute_button, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.plain import as_code, plain
from lcmae.app.dashboard.components.probe_page import STYLE, draw
from lcmae.app.dashboard.jobs import reader
from lcmae.app.dashboard.jobs.queue import Job, server_queue
from lcmae.app.dashboard.menu import GO, Page
from lcmae.app.dashboard.page import Panel
from lcmae.app.dashboard.pages import TITLES
from lcmae.app.dashboard.stored import reading, taking_apart
from lcmae.app.figures import card, reconstruction
from lcmae.app.figures.answers import Answer
from lcmae.app.zoo_models import models
from lcmae.errors import InputError
from lcmae.probes.results.words import called
from lcmae.progress import clock
from lcmae.runs.within_root import within_root
from lcmae.safety.text import printable

SOURCES = ("a run", "a file below the root", "a model of the zoo", "a name on the hub", "your own file")
CARD = "card"
"""Name of the run whose card is shown; it stands in the address."""

PLANS = "start-plans"
"""In the session: by the run's name, what was started for it."""

MOST_MEGABYTES = 2048
"""Of an uploaded checkpoint."""


def show(page: Page, picked: picks.Picks) -> None:
    """What to take apart; while it is computed, how far it is; then the card."""
    st.html(STYLE)
    wanted = st.query_params.get(CARD, "")
    plans: dict[str, taking_apart.Plan] = st.session_state.setdefault(PLANS, {})
    if not wanted or (wanted not in picked.runs and wanted not in plans):
        st.title(page.title)
        if wanted:
            st.warning(f"No longer here: run {plain(wanted)}.", icon=":material/link_off:")
        ask(picked)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(plain(wanted), width="stretch")
        st.button("Take another one apart", icon=":material/add:", on_click=leave_card)
    begun = plans.get(wanted)
    if begun is not None:
        jobs = jobs_of(begun)
        is_active = any(job.is_active for job in jobs)
        st.fragment(progress, run_every="1s" if is_active else None)(begun, is_active)
    if wanted in picked.runs:
        show_card(wanted, picked.runs[wanted], begun)


def leave_card() -> None:
    """Back to the questions."""
    st.query_params.pop(CARD, None)


def ask(picked: picks.Picks) -> None:
    """Checkpoint, photographs, how much; and the button."""
    st.markdown(
        "Pick or drop a checkpoint of a masked autoencoder or a vision transformer, and photographs to show it. *Take apart* "
        "says what it has learned, how it looks, and whether it has collapsed."
    )
    left, right = st.columns(2, gap="large")
    with left, st.container(border=True):
        st.subheader("1. Checkpoint", anchor=False)
        checkpoint, is_zoo, is_own = ask_checkpoint(picked)
    with right, st.container(border=True):
        st.subheader("2. Photographs", anchor=False)
        data, photographs = ask_photographs(is_own)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        preset = st.segmented_control(
            "How much", list(taking_apart.PRESETS), key="preset", default="quick", required=True, bind="query-params",
            width="content",
        )  # fmt: skip
        pressed = st.button(
            "Take apart", type="primary", icon=":material/play_arrow:", disabled=checkpoint is None, key="take-apart"
        )
    preset = preset or "quick"
    st.caption(f"{preset}: {taking_apart.PRESETS[preset].words}. It continues when you leave this page.")
    if pressed and checkpoint is not None:
        try:
            begin(picked.root, checkpoint, data, photographs, preset, is_zoo=is_zoo)
        except InputError as error:
            st.error(plain(error, 1000), icon=":material/block:")


def ask_checkpoint(picked: picks.Picks) -> tuple[Any, bool, bool]:
    """A path or name or an uploaded file, None where nothing is chosen; whether it is a model of
    the zoo; whether it is a run that knows its own images."""
    zoo = models()
    offered = [one for one in SOURCES if one != "a run" or picked.runs]
    offered = [one for one in offered if one != "a model of the zoo" or zoo]
    kind = st.selectbox("From", offered, index=0 if picked.runs else len(offered) - 1, key="from")
    if kind == "a run":
        names = list(picked.runs)
        first = names.index(picked.names[0]) if picked.names else None
        name = st.selectbox("Run", names, index=first, placeholder="pick a run", key="start_run")
        known = name is not None and bool(reading.config_of(picked.runs[name]).get("data"))
        return (None if name is None else str(picked.runs[name])), False, known
    if kind == "a model of the zoo":
        return st.selectbox("Model", list(zoo), key="start_zoo"), True, False
    if kind == "a name on the hub":
        written = st.text_input("Name", placeholder="hf:facebook/vit-mae-base", key="start_hub", max_chars=300)
        st.caption("This server fetches it once, into its cache of the hub.")
        return (f"hf:{written.strip().removeprefix('hf:')}" if written.strip() else None), False, False
    if kind == "a file below the root":
        found = reader.candidates_below(picked.root)
        name = st.selectbox("File", found.names, index=None, placeholder="pick a checkpoint", key="start_file")
        return (None if name is None else str(within_root(name, picked.root))), False, False
    file = st.file_uploader(
        "Checkpoint", type=[one[1:] for one in taking_apart.SUFFIXES], max_upload_size=MOST_MEGABYTES, key="start_upload",
        help="Kept in uploads/ below the root of the runs. No code in it is run: only names, shapes and numbers are read.",
    )  # fmt: skip
    return file, False, False


def ask_photographs(is_own: bool) -> tuple[str | None, list[Any]]:
    """The name of a source, None for the images of the training; and files that were dropped."""
    files = st.file_uploader(
        "Your photographs", type=[one[1:] for one in taking_apart.IMAGES], accept_multiple_files=True,
        key="start_photographs", max_upload_size=20,
        help=f"Up to {taking_apart.MOST_PHOTOGRAPHS}, kept in uploads/ below the root of the runs.",
    )  # fmt: skip
    own = ["the images of its training"] if is_own else []
    built_in = {"four photographs that come with lcmae": "photographs", "handwritten digits": "digits"}
    sources = {**dict.fromkeys(own), **{name: name for name in picks.data_sources()}, **built_in}
    chosen = st.selectbox("Or", list(sources), key="start_data", disabled=bool(files))
    return sources[chosen], list(files)


def begin(root: Path, checkpoint: Any, data: str | None, photographs: list[Any], preset: str, *, is_zoo: bool) -> None:
    """Keep what was brought, and start the commands; the page then shows how far they are."""
    if not isinstance(checkpoint, str):
        checkpoint = str(taking_apart.keep_checkpoint(root, checkpoint.name, checkpoint.getvalue()))
    if photographs:
        data = f"folder:{taking_apart.keep_photographs(root, [(file.name, file.getvalue()) for file in photographs])}"
    planned = taking_apart.plan(root, checkpoint, data, preset, is_zoo=is_zoo)
    for words in planned.commands:
        server_queue().submit(words, planned.run / "probes" if words[0] == "probe" else None)
    name = taking_apart.run_name(planned, root)
    st.session_state[PLANS][name] = planned
    st.query_params[CARD] = name
    st.rerun()


def jobs_of(planned: taking_apart.Plan) -> list[Job]:
    """Its jobs, as far as the server remembers them."""
    found = (server_queue().find(words) for words in planned.commands)
    return [job for job in found if job is not None]


def progress(planned: taking_apart.Plan, was_active: bool) -> None:
    """Each command with how far it is; the whole page is drawn anew when all have ended."""
    jobs = jobs_of(planned)
    if was_active != any(job.is_active for job in jobs):
        st.rerun()
    if was_active:
        for job in jobs:
            what = {"import": "reading the checkpoint", "zoo": "copying the model", "probe": "probing"}[
                job.arguments[0]
            ]
            if job.state in ("running", "stopping"):
                words = f"{what}: {compute_button.describe(job)}"
                st.progress(0.0 if job.progress is None else job.progress.share, text=plain(words))
            else:
                icon = {"done": ":material/check:", "waiting": ":material/hourglass_empty:"}.get(
                    job.state, ":material/error:"
                )
                st.caption(f"{icon} {plain(what)}: {job.state}")
        st.button("Cancel", icon=":material/stop:", on_click=cancel, args=(planned,), key="cancel-start")
    for job in jobs:
        if job.state == "failed":
            for reason in taking_apart.left_out(job.complaints or [job.error], TITLES):
                st.caption(f":material/info: Left out: {plain(reason, 1000)}.")
        elif job.state == "cancelled":
            st.caption("Cancelled; what was computed by then is shown.")


def cancel(planned: taking_apart.Plan) -> None:
    for job in jobs_of(planned):
        if job.is_active:
            server_queue().cancel(job)


def show_card(name: str, path: Path, begun: taking_apart.Plan | None) -> None:
    """What it is, its headline numbers, findings, pictures, and what it cost."""
    results = stored(path)
    describe(path)
    if not results:
        if begun is None:
            st.info("No probe of the card is stored yet.", icon=":material/info:")
            compute_button.offer(
                "This computes them:",
                shlex.join(["lcmae", "probe", *taking_apart.HEADLINE, "--checkpoint", str(path), "--images", "64"]),
            )
        return
    tiles = tuple(card.headlines(results))
    attended = attention(results)
    # beside each other, so that both are seen without scrolling
    left, right = st.columns([9, 10], gap="medium") if attended is not None else (st.container(), st.container())
    if attended is not None:
        with left:
            draw(attended, "card-attention")
    with right:
        st.subheader("Headline numbers", anchor=False)
        for number in range(0, len(tiles), 2):
            answer(Answer("", tiles[number : number + 2]), f"card-{number // 2}")
        st.subheader("What was found", anchor=False)
        for finding in card.findings(results):
            sentence, more = st.columns([6, 1], vertical_alignment="center")
            sentence.markdown(plain(finding.sentence, 2000))
            more.button(
                "More", key=f"more-{finding.probe}", type="tertiary", on_click=go, args=(finding.probe, name),
                help="the page of this probe",
            )  # fmt: skip
    rebuilt = results.get("reconstruction")
    if rebuilt is not None and "original" in rebuilt:
        draw(
            Panel(
                "Reconstruction",
                "Visible patches are pasted into the reconstruction; the error is in the space of the training's targets.",
                reconstruction.pictures({"model": rebuilt}, count=3),
            ),
            "card-reconstruction",
        )
    cost(results, path, begun)


def stored(path: Path) -> dict[str, xr.Dataset]:
    """Of each probe of a card the newest result that reads."""
    found = {}
    for probe in taking_apart.HEADLINE:
        steps = reading.result_steps(path, probe)
        try:
            if steps:
                found[probe] = reading.result_of(path, steps[-1], probe)
        except InputError as error:
            st.warning(plain(error, 1000), icon=":material/link_off:")
    return found


def attention(results: dict[str, xr.Dataset]) -> Panel | None:
    """Attention over the photographs, of half a page's width; None where it is not stored."""
    attended = results.get("encoder_attention")
    if attended is None or "attention_map" not in attended:
        return None
    query = str(attended["attention_map"].attrs["long_name"]).split(" to each")[0].removeprefix("attention of the ")
    return Panel(
        "Attention over the photograph",
        f"What the encoder's {query} attends to in the whole image, mean over heads, by layer: brighter is more, each map from "
        "0 to its own maximum, on the grey photograph. The microscope has every layer, head and query.",
        card.attention(attended, count=3).update_layout(height=360),
    )


def describe(path: Path) -> None:
    """What the checkpoint is, and what was assumed of it."""
    config = reading.config_of(path)
    model, source = (part if isinstance(part, dict) else {} for part in (config.get("model"), config.get("source")))
    sizes = [
        f"{name.replace('_', ' ')} {_extent(model[name])}"
        for name in ("image_size", "patch_size", "width", "depth", "heads")
        if name in model
    ]
    kind = source.get("format") or model.get("kind") or "unknown"
    st.markdown(f"**{plain(kind)}**: {plain(', '.join(map(str, sizes)))}")
    if model.get("kind") == "vit":  # what every import without a decoder is
        st.caption("An encoder alone: it predicts no patch, so nothing about reconstructions applies.")
    assumed = source.get("assumed")
    if isinstance(assumed, dict) and assumed:
        words = ", ".join(f"{name.replace('_', ' ')} {_assumed(name, value)}" for name, value in assumed.items())
        st.caption(f"Assumed, because the file does not state it: {plain(words, 1000)}")


def cost(results: dict[str, xr.Dataset], path: Path, begun: taking_apart.Plan | None) -> None:
    """Time, images and commands."""
    st.subheader("What it cost", anchor=False)
    conditions = sorted(
        {f"{result.attrs.get('num_images')} images of {result.attrs.get('data')}" for result in results.values()}
    )
    st.caption(f"Measured on {plain(' and '.join(conditions), 1000)}.")
    if begun is not None:
        seconds = [job.seconds for job in jobs_of(begun) if job.seconds is not None]
        if seconds:
            st.caption(f"It took {clock(sum(seconds))} on this machine. In a terminal:")
        to_copy(begun.lines)
    else:
        commands = dict.fromkeys(printable(result.attrs.get("command", ""), 4000) for result in results.values())
        to_copy("\n".join(command for command in commands if command))
    st.caption(f"Everything is stored in {as_code(printable(path, 1000))}.")


def go(probe: str, name: str) -> None:
    """Open a probe's page for this run."""
    st.session_state["runs"] = [name]
    st.session_state[GO] = probe


def _assumed(name: str, value: Any) -> str:
    """A setting as a person says it: 224 x 224, class token, yes; 0.485 / 0.456 / 0.406."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not name.endswith("size"):
        return " / ".join(map(str, value))
    return called(value) if isinstance(value, str) else _extent(value)


def _extent(value: Any) -> str:
    """224 x 224 for [224, 224]."""
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)
