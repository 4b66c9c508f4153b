"""`lcmae train RECIPE [--field value ...]`, `lcmae train --resume RUN`: prints the run folder
last."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from lcmae.app.command_line.arguments import check_device, parse_arguments
from lcmae.app.command_line.examples import epilog
from lcmae.app.command_line.image_options import source_name
from lcmae.app.command_line.union_options import of_kinds
from lcmae.errors import InputError

_SIDE = "--model.image-size"

DESCRIPTION = """Train a recipe, or continue a run bit for bit. The run folder is printed last.

On several devices: torchrun --nproc-per-node N --no-python lcmae train RECIPE ...
SIGTERM, SIGHUP and Ctrl-C finish the step, store a checkpoint, and exit with 143, 129 or 130."""


def run(arguments: Sequence[str]) -> int:
    """Train; exit code 0 at the end, 128 + signal where one stopped it."""
    arguments = list(arguments)
    wants_help = any(argument in ("-h", "--help") for argument in arguments)
    names = [argument for argument in arguments[:1] if not argument.startswith("-")]
    own = _own_options()
    try:
        options, fields = own.parse_known_args(arguments[len(names) :])
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from error
    if wants_help:
        own.print_help()
        if not names:
            return 0
    if options.resume is not None:
        given = {"--out": options.out, "--mask": options.mask, "--augment": options.augment}
        given |= {"--value-range": options.value_range, "--bands": options.bands}
        more = [*names, *fields, *(name for name, value in given.items() if value)]
        if more:
            raise InputError(f"expected --resume RUN alone (a run keeps its config), got also {' '.join(more)}")
    if options.resume is None and not names:
        from lcmae.recipes import RECIPES

        raise InputError(f"expected a recipe out of {', '.join(RECIPES)}, or --resume RUN; got neither")

    from lcmae.training import distributed

    # settings are read before any process group is joined, so that a misspelt one fails at once
    config = None if options.resume is not None else _config(names[0], options, fields)
    check_device(options.device)
    distributed.start()
    try:
        return _train(config, options)
    finally:
        distributed.stop()


def _train(config, options: argparse.Namespace) -> int:
    import shutil

    from lcmae.runs.run import Run
    from lcmae.training import distributed
    from lcmae.training.train import train

    is_first = False
    if config is None:
        run = Run.open(options.resume)
        if "source" in run.config:
            raise InputError(f"expected a run that was trained here, got an imported checkpoint: {run.path}")
        if distributed.is_main():
            print(f"continuing {run.path} after step {(run.steps() or [0])[-1]}", file=sys.stderr)
    else:
        path = None
        if distributed.is_main():
            if options.note:
                print(options.note, file=sys.stderr)
            path = Path(options.out) if options.out else new_folder(runs_root(), f"{options.recipe}-s{config.seed}")
            is_first = not path.parent.exists()
            Run.create(path, config.model_dump(mode="json"))
        run = Run.open(distributed.from_main(path))
    try:
        outcome = train(run, label=run.name, device=options.device)
    except BaseException:  # out of memory and a second Ctrl-C too
        if config is not None and distributed.is_main() and not run.steps() and not run.metrics():
            shutil.rmtree(run.path)  # made a moment ago, and nothing came of it
            if is_first:
                with contextlib.suppress(OSError):  # another run may lie there by now
                    run.path.parent.rmdir()
        raise
    if distributed.is_main():
        if outcome.stopped_by:
            print(f"stopped by {outcome.stopped_by.name} after step {outcome.step}, which is stored", file=sys.stderr)
        print(run.path)
    return 128 + outcome.stopped_by if outcome.stopped_by else 0


def _own_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lcmae train",
        usage="lcmae train RECIPE [options] [--field value ...]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
        epilog=f"lcmae train RECIPE --help lists every field of the recipe with its unit and default.\n\n{epilog('train')}",
    )
    parser.add_argument(
        "--out", metavar="PATH", help="folder of the new run (default: runs/RECIPE-sSEED, or the next free name)"
    )
    parser.add_argument("--resume", metavar="RUN", help="continue this run from its newest checkpoint")
    parser.add_argument("--mask", metavar="KIND", help="another mask strategy with its defaults, at the recipe's ratio")
    parser.add_argument("--augment", action="store_true", help="random resized crops and flips with their defaults")
    parser.add_argument("--value-range", metavar="LOW:HIGH", help="stored values that are black and white, as 0:4000")
    parser.add_argument("--bands", metavar="N,N,N", help="bands to take, counted from 1, as 4,3,2 or 1-12")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    return parser


def _config(name: str, options: argparse.Namespace, fields: list[str]):
    from lcmae.config import RunConfig
    from lcmae.data import Augmentation
    from lcmae.recipes import recipe

    options.recipe, options.note = name, None
    default = recipe(name)
    mask = [] if options.mask is None else ["--objective.mask.kind", options.mask]
    default = of_kinds(default, [*fields, *mask])
    if options.augment:
        default = default.model_copy(update={"augmentation": Augmentation()})
    warmup = _shorter_warmup(default.warmup_epochs / default.epochs, default.warmup_epochs, fields)
    if warmup is not None:
        options.note = (
            f"warm-up of {warmup:.2g} epochs: the recipe's {default.warmup_epochs:g} of {default.epochs} in proportion, as "
            "it is longer than the training; --warmup-epochs sets it"
        )
        default = default.model_copy(update={"warmup_epochs": warmup})
    config = parse_arguments(RunConfig, _square(fields), command=f"train {name}", default=default)
    return config.model_copy(update={"data": source_name(config.data, options.value_range, options.bands)})


def _shorter_warmup(share: float, longest: float, fields: list[str]) -> float | None:
    """The recipe's share of warm-up in fewer epochs than it takes; None where it fits, or where you
    say it yourself."""
    words = [part for word in fields for part in word.split("=", 1)]
    given = {word.replace("_", "-"): value for word, value in pairwise(words) if word.startswith("--")}
    epochs = given.get("--epochs", "")
    # anything else is refused by the reader of these words
    is_short = epochs.isdecimal() and len(epochs) < 10 and 0 < int(epochs) < longest
    return share * int(epochs) if is_short and "--warmup-epochs" not in given else None


def _square(fields: list[str]) -> list[str]:
    """`--model.image-size 64` (or =64) means 64 64."""
    words = [
        part
        for word in fields
        for part in (word.split("=", 1) if word.replace("_", "-").startswith(f"{_SIDE}=") else [word])
    ]
    result = []
    for position, word in enumerate(words):
        result.append(word)
        is_side = position > 0 and words[position - 1].replace("_", "-") == _SIDE
        if is_side and all(after.startswith("-") for after in words[position + 1 : position + 2]):
            result.append(word)
    return result


def runs_root() -> Path:
    """Where runs lie by default: LCMAE_RUNS, or runs/ here."""
    return Path(os.environ.get("LCMAE_RUNS", "runs"))


def new_folder(root: Path, name: str) -> Path:
    """`root/name`, or the first of name-2, name-3, ... that is free."""
    path, number = root / name, 2
    while path.exists():
        path, number = root / f"{name}-{number}", number + 1
    return path
