"""Watching a model from outside, through hooks that are always taken off again.

Fused attention (torch's scaled_dot_product_attention) never forms its maps, and a hook on
`attn_drop` then sees nothing. So maps are computed once more, from the queries and keys of the
input that the attention really got; the model itself runs untouched. Only one layer's maps exist at
a time, unless the caller keeps them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers.attention import Attention, resolve_self_attn_mask
from timm.models.beit import Attention as BeitAttention
from torch import Tensor, nn

from lcmae.adapters import AdaptedBlocks
from lcmae.errors import InputError
from lcmae.shapes import Float


@contextmanager
def watch_attention(blocks: nn.ModuleList, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """While inside, every forward pass calls `see(layer, maps)` with float32 maps [b h q k], before
    the layer itself runs.

    Maps have no gradients, also where the pass has. Queries and keys are the block's tokens, prefix
    tokens first; rows sum to 1. Raises `InputError` for unknown attention.
    """
    with _before_attention(blocks, lambda layer, *attended: see(layer, Attended(*attended).maps())):
        yield


@contextmanager
def _before_attention(blocks: nn.ModuleList, see: Callable[[int, nn.Module, Tensor, Any, Any], None]) -> Iterator[None]:
    """While inside, every forward pass calls `see(layer, module, x, args, kwargs)` before an
    attention runs on x (detached)."""
    problem = attention_problem(blocks)
    if problem is not None:
        raise InputError(f"attention maps: needs {problem}")
    with ExitStack() as stack:
        for layer, block in enumerate(blocks):
            read = AttentionFunction(block, blocks.attention) if _has_function(blocks) else None

            def hook(
                module: nn.Module,
                args: tuple[Any, ...],
                kwargs: dict[str, Any],
                layer: int = layer,
                read: AttentionFunction | None = read,
            ) -> None:
                if read is None:
                    see(layer, module, args[0].detach(), args[1:], kwargs)
                else:
                    see(layer, read, args[0].detach(), (), {})

            watched = block if read is not None else block.get_submodule("attn")
            stack.callback(watched.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


@dataclass(frozen=True, eq=False)
class Attended:
    """What went into one layer's attention; its maps are computed when somebody asks for them."""

    module: nn.Module
    x: Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @torch.no_grad()
    def maps(self) -> Float[Tensor, "b h t t"]:
        """Maps in float32, without gradients: rows of queries sum to 1."""
        return attention_maps(self.module, self.x, *self.args, **self.kwargs)

    @torch.no_grad()
    def logits(self) -> Float[Tensor, "b h t t"]:
        """What the maps are the softmax of, in float32."""
        return attention_logits(self.module, self.x, *self.args, **self.kwargs)

    @torch.no_grad()
    def values(self) -> Float[Tensor, "b h t e"]:
        """What the maps mix, in float32."""
        return attention_values(self.module, self.x).float()


@contextmanager
def attention_inputs(blocks: nn.ModuleList) -> Iterator[list[Attended]]:
    """While inside, a forward pass fills the list, layer by layer: one map costs its own layer
    alone. Raises `InputError` for unknown attention."""
    seen: list[Attended] = []
    with _before_attention(
        blocks, lambda layer, module, x, args, kwargs: seen.append(Attended(module, x, args, kwargs))
    ):
        yield seen


@contextmanager
def block_outputs(blocks: nn.ModuleList) -> Iterator[dict[int, Tensor]]:
    """While inside, a forward pass fills the dict: layer -> that block's output [b t d], prefix
    tokens first.

    Of a block that gives a tuple it is the first value. Outputs keep their place in the graph where
    gradients are on, and come before the model's final norm. A further forward pass replaces them,
    and nothing is kept once the caller lets go of the dict.
    """
    outputs: dict[int, Tensor] = {}
    with ExitStack() as stack:
        for layer, block in enumerate(blocks):

            def hook(module: nn.Module, args: tuple[Any, ...], output: Any, layer: int = layer) -> None:
                outputs[layer] = output[0] if isinstance(output, tuple) else output

            stack.callback(block.register_forward_hook(hook).remove)
        yield outputs


class AttentionFunction(nn.Module):
    """A block of an adapted model (`lcmae.adapt`), called for its maps with what enters it."""

    def __init__(self, block: nn.Module, function: Any) -> None:
        super().__init__()
        self.block, self.function = block, function

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t t"]:
        return self.function(self.block, x)


def _has_function(blocks: nn.ModuleList) -> TypeGuard[AdaptedBlocks]:
    return isinstance(blocks, AdaptedBlocks) and blocks.attention is not None


def attention_problem(blocks: nn.ModuleList) -> str | None:
    """What is missing for the maps of these blocks, to go after "needs"; None where they can be
    computed."""
    if _has_function(blocks):
        return None
    for layer, block in enumerate(blocks):
        attention = getattr(block, "attn", None)
        known = isinstance(attention, Attention) and type(attention).forward is Attention.forward
        known_beit = isinstance(attention, BeitAttention) and type(attention).forward is BeitAttention.forward
        if not (known or known_beit):
            got = type(block).__name__ if attention is None else type(attention).__name__
            more = "; say attention= in lcmae.adapt" if isinstance(blocks, AdaptedBlocks) else ""
            return f"timm's Attention or Beit's as `attn` of every block, got {got} in block {layer}{more}"
        qkv = getattr(attention, "qkv", None)
        if type(qkv) is not nn.Linear:
            return f"a plain linear layer `qkv` in every attention, got {type(qkv).__name__} in block {layer}"
    return None


def attention_maps(module: nn.Module, x: Float[Tensor, "b t d"], *args: Any, **kwargs: Any) -> Float[Tensor, "b h t t"]:
    """The map that this attention uses for input `x`, in float32; further arguments as in its
    `forward`."""
    if isinstance(module, AttentionFunction):
        return module(x).float()
    return attention_logits(module, x, *args, **kwargs).softmax(-1)


def attention_logits(
    module: nn.Module, x: Float[Tensor, "b t d"], *args: Any, **kwargs: Any
) -> Float[Tensor, "b h t t"]:
    """What the softmax of this attention is taken of, in float32: scaled products of queries and
    keys, and biases."""
    if isinstance(module, BeitAttention):
        return _beit_logits(module, x, *args, **kwargs).float()
    assert isinstance(module, Attention)
    return _logits(module, x, *args, **kwargs).float()


def attention_values(module: nn.Module, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t e"]:
    """The values that this attention mixes for input `x`."""
    assert isinstance(module, Attention | BeitAttention)
    used = module.qkv.weight.shape[0] // 3 * 2
    bias = module.qkv.bias[used:] if isinstance(module, Attention) and module.qkv.bias is not None else None
    if isinstance(module, BeitAttention):
        bias = module.v_bias
    return rearrange(F.linear(x, module.qkv.weight[used:], bias), "b t (h e) -> b h t e", h=module.num_heads)


def before_output(module: nn.Module) -> nn.Module:
    """The part of this attention that takes what its heads answer, [b t (h e)], before any norm or
    gate."""
    assert isinstance(module, Attention | BeitAttention)
    return module.norm if isinstance(module, Attention) else module.proj


def values_problem(blocks: nn.ModuleList) -> str | None:
    """What is missing for the values that these blocks' attention mixes, to go after "needs"; None
    where they can be computed."""
    problem = attention_problem(blocks)
    known = (Attention, BeitAttention)
    if problem is None and not all(isinstance(getattr(block, "attn", None), known) for block in blocks):
        return "timm's Attention or Beit's as `attn` of every block, got maps by a function (lcmae.adapt)"
    return problem


def _logits(module: Attention, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    query, key = _query_and_key(x, module, module.qkv.bias)
    query, key = module.q_norm(query), module.k_norm(key)
    logits = (query * module.scale) @ key.transpose(-2, -1)
    bias = resolve_self_attn_mask(x.shape[1], logits, attn_mask, is_causal)
    return logits if bias is None else logits + bias


def _beit_logits(module: BeitAttention, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
    # BEiT learns biases of queries and values; the keys' is a buffer of zeros
    has_bias = module.q_bias is not None and module.k_bias is not None
    query, key = _query_and_key(x, module, torch.cat([module.q_bias, module.k_bias]) if has_bias else None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    logits = (query * module.scale) @ key.transpose(-2, -1)
    if module.relative_position_bias_table is not None:
        logits = logits + module._get_rel_pos_bias()
    return logits if shared_rel_pos_bias is None else logits + shared_rel_pos_bias


def _query_and_key(x: Tensor, module: Attention | BeitAttention, bias: Tensor | None) -> Tensor:
    """Queries and keys stacked, [2 b h t d]; values are not paid for."""
    used = module.qkv.weight.shape[0] // 3 * 2
    both = F.linear(x, module.qkv.weight[:used], None if bias is None else bias[:used])
    return rearrange(both, "b t (two h d) -> two b h t d", two=2, h=module.num_heads)
