"""Checkpoints -> models: our own run folders and steps, and the files of other libraries, one file
of code per format.

`load` never runs code from a file (see `safety` and `pickles`), never guesses silently (see
`Provenance.assumed`), and never loads with keys left over that may be the model's: what does not
fit is refused in one line, and what is left aside is named (see `beside`). docs/formats.md lists
what is understood.
"""

from pathlib import Path
from typing import Any

import torch

from lcmae.formats.build import StoredModelConfig, build
from lcmae.formats.export import export
from lcmae.formats.inspection import import_checkpoint, inspect
from lcmae.formats.recognise import read_any
from lcmae.models import MaskedImageModel
from lcmae.provenance import Inspection, Provenance
from lcmae.runs.within_root import within_root

__all__ = [
    "Inspection",
    "Provenance",
    "StoredModelConfig",
    "export",
    "import_checkpoint",
    "inspect",
    "load",
    "within_root",
]


def load(path: Path | str, *, device: torch.device | str = "cpu", **overrides: Any) -> MaskedImageModel:
    """A model in eval mode with `model.source`, from a run folder, one of its steps, or a foreign
    checkpoint.

    `overrides` are settings of the model (heads=6, normalize_targets=True, image_size=96, ...):
    they replace what was assumed or read, and another grid resamples the positions. Raises
    `CheckpointError` for a file that cannot be trusted or understood, `InputError` for an override
    that does not fit.
    """
    return build(read_any(path, overrides), device)
