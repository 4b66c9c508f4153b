"""Tables of docs/gpu, from what a machine sent back.

    python -m benchmarks.gpu.read FOLDER ... --out docs/gpu
    # what was trained, one folder a run: runs that every command takes, where weights came back
    python -m benchmarks.gpu.read FOLDER ... --runs runs/gpu

Each FOLDER holds the results.json of one call of `benchmarks.gpu.run`; of a step that several calls
did, the last one counts. Results of a CPU are printed, marked as a trial, and never written.
"""

import argparse
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.bring import ARCHIVE
from benchmarks.gpu.record import read_json
from benchmarks.gpu.run import RESULTS

MEASURES = {
    "cls_linear_probe": ("linear probe, class token %", 100.0),
    "mean_linear_probe": ("linear probe, mean token %", 100.0),
    "cls_ridge": ("ridge, class token %", 100.0),
    "mean_ridge": ("ridge, mean token %", 100.0),
    "cls_knn": ("kNN, class token %", 100.0),
    "mean_knn": ("kNN, mean token %", 100.0),
    "cls_effective_rank": ("effective rank, class token", 1.0),
    "mean_effective_rank": ("effective rank, mean token", 1.0),
    "loss": ("last loss", 1.0),
    "seconds": ("training, s", 1.0),
}
TRIAL = "A TRIAL ON A CPU: sizes and times say nothing about a GPU."


def pages(calls: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Text by name of the file in docs/gpu, of those steps that measured something."""
    steps = {name: entry for call in calls for name, entry in call["steps"].items() if entry.get("parts")}
    found = {"calls.md": calls_page(calls)}
    if "steps" in steps:
        found["steps.md"] = steps_page(steps["steps"])
    if "probes" in steps:
        found["probes.md"] = probes_page(steps["probes"])
    if "cifar" in steps and rows_of(steps["cifar"]):
        found["cifar10.md"] = cifar_page(steps["cifar"])
    if any(call["device"] != "cuda" for call in calls):
        return {name: f"{TRIAL}\n\n{text}" for name, text in found.items()}
    return found


def calls_page(calls: Sequence[Mapping[str, Any]]) -> str:
    """What was run where, what failed or was left out, tests, roof."""
    lines = ["# What was run", ""]
    for call in calls:
        machine = call["machine"]
        lines += [
            f"    {call['command']}",
            "",
            f"{call['began']}, {call.get('seconds', '?')} s; revision {call['revision']}.",
        ]
        lines += [f"{machine['gpu']}; {machine['cores']} cores, Python {machine['python']}, {machine['system']}."]
        if "stopped" in call:
            lines += [f"Stopped by {call['stopped']}."]
        lines += ["", "| step | | seconds | measured | not measured |", "|---|---|---|---|---|"]
        for name, entry in call["steps"].items():
            lines.append(
                f"| {name} | {entry['state']} | {entry.get('seconds', 0):.0f} | {_measured(entry)} | {_missing(entry)} |"
            )
        lines += [""]
        lines += _tests(call["steps"].get("tests", {})) + _roof(call["steps"].get("roof", {}))
    return "\n".join(lines).rstrip() + "\n"


def _measured(entry: Mapping[str, Any]) -> str:
    return ", ".join(entry.get("parts", {})) or "nothing"


def _missing(entry: Mapping[str, Any]) -> str:
    """Reasons, and the last line of each traceback."""
    found = [entry["reason"]] if "reason" in entry else []
    found += [f"{part} {reason}".strip() for part, reason in entry.get("skipped", {}).items()]
    found += [f"{part} {text.strip().splitlines()[-1]}".strip() for part, text in entry.get("problems", {}).items()]
    return "; ".join(found).replace("|", "/") or "-"


def _tests(entry: Mapping[str, Any]) -> list[str]:
    outcomes: Mapping[str, str] = entry.get("parts", {}).get("outcomes", {})
    if not outcomes:
        return []
    counts = ", ".join(f"{list(outcomes.values()).count(word)} {word}" for word in dict.fromkeys(outcomes.values()))
    bad = [f"`{name}` {outcome}" for name, outcome in outcomes.items() if outcome in ("failed", "error")]
    return [f"Tests on the device: {counts}.{''.join(f' {each}.' for each in bad)}", ""]


def _roof(entry: Mapping[str, Any]) -> list[str]:
    parts: Mapping[str, Any] = entry.get("parts", {})
    rates = [
        f"{name}: product of {rate['side']} x {rate['side']} matrices {rate['flops'] / 1e12:.3g} TFLOP/s, "
        f"copy of {rate['copy_bytes'] / 2**30:.3g} GiB {rate['bytes'] / 1e12:.3g} TB/s (read and written)."
        for name, rate in parts.items()
        if isinstance(rate, dict) and "flops" in rate
    ]
    versions = parts.get("versions")
    return ["Best of ten. " + " ".join(rates), "", f"{versions}", ""] if rates else []


def steps_page(entry: Mapping[str, Any]) -> str:
    """The tables of `benchmarks.train`, one after another."""
    from benchmarks.train import Row, markdown

    texts = [markdown(part["about"], [Row(**row) for row in part["rows"]]) for part in entry["parts"].values()]
    return "\n".join(texts) + _problems(entry)


def probes_page(entry: Mapping[str, Any]) -> str:
    """The tables of `benchmarks.probes`."""
    from benchmarks.probes import Alone, Beside, Growth, Measured, markdown
    from benchmarks.work_done import Cost

    part = entry["parts"]["tables"]
    found = part["found"]
    measured = Measured(
        found["num_images"],
        [Alone(**{**row, "cost": row["cost"] and Cost(**row["cost"])}) for row in found["alone"]],
        {title: [Beside(**row) for row in rows] for title, rows in found["slow"].items()},
        [Growth(**row) for row in found["growth"]],
    )
    return markdown(part["about"], measured) + _problems(entry)


def _problems(entry: Mapping[str, Any]) -> str:
    missing = _missing(entry)
    return "" if missing == "-" else f"\nNot measured: {missing}\n"


def rows_of(entry: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """What was asked of each finished run, by name."""
    return {name: part for name, part in entry["parts"].items() if "epochs" in part and "step" in part}


def cifar_page(entry: Mapping[str, Any]) -> str:
    """Means and intervals over seeds, every run, what the differences say, and what is not done."""
    from benchmarks.cifar10 import VARIANTS
    from benchmarks.cifar10_table import PUBLISHED, Finished, answer, interval, questions

    plan, rows = entry["parts"]["plan"], rows_of(entry)
    by_variant: dict[str, list[str]] = {}
    for name in rows:
        by_variant.setdefault(name.rpartition("-s")[0], []).append(name)
    judged = next(iter(rows.values()))
    lines = [
        "# CIFAR-10 in minutes on one GPU: ViT-Tiny, patch 4",
        "",
        f"{plan['epochs']} epochs of one mask an image (half as many with two: equal image-mask pairs), batch "
        f"{plan['batch']}, `{plan['mode']}`, {plan['at_once']} runs at once. Frozen features of "
        f"{judged.get('test_images', 0):,.0f} unmasked test images, {judged.get('train_images', 0):,.0f} training images known; "
        "linear probe as in lcmae/probes/measures/linear_probe.py. Means and 95 % intervals over seeds (Student's t). "
        "Seconds are those of a run's steps while others ran beside it.",
        "",
        f"| | seeds | {' | '.join(title for title, _ in MEASURES.values())} |",
        f"|{'---|' * (len(MEASURES) + 2)}",
    ]
    for variant, names in by_variant.items():
        cells = [
            _cell([rows[name][key] * scale for name in names if rows[name].get(key) is not None], interval)
            for key, (_, scale) in MEASURES.items()
        ]
        lines.append(f"| {variant} | {len(names)} | {' | '.join(cells)} |")
    for objective, published in PUBLISHED.items():
        lines.append(f"| published {objective}, ViT-Tiny | - | {published} | {' | '.join('-' * (len(MEASURES) - 1))} |")
    lines += [
        "",
        "Published: slides of 2210.08344; which feature, patch size, epochs and data they had is not known.",
        "",
    ]
    lines += [
        "## Differences",
        "",
        "Linear probe of the class token, points, paired by seed; 95 % over all of one question (Bonferroni).",
    ]
    runs = [
        Finished(
            variant,
            VARIANTS[variant][0],
            int(name.rpartition("-s")[2]),
            {"linear cls": 100 * rows[name]["cls_linear_probe"]},
            {},
            "cifar10",
            "",
        )
        for variant, names in by_variant.items()
        for name in names
        if "cls_linear_probe" in rows[name]
    ]
    for question, verdicts in questions(runs).items():
        lines += ["", f"**{question}** {answer(verdicts)}", ""]
        lines += [
            f"- {each.ours} over {each.other}: {each.difference:+.2f} ± {each.half_width:.2g} ({each.word})"
            for each in verdicts
        ]
    lines += [
        "",
        "## Every run",
        "",
        f"| | epochs | steps | image-mask pairs | {' | '.join(title for title, _ in MEASURES.values())} |",
    ]
    lines += [f"|{'---|' * (len(MEASURES) + 4)}"]
    for name, row in rows.items():
        cells = [
            _cell([row[key] * scale] if row.get(key) is not None else [], interval)
            for key, (_, scale) in MEASURES.items()
        ]
        lines.append(f"| {name} | {row['epochs']} | {row['step']} | {row['pairs']:,} | {' | '.join(cells)} |")
    unfinished = entry["parts"].get("unfinished", {})
    if missing := [name for name in plan["jobs"] if name not in rows]:
        lines += [
            "",
            "Not finished: "
            + ", ".join(f"{name} (stored steps {unfinished.get(name) or 'none'})" for name in missing)
            + ".",
        ]
    return "\n".join(lines) + "\n" + _problems(entry)


def _cell(values: Sequence[float], interval: Any) -> str:
    return interval(values) if values else "-"


def unpack(folder: Path, target: Path) -> list[str]:
    """A folder for each run: a run that every command takes where its weights came back, else what
    is small of it."""
    from lcmae.app.commands.zoo import copy

    if not (folder / ARCHIVE).is_file():
        return []
    with tempfile.TemporaryDirectory() as place, tarfile.open(folder / ARCHIVE) as tar:
        tar.extractall(place, filter="data")
        found = sorted(Path(place).iterdir())
        for run in found:
            if (weights := folder / f"{run.name}.safetensors").is_file():
                shutil.copyfile(weights, run / "model.safetensors")
                copy(run, target / run.name)
                shutil.copyfile(run / "classified.json", target / run.name / "classified.json")
            else:
                shutil.copytree(run, target / run.name)
    return [run.name for run in found]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages; print them where they are of a CPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="what came back, one folder a call, in order")
    parser.add_argument("--out", type=Path, default=None, help="folder for the pages; printed by default")
    parser.add_argument("--runs", type=Path, default=None, help="folder for models and metrics")
    options = parser.parse_args(argv)
    calls = [read_json(folder / RESULTS) for folder in options.folders]
    if None in calls:
        parser.error(f"expected {RESULTS} in {options.folders[calls.index(None)]}, found none")
    if options.runs is not None:
        for folder in options.folders:
            print(f"{folder}: {', '.join(unpack(folder, options.runs)) or 'no runs'}")
    found = pages(calls)
    if options.out is None or next(iter(found.values())).startswith(TRIAL):
        print("\n".join(found.values()))
        if options.out is not None:
            print(f"expected results of a GPU for {options.out}, got a trial's: nothing written", file=sys.stderr)
            return 2
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in found.items():
        (options.out / name).write_text(text)
        print(options.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
