"""Hugging Face's ViTForMaskedImageModeling (transformers, modeling_vit.py): SimMIM with learned
positions. `vit.embeddings.mask_token` stands in hidden patches; `decoder.0` is a 1x1 convolution
before a pixel shuffle."""

from collections.abc import Mapping
from typing import Any

from einops import rearrange

from lcmae.errors import CheckpointError
from lcmae.formats.build import Reading
from lcmae.formats.encoder import HEADS, assume_heads, assume_pixels, read_positions, read_shapes, required, unused
from lcmae.formats.facts import Facts
from lcmae.formats.huggingface import rename, say_config
from lcmae.formats.weights import Weights, size_said
from lcmae.models import SimMIMConfig

MARKS = ("vit.embeddings.patch_embeddings.projection.weight",)


def recognise(weights: Weights) -> bool:
    return all(name in weights for name in (MARKS[0], "vit.embeddings.mask_token", "decoder.0.weight"))


def predicts(weights: Weights) -> bool:
    return True


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """Encoder, mask token and head."""
    facts, where, config = Facts(overrides), weights.path, weights.config or {}
    head = {name: value for name, value in weights.tensors.items() if name.startswith("decoder.0.")}
    encoder = {name: value for name, value in weights.tensors.items() if name not in head}
    state, sources = rename(encoder, where)
    state["mask_token"] = state.pop("embeddings.mask_token")
    aside = [name for name in state if name.startswith("pooler.")]
    state = {name: value for name, value in state.items() if name not in aside}
    unused(facts, aside, "head")
    read_shapes(facts, state, where)
    say_config(facts, config, weights.neighbours.get("preprocessor_config.json", {}))
    rows = required(state, "pos_embed", 3, where)[1]
    sizes = size_said(("config.json", config))
    grid = read_positions(facts, rows, where, sizes, prefixes=(1,), tables=[state["pos_embed"]])[0]
    patch, channels, width = facts["patch_size"], facts["channels"], facts["width"]
    kernel = required(head, "decoder.0.weight", 4, where)
    if kernel != (patch**2 * channels, width, 1, 1):
        raise CheckpointError(
            f"expected a head for patches of {patch} pixels in {where}, got {kernel} (encoder_stride)"
        )
    # the pixel shuffle reads (channel, row, column), a patch here is (row, column, channel)
    order = "(c ph pw) ... -> (ph pw c) ..."
    state["head.weight"] = rearrange(head["decoder.0.weight"][:, :, 0, 0], order, c=channels, ph=patch, pw=patch)
    state["head.bias"] = rearrange(head["decoder.0.bias"], order, c=channels, ph=patch, pw=patch)
    assume_heads(facts, "heads", width, HEADS)
    facts.assume("normalize_targets", False, "the class's loss")
    facts.assume("feature", "cls", "what its classifiers use")
    assume_pixels(facts)
    facts.notes[:0] = weights.notes
    return Reading(
        format="huggingface",
        path=where,
        sha256=weights.sha256,
        kind=SimMIMConfig,
        tensors=state,
        facts=facts,
        grid=grid,
        objective="simmim",
        keys=sources,
    )
