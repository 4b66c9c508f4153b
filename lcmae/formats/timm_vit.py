"""Encoders under timm's names: any timm VisionTransformer, MAE's encoder-only releases, fine-tuned
and linear-probed MAEs.

Layout: timm/models/vision_transformer.py (1.0.31); facebookresearch/mae models_vit.py and
main_linprobe.py (efb2a80). A class token, registers, norm_pre, LayerScale and norms of queries and
keys are seen in the names; heads and eps are not. `timm:NAME` asks timm's registry for them, and
takes weights from the local cache or the hub (`lcmae.formats.hub`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import hub
from lcmae.formats.build import Reading
from lcmae.formats.encoder import (
    HEADS,
    assume_heads,
    assume_pixels,
    read_positions,
    read_shapes,
    required,
    unused,
)
from lcmae.formats.facts import Facts
from lcmae.formats.vit import ViTConfig
from lcmae.formats.weights import (
    Weights,
    open_states,
    own_settings,
    say_own_settings,
    setting,
    size_said,
    trainer_sizes,
)
from lcmae.patches import Grid

MARKS = ("patch_embed.proj.weight",)
ASIDE = ("head.", "head_dist.", "fc.", "attn_pool.", "mask_token", "pre_logits.", "decoder_")
ENCODER_NAMES = (
    "cls_token",
    "reg_token",
    "pos_embed",
    "patch_embed.proj.",
    "norm_pre.",
    "blocks.",
    "norm.",
    "fc_norm.",
)
SAID = ("heads", "eps", "activation", "feature", "pixel_mean", "pixel_std")
ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "ReLU": "relu", "SiLU": "silu"}


def recognise(weights: Weights) -> bool:
    return "patch_embed.proj.weight" in weights and "blocks.0.attn.qkv.weight" in weights


def predicts(weights: Weights) -> bool:
    return False


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """An encoder from a file; a config.json of timm beside it gives its name, and so its heads."""
    facts = Facts(overrides)
    args = weights.extras.get("args")
    ours = own_settings(weights)
    sizes = [(ours.get("image_size"), "lcmae's own settings"), *trainer_sizes(weights)]
    architecture = setting(weights.config, "architecture") if weights.config else None
    if architecture:
        sizes += size_said(("config.json", weights.config))
        sizes += _say_registered(facts, str(architecture))
        say_pixels(facts, (weights.config or {}).get("pretrained_cfg"))
    say_own_settings(facts, {name: ours[name] for name in SAID if name in ours}, ViTConfig)
    named = str(setting(args, "model"))
    heads = next((n for name, n in {"base": 12, "large": 16, "huge": 16}.items() if f"vit_{name}" in named), None)
    facts.say("heads", heads, f"args.model {named}")
    facts.say("epoch", setting(weights.extras, "epoch"), "file")
    reading = read_encoder("mae" if args is not None else "vit", weights, facts, weights.tensors, sizes=sizes)
    reading.facts.notes[:0] = weights.notes
    return reading


def read_named(path: str, overrides: Mapping[str, Any], *, meta: bool) -> Reading:
    """`timm:NAME`: architecture by name, weights from the local Hugging Face cache or the hub."""
    import timm

    name = path.removeprefix("timm:")
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{name.split('.')[0][:20]}*")[:3]) or "timm.list_models()"
        raise InputError(f"expected the name of a timm model, got {name!a}; near it: {near}")
    facts = Facts(overrides)
    sizes = _say_registered(facts, name)
    file, note = weights_of(name)
    weights = open_states(file, meta=meta)[0]
    notes = [note, *weights.notes]
    weights = Weights(path, weights.sha256, weights.tensors, weights.extras, weights.metadata, notes=notes)
    pretrained = timm.get_pretrained_cfg(name)
    say_pixels(facts, pretrained.to_dict() if pretrained is not None else None)
    sizes += size_said(("timm's pretrained_cfg", pretrained.to_dict() if pretrained is not None else None))
    reading = read_encoder("vit", weights, facts, weights.tensors, sizes=sizes)
    reading.facts.notes[:0] = notes
    reading.objective = "mae" if name.endswith(".mae") else None
    return reading


def read_encoder(
    name: str,
    weights: Weights,
    facts: Facts,
    encoder: Mapping[str, Tensor],
    *,
    sizes: Sequence[tuple[Any, str]] = (),
    eps: float = 1e-6,
) -> Reading:
    """A `Reading` of an encoder under timm's names."""
    where = weights.path
    if any(key.startswith("blocks.0.attn.q_bias") for key in encoder):
        raise CheckpointError(
            f"expected a VisionTransformer in {where}, got a BEiT without mask token (SimMIM, fine-tuned)"
        )
    if "blocks.0.mlp.fc1_g.weight" in encoder or "blocks.0.mlp.w12.weight" in encoder:
        raise CheckpointError(
            f"expected blocks with plain MLPs in {where}, got gated ones (SwiGLU); lcmae.adapt takes the model from memory"
        )
    if "pos_embed" not in encoder:
        raise CheckpointError(
            f"expected a table of positions (pos_embed) in {where}, got a model without; of rotary ones timm's own DINOv3 and "
            "EVA-02 are known by their shapes (timm:vit_small_patch16_dinov3); lcmae.adapt takes any other from memory"
        )
    read_shapes(facts, encoder, where)
    if (
        required(encoder, "blocks.0.mlp.fc2.weight", 2, where)[1] * 2
        == required(encoder, "blocks.0.mlp.fc1.weight", 2, where)[0]
    ):
        raise CheckpointError(
            f"expected blocks with plain MLPs in {where}, got gated ones (SwiGLU); lcmae.adapt takes the model from memory"
        )

    registers = required(encoder, "reg_token", 3, where)[1] if "reg_token" in encoder else 0
    has_class = "cls_token" in encoder
    rows = required(encoder, "pos_embed", 3, where)[1]
    num_prefix = has_class + registers
    facts.shape("class_token", has_class)
    facts.shape("registers", registers)
    facts.shape("norm_pre", "norm_pre.weight" in encoder)
    facts.shape("qkv_bias", "blocks.0.attn.qkv.bias" in encoder)
    facts.shape("qk_norm", "blocks.0.attn.q_norm.weight" in encoder)
    facts.shape("layer_scale", "blocks.0.ls1.gamma" in encoder)
    after = "tokens" if "norm.weight" in encoder else "pooled" if "fc_norm.weight" in encoder else "none"
    facts.shape("final_norm", after)
    grid = _read_grid(facts, rows, num_prefix, where, sizes, encoder["pos_embed"])

    if "blocks.0.attn.q_norm.weight" in encoder:
        _heads_of_norms(facts, encoder, where)
    assume_heads(facts, "heads", facts["width"], HEADS)
    facts.assume("eps", eps, f"default of {name}")
    facts.assume("activation", "gelu", f"default of {name}")
    facts.assume("feature", "mean" if after == "pooled" or not has_class else "cls", "what its last norm is for")
    assume_pixels(facts)

    known = {key: value for key, value in encoder.items() if key.startswith(ENCODER_NAMES)}
    if after == "tokens":
        known = {key: value for key, value in known.items() if not key.startswith("fc_norm.")}
    aside = [key for key in encoder if key not in known and key.startswith((*ASIDE, "fc_norm."))]
    unused(facts, aside, "head or decoder")
    # whatever else there is stays in, and is judged by name (`encoder.is_beside`)
    known |= {key: value for key, value in encoder.items() if key not in known and key not in aside}
    facts.notes.append("encoder only: no predictions")
    return Reading(
        format=name,
        path=where,
        sha256=weights.sha256,
        kind=ViTConfig,
        tensors=known,
        facts=facts,
        grid=grid,
        is_exact=any(key.startswith("decoder_") for key in aside),
    )


def _read_grid(
    facts: Facts, rows: int, num_prefix: int, where: str, sizes: Sequence[tuple[Any, str]], table: Tensor
) -> Grid:
    """The grid, and whether prefix tokens have rows in the table (deit3 and others leave them
    out)."""
    said = facts.wanted("prefix_positions")
    prefixes = (num_prefix,) if said or not num_prefix else (0,) if said is not None else (num_prefix, 0)
    grid, prefix = read_positions(facts, rows, where, sizes, prefixes=prefixes, tables=[table])
    settle = facts.assume if "image_size" in facts.assumed and len(prefixes) > 1 else facts.say
    # without prefix tokens timm's default is as good as any
    settle("prefix_positions", prefix > 0 or not num_prefix, f"{rows} rows of positions")
    return grid


def _heads_of_norms(facts: Facts, encoder: Mapping[str, Tensor], where: str) -> None:
    """Norms of queries are as wide as a head."""
    size = required(encoder, "blocks.0.attn.q_norm.weight", 1, where)[0]
    if size < facts["width"] and facts["width"] % size == 0:
        facts.shape("heads", facts["width"] // size)


def _say_registered(facts: Facts, name: str) -> list[tuple[Any, str]]:
    """Heads, eps and activation as timm builds the model of this name; only its skeleton is built.
    Returns its image size, and where that stands."""
    import timm
    from timm.models.vision_transformer import VisionTransformer

    try:
        with torch.device("meta"):
            vit = timm.create_model(name, pretrained=False)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"expected a model of timm's registry, got {name!a}") from error
    if not isinstance(vit, VisionTransformer):
        raise CheckpointError(
            f"expected a timm VisionTransformer, got {name!a}, a {type(vit).__name__}; lcmae.adapt takes a model from memory"
        )
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
    return [(vit.patch_embed.img_size, origin)]


def say_pixels(facts: Facts, pretrained: Any) -> None:
    if not isinstance(pretrained, Mapping):
        return
    for name, key in (("pixel_mean", "mean"), ("pixel_std", "std")):
        values = pretrained.get(key)
        if isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values):
            facts.say(name, tuple(float(value) for value in values), "timm's pretrained_cfg")


def weights_of(name: str) -> tuple[Path, str]:
    """The file of weights of a timm model, from the cache or the hub, and where it came from."""
    import timm

    config = timm.get_pretrained_cfg(name)
    repo = config.hf_hub_id if config is not None else None
    if config is None or not repo:
        raise CheckpointError(
            f"expected a timm model with weights on the hub, got timm:{name}, which timm has none for"
        )
    repo = repo + f"{config.architecture}.{config.tag}" if repo.endswith("/") else repo
    return hub.fetch(hub.HubName(repo))
