"""`lcmae report RUN... --out report.html`: figures, tables and provenance in one self-contained
file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.without_server import expect_no_server
from lcmae.errors import InputError
from lcmae.settings import Settings


class ReportArguments(Settings):
    """Write the dashboard's figures, with captions and provenance, as one HTML file that needs no
    network."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders; or the folder of a comparison (`lcmae compare`), for its conclusions alone."""

    out: Path = Path("report.html")
    """The file to write."""


def run(arguments: Sequence[str]) -> int:
    """Write the report; prints its path."""
    options = parse_arguments(ReportArguments, arguments, command="report")

    expect_no_server()
    from lcmae.app.report import write_report

    if not options.runs:
        raise InputError("expected at least one run folder, got none")
    write_report(list(options.runs), options.out)
    print(options.out)
    return 0
