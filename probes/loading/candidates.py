"""What else a checkpoint could be: for each setting that its file does not say, the other answers
that published models have. No torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lcmae.formats.encoder import DECODER_HEADS, HEADS
from lcmae.provenance import Provenance

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HEAD_WIDTHS = (64, 32, 16)
"""Widths of a head that published models have, for widths that no table holds."""


@dataclass(frozen=True)
class Candidate:
    """The model read once more, with some settings said."""

    setting: str
    """What is in question: pixels, heads, decoder_heads, activation, feature."""

    label: str
    """The answer in words."""

    overrides: dict[str, Any]
    """What `lcmae.load` is told."""


def option(overrides: Mapping[str, Any]) -> str:
    """Overrides as words of the command line."""
    return " ".join(f"--{name.replace('_', '-')} {_words(value)}" for name, value in overrides.items())


def _words(value: Any) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)


def candidates(config: dict[str, Any], source: Provenance) -> Iterator[Candidate]:
    """Other answers to what was assumed; nothing that the file or the caller says is doubted.

    `config`: the settings of the model as it was read.
    """
    assumed = source.assumed
    if {"pixel_mean", "pixel_std"} <= assumed.keys():
        yield from _pixels(config)
    for setting, table, width in (("heads", HEADS, "width"), ("decoder_heads", DECODER_HEADS, "decoder_width")):
        if setting in assumed:
            yield from _heads(setting, table, config[width], config[setting])
    if "activation" in assumed:
        for other in ("gelu", "quick_gelu"):
            if other != config.get("activation"):
                yield Candidate("activation", other, {"activation": other})


def _pixels(config: dict[str, Any]) -> Iterator[Candidate]:
    channels = int(config["channels"])
    now = tuple(tuple(round(float(one), 4) for one in config[name]) for name in ("pixel_mean", "pixel_std"))
    known = {
        "pixels from -1 to 1 (mean 0.5, deviation 0.5)": ((0.5,) * channels, (0.5,) * channels),
        "pixels from 0 to 1 as they are": ((0.0,) * channels, (1.0,) * channels),
    }
    if channels == 3:
        known = {"ImageNet's mean and deviation": IMAGENET, **known}
    for label, (mean, std) in known.items():
        if (mean, std) != now:
            yield Candidate("pixels", label, {"pixel_mean": mean, "pixel_std": std})


def _heads(setting: str, table: Any, width: int, now: int) -> Iterator[Candidate]:
    others = {*table.get(width, ()), *(width // size for size in HEAD_WIDTHS)}
    for heads in sorted(one for one in others if one != now and 1 <= one <= width and width % one == 0):
        yield Candidate(setting, f"{heads} {setting.replace('_', ' ')}", {setting: heads})
