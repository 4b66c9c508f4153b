"""One image as a model fills it in, frame by frame: pictures for a page, and a moving picture as
GIF or APNG. Numbers -> pixels; no torch, no streamlit."""

import io
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw, ImageFont

from lcmae.app.figures import patch_maps

Frame = Image.Image
Kind = Literal["GIF", "APNG"]
KINDS: tuple[Kind, ...] = ("GIF", "APNG")

SIDE = 224
"""About how many pixels a picture has in a file, upright."""

GAP, LINE, TEXT = 8, 22, 15
"""Pixels between pictures, of a line of words, and of a letter."""

PAPER, INK, COVER = (255, 255, 255), (38, 39, 48), (158, 162, 170)


def pictures(shown: xr.Dataset, top: float) -> dict[str, np.ndarray]:
    """What a frame consists of, uint8 [y x channel] by title: the image without its hidden patches,
    its reconstruction, and the error of hidden patches in colours up to `top`.

    `shown` is a dataset of `lcmae.probes.watching.microscope.frame`.
    """
    original = _rgb(shown["original"].values)
    hidden = _at_pixels(shown["hidden"].values > 0, original.shape)
    errors = shown["picture_error"].where(shown["hidden"] == 1)
    return {
        f"Masked ({float((shown['hidden'] > 0).mean()):.0%} hidden)": np.where(
            hidden[..., None], COVER, original
        ).astype(np.uint8),
        "Reconstruction": _rgb(shown["reconstruction"].values),
        "Error": patch_maps.coloured(errors, top),
    }


def words(shown: xr.Dataset) -> str:
    """The frame's error, and that of a copy of the nearest visible patch."""
    error, unit = float(shown["error"]), str(shown["error"].attrs["units"])
    return f"error of hidden patches {error:.3g} {unit}; a copy of the nearest visible patch {float(shown['error_nearest']):.3g}"


def frame(shown: xr.Dataset, top: float, caption: str) -> Frame:
    """The pictures side by side, with words below, on white."""
    parts = pictures(shown, top)
    height, width = shown["original"].shape[:2]
    scale = max(1, round(SIDE / height))
    size = (width * scale, height * scale)
    found = Image.new("RGB", (len(parts) * size[0] + (len(parts) + 1) * GAP, size[1] + 3 * GAP + 2 * LINE), PAPER)
    pen = ImageDraw.Draw(found)
    for number, (title, pixels) in enumerate(parts.items()):
        left = GAP + number * (size[0] + GAP)
        pen.text((left, GAP), title, INK, _font())
        found.paste(Image.fromarray(_rgb(pixels)).resize(size, Image.Resampling.NEAREST), (left, GAP + LINE))
    error, nearest = float(shown["error"]), float(shown["error_nearest"])
    line = f"{caption}   error {error:.3g}   nearest patch {nearest:.3g}"
    pen.text((GAP, 2 * GAP + LINE + size[1]), line, INK, _font())
    return found


def encoded(frames: Sequence[Frame], kind: Kind, seconds: float) -> bytes:
    """Frames of one size as a moving picture that repeats. The last one stays three times as
    long."""
    durations = [*[round(seconds * 1000)] * (len(frames) - 1), round(3 * seconds * 1000)]
    file = io.BytesIO()
    if kind == "GIF":
        # one palette for all: colours that flicker would look like errors that change
        palette = _beside(frames).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        frames = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in frames]
    first, *others = frames
    first.save(
        file,
        "GIF" if kind == "GIF" else "PNG",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
        disposal=0 if kind == "APNG" else 1,
    )
    return file.getvalue()


def _beside(frames: Sequence[Frame]) -> Frame:
    """Some frames in one picture, for their common colours."""
    some = frames[:: max(1, len(frames) // 8)]
    found = Image.new("RGB", (some[0].width, sum(one.height for one in some)), PAPER)
    for number, one in enumerate(some):
        found.paste(one, (0, number * one.height))
    return found


@cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 [y x 3] of a picture with 1, 3 or 4 channels; what is transparent becomes paper."""
    pixels = np.asarray(pixels, dtype=np.uint8)
    if pixels.shape[-1] == 4:
        share = pixels[..., 3:] / 255
        return (pixels[..., :3] * share + np.array(COVER) * (1 - share)).round().astype(np.uint8)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _at_pixels(patches: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map over patches [row column] at the pixels of a picture."""
    rows, columns = patches.shape
    return patches.repeat(shape[0] // rows, axis=0).repeat(shape[1] // columns, axis=1)
