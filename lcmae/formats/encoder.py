"""What the shapes of a ViT encoder say, whoever wrote it; names as in timm."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.facts import MAX_BLOCKS, Facts, ratio_of
from lcmae.formats.positions import sincos_grid, square_grid
from lcmae.patches import Grid

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Heads = Mapping[int, tuple[int, ...]]

HEADS: Heads = {
    192: (3, 12),
    384: (6, 12),
    768: (12,),
    1024: (16,),
    1152: (16,),
    1280: (16,),
    1408: (16,),
    1536: (24, 16),
    1664: (16,),
    1792: (16,),
    1920: (32,),
    2432: (32,),
    2560: (32,),
    4096: (32,),
}
"""Attention heads of published ViTs by width, the commonest first: DeiT's Ti and S (12 heads in
MAE-Lite, solo-learn and MoCo v3), B, L and H of Dosovitskiy et al., so400m, g of Zhai et al.,
giants of DINOv2 (24) and SigLIP 2 (16), bigG of OpenCLIP, EVA's E, Sapiens' 2B, Sapiens 2's 5B,
MAE's 2B (2303.13496) and DINO's 7B."""

DECODER_HEADS: Heads = {128: (16, 4), 192: (3, 6, 12), 256: (8, 16), 384: (6, 12, 16), 512: (16, 8), 768: (12, 16)}
"""Of decoders: the official code has 512 with 16, and keeps 16 where others change its width;
MAE-Lite has 192 with 3."""


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
    """The grid of a table of `num_patches` positions, and the image size."""
    return read_positions(facts, num_patches, where, [(said, "the file's settings")])[0]


def read_positions(
    facts: Facts,
    num_rows: int,
    where: str,
    said: Sequence[tuple[Any, str]] = (),
    *,
    prefixes: Sequence[int] = (0,),
    tables: Sequence[Tensor] = (),
) -> tuple[Grid, int]:
    """The grid of a table of positions, and how many of its rows belong to prefix tokens; the image
    size is noted.

    Fixed sine-cosine `tables` [1 rows d] have one grid alone (another that you want is resampled
    to); else a size is known from you, or from what was `said` (a size and where it stands). Only
    then the grid is taken for a square, and the image size is assumed. `prefixes` are the possible
    numbers of rows of prefix tokens, likeliest first.
    """
    patch = facts["patch_size"]
    choices = [(num_rows - prefix, prefix) for prefix in prefixes if num_rows > prefix]
    for table in tables:
        for num_patches, prefix in choices:
            if (
                table.ndim == 3
                and table.is_floating_point()
                and 0 <= table.shape[1] - num_patches <= max(prefixes, default=0) + 1
            ):
                grid = sincos_grid(table[0, table.shape[1] - num_patches :])
                if grid is not None and grid[0] * grid[1] == num_patches:
                    facts.say("image_size", pixels(facts, grid), "sine-cosine positions")
                    return grid, prefix
    for value, origin in [(facts.wanted("image_size"), "you"), *said]:
        size = as_size(value)
        if size is not None:
            grid = (size[0] // patch, size[1] // patch)
            for num_patches, prefix in choices:
                if grid[0] * grid[1] == num_patches:
                    facts.say("image_size", pixels(facts, grid), origin)
                    return grid, prefix
    squares = [choice for choice in choices if has_square_root(choice[0])]
    num_patches, prefix = (squares or choices or [(num_rows, 0)])[0]
    grid = square_grid(num_patches, where)
    facts.assume("image_size", pixels(facts, grid), f"guess: {num_patches} positions as a square")
    if len(choices) > 1 and (len(squares) > 1 or prefix != choices[0][1]):
        facts.notes.append(
            f"ASSUMED: {num_rows} rows of positions are a grid of {grid[0]}x{grid[1]} and {prefix} for prefix tokens; they "
            f"may be others, such as {choices[0][0]} patches and {choices[0][1]}: say image_size=(height, width) "
            "(--image-size HEIGHT WIDTH)"
        )
    return grid, prefix


def pixels(facts: Facts, grid: Grid) -> tuple[int, int]:
    """The image size of a grid."""
    return grid[0] * facts["patch_size"], grid[1] * facts["patch_size"]


def as_size(value: Any) -> tuple[int, int] | None:
    """Height and width: of one number, of two, of (channels, height, width), of {height, width}."""
    if isinstance(value, Mapping):
        value = (value.get("height"), value.get("width"))
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    if isinstance(value, list | tuple) and len(value) in (2, 3):
        height, width = value[-2:]
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            return height, width
    return None


def assume_heads(facts: Facts, name: str, width: int, table: Heads, size: int = 64) -> None:
    """Attention heads by a table of widths, else by the usual width of a head. Where a width has
    several well-known answers, the others are named in a note."""
    if facts.wanted(name) is not None:
        facts.say(name, facts.wanted(name), "you")
    elif name in facts:
        return
    elif width in table:
        first, *others = table[width]
        facts.assume(name, first, f"table, width {width}")
        option = name.replace("_", "-")
        if others:
            facts.notes.append(
                f"ASSUMED: {first} {name.replace('_', ' ')} for a width of {width}; published models of this width also "
                f"have {' or '.join(map(str, others))}. A wrong number loads and computes something else: say "
                f"{name}={others[0]} (--{option} {others[0]})"
            )
    elif width % size == 0:
        facts.assume(name, width // size, f"guess: heads of {size} values")
    else:
        option = name.replace("_", "-")
        raise CheckpointError(
            f"expected {name} with a width of {width}, which no table has; say {name}=NUMBER (--{option} NUMBER)"
        )


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


# What lies beside a model in its state dict and is no part of it: heads, projectors, criteria,
# queues, counters. A prefix tells them apart by itself; where the model has none, names do.

PARTS = (
    *("adapter", "attention", "attn", "block", "cls", "conv", "decoder", "dist", "embed", "embedding", "encoder"),
    *("ffn", "freq", "layer", "layernorm", "ln", "lora", "mask", "mlp", "norm", "patch", "pos", "position", "prompt"),
    *("qkv", "reg", "register", "rel", "rope", "stage", "stem", "time", "token", "transformer"),
)
"""Words by which ViTs name what an image goes through."""

OF_TRAINING = ("criterion", "loss", "losses", "metric", "metrics")
"""Words that say that no image goes through it, whatever else the name says: patch_loss."""

NEAR = 0.75
"""How much alike a misspelled word is to the one that was meant (`difflib`): norm and nrom are
0.75, token and tokenizer 0.71."""


def is_beside(name: str, tensor: Tensor, modules: Collection[str], widths: Collection[int]) -> bool:
    """Whether a tensor that the model has no place for is nobody's part, and may be left aside.

    `name` is the file's, below the model's prefix; `modules` are the first words of the names that
    the model takes, `widths` those of its tokens. It may not where it is within one of these
    modules; nor, if it holds floating-point numbers, where its own module is called like a part of
    a ViT (one that the layout does not know, or a misspelled one), or where it is a bare vector
    that could be added to tokens.
    """
    first, *rest = name.split(".")
    if first in modules:
        return False
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    words = [word for word in re.split(r"[_\d]+", first.lower()) if word]
    if any(word in OF_TRAINING for word in words):
        return True
    if any(get_close_matches(word, PARTS, n=1, cutoff=NEAR) for word in words):
        return False
    return bool(rest) or not tensor.ndim or tensor.shape[-1] not in widths
