"""Which entries of an attention map are removed, and as many random ones."""

import torch
from torch import Tensor

from lcmae.shapes import Bool, Float

KEYS = ("other hidden", "itself", "all hidden", "visible", "class token")
"""What patches no longer look at: the first four are keys of *hidden* patches (`all hidden` is the
other ones and itself, as in CrossMAE), the last is of all patches, class token and registers."""


def removed_entries(what: str, is_hidden: Bool[Tensor, "b n"], num_prefix: int) -> Bool[Tensor, "b t t"]:
    """True where query (row) and key (column) are of this kind; prefix tokens come first."""
    token = torch.nn.functional.pad(is_hidden, (num_prefix, 0))
    num_tokens = token.shape[1]
    hidden_to_hidden = token[:, :, None] & token[:, None, :]
    itself = torch.eye(num_tokens, dtype=torch.bool, device=token.device)
    is_prefix = torch.arange(num_tokens, device=token.device) < num_prefix
    if what == "other hidden":
        return hidden_to_hidden & ~itself
    if what == "itself":
        return hidden_to_hidden & itself
    if what == "all hidden":
        return hidden_to_hidden
    if what == "visible":
        return token[:, :, None] & ~(token | is_prefix)[:, None, :]
    assert what == "class token"
    return (~is_prefix[:, None] & is_prefix[None, :]).expand(len(token), -1, -1)


def random_entries(removed: Bool[Tensor, "b t t"], scores: Float[Tensor, "b t t"]) -> Bool[Tensor, "b t t"]:
    """As many entries of each row as are removed there: those of the lowest scores."""
    rank = scores.argsort(-1).argsort(-1)
    return rank < removed.sum(-1, keepdim=True)


def spread_over_heads(scores: Float[Tensor, "b t t"], num_heads: int) -> Bool[Tensor, "b h t t"]:
    """As many entries of each row as one head has, random ones of all heads: each key is lost by
    one head."""
    rank = scores.argsort(-1).argsort(-1)
    head = rank * num_heads // rank.shape[-1]
    return head[:, None] == torch.arange(num_heads, device=scores.device)[:, None, None]
