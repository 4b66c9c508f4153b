"""What does drawing masks cost, beside the training step that uses them?

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE .venv/bin/python -m benchmarks.masks
    python -m benchmarks.masks --device cuda

Masks for 4096 images on a 14x14 grid, every strategy that needs no checkpoint, against one training
step (forward, backward, AdamW) of a MAE with a ViT-Tiny encoder on 4096 images of 224 pixels, same
device. The step is measured on a smaller batch and scaled up, being linear in images (on a GPU,
where small batches are relatively slower, take --step-images as large as fits). Draws and steps are
interleaved in rounds of random order, and medians are compared: a busy machine slows both. Masks
end as the model wants them, on its device; --generator cpu draws them on the CPU for a model
elsewhere. Target: less than 2 %.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch

from lcmae.masking import STRATEGIES, MaskStrategy, Noise
from lcmae.models import MAE, SIZES
from lcmae.objectives import MAE as MAEObjective


def training_step(num_images: int, device: torch.device) -> Callable[[], object]:
    """One step of MAE: ViT-Tiny with patches of 16 on 224-pixel images, decoder of width 192 and 4
    blocks, ratio 0.75."""
    decoder = {"decoder_width": 192, "decoder_depth": 4, "decoder_heads": 3}
    model = MAE(image_size=224, patch_size=16, **SIZES["tiny"], **decoder).to(device).train()
    model.precision = "bfloat16" if device.type == "cuda" else "float32"
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=device.type == "cuda")
    images = torch.rand(num_images, 3, 224, 224, device=device)
    rng = torch.Generator(device).manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        MAEObjective()(model, images, rng).total.backward()
        optimizer.step()

    return step


def drawing(
    strategy: MaskStrategy, num_images: int, device: torch.device, source: torch.device
) -> Callable[[], object]:
    rng = torch.Generator(source).manual_seed(0)
    return lambda: strategy(num_images, (14, 14), rng).to(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096, help="images to draw masks for")
    parser.add_argument("--step-images", type=int, default=16, help="images of the measured training step")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all draws and one step")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--generator", default=None, help="device that draws; by default the model's")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    source = torch.device(arguments.generator or arguments.device)

    strategies = {kind: cls() for kind, cls in STRATEGIES.items() if not cls.needs_images and cls is not Noise}
    strategies |= {f"noise {colour}": Noise(colour=colour) for colour in ("red", "green", "blue", "purple")}
    strategies |= {f"{kind} at 0.9": STRATEGIES[kind](ratio=0.9) for kind in ("block", "multi_block")}
    work = {name: drawing(strategy, arguments.images, device, source) for name, strategy in strategies.items()}
    work["step"] = training_step(arguments.step_images, device)

    for job in work.values():
        seconds(job, device)
    times: dict[str, list[float]] = {name: [] for name in work}
    order = random.Random(0)
    for _ in range(arguments.rounds):
        for name in order.sample(list(work), len(work)):
            times[name].append(seconds(work[name], device))

    step = statistics.median(times.pop("step")) * arguments.images / arguments.step_images
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}; generator on {source}; {arguments.images} images; medians of {arguments.rounds} rounds")
    print(f"training step: {step:.3f} s (from {arguments.step_images} images)")
    print(f"{'strategy':<20}{'draw, ms':>12}{'of a step':>12}")
    for name, draws in sorted(times.items(), key=lambda item: -statistics.median(item[1])):
        draw = statistics.median(draws)
        print(f"{name:<20}{draw * 1e3:>12.2f}{draw / step:>12.3%}")


if __name__ == "__main__":
    main()
