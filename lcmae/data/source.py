"""ImageSource: the decoded images of one split, all in memory where they fit, else decoded when asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lcmae.data.collection import Collection
from lcmae.data.decode import Decoder, Unreadable
from lcmae.errors import InputError
from lcmae.shapes import Int, UInt8

Batch = tuple[Tensor, Tensor]
"""Positions in the source, int64 [b] on the CPU, and their pixels, uint8 [b c h w] on the source's device."""


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images [c h w] of one size in a fixed order, with their names and labels. Made by `open_source`."""

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

    def __len__(self) -> int:
        return len(self.images)

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

    def to(self, device: torch.device | str) -> "ImageSource":
        """The same source, whose pixels lie (resident) or arrive (streaming) on `device`; labels stay on the CPU."""
        device = torch.device(device)
        stored = None if self.stored is None else self.stored.to(device)
        return replace(self, stored=stored, device=device)

    def batches(self, order: Int[Tensor, " k"], batch_size: int, workers: int = 0) -> Iterator[Batch]:
        """Positions and pixels, batch after batch in `order`, without the last batch if it is not full.

        `workers` processes decode a streaming source; it draws nothing from torch's global generator.
        Raises `InputError` where not even one batch is full.
        """
        if not 1 <= batch_size <= len(order):
            raise InputError(f"{self.name}: expected a batch of 1 to {len(order)} images, got {batch_size}")
        order = order.cpu()
        split = list(order.split(batch_size))
        full = split if len(split[-1]) == batch_size else split[:-1]
        return self._resident_batches(full) if self.resident else self._streamed_batches(full, workers)

    def _resident_batches(self, batches: list[Tensor]) -> Iterator[Batch]:
        for indices in batches:
            yield indices, self[indices]

    def _streamed_batches(self, batches: list[Tensor], workers: int) -> Iterator[Batch]:
        # the generator is passed because a loader without one draws its workers' seed from the global generator
        loader = DataLoader(
            _Batches(replace(self, device=torch.device("cpu")), batches),
            batch_size=None,
            num_workers=workers,
            generator=torch.Generator().manual_seed(0),
        )
        for indices, pixels in loader:
            yield indices, pixels.to(self.device, non_blocking=True)

    def _decode(self, positions: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        outside = positions[(positions < 0) | (positions >= len(self))]
        if len(outside):
            raise IndexError(f"expected positions from 0 to {len(self) - 1}, got {int(outside[0])}")
        if self.images.made is not None:
            return self.images.made.pixels(self.images.rows[positions])
        shape = (self.decoder.channels, self.decoder.height, self.decoder.width)
        pixels = np.empty((len(positions), *shape), np.uint8)
        for place, position in enumerate(positions.tolist()):
            if not 0 <= position < len(self):
                raise IndexError(f"expected positions from 0 to {len(self) - 1}, got {position}")
            try:
                pixels[place] = self.decoder(self.images.read(int(self.images.rows[position])))
            except Unreadable as error:
                raise InputError(f"{self.paths[position]}: readable when it was checked, now {error}") from error
        return torch.from_numpy(pixels)


class _Batches(Dataset[Batch]):
    """A batch is one item, so that a worker decodes a whole one and order is the loader's own."""

    def __init__(self, source: ImageSource, batches: list[Tensor]) -> None:
        self.source, self.batches = source, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index], self.source[self.batches[index]]
