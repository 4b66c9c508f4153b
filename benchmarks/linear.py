"""Linear layers of `lcmae.linear` beside torch's own, on this processor: `python -m benchmarks.linear [--rounds N]`.

Each product forwards, and with the gradients of rows and weights, then whole training steps; the two ways in random order, medians
over rounds and the median of the ratios within a round. Prints a Markdown table.
"""

import argparse
import statistics
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F

from benchmarks.contenders import config_of, noise, ours
from benchmarks.probes import rounds_of
from lcmae import linear

SHAPES = {
    "ViT-Tiny/4, 32 images, visible tokens": (32 * 17, 192, 768),
    "ViT-Tiny/4, one image": (65, 192, 768),
    "ViT-B/16, 8 images, visible tokens": (8 * 50, 768, 3072),
}
"""Rows, values of a row, values of an answer."""

WAYS: dict[str, Callable] = {"torch": F.linear, "lcmae": linear.linear}

CPU = torch.device("cpu")


def main(argv: list[str] | None = None) -> str:
    """Measure, print, and give the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=30, help="times that each product is measured; steps a third of it"
    )
    parser.add_argument("--batch", type=int, default=64, help="images of a training step")
    options = parser.parse_args(argv)
    lines = [
        f"{torch.cpu.get_capabilities().get('cpu_name')}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"oneDNN is {'' if linear.is_faster() else 'not '}called on it.",
        "",
        "| ms | torch | lcmae | ratio |",
        "|---|---|---|---|",
    ]
    for name, shape in SHAPES.items():
        for gradients, said in ((False, "forwards"), (True, "with gradients")):
            work = {way: product(call, shape, gradients) for way, call in WAYS.items()}
            lines.append(row(f"{name}: {said}", rounds_of(work, options.rounds, CPU, name)))
    name = f"MAE step, ViT-Tiny/4, {options.batch} images"
    lines.append(row(name, rounds_of(steps(options.batch), -(-options.rounds // 3), CPU, name)))
    text = "\n".join(lines) + "\n"
    print(text)
    return text


def row(name: str, times: dict[str, list[float]]) -> str:
    """A line of the table."""
    ratio = statistics.median(a / b for a, b in zip(times["torch"], times["lcmae"], strict=True))
    torchs, own = (1000 * statistics.median(times[way]) for way in WAYS)
    return f"| {name} | {torchs:.3g} | {own:.3g} | {ratio:.2f}x |"


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


def steps(batch: int) -> dict[str, Callable[[], object]]:
    """The training loop's own step, with torch's linear layers and with ours."""
    config = config_of("tiny4", "mae", batch)
    source = noise(config, 4 * batch, CPU)
    plain, own = ours(config, source), ours(config, source)

    def without() -> None:
        with patch.object(linear, "is_faster", lambda: False):
            plain()

    return {"torch": without, "lcmae": own}


if __name__ == "__main__":
    main()
