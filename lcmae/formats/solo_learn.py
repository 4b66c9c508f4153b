"""solo-learn's MAE: a Lightning checkpoint with backbone.* (timm's names) and decoder.* (official
names).

Layout: solo/methods/mae.py and solo/backbones/vit/vit_mae.py of vturrisi/solo-learn (14be766,
15824b4). Its decoder has torch's layer-norm eps of 1e-5, its encoder 1e-6, and its ViT-Ti and ViT-S
have 12 heads where all others have 3 and 6. An args.json, which its Checkpointer writes, gives
targets, masking ratio and the decoder's heads.
"""

from collections.abc import Mapping
from typing import Any

from lcmae.formats.build import Reading
from lcmae.formats.encoder import Heads, unused
from lcmae.formats.facts import Facts
from lcmae.formats.official import DECODER_NAMES, read_mae
from lcmae.formats.weights import Weights, setting, size_said, trainer_sizes

MARKS = ("backbone.patch_embed.proj.weight",)
HEADS: Heads = {192: (12,), 384: (12,), 768: (12,), 1024: (16,), 1280: (16,)}


def recognise(weights: Weights) -> bool:
    return MARKS[0] in weights and "decoder.decoder_embed.weight" in weights


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    facts = Facts(overrides)
    backbone, decoder = weights.under("backbone."), weights.under("decoder.")
    aside = [name for name in weights.tensors if not name.startswith(("backbone.", "decoder."))]
    aside += [f"backbone.{name}" for name in backbone if name.startswith(("fc_norm.", "head."))]
    unused(facts, aside, "classifier")

    # args.json beside the file, or the same values as Lightning's hyper-parameters
    for origin, values in (
        ("args.json", weights.neighbours.get("args.json")),
        ("hyper_parameters", weights.extras.get("hyper_parameters")),
    ):
        facts.say("decoder_heads", setting(values, "method_kwargs", "decoder_num_heads"), origin)
        facts.say("normalize_targets", setting(values, "method_kwargs", "norm_pix_loss"), origin)
        facts.say("mask_ratio", setting(values, "method_kwargs", "mask_ratio"), origin)
    facts.say("epoch", setting(weights.extras, "epoch"), "file")

    state = {name: value for name, value in backbone.items() if not name.startswith(("fc_norm.", "head."))}
    state |= {name: value for name, value in decoder.items() if name.startswith(DECODER_NAMES)}
    sizes = [*size_said(("args.json", weights.neighbours.get("args.json"))), *trainer_sizes(weights)]
    reading = read_mae("solo-learn", weights, facts, state, sizes=sizes, heads=HEADS, decoder_eps=1e-5)
    reading.keys = {name: f"{'decoder' if name in decoder else 'backbone'}.{name}" for name in state}
    return reading
