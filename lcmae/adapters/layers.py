"""Transformers whose layers are pairs (attention, feed-forward), as vit-pytorch's: blocks that
probes can watch, and their attention maps."""

from collections.abc import Iterable, Sequence
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.shapes import Float


class PairedLayer(nn.Module):
    """One layer with both residual branches: `norms` after each sum (post-norm), or none where the
    two normalise what enters them (pre-norm)."""

    def __init__(self, attention: nn.Module, feed_forward: nn.Module, norms: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.norms = nn.ModuleList(norms or (nn.Identity(), nn.Identity()))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        x = self.norms[0](x + self.attention(x))
        return self.norms[1](x + self.feed_forward(x))


def paired_layers(pairs: Iterable[Any]) -> nn.Sequential:
    """Blocks out of (attention, feed-forward) pairs, or of (attention, feed-forward, norm, norm)
    where norms come after the sums. Parameters are shared, not copied."""
    layers = []
    for pair in pairs:
        parts = [*pair]
        if len(parts) not in (2, 4):
            raise InputError(
                f"expected layers of (attention, feed-forward) or of these and two norms, got {len(parts)}"
            )
        layers.append(PairedLayer(parts[0], parts[1], parts[2:]))
    return nn.Sequential(*layers)


def paired_attention(layer: nn.Module, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b h t t"]:
    """Maps of a `PairedLayer` whose attention has vit-pytorch's parts: norm, to_qkv, heads, scale
    and attend. `InputError` for another."""
    inner: Any = getattr(layer, "attention", None)
    missing = [name for name in ("norm", "to_qkv", "heads", "scale", "attend") if not hasattr(inner, name)]
    if missing:
        raise InputError(
            f"expected an attention with norm, to_qkv, heads, scale and attend, got {type(inner).__name__} without "
            f"{', '.join(missing)}: give lcmae.adapt a function of (block, x) as attention="
        )
    query, key, _ = rearrange(inner.to_qkv(inner.norm(x)), "b t (three h d) -> three b h t d", three=3, h=inner.heads)
    return inner.attend(query @ key.mT * inner.scale)
