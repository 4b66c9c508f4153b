"""timm's transformer block, with two savings for training: fewer queries, and activations that are
computed again.

Parameters, their names and the plain forward pass are timm's own.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers.attention import Attention
from timm.models import vision_transformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lcmae.shapes import Float


class Block(vision_transformer.Block):
    """`block(x)` is timm's; `block(x, num_queries)` is its last `num_queries` tokens, and computes
    no others."""

    recompute: bool = False
    """Keep only the input for the backward pass, and compute the block again there (Chen et al.,
    1604.06174)."""

    attn: Attention

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - timm's attention masks are not for us
        self, x: Float[Tensor, "b t d"], num_queries: int | None = None
    ) -> Float[Tensor, "b q d"]:
        if self.recompute and torch.is_grad_enabled():
            # nothing here is random, and saving the generator's state would wait for the GPU
            return checkpoint(self._forward, x, num_queries, use_reentrant=False, preserve_rng_state=False)
        return self._forward(x, num_queries)

    def _forward(self, x: Tensor, num_queries: int | None) -> Tensor:
        if num_queries is None:
            return super().forward(x)
        # every token is looked at, the last ones alone look
        x = x[:, -num_queries:] + attend(self.attn, self.norm1(x), num_queries)
        return x + self.mlp(self.norm2(x))


def attend(attention: Attention, x: Float[Tensor, "b t d"], num_queries: int) -> Float[Tensor, "b q d"]:
    """The output of a plain attention (no norms, gates or dropout) at its last `num_queries`
    tokens."""
    width = x.shape[-1]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    query = F.linear(x[:, -num_queries:], weight[:width], None if bias is None else bias[:width])
    key_value = F.linear(x, weight[width:], None if bias is None else bias[width:])
    query = rearrange(query, "b q (h e) -> b h q e", h=attention.num_heads)
    key, value = rearrange(key_value, "b t (two h e) -> two b h t e", two=2, h=attention.num_heads)
    if attention.fused_attn:
        mixed = F.scaled_dot_product_attention(query, key, value)
    else:
        mixed = (query * attention.scale @ key.transpose(-2, -1)).softmax(-1) @ value
    return attention.proj(rearrange(mixed, "b h q e -> b q (h e)"))
