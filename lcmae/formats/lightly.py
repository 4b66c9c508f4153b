"""MAEs built of lightly's modules, inside anybody's LightningModule: prefixes are found by the ends
of names.

Layout: examples/pytorch_lightning/mae.py and lightly/models/modules of lightly-ai/lightly
(e8d317f). The encoder is `backbone.vit.*` (timm's names). The decoder is, until 1.6,
`decoder.decoder_*` (MAEDecoderTIMM, official names), and from then on
`decoder.{mask_token,pos_embed,blocks,norm}` (MaskedVisionTransformerDecoderTIMM) with
`decoder_embed` and `prediction_head` beside it. Settings are in the user's code, so what its
hyper-parameters leave out is assumed: targets are pixels, as in its examples.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lcmae.formats.build import Reading
from lcmae.formats.encoder import unused
from lcmae.formats.facts import Facts
from lcmae.formats.official import DECODER_NAMES, read_mae
from lcmae.formats.weights import Weights, say_trained, setting, trainer_sizes

NEW_DECODER = (("blocks.", "decoder_blocks."), ("norm.", "decoder_norm."), ("pos_embed", "decoder_pos_embed"))


def roots(weights: Weights) -> list[tuple[str, str]]:
    """Below what name an MAE of this layout may lie, and its patch embedding: the attribute that
    holds the encoder is named by the user, and the decoder lies beside it."""
    found = []
    for prefix in weights.prefixes("vit.patch_embed.proj.weight"):
        parts = prefix.split(".")[:-1]
        above = ["".join(f"{part}." for part in parts[:depth]) for depth in range(max(0, len(parts) - 1), -1, -1)]
        root = next((root for root in above if weights.at(root).prefixes("decoder_embed.weight")), None)
        if root is not None:
            found.append((root, f"{prefix}vit.patch_embed.proj.weight"))
    return found


def recognise(weights: Weights) -> bool:
    backbones, decoders = weights.prefixes("vit.patch_embed.proj.weight"), weights.prefixes("decoder_embed.weight")
    # a decoder within a ViT that is called vit is not theirs (`lcmae.formats.layouts.halves`)
    return bool(backbones) and bool(decoders) and not decoders[0].startswith(f"{backbones[0]}vit.")


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    facts = Facts(overrides)
    backbone = weights.prefixes("vit.patch_embed.proj.weight")[0] + "vit."
    encoder = {
        name: value for name, value in weights.under(backbone).items() if not name.startswith(("head.", "fc_norm."))
    }
    decoder, sources = _decoder(weights)
    sources |= {name: backbone + name for name in encoder}
    aside = [name for name in weights.tensors if name not in sources.values()]
    unused(facts, aside, "not part of the MAE")
    facts.say("epoch", setting(weights.extras, "epoch"), "file")
    say_trained(facts, weights)
    reading = read_mae("lightly", weights, facts, {**encoder, **decoder}, sizes=trainer_sizes(weights))
    reading.keys = sources
    return reading


def _decoder(weights: Weights) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Decoder tensors under official names, and where each was."""
    sources: dict[str, str] = {}
    embed = weights.prefixes("decoder_embed.weight")[0]
    if f"{embed}decoder_pred.weight" in weights:
        # the old class holds everything under official names
        sources = {name: embed + name for name in weights.under(embed) if name.startswith(DECODER_NAMES)}
    else:
        blocks = [prefix for prefix in weights.prefixes("mask_token") if f"{prefix}blocks.0.norm1.weight" in weights]
        for prefix in blocks[:1]:
            for name in weights.under(prefix):
                for old, new in NEW_DECODER:
                    if name.startswith(old):
                        sources[new + name.removeprefix(old)] = prefix + name
            sources["mask_token"] = f"{prefix}mask_token"
        sources |= {
            f"decoder_embed.{part}": f"{embed}decoder_embed.{part}" for part in weights.under(f"{embed}decoder_embed.")
        }
        for head in weights.prefixes("prediction_head.weight")[:1]:
            sources |= {f"decoder_pred.{part}": f"{head}prediction_head.{part}" for part in ("weight", "bias")}
    return {name: weights.tensors[source] for name, source in sources.items() if source in weights}, sources
