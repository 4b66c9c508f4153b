"""`lcmae.Watch`: probes inside somebody else's training loop, in three lines.

    watch = lcmae.Watch(model, images, probes=["spectrum"], every=500, out="runs/mine")
    for step, batch in enumerate(batches):
        ...
        watch(step)

Every N steps the probes run on the same images with the same seed. Results go into a run folder
like those of `lcmae train`, so the dashboard follows it live. The training is not changed: random
state (Python, NumPy, torch, CUDA), modes, gradients, `requires_grad`. A failure of a measurement is
logged and listed in `Watch.failures`, and the training continues.
"""

import atexit
import json
import logging
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from lcmae.data.images import images as open_images
from lcmae.errors import InputError
from lcmae.models import MaskedImageModel, ModelConfig
from lcmae.probes.base import FAILURES, run_probes, unchanged
from lcmae.probes.jobs import trainer_callbacks
from lcmae.probes.jobs.batch import scalars
from lcmae.probes.jobs.direct import chosen_probes, digest_of
from lcmae.probes.results import catalogue
from lcmae.probes.statistics.seeds import probe_seed
from lcmae.probes.watching.views import View, about_images
from lcmae.runs.durable import home, to_json
from lcmae.runs.run import Run, is_run
from lcmae.safety.text import reason, show
from lcmae.training import distributed
from lcmae.training.trackers import Tracker, open_trackers

log = logging.getLogger(__name__)

Adapt = Callable[[nn.Module], MaskedImageModel]
"""A module of yours -> a model: `lcmae.adapt(module, ...)`, or a model that it holds."""


class Watch:
    """Call it with the step after every step; it measures at multiples of `every`.

    `model`: one of `lcmae.load`, `lcmae.models` or `lcmae.adapt`; or any module together with
    `adapt`, which makes one of it (the module stays in training mode). `images`: whatever
    `lcmae.images` takes, at most `limit` of them, read once. `probes`: as in `lcmae.probe`. `out`:
    the run folder; a new one, or that of the same watch, which is continued. `loggers`:
    "tensorboard", "wandb", "mlflow", or functions of (step, {name: value}). `checkpoints`: also
    store the weights at each measurement, by default for models that `lcmae.load` can read back.
    With several processes, the main one measures. `InputError` for faults that can be known before
    training begins.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        probes: Any = ("spectrum",),
        *,
        out: Path | str,
        every: int = 500,
        adapt: Adapt | None = None,
        limit: int | None = 256,
        seed: int = 0,
        loggers: Sequence[str | Tracker] = (),
        checkpoints: bool | None = None,
        show_progress: bool = False,
    ) -> None:
        if every < 1:
            raise InputError(f"expected every of at least 1 step, got {every}")
        self.every, self.seed, self.show_progress = every, seed, show_progress
        self.num_measured, self.seconds = 0, 0.0
        self.failures: dict[int, str] = {}
        """What could not be measured or stored, by step."""
        self._last: int | None = None
        self._is_closed = False
        self._stack = ExitStack()
        self._is_main = distributed.is_main()
        if not self._is_main:
            return
        chosen = chosen_probes(probes)
        with random_state_preserved(), module_preserved(model):
            self.model = _masked_model(model, adapt)
            source = open_images(images, limit=limit).at(self.model.config.image_size, self.model.config.channels)
            self._view = View(source, self.model)
            self._about = {"data": source.name, **about_images(source)}
            self.probes = [probe.under_trained_mask(self.model) for probe in chosen]
            with unchanged(self.model):
                for probe in self.probes:  # what a probe lacks is known now, not after 500 steps
                    probe.require(
                        self.model.has_prediction or not probe.needs_prediction,
                        "a model that predicts patches, got an encoder alone",
                    )
                    probe.start(self.model, len(source), probe_seed(seed))
        can_be_loaded = type(self.model.config).build is not ModelConfig.build
        self.checkpoints = can_be_loaded if checkpoints is None else checkpoints
        self.run, self._continues = _open_run(home(out), self._config(source.name, source.split))
        self._stack.enter_context(self.run.lock())
        names = tuple(one for one in loggers if isinstance(one, str))
        with random_state_preserved():
            trackers = self._stack.enter_context(open_trackers(names, self.run)) if names else None
        self._trackers: list[Tracker] = [one for one in loggers if not isinstance(one, str)]
        self._trackers += [] if trackers is None else [trackers]
        atexit.register(self.close)
        self._begin = time.monotonic()

    @staticmethod
    def lightning(images: Any, probes: Any = ("spectrum",), *, adapt: Adapt | None = None, **settings: Any) -> Any:
        """A callback for a Lightning `Trainer`; settings as of `Watch`, steps are optimiser steps.
        `adapt` is given the LightningModule."""
        return trainer_callbacks.lightning(lambda module: Watch(module, images, probes, adapt=adapt, **settings))

    @staticmethod
    def hugging_face(images: Any, probes: Any = ("spectrum",), *, adapt: Adapt | None = None, **settings: Any) -> Any:
        """A callback for a `transformers.Trainer`; settings as of `Watch`, steps are optimiser
        steps. `adapt` is given the trainer's model."""
        return trainer_callbacks.hugging_face(lambda module: Watch(module, images, probes, adapt=adapt, **settings))

    def __call__(self, step: int) -> dict[str, xr.Dataset] | None:
        """Measure where the step is a multiple of `every` and was not measured yet; the results by
        probe, None otherwise."""
        if not self._is_main:
            return None
        if self._is_closed:
            raise InputError(f"expected a watch that is open at step {step}, got one that is closed")
        if self._continues:
            self._continues = False
            self.run.truncate_metrics(step - 1)  # as a run that continues from there
        if step % self.every or step == self._last:
            return None
        self._last, begin = step, time.monotonic()
        try:
            with random_state_preserved():
                return self._measure(step, begin)
        except (*FAILURES, OSError, torch.OutOfMemoryError) as error:
            self._failed(step, reason(error))
            return None
        finally:
            self.seconds += time.monotonic() - begin

    def _measure(self, step: int, begin: float) -> dict[str, xr.Dataset]:
        device = self.model.device.type
        with torch.enable_grad(), torch.autocast(device, enabled=False):
            found = run_probes(
                self.probes, self.model, self._view, probe_seed(self.seed), show_progress=self.show_progress
            )
        about = {
            "checkpoint": f"step {step} of {self.run.name}",
            "checkpoint_sha256": digest_of(self.model),
            "step": str(step),
            **self._about,
            "device": str(self.model.device),
        }
        metrics: dict[str, float] = {}
        for name, dataset in found.datasets.items():
            dataset.attrs.update(about)
            catalogue.add(dataset, self.run.results_folder(step))
            metrics |= {metric_name(name, label): value for label, (value, _) in scalars(dataset).items()}
        if self.checkpoints:
            self.run.publish(step, self.model.state_dict(), config=self.run.config, resume=None)
        if found.failures:
            self._failed(step, "; ".join(map(str, found.failures.values())))
        self.num_measured += 1
        seconds = time.monotonic() - begin
        metrics |= {"watch/seconds": seconds, "watch/share": self._share(seconds)}
        self.run.log_metrics({"step": step, **metrics})
        for track in self._trackers:
            track(step, metrics)
        return found.datasets

    @property
    def share(self) -> float:
        """What share of the time since the watch began was spent in it, 0 to 1."""
        return self._share(0.0) if self._is_main else 0.0

    def _share(self, more: float) -> float:
        return min(1.0, (self.seconds + more) / max(time.monotonic() - self._begin, 1e-9))

    def _failed(self, step: int, sentence: str) -> None:
        self.failures[step] = sentence
        log.warning("lcmae.Watch: step %d was not measured whole: %s", step, sentence)

    def close(self) -> None:
        """End the run folder in order, and say on standard error what it cost. Called when the
        process ends, if nobody does before."""
        if self._is_main and not self._is_closed:
            self._is_closed = True
            atexit.unregister(self.close)
            print(repr(self), file=sys.stderr)
            self._stack.close()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._is_main:
            return "lcmae.Watch: another process measures"
        failed = f", {len(self.failures)} not whole" if self.failures else ""
        return (
            f"lcmae.Watch: {self.num_measured} measurements of {', '.join(probe.name for probe in self.probes)}{failed}: "
            f"{self.seconds:.1f} s, {100 * self.share:.1f} % of the loop; results in {show(self.run.path)}"
        )

    def _config(self, data: str, split: str) -> dict[str, Any]:
        settings = {probe.name: json.loads(probe.model_dump_json()) for probe in self.probes}
        watch = {"every": self.every, "probes": settings, "num_images": len(self._view), "split": split}
        model = self.model.config.model_dump(mode="json")
        return {"watch": watch, "model": model, "data": data, "seed": self.seed}


def metric_name(probe: str, label: str) -> str:
    """`local_contrast/term/invariance` of `term[invariance]`: names that every tracker takes."""
    parts = [part for part in re.split(r"[\[\],]\s*", label) if part]
    return "/".join([probe, *(re.sub(r"[^A-Za-z0-9_.-]+", "_", part) for part in parts)])


def _masked_model(model: nn.Module, adapt: Adapt | None) -> MaskedImageModel:
    found = model if adapt is None else adapt(model)
    if not isinstance(found, MaskedImageModel):
        got = type(found).__name__
        more = "; adapt= says how to make one, lcmae.adapt makes one of any module" if adapt is None else " from adapt"
        raise InputError(f"expected a model of lcmae.load or lcmae.adapt, got {got}{more}")
    if any(hasattr(parameter, "placements") for parameter in found.parameters()):
        raise InputError("expected whole weights in the main process, got sharded ones (FSDP), which no probe can read")
    return found


def _open_run(out: Path, config: dict[str, Any]) -> tuple[Run, bool]:
    """The run folder, and whether it was there before."""
    if not is_run(out):
        return Run.create(out, config), False
    run = Run.open(out)
    if run.config != json.loads(to_json(config, "config")):
        raise InputError(
            f"expected a new folder, or the run of a watch with these settings, got another run: {show(out)}"
        )
    return run, True


@contextmanager
def random_state_preserved() -> Iterator[None]:
    """Whatever is drawn within, the global generators of Python, NumPy, torch and CUDA go on as if
    nothing had been."""
    ours = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global one is what others draw from
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(numpy_state)  # noqa: NPY002 - see above


@contextmanager
def module_preserved(module: nn.Module) -> Iterator[None]:
    """Modes, gradients and `requires_grad` of a module come back as they were; `lcmae.adapt` puts
    what it adapts into evaluation mode."""
    modes = {part: part.training for part in module.modules()}
    parameters = [(one, one.requires_grad, one.grad) for one in module.parameters()]
    for parameter, _, _ in parameters:
        parameter.grad = None  # so that nothing is added to what was there
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
