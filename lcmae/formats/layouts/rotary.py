"""DINOv3 and EVA-02 under timm's names (timm/models/eva.py, 1.0.31). A file does not say how
positions rotate: the architecture does, by its name, or because its names and shapes are those of
one alone."""

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats import timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.encoder import as_size, assume_pixels, is_beside, read_positions, unused
from lcmae.formats.facts import Facts, ratio_of
from lcmae.formats.rotary import RotaryConfig, facts_of, skeleton
from lcmae.formats.weights import Weights, open_states, own_settings, setting, size_said, trainer_sizes

MARKS = ("patch_embed.proj.weight",)
WORDS = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 4096: "7b"}
"""Of architectures, by width."""

ASIDE = ("head.", "rope.", "mask_token")
NAMES = {"pos_embed": "positions"}
"""timm's names -> ours."""


def recognise(weights: Weights) -> bool:
    attention = any(f"blocks.0.attn.{name}.weight" in weights for name in ("qkv", "q_proj"))
    has_rotation = "pos_embed" not in weights or any(
        name in weights for name in ("blocks.0.attn.q_proj.weight", "blocks.0.attn.q_bias")
    )
    return MARKS[0] in weights and attention and has_rotation and bool(_architectures(weights))


def predicts(weights: Weights) -> bool:
    return False


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """An encoder whose architecture config.json names, or names and shapes give."""
    said = setting(weights.config, "architecture") or own_settings(weights).get("architecture")
    found = _architectures(weights)
    if said is None and len(found) > 1:
        raise CheckpointError(
            f"expected an architecture that the shapes decide in {weights.path}, got {', '.join(found)}: put the file "
            'beside a config.json with {"architecture": NAME}'
        )
    return _read(str(said or found[0]), weights, overrides, is_said=said is not None)


def is_named(path: str) -> bool:
    """Whether `timm:NAME` has rotary positions."""
    return skeleton(path.removeprefix("timm:").split(".")[0]) is not None


def read_named(path: str, overrides: Mapping[str, Any], *, meta: bool) -> Reading:
    """`timm:NAME`, weights from the local cache or the hub."""
    name = path.removeprefix("timm:")
    file, note = timm_vit.weights_of(name)
    weights = open_states(file, meta=meta)[0]
    weights = Weights(
        path,
        weights.sha256,
        weights.tensors,
        weights.extras,
        weights.metadata,
        config={**(weights.config or {}), "architecture": name},
        notes=[note, *weights.notes],
    )
    return _read(name, weights, overrides, is_said=True)


def _read(name: str, weights: Weights, overrides: Mapping[str, Any], *, is_said: bool) -> Reading:
    architecture = name.split(".")[0]
    model = skeleton(architecture)
    if model is None:
        raise CheckpointError(f"expected a timm model with rotary positions in {weights.path}, got {name[:80]!a}")
    facts = Facts(overrides)
    kernel = weights.tensors[MARKS[0]] if MARKS[0] in weights else None
    if kernel is None or kernel.ndim != 4:
        raise CheckpointError(f"expected {MARKS[0]} with 4 dimensions in {weights.path}, got none")
    for fact, value in {"architecture": architecture, "channels": kernel.shape[1], **facts_of(model)}.items():
        facts.shape(fact, value)
    block: Any = model.blocks[0]
    facts.shape("mlp_ratio", ratio_of(block.mlp.fc2.in_features, facts["width"]))
    pretrained = timm.get_pretrained_cfg(name)
    values = pretrained.to_dict() if pretrained is not None else {}
    if is_said:
        timm_vit.say_pixels(facts, (weights.config or {}).get("pretrained_cfg"))
        timm_vit.say_pixels(facts, values)
    if facts["channels"] == 3:
        for fact, key in (("pixel_mean", "mean"), ("pixel_std", "std")):
            facts.assume(fact, tuple(values[key]), f"timm, {architecture}")
    assume_pixels(facts)

    sizes = [*size_said(("config.json", weights.config or {})), *trainer_sizes(weights)]
    grid = _grid(facts, weights, sizes, model)
    pooled = bool([*model.fc_norm.parameters()])
    facts.assume("feature", "mean" if pooled else "cls", "what its last norm is for")
    aside = [key for key in weights.tensors if key.startswith(ASIDE)]
    unused(facts, aside, "head, rotation that is computed")
    remaining = {NAMES.get(key, key): value for key, value in weights.tensors.items() if key not in aside}
    facts.notes[:0] = weights.notes
    facts.notes.append(f"rotary positions of timm's {architecture}; encoder only: no predictions")
    return Reading(
        "rotary", weights.path, weights.sha256, RotaryConfig, remaining, facts, grid, keys=_sources(remaining)
    )


def _sources(remaining: Mapping[str, Tensor]) -> dict[str, str]:
    return {ours: theirs for theirs, ours in NAMES.items() if ours in remaining}


def _grid(facts: Facts, weights: Weights, sizes: list[tuple[Any, str]], model: Any) -> tuple[int, int]:
    """The grid of the table, where there is one; else any size will do, and timm's is assumed."""
    table = weights.tensors.get("pos_embed")
    if table is not None and table.ndim == 3:
        first = 0 if model.no_embed_class else model.num_prefix_tokens
        return read_positions(facts, table.shape[1], weights.path, sizes, prefixes=(first,), tables=[table])[0]
    for value, origin in sizes:
        size = as_size(value)
        facts.say("image_size", size, origin)
    facts.assume("image_size", tuple(model.patch_embed.img_size), "timm; rotary positions take any size")
    height, width = as_size(facts["image_size"]) or (0, 0)
    return height // facts["patch_size"], width // facts["patch_size"]


def _architectures(weights: Weights) -> list[str]:
    """timm's architectures that have these names and shapes; those of the table of positions and of
    channels apart."""
    kernel = weights.tensors[MARKS[0]]
    word = WORDS.get(kernel.shape[0])
    if word is None or kernel.ndim != 4:
        return []
    family = "eva02" if "pos_embed" in weights else "dinov3"
    found = []
    for name in timm.list_models(f"*{family}*"):
        model = skeleton(name) if word in name else None
        if model is not None and _shapes(model.state_dict()) == _shapes(_without_others(weights.tensors, model)):
            found.append(name)
    rows = weights.tensors["pos_embed"].shape if "pos_embed" in weights else None
    exact = [name for name in found if (known := skeleton(name)) and rows in (None, _rows(known))]
    # names for other image sizes alone (EVA-02 at 224 and 336) are one function
    functions = {_function(name): name for name in reversed(exact or found)}
    return sorted(functions.values())


def _without_others(tensors: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """The tensors that the model, or another of its kind, may have a place for."""
    modules = {name.split(".")[0] for name in (*model.state_dict(), *NAMES)}
    return {name: tensor for name, tensor in tensors.items() if not is_beside(name, tensor, modules, {model.embed_dim})}


def _function(name: str) -> tuple[Any, ...]:
    """What computes, beside names and shapes: heads, epsilons, activation and rotation."""
    model = skeleton(name)
    assert model is not None
    rope, block = model.rope, model.blocks[0]
    settings = ("temperature", "ref_feat_shape", "grid_offset", "grid_indexing", "rotate_half", "normalize_coords")
    return (
        *facts_of(model).values(),
        type(getattr(block.mlp, "act", None)).__name__,
        type(rope).__name__,
        *(str(getattr(rope, setting, None)) for setting in settings),
    )


def _rows(model: Any) -> Any:
    return None if model.pos_embed is None else model.pos_embed.shape


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    found = {
        name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.startswith((*ASIDE, "pos_embed"))
    }
    kernel = found.get(MARKS[0], ())
    return {**found, MARKS[0]: (kernel[0], *kernel[2:]) if len(kernel) == 4 else kernel}
