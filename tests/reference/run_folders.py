"""What tests do to run folders: publish small steps, flip bits, fill the disk."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lcmae.runs.run import Run

CONFIG = {"objective": {"kind": "mae", "ratio": 0.75}, "name": "ünï ☃"}
FILES = ["model.safetensors", "resume.pt", "manifest.json"]


def publish(run: Run, step: int, value: float = 1.0) -> Path:
    tensors = {"weight": torch.full((3, 5), value), "bias": torch.full((5,), value)}
    return run.publish(step, tensors, config=CONFIG | {"value": value}, resume={"step": step, "value": value})


def flip(path: Path, byte: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith((".tmp-", ".old-"))]


@contextlib.contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond `num_bytes`: the kernel answers like a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text
