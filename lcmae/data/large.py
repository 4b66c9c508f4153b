"""What an image file may cost: formats by list, a bound on what decoding takes, and large images
made smaller before anything is converted.

95 KiB of PNG can hold 80 million pixels, and converting a palette or 16 bits took four copies of
four bytes each: 0.6 to 1.6 GB for one accepted file. Now the whole image exists once, as its file
stores it; it is converted a strip at a time, and each strip reduced to what the asked size needs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lcmae.data.values import Unreadable
from lcmae.errors import InputError

FORMATS = (
    *("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF"),
    *("PPM", "JPEG2000", "AVIF", "ICO"),
)
"""Pillow's names of the formats that the suffixes of `lcmae.data.folder` promise. It knows forty
more, each with a reader of its own, and starts Ghostscript for EPS whatever the file is called."""

MAX_DECODED = 128 << 20
"""Bytes that decoding one image may take."""

MOST_UNPACKED = 500
"""Times its bytes that a compressed array or column may take: photographs stay below 10, masks of
classes below 200, zeros reach 1,000."""

LARGE = 4_000_000
"""Pixels above which an image is made smaller before it is converted. Below, every pixel counts."""

STRIP = 2_000_000
"""Pixels that are converted at a time."""

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Memory of a pixel in Pillow, by mode; all others take four."""

_BESIDE = {"WEBP": 12, "AVIF": 16, "JPEG2000": 16, "TIFF": 4, "ICO": 4}
"""Bytes a pixel that a format's decoder takes beside Pillow's image: planes, canvases, copies. Of
TIFF a strip may be the whole image."""


def check_cost(image: Any) -> None:
    """Refuse an opened image, not yet loaded, whose decoding would take too much. `Unreadable`."""
    from PIL import Image

    most, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
    if most is not None and pixels > most:
        raise Unreadable(f"{image.width}x{image.height} pixels: more than {most:,}, taken for a decompression bomb")
    each = _BYTES.get(image.mode, 4) + _BESIDE.get(image.format or "", 0)
    if image.info.get("progressive") or image.info.get("progression"):
        each += 2 * len(image.getbands())  # all its coefficients are kept until the last scan
    if pixels * each > MAX_DECODED:
        raise Unreadable(
            f"{image.width}x{image.height} pixels of {image.format or image.mode} take {pixels * each >> 20} MiB, "
            f"of at most {MAX_DECODED >> 20}"
        )


def check_array(num_bytes: int, what: str, beside: int = 0) -> None:
    """Refuse an array that takes too much, `beside` it what its reader takes meanwhile.
    `Unreadable`."""
    if num_bytes + beside > MAX_DECODED:
        raise Unreadable(f"{what} take {(num_bytes + beside) >> 20} MiB to decode, of at most {MAX_DECODED >> 20}")


def check_unpacked(stored: int, unpacked: int, what: str, todo: str = "") -> None:
    """Refuse a compressed part of a file that says that it unpacks to far more than images do,
    before it is unpacked. `InputError`."""
    if unpacked > MAX_DECODED and unpacked > MOST_UNPACKED * stored:
        raise InputError(
            f"{what}: expected images, got {stored} bytes that unpack to {unpacked >> 20} MiB, "
            f"taken for a decompression bomb{todo}"
        )


def draft(image: Any, height: int, width: int) -> None:
    """Let JPEG decode a large image at half, a quarter or an eighth of its size, where that is more
    than twice what is asked for."""
    if image.width * image.height > LARGE and image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * max(height, width), 2 * max(height, width)))


def smaller(image: Any, height: int, width: int) -> Any:
    """A large image reduced by a whole number in each direction, to no less than twice the asked
    size; a small one as it is.

    Pixels are means of blocks. Palettes and transparency are converted first, a strip at a time.
    What the centre cut leaves out on its longer side is left out here.
    """
    from PIL import Image

    if image.width * image.height <= LARGE:
        return image
    # either orientation: EXIF may turn it later
    shorter = max(height, width)
    factor = max(1, min(image.size) // (2 * shorter))
    left, upper, right, lower = _centre(image.width, image.height, 2 * max(height, width) / max(1, min(height, width)))
    rows = max(1, STRIP // max(1, (right - left) * factor)) * factor
    strips = []
    for top in range(upper, lower, rows):
        strip = _plain(image.crop((left, top, right, min(top + rows, lower))))
        strips.append(strip.reduce(factor) if factor > 1 else strip)
    whole = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    top = 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height
    # EXIF says how it must be turned
    whole.info = {key: value for key, value in image.info.items() if key != "transparency"}
    whole.getexif().update({0x0112: image.getexif().get(0x0112, 1)})
    return whole


def smaller_array(
    values: np.ndarray, height: int, width: int, convert: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The same of an array [h w c], which `convert` turns into 8 bits, a strip at a time; one of at
    most `LARGE` pixels is converted, and stays whole."""
    from PIL import Image

    rows, columns, bands = values.shape
    factor, left, upper, right, lower = 1, 0, 0, columns, rows
    if rows * columns > LARGE:
        factor = max(1, min(rows, columns) // (2 * max(height, width)))
        longest = 2 * max(height, width) / max(1, min(height, width))
        left, upper, right, lower = _centre(columns, rows, longest)
    step = max(1, STRIP // max(1, (right - left) * factor * bands)) * factor
    strips = []
    for top in range(upper, lower, step):
        strip = convert(values[top : min(top + step, lower), left:right])
        if factor > 1:
            planes = [Image.fromarray(np.ascontiguousarray(strip[..., band])) for band in range(strip.shape[-1])]
            strip = np.stack([np.asarray(plane.reduce(factor)) for plane in planes], -1)
        strips.append(strip)
    return np.concatenate(strips)


def _centre(width: int, height: int, longest: float) -> tuple[int, int, int, int]:
    """The middle of an image, whose longer side is at most `longest` times the shorter."""
    most = max(1, int(min(width, height) * longest))
    across, down = min(width, most), min(height, most)
    left, upper = (width - across) // 2, (height - down) // 2
    return left, upper, left + across, upper + down


def _plain(strip: Any) -> Any:
    """A strip in a mode whose pixels can be averaged."""
    if strip.has_transparency_data:
        return strip.convert("RGBA")
    if strip.mode.startswith("I;16"):
        return strip.convert("I")
    if strip.mode in ("L", "RGB", "I", "F", "RGBA", "CMYK"):
        return strip
    return strip.convert("L" if strip.mode == "1" else "RGB")
