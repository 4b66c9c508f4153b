"""Ways to take a training step on the same images: ours by the training loop's own parts, and peers
in a plain loop."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import PEERS
from lcmae.config import RunConfig
from lcmae.data import ImageSource, random_order
from lcmae.data.collection import Collection
from lcmae.data.decode import Decoder
from lcmae.models import SIZES, MAEConfig
from lcmae.settings import parse
from lcmae.training.schedule import Schedule
from lcmae.training.speed import attention_kernel
from lcmae.training.step import Draw, GraphedStep, Step, Task
from lcmae.training.train import build_model, make_optimizer, prepared, update

Work = Callable[[], object]

SHAPES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "micro": (
        {"image_size": 8, "patch_size": 2, "width": 16, "depth": 2, "heads": 2},
        {"decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2},
    ),
    "tiny4": (
        {"image_size": 32, "patch_size": 4, **SIZES["tiny"]},
        {"decoder_width": 192, "decoder_depth": 4, "decoder_heads": 3},
    ),
    "tiny2": (
        {"image_size": 32, "patch_size": 2, **SIZES["tiny"]},
        {"decoder_width": 192, "decoder_depth": 4, "decoder_heads": 3},
    ),
    "base16": (
        {"image_size": 224, "patch_size": 16, **SIZES["base"]},
        {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16},
    ),
}
"""Encoder and decoder: CIFAR's images at patch 4 and 2, ViT-B/16 at 224 pixels, and one small
enough for tests."""

VARIANTS: dict[str, dict[str, bool]] = {
    "eager": {},
    "compiled": {"compile": True},
    "graph": {"compile": True, "cuda_graph": True},
}
"""Ways to run our own step."""


def config_of(shape: str, objective: str, batch: int, **settings: Any) -> RunConfig:
    """A run without end of one of `SHAPES`."""
    encoder, decoder = SHAPES[shape]
    model = {"kind": "simmim", **encoder} if "simmim" in objective else {"kind": "mae", **encoder, **decoder}
    values = {"model": model, "objective": {"kind": objective}, "batch_size": batch, "epochs": 10**6, **settings}
    return parse(RunConfig, values)


def noise(config: RunConfig, num_images: int, device: torch.device) -> ImageSource:
    """Images of noise that lie on the device: what they show costs nothing."""
    height, width = config.model.image_size
    channels, rows = config.model.channels, torch.arange(num_images)
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num_images, channels, height, width), dtype=torch.uint8, generator=rng)
    images = Collection([f"noise#{row}" for row in range(num_images)], None, None, rows, lambda row: None)
    source = ImageSource("noise", "train", images, Decoder(height, width, channels), [], pixels, torch.device("cpu"))
    return source.to(device)


def ours(config: RunConfig, source: ImageSource) -> Work:
    """The training loop's own step."""
    model = prepared(build_model(config), config).to(source.device)
    schedule, draw = Schedule(config, len(source)), Draw(model, config)
    kind = GraphedStep if config.cuda_graph else Step
    compute = kind(Task(model), make_optimizer(model, config), config)
    steps = schedule.steps(source, after=0)

    def work() -> object:
        step, batches = next(steps)
        with attention_kernel(model, config.attention):
            return update(draw, compute, batches, schedule, step)

    return work


def theirs(name: str, config: RunConfig, source: ImageSource, *, compiled: bool) -> Work:
    """A peer's model in a plain loop, with the same images on the device, precision and fused
    AdamW."""
    assert isinstance(config.model, MAEConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PEERS[name](config.model, config.objective.mask.ratio).to(source.device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    forward = torch.compile(model, dynamic=False) if compiled else model
    batches = _orders(source, config.batch_size)

    def work() -> Tensor:
        images = (source.pixels.index_select(0, next(batches)).float() / 255 - 0.5) / 0.5
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
            loss = forward(images)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return work


def _orders(source: ImageSource, batch: int) -> Iterator[Tensor]:
    for epoch in count():
        order = random_order(len(source), seed=0, epoch=epoch).to(source.device)
        yield from (part for part in order.split(batch) if len(part) == batch)
