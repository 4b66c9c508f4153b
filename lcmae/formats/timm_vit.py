"""Encoders under timm's names: any timm VisionTransformer, MAE's encoder-only releases, fine-tuned
and linear-probed MAEs.

Layout: timm/models/vision_transformer.py (1.0.31); facebookresearch/mae models_vit.py and
main_linprobe.py (efb2a80). A class token, registers, norm_pre, LayerScale and norms of queries and
keys are seen in the names; heads and eps are not. `timm:NAME` asks timm's registry for them, and
takes weights from the local cache only: nothing is downloaded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lcmae.errors import CheckpointError, InputError
from lcmae.formats.build import Reading
from lcmae.formats.encoder import (
    HEADS,
    assume_heads,
    assume_pixels,
    has_square_root,
    read_grid,
    read_shapes,
    required,
    unused,
)
from lcmae.formats.facts import Facts
from lcmae.formats.vit import ViTConfig
from lcmae.formats.weights import Weights, open_state, own_settings, say_own_settings, setting

ASIDE = ("head.", "head_dist.", "fc.", "attn_pool.", "mask_token", "pre_logits.", "decoder_")
KEPT = ("cls_token", "reg_token", "pos_embed", "patch_embed.proj.", "norm_pre.", "blocks.", "norm.", "fc_norm.")
SAID = ("heads", "eps", "activation", "feature", "pixel_mean", "pixel_std")
ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "ReLU": "relu", "SiLU": "silu"}


def recognise(weights: Weights) -> bool:
    return "patch_embed.proj.weight" in weights and "blocks.0.attn.qkv.weight" in weights


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """An encoder from a file; a config.json of timm beside it gives its name, and so its heads."""
    facts = Facts(overrides)
    args = weights.extras.get("args")
    architecture = setting(weights.config, "architecture") if weights.config else None
    if architecture:
        _say_registered(facts, str(architecture))
        _say_pixels(facts, (weights.config or {}).get("pretrained_cfg"))
    ours = own_settings(weights)
    say_own_settings(facts, {name: ours[name] for name in SAID if name in ours}, ViTConfig)
    named = str(setting(args, "model"))
    heads = next((n for name, n in {"base": 12, "large": 16, "huge": 16}.items() if f"vit_{name}" in named), None)
    facts.say("heads", heads, f"args.model {named}")
    facts.say("epoch", setting(weights.extras, "epoch"), "file")
    reading = read_encoder(
        "mae" if args is not None else "vit", weights, facts, weights.tensors, image_size=ours.get("image_size")
    )
    reading.facts.notes[:0] = weights.notes
    return reading


def read_named(path: str, overrides: Mapping[str, Any], *, meta: bool) -> Reading:
    """`timm:NAME`: architecture by name, weights from the local Hugging Face cache."""
    import timm

    name = path.removeprefix("timm:")
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{name.split('.')[0][:20]}*")[:3]) or "timm.list_models()"
        raise InputError(f"expected the name of a timm model, got {name!a}; near it: {near}")
    facts = Facts(overrides)
    _say_registered(facts, name)
    weights = open_state(_cached(name), meta=meta)
    weights = Weights(path, weights.sha256, weights.tensors, weights.extras, weights.metadata, notes=weights.notes)
    pretrained = timm.get_pretrained_cfg(name)
    _say_pixels(facts, pretrained.to_dict() if pretrained is not None else None)
    reading = read_encoder("vit", weights, facts, weights.tensors)
    reading.objective = "mae" if name.endswith(".mae") else None
    return reading


def read_encoder(
    name: str,
    weights: Weights,
    facts: Facts,
    encoder: Mapping[str, Tensor],
    *,
    image_size: Any = None,
    eps: float = 1e-6,
) -> Reading:
    """A `Reading` of an encoder under timm's names."""
    where = weights.path
    if any(key.startswith("blocks.0.attn.q_bias") for key in encoder):
        raise CheckpointError(
            f"expected a VisionTransformer in {where}, got a BEiT without mask token (SimMIM, fine-tuned)"
        )
    if "blocks.0.mlp.fc1_g.weight" in encoder or "blocks.0.mlp.w12.weight" in encoder:
        raise CheckpointError(f"expected blocks with plain MLPs in {where}, got gated ones (SwiGLU)")
    if "pos_embed" not in encoder:
        raise CheckpointError(f"expected a table of positions (pos_embed) in {where}, got a model without (rotary?)")
    read_shapes(facts, encoder, where)
    if (
        required(encoder, "blocks.0.mlp.fc2.weight", 2, where)[1] * 2
        == required(encoder, "blocks.0.mlp.fc1.weight", 2, where)[0]
    ):
        raise CheckpointError(f"expected blocks with plain MLPs in {where}, got gated ones (SwiGLU)")

    registers = required(encoder, "reg_token", 3, where)[1] if "reg_token" in encoder else 0
    has_class = "cls_token" in encoder
    rows = required(encoder, "pos_embed", 3, where)[1]
    num_prefix = has_class + registers
    on_prefix = num_prefix > 0 and _rows_for_prefix(facts, rows, num_prefix, image_size)
    facts.shape("class_token", has_class)
    facts.shape("registers", registers)
    facts.shape("prefix_positions", on_prefix)
    facts.shape("norm_pre", "norm_pre.weight" in encoder)
    facts.shape("qkv_bias", "blocks.0.attn.qkv.bias" in encoder)
    facts.shape("qk_norm", "blocks.0.attn.q_norm.weight" in encoder)
    facts.shape("layer_scale", "blocks.0.ls1.gamma" in encoder)
    after = "tokens" if "norm.weight" in encoder else "pooled" if "fc_norm.weight" in encoder else "none"
    facts.shape("final_norm", after)
    grid = read_grid(facts, rows - num_prefix * on_prefix, where, image_size)

    assume_heads(facts, "heads", facts["width"], HEADS)
    facts.assume("eps", eps, f"default of {name}")
    facts.assume("activation", "gelu", f"default of {name}")
    facts.assume("feature", "mean" if after == "pooled" or not has_class else "cls", "what its last norm is for")
    assume_pixels(facts)

    kept = {key: value for key, value in encoder.items() if key.startswith(KEPT)}
    if after == "tokens":
        kept = {key: value for key, value in kept.items() if not key.startswith("fc_norm.")}
    aside = [key for key in encoder if key not in kept and key.startswith((*ASIDE, "fc_norm."))]
    unused(facts, aside, "head or decoder")
    # whatever else there is stays in, so that it is refused by name
    kept |= {key: value for key, value in encoder.items() if key not in kept and key not in aside}
    facts.notes.append("encoder only: no predictions")
    return Reading(
        format=name,
        path=where,
        sha256=weights.sha256,
        kind=ViTConfig,
        tensors=kept,
        facts=facts,
        grid=grid,
    )


def _rows_for_prefix(facts: Facts, rows: int, num_prefix: int, image_size: Any) -> bool:
    """Whether prefix tokens have rows in the position table (deit3 and others leave them out)."""
    size = facts.wanted("image_size") or image_size
    if isinstance(size, int):
        return rows != (size // facts["patch_size"]) ** 2
    return not has_square_root(rows) or has_square_root(rows - num_prefix)


def _say_registered(facts: Facts, name: str) -> None:
    """Heads, eps and activation as timm builds the model of this name; only its skeleton is
    built."""
    import timm
    from timm.models.vision_transformer import VisionTransformer

    try:
        with torch.device("meta"):
            vit = timm.create_model(name, pretrained=False)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"expected a model of timm's registry, got {name!a}") from error
    if not isinstance(vit, VisionTransformer):
        raise CheckpointError(f"expected a timm VisionTransformer, got {name!a}, a {type(vit).__name__}")
    origin = f"timm, {name}"
    block: Any = vit.blocks[0]
    facts.say("heads", block.attn.num_heads, origin)
    facts.say("eps", block.norm1.eps, origin)
    activation = type(block.mlp.act).__name__
    if activation == "GELU" and isinstance(block.mlp.act, nn.GELU) and block.mlp.act.approximate == "tanh":
        activation = "GELUTanh"
    if activation not in ACTIVATIONS:
        raise CheckpointError(f"expected an activation among {', '.join(ACTIVATIONS)}, got {activation} in {name!a}")
    facts.say("activation", ACTIVATIONS[activation], origin)


def _say_pixels(facts: Facts, pretrained: Any) -> None:
    if not isinstance(pretrained, Mapping):
        return
    for name, key in (("pixel_mean", "mean"), ("pixel_std", "std")):
        values = pretrained.get(key)
        if isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values):
            facts.say(name, tuple(float(value) for value in values), "timm's pretrained_cfg")


def _cached(name: str) -> Path:
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    hub = config.hf_hub_id if config is not None else None
    if config is not None and hub:
        hub = hub + f"{config.architecture}.{config.tag}" if hub.endswith("/") else hub
        for file in ("model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(hub, file)
            if isinstance(found, str):
                return Path(found)
    raise CheckpointError(
        f"expected the weights of timm:{name} in the local cache, got none; timm.create_model('{name}', pretrained=True) "
        f"downloads them{'' if hub else ', if it has any'}"
    )
