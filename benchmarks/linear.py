"""Linear layers of `lcmae.linear` beside torch's own, on this processor: `python -m benchmarks.linear [--rounds N]`.

Each product forwards, and with the gradients of rows and weights; the two in turns, medians and their ratio. Then whole training
steps of a model of each kind. Prints a Markdown table.
"""

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lcmae.linear import Linear, is_faster, linear
from lcmae.masking import Random
from lcmae.models import MAE
from lcmae.progress import ProgressBar

SHAPES = {
    "ViT-Tiny/4, 32 images, visible tokens": (32 * 17, 192, 768),
    "ViT-Tiny/4, one image": (65, 192, 768),
    "ViT-B/16, 8 images, visible tokens": (8 * 50, 768, 3072),
}
"""Rows, values of a row, values of an answer."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="times that each is measured")
    options = parser.parse_args()
    rows = []
    with ProgressBar("products", 2 * len(SHAPES) + 1) as bar:
        for name, shape in SHAPES.items():
            for with_gradients in (False, True):
                calls = [product(function, shape, with_gradients) for function in (F.linear, linear)]
                count = 2 * float(np.prod(shape)) * (3 if with_gradients else 1)
                torchs, ours = (count / seconds / 1e9 for seconds in medians(calls, options.rounds))
                what = f"{name}: {'with gradients' if with_gradients else 'forwards'}"
                rows.append((what, f"{torchs:.0f} GFLOP/s", f"{ours:.0f} GFLOP/s", ours / torchs))
                bar.advance(note=what)
        torchs, ours = medians(steps(), max(options.rounds // 3, 3))
        rows.append(("MAE step, ViT-Tiny/4, 64 images", f"{torchs:.3f} s", f"{ours:.3f} s", torchs / ours))
        bar.advance()
    print(
        f"{torch.cpu.get_capabilities().get('cpu_name')}, {torch.get_num_threads()} threads, torch {torch.__version__}."
    )
    if not is_faster():
        print("This processor is none on which lcmae calls oneDNN: both columns are torch's own.")
    print("\n| product | torch.nn.functional.linear | lcmae.linear | ratio |\n|---|---|---|---|")
    for what, torchs, ours, ratio in rows:
        print(f"| {what} | {torchs} | {ours} | {ratio:.2f}x |")


def product(function: Callable, shape: tuple[int, int, int], with_gradients: bool) -> Callable[[], object]:
    """A call of a linear layer, and of its gradients."""
    rows, width, out = shape
    rng = torch.Generator().manual_seed(0)
    x, weight, bias, cotangent = (
        torch.randn(size, generator=rng) for size in ((rows, width), (out, width), (out,), (rows, out))
    )
    if not with_gradients:
        return lambda: function(x, weight, bias)
    x.requires_grad_()
    weight.requires_grad_()
    return lambda: torch.autograd.grad(function(x, weight, bias), [x, weight], cotangent)


def steps() -> list[Callable[[], object]]:
    """A training step of the same model, by torch's linear layers and by ours."""
    torch.manual_seed(0)
    ours = MAE()
    plain = copy.deepcopy(ours)
    for module in plain.modules():
        if isinstance(module, Linear):
            module.__class__ = nn.Linear  # pyright: ignore[reportAttributeAccessIssue]
    images = torch.randn(64, 3, 32, 32)
    mask = Random(ratio=0.75)(64, ours.grid, torch.Generator().manual_seed(0))

    def step_of(model: MAE) -> Callable[[], object]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            out = model(images, mask, only_hidden=True)
            errors = (out.pred - model.targets(images)).square().mean(-1)
            errors.gather(1, mask.hidden).mean().backward()
            optimizer.step()

        return step

    return [step_of(model) for model in (plain, ours)]


def medians(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each call, made in turns; the first round is not counted."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, of_call in zip(calls, seconds, strict=True):
            begin = time.perf_counter()
            call()
            of_call.append(time.perf_counter() - begin)
    return [float(np.median(of_call[1:])) for of_call in seconds]


if __name__ == "__main__":
    main()
