"""`open_source`: from a name to images, every one of them looked at once."""

import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lcmae.data.builtin import digits, photographs, torchvision_set
from lcmae.data.checked import CheckedImages
from lcmae.data.collection import Collection
from lcmae.data.decode import Decoder, Unreadable
from lcmae.data.folder import folder_images
from lcmae.data.hierarchy_source import hierarchy_images
from lcmae.data.kinds import EMPTY, IN_MEMORY, KINDS, SOURCES, is_path, kind_of, unknown
from lcmae.data.large import MAX_DECODED
from lcmae.data.names import DROPPED, SourceName, parse_name
from lcmae.data.parquet import parquet_images
from lcmae.data.paths import path_images
from lcmae.data.source import ImageSource
from lcmae.data.survey import ImagesWarning, survey, with_found_labels
from lcmae.data.values import Description, Range
from lcmae.errors import InputError
from lcmae.processes import cores

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
    image_size: int | tuple[int, int] | None = (32, 32),
    channels: int | None = 3,
    limit: int | None = None,
    root: str | Path | None = None,
    download: bool = False,
    resident_limit: int = RESIDENT_LIMIT,
) -> ImageSource:
    """The images of one split, cut to `image_size` (side, or height and width, in pixels).

    `name`: one of `SOURCES`, or a bare path; behind it may stand what is said about the images, as
    in folder:PATH?value_range=0:4000&bands=4,3,2 (lcmae/data/names.py). `split`: train, test, all,
    or own (test where the data has splits of its own, else all). `channels`: 1 grey, 2 grey and
    alpha, 3 colour, 4 colour and alpha, or the number of bands. `image_size` and `channels` of None
    are those of the first image. `limit`: the first so many of a fixed shuffle in which classes
    alternate. `root`: where data sets lie and are downloaded to (default: the environment's
    LCMAE_DATA, else ~/.cache/lcmae). `download`: fetch cifar10, cifar100 or stl10 where it is
    missing. Corrupt images are listed in `.skipped`; a source that streams is checked for them too,
    once. Raises `InputError` for what cannot be opened, and where no image is readable.
    """
    check_asked(image_size, channels, limit)
    if not name.strip():
        raise InputError(EMPTY)
    if split not in ("train", "test", "all", "own"):
        raise InputError(f"expected split train or test, got {split!r} (all takes both)")
    home = Path(root or os.environ.get("LCMAE_DATA") or "~/.cache/lcmae").expanduser()
    parsed = parse_name(name)
    images = _find(parsed, split, image_size, channels, home, own_root=root is not None, download=download)
    if parsed.masks is not None and images.read_mask is None:
        raise InputError(f"{name}: expected images that masks can lie beside, got {images.container}")
    return opened(
        str(replace(parsed, base=images.name or parsed.base)), images, image_size=image_size, channels=channels,
        limit=limit, value_range=parsed.value_range, bands=parsed.bands, home=home, resident_limit=resident_limit,
    )  # fmt: skip


def opened(
    name: str,
    images: Collection,
    *,
    image_size: int | tuple[int, int] | None,
    channels: int | None,
    limit: int | None = None,
    value_range: Range | None = None,
    bands: tuple[int, ...] | None = None,
    home: Path | None = None,
    resident_limit: int = RESIDENT_LIMIT,
    shuffled: bool = True,
) -> ImageSource:
    """A source of these images; see `open_source`. `shuffled`: whether a limit takes the first of a
    fixed shuffle, or the first."""
    check_asked(image_size, channels, limit)
    home = home or Path(os.environ.get("LCMAE_DATA") or "~/.cache/lcmae").expanduser()
    if limit is not None and shuffled:
        images = images.balanced()
    decoder, description = survey(name, images, image_size, channels, value_range, bands)
    for note in description.notes:
        warnings.warn(f"{name}: {note}", ImagesWarning, stacklevel=3)
    source = _decoded(name, images, decoder, description, limit, home, resident_limit)
    if source.skipped:
        first = "; ".join(source.skipped[:3]) + ("; ..." if len(source.skipped) > 3 else "")
        what = "1 image" if len(source.skipped) == 1 else f"{len(source.skipped)} images"
        warnings.warn(f"{name}: left out {what} that cannot be read ({first})", ImagesWarning, stacklevel=3)
    return replace(source, shuffled=limit is not None and shuffled)


def _decoded(
    name: str,
    images: Collection,
    decoder: Decoder,
    description: Description,
    limit: int | None,
    home: Path,
    resident_limit: int,
) -> ImageSource:
    most = len(images) if limit is None else min(limit, len(images))
    resident = most * decoder.channels * decoder.height * decoder.width <= resident_limit
    good, pixels, skipped, looked = [], [], [], 0
    # an unreadable image gives its place under the limit to the next one of the shuffle
    while looked < len(images) and (missing := most - sum(map(len, good))) > 0:
        part = torch.arange(looked, min(looked + missing, len(images)))
        looked += len(part)
        stored, unreadable = _checked(name, images.take(part), decoder, home, keep=resident)
        skipped += [f"{images.paths[part[position]]}: {unreadable[position]}" for position in sorted(unreadable)]
        is_good = torch.tensor([position not in unreadable for position in range(len(part))])
        good.append(part[is_good])
        if stored is not None:
            pixels.append(stored if is_good.all() else stored[is_good])
    chosen = torch.cat(good)
    if not len(chosen):
        raise InputError(f"{name}: none of {len(skipped)} images can be read; the first is {skipped[0]}")
    stored = (pixels[0] if len(pixels) == 1 else torch.cat(pixels)) if resident else None
    found = with_found_labels(images.take(chosen))
    return ImageSource(
        name, images.part, found, decoder, skipped, stored, torch.device("cpu"), description, resident_limit
    )


def check_asked(
    image_size: int | tuple[int, int] | None, channels: int | None, limit: int | None, most: int = MAX_DECODED
) -> None:
    """`InputError` for a size, a number of channels or a limit that no images can have; an image
    may take `most` bytes."""
    asked = 1 if image_size is None else image_size
    sides = list(asked) if isinstance(asked, tuple | list) else [asked, asked]
    if not (len(sides) == 2 and all(map(_is_whole, sides))):
        raise InputError(f"expected an image size in whole pixels, one side or (height, width), got {image_size!r}")
    height, width = sides
    if height < 1 or width < 1:
        raise InputError(f"expected an image size of at least 1x1 pixels, got {height}x{width}")
    if channels is not None and not (_is_whole(channels) and channels >= 1):
        raise InputError(
            f"expected 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels, or the number of bands, got {channels!r}"
        )
    if height * width * (channels or 1) > most:
        raise InputError(
            f"expected an image size that takes at most {most >> 20} MiB, got {height}x{width} pixels of {channels or 1} "
            f"channel{'s' * ((channels or 1) > 1)}"
        )
    if limit is not None and not (_is_whole(limit) and limit >= 1):
        raise InputError(f"expected a limit of at least 1 image, got {limit!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _find(
    parsed: SourceName,
    split: str,
    image_size: int | tuple[int, int] | None,
    channels: int | None,
    home: Path,
    *,
    own_root: bool,
    download: bool,
) -> Collection:
    name = parsed.base
    kind, colon, path = name.partition(":")
    if colon and kind in KINDS:
        if not path:
            raise InputError(f"expected a path after {name}")
        expected = None if parsed.bands is not None else channels
        return path_images(kind, Path(path).expanduser(), split, expected, parsed.masks)
    if colon and kind == DROPPED:
        if not os.path.isabs(path) or not os.path.isdir(path):
            raise InputError(
                f"expected images that are still there, got some that were dropped on a dashboard ({name}): drop them "
                "again, or give their folder"
            )
        return folder_images(Path(path), split).replaced(container=DROPPED)
    if colon and kind in IN_MEMORY:
        raise InputError(f"expected images that can be opened again by name, got images that lay in memory ({name})")
    if kind not in SOURCES or (colon and kind != "hierarchy"):
        if not is_path(name):
            raise InputError(unknown(name))
        kind, expected = kind_of(Path(name).expanduser()), None if parsed.bands is not None else channels
        images = path_images(kind, Path(name).expanduser(), split, expected, parsed.masks)
        return images.replaced(name=f"{kind}:{name}")
    return _named_set(name, kind, path, split, image_size, channels, home, own_root=own_root, download=download)


def _named_set(
    name: str,
    kind: str,
    path: str,
    split: str,
    image_size: int | tuple[int, int] | None,
    channels: int | None,
    home: Path,
    *,
    own_root: bool,
    download: bool,
) -> Collection:
    if channels not in (None, 1, 3):
        raise InputError(
            f"{name}: expected 1 or 3 channels, because these images have no alpha channel; got {channels}"
        )
    split = "test" if split == "own" else split
    if kind == "hierarchy":
        if split == "all":
            raise InputError(f"{name}: expected split train or test, got 'all'")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size or (32, 32)
        return hierarchy_images(path, split, height, width, channels or 3).replaced(part=split, container="hierarchy")
    if name == "photographs":
        return photographs()
    if name == "digits":
        return digits(split).replaced(container="digits")
    # a checkout keeps what it shares with other checkouts beside itself
    for root in [home] if own_root else [home, Path("../shared/data")]:
        if (root / name / f"{'train' if split == 'all' else split}.parquet").is_file():
            return parquet_images(root / name, split)
    if split == "all":
        raise InputError(f"{name}: expected split train or test, got 'all'")
    return torchvision_set(name, split, home, download=download).replaced(part=split, container=name)


def _checked(
    name: str, images: Collection, decoder: Decoder, home: Path, *, keep: bool
) -> tuple[torch.Tensor | None, dict[int, str]]:
    """Decode every image: pixels [b c h w] if they are to be kept, and {position: why it is
    unreadable}."""
    if keep:
        pixels = np.zeros((len(images), decoder.channels, decoder.height, decoder.width), np.uint8)
        return torch.from_numpy(pixels), _decode_all(f"decoding {name}", images, decoder, pixels)
    if not images.files and not images.may_fail:
        return None, {}  # arrays in memory cannot be corrupt
    if not images.files:
        return None, _decode_all(f"checking {name}", images, decoder, None)
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
        if images.hierarchy is not None and pixels is not None:
            part = slice(start, start + _CHUNK)
            pixels[part] = images.hierarchy.pixels(images.rows[part]).numpy()
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
        pool = stack.enter_context(ThreadPoolExecutor(cores() if seconds > _WORTH_A_THREAD else 1))
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
