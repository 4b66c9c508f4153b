"""Which mask, ratio and unit? The grid of docs/results/masks.md and the verdicts of
docs/design-rules.md, from runs on this machine.

    uv run python -m benchmarks.masks_evidence --train digits --seeds 3
    uv run python -m benchmarks.masks_evidence --write

`--train` is `lcmae compare` with the lines below, and goes on where it was stopped, on another
machine too: what each run was asked and its row are kept in docs/results/masks/DATA.jsonl.gz,
without weights, and the losses of `lcmae compare --matrix` in DATA-matrix.nc. `--write` keeps them,
too, writes both pages from what is there, and says what is not. The advice is `--seeds 5`."""

import argparse
import gzip
import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from benchmarks.mask_rules import GRID_RULES, OTHER_RULES, from_claims, judge_all
from lcmae.probes.grids.cells import SETTINGS
from lcmae.probes.grids.ratio_verdict import FILE as MATRIX
from lcmae.probes.grids.ratio_verdict import read_matrix, sentences
from lcmae.probes.grids.run import CELL
from lcmae.probes.grids.table import TABLE, describe, read_json, read_table, write_table
from lcmae.probes.grids.verdict import Verdict, verdict

ROOT = Path(__file__).parents[1]
RUNS = Path("runs/masks")
GRID = "--masks random,block,grid,window --ratios 0.25,0.5,0.75,0.9 --units 1,2 --probes local_contrast,spectrum"
SMALL = (
    "--recipes cifar10 --set limit=4000 model.width=96 model.depth=4 model.heads=3 model.decoder_width=96 "
    "model.decoder_depth=2 model.decoder_heads=3 batch_size=128 base_lr=4e-3 clip=1.0"
)
LINES = {
    "digits": f"{GRID} --epochs 48",
    "cifar10": f"{GRID} --data cifar10 --epochs 20 {SMALL}",
    "hierarchy": f"{GRID} --data hierarchy:images=2048 --epochs 60",
}
"""What `lcmae compare` is given, by data set."""

MEASURES = {"mean_knn": "kNN accuracy, mean token", "mean_linear": "ridge accuracy, mean token"}


def command(data: str, seeds: int, runs: Path = RUNS) -> str:
    """The line that trains the grid."""
    return f"lcmae compare {LINES[data]} --seeds {seeds} --out {runs / data}"


def train(data: str, seeds: int, runs: Path, workers: int) -> int:
    """Train what is missing; exit code as `lcmae compare`."""
    from lcmae.app.cli import main as lcmae

    words = shlex.split(command(data, seeds, runs))[1:]
    return lcmae([*words, "--workers", str(workers)])


# --- what is kept ---


def keep(data: str, runs: Path, kept: Path) -> None:
    """Store what the runs of one data set were asked, and their rows: a line a run, by its name,
    below one of the settings and of what columns mean. The matrix of test ratios as it is."""
    folder = runs / data
    found = {cell.parent.name: read_json(cell) or {} for cell in sorted(folder.glob(f"*/{CELL}"))}
    if not found:
        return
    columns = {name: about for answer in found.values() for name, about in answer.pop("columns", {}).items()}
    lines = [{"settings": read_json(folder / SETTINGS), "columns": columns}]
    lines += [{"run": name, **answer} for name, answer in found.items()]
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    kept.mkdir(parents=True, exist_ok=True)
    (kept / f"{data}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    if (matrix := folder / "matrix" / MATRIX).is_file():
        shutil.copyfile(matrix, kept / f"{data}-matrix.nc")


def restore(data: str, runs: Path, kept: Path) -> None:
    """Lay down what was kept, where a run is not there; `lcmae compare` does not train it again."""
    file, folder = kept / f"{data}.jsonl.gz", runs / data
    if not file.is_file():
        return
    first, *lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    answers = {line.pop("run"): line for line in lines}
    for name, answer in answers.items():
        if not (folder / name / CELL).exists():
            (folder / name).mkdir(parents=True, exist_ok=True)
            own = {key: about for key, about in first["columns"].items() if key in answer["row"]}
            (folder / name / CELL).write_text(json.dumps({**answer, "columns": own}))
    if not (folder / TABLE).is_file():
        columns = {key: tuple(about) for key, about in first["columns"].items()}
        write_table([answer["row"] for answer in answers.values()], columns, folder / TABLE)
        (folder / SETTINGS).write_text(json.dumps(first["settings"]))
    matrix, own = kept / f"{data}-matrix.nc", folder / "matrix" / MATRIX
    if matrix.is_file() and not own.exists():
        own.parent.mkdir(exist_ok=True)
        shutil.copyfile(matrix, own)


# --- what is there ---


@dataclass(frozen=True)
class Found:
    """The runs of one data set."""

    data: str
    table: xr.Dataset
    asked: int
    """Runs that the last command asked for."""
    seeds: int
    untrained: dict[str, float]
    """Means over seeds of networks without training, and `pixels`, by measure."""
    pixels: dict[str, float]
    matrix: xr.Dataset | None

    @property
    def done(self) -> int:
        return int((self.table["status"].values == "done").sum())


def read(data: str, runs: Path) -> Found | None:
    """What is stored of a data set; None where no run is done."""
    folder = runs / data
    if not (folder / TABLE).is_file():
        return None
    asked = read_json(folder / SETTINGS) or {}
    table = read_table(folder / TABLE)
    if "done" not in table["status"].values:
        return None
    file = folder / "matrix" / MATRIX
    untrained, pixels = baselines(folder, table)
    return Found(
        data,
        table,
        len(asked.get("cells", [])),
        int(asked.get("settings", {}).get("seeds", 0)),
        untrained,
        pixels,
        read_matrix(file) if file.is_file() else None,
    )


def baselines(folder: Path, table: xr.Dataset) -> tuple[dict[str, float], dict[str, float]]:
    """Untrained networks of the runs' seeds, and raw pixels, measured as the runs were."""
    from lcmae.config import RunConfig
    from lcmae.settings import parse
    from lcmae.training.train import build_model, open_monitor, open_training_data

    sums: dict[str, list[float]] = {name: [] for name in MEASURES}
    pixels: dict[str, float] = {}
    done = [
        str(run) for run, status in zip(table["run"].values, table["status"].values, strict=True) if status == "done"
    ]
    first = {name.rpartition("-s")[2]: name for name in reversed(done)}
    for name in first.values():
        config = parse(RunConfig, (read_json(folder / name / CELL) or {})["asked"]["config"])
        monitor = open_monitor(config, open_training_data(config))
        if monitor is None:
            return {}, {}
        values = monitor(build_model(config))
        for measure in sums:
            sums[measure].append(values[measure])
        of_pixels = monitor.raw_pixels()
        pixels = {measure: of_pixels[measure.partition("_")[2]] for measure in sums}
    return {name: sum(values) / len(values) for name, values in sums.items() if values}, pixels


# --- docs/results/masks.md ---


def masks_page(found: dict[str, Found | None], runs: Path, note: str = "") -> str:
    """The whole file."""
    lines = [
        "# Which mask, ratio and unit? Results of small networks",
        "",
        "    python -m benchmarks.masks_evidence --train digits --seeds 5",
        *(
            ["    lcmae compare --matrix runs/masks/digits"]
            if any(one is not None and one.matrix is not None for one in found.values())
            else []
        ),
        "    python -m benchmarks.masks_evidence --write",
        "",
        "Written by the last command, not by hand. {random, block, grid, window} x {0.25, 0.5, 0.75, 0.9} x unit {1, 2} (units",
        "for random alone, the others have none), MAE, equal image-mask pairs. Verdicts are those of",
        "[lcmae compare](../compare.md): log odds, seeds as blocks, guarded variances, Holm. Rules that these runs can test:",
        "[design-rules](../design-rules.md).",
        "",
        *([note, ""] if note else []),
        "## What was left out",
        *left_out(found),
        "",
    ]
    for one in found.values():
        if one is not None:
            lines += section(one, runs)
    return "\n".join(lines).rstrip() + "\n"


def left_out(found: dict[str, Found | None]) -> list[str]:
    """Data sets, seeds and runs that are not there."""
    lines = []
    for data, one in found.items():
        if one is None:
            lines.append(f"- **{data}**: not run. `{command(data, 5)}`")
        elif one.done < one.asked or one.seeds < 5:
            missing = f"{one.asked - one.done} of its {one.asked} runs are missing; " if one.done < one.asked else ""
            lines.append(
                f"- **{data}**: {missing}{seeds_of(one)} where five are advised. `{command(data, 5)}` continues."
            )
    lines.append("- Objectives other than MAE, other widths, longer schedules, and every data set but those above.")
    return lines


def seeds_of(one: Found) -> str:
    """How many seeds the cells have."""
    counts = sorted({cell.num_seeds for cell in verdict(one.table, "mean_knn").cells})
    return f"{counts[0]} seeds per cell" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds per cell"


def section(one: Found, runs: Path) -> list[str]:
    """One data set: conditions, answers, table."""
    done = one.table.isel(row=one.table["status"].values == "done")
    seconds = float(done["train_seconds"].sum())
    verdicts = {name: verdict(one.table, name) for name in MEASURES if name in one.table}
    lines = [
        f"## {one.data}",
        "",
        f"    {command(one.data, one.seeds)}",
        "",
        f"{one.done} runs of {int(done['epochs'].max())} epochs ({int(done['steps'].max())} steps), {seeds_of(one)}; "
        f"{seconds / 60:.0f} minutes of training steps, {seconds / one.done:.0f} s per run.",
        "",
    ]
    for name, found in verdicts.items():
        lines.append(f"**{MEASURES[name]}.** {found.sentence()}")
        if name in one.untrained:
            lines.append(
                f"Untrained networks reach {one.untrained[name]:.1%}, raw pixels {one.pixels[name]:.1%}: "
                f"{_above(found, one.untrained[name])} above the untrained ones, {_above(found, one.pixels[name])} above pixels."
            )
        lines += [*found.notes(), ""]
    lines += [*cell_table(verdicts), ""]
    if one.matrix is not None:
        lines += ["Tested at other ratios than trained at (`lcmae compare --matrix`):", ""]
        lines += [f"- {line}" for line in sentences(one.matrix)] + [""]
    return lines


def _above(found: Verdict, level: float) -> str:
    """Cells whose interval lies above a level."""
    over = sum(cell.low > level for cell in found.cells)
    return f"{over} of {len(found.cells)} cells are beyond chance"


def cell_table(verdicts: dict[str, Verdict]) -> list[str]:
    """A row a cell, in the order of the first measure."""
    first = next(iter(verdicts.values()))
    lines = [
        "| mask, ratio | seeds | " + " | ".join(f"{MEASURES[name]} | difference | verdict" for name in verdicts) + " |"
    ]
    lines.append("|---|---" + "|---|---|---" * len(verdicts) + "|")
    for cell in first.cells:
        row = [describe(cell.key).partition(", ")[2], str(cell.num_seeds)]
        for found in verdicts.values():
            mine = next(other for other in found.cells if other.key == cell.key)
            change = (
                "" if mine.word == "baseline"
                else f"{100 * mine.change:+.1f} ({100 * mine.change_low:+.1f} to {100 * mine.change_high:+.1f})"
            )  # fmt: skip
            best = "may be best" if mine.may_be_best else "not best"
            row += [f"{mine.mean:.1%} ({mine.low:.1%} to {mine.high:.1%})", change, f"{best}, {mine.word}"]
        lines.append("| " + " | ".join(row) + " |")
    lines.append("")
    lines.append(
        "Intervals: 95 % over seeds. Differences to the baseline in points, each interval alone; verdicts (of all cells, "
        "then against the baseline) hold for all cells together."
    )
    return lines


# --- docs/design-rules.md ---


def rules_page(found: dict[str, Found | None]) -> str:
    """The whole file."""
    tables = {data: one.table for data, one in found.items() if one is not None}
    judged = judge_all(tables)
    words = [one.word for one in judged]
    lines = [
        "# Design rules of masked autoencoders, tested on runs",
        "",
        "    python -m benchmarks.masks_evidence --write",
        "",
        "Written by this command from the runs of [results/masks.md](results/masks.md), not by hand: of the numbers below "
        f"{words.count('holds')} hold, {words.count('contradicted')} are contradicted, {words.count('not decidable')} are not "
        f"decidable with these runs; {len(OTHER_RULES)} rules were not tested here.",
        "",
        "A rule is a difference between means of cells, with the sign that its source gives it (benchmarks/mask_rules.py).",
        "*Holds*: the whole interval lies on the rule's side. *Contradicted*: all of it on the other. Verdicts are by",
        f"intervals that hold for all {len(judged)} numbers together with 95 % (Bonferroni), by guarded variances over seeds;",
        "other test images are a second error. These are small networks after short training: a rule that holds or fails here",
        "may behave differently at its intended scale.",
        "",
        "## Tested here",
        "",
        "| rule | source | data, measure | difference, points | 95 %, alone | 95 %, together | verdict |",
        "|---|---|---|---|---|---|---|",
        *(one.row() for one in judged),
        "",
        "Differences:",
        *(f"- *{rule.name}*: {rule.words}" for rule in GRID_RULES),
        "",
        "## Not tested here",
        "",
        "| rule | source | why not, and what is known here |",
        "|---|---|---|",
        *(
            f"| {rule.name} | {rule.source} | {rule.why}{from_claims(rule.claims, ROOT / 'docs' / 'results' / 'claims.md')} |"
            for rule in OTHER_RULES
        ),
        "",
    ]
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="*", choices=sorted(LINES), default=[], help="data sets to train on")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each cell (default 5)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs (default runs/masks)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--write", action="store_true", help="write docs/results/masks.md and docs/design-rules.md")
    parser.add_argument("--note", default="", help="a sentence on the machine, for docs/results/masks.md")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the two files (default docs)")
    options = parser.parse_args(arguments)
    kept = options.docs / "results" / "masks"
    for data in LINES:
        restore(data, options.runs, kept)
    for data in options.train:
        try:
            code = train(data, options.seeds, options.runs, options.workers)
        finally:  # what is done is kept when a signal ends the rest, too
            keep(data, options.runs, kept)
        if code:
            return code
    if options.write:
        for data in LINES:
            keep(data, options.runs, kept)
        found = {data: read(data, options.runs) for data in LINES}
        (options.docs / "results").mkdir(parents=True, exist_ok=True)
        (options.docs / "results" / "masks.md").write_text(masks_page(found, options.runs, options.note))
        (options.docs / "design-rules.md").write_text(rules_page(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
