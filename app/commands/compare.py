"""`lcmae compare`: a grid of runs at equal compute -> table.parquet, and a printed summary with
intervals."""

import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.tables import number, print_table
from lcmae.errors import InputError
from lcmae.probes.grids.cells import Comparison
from lcmae.probes.jobs.executors import Engine
from lcmae.progress import clock

LISTS = ("masks", "ratios", "units", "objectives", "probes", "set")
"""Options whose values may be separated by commas."""

MEASURES = {
    "What is learned": {
        "mean_knn": "kNN",
        "mean_linear": "linear",
        "mean_effective_rank": "effective rank",
        "train_seconds": "training, s",
    },
    "What the masked loss is made of": {
        "local_contrast.loss": "loss",
        "local_contrast.term[invariance]": "invariance",
        "local_contrast.term[local_consistency]": "local cons.",
        "local_contrast.term[global_consistency]": "global cons.",
        "local_contrast.term[offset]": "offset",
    },
}
"""Columns that are printed, where the table has them; all the others are in the file."""

NOTES = {
    "What is learned": "kNN and linear: shares of test images, on the mean token of unmasked images.",
    "What the masked loss is made of": "The split is lcmae's own definition; test images, under the same masks for every run "
    "unless --own-masks.",
}


def processes() -> int:
    """How many runs at a time: small models on a CPU gain more from processes of one thread than
    from one of many; a GPU is for one process."""
    return 1 if Path("/dev/nvidiactl").exists() else min(os.cpu_count() or 1, 8)


class CompareArguments(Comparison, Engine):
    """Compare masks, ratios, mask units and objectives at equal image-mask pairs: one table, a row
    a run. What is done already is not done again, and what was interrupted goes on."""

    out: Path = Path("runs/compare")
    """Folder for the runs, the table (table.parquet) and the settings (comparison.json)."""

    workers: int = Field(default_factory=processes, ge=1)
    """Local processes at a time, by default one a core (at most 8), or 1 where there is a GPU; 1
    runs the jobs here, one after the other. At most this many Slurm jobs at a time."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default a GPU where the worker has one."""


def run(arguments: Sequence[str]) -> int:
    """Compare; exit code 1 where a cell failed (the others are in the table), 128 + signal where
    one ended it early."""
    options = parse_arguments(CompareArguments, split_lists(arguments), command="compare")
    comparison = Comparison.model_validate({name: getattr(options, name) for name in Comparison.model_fields})
    engine = Engine.model_validate({name: getattr(options, name) for name in Engine.model_fields})

    from lcmae.probes.grids.run import compare
    from lcmae.probes.grids.table import TABLE, read_table

    def begin(done: int, total: int) -> None:
        at_a_time = min(engine.workers, total - done)
        how = f", {at_a_time} at a time; what each says is in {options.out / 'logs'}" if at_a_time > 1 else ""
        print(f"compare: {done} of {total} runs done before{how}", file=sys.stderr, flush=True)

    result = compare(comparison, options.out, engine, device=options.device, begin=begin, report=report)
    failed = [row for row in result.rows if row["status"] == "failed"]
    for row in failed:
        print(f"lcmae compare: {row['run']}: {row['error']}", file=sys.stderr)
    if len(failed) < len(result.rows):
        summary(read_table(options.out / TABLE), comparison.seeds)
    print(options.out / TABLE)
    if result.stopped_by is not None:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + result.stopped_by
    return 1 if failed else 0


def report(row: dict[str, Any], done: int, total: int, seconds_left: float) -> None:
    """A line for each run."""
    what = f"kNN {row['mean_knn']:.1%}" if row.get("mean_knn") is not None else row["status"]
    what = f"failed: {row['error']}" if row["status"] == "failed" else what
    print(f"compare {done}/{total}, {clock(seconds_left)} left: {row['run']} {what}", file=sys.stderr, flush=True)


def summary(table: Any, num_seeds: int) -> None:
    """Means with the spread from seed to seed, and differences to the first cell with 95 %
    intervals."""
    from lcmae.probes.grids.table import by_cell, describe, measures, paired, summarise

    known = measures(table)
    for title, labels in MEASURES.items():
        names = [name for name in labels if name in known]
        values = {name: by_cell(table, name) for name in names}
        cells = list(dict.fromkeys(cell for name in names for cell in values[name]))
        if not cells:
            continue
        header = ["objective, mask, ratio", *(labels[name] for name in names)]
        rows = [
            [describe(cell), *(_cell(summarise(list(values[name].get(cell, {}).values())), "spread") for name in names)]
            for cell in cells
        ]
        spread = f"{num_seeds} seeds ± their standard deviation" if num_seeds > 1 else "1 seed"
        print_table(title, header, rows, note=f"Means over {spread}. {NOTES[title]}")
        if num_seeds > 1 and len(cells) > 1:
            baseline, *others = cells
            rows = [
                [describe(cell), *(_cell(paired(values[name].get(cell, {}), values[name].get(baseline, {})), "half_width")
                                   for name in names)]
                for cell in others
            ]  # fmt: skip
            note = "Mean over pairs of runs of the same seed ± half of its 95 % interval (Student's t)."
            print_table(f"Difference to {describe(baseline)}", header, rows, note=note)
    if num_seeds < 2:
        print("Intervals need --seeds 2 or more.")


def _cell(found: Any, error: str) -> str:
    """A mean with three digits, what is uncertain of it with one."""
    reach = getattr(found, error)
    mean = number(found.mean, digits=3)
    return mean if math.isnan(reach) else f"{mean} ± {float(f'{reach:.1g}'):g}"


def split_lists(arguments: Sequence[str], lists: Sequence[str] = LISTS) -> list[str]:
    """`--masks random,block` and `--masks=random,block` mean `--masks random block`."""
    words: list[str] = []
    inside = False
    for argument in arguments:
        option = re.fullmatch(r"--([a-z-]+)(?:=(.*))?", argument, re.DOTALL)
        if option:
            inside = option[1] in lists
            if inside and option[2] is not None:
                words += [f"--{option[1]}", *_parts(option[2])]
            else:
                words.append(argument)
        else:
            words += _parts(argument) if inside else [argument]
    return words


def _parts(word: str) -> list[str]:
    parts = [part.strip() for part in word.split(",")]
    if not all(parts):
        raise InputError(f"expected values separated by commas, got {word!r}")
    return parts
