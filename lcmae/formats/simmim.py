"""SimMIM's ViT as microsoft/SimMIM saves it: {model, optimizer, lr_scheduler, max_accuracy, epoch,
config}.

Layout: models/simmim.py, models/vision_transformer.py, utils.py and config.py of microsoft/SimMIM
(d3e29bc). Encoder keys are those of timm's Beit below `encoder.`; `decoder.0` is a 1x1 convolution
before a PixelShuffle, so its output channels are ordered (channel, row, column) within a patch, and
are put into our order (row, column, channel). The number of heads is in the table of relative
positions. Its Swin models are refused: they have no grid of tokens that probes could use.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.beit import SimMIMBeitConfig
from lcmae.formats.build import Reading
from lcmae.formats.encoder import (
    HEADS,
    as_size,
    assume_heads,
    assume_pixels,
    pixels,
    read_grid,
    read_positions,
    read_shapes,
    required,
    unused,
)
from lcmae.formats.facts import Facts
from lcmae.formats.positions import index_grid
from lcmae.formats.weights import Weights, own_settings, say_own_settings, setting, trainer_sizes
from lcmae.patches import Grid

MARKS = ("encoder.patch_embed.proj.weight", "patch_embed.proj.weight")
"""In its own files, and in an encoder that lcmae exported for timm."""

SAID = ("heads", "eps", "feature", "pixel_mean", "pixel_std", "normalize_targets")
SHARED = "rel_pos_bias.relative_position_bias_table"
EACH = "blocks.0.attn.relative_position_bias_table"
INDEX = "relative_position_index"


def recognise(weights: Weights) -> bool:
    if _is_exported(weights):
        return True
    # biases of queries, keys and values in one: a ViT with a mask token, as of DINOv2
    has_plain_blocks = "encoder.blocks.0.attn.qkv.bias" in weights
    return "encoder.mask_token" in weights and MARKS[0] in weights and not has_plain_blocks


def _is_exported(weights: Weights) -> bool:
    return MARKS[1] in weights and EACH in weights and "mask_token" in own_settings(weights)


def _encoder(weights: Weights) -> dict[str, Tensor]:
    """The encoder's tensors. timm's Beit has no mask token, so an export has it among its
    settings."""
    if not _is_exported(weights):
        return weights.under("encoder.")
    values = own_settings(weights)["mask_token"]
    width = required(weights.tensors, "cls_token", 3, weights.path)[2]
    if not isinstance(values, list) or len(values) != width or not all(isinstance(one, float) for one in values):
        raise CheckpointError(f"expected a mask token of {width} values in {weights.path}, got others")
    return {**weights.tensors, "mask_token": torch.tensor(values).reshape(1, 1, width)}


def is_swin(weights: Weights) -> bool:
    return any(bool(weights.prefixes(f"layers.0.blocks.0.{name}")) for name in ("attn.qkv.weight", "norm1.weight"))


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    facts = Facts(overrides)
    where = weights.path
    encoder = _encoder(weights)
    ours = own_settings(weights)
    say_own_settings(facts, {name: ours[name] for name in SAID if name in ours}, SimMIMBeitConfig)
    config = weights.extras.get("config")
    read_shapes(facts, encoder, where)
    facts.shape("qkv_bias", "blocks.0.attn.q_bias" in encoder)
    facts.shape("layer_scale", "blocks.0.gamma_1" in encoder)
    tables = "shared" if SHARED in encoder else "each" if EACH in encoder else "none"
    facts.shape("relative_positions", tables)
    facts.shape("absolute_positions", "pos_embed" in encoder)
    facts.shape("head", "decoder.0.weight" in weights)
    grid = _read_positions(
        facts, encoder, tables, where, [(ours.get("image_size"), "lcmae's own settings"), *trainer_sizes(weights)]
    )

    facts.say("heads", setting(config, "MODEL", "VIT", "NUM_HEADS"), "config.MODEL.VIT")
    facts.say("mask_ratio", setting(config, "DATA", "MASK_RATIO"), "config.DATA")
    mask = _trained_mask(facts, setting(config, "DATA", "MASK_PATCH_SIZE"), setting(config, "DATA", "MASK_RATIO"))
    facts.say("epoch", setting(weights.extras, "epoch"), "file")
    assume_heads(facts, "heads", facts["width"], HEADS)
    facts.assume("mask_ratio", 0.6, "SimMIM's published settings")
    facts.assume("eps", 1e-6, "SimMIM's build_simmim")
    facts.assume("normalize_targets", False, "SimMIM's loss")
    assume_pixels(facts)

    state = {_renamed(name): value for name, value in encoder.items() if not name.endswith(INDEX)}
    if facts["head"]:
        state |= _head(weights, facts["channels"], facts["patch_size"])
    root = "" if _is_exported(weights) else "encoder."
    used = [root + name for name in encoder] + ["decoder.0.weight", "decoder.0.bias"]
    unused(facts, [name for name in weights.tensors if name not in used], "not part of the model")
    facts.notes[:0] = weights.notes
    if facts["head"]:
        facts.notes.append("head: 1x1 convolution and pixel shuffle turned into one linear layer")
    return Reading(
        format="simmim",
        path=where,
        sha256=weights.sha256,
        kind=SimMIMBeitConfig,
        tensors=state,
        facts=facts,
        grid=grid,
        objective="simmim",
        mask=mask,
        keys={_renamed(name): root + name for name in encoder},
    )


def _trained_mask(facts: Facts, side: Any, ratio: Any) -> dict[str, Any] | None:
    """The masks that it was trained with: squares of MASK_PATCH_SIZE pixels, often of several
    patches. None where the file does not say."""
    patch = facts["patch_size"]
    if not isinstance(side, int) or side < patch or side % patch:
        return None
    ratio = ratio if isinstance(ratio, float) and 0 < ratio < 1 else 0.6
    facts.notes.append(f"trained with masks of {side}x{side} pixels ({side // patch}x{side // patch} patches)")
    return {"kind": "coarse_random", "unit": side // patch, "ratio": ratio}


def _renamed(name: str) -> str:
    # `pos_embed` means something else on our models: a table that every probe may read
    return "positions" if name == "pos_embed" else name


def _read_positions(
    facts: Facts, encoder: Mapping[str, Tensor], tables: str, where: str, said: Sequence[tuple[Any, str]]
) -> Grid:
    """The grid, from absolute positions or from the size of a table of relative ones."""
    if tables != "none":
        rows, heads = required(encoder, SHARED if tables == "shared" else EACH, 2, where)
        facts.shape("heads", heads)
        if "pos_embed" not in encoder:
            index = next((value for name, value in encoder.items() if name.endswith(INDEX)), None)
            return _relative_grid(facts, rows, index, where, said)
    elif "pos_embed" not in encoder:
        raise CheckpointError(f"expected positions, relative or absolute, in {where}, got none")
    rows = required(encoder, "pos_embed", 3, where)[1]
    return read_positions(facts, rows, where, said, prefixes=(1,), tables=[encoder["pos_embed"]])[0]


def _relative_grid(facts: Facts, rows: int, index: Tensor | None, where: str, said: Sequence[tuple[Any, str]]) -> Grid:
    """The grid of a table of (2h - 1)(2w - 1) relative positions, and three for the class token."""
    # the index that is stored beside the table says which; else you and the settings do
    if index is not None and (grid := index_grid(index, rows)) is not None:
        return read_positions(facts, grid[0] * grid[1], where, [(pixels(facts, grid), "index of positions")])[0]
    for value, origin in [(facts.wanted("image_size"), "you"), *said]:
        size = as_size(value)
        height, width = (side // facts["patch_size"] for side in size or (0, 0))
        if (2 * height - 1) * (2 * width - 1) + 3 == rows:
            return read_positions(facts, height * width, where, [(size, origin)])[0]
    side = next((n for n in range(1, 1000) if (2 * n - 1) ** 2 + 3 == rows), None)
    if side is None:
        raise CheckpointError(
            f"expected relative positions of a square grid in {where}, got a table of {rows}; say image_size=(height, "
            "width)"
        )
    return read_grid(facts, side * side, where)


def _head(weights: Weights, channels: int, patch: int) -> dict[str, Tensor]:
    """Conv1x1 + PixelShuffle as a linear layer in our patch order."""
    shape = required(weights.tensors, "decoder.0.weight", 4, weights.path)
    if shape[0] != channels * patch**2 or shape[2:] != (1, 1):
        raise CheckpointError(
            f"expected a 1x1 convolution to {channels * patch**2} channels in {weights.path}, got decoder.0.weight of {shape}"
        )
    required(weights.tensors, "decoder.0.bias", 1, weights.path)
    sizes = {"c": channels, "ph": patch, "pw": patch}
    return {
        "head.weight": rearrange(weights.tensors["decoder.0.weight"], "(c ph pw) d 1 1 -> (ph pw c) d", **sizes),
        "head.bias": rearrange(weights.tensors["decoder.0.bias"], "(c ph pw) -> (ph pw c)", **sizes),
    }
