"""stable-pretraining's MAE: encoder.vit.* under timm's names, and a decoder without class token.

Layout: methods/mae.py and backbone/vit.py of rbalestr-lab/stable-pretraining (9aa93f8).
`mask_token` has the encoder's width and goes through `query_proj`, a linear map that nothing else
uses: so its image is our mask token. All layer norms of the decoder have torch's eps, 1e-5. Its
targets are ordered (channel, row, column), because `MAELoss` calls `patchify` with (C, p, p), while
ours are (row, column, channel): the rows of the last layer are permuted.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.build import Reading
from lcmae.formats.encoder import required, unused
from lcmae.formats.facts import Facts
from lcmae.formats.official import read_mae
from lcmae.formats.weights import Weights, setting, trainer_sizes

MARKS = ("encoder.vit.patch_embed.proj.weight",)

DECODER = (
    ("decoder.transformer.context_proj.", "decoder_embed."),
    ("decoder.transformer.pos_embed", "decoder_pos_embed"),
    ("decoder.transformer.blocks.", "decoder_blocks."),
    ("decoder.transformer.final_norm.", "decoder_norm."),
    ("decoder.transformer.output_proj.", "decoder_pred."),
)


def recognise(weights: Weights) -> bool:
    return MARKS[0] in weights and "decoder.transformer.context_proj.weight" in weights


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    facts = Facts(overrides)
    sources: dict[str, str] = {}
    for name in weights.tensors:
        if name.startswith("encoder.vit.") and not name.startswith(("encoder.vit.head.", "encoder.vit.fc_norm.")):
            sources[name.removeprefix("encoder.vit.")] = name
        for old, new in DECODER:
            if name.startswith(old):
                sources[new + name.removeprefix(old)] = name
    state = {name: weights.tensors[source] for name, source in sources.items()}
    state |= _mask_token(weights)
    state |= _channels_last(state, weights.path)

    used = {*sources.values(), *(f"decoder.{name}" for name in MASK)}
    # encoder.patch_embed is encoder.vit.patch_embed under a second name
    aside = [name for name in weights.tensors if name not in used and not name.startswith("encoder.patch_embed.")]
    unused(facts, aside, "not part of the MAE")
    facts.notes.append("last layer permuted from (channel, row, column) to (row, column, channel)")
    facts.say("epoch", setting(weights.extras, "epoch"), "file")
    facts.assume("normalize_targets", True, "default of stable-pretraining's MAE")
    reading = read_mae(
        "stable-pretraining", weights, facts, state, sizes=trainer_sizes(weights), decoder_eps=1e-5, decoder_prefix=0
    )
    reading.keys = sources
    return reading


MASK = ("mask_token", "transformer.query_proj.weight", "transformer.query_proj.bias")


def _mask_token(weights: Weights) -> dict[str, Tensor]:
    token, weight, bias = (f"decoder.{name}" for name in MASK)
    width = required(weights.tensors, token, 3, weights.path)[2]
    if required(weights.tensors, weight, 2, weights.path)[1] != width:
        raise CheckpointError(f"expected {weight} of width {width} in {weights.path}, got another")
    required(weights.tensors, bias, 1, weights.path)
    return {"mask_token": F.linear(*(weights.tensors[name].float() for name in (token, weight, bias)))}


def _channels_last(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The last layer with its outputs in our order."""
    channels, patch = required(state, "patch_embed.proj.weight", 4, where)[1:3]
    if required(state, "decoder_pred.weight", 2, where)[0] != channels * patch**2:
        raise CheckpointError(
            f"expected predictions of {channels * patch**2} values per patch in {where}, got another number"
        )
    sizes = {"c": channels, "ph": patch, "pw": patch}
    return {
        "decoder_pred.weight": rearrange(state["decoder_pred.weight"], "(c ph pw) d -> (ph pw c) d", **sizes),
        "decoder_pred.bias": rearrange(state["decoder_pred.bias"], "(c ph pw) -> (ph pw c)", **sizes),
    }
