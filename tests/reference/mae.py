"""MAE's forward pass once more, from a state dict alone: one image, one token at a time where that
is clearer, float64."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(
    state: dict[str, Tensor],
    image: Tensor,
    visible: list[int],
    *,
    patch_size: int,
    heads: int,
    decoder_heads: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Encoder tokens [1 + v, d] (class token first) and predictions [n, p] of one image [c h w]."""
    state = {name: value.double() for name, value in state.items()}
    kernel, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    patches = F.conv2d(image.double()[None], kernel, bias, stride=patch_size)[0].flatten(1).T
    positions = state["pos_embed"][0]
    embedded = patches + positions[1:]
    x = torch.stack([state["cls_token"][0, 0] + positions[0], *(embedded[i] for i in visible)])
    x = _transformer(x, state, "blocks", heads, eps)
    tokens = _norm(x, state, "norm", eps)

    y = _linear(tokens, state, "decoder_embed")
    full = [state["mask_token"][0, 0] for _ in range(len(patches))]
    for slot, position in enumerate(visible):
        full[position] = y[1 + slot]
    y = torch.stack([y[0], *full]) + state["decoder_pos_embed"][0]
    y = _norm(_transformer(y, state, "decoder_blocks", decoder_heads, eps), state, "decoder_norm", eps)
    return tokens, _linear(y, state, "decoder_pred")[1:]


def sincos(width: int, rows: int, columns: int) -> Tensor:
    """The table of the MAE release, entry by entry: first half by column, second by row, each sines
    then cosines."""
    table = torch.zeros(rows * columns, width, dtype=torch.float64)
    quarter = width // 4
    for row in range(rows):
        for column in range(columns):
            for index in range(quarter):
                rate = 10000 ** -(index / quarter)
                entry = table[row * columns + column]
                entry[index], entry[quarter + index] = math.sin(column * rate), math.cos(column * rate)
                entry[2 * quarter + index], entry[3 * quarter + index] = math.sin(row * rate), math.cos(row * rate)
    return table


def _transformer(x: Tensor, state: dict[str, Tensor], name: str, heads: int, eps: float) -> Tensor:
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith(f"{name}."))
    for block in range(depth):
        here = f"{name}.{block}"
        x = x + _attention(_norm(x, state, f"{here}.norm1", eps), state, f"{here}.attn", heads)
        hidden = F.gelu(_linear(_norm(x, state, f"{here}.norm2", eps), state, f"{here}.mlp.fc1"))
        x = x + _linear(hidden, state, f"{here}.mlp.fc2")
    return x


def _attention(x: Tensor, state: dict[str, Tensor], name: str, heads: int) -> Tensor:
    queries, keys, values = _linear(x, state, f"{name}.qkv").chunk(3, dim=1)
    side = queries.shape[1] // heads
    mixed = []
    for head in range(heads):
        mine = slice(head * side, (head + 1) * side)
        weights = (queries[:, mine] @ keys[:, mine].T / math.sqrt(side)).softmax(-1)
        mixed.append(weights @ values[:, mine])
    return _linear(torch.cat(mixed, dim=1), state, f"{name}.proj")


def _linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(x: Tensor, state: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return normal * state[f"{name}.weight"] + state[f"{name}.bias"]
