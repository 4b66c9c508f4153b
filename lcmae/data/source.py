"""ImageSource: the decoded images of one split, all in memory where they fit, else decoded when
asked for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lcmae.data.collection import Collection
from lcmae.data.decode import Decoder, Unreadable
from lcmae.data.identity import identity
from lcmae.data.streaming import Batch, carry, streamed
from lcmae.data.values import Description, Unsuitable
from lcmae.errors import InputError
from lcmae.shapes import Int, UInt8


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images [c h w] of one size in a fixed order, with their names and labels. Made by
    `open_source`."""

    name: str
    """As it was asked for: digits, cifar10, parquet:PATH, ..."""

    split: str
    """train or test."""

    images: Collection
    """The readable images, before decoding."""

    decoder: Decoder
    """Size and channels."""

    skipped: list[str]
    """Each image that could not be read, with the reason: "path: reason"."""

    stored: UInt8[Tensor, "b c h w"] | None
    """All pixels, or None for a source that streams."""

    device: torch.device
    """Where pixels are handed out."""

    description: Description = field(default_factory=lambda: Description(""))
    """What the images are as they are stored, and what was assumed about them."""

    resident_limit: int = 4 << 30
    """Bytes of pixels up to which they are kept in memory when the size is changed (`at`)."""

    shuffled: bool = False
    """Whether these are the first of the fixed shuffle, rather than in the order of the data."""

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def identity(self) -> str:
        """What tells these images, in this order, from others (`lcmae.data.identity`); empty where
        name, split and number do."""
        return identity(self.name, self.images, shuffled=self.shuffled)

    @property
    def resident(self) -> bool:
        """Everything is decoded and in memory."""
        return self.stored is not None

    @property
    def pixels(self) -> UInt8[Tensor, "b c h w"]:
        """All images at once; `InputError` for a source that streams."""
        if self.stored is None:
            raise InputError(f"{self.name}: expected a source that fits in memory, got {len(self)} images that stream")
        return self.stored

    @property
    def labels(self) -> Int[Tensor, " b"] | None:
        """The class of each image, on the CPU, or None."""
        return self.images.labels

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The name of each class, or None."""
        return self.images.label_names

    @property
    def paths(self) -> list[str]:
        """What each image is: a file, or a file and its row ("train.parquet#123")."""
        return self.images.paths

    def __getitem__(self, indices: slice | Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        """Pixels at a slice or at int64 positions; `IndexError` outside 0 .. len - 1."""
        if self.stored is not None:
            if isinstance(indices, slice):
                return self.stored[indices]
            return self.stored.index_select(0, indices.to(self.device))
        positions = torch.arange(len(self))[indices] if isinstance(indices, slice) else indices
        return self._decode(positions).to(self.device)

    def at(self, image_size: int | tuple[int, int] | None = None, channels: int | None = None) -> "ImageSource":
        """The same images at another size or number of channels, decoded again from their files."""
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        height, width = size or (self.decoder.height, self.decoder.width)
        decoder = replace(self.decoder, height=height, width=width, channels=channels or self.decoder.channels)
        if decoder == self.decoder:
            return self
        if self.images.hierarchy is not None:
            raise InputError(
                f"{self.name}: these images are made at one size; open them with image_size={height, width}"
            )
        again = replace(self, decoder=decoder, stored=None, device=torch.device("cpu"))
        if len(self) * decoder.channels * height * width <= self.resident_limit:
            again = replace(again, stored=again[:])
        return again.to(self.device)

    def first(self, limit: int | None) -> "ImageSource":
        """The first `limit` of these images; all for None."""
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise InputError(f"expected a limit of at least 1 image, got {limit}")
        stored = None if self.stored is None else self.stored[:limit]
        return replace(self, images=self.images.take(torch.arange(limit)), stored=stored)

    @property
    def has_masks(self) -> bool:
        """Whether segmentation masks lie beside the images, or are known because the images are
        made of parts (`hierarchy`)."""
        hierarchy = self.images.hierarchy
        return self.images.read_mask is not None or (hierarchy is not None and hierarchy.has_parts)

    def masks(self, indices: slice | Int[Tensor, " b"]) -> Int[Tensor, "b h w"]:
        """Segmentation masks: the class of each pixel, cut as the images are, by the nearest pixel;
        `InputError` where there are none."""
        if not self.has_masks:
            raise InputError(f"{self.name}: expected segmentation masks (--masks FOLDER or COLUMN), got none")
        positions = torch.arange(len(self))[indices] if isinstance(indices, slice) else indices
        if self.images.hierarchy is not None:
            return self.images.hierarchy.pixel_classes(self.images.rows[positions])
        assert self.images.read_mask is not None
        found = []
        for position in positions.tolist():
            row = int(self.images.rows[position])
            try:
                found.append(self.decoder.mask(self.images.read_mask(row), self.images.read(row)))
            except Unreadable as error:
                raise InputError(f"{self.paths[position]}: its mask cannot be used: {error}") from error
        return torch.from_numpy(np.stack(found)) if found else torch.empty(0, *self._size, dtype=torch.int64)

    @property
    def _size(self) -> tuple[int, int]:
        return self.decoder.height, self.decoder.width

    def to(self, device: torch.device | str) -> "ImageSource":
        """The same source, whose pixels lie (resident) or arrive (streaming) on `device`; labels
        stay on the CPU."""
        device = torch.device(device)
        stored = None if self.stored is None else self.stored.to(device)
        return replace(self, stored=stored, device=device)

    def batches(self, order: Int[Tensor, " k"], batch_size: int, workers: int = 0) -> Iterator[Batch]:
        """Positions and pixels, batch after batch in `order`, without the last batch if it is not
        full.

        `workers` processes decode a streaming source; it draws nothing from torch's global
        generator. Raises `InputError` where not even one batch is full.
        """
        if not 1 <= batch_size <= len(order):
            raise InputError(f"{self.name}: expected a batch of 1 to {len(order)} images, got {batch_size}")
        split = list(order.cpu().split(batch_size))
        full = split if len(split[-1]) == batch_size else split[:-1]
        return self.stream(full, workers)

    def stream(self, batches: Iterable[Int[Tensor, " b"]], workers: int = 0) -> Iterator[Batch]:
        """Pixels of each of `batches`, which are positions on the CPU, asked for as they are
        needed; see `streamed`."""
        if self.stored is None:
            return streamed(replace(self, device=torch.device("cpu")).__getitem__, batches, self.device, workers)
        carried = (carry(positions, self.device) for positions in batches)
        return ((positions, self[positions]) for positions in carried)

    def _decode(self, positions: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        outside = positions[(positions < 0) | (positions >= len(self))]
        if len(outside):
            raise IndexError(f"expected positions from 0 to {len(self) - 1}, got {int(outside[0])}")
        if self.images.hierarchy is not None:
            return self.images.hierarchy.pixels(self.images.rows[positions])
        shape = (self.decoder.channels, self.decoder.height, self.decoder.width)
        pixels = np.empty((len(positions), *shape), np.uint8)
        for row, position in enumerate(positions.tolist()):
            try:
                pixels[row] = self.decoder(self.images.read(int(self.images.rows[position])))
            except Unsuitable as error:
                raise InputError(f"{self.name}: {self.paths[position]}: {error}") from error
            except Unreadable as error:
                raise InputError(f"{self.paths[position]}: readable when it was checked, now {error}") from error
        return torch.from_numpy(pixels)
