"""What a training step must cost: multiplications and memory traffic, operation by operation, per
image.

The roof is the sum over operations of the larger of their arithmetic time and their traffic time,
at rates measured in the same run. An operation reads its inputs and writes its outputs once, as a
compiled step with cuDNN-class attention does: per token, layer and width D, 36 D values forward and
69 D backward. Fusing whole blocks would go past this roof.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lcmae.config import RunConfig
from lcmae.models import MAEConfig
from lcmae.objectives import UMAE, USimMIM


@dataclass(frozen=True)
class Operation:
    """One fused operation of a step, per image."""

    name: str
    flops: float
    """Multiplications and additions of matrix products; what is done to single values is not
    counted, as in torch's counter."""

    values: float
    """Values read and written, of the precision that the model computes in."""


@dataclass(frozen=True)
class Rates:
    """What the device reaches on a large matrix product (FLOP/s) and a large copy (bytes/s, reading
    and writing)."""

    flops: float
    bytes: float


def step_operations(config: RunConfig) -> list[Operation]:
    """Forward and backward of our step for one image, whose last decoder block and head are at
    hidden patches alone."""
    model, masks = config.model, config.objective.masks_per_image
    n, p = model.num_patches, model.patch_values
    hidden = config.objective.mask.num_hidden(model.grid)
    hidden_width = int(model.width * model.mlp_ratio)
    is_mae = isinstance(model, MAEConfig)

    # the encoder: visible patches (SimMIM: all) and the class token
    embedded = n if masks > 1 or not is_mae else n - hidden
    shown = (n - hidden if is_mae else n) + 1
    operations = linear("embed", embedded, p, model.width, into_input=False)
    for _ in range(model.depth):
        operations += times(masks, block(shown, shown, model.width, hidden_width))

    # the decoder
    width = model.width
    if is_mae:
        width, tokens = model.decoder_width, n + model.decoder_prefix
        ratio = model.mlp_ratio if model.decoder_mlp_ratio is None else model.decoder_mlp_ratio
        entering = n - hidden + model.decoder_prefix
        operations += times(masks, linear("decoder embed", entering, model.width, width))
        for layer in range(model.decoder_depth):
            is_last = layer == model.decoder_depth - 1
            operations += times(masks, block(tokens, hidden if is_last else tokens, width, int(width * ratio)))
    operations += times(masks, linear("head", hidden, width, p))
    if isinstance(config.objective, UMAE | USimMIM):
        operations += [Operation("uniformity", 6 * model.width**2, 6 * model.width)]
    return operations


def block(tokens: int, queries: int, width: int, hidden: int) -> list[Operation]:
    """A transformer block on so many tokens, of which `queries` go on: forward and backward."""
    t, q, d, m = tokens, queries, width, hidden
    return [
        Operation("residual and norm", 0, 4 * t * d),
        *linear("key and value", t, d, 2 * d),
        *linear("query", q, d, d, shares_input=True),
        Operation("attention", 4 * t * q * d, (2 * q + 2 * t) * d),
        Operation("attention, backward", 8 * t * q * d, (4 * q + 4 * t) * d),
        *linear("projection", q, d, d),
        Operation("residual and norm", 0, 4 * q * d),
        *linear("mlp in", q, d, m),
        Operation("gelu", 0, 2 * q * m),
        Operation("gelu, backward", 0, 3 * q * m),
        *linear("mlp out", q, m, d),
        Operation("norms and residuals, backward", 0, 4 * q * d + 4 * t * d),
    ]


def linear(
    name: str, tokens: int, into: int, out: int, *, into_input: bool = True, shares_input: bool = False
) -> list[Operation]:
    """A linear layer: forward, gradient of weights and bias, and (`into_input`) of its input.

    `shares_input`: computed in one product with another layer of the same input, which reads and
    writes it.
    """
    flops, outer = 2 * tokens * into * out, tokens * ((0 if shares_input else into) + out)
    backward = [Operation(f"{name}, weights", flops, outer), Operation(f"{name}, bias", 0, tokens * out)]
    if into_input:
        backward.append(Operation(f"{name}, input", flops, outer))
    return [Operation(name, flops, outer), *backward]


def times(number: int, operations: list[Operation]) -> list[Operation]:
    return [Operation(each.name, number * each.flops, number * each.values) for each in operations]


def total_flops(operations: list[Operation]) -> float:
    return sum(operation.flops for operation in operations)


def roof_seconds(operations: list[Operation], rates: Rates, bytes_a_value: int) -> float:
    """Seconds for one image, if every operation ran at the measured rates and none beside
    another."""
    return sum(max(each.flops / rates.flops, each.values * bytes_a_value / rates.bytes) for each in operations)


def measure_rates(device: torch.device, dtype: torch.dtype, *, side: int, copy_bytes: int) -> Rates:
    """Best of ten: a square product of this side, and a copy of so many bytes (large against the
    device's caches)."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
    place = torch.empty_like(source)
    return Rates(
        2 * side**3 / _best(lambda: a @ b, device), 2 * copy_bytes / _best(lambda: place.copy_(source), device)
    )


def _best(work: Callable[[], object], device: torch.device) -> float:
    return min(seconds(work, device) for _ in range(10))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
