"""Which layout a file has; and, where it has none that we know, why it is refused."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from torch import Tensor

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import hub, huggingface, lightly, official, simmim, solo_learn, stable_pretraining, timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.layouts import (
    crossmae,
    dinov2,
    halves,
    huggingface_masked,
    mmpretrain,
    one_frame,
    position_grid,
    rotary,
)
from lcmae.formats.own import is_own, read_own
from lcmae.formats.weights import Weights, first_keys, open_states
from lcmae.runs.durable import home

FORMATS: tuple[ModuleType, ...] = (
    one_frame,
    dinov2,
    rotary,
    crossmae,
    position_grid,
    official,
    mmpretrain,
    huggingface_masked,
    huggingface,
    simmim,
    stable_pretraining,
    solo_learn,
    lightly,
    halves,
    timm_vit,
)
"""In the order they are tried: the more particular first.

Each has `MARKS` (names that its patch embedding may have, from which follows below what prefix a
model lies; or a function `roots`), `recognise(weights)` and `read(weights, overrides)` of what lies
below that prefix, and `predicts(weights)` where the word decoder in a name does not say it.
"""

ADAPT = "lcmae.adapt takes it from memory (docs/adapting-a-model.md)"

SHAPED_LIKE: tuple[tuple[str, Callable[[Weights], bool]], ...] = (
    (
        f"a Swin transformer, whose windows and merged patches have no single grid of tokens; {ADAPT}, if encode() "
        "returns one token per patch",
        simmim.is_swin,
    ),
    (
        "a SatMAE of grouped channels, whose groups are tokens of their own: a patch has several, and no mask of patches "
        f"hides them; {ADAPT}, if encode() returns one token per patch",
        lambda w: (
            any(name.endswith("patch_embed.0.proj.weight") for name in w.tensors)
            and any(name.endswith("channel_embed") for name in w.tensors)
        ),
    ),
    (
        f"a BEiT or SimMIM encoder without its `encoder.` prefix and mask token; {ADAPT}",
        lambda w: "blocks.0.attn.q_bias" in w,
    ),
    (
        f"a Hiera, whose tokens are pooled between its stages; {ADAPT}, if encode() returns one token per patch",
        lambda w: (
            any(name.endswith("blocks.0.attn.qkv.weight") for name in w.tensors)
            and any(name.endswith("pos_embed_spatial") for name in w.tensors)
        ),
    ),
    (
        "a ConvNeXt, whose patches go through convolutions and are no tokens, so hidden patches cannot be left out; a ViT is "
        "needed",
        lambda w: any(
            re.search(r"(?:^|\.)stages\.0\.(?:blocks\.)?0\.(?:conv_dw|dwconv)\.weight$", name) for name in w.tensors
        ),
    ),
    ("a convolutional network, which has no tokens; a ViT is needed", lambda w: "layer1.0.conv1.weight" in w),
    (
        "a model with rotary positions under names of its own; timm's DINOv3 and EVA-02 are taken "
        f"(timm:vit_small_patch16_dinov3); {ADAPT}",
        lambda w: any("rope" in name for name in w.tensors),
    ),
    (
        f"an OpenAI or OpenCLIP model, whose encoder has names of its own; timm has it as vit_*_clip_*; {ADAPT}",
        lambda w: "visual.conv1.weight" in w,
    ),
)

MAX_NAMED = 8


@dataclass(frozen=True)
class Found:
    """A known layout somewhere in a file."""

    layout: ModuleType
    weights: Weights
    """What lies below `root`."""

    root: str
    """What goes before the names of the layout, with its dot."""

    others: int
    """Tensors of the same dict that are not below `root`."""

    embedding: Tensor
    """Weights of the patch embedding: a model has one."""

    @property
    def label(self) -> str:
        """How it is chosen: the nested dicts that lead to it, and the prefix of its names."""
        return ".".join([*self.weights.keys, *self.root.split(".")[:-1]]) or "the names without a prefix"

    @property
    def predicts(self) -> bool:
        """Whether it has a decoder."""
        predicts = getattr(self.layout, "predicts", None)
        return any("decoder" in name for name in self.weights.tensors) if predicts is None else predicts(self.weights)

    def is_also(self, other: "Found") -> bool:
        """Whether both are one module that two attributes hold."""
        return self.embedding.untyped_storage() is other.embedding.untyped_storage()

    @property
    def what(self) -> str:
        return "a model with its decoder" if self.predicts else "an encoder"


def read_any(path: Path | str, overrides: Mapping[str, Any], *, meta: bool = False) -> Reading:
    """A `Reading` of whatever lies at `path`: our run or step, `timm:NAME`, `hf:ORG/NAME`, or a
    foreign file or folder. The override `weights` chooses among several models in one file."""
    overrides = dict(overrides)
    choice = overrides.pop("weights", None)
    if str(path).startswith("timm:"):
        layout = rotary if rotary.is_named(str(path)) else timm_vit
        return layout.read_named(str(path), overrides, meta=meta)
    if "\0" in str(path):
        raise CheckpointError(f"expected a path, got one with a NUL character: {str(path)!a}")
    path = home(path) if str(path).startswith("~") else path
    if is_own(path):
        if choice is not None:
            raise InputError(f"expected no choice of weights for a run, which has one model, got {choice!a}")
        return read_own(path, overrides, meta=meta)
    states = open_named(path, meta=meta) if hub.is_hub_name(path) else open_states(Path(path), meta=meta)
    reading = understand(states, overrides, choice)
    if meta:
        # a few tables were read for their values; nothing else has any
        reading.tensors = {name: tensor.to("meta") for name, tensor in reading.tensors.items()}
    return reading


def open_named(path: Path | str, *, meta: bool = False) -> list[Weights]:
    """The state dicts of `hf:ORG/NAME[@REVISION]`, from the cache or the hub."""
    name = hub.parse_name(path)
    file, note = hub.fetch(name)
    states = open_states(file, meta=meta)
    return [replace(weights, path=name.shown, notes=[note, *weights.notes]) for weights in states]


def understand(states: Sequence[Weights], overrides: Mapping[str, Any], choice: str | None = None) -> Reading:
    """The model of a known layout in one of the state dicts of a file, below whatever prefix; or a
    refusal that says what the file looks like, or among which models to choose."""
    found = [one for weights in states for one in find(weights)]
    if not found:
        _refuse(states)
    chosen, left = choose(found, choice)
    notes = [*chosen.weights.notes]
    if chosen.root:
        what = "model" if chosen.predicts else "encoder"
        aside = f"; {chosen.others} other tensors left aside" if chosen.others else ""
        notes.append(f"{what} under '{chosen.root}'{aside}")
    if left:
        notes.append(f"also in the file: {_listed(left)}; weights=KEY (--weights KEY) takes another")
    reading = chosen.layout.read(replace(chosen.weights, notes=notes), overrides)
    if choice is not None:
        reading.facts.say("weights", choice, "you")
    if chosen.root:
        reading.keys = {name: chosen.root + reading.keys.get(name, name) for name in reading.tensors}
        reading.root = chosen.root
    beside = [one.root for one in found if one.weights.keys == chosen.weights.keys and one.root != chosen.root]
    reading.others = [root.removeprefix(chosen.root) for root in beside if root.startswith(chosen.root)]
    return reading


def find(weights: Weights) -> list[Found]:
    """Every model of a known layout in a state dict. A patch embedding belongs to one model: to the
    most particular layout that has it."""
    found: dict[str, Found] = {}
    for layout in FORMATS:
        roots = getattr(layout, "roots", None)
        for root, mark in roots(weights) if roots is not None else _roots(layout, weights):
            if mark in found or mark not in weights:
                continue
            below = weights.at(root)
            if layout.recognise(below):
                others = len(weights.tensors) - len(below.tensors)
                found[mark] = Found(layout, below, root, others, weights.tensors[mark])
    return list(found.values())


MAX_ROOTS = 64


def _roots(layout: ModuleType, weights: Weights) -> list[tuple[str, str]]:
    """Where the patch embedding of a layout says that a model may lie: prefixes, and its name."""
    marks = getattr(layout, "MARKS", ("patch_embed.proj.weight",))
    return [(root, root + mark) for mark in marks for root in weights.prefixes(mark)[:MAX_ROOTS]]


def choose(found: Sequence[Found], choice: str | None) -> tuple[Found, list[Found]]:
    """The model that is meant, and what else there is. A model with its decoder goes before
    encoders alone; among equals you choose."""
    if choice is not None:
        meant = [one for one in found if choice.rstrip(".") in (one.label, ".".join(one.weights.keys))] or [
            one for one in found if f".{one.label}.".find(f".{choice.rstrip('.')}.") >= 0
        ]
        meant = [one for one in meant if one.predicts] or meant
        if len(meant) != 1:
            raise InputError(
                f"expected weights among {_listed(found)} in {found[0].weights.path}, got {str(choice)[:80]!a}"
            )
        return meant[0], []
    pool = [one for one in found if one.predicts] or list(found)
    # a module that two attributes hold is in the file twice, and is one
    one_of_each = [one for number, one in enumerate(pool) if not any(one.is_also(other) for other in pool[:number])]
    if len(one_of_each) > 1:
        published = [one for one in one_of_each if _is_published_choice(one, one_of_each)]
        if len(published) != 1:
            raise CheckpointError(
                f"expected one model in {found[0].weights.path}, got {len(one_of_each)}: {_listed(one_of_each)}; choose "
                "with weights=KEY (--weights KEY)"
            )
        one_of_each = published
    taken = one_of_each[0]
    return taken, [one for one in found if not one.is_also(taken)]


def _is_published_choice(one: Found, among: Sequence[Found]) -> bool:
    """I-JEPA's {encoder, predictor, target_encoder}: its own evaluations take the last. MoCo v3's
    base_encoder and momentum_encoder: its own take the first."""
    labels = {other.label.rpartition(".")[2] for other in among}
    if labels == {"base_encoder", "momentum_encoder"}:
        return one.label.endswith("base_encoder")
    return (
        labels == {"encoder", "target_encoder"} and one.label == "target_encoder" and "predictor" in one.weights.extras
    )


def _listed(found: Sequence[Found]) -> str:
    shown = ", ".join(f"{one.label!a} ({one.what})" for one in found[:MAX_NAMED])
    return f"{shown} and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else shown


def _refuse(states: Sequence[Weights]) -> NoReturn:
    """Say what a file without a known layout looks like."""
    for weights in states:
        like = next((what for what, is_it in SHAPED_LIKE if is_it(weights)), None)
        if like is not None:
            raise CheckpointError(f"expected a ViT checkpoint of a known layout, got {like}: {weights.path}")
    largest = max(states, key=lambda weights: len(weights.tensors))
    raise CheckpointError(
        f"expected a ViT checkpoint of a known layout (MAE, U-MAE, timm, Hugging Face, mmpretrain, DINOv2, SimMIM, solo-learn, "
        f"lightly, stable-pretraining), got keys {first_keys(largest.tensors)}; a ViT has patch_embed.proj.weight: "
        f"{largest.path}"
    )
