"""`lcmae demo`: built-in images -> MAE, U-MAE and LC-MAE trained -> the probes -> one table; a
trained model of the zoo beside them on photographs; the dashboard."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pydantic import Field

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.tables import number, print_table
from lcmae.errors import InputError
from lcmae.settings import Settings

RECIPES = ("mae-digits", "umae-digits", "lcmae-digits")
"""What the demo trains."""

PREDICTORS = {
    "wiener": "Wiener filter of each mask (linear)",
    "linear": "best linear predictor, without the mask",
    "position mean": "mean patch of each position",
    "constant": "best constant patch",
    "untrained": "untrained network",
}
"""What stands beside the models in the second table."""

ZOO_MODEL = "mae-cifar10-small"
ZOO_PROBES = ("reconstruction", "local_contrast", "encoder_attention", "decoder_attention", "receptive_field")
"""What four photographs can say."""

LEFT_OUT = ("hierarchy", "dense", "mask_graph")
"""Probes that the demo does without: they ask about images of known latents or with segmentation
masks, and the last takes half a minute a run."""


class DemoArguments(Settings):
    """Train MAE, U-MAE and LC-MAE on scikit-learn's handwritten digits, run the probes on them,
    print the results, and open the dashboard. Existing runs are not trained again."""

    dashboard: bool = True
    """Open the dashboard at the end."""

    out: Path = Path("runs/demo")
    """Folder for the runs."""

    seeds: int = Field(default=1, ge=1)
    """Seeds of each objective; the table then holds means and 95 % intervals over seeds."""

    epochs: int | None = Field(default=None, ge=1)
    """Epochs of each run instead of the recipes' own."""

    images: int = Field(default=360, ge=2)
    """Test images that the probes see."""

    port: int | None = None
    """Port of the dashboard; the first free one from 8501 by default."""


def run(arguments: Sequence[str]) -> int:
    """Train, probe, print, show."""
    options = parse_arguments(DemoArguments, arguments, command="demo")
    from lcmae.app.commands.demo_runs import LOGS, at_a_time, work
    from lcmae.probes.registry import PROBES

    runs, steps = {}, {}
    for seed in range(options.seeds):
        for recipe in RECIPES:
            path, num_steps = _run(recipe, seed, options)
            runs[recipe, seed], steps[path] = path, num_steps
    num_workers = at_a_time(list(steps))
    print(
        f"demo: {len(runs)} runs to train and probe, {num_workers} at a time; their output is in {options.out / LOGS}",
        file=sys.stderr,
    )
    # masks are those of the training
    probes: dict[str, dict[str, Any]] = {name: {} for name in PROBES if name not in LEFT_OUT}
    results, stopped_by = work(steps, probes, options.images, options.out, num_workers)
    if stopped_by:
        print(f"stopped by {stopped_by.name}; the same command continues from here", file=sys.stderr)
        return 128 + stopped_by
    terms, beyond = {}, {}
    for key, path in runs.items():
        for sentence in results[path].failures.values():
            print(f"lcmae demo: {path}: {sentence}", file=sys.stderr)
        terms[key], beyond[key] = _terms(results[path].files), _beyond(results[path].files)
    _print(runs, terms, options)
    _print_beyond(beyond, options)
    second = _zoo(options.out)
    for path in [*runs.values(), *([second] if second else [])]:
        print(path)
    if options.dashboard:
        from lcmae.app.commands import dashboard

        return dashboard.show(options.out, options.port)
    return 0


def _run(recipe_name: str, seed: int, options: DemoArguments) -> tuple[Path, int]:
    """Where a run of this recipe lies, made where it is not there yet, and its steps."""
    from lcmae.config import RunConfig
    from lcmae.recipes import recipe
    from lcmae.runs.run import Run, is_run
    from lcmae.settings import parse
    from lcmae.training.schedule import Schedule
    from lcmae.training.train import open_training_data

    changes: dict[str, Any] = {"seed": seed}
    if options.epochs is not None:
        every = max(options.epochs // 4, 1)
        changes |= {"epochs": options.epochs, "warmup_epochs": min(5.0, options.epochs / 10)}
        changes |= {"checkpoint_every": every, "monitor_every": every}
    config = parse(RunConfig, {**recipe(recipe_name).model_dump(), **changes})
    path = options.out / f"{recipe_name}-s{seed}"
    wanted = config.model_dump(mode="json")
    if is_run(path):
        run = Run.open(path)
        if run.config != wanted:
            raise InputError(f"expected the demo's own run at {path}, got one of another config; choose another --out")
    else:
        run = Run.create(path, wanted)
    return run.path, Schedule(config, len(open_training_data(config))).num_steps


def _terms(files: Mapping[str, str]) -> list[float]:
    """The four contrast terms."""
    from lcmae.probes.results.networks import trained
    from lcmae.probes.results.store import load_result

    return [float(value) for value in trained(load_result(Path(files["local_contrast"])))["term"].values]


def _beyond(files: Mapping[str, str]) -> dict[str, list[float]]:
    """By predictor of hidden patches at the run's own ratio: mean squared error, and explained
    share."""
    from lcmae.probes.results.store import load_result

    result = load_result(Path(files["second_order"]))
    here = result.sel(ratio=float(result.attrs["own_ratio"]))
    return {
        str(network): [float(here[name].sel(network=network)) for name in ("error", "r2")]
        for network in result["network"].values
    }


def _zoo(out: Path) -> Path | None:
    """A trained model of the zoo, probed on the bundled photographs: more telling pictures than
    digits give. None where no zoo was installed."""
    from lcmae.app.commands.zoo import copy
    from lcmae.app.zoo_models import models
    from lcmae.probes.jobs.batch import Job, run_job
    from lcmae.runs.run import is_run

    folder = models().get(ZOO_MODEL)
    if folder is None:
        return None
    path = out / ZOO_MODEL
    print(f"probes of the zoo's {ZOO_MODEL} on photographs", file=sys.stderr)
    if not is_run(path):
        copy(folder, path)
    run_job(Job(str(path), {name: {} for name in ZOO_PROBES}, data="photographs", split="all"), show_progress=True)
    return path


def _print(
    runs: dict[tuple[str, int], Path], terms: dict[tuple[str, int], list[float]], options: DemoArguments
) -> None:
    """The table: objective x contrast terms, accuracies, effective rank; baselines below."""
    from lcmae.contrast import TERMS

    header = ["", *(term.replace("_", " ") for term in TERMS), "kNN %", "linear %", "effective rank"]
    rows = [
        [_title(recipe), *_cells([terms[recipe, seed] + _last(runs[recipe, seed]) for seed in range(options.seeds)])]
        for recipe in RECIPES
    ]
    untrained, pixels = _baselines(runs, options)
    rows += [["untrained network", *_cells(untrained)], ["raw pixels", *_cells(pixels)]]
    note = (
        "Contrast terms: lcmae's own exact split of the masked loss over test images (squared error in input units); they "
        "add up to it. kNN and linear: mean of patch tokens of unmasked test images. "
    )
    note += "± 95 % over seeds (Student's t)." if options.seeds > 1 else "One seed; --seeds 3 gives intervals."
    print_table(f"digits, {options.seeds} seed(s)", header, rows, note=note)


def _print_beyond(beyond: dict[tuple[str, int], dict[str, list[float]]], options: DemoArguments) -> None:
    """The second table: each objective beside what linear algebra makes of the same hidden
    patches."""
    of_seed = [beyond[RECIPES[0], seed] for seed in range(options.seeds)]
    rows = [
        [_title(recipe), *_cells([beyond[recipe, seed]["trained"] for seed in range(options.seeds)])]
        for recipe in RECIPES
    ]
    rows += [
        [title, *_cells([one[network] for one in of_seed])]
        for network, title in PREDICTORS.items()
        if all(network in one for one in of_seed)
    ]
    print_table(
        "beyond covariance",
        ["", "masked error", "explained share"],
        rows,
        note="Hidden patches of test images at the ratio of training; linear predictors are fitted on the training images. The "
        "share is of the variance about the mean of each position (probe second_order; lcmae's own closed forms).",
    )


def _title(recipe_name: str) -> str:
    return {"mae-digits": "MAE", "umae-digits": "U-MAE", "lcmae-digits": "LC-MAE"}[recipe_name]


def _last(path: Path) -> list[float]:
    """What the run's training measured last: its accuracies and effective rank."""
    from lcmae.runs.run import Run

    last = [line for line in Run.open(path).metrics() if "mean_knn" in line][-1]
    return _scores(last, "mean_")


def _scores(values: dict[str, float], prefix: str = "") -> list[float]:
    return [100 * values[f"{prefix}knn"], 100 * values[f"{prefix}linear"], values[f"{prefix}effective_rank"]]


def _baselines(
    runs: dict[tuple[str, int], Path], options: DemoArguments
) -> tuple[list[list[float]], list[list[float]]]:
    """Rows of the untrained network (one a seed) and of the pixels themselves."""
    from lcmae.config import RunConfig
    from lcmae.runs.run import Run
    from lcmae.settings import parse
    from lcmae.training.train import build_model, open_monitor, open_training_data

    unknown = [math.nan] * 4
    untrained, monitor = [], None
    for seed in range(options.seeds):
        config = parse(RunConfig, Run.open(runs[RECIPES[0], seed]).config)
        monitor = monitor or open_monitor(config, open_training_data(config))
        assert monitor is not None  # digits have labels
        untrained.append([*unknown, *_scores(monitor(build_model(config)), "mean_")])
    assert monitor is not None
    return untrained, [[*unknown, *_scores(monitor.raw_pixels())]]


def _cells(rows: list[list[float]]) -> list[str]:
    """Means over seeds, with the half width of a 95 % interval where there are several."""
    if len(rows) == 1:
        return [number(value, digits=3) for value in rows[0]]
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(rows) - 1)) / math.sqrt(len(rows))
    return [
        # what a baseline does not have (its contrast terms) is NaN in every row
        number(math.nan) if any(map(math.isnan, column)) else number(mean(column), reach * stdev(column), digits=3)
        for column in zip(*rows, strict=True)
    ]
