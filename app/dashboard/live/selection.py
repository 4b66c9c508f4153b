"""What every live view shows: checkpoints, image, mask, patch, layer, head. One selection a
session; imports no torch.

It lives in the session and, as far as it differs from the defaults, in the address bar, so a link
shows a colleague the same. It has one writer, `change`, and one reader of the address,
`follow_address`; widgets show its values and call `change`. (A widget bound to the address would be
a second owner, and would lose its value on the pages that do not show it.)

    chosen = selection.follow_address()          # once at the top of a page
    chosen = selection.settle(*fit(chosen, ...)) # what is stale falls back, and one notice says so
    selection.change(patch=27)                   # from a callback, or from the page
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal

import streamlit as st
from pydantic import Field, ValidationError

from lcmae.app.dashboard.components.plain import plain
from lcmae.app.dashboard.menu import IS_SAME_PAGE
from lcmae.settings import Settings, explain

MAX_SEED = 2**53 - 1
"""The largest whole number that a browser counts to."""


Overlay = Literal[
    "encoder", "decoder", "rollout", "queries", "likeness", "pixel_likeness", "colours", "field", "error", "loss",
    "invariance", "local_consistency",
]  # fmt: skip


class Selection(Settings):
    """Every field has a name of its own in the address. None and "" leave the choice to the
    page."""

    a: str = Field(default="", max_length=4000)
    """Checkpoint A: a run's name, or the path of a file from the root on; empty: the first run of
    the side bar."""

    a_step: int | None = Field(default=None, ge=0)
    """Its step; None: the side bar's, or the newest."""

    b: str = Field(default="", max_length=4000)
    """Checkpoint B, to compare with; empty: none."""

    b_step: int | None = Field(default=None, ge=0)
    """Its step."""

    data: str = Field(default="", max_length=4000)
    """Named source of images; empty: what checkpoint A was trained on."""

    split: Literal["test", "train"] = "test"
    """Split of the source."""

    image: int = Field(default=0, ge=0)
    """Index among the source's images, in the order of `lcmae probe`."""

    upload: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """SHA-256 of an uploaded file, which the server keeps for a while; it goes before `data`."""

    mask: str = "random"
    """Kind of mask strategy."""

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Masking ratio."""

    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Draws the mask, as `--seed` of `lcmae probe` does."""

    hidden: str = Field(default="", max_length=100_000)
    """A mask that was edited by hand (`pack`): it goes before strategy, ratio and seed."""

    patch: int | None = Field(default=None, ge=0)
    """Selected patch in raster order; None: the middle of the grid."""

    encoder_layer: int | None = Field(default=None, ge=1)
    """Encoder block, from 1; None: the last."""

    encoder_head: int | None = Field(default=None, ge=1)
    """Head of that block, from 1; None: the mean of all heads."""

    decoder_layer: int | None = Field(default=None, ge=1)
    """Decoder block, from 1; None: the last."""

    decoder_head: int | None = Field(default=None, ge=1)
    """Head of that block, from 1; None: the mean of all heads."""

    overlay: Overlay = "encoder"
    """What lies over the photograph."""

    overlay_view: Literal["full", "masked"] = "full"
    """Whether the encoder sees the whole image there, or what the mask leaves."""

    def changed(self, **values: Any) -> "Selection":
        """Another selection, validated. Another image, mask or checkpoint drops what belonged to
        the old one."""
        if {"mask", "ratio", "seed"} & values.keys():
            values.setdefault("hidden", "")
        if {"data", "split", "image"} & values.keys():
            values.setdefault("upload", "")
        for name in "ab":
            if name in values:
                values.setdefault(f"{name}_step", None)
        return Selection.model_validate({**self.model_dump(), **values})

    def address(self) -> dict[str, str]:
        """Query parameters: the fields that differ from their defaults."""
        usual = Selection()
        return {name: str(value) for name, value in self if value != getattr(usual, name)}


FIELDS = tuple(Selection.model_fields)
_CHOSEN, _WRITTEN, _NOTICES = "selection", "selection-address", "selection-notices"


def current() -> Selection:
    """The session's selection."""
    return st.session_state.get(_CHOSEN, Selection())


def change(**values: Any) -> None:
    """Set fields, in the session and in the address. Raises pydantic's `ValidationError` for values
    out of range."""
    _put(current().changed(**values))


def follow_address() -> Selection:
    """The selection, after a look at the address: a link or the back button may have changed it.
    Once a page run.

    An address without any field is a page that was opened from the menu, where the selection
    stays; or, on the page that was shown already, the back button before the first change."""
    address = _address()
    is_back = not address and st.session_state.get(IS_SAME_PAGE, False)
    if (address or is_back) and address != st.session_state.get(_WRITTEN):
        chosen, notices = read_address(address)
        st.session_state[_CHOSEN] = chosen
        st.session_state[_NOTICES] = notices
    return current()


def settle(chosen: Selection, notices: Sequence[str]) -> Selection:
    """Keep what was found to fit (on top of what the session has), and tell what had to fall back,
    in one notice."""
    phrases = [*st.session_state.pop(_NOTICES, []), *notices]
    if phrases:
        st.warning(
            f"Different from the link or your last pick: {'; '.join(map(plain, phrases[:8]))}.",
            icon=":material/link_off:",
        )
    _put(chosen)
    return chosen


def read_address(address: dict[str, str]) -> tuple[Selection, list[str]]:
    """A selection out of query parameters; those that are not valid keep their defaults, with a
    phrase for each."""
    values, notices = dict(address), []
    while True:
        try:
            return Selection.model_validate({name: value for name, value in values.items() if value != ""}), notices
        except ValidationError as error:
            wrong = {str(problem["loc"][0]) for problem in error.errors()}
            notices.append(explain(error))
            values = {name: value for name, value in values.items() if name not in wrong}


def _address() -> dict[str, str]:
    return {name: st.query_params[name] for name in FIELDS if name in st.query_params}


def _put(chosen: Selection) -> None:
    st.session_state[_CHOSEN] = chosen
    wanted, shown = chosen.address(), _address()
    st.session_state[_WRITTEN] = wanted
    if wanted == shown:
        return
    for name in shown.keys() - wanted.keys():
        del st.query_params[name]
    st.query_params.update(wanted)


def tied(name: str, value: Any, to_field: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
    """Key and callback of a widget that shows `value` and changes the field `name`; `to_field`
    turns what it holds into that."""
    key = f"selection-{name}"
    st.session_state[key] = value
    return {"key": key, "on_change": lambda: change(**{name: to_field(st.session_state[key])})}


# --- what a selection may hold, given what there is ---


def fit_checkpoints(
    chosen: Selection, names: Sequence[str], steps: Callable[[str], Sequence[int]]
) -> tuple[Selection, list[str]]:
    """Checkpoints that are there: `names` of all runs and files, of which the first stands for an
    empty A."""
    changes: dict[str, Any] = {}
    notices = []
    for letter, usual in (("a", names[0] if names else ""), ("b", "")):
        name, step = getattr(chosen, letter), getattr(chosen, f"{letter}_step")
        if name and name not in names:
            notices.append(f"checkpoint {letter.upper()}, {name}, is no longer there")
            changes[letter] = ""
        elif step is not None and step not in steps(name or usual):
            notices.append(f"{name or usual or 'checkpoint ' + letter.upper()} has no step {step}")
            changes[f"{letter}_step"] = None
    return chosen.changed(**changes) if changes else chosen, notices


def fit_model(
    chosen: Selection,
    *,
    num_patches: int,
    encoder: tuple[int, int],
    decoder: tuple[int, int],
    masks: Sequence[str],
) -> tuple[Selection, list[str]]:
    """Patch, mask, layers and heads that the model has; `encoder` and `decoder` are (blocks,
    heads), 0 for none; `masks` are the kinds that can be picked."""
    changes: dict[str, Any] = {}
    notices = []
    if chosen.patch is not None and chosen.patch >= num_patches:
        notices.append(f"patch {chosen.patch} is outside the grid of {num_patches} patches, so its middle is selected")
        changes["patch"] = None
    if chosen.mask not in masks:
        notices.append(f"mask {chosen.mask} is not one of {', '.join(masks)}, so random is drawn")
        changes["mask"] = "random"
    if chosen.hidden and unpack(chosen.hidden, num_patches) is None:
        notices.append("the edited mask is not one of this grid, so the mask is drawn")
        changes["hidden"] = ""
    for what, (blocks, heads) in (("encoder", encoder), ("decoder", decoder)):
        for part, most in (("layer", blocks), ("head", heads)):
            value = getattr(chosen, f"{what}_{part}")
            if value is not None and value > most:
                if most:
                    notices.append(f"the {what} has no {part} {value} (it has {most})")
                changes[f"{what}_{part}"] = None
    return chosen.changed(**changes) if changes else chosen, notices


def pack(is_hidden: Sequence[bool]) -> str:
    """A mask as letters for an address: bits in raster order, base64url without padding."""
    bits = "".join("1" if hidden else "0" for hidden in is_hidden)
    number = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2) if bits else 0
    return base64.urlsafe_b64encode(number.to_bytes(-(-len(bits) // 8), "big")).decode().rstrip("=")


def unpack(text: str, num_patches: int) -> list[bool] | None:
    """The mask of `pack`; None where it is not one of so many patches, or hides none or all of
    them."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    bits = "".join(f"{byte:08b}" for byte in packed)
    if len(packed) != -(-num_patches // 8) or "1" in bits[num_patches:]:
        return None
    is_hidden = [bit == "1" for bit in bits[:num_patches]]
    return is_hidden if 0 < sum(is_hidden) < num_patches else None
