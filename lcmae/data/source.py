"""ImageSource: the decoded images of one split, all in memory where they fit, else decoded when
asked for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lcmae.data.collection import Collection
from lcmae.data.decode import Decoder, Unreadable
from lcmae.data.streaming import Batch, carry, streamed
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
        if self.images.made is not None:
            return self.images.made.pixels(self.images.rows[positions])
        shape = (self.decoder.channels, self.decoder.height, self.decoder.width)
        pixels = np.empty((len(positions), *shape), np.uint8)
        for place, position in enumerate(positions.tolist()):
            try:
                pixels[place] = self.decoder(self.images.read(int(self.images.rows[position])))
            except Unreadable as error:
                raise InputError(f"{self.paths[position]}: readable when it was checked, now {error}") from error
        return torch.from_numpy(pixels)
