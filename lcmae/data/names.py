"""A source's name with what is said about its images: folder:PATH?value_range=0:4000&bands=4,3,2.

One string holds everything that decides the pixels, so a run's config, a job and a stored result
name the same images. Paths are written as they are; in the values after `?` a `%`, `&` or `+` is
written %25, %26 or %2B.
"""

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from lcmae.data.values import Range, check_range
from lcmae.errors import InputError

OPTIONS = ("value_range", "bands", "masks")

DROPPED = "dropped"
"""Kind of images that somebody dropped on a dashboard, which keeps them in a folder of its own
while it runs: dropped:FOLDER. The folder's name is that of its content."""

_SUFFIX = re.compile(rf"\?((?:{'|'.join(OPTIONS)})=[^&]*(?:&(?:{'|'.join(OPTIONS)})=[^&]*)*)$")


@dataclass(frozen=True)
class SourceName:
    """A name taken apart; `str` puts it together again."""

    base: str
    """digits, folder:PATH, a bare path, ..."""

    value_range: Range | None = None
    """The values that are black and white."""

    bands: tuple[int, ...] | None = None
    """Bands to take, counted from 1."""

    masks: str | None = None
    """Segmentation masks: a folder beside the images, or a column."""

    def __str__(self) -> str:
        options = []
        if self.value_range is not None:
            options.append(f"value_range={_short(self.value_range[0])}:{_short(self.value_range[1])}")
        if self.bands is not None:
            options.append(f"bands={','.join(map(str, self.bands))}")
        if self.masks is not None:
            options.append(f"masks={quote(self.masks, safe='/:, ')}")
        return f"{self.base}?{'&'.join(options)}" if options else self.base


def parse_name(name: str) -> SourceName:
    """`InputError` for options that cannot be understood."""
    found = _SUFFIX.search(name)
    if found is None:
        return SourceName(name)
    options = dict(part.split("=", 1) for part in found[1].split("&"))
    return SourceName(
        name[: found.start()],
        parse_range(options["value_range"]) if "value_range" in options else None,
        parse_bands(options["bands"]) if "bands" in options else None,
        unquote(options["masks"]) if "masks" in options else None,
    )


def named(
    name: str, *, value_range: Range | None = None, bands: tuple[int, ...] | None = None, masks: str | None = None
) -> str:
    """The name with these options in place of its own."""
    found = parse_name(name)
    chosen = SourceName(
        found.base,
        found.value_range if value_range is None else check_range(value_range),
        found.bands if bands is None else check_bands(bands),
        found.masks if masks is None else masks,
    )
    return str(chosen)


def lasting(name: str) -> str:
    """The name that a result keeps: of dropped images, that of their content, since their folder
    goes."""
    found = parse_name(name)
    kind, _, path = found.base.partition(":")
    return str(replace(found, base=f"{DROPPED}:{os.path.basename(path)}")) if kind == DROPPED else name


def parse_range(text: str) -> Range:
    """ "0:4000" -> (0, 4000)."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError as error:
        raise InputError(f"expected a value range LOW:HIGH, such as 0:4000, got {text!r}") from error
    found = check_range((low, high))
    assert found is not None
    return found


def parse_bands(text: str) -> tuple[int, ...]:
    """ "4,3,2" -> (4, 3, 2); "1-12" -> all of these."""
    bands: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", part)
        if found is None or (found[2] and int(found[2]) < int(found[1])):
            raise InputError(f"expected bands such as 4,3,2 or 1-12, got {text!r}")
        bands += range(int(found[1]), int(found[2] or found[1]) + 1)
    return check_bands(tuple(bands))


def _short(value: float) -> str:
    """As few digits as give the same number back."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def check_bands(bands: tuple[int, ...] | list[int] | int) -> tuple[int, ...]:
    """Bands counted from 1, or `InputError`."""
    chosen = (bands,) if isinstance(bands, int) else tuple(bands)
    if not chosen or not all(isinstance(band, int) and 1 <= band <= 65535 for band in chosen):
        raise InputError(f"expected bands counted from 1 (as GDAL counts them), got {chosen}")
    return chosen
