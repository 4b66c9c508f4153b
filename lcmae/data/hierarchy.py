"""Images made from a tree of known latents: class -> layouts -> parts -> textures -> pixels.
`--data hierarchy`.

Every latent owns a square block of the image, and its children own the blocks that its own is split
into:

    class        one of `classes`, the whole image; classes take turns
    layout       one of `layouts`, a block of the image: drawn from the `variants` that a table has
                 for its parent and place
    part         attributes: brightness and orientation as a table has them for its layout and
                 place, and jitter; any phase
    texture      the same attributes once more: its part's, and jitter
    pixels       brightness plus a wave of that orientation and phase, and noise

So each variable depends on its parent alone (a hierarchical latent variable model in the sense of
Kong et al., CVPR 2023, 2306.04898; the model itself is lcmae's own), and a texture is a smooth
one-to-one function of its attributes. Everything is a function of (settings, split, row): nothing
is stored, and there are as many images as are asked for.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.data.counter import hash64, uniforms
from lcmae.errors import InputError
from lcmae.settings import Settings, parse
from lcmae.shapes import Float, Int, UInt8

Latents = dict[str, Tensor]
"""By level, from the class down: int64 [b nodes] where a latent is a kind, float64 [b nodes
attributes] else."""

ATTRIBUTES = ("brightness", "orientation", "phase")
"""Of parts and textures; each has mean 0 and variance 1 over random tables."""
_PHASE = ATTRIBUTES.index("phase")

_PURPOSE = 0x68696572  # "hier": shares no stream with orders, crops or masks
_TABLE, _VARIANT, _JITTER, _NOISE = range(4)

_BRIGHTNESS_STEP = 0.12  # pixel values a standard deviation
_AMPLITUDE = 0.12  # of a wave, in pixel values: the sum stays within 0..1 up to 3 deviations of brightness
_ANGLES = 0.1, 0.9  # of a half turn: the ends don't meet, so that an angle has one orientation
_PHASES = -0.8, 0.8  # of a half turn, for the same reason


class HierarchySettings(Settings):
    """The tree and its tables."""

    depth: int = Field(default=4, ge=3, le=8)
    """Levels of latents: class, depth - 3 levels of layouts, parts, textures."""

    split: int = Field(default=2, ge=2, le=8)
    """Blocks a side that a latent's block is split into for its children."""

    classes: int = Field(default=10, ge=2)
    """Kinds of class."""

    layouts: int = Field(default=12, ge=2)
    """Kinds of layout."""

    variants: int = Field(default=3, ge=1)
    """Layouts that a parent allows at a place, one of which is drawn: what looks different may mean
    the same."""

    jitter: float = Field(default=0.2, ge=0, le=1)
    """Standard deviation of an attribute given its parent; the attribute's own is 1."""

    noise: float = Field(default=0.03, ge=0, le=1)
    """Standard deviation of the pixels' noise, where black is 0 and white 1."""

    images: int = Field(default=4096, ge=2)
    """Training images; the test split has a quarter as many, other ones."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides tables and images."""


@dataclass(frozen=True)
class Tree:
    """Latents and who depends on whom. Node 0 is the class; levels follow one another, each in
    raster order."""

    levels: tuple[str, ...]
    """Names of the levels, from the class down."""

    split: int
    """Blocks a side that a block is split into."""

    dims: tuple[int, ...]
    """Numbers that a latent of each level holds; a kind counts as one."""

    def side(self, level: int) -> int:
        """Latents a side of a level, counted from the class."""
        return self.split**level

    @cached_property
    def first(self) -> tuple[int, ...]:
        """The first node of each level, and the number of nodes at the end."""
        counts = [self.side(level) ** 2 for level in range(len(self.levels))]
        return tuple(sum(counts[:level]) for level in range(len(counts) + 1))

    @cached_property
    def parent(self) -> Int[Tensor, " nodes"]:
        """Each node's parent; -1 for the class."""
        below = range(1, len(self.levels))
        return torch.cat(
            [torch.tensor([-1]), *(self.first[level - 1] + self.ancestor(level, level - 1) for level in below)]
        )

    @cached_property
    def level(self) -> Int[Tensor, " nodes"]:
        """Each node's level, counted from the class."""
        counts = torch.tensor([self.side(level) ** 2 for level in range(len(self.levels))])
        return torch.arange(len(self.levels)).repeat_interleave(counts)

    def ancestor(self, level: int, above: int) -> Int[Tensor, " nodes"]:
        """For each latent of a level, the place of its ancestor within a level above (or that same
        level)."""
        side, step = self.side(level), self.split ** (level - above)
        row, column = torch.meshgrid(torch.arange(side) // step, torch.arange(side) // step, indexing="ij")
        return (row * self.side(above) + column).flatten()

    def block(self, level: int, height: int, width: int) -> Int[Tensor, "h w"]:
        """For each pixel, the place of the block of a level that it lies in."""
        side = self.side(level)
        row, column = torch.arange(height) // (height // side), torch.arange(width) // (width // side)
        return row[:, None] * side + column


@dataclass(frozen=True)
class Hierarchy:
    """Draws latents and pixels of any rows of one split, at one size."""

    settings: HierarchySettings
    split: str
    height: int
    width: int
    channels: int

    @property
    def tree(self) -> Tree:
        """The latents of an image, and who depends on whom."""
        depth = self.settings.depth
        layouts = ["layout"] if depth == 4 else [f"layout {number}" for number in range(1, depth - 2)]
        dims = [1] * (depth - 2) + [len(ATTRIBUTES)] * 2
        return Tree(("class", *layouts, "part", "texture"), self.settings.split, tuple(dims))

    @property
    def num_kinds(self) -> tuple[int, ...]:
        """Kinds of each level's latents; 0 where they are attributes."""
        settings = self.settings
        return settings.classes, *[settings.layouts] * (settings.depth - 3), 0, 0

    def classes(self, rows: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Classes take turns, so that any first images hold them as equally as possible."""
        return rows % self.settings.classes

    def latents(self, rows: Int[Tensor, " b"]) -> Latents:
        """Every latent of these images, by level."""
        settings, tree = self.settings, self.tree
        values = self.classes(rows)[:, None]
        found: Latents = {"class": values}
        for level in range(1, settings.depth - 2):
            variant = (self._uniforms(_VARIANT, level, rows) * settings.variants).long()
            values = self._table(level)[values[:, self._up(level)], self._position(level), variant]
            found[tree.levels[level]] = values
        part, texture = settings.depth - 2, settings.depth - 1
        keep = math.sqrt(1 - settings.jitter**2)
        wanted, own = (
            self._attribute_table()[values[:, self._up(part)], self._position(part)],
            self._normals(part, rows),
        )
        found["part"] = keep * wanted + settings.jitter * own
        found["part"][..., _PHASE] = own[..., _PHASE]
        found["texture"] = keep * found["part"][:, self._up(texture)] + settings.jitter * self._normals(texture, rows)
        return found

    @property
    def has_parts(self) -> bool:
        """Whether there are layouts below the class, whose kinds are classes of pixels."""
        return self.settings.depth > 3

    def pixel_classes(self, rows: Int[Tensor, " b"]) -> Int[Tensor, "b h w"]:
        """The kind of the lowest layout that each pixel belongs to: a segmentation mask that is
        known."""
        level = self.settings.depth - 3
        return self.latents(rows)[self.tree.levels[level]][:, self.tree.block(level, self.height, self.width)]

    def clean(self, texture: Float[Tensor, "b nodes attributes"]) -> Float[Tensor, "b h w"]:
        """Pixel values without noise, a function of the textures' attributes alone."""
        settings, tree = self.settings, self.tree
        brightness, angle, phase = self._appearance(texture).unbind(-1)
        own = tree.block(settings.depth - 1, self.height, self.width)
        down, across, wavelength = self._coordinates()
        angle = angle[:, own]
        turn = 2 * math.pi / wavelength * (across * angle.cos() + down * angle.sin())
        return brightness[:, own] + _AMPLITUDE * (turn + phase[:, own]).sin()

    def pixels(self, rows: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        """The images; colour is three times the same grey."""
        count = torch.arange(self.height * self.width)
        draws = uniforms(_PURPOSE, self.settings.seed, _NOISE, self.split == "test", rows[:, None], count)
        noise = rearrange(_normal(draws), "b (h w) -> b h w", h=self.height)
        values = self.clean(self.latents(rows)["texture"]) + self.settings.noise * noise
        grey = (values * 255).round().clamp(0, 255).to(torch.uint8)
        return grey[:, None].repeat(1, self.channels, 1, 1)

    def _appearance(self, texture: Float[Tensor, "... attributes"]) -> Float[Tensor, "... attributes"]:
        """Brightness in pixel values, orientation and phase as angles."""
        brightness, orientation, phase = texture.unbind(-1)
        angle = _between(orientation, *_ANGLES) * math.pi
        return torch.stack([0.5 + _BRIGHTNESS_STEP * brightness, angle, _between(phase, *_PHASES) * math.pi], dim=-1)

    def _coordinates(self) -> tuple[Float[Tensor, "h 1"], Float[Tensor, " w"], float]:
        """Rows and columns of pixels, counted from the centre of the part that they lie in, and the
        wavelength: a part."""
        side = self.tree.side(self.settings.depth - 2)
        tall, wide = self.height // side, self.width // side
        down = torch.arange(self.height) % tall - (tall - 1) / 2
        across = torch.arange(self.width) % wide - (wide - 1) / 2
        return down.double()[:, None], across.double(), float(min(tall, wide))

    def _up(self, level: int) -> Int[Tensor, " nodes"]:
        return self.tree.ancestor(level, level - 1)

    def _position(self, level: int) -> Int[Tensor, " nodes"]:
        """Which of its parent's children each latent is, in raster order."""
        split, position = self.settings.split, torch.arange(self.tree.side(level)) % self.settings.split
        return (position[:, None] * split + position).flatten()

    def _table(self, level: int) -> Int[Tensor, "kinds children variants"]:
        """The layouts that each kind of parent allows at each place."""
        settings = self.settings
        kinds = settings.classes if level == 1 else settings.layouts
        bits = hash64(_PURPOSE, settings.seed, _TABLE, level, *_pairs(kinds, settings.split**2 * settings.variants))
        return rearrange(bits.remainder(settings.layouts), "k (c v) -> k c v", v=settings.variants)

    def _attribute_table(self) -> Float[Tensor, "kinds children attributes"]:
        """The attributes that each kind of layout asks for at each place."""
        kinds = self.settings.classes if self.settings.depth == 3 else self.settings.layouts
        counts = _pairs(kinds, self.settings.split**2 * len(ATTRIBUTES))
        draws = uniforms(_PURPOSE, self.settings.seed, _TABLE, self.settings.depth - 2, *counts)
        return rearrange(_normal(draws), "k (c a) -> k c a", a=len(ATTRIBUTES))

    def _uniforms(self, what: int, level: int, rows: Tensor, numbers: int = 1) -> Float[Tensor, "b draws"]:
        count = torch.arange(self.tree.side(level) ** 2 * numbers)
        return uniforms(_PURPOSE, self.settings.seed, what, self.split == "test", level, rows[:, None], count)

    def _normals(self, level: int, rows: Tensor) -> Float[Tensor, "b nodes attributes"]:
        draws = self._uniforms(_JITTER, level, rows, len(ATTRIBUTES))
        return rearrange(_normal(draws), "b (n a) -> b n a", a=len(ATTRIBUTES))


@dataclass(frozen=True)
class KnownLatents:
    """Some rows of a hierarchy: what images were made from. A slice of it is the same for a slice
    of the images."""

    hierarchy: Hierarchy
    rows: Int[Tensor, " b"]

    def __getitem__(self, part: slice) -> "KnownLatents":
        return KnownLatents(self.hierarchy, self.rows[part])

    def latents(self) -> Latents:
        """By level, from the class down."""
        return self.hierarchy.latents(self.rows)


def read_settings(text: str) -> HierarchySettings:
    """From "depth=5,classes=4"; an empty text is the defaults."""
    values: dict[str, str] = {}
    for part in text.split(",") if text else []:
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name in values:
            raise InputError(f"hierarchy: expected NAME=VALUE,... with each name once, got {text!r}")
        values[name] = value
    unknown = [name for name in values if name not in HierarchySettings.model_fields]
    if unknown:
        raise InputError(
            f"hierarchy: expected settings out of {', '.join(HierarchySettings.model_fields)}, got {unknown[0]!r}"
        )
    try:
        return parse(HierarchySettings, values)
    except InputError as error:
        raise InputError(f"hierarchy: {error}") from error


def _pairs(first: int, second: int) -> tuple[Tensor, Tensor]:
    return torch.arange(first)[:, None], torch.arange(second)


def _normal(uniform: Tensor) -> Tensor:
    # 0 would be minus infinity
    return torch.special.ndtri(uniform + 2.0**-54)


def _between(normal: Tensor, low: float, high: float) -> Tensor:
    """A standard normal number as one that is even between two ends."""
    return low + (high - low) * torch.special.ndtr(normal)
