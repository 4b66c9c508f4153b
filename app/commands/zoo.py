"""`lcmae zoo`: small trained models that come with lcmae; `lcmae zoo NAME` copies one as a run."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from lcmae.app import zoo_models
from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.tables import print_table
from lcmae.errors import InputError
from lcmae.settings import Settings


class ZooArguments(Settings):
    """List the small trained models that come with lcmae, or copy one as a run, which every command
    takes."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Model to copy; without one they are listed."""

    out: Path | None = None
    """Folder of the new run; runs/NAME by default."""


def run(arguments: Sequence[str]) -> int:
    """List or copy; prints the run folder last."""
    options = parse_arguments(ZooArguments, arguments, command="zoo")
    found = zoo_models.models()
    if options.name is None:
        rows = [[name, *_row(folder)] for name, folder in found.items()]
        if not rows:
            print(f"no models in {zoo_models.zoo_folder()}; its README.md has the recipe that trains one")
            return 0
        print_table("models", ["name", "what it is", "MB", "licence"], rows, note="lcmae zoo NAME copies one as a run")
        return 0
    if options.name not in found:
        raise InputError(f"expected a model out of {', '.join(found) or 'none (zoo/README.md)'}, got {options.name!r}")
    print(copy(found[options.name], options.out or Path("runs") / options.name))
    return 0


def _row(folder: Path) -> list[str]:
    about = json.loads((folder / "zoo.json").read_text())
    return [about["what"], f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f}", about["licence"]]


def copy(folder: Path, out: Path) -> Path:
    """A run with one step out of a model's folder: its config, metrics and weights, in float32."""
    from lcmae.formats.safetensor import read_safetensors
    from lcmae.runs.run import Run

    about = json.loads((folder / "zoo.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    tensors, _ = read_safetensors(folder / "model.safetensors", meta=False)
    run = Run.create(out, config)
    try:
        run.publish(
            about["step"], {name: tensor.float() for name, tensor in tensors.items()}, config=config, resume=None
        )
        shutil.copyfile(folder / "metrics.jsonl", run.path / "metrics.jsonl")
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)  # it was created a moment ago and holds nothing else
        raise
    return run.path
