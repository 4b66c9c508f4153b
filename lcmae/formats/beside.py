"""What lies beside a model in its state dict and is no part of it: heads, projectors, criteria,
queues, counters. A prefix tells them apart by itself; where the model has none, names do."""

import re
from collections.abc import Collection
from difflib import get_close_matches

from torch import Tensor

PARTS = (
    *("adapter", "attention", "attn", "block", "cls", "conv", "decoder", "dist", "embed", "embedding", "encoder"),
    *("ffn", "freq", "layer", "layernorm", "ln", "lora", "mask", "mlp", "norm", "patch", "pos", "position", "prompt"),
    *("qkv", "reg", "register", "rel", "rope", "stage", "stem", "time", "token", "transformer"),
)
"""Words by which ViTs name what an image goes through."""

OF_TRAINING = ("criterion", "loss", "losses", "metric", "metrics")
"""Words that say that no image goes through it, whatever else the name says: patch_loss."""

NEAR = 0.75
"""How much alike a misspelled word is to the one that was meant (`difflib`): norm and nrom are
0.75, token and tokenizer 0.71."""


def is_beside(name: str, tensor: Tensor, modules: Collection[str], widths: Collection[int]) -> bool:
    """Whether a tensor that the model has no place for is nobody's part, and may be left aside.

    `name` is the file's, below the model's prefix; `modules` are the first words of the names that
    the model takes, `widths` those of its tokens. It may not where it is within one of these
    modules; nor, if it holds floating-point numbers, where its own module is called like a part of
    a ViT (one that the layout does not know, or a misspelled one), or where it is a bare vector
    that could be added to tokens.
    """
    first, *rest = name.split(".")
    if first in modules:
        return False
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    words = [word for word in re.split(r"[_\d]+", first.lower()) if word]
    if any(word in OF_TRAINING for word in words):
        return True
    if any(get_close_matches(word, PARTS, n=1, cutoff=NEAR) for word in words):
        return False
    return bool(rest) or not tensor.ndim or tensor.shape[-1] not in widths
