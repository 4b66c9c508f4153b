"""MAE in its official layout, and all who keep its names: full models, U-MAE, and the decoders of
others once renamed.

Layout: {model, optimizer, epoch, scaler, args} of facebookresearch/mae (util/misc.py, commit
efb2a80), names of its models_mae.py; U-MAE (zhangq327/U-MAE, commit 6a5b6dc) adds fc_norm and fc,
an online classifier. Released full files are {model} alone. The encoder-only releases have timm's
names and are read by `timm_vit`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.build import Reading
from lcmae.formats.encoder import (
    DECODER_HEADS,
    HEADS,
    Heads,
    assume_heads,
    assume_pixels,
    count_blocks,
    read_positions,
    read_shapes,
    required,
    unused,
)
from lcmae.formats.facts import Facts, ratio_of
from lcmae.formats.weights import Weights, own_settings, say_own_settings, say_trained, setting, trainer_sizes
from lcmae.models import MAEConfig

MARKS = ("patch_embed.proj.weight",)
DECODER_NAMES = ("mask_token", "decoder_")
RELEASED_HEADS = {"mae_vit_base": 12, "mae_vit_large": 16, "mae_vit_huge": 16}
"""By the name that args.model starts with; widths and depths are in the shapes."""


def recognise(weights: Weights) -> bool:
    return (
        "decoder_embed.weight" in weights and "patch_embed.proj.weight" in weights and "decoder_pred.weight" in weights
    )


def read(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """A full MAE; settings from args where there are any, else from tables."""
    facts = Facts(overrides)
    args = weights.extras.get("args")
    is_umae = "fc.weight" in weights or setting(args, "reg") is not None
    aside = [name for name in weights.tensors if name.startswith(("fc.", "fc_norm.", "head."))]
    unused(facts, aside, "online classifier")

    ours = own_settings(weights)
    say_own_settings(facts, ours, MAEConfig, besides=SHAPED)
    if not ours:
        named = setting(args, "model")
        heads = next((n for name, n in RELEASED_HEADS.items() if str(named).startswith(name)), None)
        facts.say("heads", heads, f"args.model {named}")
        facts.say("decoder_heads", 16 if heads else None, f"args.model {named}")
        facts.say("eps", 1e-6 if heads else None, f"args.model {named}")
        facts.say("decoder_eps", 1e-6 if heads else None, f"args.model {named}")
        facts.say("normalize_targets", setting(args, "norm_pix_loss"), "args.norm_pix_loss")
    facts.say("mask_ratio", setting(args, "mask_ratio"), "args.mask_ratio")
    say_trained(facts, weights)
    facts.say("epoch", setting(weights.extras, "epoch"), "file")

    _assume_targets(facts, weights.path)
    state = {name: value for name, value in weights.tensors.items() if name not in aside}
    reading = read_mae(
        "umae" if is_umae else "mae",
        weights,
        facts,
        state,
        sizes=[(ours.get("image_size"), "lcmae's own settings"), *trainer_sizes(weights)],
    )
    # U-MAE's --reg none trains plain MAE with its code
    reading.objective = "umae" if is_umae and setting(args, "reg") != "none" else "mae"
    return reading


def read_mae(
    name: str,
    weights: Weights,
    facts: Facts,
    state: Mapping[str, Tensor],
    *,
    sizes: Sequence[tuple[Any, str]] = (),
    heads: Heads = HEADS,
    decoder_eps: float = 1e-6,
    decoder_prefix: int = 1,
) -> Reading:
    """A `Reading` from tensors under official names; what no shape and no metadata said is assumed
    here."""
    where = weights.path
    read_shapes(facts, state, where)
    decoder_width = required(state, "decoder_embed.weight", 2, where)[0]
    hidden = required(state, "decoder_blocks.0.mlp.fc1.weight", 2, where)[0]
    facts.shape("decoder_width", decoder_width)
    facts.shape("decoder_depth", count_blocks(state, "decoder_blocks"))
    facts.shape("decoder_mlp_ratio", ratio_of(hidden, decoder_width))
    facts.shape("decoder_prefix", decoder_prefix)
    facts.shape("qkv_bias", "blocks.0.attn.qkv.bias" in state)

    rows = required(state, "pos_embed", 3, where)[1]
    tables = [state[table] for table in ("pos_embed", "decoder_pos_embed") if table in state]
    grid, _ = read_positions(facts, rows, where, sizes, prefixes=(1,), tables=tables)
    values = facts["patch_size"] ** 2 * facts["channels"]
    predicted = required(state, "decoder_pred.weight", 2, where)[0]
    if predicted != values:
        raise CheckpointError(f"expected predictions of {values} values per patch in {where}, got {predicted}")

    assume_heads(facts, "heads", facts["width"], heads)
    assume_heads(facts, "decoder_heads", decoder_width, DECODER_HEADS, size=32)
    facts.assume("eps", 1e-6, f"default of {name}")
    facts.assume("decoder_eps", decoder_eps, f"default of {name}")
    facts.assume("normalize_targets", False, f"default of {name}")
    facts.assume("mask_ratio", 0.75, f"default of {name}")
    assume_pixels(facts)
    facts.notes[:0] = weights.notes
    return Reading(
        format=name,
        path=where,
        sha256=weights.sha256,
        kind=MAEConfig,
        tensors=dict(state),
        facts=facts,
        grid=grid,
        objective="mae",
    )


def _assume_targets(facts: Facts, path: str) -> None:
    """Released files carry no args: those named _full were trained on normalised patches,
    _visualize_ ones on pixels.

    facebookresearch/mae issues 3, 8 and 12.
    """
    name = Path(path).name
    if "visualize" in name:
        facts.assume("normalize_targets", False, "file name with 'visualize'")
    elif name.startswith("mae_pretrain") and "_full" in name:
        facts.assume("normalize_targets", True, "file name with '_full'")


SHAPED = (
    "width",
    "depth",
    "patch_size",
    "channels",
    "mlp_ratio",
    "decoder_width",
    "decoder_depth",
    "decoder_mlp_ratio",
    "decoder_prefix",
    "qkv_bias",
)
"""Settings that shapes decide, whatever is written beside them."""
