"""Run folders with real, tiny models in them, for pages that load checkpoints."""

from pathlib import Path
from typing import Any

import torch

from lcmae.models import MAE, MaskedImageModel
from lcmae.runs.run import Run

TINY: dict[str, Any] = {"image_size": 8, "patch_size": 2, "channels": 1, "width": 16, "depth": 2, "heads": 2}
DECODER: dict[str, Any] = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


def tiny(**settings: Any) -> MAE:
    """A MAE of 4 x 4 patches of 2 grey pixels; its weights are the same in every test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MAE(**{**TINY, **DECODER, **settings})


def published(
    path: Path,
    model: MaskedImageModel | None = None,
    *,
    data: str | None = "digits",
    steps: tuple[int, ...] = (10, 20),
    num_steps: int | None = None,
    mask: dict[str, Any] | None = None,
) -> Run:
    """A run with a tiny model; every step has weights of its own."""
    model = tiny() if model is None else model
    config = {"data": data, "seed": 0, "model": model.config.model_dump(mode="json")}
    config |= {} if mask is None else {"objective": {"kind": "mae", "mask": mask}}
    run = Run.create(path, config)
    for step in steps:
        model.get_parameter("cls_token").data.fill_(step / 100)
        run.publish(step, model.state_dict(), config=config, resume=None, num_steps=num_steps)
    return run
