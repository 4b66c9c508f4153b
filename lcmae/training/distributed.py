"""Several devices through torch's own engine: `torchrun` sets the environment, DDP (or FSDP2)
averages gradients. `lcmae.ranks` has the means that
make objectives the same on any number of them.
"""

import os
import warnings
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.ranks import is_active, is_main, mean_over_ranks, rank, world_size

__all__ = [
    "from_main",
    "is_active",
    "is_main",
    "largest",
    "load_state",
    "mean_over_ranks",
    "rank",
    "start",
    "state",
    "stop",
    "whole",
    "world_size",
    "wrap",
]


def whole(value: Tensor) -> Tensor:
    """A tensor that is sharded over devices (FSDP2), put together; any other as it is."""
    full_tensor = getattr(value, "full_tensor", None)
    return value if full_tensor is None else full_tensor()


def start() -> torch.device:
    """Join the group that `torchrun` describes in the environment, if there is one; returns this
    process's device."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return torch.device("cuda" if cuda else "cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not is_active():
        # gloo beside NCCL, so that processes can agree on something without waiting for their GPUs
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", device_id=device if cuda else None)
    return device


def stop() -> None:
    """Leave the group."""
    if is_active():
        dist.destroy_process_group()


def wrap(task: Any, *, shard: bool) -> nn.Module:
    """Make the gradients of `task`, which holds a `model`, those of the whole batch: DDP, or FSDP2
    (`shard`) for huge ones."""
    if not is_active():
        if shard:
            raise InputError("expected a torchrun launch for sharding (FSDP2), got a single process")
        return task
    if shard:
        from torch.distributed.fsdp import fully_shard

        for block in (*task.model.blocks, *task.model.decoder_blocks):
            fully_shard(block)
        fully_shard(task.model)
        # a view as output is a danger only to those who change it in place; nobody here does
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
        return task
    device_ids = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    return nn.parallel.DistributedDataParallel(task, device_ids=device_ids)


def state(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, shard: bool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Whole weights and whole optimiser state on the CPU; with `shard` every process must take
    part."""
    if not shard:
        return {name: value.detach().cpu() for name, value in model.state_dict().items()}, optimizer.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    tensors, optimizer_state = get_state_dict(model, optimizer, options=options)
    return {name: cast(Tensor, value) for name, value in tensors.items()}, dict(optimizer_state)


def load_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    optimizer_state: dict[str, Any],
    *,
    shard: bool,
) -> None:
    """The inverse of `state`."""
    if not shard:
        model.load_state_dict(tensors)
        optimizer.load_state_dict(optimizer_state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    set_state_dict(
        model,
        optimizer,
        model_state_dict=dict(tensors),
        optim_state_dict=optimizer_state,
        options=StateDictOptions(full_state_dict=True),
    )


def largest(number: float) -> float:
    """The largest of the processes' numbers, in every process; on the CPU, so that no GPU is waited
    for."""
    if not is_active():
        return number
    value = torch.tensor(number)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return float(value)


def from_main(value: Any) -> Any:
    """The first process's value, in every process."""
    if not is_active():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
