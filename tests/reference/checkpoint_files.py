"""Files and runs that the tests of formats read: written, and what is said of them once read."""

from pathlib import Path
from typing import Any

import torch

from lcmae.formats import Provenance, load
from lcmae.models import MaskedImageModel
from lcmae.runs.run import Run
from tests.reference import foreign

HEADS: dict[str, Any] = {"heads": foreign.HEADS, "decoder_heads": foreign.DECODER_HEADS}


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def source(path: Path | str, **overrides: Any) -> Provenance:
    found = load(path, **overrides).source
    assert found is not None
    return found


def publish(path: Path, model: MaskedImageModel) -> Path:
    config = {"model": model.config.model_dump(mode="json"), "objective": {"kind": "umae"}, "data": "digits"}
    run = Run.create(path, config)
    for step in (3, 7):
        run.publish(step, model.state_dict(), config=config, resume=None)
    return path
