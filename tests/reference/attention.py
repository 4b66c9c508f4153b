"""Attention's measures one number at a time, from their definitions, and what else the tests of
attention probes share."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.models.beit import Attention as BeitAttention
from torch import Tensor, nn

from lcmae.models import MaskedImageModel
from lcmae.patches import Grid
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.watching.hooks import watch_attention


def distance(a: int, b: int, grid: Grid) -> float:
    return math.hypot(a // grid[1] - b // grid[1], a % grid[1] - b % grid[1])


def entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def mean_distance(row: list[float], query: int, keys: list[int], grid: Grid) -> float:
    return sum(p * distance(query, key, grid) for p, key in zip(row, keys, strict=True)) / sum(row)


def normalised_mutual_information(rows: list[list[float]]) -> float:
    num_queries = len(rows)
    key = [sum(row[k] for row in rows) / num_queries for k in range(len(rows[0]))]
    information = sum(
        row[k] / num_queries * math.log(row[k] / key[k]) for row in rows for k in range(len(key)) if row[k] > 0
    )
    return information / math.sqrt(math.log(num_queries) * entropy(key))


def head_divergence(heads: list[list[list[float]]], head: int) -> float:
    terms = []
    for other in range(len(heads)):
        for row, row_of_other in zip(heads[head], heads[other], strict=True):
            if other != head:
                terms.append(sum(p * math.log(p / q) for p, q in zip(row, row_of_other, strict=True) if p > 0))
    return sum(terms) / len(terms)


def positional_share(rows: dict[tuple[int, int, int], Tensor], *, fixed: int, position: int) -> float:
    """Of rows by (image, mask, position): index `fixed` of the key is held, and rows of one
    `position` are compared.

    Sums of squares from all pairs of rows, which needs no mean: sum |x - mean|^2 = sum over pairs
    |x - y|^2 / n.
    """
    within, dof_within, total, dof_total = 0.0, 0, 0.0, 0
    for value in {key[fixed] for key in rows}:
        held = {key: row for key, row in rows.items() if key[fixed] == value}
        total += _squares(list(held.values()))
        dof_total += len(held) - 1
        for slot in {key[position] for key in held}:
            same = [row for key, row in held.items() if key[position] == slot]
            within += _squares(same)
            dof_within += len(same) - 1
    return 1 - (within / dof_within) / (total / dof_total)


def _squares(rows: list[Tensor]) -> float:
    return sum(float((a - b).double().square().sum()) for a, b in product(rows, rows)) / (2 * len(rows))


@contextmanager
def unfused(model: nn.Module) -> Iterator[None]:
    """timm's own softmax and matrix products in place of fused attention."""
    attentions = [module for module in model.modules() if isinstance(module, Attention | BeitAttention)]
    before = [module.fused_attn for module in attentions]
    for module in attentions:
        module.fused_attn = False  # pyright: ignore[reportAttributeAccessIssue]
    yield
    for module, fused in zip(attentions, before, strict=True):
        module.fused_attn = fused  # pyright: ignore[reportAttributeAccessIssue]


def maps_of(model: MaskedImageModel, blocks: nn.ModuleList, *args: Any) -> list[Tensor]:
    """Attention maps of every block for a forward pass, all kept."""
    maps: dict[int, Tensor] = {}
    with torch.no_grad(), watch_attention(blocks, maps.__setitem__):
        model(*args)
    return list(maps.values())


def count_calls(model: MaskedImageModel, name: str = "encode") -> list[int]:
    """A list that grows by the batch's rows whenever the method is called."""
    calls: list[int] = []
    method = getattr(model, name)

    def counted(images: Tensor, *args: Any) -> Any:
        calls.append(len(images))
        return method(images, *args)

    object.__setattr__(model, name, counted)
    return calls


def numbers_held(thing: Any) -> int:
    """Elements of all tensors that an accumulator holds, its model left out."""
    if isinstance(thing, Tensor):
        return thing.numel()
    if isinstance(thing, dict):
        return sum(numbers_held(value) for value in thing.values())
    if isinstance(thing, list | tuple):
        return sum(numbers_held(value) for value in thing)
    if isinstance(thing, nn.Module) or not hasattr(thing, "__dict__"):
        return 0
    own = vars(thing) if not isinstance(thing, RunningMean) else {"mean": thing.mean, "squares": thing.squares}
    return sum(numbers_held(value) for value in own.values())
