"""`lcmae probe PROBE... --checkpoint PATH...`: writes .nc files into the runs, prints tables and
answers."""

import importlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field, create_model

from lcmae.adapters.files import split
from lcmae.app.command_line.arguments import check_device, parse_arguments
from lcmae.app.command_line.checkpoint_options import Overrides
from lcmae.app.command_line.image_options import ImageOptions, source_name
from lcmae.app.command_line.tables import number, print_table
from lcmae.app.command_line.union_options import of_kinds
from lcmae.app.command_line.without_server import expect_no_server
from lcmae.errors import InputError, did_you_mean
from lcmae.probes.registry import PROBES, probe_class
from lcmae.safety.text import is_full, printable
from lcmae.settings import Settings, parse

if TYPE_CHECKING:
    from lcmae.probes.jobs.batch import JobResult


class ProbeArguments(ImageOptions, Overrides):
    """Run probes on checkpoints: results are stored as netCDF, and their numbers printed."""

    probes: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of probes, or "all"."""

    checkpoint: tuple[Path, ...] = ()
    """Run folders (their newest step), steps (RUN/checkpoints/000500), or foreign files."""

    adapter: tuple[str, ...] = ()
    """Models of your own, FILE.py:FUNCTION, each returned by `lcmae.adapt`; the file's code runs.
    With --data and --out."""

    data: str | None = None
    """Images: a path (folder, Parquet, .npy, .tif, zarr, .tar, DICOM), digits, cifar10, ...; by
    default what the run was trained on."""

    masks: str | None = None
    """Segmentation masks: a folder whose files have the images' names, or a column."""

    split: str = "test"
    """train, test or all; if the data has no split of its own, test is a fifth of it."""

    images: Annotated[int | str, tyro.conf.arg(metavar="INT|all")] = 500
    """How many images (a fixed, class-balanced choice), or "all"."""

    mask: str | None = None
    """Another mask strategy, with its defaults, for every probe that takes one: random, block,
    grid, ... (`lcmae masks`); by default the one that the model was trained with."""

    ratio: float | None = Field(default=None, gt=0, lt=1)
    """Masking ratio for every probe that takes a mask."""

    list: tuple[Path, ...] = ()
    """Compute nothing: list what is stored in these runs, and under which conditions."""

    overwrite: bool = False
    """Compute also what is already stored under the same condition, and replace it; each replaced
    file is named."""

    every_step: bool = False
    """Probe every checkpoint of a run instead of its newest."""

    seed: int = Field(default=0, ge=0)
    """Seed of masks and of all other random draws."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default a GPU where there is one."""

    out: Path | None = None
    """Folder for the results of a checkpoint outside a run."""

    engine: str = "local"
    """Where jobs run: local, slurm (submitit) or dask."""

    workers: int = Field(default=1, ge=1)
    """Local processes, or Slurm jobs at a time."""

    address: str | None = None
    """Address of the Dask scheduler, tcp://host:port."""

    partition: str | None = None
    """Slurm partition."""

    gpus: int = Field(default=0, ge=0)
    """GPUs of each Slurm job."""

    minutes: int = Field(default=60, ge=1)
    """Time limit of each Slurm job, in minutes."""


def run(arguments: Sequence[str]) -> int:
    """Probe; exit code 2 when a named probe lacks what it needs, 1 when it broke, and the others'
    results are there all the same. Of "all", those that lack something are named and left out."""
    if "--list" in arguments:
        return _list(parse_arguments(ProbeArguments, arguments, command="probe"))
    names = _names(arguments)
    options, settings = _parse(arguments, names)
    if not options.checkpoint and not options.adapter:
        raise InputError("expected at least one --checkpoint PATH (or --adapter FILE.py:FUNCTION), got none")
    for adapter in options.adapter:
        split(adapter)

    import torch

    from lcmae.probes.jobs.batch import Job, JobResult, probe_settings, run_jobs
    from lcmae.probes.jobs.executors import Engine

    choices = ("engine", "workers", "address", "partition", "gpus", "minutes")
    engine = parse(Engine, {name: getattr(options, name) for name in choices})
    check_device(options.device)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    checkpoints = [step for path in options.checkpoint for step in (_steps(path) if options.every_step else [path])]
    checkpoints += [Path(adapter) for adapter in options.adapter]
    first_adapter = len(checkpoints) - len(options.adapter)
    outs = _outs(options.out, checkpoints)
    jobs = [
        Job(
            checkpoint=str(path),
            probes={probe.name: probe_settings(probe) for probe in settings},
            data=source_name(options.data, options.value_range, options.bands, options.masks),
            split=options.split,
            images=_images(options.images),
            seed=options.seed,
            device=device,
            out=out,
            overwrite=options.overwrite,
            overrides=options.given(),
            adapter=position >= first_adapter,
        )
        for position, (path, out) in enumerate(zip(checkpoints, outs, strict=True))
    ]

    results: list[JobResult] = []
    code = 0
    for outcome in run_jobs(jobs, engine, Path(outs[0] or checkpoints[0])):
        if isinstance(outcome, JobResult):
            results.append(outcome)
            code = max(code, exit_code(outcome, of_all=list(arguments[:1]) == ["all"]))
            for sentence in outcome.failures.values():
                print(f"lcmae probe: {outcome.checkpoint}: {sentence}", file=sys.stderr)
        else:
            job, error = outcome
            is_input = isinstance(error, InputError)
            code = max(code, 2 if is_input and not is_full(error) else 1)
            what = str(error) if is_input else f"failed: {type(error).__name__}: {error}"
            print(f"lcmae probe: {job.checkpoint}: {' '.join(what.split())}", file=sys.stderr)
    _print(results)
    return code


def exit_code(outcome: "JobResult", *, of_all: bool) -> int:
    """Of one checkpoint: 2 where a probe lacks what it needs, 1 where one broke. Who asks for all
    does not ask for those that do not apply, so they count only where none did."""
    lacking = 0 if of_all and outcome.files else 2
    codes = [lacking if name in outcome.refused else 1 for name in outcome.failures]
    return max(codes, default=0)


def _print(results: list) -> None:
    from lcmae.probes.jobs.batch import scalars
    from lcmae.probes.results.store import load_result

    probes = dict.fromkeys(name for result in results for name in result.files)
    for name in probes:
        tables = {r.checkpoint: scalars(load_result(Path(r.files[name]))) for r in results if name in r.files}
        rows = [
            [label, *(number(*values.get(label, (float("nan"), float("nan")))) for values in tables.values())]
            for label in dict.fromkeys(label for values in tables.values() for label in values)
        ]
        print_table(name, ["quantity (± standard error over images)", *map(_short, tables)], rows)
    for name in probes:
        for sentence in _sentences(name, {r.checkpoint: r.files[name] for r in results if name in r.files}):
            print(f"{name}: {sentence}")
    for result in results:
        for name, file in result.files.items():
            print(f"{file}{'  (stored before)' if name in result.reused else ''}")
            if file in result.replaced:
                print(f"lcmae probe: replaced the result stored at {file}", file=sys.stderr)


def _sentences(probe: str, files: dict[str, str]) -> Iterator[str]:
    """The answer of a probe's page; one for each mask, where models were trained with different
    ones."""
    expect_no_server()
    from lcmae.probes.results.conditions import Condition
    from lcmae.probes.results.store import load_result

    page = importlib.import_module(f"lcmae.app.dashboard.pages.{probe}").PAGE
    alike: dict[Condition, dict[str, Any]] = {}
    has_short_names = len({_short(checkpoint) for checkpoint in files}) == len(files)
    for checkpoint, file in files.items():
        found, name = load_result(Path(file)), _short(checkpoint) if has_short_names else checkpoint
        alike.setdefault(Condition.of(found.attrs).apart_from_checkpoint, {})[name] = found
    for results in alike.values():
        yield printable(page.answer(results).sentence, 1000)


def _list(options: ProbeArguments) -> int:
    """What is stored: a table a run, a row a result."""
    from lcmae.probes.results import catalogue
    from lcmae.probes.results.conditions import labels
    from lcmae.runs.run import Run

    if not options.list:
        raise InputError("expected --list RUN..., got no run")
    for path in options.list:
        rows = []
        for folder in _result_folders(Run.open(path).path):
            for probe in dict.fromkeys(catalogue.probe_of(file, folder) for file in catalogue.files(folder)):
                stored = list(catalogue.stored(folder, probe))
                known = dict(zip((one.path for one in stored), labels([one.condition for one in stored]), strict=True))
                for file in catalogue.files(folder, probe):
                    words = known.get(file, "damaged or foreign: computed again when needed")
                    rows.append([probe, folder.name, words, str(file.relative_to(path))])
        print_table(str(path), ["probe", "step", "measured on", "file"], sorted(rows))
    return 0


def _result_folders(run: Path) -> Iterator[Path]:
    return (folder for folder in sorted((run / "probes").glob("*/")) if not folder.name.startswith("."))


def _short(path: str) -> str:
    parts = Path(path).parts
    return "/".join(parts[-3:]) if "checkpoints" in parts else parts[-1]


def _names(arguments: Sequence[str]) -> list[str]:
    """The probes asked for: the words before the first option."""
    names: list[str] = []
    for word in arguments:
        if word.startswith("-"):
            break
        names.append(word)
    if names == ["all"]:
        return list(PROBES)
    unknown = [name for name in names if name not in PROBES]
    if unknown:
        wrong = f"expected probes out of {', '.join(PROBES)} (or all), got {', '.join(unknown)}"
        raise InputError(wrong + did_you_mean(unknown[0], PROBES))
    if not names and not {"-h", "--help"} & set(arguments):
        raise InputError(f"expected at least one probe out of {', '.join(PROBES)} (or all), got none")
    return list(dict.fromkeys(names))


def _parse(arguments: Sequence[str], names: list[str]) -> tuple[ProbeArguments, list[Any]]:
    """Options, and one settings object a probe: their fields are options too, as
    --local-contrast.num-masks 16."""
    usual: Any = {name: (probe_class(name), probe_class(name)()) for name in names}
    kind = _value_of("--mask", arguments)
    masked = [name for name in names if "mask" in probe_class(name).model_fields]
    for_all = [] if kind is None else [word for name in masked for word in (f"--{name}.mask.kind", kind)]
    probes = of_kinds(create_model("Probes", __base__=Settings, **usual)(), [*arguments, *for_all])
    fields: Any = {name: (probe_class(name), getattr(probes, name)) for name in names}
    cls = create_model("ProbeArguments", __base__=ProbeArguments, **fields)
    cls.__doc__ = ProbeArguments.__doc__
    parsed = parse_arguments(cls, arguments, command="probe", description=_description())
    chosen = [_as_chosen(getattr(parsed, name), arguments) for name in names]
    return parsed, [_at_ratio(probe, parsed.ratio) for probe in chosen]


def _as_chosen(probe: Any, arguments: Sequence[str]) -> Any:
    """The probe without its mask, where no word of the command line is about it: then the mask is
    the one that each model was trained with."""
    words = {word.split("=")[0].replace("_", "-") for word in arguments}
    own = f"--{probe.name.replace('_', '-')}.mask."
    if "mask" not in type(probe).model_fields or "--mask" in words or any(word.startswith(own) for word in words):
        return probe
    return type(probe)(**{name: value for name, value in probe if name != "mask"})


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    words = [part for word in arguments for part in word.split("=", 1)]
    return dict(itertools.pairwise(words)).get(option)


def _at_ratio(probe: Any, ratio: float | None) -> Any:
    """The probe at the ratio asked for, where it takes a mask."""
    from lcmae.masking import at_ratio

    if ratio is None or "mask" not in type(probe).model_fields:
        return probe
    return probe.model_copy(update={"mask": at_ratio(probe.mask, ratio)})


def _description() -> str:
    return f"{ProbeArguments.__doc__} Probes: {', '.join(PROBES)}."


def _images(images: int | str) -> int | None:
    if images == "all":
        return None
    if isinstance(images, str) or images < 1:
        raise InputError(f'expected --images with a number above 0 or "all", got {images}')
    return images


def _steps(path: Path) -> list[Path]:
    from lcmae.runs.run import Run, is_run

    if not is_run(path):
        raise InputError(f"expected run folders with --every-step, got {path}")
    return [path / "checkpoints" / f"{step:06d}" for step in Run.open(path).steps()]


def _outs(out: Path | None, checkpoints: list[Path]) -> list[str | None]:
    """One folder a checkpoint: `out` itself for a single one, a folder below it for each of
    several."""
    if out is None or len(checkpoints) == 1:
        return [None if out is None else str(out)] * len(checkpoints)
    return [str(out / f"{position:03d}-{path.stem}") for position, path in enumerate(checkpoints)]
