"""mmpretrain, mmselfsup and Sapiens: `backbone.layers.N.{ln1,attn.qkv,ffn.layers.0.0,...}`, and
MAE's decoder under `neck.` (mmpretrain models/backbones/vision_transformer.py, models/necks/
mae_neck.py). Blocks and epsilons are timm's; targets stand in the head's settings, which no file
holds."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lcmae.formats import official, timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.layouts.renaming import named_as_in_file, rename
from lcmae.formats.weights import Weights

MARKS = ("backbone.patch_embed.projection.weight", "patch_embed.projection.weight")
RULES = (
    (r"^backbone\.", ""),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^layers\.(\d+)\.", r"blocks.\1."),
    (r"^neck\.(?:ln1|norm1)\.", "decoder_norm."),
    (r"^neck\.", ""),
    (r"^(?:ln1|norm1)\.", "norm."),
    (r"(blocks\.\d+)\.ln([12])\.", r"\1.norm\2."),
    (r"(blocks\.\d+)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
    (r"(blocks\.\d+)\.ffn\.gamma2\.weight$", r"\1.ls2.gamma"),
    (r"(blocks\.\d+)\.attn\.gamma1\.weight$", r"\1.ls1.gamma"),
)
ASIDE = ("head.", "data_preprocessor.", "target_generator.")


def recognise(weights: Weights) -> bool:
    return any(mark.replace("patch_embed.projection.weight", "layers.0.attn.qkv.weight") in weights for mark in MARKS)


def predicts(weights: Weights) -> bool:
    return "neck.decoder_embed.weight" in weights


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """A full MAE where there is a neck, else an encoder."""
    others = {name: value for name, value in weights.tensors.items() if not name.startswith(ASIDE)}
    left = len(weights.tensors) - len(others)
    notes = [*weights.notes, f"{left} tensors of head and preprocessing left aside"] if left else weights.notes
    renamed, sources = rename(replace(weights, tensors=others, notes=notes), RULES)
    layout = official if official.recognise(renamed) else timm_vit
    return named_as_in_file(layout.read(renamed, overrides), sources)
