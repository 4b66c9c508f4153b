"""What finished runs of `benchmarks.cifar10` say: a table over seeds, and answers by rules that are
written beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from scipy.stats import t

from benchmarks.roof import step_operations, total_flops
from lcmae.config import RunConfig
from lcmae.probes.grids.table import paired, summarise
from lcmae.probes.results.networks import trained
from lcmae.probes.results.store import load_result
from lcmae.runs.run import Run

PUBLISHED = {"mae": 59.6, "umae": 68.9}
"""Linear accuracy in %, CIFAR-10, ViT-Tiny, by variant's objective: slides of "How Mask Matters"
(2210.08344); feature, patch size and epochs were not published."""

TERMS = ("invariance", "local_consistency", "global_consistency", "offset")
CLASSIFIERS = ("linear", "knn")
FEATURES = {"cls": "class token", "mean": "mean token"}
JUDGED_BY = "linear cls"
"""What the rules look at: linear accuracy of the class token, which U-MAE's term acts on."""

COLUMNS = {
    "linear cls": "linear, class token %",
    "linear mean": "linear, mean token %",
    "linear best": "linear, best block %",
    "knn cls": "kNN, class token %",
    "knn mean": "kNN, mean token %",
    "knn best": "kNN, best block %",
    "rank cls": "effective rank, class token",
    "rank mean": "effective rank, mean token",
    **{name: name.replace("_", " ") for name in TERMS},
    "seconds": "training, s",
    "petaflop": "PFLOP",
    "pairs": "image-mask pairs",
}


@dataclass(frozen=True)
class Finished:
    """One run: accuracies in %, ranks in dimensions, terms in the loss's own units."""

    variant: str
    objective: str
    seed: int
    numbers: dict[str, float]
    """By the names of `COLUMNS`."""

    layers: dict[str, dict[str, float]]
    """By classifier (linear, knn): accuracy after each block, in %, as "class token, block 7"."""

    data: str
    probed: str
    """How many images the probes saw."""


def read_finished(
    variant: str, objective: str, seed: int, run: Run, config: RunConfig, files: dict[str, str]
) -> Finished:
    """From the run's metrics and its stored results."""
    contrast, spectrum, transfer = (
        load_result(Path(files[name])) for name in ("local_contrast", "spectrum", "transfer")
    )
    contrast, spectrum = trained(contrast), trained(spectrum)
    numbers, layers = {}, {classifier: {} for classifier in CLASSIFIERS}
    for feature, words in FEATURES.items():
        for classifier in CLASSIFIERS:
            accuracy = transfer.accuracy.sel(classifier=classifier, network="trained", feature=feature)
            numbers[f"{classifier} {feature}"] = 100 * float(accuracy)
            by_layer = transfer.layer_accuracy.sel(classifier=classifier, network="trained", feature=feature)
            for layer in transfer.layer.values:
                layers[classifier][f"{words}, block {layer}"] = 100 * float(by_layer.sel(layer=layer))
        numbers[f"rank {feature}"] = float(spectrum.effective_rank.sel(feature=feature, view="full"))
    numbers |= {name: float(contrast.term.sel(part=name)) for name in TERMS}
    num_images = run.steps()[-1] * config.batch_size
    numbers["seconds"] = training_seconds(run)
    numbers["petaflop"] = total_flops(step_operations(config)) * num_images / 1e15
    numbers["pairs"] = float(num_images * config.objective.masks_per_image)
    probed = f"{transfer.attrs['num_images']} test and {transfer.attrs['num_train_images']} training images"
    return Finished(variant, objective, seed, numbers, layers, config.data, probed)


def training_seconds(run: Run) -> float:
    """Wall time of the steps, without looks, checkpoints and what a kill undid."""
    total, before = 0.0, 0
    for line in run.metrics():
        if "seconds_per_step" in line:
            total += line["seconds_per_step"] * (line["step"] - before)
            before = line["step"]
    return total


def with_best_layer(runs: Sequence[Finished]) -> tuple[list[Finished], dict[str, str]]:
    """The seeds of one variant with `linear best` and `knn best`, and which block that is: the best
    in the mean over seeds."""
    best = {
        classifier: max(
            runs[0].layers[classifier],
            key=lambda name, classifier=classifier: sum(run.layers[classifier][name] for run in runs),
        )
        for classifier in CLASSIFIERS
    }
    return [
        replace(
            run,
            numbers=run.numbers
            | {f"{classifier} best": run.layers[classifier][best[classifier]] for classifier in CLASSIFIERS},
        )
        for run in runs
    ], best


@dataclass(frozen=True)
class Verdict:
    """The difference of two variants' accuracies, paired by seed, with an interval that holds for
    all of `num_asked` at once."""

    ours: str
    other: str
    num_seeds: int
    difference: float
    half_width: float
    """NaN for one seed."""

    @property
    def word(self) -> str:
        """better, worse, or why neither can be said."""
        if self.num_seeds < 2:
            return "undecided (needs two seeds)"
        if abs(self.difference) <= self.half_width:
            return "undecided (the interval holds 0)"
        return "better" if self.difference > 0 else "worse"


def compared(runs: Sequence[Finished], ours: str, other: str, num_asked: int) -> Verdict:
    """95 % over all `num_asked` comparisons of one question (Bonferroni), by Student's t over
    seeds."""
    by_variant = {
        name: {run.seed: run.numbers[JUDGED_BY] for run in runs if run.variant == name} for name in (ours, other)
    }
    found = paired(by_variant[ours], by_variant[other])
    reach = math.nan
    if found.num_seeds > 1:
        quantile = float(t.ppf(1 - 0.025 / num_asked, found.num_seeds - 1))
        reach = quantile * found.spread / math.sqrt(found.num_seeds)
    return Verdict(ours, other, found.num_seeds, found.mean, reach)


def best_of(runs: Sequence[Finished], objective: str) -> str | None:
    """The variant of an objective with the largest mean accuracy; None where none has finished."""
    names = list(dict.fromkeys(run.variant for run in runs if run.objective == objective))
    means = {name: summarise([run.numbers[JUDGED_BY] for run in runs if run.variant == name]).mean for name in names}
    return max(means, key=means.__getitem__, default=None)


def questions(runs: Sequence[Finished]) -> dict[str, list[Verdict]]:
    """Each question with its comparisons, of variants that have finished."""
    names = {run.variant: run.objective for run in runs}
    lcmae = [name for name, objective in names.items() if objective == "lcmae"]
    umae = [name for name, objective in names.items() if objective == "umae"]
    best = best_of(runs, "umae")
    asked = {
        "Which U-MAE weight is better than MAE? (Published: 59.6 to 68.9 %, 9.3 points.)": (umae, "mae"),
        "Which LC-MAE weighting is better than MAE, at equal image-mask pairs?": (lcmae, "mae"),
        "Is any LC-MAE weighting better than the best U-MAE, at equal image-mask pairs?": (lcmae, best),
        "Is U-SimMIM better than SimMIM?": ([name for name in names if names[name] == "usimmim"], "simmim"),
    }
    return {
        question: [compared(runs, name, other, len(ours)) for name in ours]
        for question, (ours, other) in asked.items()
        if other in names and ours
    }


def answer(verdicts: Sequence[Verdict]) -> str:
    """One sentence."""
    better = [verdict.ours for verdict in verdicts if verdict.word == "better"]
    worse = [verdict.ours for verdict in verdicts if verdict.word == "worse"]
    open_ones = [verdict.ours for verdict in verdicts if verdict.word.startswith("undecided")]
    parts = {"Better": better, "Worse": worse, "Undecided": open_ones}
    return " ".join(f"{word}: {', '.join(names) or 'none'}." for word, names in parts.items())


def document(command: str, day: date, about: str, runs: Sequence[Finished], missing: int) -> str:
    """The whole page. `missing`: how many runs that were asked for have not finished."""
    lines = [f"# CIFAR-10, {about}", "", f"    {command}", ""]
    sources = " and ".join(sorted({run.data for run in runs}))
    seen = "; ".join(sorted({run.probed for run in runs}))
    lines += [
        f"{day.isoformat()}: {len(runs)} runs on {sources}"
        + (f"; {missing} more were asked for and have not finished" if missing else "")
        + f". Evaluated on unmasked images ({seen}). Means and 95 % intervals over seeds (Student's t).",
        "Best block: the one with the largest mean over seeds, chosen on the same test images, so slightly optimistic. Contrast",
        "terms are lcmae's own definition (probes/local_contrast.py), of each model under the same masks; wall time is that of the",
        "steps; PFLOP are counted by formula (benchmarks/roof.py).",
        "",
        f"| | seeds | {' | '.join(COLUMNS.values())} |",
        f"|{'---|' * (len(COLUMNS) + 2)}",
    ]
    blocks = {}
    for name in dict.fromkeys(run.variant for run in runs):
        seeds, blocks[name] = with_best_layer([run for run in runs if run.variant == name])
        cells = [interval([run.numbers[column] for run in seeds]) for column in COLUMNS]
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    for objective, accuracy in PUBLISHED.items():
        empty = " | ".join("-" for _ in range(len(COLUMNS) - 1))
        lines.append(f"| published {objective}, ViT-Tiny | - | {accuracy} | {empty} |")
    lines += ["", "Best blocks (linear; kNN): "]
    lines[-1] += ". ".join(f"{name}: {'; '.join(found.values())}" for name, found in blocks.items()) + "."
    lines += [
        "",
        "Published: slides of 2210.08344; their feature, patch size, epochs and data are not known.",
        "",
        "## Answers",
        "",
        "Rule: differences of linear accuracy (class token), in points, paired by seed; better or worse where the 95 % interval",
        "excludes 0, widened for the number of comparisons under one question (Bonferroni). The best U-MAE is the one with the",
        "largest mean on the same test images.",
    ]
    for question, verdicts in questions(runs).items():
        lines += ["", f"**{question}** {answer(verdicts)}", "", "| | against | difference | |", "|---|---|---|---|"]
        for each in verdicts:
            reach = "" if math.isnan(each.half_width) else f" ± {each.half_width:.2g}"
            lines.append(f"| {each.ours} | {each.other} | {each.difference:+.2f}{reach} | {each.word} |")
    return "\n".join(lines) + "\n"


def interval(values: Sequence[float]) -> str:
    """Mean and half-width of the 95 % interval; the mean alone for one seed."""
    found = summarise(values)
    mean = f"{found.mean:.4g}"
    # equal but for the order of a sum (PFLOP)
    is_one = math.isnan(found.half_width) or found.spread <= 1e-12 * abs(found.mean)
    return mean if is_one else f"{mean} ± {found.half_width:.2g}"
