"""`open_source`: from a name to images, every one of them looked at once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from lcmae.data.builtin import digits, torchvision_set
from lcmae.data.checked import CheckedImages
from lcmae.data.collection import Collection
from lcmae.data.decode import MODES, Decoder, Unreadable
from lcmae.data.folder import folder_images
from lcmae.data.hierarchy import hierarchy_images
from lcmae.data.parquet import parquet_images
from lcmae.data.source import ImageSource
from lcmae.errors import InputError

SOURCES = {
    "digits": "1,797 handwritten digits built into scikit-learn, at 32x32 pixels, in grey, 10 classes",
    "cifar10": "60,000 photographs at 32x32 pixels, 10 classes",
    "cifar100": "60,000 photographs at 32x32 pixels, 100 classes",
    "stl10": "13,000 labelled photographs at 96x96 pixels, 10 classes",
    "hierarchy": "images made from a tree of known latents (lcmae/data/hierarchy.py), as hierarchy:depth=4,classes=10,...",
    "parquet:PATH": "a Parquet file, or a folder of them, in Hugging Face's layout: image {bytes, path}, label",
    "folder:PATH": "a folder of image files: one subfolder a class, or flat and without labels",
}
"""What `open_source` opens: name -> one line."""

RESIDENT_LIMIT = 4 << 30
"""Bytes of pixels that are kept in memory; a source of more streams."""

_CHUNK = 64  # images a thread takes at a time
# seconds an image takes, from which threads help: below (32x32 JPEG: 63 us) they fight over
# Python's lock and are slower
_WORTH_A_THREAD = 150e-6
_PATIENCE = 2.0  # seconds before a progress bar appears


def open_source(
    name: str,
    *,
    split: str = "train",
    image_size: int | tuple[int, int] = (32, 32),
    channels: int = 3,
    limit: int | None = None,
    root: str | Path | None = None,
    download: bool = False,
    resident_limit: int = RESIDENT_LIMIT,
) -> ImageSource:
    """The images of one split, cut to `image_size` (side, or height and width, in pixels).

    `channels`: 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha. `limit`: the first so many
    of a fixed shuffle in which classes alternate. `root`: where data sets lie and are downloaded to
    (default: the environment's LCMAE_DATA, else ~/.cache/lcmae). `download`: fetch cifar10,
    cifar100 or stl10 where it is missing. Corrupt images are listed in `.skipped`; a source that
    streams is checked for them too, once. Raises `InputError` for what cannot be opened, and where
    no image is readable.
    """
    decoder = _decoder(image_size, channels)
    if split not in ("train", "test"):
        raise InputError(f"expected split train or test, got {split!r}")
    if limit is not None and limit < 1:
        raise InputError(f"expected a limit of at least 1 image, got {limit}")
    home = Path(root or os.environ.get("LCMAE_DATA") or "~/.cache/lcmae").expanduser()
    images = _find(name, split, decoder, home, own_root=root is not None, download=download)
    if limit is not None:
        images = images.balanced()
    most = len(images) if limit is None else min(limit, len(images))

    resident = most * channels * decoder.height * decoder.width <= resident_limit
    good, pixels, skipped, looked = [], [], [], 0
    # an unreadable image gives its place under the limit to the next one of the shuffle
    while looked < len(images) and (missing := most - sum(map(len, good))) > 0:
        part = torch.arange(looked, min(looked + missing, len(images)))
        looked += len(part)
        stored, unreadable = _look(name, images.take(part), decoder, home, keep=resident)
        skipped += [f"{images.paths[part[position]]}: {unreadable[position]}" for position in sorted(unreadable)]
        is_good = torch.tensor([position not in unreadable for position in range(len(part))])
        good.append(part[is_good])
        if stored is not None:
            pixels.append(stored if is_good.all() else stored[is_good])
    chosen = torch.cat(good)
    if not len(chosen):
        raise InputError(f"{name}: none of {len(skipped)} images can be read; the first is {skipped[0]}")
    stored = (pixels[0] if len(pixels) == 1 else torch.cat(pixels)) if resident else None
    return ImageSource(name, split, images.take(chosen), decoder, skipped, stored, torch.device("cpu"))


def _decoder(image_size: int | tuple[int, int], channels: int) -> Decoder:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height < 1 or width < 1:
        raise InputError(f"expected an image size of at least 1x1 pixels, got {height}x{width}")
    if channels not in MODES:
        raise InputError(f"expected 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels, got {channels}")
    return Decoder(height, width, channels)


def _find(name: str, split: str, decoder: Decoder, home: Path, *, own_root: bool, download: bool) -> Collection:
    kind, colon, path = name.partition(":")
    if colon and kind in ("parquet", "folder"):
        if not path:
            raise InputError(f"expected a path after {name}")
        where = Path(path).expanduser()
        return parquet_images(where, split) if kind == "parquet" else folder_images(where, split)
    if kind not in SOURCES or (colon and kind != "hierarchy"):
        raise InputError(f"expected data to be {', '.join(SOURCES)}; got {name!r}")
    channels = decoder.channels
    if channels not in (1, 3):
        raise InputError(
            f"{name}: expected 1 or 3 channels, because these images have no alpha channel; got {channels}"
        )
    if kind == "hierarchy":
        return hierarchy_images(path, split, decoder.height, decoder.width, channels)
    if name == "digits":
        return digits(split)
    # a checkout keeps what it shares with other checkouts beside itself
    for place in [home] if own_root else [home, Path("../shared/data")]:
        if (place / name / f"{split}.parquet").is_file():
            return parquet_images(place / name, split)
    return torchvision_set(name, split, home, download=download)


def _look(
    name: str, images: Collection, decoder: Decoder, home: Path, *, keep: bool
) -> tuple[torch.Tensor | None, dict[int, str]]:
    """Decode every image: pixels [b c h w] if they are to be kept, and {position: why it is
    unreadable}."""
    if keep:
        pixels = np.zeros((len(images), decoder.channels, decoder.height, decoder.width), np.uint8)
        return torch.from_numpy(pixels), _decode_all(f"decoding {name}", images, decoder, pixels)
    if not images.files:
        return None, {}  # arrays in memory cannot be corrupt
    checked = CheckedImages(home, images.fingerprint())
    unreadable = checked.recall()
    if unreadable is None:
        unreadable = _decode_all(f"checking {name}", images, decoder, None)
        checked.remember(unreadable)
    return None, unreadable


def _decode_all(label: str, images: Collection, decoder: Decoder, pixels: np.ndarray | None) -> dict[int, str]:
    """Decode, in threads where that helps, with a progress bar where it takes long; {position: why
    unreadable}."""
    from lcmae.progress import ProgressBar

    rows = images.rows.tolist()

    def decode(start: int) -> dict[int, str]:
        unreadable = {}
        if images.made is not None and pixels is not None:
            part = slice(start, start + _CHUNK)
            pixels[part] = images.made.pixels(images.rows[part]).numpy()
            return unreadable
        for position in range(start, min(start + _CHUNK, len(rows))):
            try:
                image = decoder(images.read(rows[position]))
            except Unreadable as reason:
                unreadable[position] = str(reason)
                continue
            if pixels is not None:
                pixels[position] = image
        return unreadable

    begin = time.monotonic()
    found = decode(0)  # imports Pillow's plugins and opens the files, so the second chunk is the one to time
    warm = time.thread_time()  # of this thread alone: a busy machine does not count
    found |= decode(_CHUNK)
    seconds = (time.thread_time() - warm) / _CHUNK
    done = min(2 * _CHUNK, len(rows))
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_num_cores() if seconds > _WORTH_A_THREAD else 1))
        stack.callback(pool.shutdown, cancel_futures=True)  # after an error or Ctrl-C the rest is not decoded
        bar = None
        for task in as_completed([pool.submit(decode, start) for start in range(done, len(rows), _CHUNK)]):
            found |= task.result()
            if bar is None and time.monotonic() - begin > _PATIENCE:
                bar = stack.enter_context(ProgressBar(label, len(rows), done=done))
            step = min(_CHUNK, len(rows) - done)
            done += step
            if bar:
                bar.advance(step)
    return found


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
