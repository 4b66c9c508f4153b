"""What a person may say about images whose files do not say it: options beside every --data."""

from lcmae.errors import InputError
from lcmae.settings import Settings


class ImageOptions(Settings):
    """Range and bands; they become part of the source's name, so that a stored result knows
    them."""

    value_range: str | None = None
    """The stored values that are black and white, LOW:HIGH, such as 0:4000; by default those of the
    files' type. A negative LOW needs an equals sign: --value-range=-160:240."""

    bands: str | None = None
    """Bands to take, counted from 1, such as 4,3,2 or 1-12; by default all."""


def source_name(
    data: str | None, value_range: str | None = None, bands: str | None = None, masks: str | None = None
) -> str | None:
    """The name of the source that these options mean. `InputError` for options without data."""
    from lcmae.data.kinds import with_kind
    from lcmae.data.names import named, parse_bands, parse_range

    given = {"--value-range": value_range, "--bands": bands, "--masks": masks}
    if data is None:
        said = next((name for name, value in given.items() if value is not None), None)
        if said is not None:
            raise InputError(f"expected --data with {said}, got {said} alone")
        return None
    return named(
        with_kind(data),
        value_range=None if value_range is None else parse_range(value_range),
        bands=None if bands is None else parse_bands(bands),
        masks=masks,
    )
