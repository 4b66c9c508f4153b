"""One image file -> uint8 pixels of the asked size and channels, or the reason why not.

What is done with the unusual, in this order:
- EXIF rotation is applied; of an animation the first frame is taken; colour profiles (ICC) are
  ignored.
- A stated range is black to white. Without one, 16-bit values are scaled to 8 bits (65535 -> 255),
  not clipped, and float images must lie in 0..1 (1 -> 255); see `lcmae.data.values`.
- Bands are chosen, where that is asked for; beyond 4 they are taken as they are, and nothing is
  converted.
- Transparency is laid over white, unless an alpha channel is asked for (2 or 4 channels).
- CMYK, palette, YCbCr and bilevel become RGB; colour becomes grey by ITU-R 601 luma, grey becomes
  three equal channels.
- A large image (4 million pixels) is first reduced by means of blocks, to no less than twice the
  asked size; what would take more than 128 MiB to decode is refused (`lcmae.data.large`).
- The shorter side is resized (bicubic, antialiased) and the centre cut out; an image of the asked
  size is untouched.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lcmae.data.large import FORMATS, LARGE, check_cost, draft, smaller, smaller_array
from lcmae.data.values import Range, Unreadable, Unsuitable, eight_bits, own_range
from lcmae.safety.files import is_special

__all__ = ["MODES", "Decoder", "Unreadable"]

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""PIL's name for images of so many channels."""


@dataclass(frozen=True)
class Decoder:
    """`decoder(file)` -> uint8 array [c h w]; the file is a path, the bytes of one, a PIL image, or
    an array [h w] or [h w c]."""

    height: int
    width: int
    channels: int
    value_range: Range | None = None
    """The values that become 0 and 255; by default those of the type."""

    bands: tuple[int, ...] | None = None
    """Bands to take, counted from 1."""

    def __call__(self, file: Any) -> np.ndarray:
        return self.pixels(self.reduced(file))

    def stored(self, file: Any) -> np.ndarray | Any:
        """The image as it is stored: a PIL image of 8 bits, or an array [h w c] of any type."""
        return self.typed(self._read(file, whole=True))

    def reduced(self, file: Any) -> np.ndarray | Any:
        """The same, but a large image is made smaller, to no less than twice the asked size."""
        return self.typed(self._read(file, whole=False))

    def opened(self, file: Any) -> np.ndarray | Any:
        """The image as it is stored, once in memory: a PIL image of any mode, which is not turned
        as its EXIF says if it is large, or an array [h w c]."""
        return self._read(file, whole=True, turned=False)

    def typed(self, image: np.ndarray | Any) -> np.ndarray | Any:
        """What `opened` gives, as `pixels` takes it: more than 8 bits are an array, and so is an
        image whose range is stated, or of which bands are chosen."""
        if isinstance(image, np.ndarray):
            return image
        if is_deep(image):
            return _deep(image)
        if image.mode in MODES.values() and (self.bands is not None or self.value_range is not None):
            values = np.asarray(image)
            return values[..., None] if values.ndim == 2 else values
        return image

    def _read(self, file: Any, *, whole: bool, turned: bool = True) -> np.ndarray | Any:
        from PIL import Image, UnidentifiedImageError

        if isinstance(file, np.ndarray):
            return file[..., None] if file.ndim == 2 else file
        if isinstance(file, bytes) and not file:
            raise Unreadable("empty file")
        if isinstance(file, Path) and is_special(file):
            raise Unreadable("a pipe, socket or device, not a file")
        try:
            if isinstance(file, Image.Image):
                return self._loaded(file, whole, turned)
            if is_tiff(file) and (self._wants_every_band or needs_tifffile(file)):
                return _image_of(self._bands_of_tiff(file))
            with Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
                return self._loaded(image, whole, turned)
        except (Unreadable, MemoryError):
            raise
        except UnidentifiedImageError as error:
            empty = isinstance(file, Path) and file.stat().st_size == 0
            raise Unreadable("empty file" if empty else "not an image format that is read here") from error
        except Exception as error:  # Pillow's readers raise whatever a broken file makes them trip over
            reason = " ".join(str(error).split()) or "no message"
            raise Unreadable(f"{reason} ({type(error).__name__})") from error

    @property
    def _wants_every_band(self) -> bool:
        return self.bands is not None or self.channels > 4

    def _bands_of_tiff(self, file: Any) -> np.ndarray:
        from lcmae.data.readers.tiff import tiff_bands

        return tiff_bands(file, pages_are_bands=self._wants_every_band)

    def _loaded(self, image: Any, whole: bool, turned: bool) -> Any:
        from PIL import ImageOps

        if 0 in image.size:
            raise Unreadable(f"expected an image of at least 1x1 pixels, got {image.height}x{image.width}")
        check_cost(image)
        if not whole:
            draft(image, self.height, self.width)
        image.load()
        if not whole:
            image = smaller(image, self.height, self.width)
        if turned or image.width * image.height <= LARGE:
            ImageOps.exif_transpose(image, in_place=True)
        return image

    def pixels(self, image: np.ndarray | Any) -> np.ndarray:
        """uint8 [c h w] of an image as it is stored."""
        from PIL import Image

        if isinstance(image, np.ndarray):
            values = self._eight_bits(image)
            if self.channels > 4 or values.shape[-1] > 4:
                return self._each_band(values)
            image = Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values, MODES[values.shape[-1]])
        if self.channels > 4:
            bands = len(image.getbands())
            raise Unsuitable(f"expected {self.channels} bands, got {bands}; {CHOOSE}")
        return self._planes(self._fitted(_in_mode(image, MODES[self.channels])))

    def _eight_bits(self, values: np.ndarray) -> np.ndarray:
        """uint8 [h w c] of the bands asked for; of a large image, made smaller on the way."""
        spanned = self.value_range
        if values.ndim != 3 or values.size <= LARGE:
            return eight_bits(self._taken(values), spanned)
        self._taken(values[:1, :1])
        if spanned is None and values.dtype not in (np.uint8, np.bool_):
            ranges = {own_range(values[..., band - 1]) for band in self.bands or ()} or {own_range(values)}
            spanned = ranges.pop()
        return smaller_array(values, self.height, self.width, lambda strip: eight_bits(self._taken(strip), spanned))

    def _taken(self, values: np.ndarray) -> np.ndarray:
        _image_of(values)
        if self.bands is None:
            return values
        if max(self.bands) > values.shape[-1]:
            raise Unsuitable(f"expected bands from 1 to {values.shape[-1]}, got {', '.join(map(str, self.bands))}")
        return values[..., [band - 1 for band in self.bands]]

    def _each_band(self, values: np.ndarray) -> np.ndarray:
        from PIL import Image

        bands = values.shape[-1]
        if bands != self.channels:
            raise Unsuitable(f"expected {self.channels} bands, got {bands}; {CHOOSE}")
        planes = [self._fitted(Image.fromarray(np.ascontiguousarray(values[..., band]))) for band in range(bands)]
        return np.stack([np.asarray(plane) for plane in planes])

    def _fitted(self, image: Any) -> Any:
        from PIL import Image, ImageOps

        if image.size == (self.width, self.height):
            return image
        return ImageOps.fit(image, (self.width, self.height), Image.Resampling.BICUBIC)

    def _planes(self, image: Any) -> np.ndarray:
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def mask(self, file: Any, image: Any) -> np.ndarray:
        """A segmentation mask as int64 [h w], cut as its image is, without mixing its numbers. It
        may be smaller or larger than the image, by one factor: `Unreadable` where the cut would be
        of another part."""
        from PIL import Image, ImageOps

        values = _numbers_of(self._mask_of(file))
        shape = shape_of(image)
        if shape is not None and not _is_scaled(values.shape, shape):
            height, width = values.shape
            raise Unreadable(
                f"expected the image's shape of {shape[0]}x{shape[1]} pixels, or its multiple, got {height}x{width}"
            )
        if values.shape == (self.height, self.width):
            return values.astype(np.int64)
        size, nearest = (self.width, self.height), Image.Resampling.NEAREST
        return np.asarray(ImageOps.fit(Image.fromarray(values.astype(np.int32)), size, nearest)).astype(np.int64)

    def _mask_of(self, file: Any) -> Any:
        from PIL import Image

        if isinstance(file, np.ndarray | Image.Image):
            return file
        # numbers of a palette are classes: they must not become colours
        return Decoder(self.height, self.width, 1).stored(file)


def shape_of(file: Any) -> tuple[int, int] | None:
    """Height and width of an image as it is shown, by its header alone; None where Pillow does not
    read it."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(file, np.ndarray):
        return file.shape[0], file.shape[1]
    if isinstance(file, Path) and is_special(file):
        return None
    try:
        image = (
            file if isinstance(file, Image.Image) else Image.open(BytesIO(file) if isinstance(file, bytes) else file)
        )
    except UnidentifiedImageError:
        return None
    is_turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    shape = (image.width, image.height) if is_turned else (image.height, image.width)
    if image is not file:
        image.close()
    return shape


def _is_scaled(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether one factor leads from one shape to the other, up to a pixel that rounding takes."""
    (height, width), (full_height, full_width) = mask, image
    return abs(width - height * full_width / full_height) <= 1 or abs(height - width * full_height / full_width) <= 1


CHOOSE = "choose among them, counted from 1, with --bands 4,3,2 (bands=(4, 3, 2))"


def is_tiff(file: Any) -> bool:
    """Whether a path or the bytes of a file begin as TIFF and BigTIFF do."""
    if isinstance(file, Path):
        try:
            with file.open("rb") as opened:
                begin = opened.read(4)
        except OSError:
            return False
    else:
        begin = file[:4] if isinstance(file, bytes) else b""
    return begin in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def needs_tifffile(file: Path | bytes) -> bool:
    """Whether a TIFF has more than 4 bands, or several of more than 8 bits: Pillow reads
    neither."""
    from PIL import TiffImagePlugin

    with BytesIO(file) if isinstance(file, bytes) else file.open("rb") as opened:
        header = opened.read(8)
        header += opened.read(8) if 43 in header[2:4] else b""  # BigTIFF's is longer
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        opened.seek(directory.next)
        directory.load(opened)
    bits = directory.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    num_bands = int(directory.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    return num_bands > 4 or (num_bands > 1 and max(bits) > 8)


def is_deep(image: Any) -> bool:
    """Whether a PIL image has more than 8 bits."""
    return image.mode in ("F", "I") or image.mode.startswith("I;16")


def _deep(image: Any) -> np.ndarray:
    """A PIL image of more than 8 bits as an array [h w 1]."""
    values = np.asarray(image)
    if image.mode == "F":
        return values[..., None]
    # 16-bit files open in Pillow's 32-bit mode too
    if values.min() >= 0 and values.max() <= 65535:
        values = values.astype(np.uint16)
    return values[..., None]


def _in_mode(image: Any, mode: str) -> Any:
    from PIL import Image

    if image.has_transparency_data:
        image = converted(image, "RGBA")
        if not mode.endswith("A"):
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode not in ("L", "RGB"):
        image = converted(image, "RGB")
    return image if image.mode == mode else image.convert(mode)


def converted(image: Any, mode: str) -> Any:
    """A PIL image in another mode; through RGB where Pillow knows no shorter way (LAB).
    `Unreadable` where it knows none."""
    try:
        return image.convert("RGB" if image.mode == "LAB" else mode).convert(mode)
    except ValueError as error:
        raise Unreadable(f"expected grey or colours, got {image.mode} ({error})") from error


def _image_of(values: np.ndarray) -> np.ndarray:
    if values.ndim != 3 or 0 in values.shape:
        raise Unreadable(f"expected an image [height width bands], got an array of shape {values.shape}")
    return values


def _numbers_of(mask: Any) -> np.ndarray:
    """The class numbers of a mask [h w], from a PIL image or an array."""
    mode = getattr(mask, "mode", None)
    if mode not in (None, "1", "L", "P") and not mode.startswith("I"):
        raise Unreadable(f"expected a mask of class numbers (one band, or a palette), got colours ({mode})")
    values = np.asarray(mask)
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise Unreadable(f"expected a mask of whole numbers [h w], got {values.dtype} {values.shape}")
    return values
