"""A look at a few images before all are decoded: their size, bands and range, and what is odd about
them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lcmae.data.collection import Collection
from lcmae.data.decode import Decoder
from lcmae.data.readers.arrays import ArrayRows, class_numbers
from lcmae.data.values import Description, Range, Unreadable, Unsuitable, little_used, type_range
from lcmae.errors import InputError

NUM_SAMPLED = 16
"""Images that are looked at; of an array in memory, eight times as many."""

LARGEST = 256
"""Pixels of the shorter side where no size is asked for."""


class ImagesWarning(UserWarning):
    """Something about images that was assumed, or that is odd; the command line prints its one
    line."""


@dataclass
class _Sample:
    path: str
    image: Any
    """As stored: a PIL image, or an array [h w c]."""

    @property
    def values(self) -> np.ndarray:
        return self.image if isinstance(self.image, np.ndarray) else np.asarray(self.image.convert("L"))

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[:2] if isinstance(self.image, np.ndarray) else (self.image.height, self.image.width)

    @property
    def bands(self) -> int:
        if isinstance(self.image, np.ndarray):
            return self.image.shape[-1]
        return {"1": 1, "L": 1, "LA": 2, "RGBA": 4}.get(self.image.mode, 3)

    @property
    def is_plain(self) -> bool:
        """A usual image of 8 bits, whose alpha channel is laid over white."""
        return not isinstance(self.image, np.ndarray)


def survey(
    name: str,
    images: Collection,
    image_size: int | tuple[int, int] | None,
    channels: int | None,
    value_range: Range | None,
    bands: tuple[int, ...] | None,
) -> tuple[Decoder, Description]:
    """How to decode these images, and what they are. `InputError` where what is asked for does not
    go with any of them."""
    if images.hierarchy is not None:
        return _of_hierarchy(images, image_size, channels)
    stated = value_range or (None if images.own_range is None else images.own_range[0])
    wanted = channels or (len(bands) if bands is not None else None)
    trial = Decoder(1, 1, wanted or 1, stated, bands)
    samples = _samples(images, trial)
    height, width = _size(samples, image_size)
    if channels is None:
        channels = _channels(samples, bands)
    decoder = Decoder(height, width, channels, stated, bands)
    if not samples:
        return decoder, Description(images.container, value_range=stated or (0.0, 255.0))
    description = _description(images, samples, stated, value_range is not None)
    _check_possible(name, samples, decoder, description)
    return decoder, description


def _of_hierarchy(
    images: Collection, image_size: int | tuple[int, int] | None, channels: int | None
) -> tuple[Decoder, Description]:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size or (32, 32)
    return Decoder(height, width, channels or 3), Description(images.container, size=f"{height}x{width}")


def _samples(images: Collection, decoder: Decoder) -> list[_Sample]:
    most = NUM_SAMPLED * (8 if isinstance(images.read, ArrayRows) else 1)
    samples = []
    for position in np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)).tolist():
        try:
            samples.append(_Sample(images.paths[position], decoder.stored(images.read(int(images.rows[position])))))
        except Unreadable:
            continue  # named when everything is decoded
    return samples


def _size(samples: list[_Sample], image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    if image_size is not None:
        return (image_size, image_size) if isinstance(image_size, int) else image_size
    if not samples:
        return 32, 32
    height, width = samples[0].size
    shrink = min(1.0, LARGEST / max(min(height, width), 1))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _channels(samples: list[_Sample], bands: tuple[int, ...] | None) -> int:
    if bands is not None:
        return len(bands)
    if not samples:
        return 3
    first = samples[0]
    # transparency of a picture is laid over white: probes ask for what a model takes
    return {2: 1, 4: 3}.get(first.bands, first.bands) if first.is_plain else first.bands


def _description(images: Collection, samples: list[_Sample], stated: Range | None, by_user: bool) -> Description:
    first = samples[0]
    if first.values.dtype.kind not in "buif":
        raise InputError(f"{first.path}: expected real numbers as pixels, got {first.values.dtype}")
    values = [sample.values for sample in samples if sample.values.size]
    finite = [part[np.isfinite(part)] if part.dtype.kind == "f" else part for part in values]
    finite = [part for part in finite if part.size]
    sampled = (float(min(part.min() for part in finite)), float(max(part.max() for part in finite))) if finite else None
    dtype = values[0].dtype if values else np.dtype(np.uint8)
    own = type_range(dtype)
    spanned = stated or own
    who = "stated" if by_user else "the type" if images.own_range is None else images.own_range[1]
    notes = list(images.notes)
    if not by_user and spanned is not None and sampled is not None and dtype.kind != "b":
        note = little_used(str(dtype), sampled, spanned)
        notes += [note] if note and sampled[1] > sampled[0] else []
    height, width = first.size
    return Description(
        images.container, str(dtype), f"{height}x{width}", first.bands, spanned or (0.0, 255.0), who, sampled, len(samples),
        tuple(notes),
    )  # fmt: skip


def _check_possible(name: str, samples: list[_Sample], decoder: Decoder, description: Description) -> None:
    """One sentence, before everything is decoded, where no sample can be used as it is asked for,
    or where the range of some is not known: images must not be left out for what they show."""
    refusals: list[tuple[_Sample, str]] = []
    for sample in samples:
        try:
            decoder.pixels(sample.image)
        except Unsuitable as error:
            refusals.append((sample, str(error)))
        except Unreadable:
            continue  # named when everything is decoded
    if not refusals:
        return
    unknown = [(sample, reason) for sample, reason in refusals if "--value-range" in reason]
    if unknown and description.stored != "uint8":
        worst = max(unknown, key=lambda found: float(np.abs(found[0].values.astype(np.float64)).max()))
        raise InputError(f"{name}: {worst[1]}")
    if len(refusals) == len(samples):
        raise InputError(f"{name}: {refusals[0][0].path}: {refusals[0][1]}")


def with_found_labels(images: Collection) -> Collection:
    """The labels that were found beside the images while they were read, if each has one."""
    if images.labels is not None or images.labels_of is None:
        return images
    found = images.labels_of(images.rows.tolist())
    if not found or any(label is None for label in found) or len({isinstance(label, str) for label in found}) > 1:
        return images
    labels, names = class_numbers(found, len(found))
    return images.replaced(labels=labels, label_names=names or images.label_names)
