"""`lcmae compare`: a grid of runs at equal compute -> table.parquet, and a printed summary with
intervals."""

import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.image_options import ImageOptions, source_name
from lcmae.app.command_line.tables import print_table
from lcmae.app.command_line.without_server import expect_no_server
from lcmae.errors import InputError
from lcmae.probes.grids.cells import Comparison
from lcmae.probes.jobs.executors import Engine
from lcmae.processes import cores
from lcmae.progress import clock, tell

if TYPE_CHECKING:
    from lcmae.probes.grids.verdict import CellVerdict, Verdict

LISTS = ("test-ratios", "masks", "ratios", "units", "schedules", "objectives", "probes", "set")
"""Options whose values may be separated by commas."""

MEASURES = {
    "What is learned": {
        "mean_knn": "kNN",
        "mean_linear": "linear",
        "mean_effective_rank": "effective rank",
        "train_seconds": "training, s",
        "train_gflop": "GFLOP",
    },
    "What the masked loss is made of": {
        "local_contrast.loss": "loss",
        "local_contrast.term_unbiased[invariance]": "invariance",
        "local_contrast.term_unbiased[local_consistency]": "local cons.",
        "local_contrast.term_unbiased[global_consistency]": "global cons.",
        "local_contrast.term_unbiased[offset]": "offset",
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
    return 1 if Path("/dev/nvidiactl").exists() else min(cores(), 8)


class CompareArguments(Comparison, Engine, ImageOptions):
    """Compare masks, ratios, mask units, schedules and objectives at equal image-mask pairs, FLOP
    or seconds: one table with one row per run. Finished runs are not repeated; interrupted ones
    continue."""

    out: Path = Path("runs/compare")
    """Folder for the runs, the table (table.parquet) and the settings (comparison.json)."""

    workers: int = Field(default_factory=processes, ge=1)
    """Local processes at a time, by default one per core (at most 8), or 1 with a GPU; 1 runs the
    jobs in this process, one after the other. At most this many Slurm jobs at a time."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default a GPU where the worker has one."""

    race: bool = False
    """Begin with short schedules of all cells, and continue with those that may still be the best
    for kNN: three rungs of an eighth, a quarter and all of the epochs (lcmae.probes.grids.racing).
    If cells cannot be told apart, none is dropped, and the race costs a quarter more than the
    grid."""

    predict: Path | None = None
    """Train nothing: over the comparisons below this folder, how well does each stored number
    predict `--target`, and would choosing by it beat "always random 0.75"?"""

    matrix: Path | None = None
    """Train nothing: loss and features of every run below this folder at each of `--test-ratios`,
    as a table here and heat maps in FOLDER/matrix/matrix.html."""

    test_ratios: tuple[float, ...] = Field(default=(0.0, 0.25, 0.5, 0.75, 0.9), min_length=1)
    """Masking ratios that `--matrix` tests at; 0 is whole images."""

    target: str = "mean_knn"
    """Measure that `--predict` predicts: mean_knn, mean_linear, or another column."""

    baseline: str | None = None
    """Cell that the others are compared with, as named in the table: "random, 0.75"; by default MAE
    with random masks of 0.75, or the random masks nearest to it."""


def run(arguments: Sequence[str]) -> int:
    """Compare; exit code 1 where a cell failed (the others are in the table), 128 + signal where
    one ended it early."""
    options = parse_arguments(CompareArguments, split_lists(arguments), command="compare")
    refuse_combinations(options)
    if options.predict is not None:
        from lcmae.app.command_line.predictions import print_predictions
        from lcmae.probes.grids.prediction import predict

        print_predictions(predict(options.predict, options.target))
        return 0
    if options.matrix is not None:
        return run_matrix(options.matrix, options)
    comparison = Comparison.model_validate(
        {name: getattr(options, name) for name in Comparison.model_fields}
        | {"data": source_name(options.data, options.value_range, options.bands)}
    )
    engine = Engine.model_validate({name: getattr(options, name) for name in Engine.model_fields})

    from lcmae.probes.grids.cells import cells
    from lcmae.probes.grids.run import compare
    from lcmae.probes.grids.table import TABLE, read_table
    from lcmae.probes.grids.verdict import parse_baseline

    if options.baseline is not None:  # found out now, not after the last run
        parse_baseline(options.baseline, list(dict.fromkeys(cell.settings for cell in cells(comparison))))

    def begin(done: int, total: int) -> None:
        at_a_time = min(engine.workers, total - done)
        how = f", {at_a_time} at a time; their output is in {options.out / 'logs'}" if at_a_time > 1 else ""
        print(f"compare: {done} of {total} runs done before{how}", file=sys.stderr, flush=True)

    if options.race:
        return run_race(comparison, engine, options, begin)
    result = compare(comparison, options.out, engine, device=options.device, begin=begin, report=report)
    failed = [row for row in result.rows if row["status"] == "failed"]
    for row in failed:
        print(f"lcmae compare: {row['run']}: {row['error']}", file=sys.stderr)
    if len(failed) < len(result.rows):
        summary(read_table(options.out / TABLE), options.baseline)
        say_equal(comparison, engine, options)
    print(options.out / TABLE)
    if result.stopped_by is not None:
        print("stopped; the same command continues from here", file=sys.stderr)
        return 128 + result.stopped_by
    return 1 if failed else 0


def run_race(
    comparison: Comparison, engine: Engine, options: CompareArguments, begin: Callable[[int, int], None]
) -> int:
    """Race, saying after each rung who goes on; the last rung's table is summed up."""
    from lcmae.probes.grids.budget import WORDS
    from lcmae.probes.grids.cells import cells
    from lcmae.probes.grids.racing import FILE, RungResult, race, rungs
    from lcmae.probes.grids.table import TABLE, describe, read_table

    plan, ended = rungs(comparison.seeds), []

    def report_run(row: dict[str, Any], done: int, total: int, seconds_left: float) -> None:
        report(row, done, total, seconds_left, f"rung {len(ended) + 1} of {len(plan)}, runs")

    def after(number: int, rung: RungResult) -> None:
        ended.append(number)
        is_last = number == len(plan)
        epochs = f"{rung.epochs} epoch{'' if rung.epochs == 1 else 's'}"
        verb = "may be the best" if is_last else "go on"
        why = "" if is_last else f" (if its order correlates by {rung.assumed:.2f} with the last rung's)"
        lines = [
            f"rung {number}: {rung.seeds} seeds of {epochs}, {len(rung.survivors)} of {len(rung.means)} cells "
            f"{verb}{why}: {'; '.join(map(describe, rung.survivors))}"
        ]
        if rung.returned and rung.agreement is not None:
            back = "; ".join(map(describe, rung.returned))
            lines.append(
                f"the orders of rungs {number - 1} and {number} correlate by {rung.agreement:.2f}, too little for what rung "
                f"{number - 1} dropped; it comes back: {back}"
            )
        print("\n".join(lines), file=sys.stderr, flush=True)

    result = race(
        comparison, options.out, engine, plan=plan, device=options.device, begin=begin, report=report_run, after=after
    )
    if result.stopped_by is not None:
        print("stopped; the same command continues from here", file=sys.stderr)
        return 128 + result.stopped_by
    table = options.out / f"rung-{len(result.rungs)}" / TABLE
    summary(read_table(table), options.baseline)
    say_equal(comparison, engine, options)
    seeds = plan[-1].seeds
    num_cells = len({cell.settings for cell in cells(comparison)})
    print(
        f"\nThe race took {1 - result.saved(num_cells, seeds):.0%} of the whole grid's {WORDS[comparison.equal]} "
        f"({seeds} seeds)."
    )
    for number, (correlation, regret) in enumerate(result.agreement(), start=1):
        order = "too few cells for an order" if math.isnan(correlation) else f"rank correlation {correlation:.2f}"
        choice = f"is {regret:.2g} in log odds behind the last rung's" if regret > 0 else "is the last rung's, too"
        print(f"Rung {number} against the last: {order}; its best cell {choice}.")
    print(options.out / FILE)
    return 0


def refuse_combinations(options: CompareArguments) -> None:
    """`InputError` for options that exclude each other."""
    asked = [f"--{name}" for name in ("race", "untrained") if getattr(options, name)]
    asked += [f"--equal {options.equal}"] if options.equal != "pairs" else []
    asked += ["--predict"] if options.matrix is not None and options.predict is not None else []
    for name in ("matrix", "predict"):
        if getattr(options, name) is not None and asked:
            raise InputError(f"expected --{name} FOLDER alone, as it trains nothing; got also {asked[0]}")
    if options.untrained and len(asked) > 1:
        other = next(one for one in asked if one != "--untrained")
        raise InputError(f"expected --untrained alone, as it trains nothing; got also {other}")


def run_matrix(folder: Path, options: CompareArguments) -> int:
    """Every run below a folder at every test ratio; the answer, the tables, and the page."""
    from lcmae.app.command_line.arguments import check_device

    expect_no_server()
    from lcmae.app.matrix_page import PAGE, document, print_matrix
    from lcmae.probes.grids.ratio_matrix import matrix
    from lcmae.progress import ProgressBar
    from lcmae.runs.run import find_runs, write_atomically

    check_device(options.device)
    out = folder / "matrix"
    with ProgressBar("matrix", max(1, len(find_runs(folder)))) as bar:
        found = matrix(
            folder,
            out,
            options.test_ratios,
            images=options.images,
            device=options.device,
            report=lambda *_: bar.advance(),
        )
    write_atomically(out / PAGE, document(found, str(folder)).encode("utf-8", "backslashreplace"))
    print_matrix(found)
    print(out / PAGE)
    return 0


def say_equal(comparison: Comparison, engine: Engine, options: CompareArguments) -> None:
    """What all runs got the same of, where it is not image-mask pairs."""
    from lcmae.probes.grids.budget import budget_of

    budget = budget_of(comparison, options.out, engine, options.device)
    if budget is not None:
        print(f"\n{budget.sentence()}")


def report(row: dict[str, Any], done: int, total: int, seconds_left: float, label: str = "runs") -> None:
    """A line for each run."""
    if tell(label, done, total, seconds_left, str(row["run"])):
        return
    what = f"kNN {row['mean_knn']:.1%}" if row.get("mean_knn") is not None else row["status"]
    what = f"failed: {row['error']}" if row["status"] == "failed" else what
    print(f"compare {done}/{total}, {clock(seconds_left)} left: {row['run']} {what}", file=sys.stderr, flush=True)


def summary(table: Any, baseline: str | None = None) -> None:
    """The answer for each measure with a better end in a sentence, then the cells, best first."""
    from lcmae.probes.grids.table import by_cell, measures
    from lcmae.probes.grids.verdict import parse_baseline, verdict

    known = measures(table)
    for title, labels in MEASURES.items():
        found = []
        for name in (name for name in labels if name in known):
            wanted = None if baseline is None else parse_baseline(baseline, list(by_cell(table, name)))
            found.append(verdict(table, name, wanted))
        if found:
            show(title, found, [labels[one.measure] for one in found])


def show(title: str, verdicts: Sequence["Verdict"], labels: Sequence[str]) -> None:
    """Measures of the same cells: sentences, notes of the first, and one table in its order."""
    from lcmae.probes.grids.table import describe

    first = verdicts[0]
    print()
    for found, label in zip(verdicts, labels, strict=True):
        if found.direction:
            print(f"{label}: {found.sentence()}")
    for note in first.notes():
        print(note)
    is_ratio = first.scale == "logarithm"
    header = [
        "objective, mask, ratio",
        "seeds",
        labels[0],
        "95 %",
        "ratio" if is_ratio else "difference",
        "95 %",
        *(["may be best"] if first.direction else []),
        "against baseline",
        "more seeds",
        *labels[1:],
    ]
    decimals = [
        _decimals([cell.high - cell.low for cell in found.cells], [cell.mean for cell in found.cells])
        for found in verdicts
    ]
    changes = _decimals(
        [cell.change_high - cell.change_low for cell in first.cells], [cell.change for cell in first.cells]
    )
    rows = []
    for cell in first.cells:
        change = [_fixed(cell.change, changes, sign=not is_ratio), _range(cell.change_low, cell.change_high, changes)]
        rest = []
        for found, digits in zip(verdicts[1:], decimals[1:], strict=True):
            mine = next((other for other in found.cells if other.key == cell.key), None)
            rest.append("-" if mine is None else _with_reach(mine, digits))
        rows.append([
            describe(cell.key), str(cell.num_seeds), _fixed(cell.mean, decimals[0]), _range(cell.low, cell.high, decimals[0]),
            *(["", ""] if cell.word == "baseline" else change),
            *(["yes" if cell.may_be_best else "no"] if first.direction else []), _word(first, cell), _needed(cell), *rest,
        ])  # fmt: skip
    note = (
        f"{NOTES[title]} Means over seeds (± or range: 95 %, without seed effects that all cells share), by {first.scale}; "
        f"{'ratio' if is_ratio else 'difference'} to the baseline, its interval alone; what may be best of all, and what is "
        "better or worse than the baseline, holds for all cells together. More seeds: those that would "
        "decide the difference alone with 80 % power; >40: not within 40."
    )
    print_table(title, header, rows, note=note)


def _word(found: "Verdict", cell: "CellVerdict") -> str:
    """How a cell stands to the baseline."""
    if cell.word in ("higher", "lower") and found.direction:
        return "better" if (cell.word == "higher") == (found.direction > 0) else "worse"
    return cell.word


def _needed(cell: "CellVerdict") -> str:
    """Further seeds that would decide it; nothing where it is decided or where nothing can be
    said."""
    if cell.word != "undecided":
        return ""
    return ">40" if cell.seeds_needed is None else str(cell.seeds_needed)


def _with_reach(cell: "CellVerdict", digits: int) -> str:
    mean = _fixed(cell.mean, digits)
    return mean if math.isnan(cell.high) else f"{mean} ± {_fixed((cell.high - cell.low) / 2, digits)}"


def _decimals(widths: Sequence[float], values: Sequence[float]) -> int:
    """Decimals of a column: two digits of the typical interval, else three of the largest value."""
    # equal values differ by rounding
    least = 1e-9 * max(map(abs, values), default=0)
    finite = sorted(width / 2 for width in widths if math.isfinite(width) and width > least)
    step = finite[len(finite) // 2] / 10 if finite else max(map(abs, values)) / 1000
    return 0 if step <= 0 else min(9, max(0, math.ceil(-math.log10(step) - 1e-9)))


def _fixed(value: float, digits: int, *, sign: bool = False) -> str:
    return "-" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def _range(low: float, high: float, digits: int) -> str:
    return "-" if math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"


def split_lists(arguments: Sequence[str], lists: Sequence[str] = LISTS) -> list[str]:
    """`--masks random,block` and `--masks=random,block` mean `--masks random block`."""
    words: list[str] = []
    in_list = False
    for argument in arguments:
        option = re.fullmatch(r"--([a-z-]+)(?:=(.*))?", argument, re.DOTALL)
        if option:
            in_list = option[1] in lists
            if in_list and option[2] is not None:
                words += [f"--{option[1]}", *_parts(option[2])]
            else:
                words.append(argument)
        else:
            words += _parts(argument) if in_list else [argument]
    return words


def _parts(word: str) -> list[str]:
    parts = [part.strip() for part in word.split(",")]
    if not all(parts):
        raise InputError(f"expected values separated by commas, got {word!r}")
    return parts
