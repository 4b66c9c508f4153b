"""What lies over the photograph in the microscope: attention from any patch or from the class token
in every head, attention rollout, likeness of tokens, tokens as colours, and the maps of the patch
and of the image."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from lcmae.app.dashboard.components.overlay import Packed, Shown, overlay, pack
from lcmae.app.dashboard.live import selection
from lcmae.app.dashboard.live.inspection import NUM_MASKS, Inspection, is_whole
from lcmae.app.dashboard.live.selection import Overlay
from lcmae.app.dashboard.microscope import maps, queries
from lcmae.app.figures import microscope as figures
from lcmae.app.figures import patch_maps

KINDS: dict[Overlay, str] = {
    "encoder": "encoder attention",
    "rollout": "attention rollout",
    "decoder": "decoder attention",
    "likeness": "token similarity",
    "pixel_likeness": "pixel similarity (baseline)",
    "queries": "attentive probe",
    "colours": "tokens as colours (PCA)",
    "field": "receptive field",
    "error": "error",
    "loss": "loss over masks",
    "invariance": "invariance",
    "local_consistency": "local consistency",
}
VIEWS = {"full": "whole", "masked": "under the mask"}
OF_ENCODER = ("encoder", "rollout", "likeness", "colours")
"""What can be had of the whole image and under the mask."""


def kinds(inspected: Inspection) -> dict[Overlay, str]:
    """The maps that this model has."""
    loaded, found = inspected.loaded, dict(KINDS)
    problems = inspected.attention().attrs
    if not loaded.encoder[0]:
        for kind in ("encoder", "rollout", "likeness", "colours", "field"):
            del found[kind]
    elif "encoder_problem" in problems:
        del found["encoder"], found["rollout"]
    if queries.stored(inspected) is None:
        del found["queries"]
    if not loaded.decoder[0] or "decoder_problem" in problems:
        del found["decoder"]
    if not loaded.model.has_prediction:
        for kind in ("error", "loss", "invariance", "local_consistency"):
            del found[kind]
    return found


@dataclass(frozen=True)
class Choice:
    """What is selected, as far as the model has it."""

    kind: Overlay
    view: str
    layer: int
    head: int | None

    @property
    def part(self) -> str:
        """Whose layers and heads they are."""
        return "decoder" if self.kind == "decoder" else "encoder"


def choice(inspected: Inspection, offered: Iterable[Overlay]) -> Choice:
    """The selected map, or the first that there is."""
    chosen, offered = inspected.chosen, list(offered)
    kind = chosen.overlay if chosen.overlay in offered else offered[0]
    view = chosen.overlay_view if kind in OF_ENCODER else "full"
    if kind == "decoder":
        return Choice(kind, view, inspected.decoder_layer, chosen.decoder_head)
    return Choice(kind, view, inspected.encoder_layer, chosen.encoder_head)


def steps(inspected: Inspection) -> list[Callable[[], object]]:
    """What is sent for the selected map, for whoever computes it ahead."""
    return [partial(_view, inspected, choice(inspected, offered)) for offered in [kinds(inspected)] if offered]


def over_photograph(inspected: Inspection) -> None:
    """The photograph with the map that is selected; nothing for a model that has none."""
    offered = kinds(inspected)
    if not offered:
        return
    chosen = choice(inspected, offered)
    overlay(
        _view(inspected, chosen),
        grid=inspected.grid,
        patch=inspected.patch,
        kinds={str(name): words for name, words in offered.items()},
        kind=chosen.kind,
        views=VIEWS if chosen.kind in OF_ENCODER else {"full": VIEWS["full"]},
        view=chosen.view,
        layer=chosen.layer,
        head=chosen.head,
        key="microscope-overlay",
        on_pick=lambda patch: selection.change(patch=patch),
        on_choose=lambda name, option: selection.change(**{{"kind": "overlay", "view": "overlay_view"}[name]: option}),
        on_head=lambda layer, head: selection.change(**{f"{chosen.part}_layer": layer, f"{chosen.part}_head": head}),
    )


def _view(inspected: Inspection, chosen: Choice) -> Shown:
    stored = queries.stored(inspected) if chosen.kind == "queries" else None
    settings = (chosen, inspected.patch, stored and stored.which)
    return inspected.view(
        "overlay", settings, lambda: shown(inspected, chosen.kind, chosen.view, chosen.layer, chosen.head)
    )


def shown(inspected: Inspection, kind: Overlay, view: str, layer: int, head: int | None) -> Shown:
    """What is sent for one kind of map."""
    photograph = maps.pictures(inspected).panels[0].source  # encoded once an image, whatever the patch
    where = "the whole image" if view == "full" else "what the mask leaves visible"
    if kind in ("encoder", "decoder"):
        packed, num_prefix = _matrix(inspected, kind, view, layer, head)
        which = "mean of heads" if head is None else f"head {head}"
        seen = f"{where}" if kind == "encoder" else "the masked image, every patch with a token"
        heads = _heads(inspected, kind, view, inspected.patch)
        of_class = _heads(inspected, kind, view, -1) if num_prefix else None
        return Shown(
            f"{KINDS[kind].capitalize()} over the image, layer {layer}, {which}",
            f"From the patch under the pointer (a click keeps it), over {seen}. Rows sum to 1 with class token and "
            "registers, which are not drawn. Beside it every head from the kept patch.",
            photograph,
            "attention",
            packed,
            num_prefix,
            heads,
            of_class,
        )
    if kind == "rollout":
        packed, num_prefix = _matrix(inspected, kind, view, 0, None)
        return Shown(
            "Attention rollout over the image",
            f"Attention followed through all {inspected.loaded.encoder[0]} blocks, half of each token's mass staying with it "
            f"(Abnar and Zuidema, arXiv 2005.00928), over {where}. A description of attention, not of what the prediction "
            "depends on.",
            photograph,
            "share of the mass",
            packed,
            num_prefix,
        )
    if kind == "likeness":
        packed, _ = _matrix(inspected, kind, view, layer, None)
        return Shown(
            f"Token similarity over the image, layer {layer}",
            f"Cosine of the token under the pointer with every other one after block {layer}, over {where}.",
            photograph,
            "cosine of two tokens",
            packed,
        )
    if kind == "pixel_likeness":
        packed, _ = _matrix(inspected, kind, "full", 0, None)
        return Shown(
            "Pixel similarity over the image",
            "Cosine of the pixels of the patch under the pointer with those of every other one: the baseline of tokens. "
            "Where token similarity looks the same, tokens may say no more than colour and brightness.",
            photograph,
            "cosine of two patches",
            packed,
        )
    if kind == "colours":
        found = inspected.colours(view, layer)
        share = ", ".join(f"{float(one):.0%}" for one in found["share"])
        return Shown(
            f"Tokens as colours, layer {layer}",
            f"The first three principal components of this image's own tokens after block {layer} as red, green and blue, over "
            f"{where}; they have {share} of the variance. Colours of two images cannot be compared.",
            photograph,
            "",
            pack(found["colour"].values, 0.0, 1.0),
            is_colour=True,
        )
    return _map(inspected, kind, photograph)


def _map(inspected: Inspection, kind: Overlay, photograph: str) -> Shown:
    """A map that has no query, or belongs to the kept patch."""
    if kind == "field":
        field = inspected.receptive_field()["field"].sel(target="token, full image")
        top = patch_maps.largest(field) or 1.0
        return Shown(
            f"Receptive field over the image, layer {inspected.encoder_layer}",
            f"Size of the gradient, at every pixel of the whole image, of the kept patch's token after block "
            f"{inspected.encoder_layer}, along random signs.",
            photograph,
            "share of the maximum",
            pack(field.values / top),
        )
    if kind == "queries":
        stored = queries.stored(inspected)
        assert stored is not None  # else it was not offered
        layer = stored.layer(inspected.encoder_layer)
        found = inspected.query_maps(layer, stored.of(layer), stored.which)
        return Shown(
            f"Attentive probe over the image, layer {layer}",
            f"Where the queries of efficient probing attend to classify the image, a mean over {found.sizes['query']} of them. "
            f"{figures.query_words(found)}",
            photograph,
            "attention",
            pack(found["attention"].mean("query").values),
        )
    if kind == "error":
        pictures = inspected.pictures()
        values = pictures["picture_error"].where(pictures["hidden"] == 1)
        caption = "Mean squared error of each hidden patch; visible patches stay grey."
    else:
        values = inspected.contrast()[kind]
        caption = f"For each patch, over {NUM_MASKS} masks of the strategy; patches that no mask hides stay grey."
    return Shown(
        f"{KINDS[kind].capitalize()} over the image",
        caption,
        photograph,
        str(values.attrs.get("units", "")),
        pack(values.values),
    )


@dataclass(frozen=True)
class _Sent:
    packed: Packed
    num_prefix: int

    @property
    def num_bytes(self) -> int:
        return self.packed.num_bytes


def _matrix(inspected: Inspection, kind: Overlay, view: str, layer: int, head: int | None) -> tuple[Packed, int]:
    """[query row column] of one head or of their mean; it belongs to no patch, so it is packed once
    for an image, and its mask where that matters."""

    def draw() -> _Sent:
        found = inspected.matrix(kind, view, layer)
        if kind in ("likeness", "pixel_likeness"):
            values = found["likeness"].values
            return _Sent(pack(values, float(np.nanmin(values, initial=1.0)), 1.0), 0)
        heads = found["attention"]
        values = heads.mean("head") if head is None else heads.isel(head=head - 1)
        return _Sent(pack(values.values), int((found["query"].values < 0).sum()))

    sent = inspected.view("overlay-matrix", (kind, view, layer, head), draw, is_whole=is_whole(kind, view))
    return sent.packed, sent.num_prefix


def _heads(inspected: Inspection, kind: Overlay, view: str, query: int) -> Packed:
    def draw() -> Packed:
        return pack(inspected.every_head(kind, view, query)["attention"].values)

    return inspected.view("overlay-heads", (kind, view, query), draw, is_whole=is_whole(kind, view))
