"""A capped sample of the images, for what needs pairs: chosen before the first batch, by the seed
alone."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lcmae.randomness import generator
from lcmae.shapes import Int


@runtime_checkable
class Counted(Protocol):
    """A batch of images that knows which of all images it holds."""

    first: int
    """Number of its first image."""

    images: Tensor

    def __len__(self) -> int: ...


class ImageSample:
    """At most `size` images out of `num_images`, ascending; the same for all checkpoints that are
    probed together."""

    def __init__(self, size: int, num_images: int, seed: int) -> None:
        order = torch.randperm(num_images, generator=generator("probe-sample", seed, size, num_images))
        self.indices: Int[Tensor, " s"] = order[:size].sort().values

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, batch: Counted) -> Int[Tensor, " r"]:
        """Rows of the batch that belong to the sample, on the batch's device; often none."""
        first, last = batch.first, batch.first + len(batch)
        own = self.indices[(self.indices >= first) & (self.indices < last)] - first
        return own.to(batch.images.device)


class Collected:
    """One value (of any shape) of each image of a sample, on the CPU, in one tensor that is made at
    the first of them: a list of parts would be held twice when it is joined."""

    def __init__(self, sample: ImageSample) -> None:
        self.size, self.count = len(sample), 0
        self.rows: Tensor | None = None

    def __len__(self) -> int:
        return self.count

    def add(self, values: Tensor) -> None:
        """Take in the values [b ...] of the next images."""
        if self.rows is None:
            self.rows = torch.empty(self.size, *values.shape[1:], dtype=values.dtype)
        self.rows[self.count : self.count + len(values)] = values.detach()
        self.count += len(values)

    def every(self) -> Tensor:
        """[s ...] of all images of the sample, which must have been seen."""
        assert self.rows is not None
        assert self.count == self.size, f"{self.count} of {self.size} images were seen"
        return self.rows
