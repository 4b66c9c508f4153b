"""Hugging Face ViTMAE and ViT: a folder with config.json and model.safetensors.

Layout: three spellings of the same keys, all read by one set of rules. Files on the hub and
transformers 4 write `vit.encoder.layer.N` and `decoder.decoder_layers.N`; transformers 5 writes
`decoder.decoder_encoder.layer.N`, and holds `vit.layers.N` in memory (modeling_vit_mae.py, 5.23).
Queries, keys and values are concatenated. config.json is complete: heads, eps (1e-12 by default),
targets and masking ratio are read. transformers itself is not needed.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.build import Reading
from lcmae.formats.encoder import unused
from lcmae.formats.facts import Facts
from lcmae.formats.official import read_mae
from lcmae.formats.positions import fold_class_position
from lcmae.formats.timm_vit import read_encoder
from lcmae.formats.weights import Weights, own_settings, say_own_settings, setting, size_said, trainer_sizes
from lcmae.models import MAEConfig

RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^(?:vit|deit|dinov2|dinov2_with_registers|ijepa)\.", ""),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.(?:register_tokens|distillation_token)$", "reg_token"),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
        (r"^layernorm\.", "norm."),
        (r"^decoder\.(?:decoder_layers|decoder_encoder\.layer|layers)\.(\d+)\.", r"decoder_blocks.\1."),
        (r"^decoder\.", ""),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
        (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
        (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    )
)

EMBEDDING = "embeddings.patch_embeddings.projection.weight"
PREFIXES = ("vit.", "deit.", "dinov2.", "dinov2_with_registers.", "ijepa.", "")
MARKS = tuple(prefix + EMBEDDING for prefix in PREFIXES)
"""Of models with a head or decoder, and of encoders alone."""

PARTS = {"query": 0, "key": 1, "value": 2, "q": 0, "k": 1, "v": 2}
ASIDE = ("pooler.", "classifier.", "distillation_classifier.", "cls_classifier.", "embeddings.mask_token")
KINDS = ("vit_mae", "vit", "deit", "dinov2", "dinov2_with_registers", "ijepa")
"""Values of model_type whose encoders are plain ViTs. DeiT's distillation token is a register here;
DINOv2's registers come after the positions were added, so the class token takes its own."""


def recognise(weights: Weights) -> bool:
    return any(mark in weights for mark in MARKS)


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """ViTMAEForPreTraining with its decoder; ViTMAEModel, ViTModel and classifiers as encoders."""
    facts = Facts(overrides)
    config = weights.config or {}
    kind = setting(config, "model_type")
    if config and kind not in KINDS:
        raise CheckpointError(
            f"expected model_type among {', '.join(KINDS)} in config.json beside {weights.path}, got {kind!r}"
        )
    activation = setting(config, "hidden_act")
    if activation not in (None, "gelu"):
        raise CheckpointError(f"expected hidden_act gelu in config.json beside {weights.path}, got {activation!r}")
    say_config(facts, config, weights.neighbours.get("preprocessor_config.json", {}))

    say_own_settings(
        facts, {name: value for name, value in own_settings(weights).items() if name == "feature"}, MAEConfig
    )

    state, sources = rename(weights.tensors, weights.path)
    aside = [name for name in state if name.startswith(ASIDE)]
    state = {name: value for name, value in state.items() if name not in aside}
    sizes = [*size_said(("config.json", config)), *trainer_sizes(weights)]
    if "decoder_embed.weight" in state:
        reading = read_mae("huggingface", weights, facts, state, sizes=sizes)
    else:
        if any(".mlp.weights_in." in name for name in state):
            raise CheckpointError(f"expected blocks with plain MLPs in {weights.path}, got gated ones (SwiGLU)")
        is_deit = kind == "deit" or sources.get("reg_token", "").endswith("embeddings.distillation_token")
        is_late = "reg_token" in state and not is_deit
        if is_late and {"pos_embed", "cls_token"} <= state.keys():
            state = fold_class_position(state)
            facts = Facts({**overrides, "prefix_positions": False})
            say_config(facts, config, weights.neighbours.get("preprocessor_config.json", {}))
        eps = 1e-6 if str(kind).startswith("dinov2") else 1e-12
        reading = read_encoder("huggingface", weights, facts, state, sizes=sizes, eps=eps)
        if is_late:
            reading.facts.origins["prefix_positions"] = "DINOv2's registers"
        reading.facts.notes[:0] = weights.notes
        reading.objective = "mae" if kind == "vit_mae" else None
    unused(facts, aside, "head")
    reading.keys = sources
    return reading


def rename(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors under official names, and for every name the one it had in the file."""
    state: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    split: dict[str, dict[int, Tensor]] = {}
    for source, tensor in tensors.items():
        name = source
        for pattern, replacement in RULES:
            name = pattern.sub(replacement, name)
        if part := re.fullmatch(r"(.*\.attn)\.(query|key|value|[qkv])\.(weight|bias)", name):
            name = f"{part[1]}.qkv.{part[3]}"
            if PARTS[part[2]] in split.setdefault(name, {}):
                raise CheckpointError(f"expected one tensor for {source} in {where}, got two layouts mixed")
            split[name][PARTS[part[2]]] = tensor
        elif name in state:
            raise CheckpointError(f"expected one tensor for {source} in {where}, got two layouts mixed")
        else:
            state[name] = tensor
        sources[name] = source
    for name, parts in split.items():
        shapes = {tuple(part.shape) for part in parts.values()}
        if len(parts) != 3 or len(shapes) != 1:
            raise CheckpointError(
                f"expected query, key and value of one shape at {sources[name]} in {where}, got {len(parts)}"
            )
        state[name] = torch.cat([parts[0], parts[1], parts[2]])
    return state, sources


def say_config(facts: Facts, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> None:
    origin = "config.json"
    facts.say("heads", setting(config, "num_attention_heads"), origin)
    facts.say("decoder_heads", setting(config, "decoder_num_attention_heads"), origin)
    facts.say("eps", setting(config, "layer_norm_eps"), origin)
    facts.say("decoder_eps", setting(config, "layer_norm_eps"), origin)
    facts.say("normalize_targets", setting(config, "norm_pix_loss"), origin)
    facts.say("mask_ratio", setting(config, "mask_ratio"), origin)
    for name, key in (("pixel_mean", "image_mean"), ("pixel_std", "image_std")):
        values = preprocessor.get(key)
        if isinstance(values, list) and all(isinstance(value, int | float) for value in values):
            facts.say(name, tuple(float(value) for value in values), "preprocessor_config.json")
    # without a config.json the library's defaults are all there is
    facts.assume("eps", 1e-12, "default of transformers")
    facts.assume("decoder_eps", 1e-12, "default of transformers")
