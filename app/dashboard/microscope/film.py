"""The image along ratios, seeds or the checkpoints of its run: live under a slider, played, and as
a moving picture to export."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import film as component
from lcmae.app.dashboard.components.export import DOWNLOAD
from lcmae.app.dashboard.components.plain import plain
from lcmae.app.dashboard.live import inspection, models, selection
from lcmae.app.dashboard.live.inspection import Inspection
from lcmae.app.dashboard.live.selection import Selection
from lcmae.app.dashboard.microscope.views import MOVED, follow
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures import film as figures
from lcmae.app.figures import patch_maps, style
from lcmae.errors import InputError

AXIS, ASKED, FILES = "film-axis", "film-asked", "film-files"
"""In the session: the axis; the position that was asked for last; the files that were made last."""

AXES = {"ratio": "masking ratios", "seed": "mask seeds", "a_step": "checkpoints of the run"}
NUM_SEEDS = 24
MOST_STEPS = 40
SECONDS = 0.25
"""Of a frame in a file."""


@dataclass(frozen=True)
class Axis:
    """What the slider moves over."""

    field: str
    """Of the selection."""

    values: Sequence[float | int]
    stride: int
    """Every so many values the player, and a file, has one."""

    @property
    def labels(self) -> list[str]:
        return [f"{value:.2f}" if self.field == "ratio" else str(value) for value in self.values]

    @property
    def name(self) -> str:
        return {"ratio": "Masking ratio", "seed": "Seed", "a_step": "Step"}[self.field]

    def position(self, value: float | int) -> int:
        """The position nearest to a value."""
        return min(range(len(self.values)), key=lambda at: abs(self.values[at] - value))

    @property
    def played(self) -> range:
        return range(0, len(self.values), self.stride)


def axes(location: models.Location) -> dict[str, str]:
    """What there is to go along: a file of another library has no other checkpoints."""
    steps = reading.steps_of(location.run) if location.run is not None else []
    return {name: words for name, words in AXES.items() if name != "a_step" or len(steps) > 1}


def axis_of(name: str, chosen: Selection, location: models.Location) -> Axis:
    """Positions of one axis, the selection's own among them."""
    if name == "ratio":
        return Axis(name, [hundredths / 100 for hundredths in range(5, 96)], 5)
    if name == "seed":
        first = 0 if chosen.seed < NUM_SEEDS else min(chosen.seed, selection.MAX_SEED - NUM_SEEDS + 1)
        return Axis(name, range(first, first + NUM_SEEDS), 1)
    assert location.run is not None
    steps = reading.steps_of(location.run)
    count = min(len(steps), MOST_STEPS)
    thinned = {steps[round(number * (len(steps) - 1) / max(count - 1, 1))] for number in range(count)}
    return Axis(name, sorted(thinned | {location.step or steps[-1]}), 1)


def seen(location: models.Location, axis: Axis, at: int) -> Inspection:
    """The image at one position. `InputError` where its mask cannot be drawn, or its checkpoint is
    gone."""
    chosen, value = selection.current(), axis.values[at]
    if axis.field == "a_step":
        assert location.run is not None
        path = location.run / "checkpoints" / f"{value:06d}"
        there = models.Location(location.name, path, location.root, location.run, int(value))
        return inspection.inspect(models.load(there), chosen)
    return inspection.inspect(models.load(location), chosen.changed(**{axis.field: value}))


@st.fragment
def ratio_and_film(location: models.Location) -> None:
    """Slider, player, and files."""
    follow()
    chosen, offered = selection.current(), axes(location)
    name = st.session_state.get(AXIS, "ratio")
    axis = axis_of(name if name in offered else "ratio", chosen, location)
    here = location.step or 0 if axis.field == "a_step" else getattr(chosen, axis.field)
    home = axis.position(here)
    asked, at = st.session_state.pop(ASKED, (axis.field, home))
    inspected = inspection.inspect(models.load(location), chosen)
    top = error_top(inspected)
    component.film(
        frame_at(inspected, axis, at if asked == axis.field and at < len(axis.values) else home, top),
        title="Live: ratio, seed, training",
        caption=f"Drag the slider, or play. The page follows when the slider rests. The colour scale of the error ends at "
        f"{top:.3g} in every frame, the maximum of the picture above; each ratio and each seed draws a mask of its own.",
        home=home,
        axes=offered,
        axis=axis.field,
        name=axis.name,
        labels=axis.labels,
        stride=axis.stride,
        is_live=inspected.loaded.is_small,
        identity=repr((axis.field, list(axis.values), *fixed(inspected, axis), top)),
        key="microscope-film",
        on_axis=lambda found: st.session_state.update({AXIS: found}),
        on_frame=lambda found: st.session_state.update({ASKED: (axis.field, found)}),
        on_keep=partial(keep, axis),
    )
    files(location, axis, inspected, top)


def fixed(inspected: Inspection, axis: Axis) -> tuple[object, ...]:
    """What a frame depends on beside its position."""
    chosen = inspected.chosen
    mask = [chosen.mask, *(getattr(chosen, name) for name in ("ratio", "seed") if name != axis.field)]
    weights = inspected.loaded.location.name if axis.field == "a_step" else inspected.loaded.key
    edited = chosen.hidden if axis.field == "a_step" else ""
    return weights, inspected.picture.key, *mask, edited


def keep(axis: Axis, at: int) -> None:
    """The page goes where the slider was let go."""
    value = axis.values[at]
    if axis.field != "a_step" and value == getattr(selection.current(), axis.field):
        return
    selection.change(**{axis.field: value})
    st.session_state[MOVED] = True


def error_top(inspected: Inspection) -> float:
    """Where the colours of errors end: at the page's own picture's most."""
    shown = inspected.pictures()
    return patch_maps.largest(shown["picture_error"].where(shown["hidden"] == 1)) or 1.0


def frame_at(page: Inspection, axis: Axis, at: int, top: float) -> component.Frame:
    """What the browser is sent of one position. Where the page itself is, its own answer has the
    pictures."""
    try:
        inspected = seen(page.loaded.location, axis, at)
        is_page = inspected.loaded is page.loaded and inspected.chosen == page.chosen
        answer = page.pictures if is_page else inspected.frame
        return inspected.view("film", (axis.name, at, top), lambda: _drawn(answer(), axis, at, top))
    except InputError as error:
        return component.Frame(at, [], str(error))


def _drawn(shown: xr.Dataset, axis: Axis, at: int, top: float) -> component.Frame:
    pictures = [(title, style.png(pixels)) for title, pixels in figures.pictures(shown, top).items()]
    return component.Frame(at, pictures, f"{axis.name} {axis.labels[at]}: {figures.words(shown)}")


def files(location: models.Location, axis: Axis, inspected: Inspection, top: float) -> None:
    """A button that makes the moving picture, and the files."""
    identity = (axis.field, tuple(axis.values), *fixed(inspected, axis), top)
    with st.container(horizontal=True, vertical_alignment="center"):
        is_asked = st.button(
            f"Make a moving picture of {len(axis.played)} frames",
            key="film-make",
            icon=":material/movie:",
            help="It shows what the player shows, for export as GIF or APNG.",
        )
        if is_asked:
            frames, problem = make(location, axis, top)
            if problem:
                st.error(plain(problem), icon=":material/block:")
                return
            st.session_state[FILES] = identity, {kind: figures.encoded(frames, kind, SECONDS) for kind in figures.KINDS}
        known, encoded = st.session_state.get(FILES, (None, {}))
        if known == identity:
            stem = f"{axis.name.lower().replace(' ', '-')}-{location.label}-image-{inspected.picture.index}"
            for kind, content in encoded.items():
                suffix = {"GIF": "gif", "APNG": "png"}[kind]
                file = f"{''.join(letter if letter.isalnum() else '-' for letter in stem)}.{suffix}"
                st.download_button(kind, content, file, f"image/{suffix}", key=f"film-{kind}", **DOWNLOAD)


def make(location: models.Location, axis: Axis, top: float) -> tuple[list[figures.Frame], str]:
    """All frames, under a bar; or why there are none. Positions whose mask cannot be drawn are left
    out."""
    frames, problem = [], ""
    bar = st.progress(0.0, "Drawing frames")
    for number, at in enumerate(axis.played):
        try:
            shown = seen(location, axis, at).frame()
        except InputError as error:
            problem = str(error)
            continue
        frames.append(figures.frame(shown, top, f"{axis.name.lower()} {axis.labels[at]}"))
        bar.progress((number + 1) / len(axis.played), f"Drawing frames: {number + 1} of {len(axis.played)}")
    bar.empty()
    return frames, "" if frames else problem
