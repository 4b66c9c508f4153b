"""Checkpoints x probes: a job is one checkpoint with all its probes, so a model is loaded once and
the images are seen once.

A result that is stored already under the same condition (`lcmae.probes.results.conditions`) is not
computed again, and nothing stored is replaced unless `overwrite` asks for it. Jobs are plain data
and go to any `concurrent.futures.Executor` (`lcmae.probes.jobs.executors`).
"""

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import lcmae
from lcmae.adapters import from_file
from lcmae.data.names import lasting
from lcmae.errors import InputError
from lcmae.masking import MaskStrategy
from lcmae.models import MaskedImageModel
from lcmae.probes.base import Probe, run_probes
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.registry import probe_class
from lcmae.probes.results import catalogue
from lcmae.probes.results.conditions import Condition
from lcmae.probes.results.networks import NETWORK, TRAINED, networks_of, of_network, trained
from lcmae.probes.statistics.seeds import probe_seed
from lcmae.probes.watching.views import View, about_images, open_view
from lcmae.runs.durable import check_writable, sweep_strays
from lcmae.runs.run import Run, is_run, is_step
from lcmae.settings import parse


@dataclass(frozen=True)
class Job:
    """One checkpoint, and what to ask it. Plain data, so that it travels to other processes and
    machines."""

    checkpoint: str
    """A run folder (its newest step), one of its steps, or a foreign file."""

    probes: dict[str, dict[str, Any]]
    """Settings of each probe by its name; empty settings are the defaults."""

    data: str | None = None
    """Named source; by default what the run was trained on."""

    split: str = "test"
    """train or test."""

    images: int | None = 500
    """How many images of a fixed, class-balanced choice; None for all."""

    seed: int = 0
    """Decides masks and all else that is drawn; the same for checkpoints that are compared."""

    device: str = "cpu"
    """Where the model runs."""

    out: str | None = None
    """Folder for the results; by default the run's own."""

    overwrite: bool = False
    """Compute what is stored already under this condition, and put the new result in its place."""

    overrides: dict[str, Any] = field(default_factory=dict)
    """What you say of the checkpoint, as to `lcmae.load`: heads, image_size, weights, ..."""

    adapter: bool = False
    """Whether `checkpoint` is FILE.py:FUNCTION, the starter's own adapter, whose code runs."""


@dataclass
class JobResult:
    """What came of a job: files by probe name, those found stored, and one sentence for each probe
    that could not run."""

    checkpoint: str
    files: dict[str, str] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    """Files whose old content was overwritten."""
    failures: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """Those of `failures` that lack what they need (another mask, masks of the pixels, a decoder):
    bad input, and nothing that broke."""


def run_job(job: Job, *, show_progress: bool = False) -> JobResult:
    """Load the checkpoint, run the probes that have no stored result, store each. Raises
    `InputError` for bad input."""
    settings = [parse(probe_class(name), settings) for name, settings in job.probes.items()]
    model = _model(job)
    probes = [probe.under_trained_mask(model) for probe in settings]
    data = job.data or default_data(job.checkpoint)
    view = open_view(model, data, split=job.split, limit=job.images)
    folder = result_folder(job, model)
    for directory in (folder, *folder.glob("*/")):
        if directory.is_dir():
            sweep_strays(directory)  # what a killed one left; a stored result is not written again
    seed = probe_seed(job.seed)
    about = provenance(job, model, data, view)

    result = JobResult(job.checkpoint)
    missing = []
    for probe in probes:
        try:
            _check_mask(probe, model)
        except InputError as error:
            result.failures[probe.name] = str(probe.failure(error))
            result.refused.append(probe.name)
            continue
        condition = Condition.of({**about, "settings": probe.model_dump_json(), "num_images": len(view), "seed": seed})
        known = catalogue.find(folder, probe.name, condition)
        if known is not None and not job.overwrite:
            result.files[probe.name] = str(known.path)
            result.reused.append(probe.name)
        else:
            missing.append(probe)
            result.replaced += [] if known is None else [str(known.path)]
    if missing:
        check_writable(folder)
        assert model.source is not None
        computed = run_probes(missing, model, view, seed, show_progress=show_progress)
        for name, dataset in computed.datasets.items():
            dataset.attrs.update(about, command=command_of(job, name, data, model.source.step, computed.batch_size))
            result.files[name] = str(catalogue.add(dataset, folder, overwrite=job.overwrite))
        result.failures |= {name: str(error) for name, error in computed.failures.items()}
        result.refused += [name for name, error in computed.failures.items() if not error.is_failure]
        result.replaced = [file for file in result.replaced if file in result.files.values()]
    return result


def run_jobs(jobs: Sequence[Job], engine: Engine, folder: Path) -> Iterator[JobResult | tuple[Job, Exception]]:
    """Results as they come, from any engine; a job that fails is handed back with its error and
    stops no other."""
    if engine.in_process:
        for job in jobs:
            try:
                yield run_job(job, show_progress=True)
            except Exception as error:  # whatever it is, the other jobs have nothing to do with it
                yield job, error
        return
    with engine.executor(folder) as executor:
        futures: dict[Future[JobResult], Job] = {executor.submit(run_job, job): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()
            yield (futures[future], error) if isinstance(error, Exception) else future.result()


def default_data(checkpoint: str) -> str:
    """The data that a run was trained on. `InputError` where the checkpoint does not know."""
    path = Path(checkpoint)
    folder = path.parent.parent if is_step(path) else path
    data = Run.open(folder).config.get("data") if is_run(folder) else None
    if not data:
        raise InputError(f"expected --data NAME (the checkpoint {checkpoint} does not know its images), got none")
    return data


def result_folder(job: Job, model: MaskedImageModel) -> Path:
    """Where the results of a job belong: probes/STEP in the run, or `out` for checkpoints without a
    run."""
    if job.out is not None:
        return Path(job.out)
    path = Path(job.checkpoint)
    folder = path.parent.parent if is_step(path) else path
    if not is_run(folder):
        raise InputError(
            f"expected --out FOLDER for a checkpoint outside a run, got none ({job.checkpoint}); `lcmae import` makes it a run"
        )
    assert model.source is not None
    assert model.source.step is not None
    return Run.open(folder).results_folder(model.source.step)


def _check_mask(probe: Probe, model: MaskedImageModel) -> None:
    """`InputError` where the probe's mask cannot be drawn on the model's grid."""
    mask: MaskStrategy | None = getattr(probe, "mask", None)
    if mask is not None:
        mask.check(model.grid)


def _model(job: Job) -> MaskedImageModel:
    if not job.adapter:
        return lcmae.load(job.checkpoint, device=job.device, **job.overrides)
    if job.overrides:
        raise InputError(f"expected no settings beside an adapter, which says its own, got {', '.join(job.overrides)}")
    return from_file(job.checkpoint).to(job.device)


def provenance(job: Job, model: MaskedImageModel, data: str, view: View) -> dict[str, str]:
    """What the result was computed from, as attributes of the dataset."""
    assert model.source is not None
    return {
        "checkpoint": str(model.source.path),
        # the same weights read in another way are another checkpoint
        "checkpoint_sha256": " ".join([model.source.sha256, *_said(job.overrides)]),
        "step": str(model.source.step),
        "data": lasting(data),
        **about_images(view.source),
        "device": job.device,
    }


def _said(overrides: Mapping[str, Any]) -> list[str]:
    return [f"{name}={overrides[name]}" for name in sorted(overrides)]


def command_of(job: Job, probe: str, data: str, step: int | None, batch_size: int) -> str:
    """The command line that computes this one result again, to the last bit on the same kind of
    machine: it names the step, the device, and the batch size where another probe of the job asked
    for a smaller one."""
    settings = job.probes[probe]
    if parse(probe_class(probe), settings).batch_size != batch_size:
        settings = {**settings, "batch_size": batch_size}
    checkpoint = Path(job.checkpoint)
    if is_run(checkpoint) and step is not None:
        checkpoint = checkpoint / "checkpoints" / f"{step:06d}"
    images = "all" if job.images is None else str(job.images)
    words = ["lcmae", "probe", probe, "--adapter" if job.adapter else "--checkpoint", str(checkpoint)]
    words += ["--data", lasting(data), "--split", job.split]
    words += ["--images", images, "--seed", str(job.seed), "--device", job.device]
    words += [] if job.out is None else ["--out", job.out]
    words += [word for name, value in job.overrides.items() for word in _override(name, value)]
    return shlex.join([*words, *_options(f"--{_dashed(probe)}", settings)])


def _override(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{_dashed(name)}" if value else f"--no-{_dashed(name)}"]
    return [f"--{_dashed(name)}", *map(str, value if isinstance(value, list | tuple) else [value])]


def _options(prefix: str, settings: dict[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _options(f"{prefix}.{_dashed(name)}", value)
        elif isinstance(value, bool):
            yield f"{prefix}.{_dashed(name)}" if value else f"{prefix}.no-{_dashed(name)}"
        else:
            yield f"{prefix}.{_dashed(name)}"
            yield from map(str, value if isinstance(value, list | tuple) else [value])


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def scalars(result: xr.Dataset, most: int = 32) -> dict[str, tuple[float, float]]:
    """Every single number of a result with its standard error (NaN where it has none), named as in
    a table.

    Variables whose axes all carry names (the parts of a loss, say) give one number a label:
    `term[invariance]`. Curves, maps and pictures, and variables of more than `most` numbers, are
    left to figures. Numbers of baselines follow the name: `term_untrained[invariance]`.
    """
    numbers: dict[str, tuple[float, float]] = {}
    for network in map(str, result[NETWORK].values if NETWORK in result.dims else ()):
        if network != TRAINED:
            names = [name for name in map(str, result.data_vars) if network in networks_of(result, name)]
            sems = [f"{name}_sem" for name in names if f"{name}_sem" in result and f"{name}_sem" not in names]
            found = scalars(of_network(result[names + sems], network), most)
            numbers |= {_of_baseline(label, network): number for label, number in found.items()}
    result = trained(result)
    for name in map(str, result.data_vars):
        values = result[name]
        named = all(dim in result.coords and result.coords[dim].dtype.kind in "UO" for dim in values.dims)
        if name.endswith("_sem") or values.dtype.kind not in "fiu" or not named or values.size > most:
            continue
        sems = result.get(f"{name}_sem", xr.full_like(values, math.nan, dtype=float))
        for index in np.ndindex(values.shape):
            labels = [str(result.coords[dim].values[at]) for dim, at in zip(values.dims, index, strict=True)]
            label = f"{name}[{', '.join(labels)}]" if labels else name
            numbers[label] = float(values.values[index]), float(sems.values[index])
    return numbers


def _of_baseline(label: str, network: str) -> str:
    name, bracket, labels = label.partition("[")
    return f"{name}_{network}{bracket}{labels}"


def probe_settings(probe: Probe) -> dict[str, Any]:
    """The settings of a probe that differ from its defaults, and the mask where one was chosen, as
    a job carries them (the mask as a whole)."""
    mine, usual = (json.loads(one.model_dump_json()) for one in (probe, type(probe)()))
    chosen = {"mask"} & probe.model_fields_set & mine.keys()
    return {name: value for name, value in mine.items() if value != usual[name] or name in chosen}
