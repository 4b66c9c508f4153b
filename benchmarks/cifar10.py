"""MAE, U-MAE, LC-MAE, SimMIM and U-SimMIM on CIFAR-10: the table of docs/results/cifar10.md, from
stored runs.

    # train what is missing, probe it, write the table
    python -m benchmarks.cifar10 --runs runs/cifar10 --train
    # probe and write what there is
    python -m benchmarks.cifar10 --runs runs/cifar10
    # near U-MAE's own settings
    python -m benchmarks.cifar10 --runs runs/cifar10 --train --patch 2

Each run is a folder RUNS/patchP/VARIANT-sSEED, the recipe of its objective with other weights
(`VARIANTS`). A killed run goes on from its newest checkpoint, runs that are done and results that
are stored are not made again, the first seed of all variants comes first. Equal compute means equal
image-mask pairs: LC-MAE, with two masks an image, gets half of the epochs. Further options change
every run's config, as for `lcmae train` (--data parquet:PATH, --model.depth 2); those of a decoder,
where there is one.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.cifar10_table import Finished, document, read_finished
from lcmae.app.command_line.arguments import parse_arguments
from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.probes.jobs.batch import Job, run_job
from lcmae.recipes import recipe
from lcmae.runs.run import Run, is_run, write_atomically
from lcmae.training.schedule import Schedule
from lcmae.training.train import open_training_data, train

VARIANTS: dict[str, tuple[str, dict[str, float]]] = {
    "mae": ("mae", {}),
    "umae-0.001": ("umae", {"weight": 0.001}),
    "umae-0.01": ("umae", {"weight": 0.01}),
    "umae-0.1": ("umae", {"weight": 0.1}),
    "umae-1": ("umae", {"weight": 1.0}),
    "lcmae": ("lcmae", {}),
    "lcmae-invariance-0": ("lcmae", {"invariance": 0.0}),
    "lcmae-invariance-4": ("lcmae", {"invariance": 4.0}),
    "lcmae-local-4": ("lcmae", {"local_consistency": 4.0}),
    "lcmae-global-4": ("lcmae", {"global_consistency": 4.0}),
    "lcmae-tokens-0.01": ("lcmae", {"token_contrast": 0.01}),
    "lcmae-tokens-0.1": ("lcmae", {"token_contrast": 0.1}),
    "simmim": ("simmim", {}),
    "usimmim": ("usimmim", {}),
}
"""Name of a variant -> its objective and what differs from the defaults; `lcmae` is MAE with two
masks an image."""

PATCH_2_EPOCHS = 2
"""Epochs at patch 2, over those at patch 4."""


def config_of(variant: str, patch: int, seed: int, changes: Sequence[str] = (), epochs: int | None = None) -> RunConfig:
    """The config of one run: its objective's recipe, the variant's weights, the seed; then
    `changes` as on a command line.

    `epochs`: of objectives with one mask an image. `InputError` for changes that no config takes.
    """
    objective, weights = VARIANTS[variant]
    config = recipe(f"{objective}-cifar10-patch4")
    values: dict[str, Any] = {"objective": config.objective.model_copy(update=weights), "seed": seed}
    if patch == 2:
        values |= {"model": config.model.model_copy(update={"patch_size": 2})}
        values |= {
            name: getattr(config, name) * PATCH_2_EPOCHS
            for name in ("epochs", "warmup_epochs", "monitor_every", "checkpoint_every")
        }
    config = config.model_copy(update=values)
    if epochs is not None:
        own = max(1, epochs // config.objective.masks_per_image)
        often = {"monitor_every": max(1, own // 10), "checkpoint_every": max(1, own // 5)}
        config = config.model_copy(update={"epochs": own, "warmup_epochs": own / 10, **often})
    if not hasattr(config.model, "decoder_width"):
        changes = without(changes, "--model.decoder-")
    return parse_arguments(RunConfig, changes, command="cifar10", default=config)


def without(words: Sequence[str], prefix: str) -> list[str]:
    """A command line without the options that begin so, and without their values: SimMIM has no
    decoder to change."""
    kept: list[str] = []
    is_kept = True
    for word in words:
        if word.startswith("--"):
            is_kept = not word.startswith(prefix)
        if is_kept:
            kept.append(word)
    return kept


def train_missing(folder: Path, configs: dict[str, RunConfig], num_images: int, device: str) -> bool:
    """Train every run to its end; False where a signal stopped one (what it reached is stored, and
    goes on next time)."""
    for number, (name, config) in enumerate(configs.items(), start=1):
        run = open_run(folder / name, config)
        if is_done(run, config, num_images):
            continue
        label = f"{name} ({number} of {len(configs)})"
        if train(run, label=label, device=device).stopped_by is not None:
            return False
        torch.compiler.reset()  # or the models before would use up the next one's limit of recompilations
    return True


def open_run(path: Path, config: RunConfig) -> Run:
    """The run of this config, made where it is missing. `InputError` where the folder holds a run
    of another config."""
    wanted = config.model_dump(mode="json")
    if not is_run(path):
        return Run.create(path, wanted)
    run = Run.open(path)
    other = [name for name in wanted if run.config.get(name) != wanted[name]]
    if other:
        raise InputError(
            f"expected a run with {other[0]} {wanted[other[0]]}, got {run.config.get(other[0])} in {path}; choose another --runs"
        )
    return run


def is_done(run: Run, config: RunConfig, num_images: int) -> bool:
    """Whether the last step of the config has been published."""
    steps = run.steps()
    return bool(steps) and steps[-1] == Schedule(config, num_images).num_steps


def main(argv: list[str] | None = None) -> int:
    """Train if asked to, probe, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--train", action="store_true", help="train what is missing, before anything else")
    parser.add_argument("--patch", type=int, choices=(2, 4), default=4)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--epochs", type=int, default=None, help="of objectives with one mask an image; the recipes' own"
    )
    parser.add_argument("--images", type=int, default=10_000, help="test images that probes look at")
    parser.add_argument("--train-images", type=int, default=50_000, help="training images of the linear probe and kNN")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/results/cifar10.md"))
    words = sys.argv[1:] if argv is None else argv
    options, changes = parser.parse_known_args(words)
    folder = options.runs / f"patch{options.patch}"
    try:
        configs = {
            f"{variant}-s{seed}": config_of(variant, options.patch, seed, changes, options.epochs)
            for seed in range(options.seeds)
            for variant in options.variants
        }
        # all variants are trained on the same images
        num_images = len(open_training_data(next(iter(configs.values()))))
        if options.train and not train_missing(folder, configs, num_images, options.device):
            return 1
        finished = [
            probed(name, folder / name, config, options)
            for name, config in configs.items()
            if is_run(folder / name) and is_done(open_run(folder / name, config), config, num_images)
        ]
        if not finished:
            raise InputError(f"expected finished runs in {folder}, found none; --train makes them")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    command = shlex.join(["python", "-m", "benchmarks.cifar10", *words])
    text = document(command, date.today(), about(next(iter(configs.values()))), finished, len(configs) - len(finished))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, text.encode())
    print(text)
    return 0


def about(config: RunConfig) -> str:
    """The encoder, which is the same in all runs, by name where it has one."""
    model = config.model
    is_tiny = (model.width, model.depth) == (192, 12)
    encoder = "ViT-Tiny" if is_tiny else f"an encoder {model.width} wide with {model.depth} blocks"
    return f"{encoder}, patch {model.patch_size}"


def probed(name: str, path: Path, config: RunConfig, options: argparse.Namespace) -> Finished:
    """What one finished run says; results that are stored are read. `InputError` for a probe that
    cannot run."""
    probes: dict[str, dict[str, Any]] = {
        "local_contrast": {"baseline_images": 0},
        "spectrum": {"baseline_images": 0},
        "transfer": {"train_images": options.train_images, "corruptions": [], "untrained": False},
    }
    result = run_job(Job(str(path), probes, images=options.images, device=options.device))
    for problem in result.failures.values():
        raise InputError(f"{name}: {problem}")
    variant, _, seed = name.rpartition("-s")
    return read_finished(variant, VARIANTS[variant][0], int(seed), Run.open(path), config, result.files)


if __name__ == "__main__":
    sys.exit(main())
