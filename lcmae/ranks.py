"""The processes of one training, as objectives see them: how many there are, which one this is, and
means over all of them. `lcmae.training.distributed` starts and stops the group.

One rule makes every objective the same on any number of devices: a mean over the batch is
`mean_over_ranks` of the local means, and its backward is the same mean. DDP then averages gradients
of equal losses, and the result is the single-process gradient. (U-MAE's own gather keeps only the
local slice in backward, which scales its regulariser by 1 / world size.)
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _MeanOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _all_mean(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _all_mean(grads[0])


def _all_mean(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def is_active() -> bool:
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    return dist.get_world_size() if is_active() else 1


def rank() -> int:
    return dist.get_rank() if is_active() else 0


def is_main() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return rank() == 0


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, differentiable; the tensor itself in a single
    process."""
    return _MeanOverRanks.apply(value) if is_active() and world_size() > 1 else value  # pyright: ignore[reportReturnType]
