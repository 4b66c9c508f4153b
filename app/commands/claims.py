"""`lcmae claims`: published claims in a small form, rerun at a stated cost; a table of verdicts, a
Markdown page, claims.json."""

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from lcmae.app.command_line.arguments import check_device, parse_arguments
from lcmae.app.command_line.tables import print_table
from lcmae.app.commands.compare import split_lists
from lcmae.errors import InputError
from lcmae.probes.claims.grids import IMAGES
from lcmae.probes.jobs.executors import Engine
from lcmae.runs.durable import make_folder, write_atomically

if TYPE_CHECKING:
    from lcmae.probes.claims.claim import Claim
    from lcmae.probes.claims.record import Record

DOC = Path("docs/results/claims.md")


class ClaimsArguments(Engine):
    """Test the claims of the papers on masked autoencoders on small runs: train and probe what is
    missing, and decide by each claim's own rule. Finished runs are not repeated; interrupted ones
    continue."""

    claims: tuple[str, ...] = ()
    """Claims by their id (see --list); all of them by default."""

    list: bool = False
    """List the claims, and do nothing."""

    seeds: int = Field(default=8, ge=2)
    """Runs of each cell, with seeds 0, 1, ...; intervals are over them. 8 were declared before any
    result was seen: their number must not depend on what they show."""

    out: Path = Path("runs/claims")
    """Folder for the runs and the record (claims.json)."""

    doc: Path | None = None
    """Markdown page; by default docs/results/claims.md if all claims are tested, otherwise
    claims.md in the folder of the runs."""

    epochs: int | None = Field(default=None, ge=1)
    """Epochs of each run instead of those that the claims were declared for. With fewer epochs
    nothing is decided: this is for trying out."""

    images: int = Field(default=IMAGES, ge=20)
    """Test images that the probes see."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default a GPU where there is one."""


def run(arguments: Sequence[str]) -> int:
    """Rerun; exit code 1 where a run failed (its claims are undecided), 128 + signal where one
    ended it early."""
    options = parse_arguments(ClaimsArguments, split_lists(arguments, ("claims",)), command="claims")

    from lcmae.probes.claims.catalogue import CLAIMS, chosen

    claims = chosen(options.claims)
    if options.list:
        listed(claims)
        return 0
    engine = Engine.model_validate({name: getattr(options, name) for name in Engine.model_fields})
    engine.check()
    if options.device is not None and engine.engine == "local":
        check_device(options.device)

    from lcmae.probes.claims.record import FILE, SYMBOLS, Record, counts, interval, merged, to_markdown, write_record
    from lcmae.probes.claims.rerun import Laboratory, cost, rerun, training_minutes

    lab = Laboratory(options.out, options.seeds, engine, options.epochs, options.images, options.device)
    total = cost(claims, lab)
    tell(
        f"claims: {len(total.training)} runs to train and {len(total.probing)} to probe, about {total.minutes:.0f} minutes "
        f"of one process here ({total.slowness:.1f} times as slow as the reference machine)"
    )
    make_folder(options.out)
    found = rerun(claims, lab, total, tell)
    if found.stopped_by is not None:
        tell("stopped; the same command continues from here")
        return 128 + found.stopped_by
    for cell, why in found.failures.items():
        tell(f"lcmae claims: {cell}: {why}")

    outcomes = merged(older(options.out / FILE), found.outcomes, list(CLAIMS))
    record = Record(
        outcomes=outcomes,
        command=shlex.join(["lcmae", "claims", *arguments]),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{os.cpu_count()} CPU cores ({platform.machine()})",
        versions=versions(),
        train_minutes=training_minutes(outcomes, options.out),
    )
    print_table(
        f"Published claims: {counts(found.outcomes)}",
        ["claim", "number [95 % interval]", "expected", "verdict"],
        [[one.id, interval(one), one.expected, f"{SYMBOLS[one.verdict]} {one.verdict}"] for one in found.outcomes],
    )
    print(write_record(record, options.out))
    doc = options.doc or (DOC if len(outcomes) == len(CLAIMS) else options.out / "claims.md")
    make_folder(doc.parent)
    write_atomically(doc, to_markdown(record).encode())
    print(doc)
    return 1 if found.failures else 0


def listed(claims: "Sequence[Claim]") -> None:
    """A line for each claim: id, statement, source."""
    width = max(len(claim.id) for claim in claims)
    for claim in claims:
        print(f"{claim.id:{width}}  {claim.says} ({claim.source})")


def older(file: Path) -> "Record | None":
    """The record that lies there; one that does not read is written anew."""
    from lcmae.probes.claims.record import read_record

    if not file.exists():
        return None
    try:
        return read_record(file)
    except InputError as error:
        tell(f"lcmae claims: {error}; a new one is written")
        return None


def versions() -> str:
    """Of what decides the numbers."""
    import torch

    import lcmae

    return f"lcmae {lcmae.__version__}, torch {torch.__version__}, Python {platform.python_version()}"


def tell(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)
