"""Models that answer while one waits: loaded when first needed, shared by all sessions, bounded in
memory.

Nothing here imports torch before `load` is called; a page calls it inside a spinner. Answers,
forward passes and drawn views share one cache; its keys are (weights, settings, image), never
arrays. Models compute in the threads of `lcmae.app.dashboard.live.compute`.
"""

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import xarray as xr

from lcmae.app.dashboard.components.picks import Picks, adapters, data_sources
from lcmae.app.dashboard.jobs import reader
from lcmae.app.dashboard.live import prefetch, uploads
from lcmae.app.dashboard.live.cache import Cache
from lcmae.app.dashboard.live.compute import compute as in_compute_thread
from lcmae.app.dashboard.server import tuning
from lcmae.app.dashboard.stored import reading
from lcmae.errors import CheckpointError, InputError
from lcmae.runs.within_root import within_root

if TYPE_CHECKING:
    from torch import Tensor

    from lcmae.data import ImageSource
    from lcmae.masking import MaskStrategy
    from lcmae.models import MaskedImageModel
    from lcmae.probes.watching.microscope import CachedForward

NUM_IMAGES = 500
"""Images of a source that can be picked: those that `lcmae probe` takes by default, in its
order."""

NAMED = ("photographs", "digits", "cifar10", "cifar100", "stl10")
"""Sources that need no path. A path may come from a run's config, never from an address."""

MODEL_BYTES = int(os.environ.get("LCMAE_MODEL_BYTES", 2 << 30))
"""Of all models in memory; the newest stays in any case."""

CACHE_BYTES = 512 << 20
"""Of answers, forward passes and drawn views together."""

SMALL_PASS = 4e9
"""Operations of an encoder's pass over one image, up to which a model counts as small: what may be
asked for next is computed before anybody asks."""


@dataclass(frozen=True)
class Location:
    """Where a checkpoint lies: a step of a run, or a file of another library."""

    name: str
    """Path from the root on."""

    path: Path
    """The step's folder, or the file; inside the root."""

    root: Path
    """The folder that the server shows."""

    run: Path | None = None
    """The run, if it is one."""

    step: int | None = None

    adapter: str | None = None
    """FILE.py:FUNCTION of whoever started the server, if it is one; never out of an address."""

    @property
    def label(self) -> str:
        """For captions."""
        return self.name if self.step is None else f"{self.name}, step {self.step}"


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model, and what identifies it."""

    location: Location
    model: "MaskedImageModel"
    """In evaluation mode; its weights take no gradients."""

    beside: "MaskedImageModel"
    """The same weights in other modules, for what is computed beside the model (`tuning`)."""

    sha256: str
    """Of the weights."""

    key: str
    """Weights and settings: two files with the same key give the same answers."""

    data: str
    """The images that it opens with: the owner's (`--data`), else what it was trained on, else the
    photographs that come with lcmae."""

    trained_on: str | None
    """The data of its config, where it has one."""

    num_bytes: int
    """Of parameters and buffers."""

    is_small: bool
    """Whether a pass is over before anybody has looked at the last answer."""

    @property
    def encoder(self) -> tuple[int, int]:
        """Blocks and heads."""
        return len(self.model.blocks), self.model.config.heads if len(self.model.blocks) else 0

    @property
    def decoder(self) -> tuple[int, int]:
        """Blocks and heads; (0, 0) where nothing but the encoder is there, or prediction is one
        linear layer."""
        blocks = self.model.decoder_blocks
        return (len(blocks), int(getattr(self.model.config, "decoder_heads", 0))) if len(blocks) else (0, 0)


class View(Protocol):
    """Something drawn."""

    @property
    def num_bytes(self) -> int:
        """About what it takes."""
        ...


Drawn = TypeVar("Drawn", bound=View)


@dataclass(frozen=True, eq=False)
class Picture:
    """One image as one model takes it."""

    pixels: "Tensor"
    """uint8 [1 c h w]."""

    key: str
    """SHA-256 of the pixels and their shape."""

    index: int
    """Among the source's images; 0 for an upload. It decides the masks, as in `lcmae probe`."""

    name: str
    """What it is: a file, or a file and its row."""

    label: str
    """Name of its class, or nothing."""


_models: Cache[Loaded] = Cache(max_bytes=MODEL_BYTES, max_entries=8, size=lambda loaded: loaded.num_bytes)
_sources: "Cache[ImageSource]" = Cache(
    max_bytes=256 << 20, max_entries=8, size=lambda source: source.stored.nbytes if source.stored is not None else 0
)
_computed: Cache[Any] = Cache(max_bytes=CACHE_BYTES, max_entries=2000, size=lambda value: value.num_bytes)


@dataclass(frozen=True, eq=False)
class _Answer:
    dataset: xr.Dataset

    @property
    def num_bytes(self) -> int:
        return self.dataset.nbytes


@dataclass(frozen=True, eq=False)
class Gradient:
    """At every pixel of an image."""

    pixels: "Tensor"

    @property
    def num_bytes(self) -> int:
        return self.pixels.nbytes


# --- checkpoints ---


def names(picked: Picks) -> list[str]:
    """Every checkpoint: the picked runs, the owner's adapters, the other runs, files of other
    libraries."""
    others = [name for name in picked.runs if name not in picked.names]
    return [*picked.names, *adapters(), *others, *reader.candidates_below(picked.root).names]


def locate(picked: Picks, name: str, step: int | None = None) -> Location:
    """Where the checkpoint of a selection lies. `InputError` where there is none."""
    if adapter := adapters().get(name):
        return Location(name, Path(adapter.rpartition(":")[0]), picked.root, adapter=adapter)
    if name not in picked.runs:
        return Location(name, within_root(name, picked.root), picked.root)
    run = picked.runs[name]
    published = reading.steps_of(run)
    if not published:
        raise InputError(f"{name} has no checkpoint yet")
    if step is None:
        step = picked.step if picked.step in published else published[-1]
    if step not in published:
        raise InputError(f"{name} has no step {step}")
    return Location(name, run / "checkpoints" / f"{step:06d}", picked.root, run, step)


def load(location: Location) -> Loaded:
    """The model, loaded once for all sessions. The first call imports torch. `InputError` for what
    cannot be opened."""
    try:
        files = sorted(location.path.iterdir()) if location.path.is_dir() else [location.path]
    except OSError as error:  # deleted meanwhile
        raise CheckpointError(f"expected a checkpoint at {location.path}, got none: {error.strerror}") from error
    return _models.get((location.adapter, *map(reading.stamp, files)), lambda: _load(location))


def _load(location: Location) -> Loaded:
    if location.run is None and location.adapter is None:
        # a process of its own reads it first, and refuses names and shapes that would hurt the
        # server
        answer = reader.inspect_below(location.root, str(location.path))
        if answer.facts is None:
            raise CheckpointError(answer.refusal)
    # read by OpenMP when torch loads: on a shared machine spinning threads make a step ten times
    # slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    import lcmae
    import lcmae.probes.watching.microscope  # now, while a spinner turns, rather than with the first picture

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if location.adapter is not None:
        from lcmae.adapters import from_file

        model = from_file(location.adapter).to(device).requires_grad_(False)
    else:
        model = lcmae.load(location.path, device=device).requires_grad_(False)
    assert model.source is not None
    config = model.config.model_dump_json()
    key = hashlib.sha256(f"{model.source.sha256} {config}".encode()).hexdigest()
    num_bytes = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    data = reading.config_of(location.run).get("data") if location.run is not None else None
    data = data if isinstance(data, str) and data.isprintable() and data else None  # a foreign config may say anything
    tokens = model.num_patches + model.num_prefix
    operations = 2 * tokens * sum(parameter.numel() for parameter in model.blocks.parameters())
    is_small = operations <= SMALL_PASS
    return Loaded(
        location,
        model,
        tuning.with_own_modules(model),
        model.source.sha256,
        key,
        next(iter(data_sources()), data or NAMED[0]),
        data,
        num_bytes,
        is_small,
    )


# --- images ---


def sources(loaded: Loaded) -> list[str]:
    """Sources that can be picked for a model: the owner's first (`lcmae dashboard --data`), then
    what it was trained on."""
    own = [loaded.trained_on] if loaded.trained_on else []
    return list(dict.fromkeys([*data_sources(), *own, *NAMED]))


def num_images(loaded: Loaded, data: str, split: str) -> int:
    """How many images can be picked."""
    return len(_source(loaded, data, split))


def picture(loaded: Loaded, data: str, split: str, index: int) -> Picture:
    """An image of a source, at the model's size and channels. `InputError` where there is none."""
    source = _source(loaded, data, split)
    if index >= len(source):
        raise InputError(f"expected an image from 0 to {len(source) - 1} of {data}, got {index}")
    label = ""
    if source.labels is not None:
        number = int(source.labels[index])
        label = source.label_names[number] if source.label_names else str(number)
    return _picture(source[index : index + 1].cpu(), index, source.paths[index], label)


def uploaded(loaded: Loaded, name: str) -> Picture:
    """An upload (`lcmae.app.dashboard.live.uploads`) at the model's size and channels. `InputError`
    where it is gone, no image, or too big."""
    import torch

    height, width = loaded.model.config.image_size
    pixels = uploads.pixels(name, height, width, loaded.model.config.channels)
    return _picture(torch.from_numpy(pixels.copy())[None], 0, uploads.called(name), "")


def _picture(pixels: "Tensor", index: int, name: str, label: str) -> Picture:
    key = hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()
    return Picture(pixels, key, index, name, label)


def _source(loaded: Loaded, data: str, split: str) -> "ImageSource":
    if data not in sources(loaded):
        raise InputError(f"expected data out of {', '.join(sources(loaded))}, got {data}")
    config = loaded.model.config

    def read() -> "ImageSource":
        from lcmae.data import open_source

        return open_source(data, split=split, image_size=config.image_size, channels=config.channels, limit=NUM_IMAGES)

    return _sources.get((data, split, config.image_size, config.channels), read)


# --- answers ---


def answer(
    loaded: Loaded, what: str, settings: Hashable, compute: Callable[[], xr.Dataset], *, beside: bool = False
) -> xr.Dataset:
    """A number of this model, computed once: `settings` (with the image's key) must decide it
    together with the weights. What is computed `beside` others uses `Loaded.beside` and shares no
    part with them."""
    prefetch.stop()
    key = ("answer", loaded.key, what, settings)

    def run() -> _Answer:
        tuning.share_cores(is_small=loaded.is_small)
        return _Answer(compute())

    return _computed.get(key, lambda: in_compute_thread(run, beside=beside)).dataset


def forward(loaded: Loaded, settings: Hashable, compute: "Callable[[], CachedForward]") -> "CachedForward":
    """A forward pass that several answers share; asked for by what computes an answer, in the first
    compute thread alone (another thread could hold the entry while that thread waits for it)."""
    return _computed.get(("forward", loaded.key, settings), compute)


def gradient(loaded: Loaded, settings: Hashable, compute: Callable[[], Gradient]) -> "Tensor":
    """What several answers share of a gradient, on the same terms."""
    return _computed.get(("gradient", loaded.key, settings), compute).pixels


def view(loaded: Loaded, what: str, settings: Hashable, draw: Callable[[], Drawn]) -> Drawn:
    """What a page shows of answers, drawn once: `settings` must decide it together with the
    weights."""
    return cast(Drawn, _computed.get(("view", loaded.key, what, settings), draw))


def masks() -> list[str]:
    """Kinds of mask that can be picked: every strategy that needs no images."""
    from lcmae.masking import STRATEGIES

    return [kind for kind, strategy in STRATEGIES.items() if not strategy.needs_images]


def strategy(kind: str, ratio: float, grid: Sequence[int]) -> "MaskStrategy":
    """A mask strategy by its kind, checked against the grid. `InputError` where it cannot be drawn
    there."""
    from lcmae.masking import STRATEGIES
    from lcmae.settings import parse

    if kind not in STRATEGIES:
        raise InputError(f"expected a mask out of {', '.join(STRATEGIES)}, got {kind}")
    found = parse(STRATEGIES[kind], {"ratio": ratio})
    found.check((grid[0], grid[1]))
    return found
