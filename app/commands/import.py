"""`lcmae import FILE --out RUN`: a foreign checkpoint becomes a run that every command takes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.checkpoint_options import Overrides
from lcmae.app.command_line.image_options import source_name


class ImportArguments(Overrides):
    """Import a foreign checkpoint as a run; what was assumed is printed, recorded in the run, and
    can be overridden."""

    file: Annotated[Path, tyro.conf.Positional]
    """A checkpoint file, or a Hugging Face folder."""

    out: Path
    """Folder of the new run."""

    data: str | None = None
    """Images that probes and pages use by default: a path, or the name of a source."""

    value_range: str | None = None
    """Their stored values that are black and white, LOW:HIGH, such as 0:4000."""

    bands: str | None = None
    """Their bands to take, counted from 1, such as 4,3,2."""


def run(arguments: Sequence[str]) -> int:
    """Import; prints the run folder last."""
    options = parse_arguments(ImportArguments, arguments, command="import")

    from lcmae.formats import Provenance, import_checkpoint

    data = source_name(options.data, options.value_range, options.bands)
    run_folder = import_checkpoint(options.file, options.out, data=data, **options.given())
    source = Provenance.from_json(run_folder.config["source"])
    for name, value in source.assumed.items():
        flag = name.replace("_", "-")
        print(f"assumed {flag} = {value} ({source.origins.get(name, '')}); --{flag} overrides it", file=sys.stderr)
    for note in source.notes:
        print(f"note: {note}", file=sys.stderr)
    print(run_folder.path)
    return 0
