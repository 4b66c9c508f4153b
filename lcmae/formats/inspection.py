"""`inspect`: what a checkpoint is, without its weights in memory; `import_checkpoint`: a foreign
one becomes a run."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from lcmae.formats.build import build, outline, provenance
from lcmae.formats.recognise import read_any
from lcmae.provenance import Inspection
from lcmae.runs.durable import home
from lcmae.runs.run import Run, is_run


def inspect(path: Path | str, **overrides: Any) -> Inspection:
    """Format, architecture, and what was read and assumed. Weights stay on the disk (they are
    hashed, not loaded).

    Raises the errors of `load`, except that NaN in the weights is found by `load` alone.
    """
    reading = read_any(path, overrides, meta=True)
    model = outline(reading)
    return Inspection(
        source=provenance(reading),
        architecture=type(model).__name__,
        config=model.config.model_dump(mode="json"),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        has_prediction=model.has_prediction,
    )


def import_checkpoint(path: Path | str, run_path: Path | str, *, data: str | None = None, **overrides: Any) -> Run:
    """A foreign checkpoint as a run folder with one step, 0, which every command takes like a run
    of our own.

    Its config has `data` (the source that it is shown with), `objective` None, and `source`:
    format, hash, what was read and what was assumed. Raises the errors of `load` before anything is
    written, and `InputError` where the place is taken.
    """
    model = build(read_any(path, overrides))
    assert model.source is not None
    config = {
        "model": model.config.model_dump(mode="json"),
        "data": data,
        "objective": None,
        # through JSON, so that tuples are lists here as they will be when read back
        "source": json.loads(json.dumps(model.source.to_json())),
    }
    run_path = home(run_path)
    run = _unfinished(run_path, config) or Run.create(run_path, config)
    try:
        with run.lock():
            run.publish(0, model.state_dict(), config=config, resume=None)
    except BaseException:
        # it was made for this import and holds nothing else
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run


def _unfinished(path: Path | str, config: dict[str, Any]) -> Run | None:
    """The run that a killed import of this very file left without its step."""
    if not is_run(path):
        return None
    run = Run.open(path)
    is_empty = not run.steps() and not os.path.lexists(run.path / "metrics.jsonl")
    return run if is_empty and run.config == config else None
