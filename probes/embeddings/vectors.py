"""Vectors of whole images: class token, mean token or patch tokens, after any encoder block."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lcmae.data.source import ImageSource
from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.models import MaskedImageModel
from lcmae.probes.watching.hooks import block_outputs
from lcmae.shapes import Float

EmbeddedFeature = Literal["cls", "mean", "tokens"]
"""The class token, the mean of the patch tokens, or each patch's own token."""

FEATURES: tuple[EmbeddedFeature, ...] = ("cls", "mean", "tokens")


@dataclass(frozen=True)
class Choice:
    """Which vectors, of one model; `chosen` checks and completes what was asked for."""

    feature: EmbeddedFeature
    layer: int | None
    """Encoder block, counted from 1, before the final norm; 0 is what enters the first block; None
    is the encoder's output after the final norm."""


def chosen(model: MaskedImageModel, feature: str | None, layer: int | None) -> Choice:
    """The vectors asked for; by default the class token, of models without one the mean token.

    A negative layer counts from the last block. `InputError` for what the model does not have.
    """
    named: str = feature or ("cls" if model.num_prefix else "mean")
    found: EmbeddedFeature | None = next((known for known in FEATURES if known == named), None)
    if found is None:
        raise InputError(f"expected a feature out of {', '.join(FEATURES)}, got {feature!r}")
    if found == "cls" and not model.num_prefix:
        raise InputError("expected a model with a class token for feature 'cls', got one without; take 'mean'")
    depth = len(model.blocks)
    if layer is None:
        return Choice(found, None)
    if not depth:
        raise InputError(
            f"expected no layer for a model whose encoder blocks are unknown, got layer {layer}; "
            "say encoder_blocks= in lcmae.adapt"
        )
    if not -depth <= layer <= depth:
        raise InputError(f"expected a layer from 0 (embedding) to {depth}, or -{depth} to -1, got {layer}")
    return Choice(found, layer + depth + 1 if layer < 0 else layer)


@torch.no_grad()
def vectors(model: MaskedImageModel, images: Float[Tensor, "b c h w"], choice: Choice) -> Float[Tensor, "b ..."]:
    """float32 vectors [b d], or [b n d] for tokens, of images in the model's input space; no
    decoder runs."""
    mask = Mask.none(len(images), model.num_patches, images.device)
    low_precision = model.precision == "bfloat16"
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=low_precision):
        if choice.layer is None:
            prefix, tokens, _ = model.encode(images, mask)
        else:
            prefix, tokens = _after_block(model, images, mask, choice.layer)
    if choice.feature == "cls":
        return prefix[:, 0].float()
    return tokens.float().mean(1) if choice.feature == "mean" else tokens.float()


def _after_block(model: MaskedImageModel, images: Tensor, mask: Mask, layer: int) -> tuple[Tensor, Tensor]:
    """Prefix and patch tokens after a block, or before the first one."""
    entered: list[Tensor] = []
    watched = nn.ModuleList([model.blocks[layer - 1]] if layer else [])
    hook = model.blocks[0].register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    try:
        with block_outputs(watched) if layer else nullcontext({}) as outputs:
            model.encode(images, mask)
    finally:
        hook.remove()
    tokens = outputs[0] if layer else entered[-1]
    expected = model.num_prefix + model.num_patches
    if tokens.ndim != 3 or tokens.shape[1] != expected:
        raise InputError(
            f"expected {expected} tokens after block {layer}, got shape {tuple(tokens.shape)}: this encoder changes its "
            "grid within; leave the layer out"
        )
    return tokens[:, : model.num_prefix], tokens[:, model.num_prefix :]


def batches_of_vectors(
    model: MaskedImageModel, source: ImageSource, choice: Choice, batch_size: int
) -> Iterator[tuple[range, Float[Tensor, "b ..."]]]:
    """Positions in the source and their vectors on the CPU, batch after batch; nothing is kept."""
    for first in range(0, len(source), batch_size):
        positions = range(first, min(first + batch_size, len(source)))
        images = model.prepare(source[first : first + batch_size])
        yield positions, vectors(model, images, choice).cpu()
