"""How much work was done and how much is kept: counted, never timed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn


@contextmanager
def counted_rows(module: nn.Module) -> Iterator[list[int]]:
    """While inside, the list gets the number of rows of each of the module's forward passes."""
    rows: list[int] = []
    hook = module.register_forward_hook(lambda _, args, output: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        hook.remove()


def numbers_held(thing: Any) -> int:
    """How many numbers hang on an accumulator: tensors and arrays in its attributes, lists and
    dicts, models left out."""
    if isinstance(thing, Tensor):
        return thing.numel()
    if isinstance(thing, np.ndarray):
        return thing.size
    if isinstance(thing, nn.Module):
        return 0
    if isinstance(thing, dict):
        return sum(numbers_held(value) for value in thing.values())
    if isinstance(thing, list | tuple):
        return sum(numbers_held(value) for value in thing)
    return numbers_held(vars(thing)) if hasattr(thing, "__dict__") else 0
