"""One image file -> uint8 pixels of the asked size and channels, or the reason why not.

What is done with the unusual, in this order:
- EXIF rotation is applied; of an animation the first frame is taken; colour profiles (ICC) are
  ignored.
- 16-bit values are scaled to 8 bits (65535 -> 255), not clipped. Float images must lie in 0..1 (1
  -> 255).
- Transparency is laid over white, unless an alpha channel is asked for (2 or 4 channels).
- CMYK, palette, YCbCr and bilevel become RGB; colour becomes grey by ITU-R 601 luma, grey becomes
  three equal channels.
- The shorter side is resized (bicubic, antialiased) and the centre cut out; an image of the asked
  size is untouched.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""PIL's name for images of so many channels."""


class Unreadable(Exception):
    """This one image cannot be used; the message is the reason. Sources skip it, count it and name
    it."""


@dataclass(frozen=True)
class Decoder:
    """`decoder(file)` -> uint8 array [c h w]; the file is a path, the bytes of one, or a PIL
    image."""

    height: int
    width: int
    channels: int

    def __call__(self, file: Any) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        if isinstance(file, bytes) and not file:
            raise Unreadable("empty file")
        try:
            if isinstance(file, Image.Image):
                return self._pixels(file)
            with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
                return self._pixels(image)
        except (Unreadable, MemoryError):
            raise
        except UnidentifiedImageError as error:
            empty = isinstance(file, Path) and file.stat().st_size == 0
            raise Unreadable("empty file" if empty else "not an image format that Pillow knows") from error
        except Exception as error:  # Pillow's readers raise whatever a broken file makes them trip over
            reason = " ".join(str(error).split()) or "no message"
            raise Unreadable(f"{reason} ({type(error).__name__})") from error

    def _pixels(self, image: Any) -> np.ndarray:
        from PIL import Image, ImageOps

        most = Image.MAX_IMAGE_PIXELS
        if most is not None and image.width * image.height > most:
            raise Unreadable(f"{image.width}x{image.height} pixels: more than {most:,}, taken for a decompression bomb")
        ImageOps.exif_transpose(image, in_place=True)
        image = _in_mode(_eight_bits(image), MODES[self.channels])
        if image.size != (self.width, self.height):
            image = ImageOps.fit(image, (self.width, self.height), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _eight_bits(image: Any) -> Any:
    from PIL import Image

    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise Unreadable("pixels that are not finite (NaN or infinity)")
        if values.min() < 0 or values.max() > 1:
            raise Unreadable(f"expected float pixels from 0 to 1, got {values.min():g} to {values.max():g}")
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable(f"expected 16-bit pixels from 0 to 65535, got {values.min()} to {values.max()}")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    return image


def _in_mode(image: Any, mode: str) -> Any:
    from PIL import Image

    if image.has_transparency_data:
        image = image.convert("RGBA")
        if not mode.endswith("A"):
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)
