"""Images that people bring: kept for a while by their hash, and decoded with limits. Imports no
torch by itself."""

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING

from lcmae.app.dashboard.live.cache import Cache
from lcmae.errors import InputError

if TYPE_CHECKING:
    import numpy as np

MAX_BYTES = 20 << 20
MAX_PIXELS = 50_000_000
"""Of one upload: bytes of its file, and pixels that it decodes to (a small file can decode to
terabytes)."""

_files: Cache[bytes] = Cache(max_bytes=128 << 20, max_entries=64, size=len)
_names: Cache[str] = Cache(max_bytes=1 << 20, max_entries=256, size=len)
"""What a file was called where it came from, as plain text."""

_pixels: "Cache[np.ndarray]" = Cache(max_bytes=64 << 20, max_entries=128, size=lambda pixels: pixels.nbytes)
"""As decoded: a photograph takes longer to decode than a model to look at it, and every patch that
is picked asks for it."""


def keep(file: bytes, called: str = "") -> str:
    """Keep a file; its SHA-256 is its name from then on, and `called` what people see. `InputError`
    where it is too big."""
    if len(file) > MAX_BYTES:
        raise InputError(too_big(len(file)))
    name = hashlib.sha256(file).hexdigest()
    _files.get(name, lambda: file)
    if called:
        _names.get(name, lambda: called)
    return name


def called(name: str) -> str:
    """What people see of a kept file: its own name where it came with one."""
    return _names.find(name) or f"upload {name[:8]}"


def too_big(num_bytes: int) -> str:
    """What is said of such a file."""
    return f"expected an image file of at most {MAX_BYTES >> 20} MiB, got {num_bytes / 2**20:.1f} MiB"


def is_stored(name: str) -> bool:
    """Whether the server still has it."""
    return _files.find(name) is not None


def pixels(name: str, height: int, width: int, channels: int) -> "np.ndarray":
    """A kept file as uint8 [c h w], not to be written to, as `lcmae.data` decodes files.

    `InputError` where it is gone, no image, or too big.
    """
    file = _files.find(name)
    if file is None:
        raise InputError("the uploaded image is no longer kept; upload it again")
    return _pixels.get((name, height, width, channels), lambda: _decoded(file, height, width, channels))


def _decoded(file: bytes, height: int, width: int, channels: int) -> "np.ndarray":
    from PIL import Image, UnidentifiedImageError

    from lcmae.data.decode import Decoder, Unreadable
    from lcmae.data.large import FORMATS

    try:
        with Image.open(BytesIO(file), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"expected an image of at most {MAX_PIXELS:,} pixels, got {image.width}x{image.height}"
                )
            pixels = Decoder(height, width, channels)(image).copy()  # its own memory, not a view of Pillow's
            pixels.flags.writeable = False  # everyone who asks gets this one
            return pixels
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"expected an image file ({', '.join(FORMATS)}), got {_one_line(error)}") from error
    except Unreadable as error:
        raise InputError(f"the image cannot be read: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow's readers raise for a file that breaks off
        if isinstance(error, InputError):
            raise
        raise InputError(f"the image cannot be read: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return "something else" if "cannot identify" in str(error) else " ".join(str(error).split())
