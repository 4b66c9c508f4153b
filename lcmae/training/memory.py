"""How much memory a config's weights and optimiser take, before any of it is taken.

A model that does not fit would end in the middle of its making, and the system picks whom it kills.
What is counted is a lower bound: activations come on top, which a smaller batch makes smaller.
"""

import os
from pathlib import Path

import torch

from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.models import ModelConfig
from lcmae.training import distributed

NUMBER = 4
"""Bytes of a float32: weights, gradients and the two moments of AdamW are such."""

BYTES_A_BLOCK = 80_000
"""What a block takes on the host besides its numbers: modules and parameters as Python's objects,
gradients and the optimiser's state. 90,000 measured (2,000 blocks of width 4, torch 2.8)."""


def check_memory(config: RunConfig, device: torch.device) -> None:
    """`InputError` where the weights of a config and what its optimiser keeps of them do not fit
    this machine, or this GPU; all processes here share the machine."""
    weights, blocks = count(config.model)
    trained = 4 * NUMBER * weights
    if config.shard:
        # the model is whole before it is sharded
        trained = NUMBER * weights + 3 * NUMBER * weights // distributed.world_size()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if distributed.is_active() else 1
    on_host = here * (blocks * BYTES_A_BLOCK + (trained if device.type == "cpu" else NUMBER * weights))
    needs = [("this machine has", on_host, memory_of_machine())]
    if device.type == "cuda":
        needs.append((f"{device} has", trained, torch.cuda.get_device_properties(device).total_memory))
    for where, needed, there in needs:
        if needed > there:
            raise InputError(
                f"expected a model that can be trained in the {_gib(there)} that {where}, got {weights:,} weights in "
                f"{blocks:,} blocks, which take {_gib(needed)} with their gradients and optimiser: make width or depth "
                "smaller"
            )


def count(config: ModelConfig) -> tuple[int, int]:
    """Weights and blocks of a model, of which no more than a block is made, and that without
    memory."""
    depths = {name: getattr(config, name) for name in ("depth", "decoder_depth") if hasattr(config, name)}
    short = config.model_copy(update=dict.fromkeys(depths, 1))
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = short.build()
    except RuntimeError as error:  # more bytes than 64 bits can count
        raise InputError(f"expected a model whose sizes can be counted, got {config.width} as its width") from error
    weights, blocks = sum(weight.numel() for weight in model.parameters()), sum(depths.values())
    for name, stack in (("depth", model.blocks), ("decoder_depth", model.decoder_blocks)):
        for block in stack:
            weights += (depths[name] - 1) * sum(weight.numel() for weight in block.parameters())
    return weights, blocks


def memory_of_machine() -> int:
    """Bytes that processes of this machine may have: its memory, or less in a container."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            there = min(there, int(limit.read_text()))
        except (OSError, ValueError):
            continue  # no such group, or one without a limit ("max")
    return there


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
