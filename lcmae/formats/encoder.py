"""What the shapes of a ViT encoder say, whoever wrote it; names as in timm."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.facts import MAX_BLOCKS, Facts, ratio_of
from lcmae.formats.positions import square_grid
from lcmae.patches import Grid

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
"""Attention heads by width: ViT-Ti and S of DeiT, ViT-B, L and H of Dosovitskiy et al."""


def required(tensors: Mapping[str, Tensor], name: str, ndim: int, where: str) -> tuple[int, ...]:
    """The shape of a tensor that must be there."""
    if name not in tensors:
        raise CheckpointError(f"expected {name} in {where}, got a state dict without it")
    shape = tuple(tensors[name].shape)
    if len(shape) != ndim or min(shape) < 1:
        raise CheckpointError(f"expected {name} with {ndim} dimensions in {where}, got shape {shape}")
    return shape


def count_blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """1 + the highest index in `prefix`.N; a gap shows up later as missing keys."""
    indices = [name.removeprefix(prefix + ".").split(".")[0] for name in tensors if name.startswith(prefix + ".")]
    numbers = [int(index) for index in indices if index.isdecimal() and len(index) < 5]
    if not numbers or max(numbers) >= MAX_BLOCKS:
        raise CheckpointError(
            f"expected 1 to {MAX_BLOCKS} numbered blocks under {prefix}, got {max(numbers, default=0)}"
        )
    return 1 + max(numbers)


def read_shapes(facts: Facts, encoder: Mapping[str, Tensor], where: str) -> None:
    """Width, depth, patch size, channels and MLP ratio."""
    width, channels, patch, patch_width = required(encoder, "patch_embed.proj.weight", 4, where)
    if patch != patch_width:
        raise CheckpointError(f"expected square patches in {where}, got {patch}x{patch_width}")
    hidden = required(encoder, "blocks.0.mlp.fc1.weight", 2, where)[0]
    facts.shape("width", width)
    facts.shape("depth", count_blocks(encoder, "blocks"))
    facts.shape("patch_size", patch)
    facts.shape("channels", channels)
    facts.shape("mlp_ratio", ratio_of(hidden, width))


def read_grid(facts: Facts, num_patches: int, where: str, said: Any = None) -> Grid:
    """The grid of the positions in the file, and the image size: what you want, what was said, or a
    square."""
    patch = facts["patch_size"]
    wanted = _as_size(facts.wanted("image_size"))
    told = _as_size(said)
    for size in (wanted, told):
        if size is not None and (size[0] // patch) * (size[1] // patch) == num_patches:
            grid = (size[0] // patch, size[1] // patch)
            break
    else:
        grid = square_grid(num_patches, where)
    size = (grid[0] * patch, grid[1] * patch)
    if told is not None and told == size:
        facts.say("image_size", size, "the file's settings")
    facts.say("image_size", size, "number of positions")
    if grid[0] != grid[1]:
        facts.notes.append(f"positions taken as a grid of {grid[0]}x{grid[1]}")
    return grid


def _as_size(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return value[0], value[1]
    return None


def assume_heads(facts: Facts, name: str, width: int, table: Mapping[int, int], size: int = 64) -> None:
    """Attention heads by a table of widths, else by the usual width of a head."""
    if facts.wanted(name) is not None:
        facts.say(name, facts.wanted(name), "you")
    elif width in table:
        facts.assume(name, table[width], f"table, width {width}")
    elif width % size == 0:
        facts.assume(name, width // size, f"heads of {size} values")
    elif name not in facts:
        raise CheckpointError(f"expected {name} with a width of {width}, which no table has; say {name}=NUMBER")


def assume_pixels(facts: Facts) -> None:
    """ImageNet's statistics, as all these libraries use, where the channels are three."""
    colour = facts["channels"] == 3
    facts.assume("pixel_mean", IMAGENET_MEAN if colour else (0.5,), "ImageNet" if colour else "no statistics known")
    facts.assume("pixel_std", IMAGENET_STD if colour else (0.5,), "ImageNet" if colour else "no statistics known")


def has_square_root(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def unused(facts: Facts, names: list[str], why: str) -> None:
    """Note weights that were left aside."""
    if names:
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        facts.notes.append(f"left aside ({why}): {', '.join(sorted(names)[:2])}{more}")
