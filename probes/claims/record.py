"""What came of holding claims against runs: OUT/claims.json for the dashboard, a Markdown page for
people. No torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lcmae.errors import InputError
from lcmae.probes.claims.claim import Verdict
from lcmae.runs.durable import to_json, write_atomically
from lcmae.safety.files import MIB, read_regular
from lcmae.settings import Settings, parse

FILE = "claims.json"

SYMBOLS: dict[Verdict, str] = {"reproduced": "✓", "contradicted": "✗", "not decidable": "–"}


class Outcome(Settings):
    """One claim as it came out. Numbers are None where there is none."""

    id: str
    says: str
    source: str
    quantity: str
    units: str
    expected: str
    """The rule in words; empty for a claim that nothing here can be held against."""
    side: Literal["above", "below", "within"]
    level: float
    over: Literal["seeds", "images", "masks", "everything"]
    effect: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]
    """One a seed."""
    reads: tuple[str, ...]
    """What is read off the runs, as PROBE.VARIABLE[LABELS] of OBJECTIVE at RATIO."""
    verdict: Verdict
    reason: str
    leaves_open: str
    null: str = ""
    """What passes without training, with its number, where the effect is less that."""
    tests_a_model: bool = True
    """False where kernels, toys and trees alone are measured, and no trained network has a say."""
    page: str
    """Page of the dashboard that shows where the number comes from."""
    runs: tuple[str, ...]
    """Run folders, below the record's."""
    command: str


class Record(Settings):
    """All outcomes of one rerun, and how it was made."""

    outcomes: tuple[Outcome, ...]
    command: str
    written: str
    """Date and time, ISO 8601, UTC."""
    machine: str
    versions: str
    train_minutes: float
    """Training of all runs that were read, as they logged it."""


def write_record(record: Record, folder: Path) -> Path:
    """Write the record whole or not at all; returns its file."""
    file = folder / FILE
    write_atomically(file, to_json(record.model_dump(mode="json"), FILE))
    return file


def read_record(file: Path) -> Record:
    """`InputError` of one line for a missing, damaged or foreign file."""
    try:
        text = json.loads(read_regular(file, 64 * MIB))
    except OSError as error:
        raise InputError(f"expected the record of `lcmae claims` at {file}, got none: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"expected the record of `lcmae claims` at {file}, got a damaged or foreign file") from error
    if not isinstance(text, dict):
        raise InputError(f"expected the record of `lcmae claims` at {file}, got {type(text).__name__}")
    try:
        return parse(Record, text)
    except InputError as error:
        raise InputError(f"expected the record of `lcmae claims` at {file}, got another one: {error}") from error


def merged(older: Record | None, outcomes: Sequence[Outcome], order: Sequence[str]) -> tuple[Outcome, ...]:
    """New outcomes, and those of an older record of the same folder that were not made anew, in the
    order of the catalogue."""
    known = {one.id: one for one in (older.outcomes if older is not None else ())} | {one.id: one for one in outcomes}
    return tuple(known[name] for name in order if name in known)


# --- in words ---


def number(value: float | None) -> str:
    """Three digits and a sign."""
    return "-" if value is None else f"{value:+.3g}"


def interval(outcome: Outcome) -> str:
    """The effect with its interval and unit: "+0.94 [+0.71, +1.17] dimensions"."""
    if outcome.effect is None:
        return "-"
    units = "" if outcome.units == "1" else f" {outcome.units}"
    if outcome.low is None:
        return f"{number(outcome.effect)}{units}"
    return f"{number(outcome.effect)} [{number(outcome.low)}, {number(outcome.high)}]{units}"


def counts(outcomes: Sequence[Outcome]) -> str:
    """How many of each verdict: "12 reproduced, 3 contradicted, 20 not decidable"."""
    return ", ".join(f"{sum(one.verdict == verdict for one in outcomes)} {verdict}" for verdict in SYMBOLS)


def paper(outcome: Outcome) -> str:
    """The paper of a claim, without the place in it: up to and with its arXiv number."""
    name, separator, rest = outcome.source.rpartition(", 2")
    return f"{name}{separator}{rest.split(',')[0].split(' ')[0]}" if separator else outcome.source


OVER = {
    "seeds": "over seeds (Student's t; differences are paired by seed)",
    "images": "over images and the masks they share (Student's t)",
    "masks": "over masks (Student's t)",
    "everything": "none: enumerated",
}
"""What an interval is over, in words."""


def to_markdown(record: Record) -> str:
    """The page docs/results/claims.md."""
    measured = [one for one in record.outcomes if one.effect is not None]
    tested = sum(one.over == "seeds" for one in measured)
    seeds = max((len(one.values) for one in measured), default=0)
    lines = [
        "# Published claims, tested on small runs",
        "",
        f"    {record.command}",
        "",
        f"Written by this command on {record.written[:10]}, not by hand: {counts(record.outcomes)}. {record.machine}; "
        f"{record.versions}. {seeds} seeds; {record.train_minutes:.0f} minutes of training in all.",
        "",
        "`probes/claims/` has each claim with its number and its rule; the tables say where these were changed after a first "
        "look at runs. Where an untrained network would pass, the number is the trained network's *less the null*, which is "
        "shown beside it. *Reproduced*: the whole 95 % interval lies where the claim says. *Contradicted*: all of it lies on "
        "the other side. *Not decidable* at this scale: the interval holds the level that decides, or something that the "
        "claim needs is not available.",
        "",
        f"Intervals over {seeds} seeds are wide. If there were no effect, each of the {tested} would still confirm its claim "
        f"in 2.5 % of cases, {tested * 0.025:.1f} claims in all. Nothing here is evidence about ImageNet: these are networks "
        "of some hundred thousand parameters on 1,437 images of digits, and on synthetic images. A contradiction says that "
        "the claim's direction does not hold here, not that its authors did not see it there.",
    ]
    for name in dict.fromkeys(map(paper, record.outcomes)):
        mine = [one for one in record.outcomes if paper(one) == name]
        lines += [
            "",
            f"## {name}",
            "",
            "| claim | number | null | 95 % interval | expected | verdict |",
            "|---|---|---|---|---|---|",
        ]
        for one in mine:
            says = f"**{one.id}**: {one.says}"
            passage = one.source.removeprefix(name).strip(", ")
            says += f" ({passage})" if passage else ""
            says += "" if one.tests_a_model else " *Tests no model.*"
            verdict = f"{SYMBOLS[one.verdict]} {one.verdict}: {one.reason}"
            lines.append(
                f"| {_cell(says)} | {_cell(one.quantity)} | {_cell(one.null)} | {_cell(interval(one))} | {one.expected} | "
                f"{_cell(verdict)} |"
            )
        notes = [f"- *{one.id}*: {one.leaves_open}" for one in mine if one.leaves_open]
        lines += ["", "What these leave open:", *notes] if notes else []
    lines += ["", "## Where the numbers come from", "", "| claim | read | interval | again |", "|---|---|---|---|"]
    for one in measured:
        reads = "<br>".join(_cell(read) for read in one.reads)
        lines.append(f"| {one.id} | {reads} | {OVER[one.over]} | `{one.command}` |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or "-"
