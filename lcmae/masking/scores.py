"""What a frozen checkpoint says about each patch of an image, for masks that follow content."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers.attention import Attention
from torch import Tensor

from lcmae.errors import InputError
from lcmae.formats import load
from lcmae.mask import Mask
from lcmae.models import MaskedImageModel
from lcmae.patches import Grid
from lcmae.shapes import Float


@lru_cache(maxsize=2)
def frozen(checkpoint: str) -> MaskedImageModel:
    """The model of a checkpoint, read once a process; eval mode, without gradients."""
    return load(checkpoint).requires_grad_(False).eval()


def check_attention(model: MaskedImageModel) -> None:
    """`InputError` where the last block has no class token's attention to read."""
    if model.num_prefix == 0 or not len(model.blocks) or not isinstance(_last_attention(model), Attention):
        raise InputError(
            "expected a checkpoint with a class token and timm attention to guide masks by attention, got "
            f"{model.num_prefix} prefix tokens and {type(_last_attention(model)).__name__}"
        )


def check_prediction(model: MaskedImageModel, num_parts: int) -> None:
    """`InputError` where the checkpoint predicts nothing, or has fewer patches than parts."""
    if not model.has_prediction:
        raise InputError("expected a checkpoint with a decoder to guide masks by loss, got an encoder alone")
    if num_parts > model.num_patches:
        raise InputError(f"expected num_parts of at most {model.num_patches} patches, got {num_parts}")


@torch.no_grad()
def attention_scores(model: MaskedImageModel, images: Float[Tensor, "i c h w"], grid: Grid) -> Float[Tensor, "i n"]:
    """Attention of the class token to each patch in the last encoder block, mean over heads,
    nothing hidden.

    `images` are pixels in [0, 1]. Computed from queries and keys: timm's fused attention keeps no
    map.
    """
    check_attention(model)
    attention = _last_attention(model)
    assert isinstance(attention, Attention)
    seen: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)

    handle = attention.qkv.register_forward_hook(keep)
    try:
        images = _as_input(model, images)
        model.encode(images, Mask.none(len(images), model.num_patches, images.device))
    finally:
        handle.remove()

    query, key, _ = rearrange(seen[0], "i t (three heads d) -> three i heads t d", three=3, heads=attention.num_heads)
    query, key = attention.q_norm(query[:, :, :1]), attention.k_norm(key)
    weights = (query @ key.transpose(-2, -1) * attention.scale).softmax(-1).mean(1)[:, 0, model.num_prefix :]
    return _on_grid(weights.float(), model.grid, grid)


@torch.no_grad()
def loss_scores(
    model: MaskedImageModel, images: Float[Tensor, "i c h w"], grid: Grid, num_parts: int
) -> Float[Tensor, "i n"]:
    """Squared error of each patch, mean over its values and over the num_parts - 1 masks that hide
    it.

    `images` are pixels in [0, 1]. The parts are the same for every image and every call.
    """
    check_prediction(model, num_parts)
    images = _as_input(model, images)
    target = model.targets(images)
    part = torch.randperm(model.num_patches, generator=torch.Generator().manual_seed(0)) % num_parts
    total = torch.zeros(target.shape[:2], device=target.device)
    for visible in range(num_parts):
        is_hidden = (part != visible).to(images.device).expand(len(images), -1)
        mask = Mask.from_hidden(is_hidden, int((part != visible).sum()))
        total += (model(images, mask).pred - target).square().mean(-1) * is_hidden
    return _on_grid(total / (num_parts - 1), model.grid, grid)


def _last_attention(model: MaskedImageModel) -> torch.nn.Module | None:
    return getattr(model.blocks[-1], "attn", None) if len(model.blocks) else None


def _as_input(model: MaskedImageModel, pixels: Tensor) -> Tensor:
    """Pixels in the size and the input space of the frozen model, which moves to where they are."""
    if tuple(pixels.shape[-2:]) != model.config.image_size:
        pixels = F.interpolate(pixels, model.config.image_size, mode="bilinear", antialias=True)
    return model.to(pixels.device).prepare(pixels)


def _on_grid(scores: Tensor, have: Grid, want: Grid) -> Tensor:
    """Scores on the frozen model's grid, brought to another grid by bilinear interpolation."""
    if have == want:
        return scores
    scores = rearrange(scores, "i (r c) -> i 1 r c", r=have[0])
    return rearrange(F.interpolate(scores, want, mode="bilinear", antialias=True), "i 1 r c -> i (r c)")
