"""`lcmae inspect FILE`: what a checkpoint is, what was read from it and what was assumed; weights
stay on the disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.checkpoint_options import Overrides
from lcmae.app.command_line.tables import print_table


class InspectArguments(Overrides):
    """Say what a checkpoint is: format, architecture, what was read and what had to be assumed (and
    how to override it)."""

    file: Annotated[Path, tyro.conf.Positional]
    """A run, one of its steps, or a foreign checkpoint."""

    json_: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON instead of tables."""


def run(arguments: Sequence[str]) -> int:
    """Print what is known."""
    options = parse_arguments(InspectArguments, arguments, command="inspect")

    from lcmae.formats import inspect

    found = inspect(options.file, **options.given())
    source = found.source
    if options.json_:
        print(json.dumps(found.to_json(), indent=2))
        return 0
    rows = [
        ["format", source.format],
        ["architecture", f"{found.architecture}, {found.parameters:,} parameters"],
        [
            "predicts patches",
            "yes" if found.has_prediction else "no (encoder only): probes of reconstructions need a decoder",
        ],
        ["sha256", source.sha256],
    ]
    rows += [["step", str(source.step)]] if source.step is not None else []
    rows += [["objective", source.objective]] if source.objective else []
    print_table(str(options.file), ["", "what it is"], rows)
    print_settings("read from the file", source.read, source.origins)
    print_settings("ASSUMED: the file does not state it (--NAME VALUE overrides)", source.assumed, source.origins)
    for note in source.notes:
        print(f"note: {note}")
    return 0


def print_settings(title: str, settings: dict[str, Any], origins: dict[str, str]) -> None:
    """A table of settings and where each comes from."""
    if settings:
        rows = [[name.replace("_", "-"), str(value), origins.get(name, "")] for name, value in settings.items()]
        print_table(title, ["setting", "value", "from"], rows)
