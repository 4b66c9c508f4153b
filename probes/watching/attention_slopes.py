"""Gradients with respect to attention maps that the model itself never forms.

Fused attention gives `O = A V` without A. The gradient of A follows from O's, which autograd knows:
`dL/dA = dL/dO V^T`, head by head; A and V are computed once more from what entered the layer.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from lcmae.masking import Mask
from lcmae.models import MaskedImageModel
from lcmae.probes.watching.gradients import leaf_of, rows_at_once
from lcmae.probes.watching.hooks import attention_maps, attention_values, before_output, block_outputs
from lcmae.shapes import Float

MAP_BYTES = 2**27
"""About what the maps of one part of the images may hold."""


@dataclass(frozen=True)
class Slopes:
    """Of one scalar an image: maps of a heads, their gradients, and that of the pixels."""

    maps: list[Float[Tensor, "b a t t"]]
    slopes: list[Float[Tensor, "b a t t"]]
    pixels: Float[Tensor, "b c h w"]


def parts_of(model: MaskedImageModel) -> int:
    """Images of one graph."""
    tokens = model.num_patches + model.num_prefix
    each = 8 * len(model.blocks) * model.config.heads * tokens**2
    return max(1, min(rows_at_once(model), MAP_BYTES // each))


def attention_slopes(
    model: MaskedImageModel, images: Float[Tensor, "b c h w"], scalar: Callable[[Tensor], Tensor]
) -> Slopes:
    """Gradients of `scalar` [b] of the last block's output [b t d], before the final norm, on whole
    images; a forward and a backward pass."""
    maps: list[Tensor] = []
    values: list[Tensor] = []
    answers: list[Tensor] = []
    with torch.enable_grad(), ExitStack() as stack:
        tokens = stack.enter_context(block_outputs(model.blocks))
        for block in model.blocks:
            module = _attention_of(block)

            def see(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                x = args[0].detach()
                with torch.no_grad():
                    maps.append(attention_maps(module, x, *args[1:], **kwargs))
                    values.append(attention_values(module, x))

            stack.callback(module.register_forward_pre_hook(see, with_kwargs=True).remove)
            # what heads answer, before any norm or gate
            hook = before_output(module).register_forward_pre_hook(lambda _, args: answers.append(args[0]))
            stack.callback(hook.remove)
        leaf = leaf_of(images)
        model.encode(leaf, Mask.none(len(images), model.num_patches, images.device))
        total = scalar(tokens[len(model.blocks) - 1]).sum()
        pixels, *found = torch.autograd.grad(total, [leaf, *answers], allow_unused=True)
    slopes = [
        torch.zeros_like(one)
        if slope is None
        else rearrange(slope, "b q (h e) -> b h q e", h=one.shape[1]).float() @ value.float().mT
        for one, slope, value in zip(maps, found, values, strict=True)
    ]
    return Slopes(maps, slopes, pixels)


def _attention_of(block: nn.Module) -> Any:
    return getattr(block, "attn", None)
