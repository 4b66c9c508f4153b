"""Model + images + rng -> xarray.Dataset: the contract of probes, and what they share.

A probe is a settings class. `start` makes an accumulator, which sees batch after batch and never
keeps them, so memory is flat and time linear in the number of images. `Batch` computes a forward
pass when a probe first asks for it and keeps it for the batch's other probes: this is how many
probes share one pass over the images (`run_probes`).
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from lcmae.data.hierarchy import Made
from lcmae.errors import InputError
from lcmae.masking import Mask, MaskStrategy, stack_masks
from lcmae.models import MaskedImageModel, MaskedOutput
from lcmae.probes.statistics.running import NUM_GROUPS, RunningMean
from lcmae.probes.watching.passes import Passes, Watcher
from lcmae.progress import ProgressBar
from lcmae.randomness import generator
from lcmae.settings import Settings
from lcmae.shapes import Float

Kept = TypeVar("Kept")

MASK_BLOCK = 64
"""Masks are drawn for this many images at a time, so that an image's masks do not depend on the
batch it comes in."""


@runtime_checkable
class Images(Protocol):
    """What a probe looks at: anything with a length whose slices are images in the model's input
    space, [b c h w].

    A tensor is one. `lcmae.data` sources become one through `lcmae.probes.watching.views.View`,
    which decodes as it goes.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> Tensor: ...


class ProbeError(InputError):
    """What a probe needs and does not find, in one sentence that names the probe."""


@dataclass
class Batch:
    """A few images and, computed once and on demand, what the model says about them."""

    model: MaskedImageModel
    images: Float[Tensor, "b c h w"]
    first: int
    """Index of the first image among all images."""

    seed: int
    """Decides the masks; the same for all checkpoints that are probed together."""

    labels: Tensor | None = None
    """Class of each image, int64, where it is known."""

    other_split: Callable[[int | None], Images] | None = None
    """At most so many images of the split that these are not from, where there is one
    (`lcmae.probes.watching.views.View`)."""

    made: Made | None = None
    """The latents that these images were made from, where they were made (`--data hierarchy`)."""

    _passes: Passes = field(default_factory=Passes)
    _kept: dict[Hashable, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def indices(self) -> range:
        """Indices of these images among all images."""
        return range(self.first, self.first + len(self))

    def masks(self, strategy: MaskStrategy, num_masks: int) -> Mask:
        """`num_masks` masks an image, ordered image by image: a function of (seed, strategy,
        image), never of the batch."""
        return self.once(("masks", _view(strategy, num_masks)), lambda: self._draw(strategy, num_masks))

    def _draw(self, strategy: MaskStrategy, num_masks: int) -> Mask:
        grid, rows = self.model.grid, []
        for block in range(self.first // MASK_BLOCK, (self.first + len(self) - 1) // MASK_BLOCK + 1):
            rng = generator("probe-mask", self.seed, strategy.model_dump_json(), num_masks, block)
            start = block * MASK_BLOCK
            inside = range(max(self.first, start), min(self.first + len(self), start + MASK_BLOCK))
            images = self.images[inside.start - self.first : inside.stop - self.first]
            share = slice((inside.start - start) * num_masks, (inside.stop - start) * num_masks)
            pixels = self.model.to_pixels(images) if strategy.needs_images else None
            rows.append(strategy(MASK_BLOCK * num_masks, grid, rng, images=pixels, share=share))
        return stack_masks(rows)

    def masked(self, strategy: MaskStrategy, num_masks: int) -> tuple[Mask, MaskedOutput]:
        """The model's output under `num_masks` masks an image, rows ordered image by image; no
        gradients."""
        return self._output(_view(strategy, num_masks), lambda: self.masks(strategy, num_masks))

    def unmasked(self) -> MaskedOutput:
        """The model's output on whole images; no gradients."""
        return self._output(_view(), self._no_masks)[1]

    def watch(self, key: Hashable, watcher: Watcher, strategy: MaskStrategy | None = None, num_masks: int = 1) -> None:
        """Have a watcher around the pass over whole images, or over images under these masks,
        before it is made."""
        self._passes.watch(_view(strategy, num_masks), key, watcher)

    def watched(self, key: Hashable, strategy: MaskStrategy | None = None, num_masks: int = 1) -> Any:
        """What the watcher yielded in that pass, which is made where it was not."""
        if strategy is None:
            self.unmasked()
        else:
            self.masked(strategy, num_masks)
        return self._passes.seen(_view(strategy, num_masks), key)

    def of(self, model: MaskedImageModel, most: int | None = None) -> "Batch":
        """The same images, at most so many, as another model of the same input space sees them; its
        passes are shared, too."""
        if model is self.model and most is None:
            return self
        few = slice(0, len(self) if most is None else most)
        labels = None if self.labels is None else self.labels[few]
        made = None if self.made is None else self.made[few]
        other = Batch(model, self.images[few], self.first, self.seed, labels, self.other_split, made)
        return self.once(("of", id(model), len(other)), lambda: other)

    def once(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """What `compute` gives, kept under `key` for the batch's other probes."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def _no_masks(self) -> Mask:
        return Mask.none(len(self), self.model.num_patches)

    def _output(self, view: Hashable, draw: Callable[[], Mask]) -> tuple[Mask, MaskedOutput]:
        def run() -> tuple[Mask, MaskedOutput]:
            with torch.no_grad():
                mask = draw().to(self.images.device)
                return mask, self.model(self.images, mask)

        return self._passes.output(view, run)


def _view(strategy: MaskStrategy | None = None, num_masks: int = 1) -> Hashable:
    return None if strategy is None else (strategy.model_dump_json(), num_masks)


@runtime_checkable
class Accumulator(Protocol):
    """Sees every batch once, keeps sums only, and tells the result."""

    def update(self, batch: Batch) -> None: ...

    def result(self) -> xr.Dataset: ...


@runtime_checkable
class Concluding(Protocol):
    """An accumulator whose last computation takes long enough to be told of: `num_steps` yields,
    then `result`."""

    num_steps: int

    def conclude(self) -> Iterator[None]: ...


@runtime_checkable
class Watching(Protocol):
    """An accumulator that looks inside passes over a batch, and names its watchers before anyone
    makes them."""

    def watch(self, batch: Batch) -> None: ...


class Probe(Settings):
    """Settings that you call with (model, images, rng). Sub-classes implement `start`."""

    name: ClassVar[str]
    """Name on the command line, in files, in the dashboard."""

    question: ClassVar[str]
    """What the probe answers, as one question."""

    needs_prediction: ClassVar[bool] = False
    """Whether the model must predict patches (encoder-only checkpoints do not)."""

    batch_size: int = Field(default=64, ge=1)
    """Images of one forward pass; has no influence on the result but for rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> Accumulator:
        raise TypeError(f"{type(self).__name__} does not accumulate")

    def __call__(self, model: MaskedImageModel, images: Images, rng: torch.Generator) -> xr.Dataset:
        """The probe's result on these images; the model comes back exactly as it was."""
        seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
        results = run_probes([self], model, images, seed)
        failure = results.failures.get(self.name)
        if failure is not None:
            raise failure
        return results.datasets[self.name]

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


def run_probes(
    probes: Sequence[Probe], model: MaskedImageModel, images: Images, seed: int, *, show_progress: bool = False
) -> Results:
    """Many probes, one pass over the images. A probe that lacks what it needs is left out, and the
    others go on.

    `InputError` for what no probe can work with: no image at all, weights or pixels that are NaN or
    infinite.
    """
    results = Results()
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
                running[probe.name] = probe, probe.start(model, len(images), seed)
            except InputError as error:
                results.failures[probe.name] = probe.failure(error)
        size = results.batch_size = min((probe.batch_size for probe, _ in running.values()), default=1)
        with ProgressBar("probing", len(images)) if show_progress else _Silent() as bar:
            look(running, batches(model, images, size, seed), results, bar)
        long = sum(last.num_steps for _, last in running.values() if isinstance(last, Concluding))
        with ProgressBar("concluding", len(running) + long) if show_progress else _Silent() as bar:
            for name in list(running):
                probe, accumulator = running.pop(name)  # what it has summed is let go of when the next one concludes
                try:
                    if isinstance(accumulator, Concluding):
                        for _ in accumulator.conclude():
                            bar.advance(note=name)
                    results.datasets[name] = checked(stamp(accumulator.result(), probe, len(images), seed))
                except InputError as error:
                    results.failures[name] = probe.failure(error)
                bar.advance(note=name)
    return results


def look(
    running: dict[str, tuple[Probe, Accumulator]],
    every_batch: Iterator[Batch],
    results: Results,
    bar: "ProgressBar | _Silent",
) -> None:
    """Show every batch to every probe; one that fails is left out from there on. No batch is
    kept."""
    for batch in every_batch:
        for _, accumulator in running.values():
            if isinstance(accumulator, Watching):
                accumulator.watch(batch)
        for name, (probe, accumulator) in list(running.items()):
            try:
                accumulator.update(batch)
            except InputError as error:
                results.failures[name] = probe.failure(error)
                del running[name]
        bar.advance(len(batch))
        if not running:
            break


def batches(model: MaskedImageModel, images: Images, batch_size: int, seed: int) -> Iterator[Batch]:
    """Slices of the images on the model's device, in order; images that hold NaN or infinity are
    refused by index."""
    labels, other_split = getattr(images, "labels", None), getattr(images, "other_split", None)
    made: Made | None = getattr(images, "made", None)
    for first in range(0, len(images), batch_size):
        part = images[first : first + batch_size].to(model.device)
        finite = part.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            raise InputError(
                f"expected finite pixels, got NaN or infinity in image {first + int((~finite).nonzero()[0])}"
            )
        part_labels = None if labels is None else labels[first : first + batch_size]
        part_made = None if made is None else made[first : first + batch_size]
        yield Batch(model, part, first, seed, part_labels, other_split, part_made)


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


class _Silent:
    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


def stamp(result: xr.Dataset, probe: Probe, num_images: int, seed: int) -> xr.Dataset:
    """Write into a result how it came about: probe, settings, number of images, seed, package
    versions."""
    import timm

    import lcmae

    result.attrs.update(
        probe=probe.name,
        question=probe.question,
        settings=probe.model_dump_json(),
        num_images=num_images,
        seed=seed,
        versions=f"lcmae {lcmae.__version__}, torch {torch.__version__}, timm {timm.__version__}, numpy {np.__version__}",
    )
    return result


def checked(result: xr.Dataset) -> xr.Dataset:
    """Hold a result to the contract: every variable has `units` and `long_name`. A breach is a bug
    in the probe."""
    for name, variable in result.data_vars.items():
        assert {"units", "long_name"} <= variable.attrs.keys(), f"{name} has no units or long_name"
    return result


def variable(dims: tuple[str, ...] | str, values: Any, long_name: str, units: str = "1", **attrs: Any) -> xr.Variable:
    """A labelled variable; tensors become float32 arrays on the CPU unless they are integers or
    booleans."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float().numpy() if values.is_floating_point() and values.ndim else values.numpy()
    return xr.Variable(dims, np.asarray(values), {"long_name": long_name, "units": units, **attrs})


def with_sem(
    dims: tuple[str, ...] | str, running: RunningMean, name: str, long_name: str, units: str = "1", **attrs: Any
) -> Mapping[str, xr.Variable]:
    """`name` and `name_sem`: a mean over images and its standard error; and, for a few numbers,
    `name_groups`, the means of interleaved groups of the images, of which two models over the same
    images make a paired error (`lcmae.probes.results.differences`)."""
    result = {
        name: variable(dims, running.mean, long_name, units, **attrs),
        f"{name}_sem": variable(dims, running.sem, f"standard error over images: {long_name}", units),
    }
    means = running.group_means
    return result if means is None else {**result, **by_groups(dims, means, running.count, name, long_name, units)}


def by_groups(
    dims: tuple[str, ...] | str, means: Float[Tensor, "g ..."], count: int, name: str, long_name: str, units: str = "1"
) -> Mapping[str, xr.Variable]:
    """`name_groups`: means over interleaved groups of `count` images
    (`RunningMean.group_means`)."""
    axes = ("group", *((dims,) if isinstance(dims, str) else dims))
    words = f"mean of every {NUM_GROUPS}th image: {long_name}"
    return {f"{name}_groups": variable(axes, means, words, units, num_images=count)}
