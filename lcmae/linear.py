"""Linear layers by the faster of the two libraries for matrix products that torch carries on a CPU.

torch hands float32 products to MKL, which leaves AVX-512 unused on processors of AMD; oneDNN uses it, and makes the same
products of the same precision in less than half the time there (`benchmarks/linear.py`). Elsewhere nothing changes.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from lcmae.shapes import Float

WORTH_IT = 2**20
"""Multiplications of a product from which on oneDNN pays: below, its call costs more than MKL's whole product."""


class Linear(nn.Linear):
    """`torch.nn.Linear`, multiplied by `linear`."""

    def forward(self, input: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        return linear(input, self.weight, self.bias)


def convert(model: nn.Module) -> None:
    """Make a `Linear` of every plain linear layer. Weights, names and settings stay, and so does every other layer."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def linear(
    x: Float[Tensor, "*b i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "*b o"]:
    """`torch.nn.functional.linear`: x W^T + bias."""
    if torch.compiler.is_compiling() or not _pays(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Product.apply(x, weight, bias)  # pyright: ignore[reportReturnType]
    return _multiply(x, weight, bias)


def _pays(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.numel() * len(weight) >= WORTH_IT
        and x.dtype == weight.dtype == torch.float32
        and type(x) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled  # pyright: ignore[reportAttributeAccessIssue] - added by torch's own module class
        and is_faster()
    )


@cache
def is_faster() -> bool:
    """Whether this processor has AVX-512 that MKL does not use."""
    known = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.cpu, "get_capabilities")
    found = torch.cpu.get_capabilities() if known and torch.backends.mkldnn.is_available() else {}
    return bool(found.get("avx512_f")) and "AMD" in str(found.get("cpu_name"))


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # what torch.compile calls for such layers; it takes rows of any stride
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """`_multiply` with its gradients, which are such products, too. Keeps what they need, and no more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_x, wants_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        of_x = None if weight is None else linear(grad, weight.t())
        of_weight = None if x is None else linear(rows.t(), x.reshape(-1, x.shape[-1]).t())
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _count(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
        """Multiplications and additions of `_multiply`, for torch's counter: it knows no such product by itself."""
        return 2 * torch.Size(x).numel() * weight[0]
