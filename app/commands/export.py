"""`lcmae export RUN --to official|timm|huggingface --out PATH`: files that those libraries load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.checkpoint_options import Overrides


class ExportArguments(Overrides):
    """Write a model in another library's layout; the round trip is exact."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A run (its newest step), one of its steps, or any supported checkpoint."""

    to: Literal["official", "timm", "huggingface"]
    """official: .pth with decoder; timm: .safetensors of the encoder; huggingface: a folder."""

    out: Path
    """File or folder to write; it must not exist."""


def run(arguments: Sequence[str]) -> int:
    """Export; prints what was written."""
    options = parse_arguments(ExportArguments, arguments, command="export")

    from lcmae.formats import export

    print(export(options.checkpoint, options.to, options.out, **options.given()))
    return 0
