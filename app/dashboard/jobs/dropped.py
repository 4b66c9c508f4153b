"""Images that somebody drops on a page, for a job to take: each is decoded, and its pixels alone
are written anew, to a folder of the server's own that goes when the server ends. No streamlit, no
torch.

Of what the browser sends, nothing but pixels reaches the disk: no metadata, no format but PNG, and
of the name letters and digits. A set is named by its content, and its folder is made whole or not
at all.
"""

import atexit
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lcmae.data.names import DROPPED
from lcmae.errors import InputError
from lcmae.runs.durable import alive

MOST_FILE = 20 << 20
"""Bytes of one file as it comes."""

MOST_IMAGES = 200
"""Of a set."""

MOST_BYTES = 1 << 30
"""Of all sets of a server, as they are kept."""

MOST_SETS = 64

SIDE = 512
"""Pixels: an image of more than 4 million is made smaller, to no less than twice this."""

FOLDER = "lcmae-dropped"


@dataclass(frozen=True)
class DroppedSet:
    """Images of one session, in the order in which they came."""

    folder: Path
    files: tuple[tuple[str, str], ...]
    """Name and sha256 of each."""

    def __len__(self) -> int:
        return len(self.files)

    @property
    def data(self) -> str:
        """The name of the source, for a command."""
        return f"{DROPPED}:{self.folder}"


class Store:
    """The sets of a server. `is_used` says of a folder whether a job may still read it."""

    def __init__(self, is_used: Callable[[Path], bool] = lambda _: False, most_bytes: int = MOST_BYTES) -> None:
        self.root: Path | None = None
        """Made with the first image, for this user alone."""

        self._is_used = is_used
        self._most_bytes = most_bytes
        self._changing = threading.Lock()
        self._sets: OrderedDict[Path, DroppedSet] = OrderedDict()
        self._sizes: dict[str, int] = {}

    def add(self, known: DroppedSet | None, file: bytes, called: str) -> DroppedSet:
        """A set of what `known` holds and one image more; the same where it is there already.
        `InputError` for what is no image, too large, or one too many."""
        before = known.files if known is not None and self.has(known) else ()
        if len(before) >= MOST_IMAGES:
            raise InputError(f"expected at most {MOST_IMAGES} images, got one more")
        with self._changing:  # decoding takes memory: one at a time
            content = as_png(file)
            sha256 = hashlib.sha256(content).hexdigest()
            if known is not None and before and sha256 in dict(map(reversed, before)):
                return known
            files = (*before, (f"{len(before):03d}-{_plain(called)}.png", sha256))
            name = hashlib.sha256("\n".join(one for _, one in files).encode()).hexdigest()[:16]
            folder = self._root() / name
            if folder not in self._sets:
                self._make_room(len(content), keep=None if known is None else known.folder)
                self._write(folder, known.folder if before and known is not None else None, files, content)
                self._sets[folder] = DroppedSet(folder, files)
                self._sizes[sha256] = len(content)
            if known is not None and known.folder in self._sets:
                self._sets.move_to_end(known.folder, last=False)  # it goes first
            return self._sets[folder]

    def has(self, known: DroppedSet) -> bool:
        """Whether it is still kept."""
        return known.folder in self._sets

    def close(self) -> None:
        """Remove everything: the server ends."""
        with self._changing:
            self._sets.clear()
            if self.root is not None:
                shutil.rmtree(self.root, ignore_errors=True)

    def _root(self) -> Path:
        if self.root is None:
            sweep_dead(Path(tempfile.gettempdir()))
            self.root = Path(tempfile.mkdtemp(prefix=f"{FOLDER}-{os.getpid()}-"))
        return self.root

    def _make_room(self, num_bytes: int, keep: Path | None) -> None:
        """Forget the oldest sets that no job reads, where there are too many, or too large ones."""
        for folder in [folder for folder in self._sets if folder != keep and not self._is_used(folder)]:
            if len(self._sets) < MOST_SETS and self._num_bytes() + num_bytes <= self._most_bytes:
                return
            shutil.rmtree(folder, ignore_errors=True)
            del self._sets[folder]
        if self._num_bytes() + num_bytes > self._most_bytes:
            raise InputError(
                f"expected at most {self._most_bytes >> 20} MiB of dropped images on this server, got more"
            )

    def _num_bytes(self) -> int:
        stored = {sha256 for one in self._sets.values() for _, sha256 in one.files}
        self._sizes = {sha256: size for sha256, size in self._sizes.items() if sha256 in stored}
        return sum(self._sizes.values())

    def _write(self, folder: Path, before: Path | None, files: Iterable[tuple[str, str]], content: bytes) -> None:
        """The folder whole, or not at all; images that another set has are not stored twice."""
        half = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            *old, (new, _) = files
            for name, _ in old:
                assert before is not None
                os.link(before / name, half / name)
            (half / new).write_bytes(content)
            half.rename(folder)
        except OSError as error:
            shutil.rmtree(half, ignore_errors=True)
            raise InputError(f"the image cannot be kept in {folder.parent}: {error.strerror}") from error


def as_png(file: bytes) -> bytes:
    """The pixels of an image file as PNG, and nothing else of it. Pixels are those that
    `lcmae.data` decodes; a large image is made smaller.

    `InputError` for what is no image, or one that a PNG cannot hold: many bands, or floats.
    """
    from PIL import Image

    from lcmae.data.decode import Decoder, Unreadable

    if len(file) > MOST_FILE:
        raise InputError(f"expected an image file of at most {MOST_FILE >> 20} MiB, got {len(file) / 2**20:.1f} MiB")
    try:
        image: Any = Decoder(SIDE, SIDE, 3).reduced(file)
    except Unreadable as error:
        raise InputError(f"the image cannot be read: {error}") from error
    if isinstance(image, np.ndarray):
        bands = image.shape[-1]
        if (image.dtype, bands) == (np.uint16, 1):
            image = Image.fromarray(image[..., 0])
        elif image.dtype == np.uint8 and bands in (1, 3, 4):
            image = Image.fromarray(image[..., 0] if bands == 1 else image)
        else:
            raise InputError(
                f"expected an image of 8 bits, or of one band of 16, got {image.dtype} of {bands} bands; images like this "
                "are given to the server: lcmae dashboard --data FOLDER"
            )
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    pixels = image.copy()
    pixels.info = {}
    written = BytesIO()
    pixels.save(written, "PNG", compress_level=1)
    return written.getvalue()


def _plain(called: str) -> str:
    stem = os.path.splitext(os.path.basename(called))[0]
    return re.sub(r"[^A-Za-z0-9]+", "-", stem)[:40].strip("-") or "image"


def sweep_dead(folder: Path) -> None:
    """Remove what servers of this user left that were killed."""
    for stray in folder.glob(f"{FOLDER}-*"):
        found = re.fullmatch(rf"{FOLDER}-(\d{{1,10}})-\w+", stray.name)
        try:
            if found and not stray.is_symlink() and stray.stat().st_uid == os.getuid() and not alive(int(found[1])):
                shutil.rmtree(stray, ignore_errors=True)
        except OSError:
            continue  # gone meanwhile


@cache
def server_store() -> Store:
    """The server's one store, made with the first image that is dropped, and removed when the
    server ends."""
    from lcmae.app.dashboard.jobs.queue import server_queue

    def is_used(folder: Path) -> bool:
        return any(str(folder) in word for job in server_queue().active() for word in job.arguments)

    created = Store(is_used)
    atexit.register(created.close)
    return created
