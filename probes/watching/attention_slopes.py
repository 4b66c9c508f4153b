"""Gradients with respect to attention maps that the model itself never forms.

Fused attention gives `O = A V` without A. The gradient of A follows from O's, which autograd knows:
`dL/dA = dL/dO V^T`, head by head; A and V are computed once more from what entered the layer.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers.attention import Attention
from timm.models.beit import Attention as BeitAttention
from torch import Tensor, nn

from lcmae.masking import Mask
from lcmae.models import MaskedImageModel
from lcmae.probes.watching.gradients import leaf_of, rows_at_once
from lcmae.probes.watching.hooks import attention_maps, attention_problem, block_outputs
from lcmae.shapes import Float

MAP_BYTES = 2**27
"""About what the maps of one part of the images may hold."""


@dataclass(frozen=True)
class Slopes:
    """Of one scalar an image: maps of a heads, their gradients, and that of the pixels."""

    maps: list[Float[Tensor, "b a t t"]]
    slopes: list[Float[Tensor, "b a t t"]]
    pixels: Float[Tensor, "b c h w"]


def slopes_problem(blocks: nn.ModuleList) -> str | None:
    """What is missing for gradients of these blocks' maps, to go after "needs"; None where they can
    be computed."""
    problem = attention_problem(blocks)
    if problem is None and not all(isinstance(_attention_of(block), Attention | BeitAttention) for block in blocks):
        return "timm's Attention or Beit's as `attn` of every block, got maps by a function (lcmae.adapt)"
    return problem


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
                    values.append(_values(module, x))

            stack.callback(module.register_forward_pre_hook(see, with_kwargs=True).remove)
            # what heads answer, before any norm or gate
            behind = module.norm if isinstance(module, Attention) else module.proj
            hook = behind.register_forward_pre_hook(lambda _, args: answers.append(args[0]))
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


def _values(module: Attention | BeitAttention, x: Tensor) -> Float[Tensor, "b a t e"]:
    used = module.qkv.weight.shape[0] // 3 * 2
    bias = module.qkv.bias[used:] if isinstance(module, Attention) and module.qkv.bias is not None else None
    if isinstance(module, BeitAttention):
        bias = module.v_bias
    return rearrange(F.linear(x, module.qkv.weight[used:], bias), "b t (h e) -> b h t e", h=module.num_heads)
