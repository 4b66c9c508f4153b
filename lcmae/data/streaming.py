"""Batches that workers decode ahead, and that travel to a GPU while it computes on the one
before."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lcmae.shapes import Int, UInt8

Batch = tuple[Tensor, Tensor]
"""Positions in the source, int64 [b], and their pixels, uint8 [b c h w], both on the source's
device."""

Decode = Callable[[Int[Tensor, " b"]], UInt8[Tensor, "b c h w"]]

PREFETCH_FACTOR = 4
"""Batches that each worker has ready or in work."""


def streamed(
    decode: Decode, batches: Iterable[Int[Tensor, " b"]], device: torch.device, workers: int
) -> Iterator[Batch]:
    """Pixels of each of `batches`, in their order; `workers` processes decode (none: this one) and
    live to the last batch."""
    loader = DataLoader(
        _Decoded(decode),
        sampler=batches,  # pyright: ignore[reportArgumentType] - any iterable will do, and it is only asked as it is needed
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH_FACTOR if workers else None,
        pin_memory=device.type == "cuda",
        # a loader without a generator draws its workers' seed from the global one
        generator=torch.Generator().manual_seed(0),
    )
    return _prefetched(loader, device) if device.type == "cuda" else _one_by_one(loader, device)


class _Decoded(Dataset[Batch]):
    """A batch is one item, so that a worker decodes a whole one and the order is the sampler's."""

    def __init__(self, decode: Decode) -> None:
        self.decode = decode

    def __getitem__(self, positions: Tensor) -> Batch:
        return positions, self.decode(positions)


def carry(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device, without waiting for the device."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def _one_by_one(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    for positions, pixels in batches:
        yield positions.to(device), pixels.to(device)


def _prefetched(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Pinned batches, each copied on a stream of its own while the GPU computes on the one
    before."""
    copies, ready = torch.cuda.Stream(device), None
    for positions, pixels in batches:
        with torch.cuda.stream(copies):
            batch = positions.to(device, non_blocking=True), pixels.to(device, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(copies)
        if ready is not None:
            yield _received(*ready)
        ready = batch, arrived
    if ready is not None:
        yield _received(*ready)


def _received(batch: Batch, arrived: torch.cuda.Event) -> Batch:
    current = torch.cuda.current_stream(batch[1].device)
    current.wait_event(arrived)
    for tensor in batch:
        tensor.record_stream(current)  # the copying stream may not reuse this memory before the step has
    return batch
