"""A decoder with entries of its attention forbidden, written out from the equations: one image, one
head, one query at a time, in float64."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import MAE

Forbidden = Callable[[int, int, int, int], bool]
"""(layer, head, query, key), tokens counted with the class token as 0 -> whether it is removed."""


@torch.no_grad()
def losses(model: MAE, images: Tensor, mask: Mask, forbidden: Forbidden) -> list[float]:
    """The masked loss of each image; `forbidden` may depend on nothing of the image, so every image
    has the same mask."""
    prefix, tokens, _ = model.encode(images, mask)
    targets = model.targets(images)
    found = []
    for image in range(len(images)):
        x = torch.cat([prefix[image], tokens[image]]) @ model.decoder_embed.weight.T + model.decoder_embed.bias
        whole = model.mask_token[0, 0].expand(1 + model.num_patches, -1).clone()
        whole[0] = x[0]
        for row, patch in enumerate(mask.visible[image].tolist()):
            whole[1 + patch] = x[1 + row]
        x = (whole + model.decoder_pos_embed[0]).double()
        for layer, block in enumerate(model.decoder_blocks):
            x = _block(block, x, lambda head, query, key, layer=layer: forbidden(layer, head, query, key))
        pred = _linear(model.decoder_pred, _norm(model.decoder_norm, x))[1:]
        hidden = mask.hidden[image]
        found.append(float((pred[hidden] - targets[image][hidden].double()).square().mean()))
    return found


def _block(block, x: Tensor, forbidden: Callable[[int, int, int], bool]) -> Tensor:
    attention = block.attn
    query, key, value = _linear(attention.qkv, _norm(block.norm1, x)).chunk(3, dim=-1)
    size = x.shape[1] // attention.num_heads
    answers = torch.zeros_like(x)
    for head in range(attention.num_heads):
        part = slice(head * size, (head + 1) * size)
        for q in range(len(x)):
            weights = [
                0.0 if forbidden(head, q, k) else float(torch.exp(query[q, part] @ key[k, part] / size**0.5))
                for k in range(len(x))
            ]
            total = sum(weights)
            answers[q, part] = sum((w / total * value[k, part] for k, w in enumerate(weights)), torch.zeros(size))
    x = x + _linear(attention.proj, answers)
    return x + _linear(block.mlp.fc2, F.gelu(_linear(block.mlp.fc1, _norm(block.norm2, x))))


def _linear(layer, x: Tensor) -> Tensor:
    return x @ layer.weight.double().T + layer.bias.double()


def _norm(layer, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], layer.weight.double(), layer.bias.double(), layer.eps)
