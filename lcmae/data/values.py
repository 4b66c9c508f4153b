"""From stored numbers to 8 bits: which value is black, which is white, and who says so.

A range that is stated (`value_range`, `--value-range LOW:HIGH`) is applied to every image, and
values outside it are clipped. Without one, unsigned integers of 8 and 16 bits span their type and
float images must lie in 0..1; anything else has no range of its own, and asks for one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lcmae.errors import InputError

Range = tuple[float, float]
"""The values that become 0 and 255."""

FEW = 1 / 8
"""Images that use less than this share of a type's range are reported: 12-bit values in 16 bits use
a sixteenth."""


class Unreadable(Exception):
    """This one image cannot be used; the message is the reason. Sources skip it, count it and name
    it."""


class Unsuitable(Unreadable):
    """The image is whole, but what was asked for does not go with it: its bands, or a range that
    nobody stated."""


@dataclass(frozen=True)
class Description:
    """What a source's images are, and what was assumed about them. Results store it."""

    container: str
    """folder, parquet, numpy, tiff, zarr, webdataset, dicom, array, list, dataset, ..."""

    stored: str = "uint8"
    """Type of the stored numbers."""

    size: str = ""
    """Height and width of the first image as it is stored, "480x640"."""

    bands: int = 3
    """Bands of the first image as it is stored."""

    value_range: Range = (0.0, 255.0)
    """The values that are black and white."""

    range_from: str = "the type"
    """Who says so: stated, the type, or the file's own words (a DICOM window)."""

    sampled: Range | None = None
    """Smallest and largest value among the images that were sampled; None where nothing was."""

    num_sampled: int = 0

    notes: tuple[str, ...] = ()
    """What was assumed, a sentence each; the command line prints them."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        low, high = self.value_range
        found = "" if self.sampled is None else f", values {self.sampled[0]:g} to {self.sampled[1]:g} sampled"
        return (
            f"{self.container} of {self.stored}, {self.size} pixels, {self.bands} bands; {low:g} to {high:g} "
            f"({self.range_from}) is black to white{found}"
        )


def check_range(value_range: Sequence[int | float] | None) -> Range | None:
    """A stated range, or `InputError`."""
    if value_range is None:
        return None
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a value range of two numbers (LOW, HIGH), got {value_range!r}") from error
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f"expected a value range of two finite numbers, LOW below HIGH, got {low:g} and {high:g}")
    return low, high


def type_range(dtype: np.dtype) -> Range | None:
    """The range that a type has by itself, or None."""
    if dtype == np.bool_:
        return 0.0, 1.0
    if dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(dtype).max)
    if dtype == np.int16:
        return 0.0, 32767.0  # negative values are refused
    return (0.0, 1.0) if dtype.kind == "f" else None


def eight_bits(values: np.ndarray, value_range: Range | None) -> np.ndarray:
    """Values of any real type as uint8; `Unreadable` where their range is not known or not kept."""
    if values.dtype == np.uint8 and value_range is None:
        return values
    if values.dtype == np.bool_ and value_range is None:
        return values.astype(np.uint8) * np.uint8(255)
    low, high = value_range or own_range(values)
    # float32 holds integers of 16 bits exactly
    values = values.astype(np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64)
    if not np.isfinite(values).all():
        raise Unreadable("pixels that are not finite (NaN or infinity)")
    return ((values - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)


def own_range(values: np.ndarray) -> Range:
    """The range that the type of these values has by itself. `Unreadable` where it has none, or
    where they leave it."""
    if values.dtype.kind not in "buif":
        raise Unreadable(f"expected real numbers as pixels, got {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unreadable("pixels that are not finite (NaN or infinity)")
    least, most = values.min(), values.max()
    state = "state which values are black and white: --value-range LOW:HIGH, value_range=(LOW, HIGH)"
    own = type_range(values.dtype)
    if own is None:
        raise Unsuitable(f"{values.dtype} pixels from {least} to {most} have no range of their own; {state}")
    if least < own[0] or most > own[1]:
        kind = "float" if values.dtype.kind == "f" else f"{values.dtype}"
        guess = " (0:255?)" if values.dtype.kind == "f" and least >= 0 and 1 < most <= 255 else ""
        guess = (
            " (normalised already? undo it)" if values.dtype.kind == "f" and -10 < least < 0 and most < 10 else guess
        )
        raise Unsuitable(
            f"expected {kind} pixels from {own[0]:g} to {own[1]:g}, got {least:g} to {most:g}{guess}; {state}"
        )
    return own


def little_used(stored: str, sampled: Range, spanned: Range) -> str | None:
    """A sentence where images use but little of the range that is taken for black to white."""
    # photographs in 8 bits may have little contrast: only those that are all but black are reported
    begin = spanned[0] if stored == "uint8" else sampled[0]
    if sampled[1] - begin >= FEW * (spanned[1] - spanned[0]):
        return None
    begin = 0.0 if 0 <= sampled[0] < sampled[1] / 2 else sampled[0]
    theirs = f"{begin:g}:{_round_up(sampled[1]):g}"
    return (
        f"the {stored} images sampled use {sampled[0]:g} to {sampled[1]:g} of the range {spanned[0]:g} to {spanned[1]:g}, an "
        f"eighth or less; state theirs, for example --value-range {theirs} (value_range=({theirs.replace(':', ', ')}))"
    )


def _round_up(value: float) -> float:
    """The end of the bit depth that holds a value (4095 for 12 bits), or a round number for
    floats."""
    if value <= 1:
        return value or 1.0
    return float(2 ** int(np.ceil(np.log2(value + 1))) - 1)
