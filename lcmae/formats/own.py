"""Our own run folders and their steps: config and hashes come from the manifest, so nothing is
assumed."""

import os
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lcmae.errors import CheckpointError
from lcmae.formats.build import Reading, StoredModelConfig
from lcmae.formats.facts import Facts
from lcmae.formats.safetensor import read_safetensors
from lcmae.models import ModelConfig
from lcmae.provenance import Provenance
from lcmae.runs.checkpoint import MODEL
from lcmae.runs.run import Checkpoint, Run, is_run, is_step
from lcmae.safety.text import show
from lcmae.settings import explain


def step_folder(path: Path | str) -> Path | None:
    """The step that a path means: checkpoints/<step>, or the model.safetensors in it."""
    path = Path(os.path.abspath(path))
    folder = path.parent if path.name == "model.safetensors" else path
    return folder if is_step(folder) else None


def is_own(path: Path | str) -> bool:
    return is_run(path) or step_folder(path) is not None


def open_checkpoint(path: Path | str) -> Checkpoint:
    """The newest intact step of a run, or the step that the path names; every file hashed."""
    folder = step_folder(path)
    if folder is None:
        return Run.open(path).newest()
    return Run.open(folder.parent.parent).checkpoint(int(folder.name))


def read_own(path: Path | str, overrides: dict[str, Any], *, meta: bool = False) -> Reading:
    """A step as it was published. Overrides work here too, and are recorded."""
    checkpoint = open_checkpoint(path)
    config = _model_config(checkpoint)
    facts = Facts(overrides)
    for name, value in config:
        if name != "kind":
            facts.say(name, value, "config.json")
    tensors = read_safetensors(checkpoint.path / MODEL, meta=True)[0] if meta else dict(checkpoint.tensors())
    objective = checkpoint.config.get("objective")
    mask = objective.get("mask") if isinstance(objective, dict) else None
    source = checkpoint.config.get("source")
    return Reading(
        format="run",
        path=show(path),
        sha256=checkpoint.sha256,
        kind=type(config),
        tensors=tensors,
        facts=facts,
        grid=config.grid,
        objective=objective.get("kind") if isinstance(objective, dict) else None,
        mask=mask if isinstance(mask, dict) else None,
        step=checkpoint.step,
        source=Provenance.from_json(source) if isinstance(source, dict) else None,
        is_exact=True,
    )


def _model_config(checkpoint: Checkpoint) -> ModelConfig:
    try:
        return TypeAdapter(StoredModelConfig).validate_python(checkpoint.config.get("model"))
    except ValidationError as error:
        raise CheckpointError(
            f"checkpoint {show(checkpoint.path)}: the config of its model: {explain(error)}"
        ) from error
