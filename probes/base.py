"""Model + images + rng -> xarray.Dataset: the contract of probes in one place.

A probe is a settings class. `start` gives an `Accumulator`, which sees batch after batch and never
keeps them, so memory is flat and time linear in the number of images. Many probes share one pass
over the images (`run_probes`, `lcmae.probes.watching.batch.Batch`). `Probe.baselines` says which
numbers are also measured, by the same code, of networks that learned nothing; in the result those
numbers have the dimension `network` (`lcmae.probes.results.networks`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from pydantic import Field

from lcmae.data.hierarchy import KnownLatents
from lcmae.errors import InputError
from lcmae.free_memory import release_free, releasing
from lcmae.masking import MaskStrategy
from lcmae.models import MaskedImageModel
from lcmae.probes.baselines.pixels import RawPixels
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.results.conditions import mask_words
from lcmae.probes.results.networks import with_baselines
from lcmae.probes.watching.batch import Batch, Images
from lcmae.probes.watching.trained_mask import trained_mask
from lcmae.progress import ProgressBar, Silent
from lcmae.safety.text import reason
from lcmae.settings import Settings

CONVENTIONS = (
    "lcmae-4: every variable has units and long_name; NAME_sem is a standard error with its degrees of freedom and sources "
    "(half of a 95 % interval: Student's t), NAME_masks_sem the part of it that shared masks bring; NAME_groups are means over "
    "interleaved groups of the images, NAME_without estimates without a group; heads and layers are counted from 1; `network` "
    "is the trained model, then baselines; patches in raster order, prefix tokens not counted"
)
"""How to read a result, in its attributes; the number rises when a meaning changes."""


PATCHES_A_PASS = 256
"""Of all images of a pass that several probes share on a processor: 1 image of 14 x 14 patches."""


NOT_FINITE = "beyond the range of floating-point numbers (overflow, or a division by nothing)"
"""Why a number is NaN, in the attribute `missing` of its variable."""


class ProbeError(InputError):
    """What a probe needs and does not find, in one sentence that names the probe."""

    @property
    def is_failure(self) -> bool:
        """Whether its numbers did not come out, though it had what it needs."""
        return isinstance(self.__cause__, NumbersError)


class NumbersError(InputError):
    """Numbers that a probe cannot compute with: an overflow, a matrix without an inverse."""


class Accumulator(ABC):
    """Sees every batch once and keeps sums only. Sub-classes implement `update` and `result`; the
    others are for those that need them."""

    def prepare(self, batch: Batch) -> None:  # noqa: B027 (by default nothing)
        """Learn from other images (`Batch.other_split`) what these are measured by; called once,
        with the first batch, before any pass over it is made, so that no pass is held meanwhile."""

    def watch(self, batch: Batch) -> None:  # noqa: B027 (by default nothing)
        """Name the watchers of what happens within a pass over this batch (`Batch.watch`), before
        any probe asks for the pass."""

    @abstractmethod
    def update(self, batch: Batch) -> None:
        """Take in one batch; batches come in the order of the images."""

    @property
    def num_steps(self) -> int:
        """How many times `conclude` yields: 0 where nothing takes long after the last batch."""
        return 0

    def conclude(self) -> Iterator[None]:
        """The long work after the last batch, a step at a time, so that a progress bar can follow
        it. `result` does what of it was not done."""
        return iter(())

    @abstractmethod
    def result(self) -> xr.Dataset:
        """The labelled numbers, once every image was seen."""


class Probe(Settings):
    """Settings that you call with (model, images, rng). Sub-classes implement `start`."""

    name: ClassVar[str]
    """Name on the command line, in files, in the dashboard."""

    question: ClassVar[str]
    """What the probe answers, as one question."""

    concludes_last: ClassVar[bool] = False
    """Whether the work after the last image needs much memory: then it waits until all others have
    concluded, and what they summed is let go of."""

    needs_prediction: ClassVar[bool] = False
    """Whether the model must predict patches (encoder-only checkpoints do not)."""

    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Baseline (a label of the dimension `network`) -> the variables that are measured of it, too.

    Of a probe with a setting `baseline_images`, `run_probes` measures them with an accumulator of
    their own, on so many of the first images; 0 leaves them out. The accumulators of the other
    probes see all networks themselves, because they need them side by side."""

    batch_size: int = Field(default=64, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    @abstractmethod
    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> Accumulator:
        """The accumulator of one model's numbers over so many images. `ProbeError` where the model
        lacks what the probe needs."""

    def for_baselines(self) -> "Probe":
        """The settings with which baselines are measured: without what only the model itself is
        asked for."""
        return self

    def __call__(self, model: MaskedImageModel, images: Images, rng: torch.Generator) -> xr.Dataset:
        """The probe's result on these images; the model comes back exactly as it was."""
        seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
        results = run_probes([self], model, images, seed)
        failure = results.failures.get(self.name)
        if failure is not None:
            raise failure
        return results.datasets[self.name]

    def under_trained_mask(self, model: MaskedImageModel) -> "Probe":
        """These settings under the mask strategy that the model was trained with, unless a mask was
        chosen."""
        if "mask" not in type(self).model_fields or "mask" in self.model_fields_set:
            return self
        mask = trained_mask(model)
        return self if mask is None or not self.takes(mask) else self.model_copy(update={"mask": mask})

    def takes(self, mask: MaskStrategy) -> bool:
        """Whether the probe can do its work under any such mask; asked of the one that the model
        was trained with."""
        return True

    def require(self, condition: bool, need: str) -> None:
        """Raise `ProbeError` naming this probe and what it needs, unless `condition` holds."""
        if not condition:
            raise ProbeError(f"probe {self.name}: needs {need}")

    def failure(self, error: InputError) -> ProbeError:
        """The same error, naming this probe."""
        if isinstance(error, ProbeError):
            return error
        named = ProbeError(f"probe {self.name}: {error}")
        named.__cause__ = error
        return named


@dataclass
class Results:
    """What came of several probes: datasets by probe name, and what was missing for the others."""

    datasets: dict[str, xr.Dataset] = field(default_factory=dict)
    failures: dict[str, ProbeError] = field(default_factory=dict)
    batch_size: int = 1
    """Images of one forward pass, the smallest that a probe asked for; the last bits of a result
    depend on it."""


FAILURES = (
    InputError,
    ArithmeticError,
    np.linalg.LinAlgError,
    torch.linalg.LinAlgError,  # pyright: ignore[reportPrivateImportUsage]
)
"""What one probe may fail with while the others go on: bad input, and numbers that do not come
out."""


def _as_input(error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return NumbersError(f"expected numbers that it can compute with, got {type(error).__name__}: {reason(error)}")


def run_probes(
    probes: Sequence[Probe], model: MaskedImageModel, images: Images, seed: int, *, show_progress: bool = False
) -> Results:
    """Many probes, one pass over the images. A probe that lacks what it needs is left out, and the
    others go on.

    `InputError` for what no probe can work with: no image at all, weights or pixels that are NaN or
    infinite.
    """
    results = Results()
    probes = [probe.under_trained_mask(model) for probe in probes]
    if len(images) == 0:
        raise InputError("expected at least one image to probe, got none")
    running: dict[str, tuple[Probe, Accumulator]] = {}
    with unchanged(model):
        for probe in probes:
            try:
                probe.require(
                    model.has_prediction or not probe.needs_prediction,
                    "a checkpoint with its decoder or head, got an encoder alone",
                )
                running[probe.name] = probe, start_with_baselines(probe, model, len(images), seed)
            except InputError as error:
                results.failures[probe.name] = probe.failure(error)
        size = results.batch_size = images_a_pass([probe for probe, _ in running.values()], model)
        with ProgressBar("probing", len(images)) if show_progress else Silent() as bar:
            show_batches(running, batches(model, images, size, seed), results, bar)
        release_free()
        long = sum(accumulator.num_steps for _, accumulator in running.values())
        with ProgressBar("concluding", len(running) + long) if show_progress else Silent() as bar:
            for name in sorted(running, key=lambda name: running[name][0].concludes_last):
                probe, accumulator = running.pop(name)  # what it has summed is let go of when the next one concludes
                release_free()
                try:
                    for _ in releasing(accumulator.conclude()):
                        bar.advance(note=name)
                    results.datasets[name] = checked(stamp(accumulator.result(), probe, model, len(images), seed))
                except FAILURES as error:
                    results.failures[name] = probe.failure(_as_input(error))
                bar.advance(note=name)
    asked = [probe.name for probe in probes if probe.name in results.datasets]
    results.datasets = {name: results.datasets[name] for name in asked}
    return results


def images_a_pass(probes: Sequence[Probe], model: MaskedImageModel) -> int:
    """How many images go through a model at once: the fewest that a probe asks for. On a processor
    several probes together get at most `PATCHES_A_PASS` patches, because what each of them watches
    in a pass is held at the same time."""
    fewest = min((probe.batch_size for probe in probes), default=1)
    if len(probes) < 2 or model.device.type != "cpu":
        return fewest
    return min(fewest, max(1, PATCHES_A_PASS // model.num_patches))


def start_with_baselines(probe: Probe, model: MaskedImageModel, num_images: int, seed: int) -> Accumulator:
    """The probe's accumulator, beside those of its baselines where it has a setting
    `baseline_images`."""
    own = probe.start(model, num_images, seed)
    most: int | None = getattr(probe, "baseline_images", None)
    if most is None:
        return own
    count, others = min(most, num_images), {}
    for network in probe.baselines if count else ():
        other = untrained(model, seed) if network == "untrained" else RawPixels.like(model)
        if other is not None:
            others[network] = other, probe.for_baselines().start(other, count, seed)
    return _WithBaselines(probe, own, others, count)


@dataclass
class _WithBaselines(Accumulator):
    """A model's accumulator, and those of its baselines, which see the first `count` images."""

    probe: Probe
    own: Accumulator
    others: dict[str, tuple[MaskedImageModel, Accumulator]]
    count: int

    def prepare(self, batch: Batch) -> None:
        for accumulator, seen in self._parts(batch):
            accumulator.prepare(seen)

    def watch(self, batch: Batch) -> None:
        for accumulator, seen in self._parts(batch):
            accumulator.watch(seen)

    def update(self, batch: Batch) -> None:
        for accumulator, seen in self._parts(batch):
            accumulator.update(seen)

    def _parts(self, batch: Batch) -> list[tuple[Accumulator, Batch]]:
        parts = [(self.own, batch)]
        if batch.first < self.count:
            parts += [
                (accumulator, batch.of(model, most=self.count - batch.first))
                for model, accumulator in self.others.values()
            ]
        return parts

    @property
    def num_steps(self) -> int:
        return self.own.num_steps

    def conclude(self) -> Iterator[None]:
        return self.own.conclude()

    def result(self) -> xr.Dataset:
        result, found = self.own.result(), {}
        del self.own  # what it has summed is let go of before the baselines conclude
        while self.others:
            network = next(iter(self.others))
            found[network] = self.others.pop(network)[1].result()
            result.attrs[f"{network}_images"] = self.count
        return with_baselines(result, found, self.probe.baselines)


def show_batches(
    running: dict[str, tuple[Probe, Accumulator]],
    every_batch: Iterator[Batch],
    results: Results,
    bar: "ProgressBar | Silent",
) -> None:
    """Show every batch to every probe; one that fails is left out from there on. No batch is
    kept."""

    def each(step: Callable[[Accumulator], None]) -> None:
        for name, (probe, accumulator) in list(running.items()):
            try:
                step(accumulator)
            except FAILURES as error:
                results.failures[name] = probe.failure(_as_input(error))
                del running[name]

    for batch in every_batch:
        if batch.first == 0:
            each(lambda accumulator, batch=batch: accumulator.prepare(batch))
        release_free()  # what preparing took, and the batch before this one
        for _, accumulator in running.values():
            accumulator.watch(batch)
        each(lambda accumulator, batch=batch: accumulator.update(batch))
        bar.advance(len(batch))
        if not running:
            break


def batches(model: MaskedImageModel, images: Images, batch_size: int, seed: int) -> Iterator[Batch]:
    """Slices of the images on the model's device, in order; images that hold NaN or infinity are
    refused by index."""
    labels, other_split = getattr(images, "labels", None), getattr(images, "other_split", None)
    known_latents: KnownLatents | None = getattr(images, "known_latents", None)
    class_maps = getattr(images, "class_maps", None)
    for first in range(0, len(images), batch_size):
        part = images[first : first + batch_size].to(model.device)
        finite = part.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            raise InputError(
                f"expected finite pixels, got NaN or infinity in image {first + int((~finite).nonzero()[0])}"
            )
        part_labels = None if labels is None else labels[first : first + batch_size]
        part_latents = None if known_latents is None else known_latents[first : first + batch_size]
        yield Batch(model, part, first, seed, part_labels, other_split, part_latents, class_maps)


class unchanged:
    """Whatever happens inside, the model leaves as it came: evaluation or training mode, gradients,
    requires_grad."""

    def __init__(self, model: MaskedImageModel) -> None:
        self.model = model

    def __enter__(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise InputError(f"expected finite weights, got NaN or infinity in {name}")
        self._modes = {module: module.training for module in self.model.modules()}
        self._parameters = [(p, p.requires_grad, p.grad) for p in self.model.parameters()]
        self.model.eval()
        for parameter, _, _ in self._parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for module, mode in self._modes.items():
            module.training = mode
        for parameter, requires_grad, grad in self._parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad


def stamp(result: xr.Dataset, probe: Probe, model: MaskedImageModel, num_images: int, seed: int) -> xr.Dataset:
    """Write into a result how it came about: probe, settings, masks, number of images, seed,
    precision, conventions, package versions."""
    import timm

    import lcmae

    result.attrs.update(
        probe=probe.name,
        question=probe.question,
        settings=probe.model_dump_json(),
        num_images=num_images,
        seed=seed,
        precision=str(next(model.parameters()).dtype).removeprefix("torch."),
        conventions=CONVENTIONS,
        versions=f"lcmae {lcmae.__version__}, torch {torch.__version__}, timm {timm.__version__}, numpy {np.__version__}",
    )
    if "mask" in type(probe).model_fields:
        result.attrs["mask"] = mask_words(probe.model_dump()["mask"])
        mask = trained_mask(model)
        if mask is not None:
            result.attrs["trained_mask"] = mask_words(mask.model_dump())
    return result


def checked(result: xr.Dataset) -> xr.Dataset:
    """Hold a result to the contract: every variable has `units` and `long_name`. A breach is a bug
    in the probe.

    What overflowed, or was divided by nothing, is no number: NaN, with the reason in the attribute
    `missing`.
    """
    for name, variable in result.data_vars.items():
        if variable.dtype.kind == "f" and np.isinf(variable.values).any():
            variable.values = np.where(np.isinf(variable.values), np.nan, variable.values)
            variable.attrs["missing"] = NOT_FINITE
        assert {"units", "long_name"} <= variable.attrs.keys(), f"{name} has no units or long_name"
    return result
