"""A file that was understood (`Reading`) -> a model, with every key and every shape accounted
for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from lcmae.errors import CheckpointError, InputError
from lcmae.formats.beit import SimMIMBeitConfig
from lcmae.formats.encoder import is_beside, unused
from lcmae.formats.facts import MAX_BLOCKS, Facts
from lcmae.formats.positions import resample
from lcmae.formats.rotary import RotaryConfig
from lcmae.formats.vit import ViTConfig
from lcmae.models import MAEConfig, MaskedImageModel, ModelConfig, SimMIMConfig
from lcmae.patches import Grid
from lcmae.provenance import Provenance
from lcmae.settings import parse

StoredModelConfig = Annotated[
    MAEConfig | SimMIMConfig | ViTConfig | SimMIMBeitConfig | RotaryConfig, Field(discriminator="kind")
]
"""Every model that can lie in a run folder: what we train, and what only foreign checkpoints
bring."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SHOWN_KEYS = 3
MAX_COMPUTED = 2**29
"""Bytes of buffers that are computed rather than read; SimMIM's ViT-L takes 7 MiB."""


@dataclass
class Reading:
    """A checkpoint in our own words; tensors may be on the meta device."""

    format: str
    path: str
    sha256: str
    kind: type[ModelConfig]
    tensors: dict[str, Tensor]
    """By the names of our model's state dict."""

    facts: Facts
    grid: Grid
    """Of the positions as they lie in the file."""

    objective: str | None = None
    mask: dict[str, Any] | None = None
    """Settings of the mask strategy it was trained with."""
    step: int | None = None
    source: Provenance | None = None
    """Of a run that was itself imported."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Our names -> the file's, for messages; names that are the same may be missing."""

    root: str = ""
    """What goes before every name of the model in the file, with its dot."""

    others: Sequence[str] = ()
    """What goes before the names of other models below that root."""

    is_exact: bool = False
    """Whether every tensor has to be the model's: in a step of our own run, and beside half a
    decoder, whose other half may be there under names of its own."""


def configure(reading: Reading) -> ModelConfig:
    """The settings that what was read, assumed and overridden add up to."""
    try:
        return parse(reading.kind, reading.facts.settings(reading.kind))
    except InputError as error:
        if reading.facts.overridden:
            raise
        # nobody asked for anything: it is the file that says what does not fit
        raise CheckpointError(
            f"expected settings that fit together in {reading.path}, got: {str(error)[:300]}"
        ) from error


def build(reading: Reading, device: torch.device | str = "cpu") -> MaskedImageModel:
    """The model with its weights, in eval mode. Raises `CheckpointError` where keys, shapes, types
    or values are wrong."""
    model, tensors = _assemble(reading)
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"expected finite weights in {reading.path}, got NaN or infinity in {_named(reading, name)}"
            )
        # what was read may still be mapped to the file
        own[name] = tensor.to(device, copy=True).contiguous()
    model.load_state_dict(own, assign=True)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                module.register_buffer(name, torch.empty_like(buffer, device=device), persistent=False)
    model.fill_buffers()
    model.source = provenance(reading)
    return model.eval()


def outline(reading: Reading) -> MaskedImageModel:
    """The same model on the meta device, from shapes alone: what `inspect` describes."""
    return _assemble(reading)[0]


def _assemble(reading: Reading) -> tuple[MaskedImageModel, dict[str, Tensor]]:
    """A model without memory and the tensors that fit it.

    Every key and shape is compared before any weight is allocated, so a file cannot ask for more
    memory than it has.
    """
    config = configure(reading)
    depth = max(config.depth, getattr(config, "decoder_depth", 0))
    if depth > MAX_BLOCKS:
        raise CheckpointError(f"expected at most {MAX_BLOCKS} blocks in {reading.path}, got {depth}")
    with torch.device("meta"):
        model = config.build()
    tensors = _fitted(reading, config, model)
    saved = model.state_dict()
    computed = sum(buffer.nbytes for name, buffer in model.named_buffers() if name not in saved)
    if computed > MAX_COMPUTED:
        # tables of relative positions have a row a distance, and their index a place for every pair
        # of patches
        raise CheckpointError(
            f"expected a model whose tables take at most {MAX_COMPUTED} bytes in {reading.path}, got {computed} for a "
            f"grid of {config.grid[0]}x{config.grid[1]}"
        )
    return model, tensors


def provenance(reading: Reading) -> Provenance:
    facts = reading.facts
    if reading.source is not None:
        # an imported run stays what it was before, with what you say now on top
        said = {name: value for name, value in facts.read.items() if facts.origins[name] == "you"}
        return Provenance(
            reading.source.format,
            reading.source.path,
            reading.source.sha256,
            reading.step,
            {**reading.source.read, **said},
            {name: value for name, value in reading.source.assumed.items() if name not in said},
            {**reading.source.origins, **dict.fromkeys(said, "you")},
            [*reading.source.notes, *facts.notes],
            reading.source.objective,
            reading.source.mask,
        )
    return Provenance(
        reading.format,
        reading.path,
        reading.sha256,
        reading.step,
        facts.read,
        facts.assumed,
        facts.origins,
        facts.notes,
        reading.objective,
        reading.mask,
    )


def _fitted(reading: Reading, config: ModelConfig, model: MaskedImageModel) -> dict[str, Tensor]:
    """The tensors in float32 and on the model's grid; exactly the keys and shapes of its state
    dict, or an error."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    reading = _without_others(reading, config, expected.keys())
    tensors = _in_float32(reading, expected.keys())
    if reading.grid != config.grid:
        reading.facts.notes.append(
            "positions resampled bicubically from a grid of {}x{} to {}x{}".format(*reading.grid, *config.grid)
        )
        tensors = resample(tensors, reading.grid, config.grid)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    problems = []
    if missing := [name for name in expected if name not in found]:
        problems.append(f"{len(missing)} missing: {_some(reading, missing)}")
    if unexpected := [name for name in found if name not in expected]:
        problems.append(
            f"{len(unexpected)} unexpected: {_some(reading, unexpected)} (save without what is no part of the model)"
        )
    if other := [name for name in expected if name in found and found[name] != expected[name]]:
        first = other[0]
        problems.append(
            f"{len(other)} of other shapes: {_named(reading, first)} is {found[first]}, not {expected[first]}"
        )
    if problems:
        raise CheckpointError(
            f"expected the keys of {type(model).__name__} ({reading.format} layout) in {reading.path}, got "
            + "; ".join(problems)
        )
    return tensors


def _without_others(reading: Reading, config: ModelConfig, expected: Collection[str]) -> Reading:
    """The reading without what lies beside the model in its state dict; a note names it."""
    if reading.is_exact:
        return reading
    files = {name: reading.keys.get(name, name).removeprefix(reading.root) for name in reading.tensors}
    modules = {file.split(".")[0] for name, file in files.items() if name in expected}
    widths = {config.width, getattr(config, "decoder_width", config.width)}
    aside = [
        name
        for name, tensor in reading.tensors.items()
        if name not in expected
        and (
            is_beside(files[name], tensor, modules, widths)
            or (files[name].startswith(tuple(reading.others)) and files[name].split(".")[0] not in modules)
        )
    ]
    unused(reading.facts, [_named(reading, name) for name in aside], "not part of the model")
    return replace(reading, tensors={name: value for name, value in reading.tensors.items() if name not in aside})


def _in_float32(reading: Reading, expected: Collection[str]) -> dict[str, Tensor]:
    for name, tensor in reading.tensors.items():
        if name in expected and tensor.dtype not in FLOATS:
            raise CheckpointError(
                f"expected floating-point weights in {reading.path}, got {tensor.dtype} in {_named(reading, name)}"
            )
    others = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in reading.tensors.values()} - {"float32"})
    if others:
        reading.facts.notes.append(f"weights converted from {' and '.join(others)} to float32")
    return {name: tensor.detach().float() for name, tensor in reading.tensors.items()}


def _some(reading: Reading, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return ", ".join(_named(reading, name) for name in names[:SHOWN_KEYS]) + more


def _named(reading: Reading, name: str) -> str:
    return _printable(reading.keys.get(name, name))


def _printable(name: Any) -> str:
    text = str(name)[:100]
    return text if text.isprintable() else ascii(text)
