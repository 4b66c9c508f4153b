"""A look at a few images before all are decoded: their size, bands and range, and what is odd about
them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lcmae.data.collection import Collection
from lcmae.data.decode import MODES, Decoder, converted, is_deep
from lcmae.data.large import STRIP, smaller
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
    """What is kept of an image: a large one is gone before the next is opened."""

    path: str
    dtype: np.dtype
    size: tuple[int, int]
    bands: int
    is_plain: bool
    """A usual image of 8 bits, whose alpha channel is laid over white."""

    values: Range | None
    """The least and the largest finite value; None where there is none."""

    refusal: str = ""
    """Why it cannot be used as it is asked for."""


def _sampled(path: str, image: Any, decoder: Decoder) -> _Sample:
    """Of a PIL image, or an array [h w c], as `Decoder.opened` gives it."""
    extremes = [_extremes(strip) for strip in _strips(image, decoder)]
    found = [one for one in extremes if one is not None]
    values = (min(low for low, _ in found), max(high for _, high in found)) if found else None
    if isinstance(image, np.ndarray):
        return _Sample(path, image.dtype, image.shape[:2], image.shape[-1], False, values)
    is_plain = not is_deep(image) and not (
        image.mode in MODES.values() and (decoder.bands is not None or decoder.value_range is not None)
    )
    dtype = np.dtype(np.uint8)
    if is_deep(image):
        is_short = values is not None and values[0] >= 0 and values[1] <= 65535
        dtype = np.dtype(np.float32 if image.mode == "F" else np.uint16 if is_short else np.int32)
    bands = {"1": 1, "L": 1, "LA": 2, "RGBA": 4, "F": 1, "I": 1}.get(image.mode.partition(";")[0], 3)
    # a large one is not turned yet
    is_turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    size = (image.width, image.height) if is_turned else (image.height, image.width)
    return _Sample(path, dtype, size, bands, is_plain, values)


def _strips(image: Any, decoder: Decoder) -> Iterator[np.ndarray]:
    """Values in parts: grey ones of a plain image, else those of every band."""
    is_array = isinstance(image, np.ndarray)
    height, width = image.shape[:2] if is_array else (image.height, image.width)
    step = max(1, STRIP // max(1, width * (image.shape[-1] if is_array else 1)))
    for top in range(0, height, step):
        if is_array:
            yield image[top : top + step]
            continue
        strip = image.crop((0, top, width, min(top + step, height)))
        values = decoder.typed(strip)
        yield values if isinstance(values, np.ndarray) else np.asarray(converted(strip, "L"))


def _extremes(values: np.ndarray) -> Range | None:
    if values.dtype.kind not in "buif":
        return None
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else None


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
    decoder, samples = _samples(images, trial, image_size, channels)
    if not samples:
        return decoder, Description(images.container, value_range=stated or (0.0, 255.0))
    description = _description(images, samples, stated, value_range is not None)
    _check_possible(name, samples, description)
    return decoder, description


def _of_hierarchy(
    images: Collection, image_size: int | tuple[int, int] | None, channels: int | None
) -> tuple[Decoder, Description]:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size or (32, 32)
    return Decoder(height, width, channels or 3), Description(images.container, size=f"{height}x{width}")


def _samples(
    images: Collection, trial: Decoder, image_size: int | tuple[int, int] | None, channels: int | None
) -> tuple[Decoder, list[_Sample]]:
    """What a few images are, one at a time; size and channels of the decoder are asked for, or
    those of the first that can be read."""
    most = NUM_SAMPLED * (8 if isinstance(images.read, ArrayRows) else 1)
    samples: list[_Sample] = []
    decoder = None
    for position in np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)).tolist():
        try:
            image = trial.opened(images.read(int(images.rows[position])))
            sample = _sampled(images.paths[position], image, trial)
        except Unreadable:
            continue  # named when everything is decoded
        samples.append(sample)
        decoder = decoder or _decoder(trial, samples, image_size, channels)
        try:
            decoder.pixels(_as_taken(decoder, image))
        except Unsuitable as error:
            sample.refusal = str(error)
        except Unreadable:
            pass  # named when everything is decoded
        del image  # before the next one is opened
    return decoder or _decoder(trial, samples, image_size, channels), samples


def _as_taken(decoder: Decoder, image: Any) -> Any:
    if isinstance(image, np.ndarray):
        return image
    return decoder.typed(smaller(image, decoder.height, decoder.width))


def _decoder(
    trial: Decoder, samples: list[_Sample], image_size: int | tuple[int, int] | None, channels: int | None
) -> Decoder:
    height, width = _size(samples, image_size)
    return replace(
        trial, height=height, width=width, channels=_channels(samples, trial.bands) if channels is None else channels
    )


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
    if first.dtype.kind not in "buif":
        raise InputError(f"{first.path}: expected real numbers as pixels, got {first.dtype}")
    finite = [sample.values for sample in samples if sample.values is not None]
    sampled = (min(low for low, _ in finite), max(high for _, high in finite)) if finite else None
    dtype = first.dtype
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


def _check_possible(name: str, samples: list[_Sample], description: Description) -> None:
    """One sentence, before everything is decoded, where no sample can be used as it is asked for,
    or where the range of some is not known: images must not be left out for what they show."""
    refused = [sample for sample in samples if sample.refusal]
    unknown = [sample for sample in refused if "--value-range" in sample.refusal]
    if unknown and description.stored != "uint8":
        worst = max(unknown, key=lambda sample: max(map(abs, sample.values or (0.0, 0.0))))
        raise InputError(f"{name}: {worst.refusal}")
    if refused and len(refused) == len(samples):
        raise InputError(f"{name}: {refused[0].path}: {refused[0].refusal}")


def with_found_labels(images: Collection) -> Collection:
    """The labels that were found beside the images while they were read, if each has one."""
    if images.labels is not None or images.labels_of is None:
        return images
    found = images.labels_of(images.rows.tolist())
    if not found or any(label is None for label in found) or len({isinstance(label, str) for label in found}) > 1:
        return images
    labels, names = class_numbers(found, len(found))
    return images.replaced(labels=labels, label_names=names or images.label_names)
