"""WebDataset shards: tar files in which KEY.jpg lies beside KEY.cls (a class number), and
KEY.seg.png (a mask).

Only headers are read to find the members; an image is read from its place in the file, so access is
random and memory flat. Links and devices in a shard are passed over. No package is needed.
"""

import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from lcmae.data.collection import Collection, in_order
from lcmae.data.folder import TEST_NAMES
from lcmae.data.kinds import SUFFIXES
from lcmae.data.readers.arrays import class_numbers
from lcmae.data.values import Unreadable
from lcmae.errors import InputError

MAX_MEMBER = 1 << 28
"""Bytes of one encoded image."""

MASKS = ("seg.png", "mask.png", "masks.png", "segmentation.png")


@dataclass
class _Sample:
    name: str
    image: tuple[int, int, int] | None = None
    """Shard, offset and size."""
    mask: tuple[int, int, int] | None = None
    label: str | None = None


@dataclass
class TarImages:
    """Row numbers to encoded bytes."""

    shards: list[Path]
    members: list[tuple[int, int, int] | None]
    """Shard, offset and size of each row's member."""

    def __call__(self, row: int) -> bytes:
        member = self.members[row]
        if member is None:
            raise Unreadable("the sample has no such member")
        shard, offset, size = member
        if size > MAX_MEMBER:
            raise Unreadable(f"an encoded image of {size >> 20} MiB: more than {MAX_MEMBER >> 20} MiB")
        try:
            with self.shards[shard].open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise Unreadable(str(error)) from error


@dataclass
class _Index:
    shards: list[Path] = field(default_factory=list)
    samples: list[_Sample] = field(default_factory=list)


def tar_images(path: Path, split: str) -> Collection:
    """The images of one split of a shard, a folder of them, or a pattern with {000..012}."""
    shards = _shards(path)
    named = {word: [shard for shard in shards if word in re.split("[^a-z]+", shard.name.lower())]
             for word in ("train", *TEST_NAMES)}  # fmt: skip
    tests = next((named[word] for word in TEST_NAMES if named[word]), [])
    if named["train"] and tests:
        part = "test" if split == "own" else split
        chosen = {"train": named["train"], "test": tests, "all": named["train"] + tests}[part]
        return _collection(chosen).replaced(part=part)
    return _collection(shards).split(split)


def _shards(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*.tar") if not file.name.startswith("."))
    else:
        found = [path.with_name(name) for name in expand(path.name)]
    missing = next((file for file in found if not file.is_file()), None)
    if not found or missing is not None:
        raise InputError(f"expected .tar shards at {path}, found {'none' if missing is None else f'no {missing.name}'}")
    return found


def expand(name: str) -> list[str]:
    """ "a-{00..02}.tar" -> a-00.tar, a-01.tar, a-02.tar; names without braces stay alone."""
    found = re.fullmatch(r"([^{}]*)\{(\d{1,9})\.\.(\d{1,9})\}([^{}]*)", name)
    if found is None:
        return [name]
    before, first, last, after = found.groups()
    if int(last) - int(first) >= 100_000:
        raise InputError(f"expected at most 100,000 shards, got {name}")
    return [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]


def _collection(shards: list[Path]) -> Collection:
    samples: list[_Sample] = []
    for number, shard in enumerate(shards):
        samples += _scan(number, shard)
    samples = [sample for sample in samples if sample.image is not None]
    if not samples:
        raise InputError(f"expected images (KEY.jpg, KEY.png, ...) in {shards[0]}, found none")
    labels = [sample.label for sample in samples if sample.label is not None]
    numbers = names = None
    if len(labels) == len(samples):
        are_numbers = all(re.fullmatch(r"-?\d{1,18}", label) for label in labels)
        numbers, names = class_numbers([int(label) for label in labels] if are_numbers else labels, len(labels))
    return Collection(
        paths=[sample.name for sample in samples],
        labels=numbers,
        label_names=names,
        rows=in_order(len(samples)),
        read=TarImages(shards, [sample.image for sample in samples]),
        files=shards,
        container="webdataset",
        read_mask=TarImages(shards, [s.mask for s in samples]) if any(s.mask for s in samples) else None,
    )


def _scan(number: int, shard: Path) -> list[_Sample]:
    """The samples of one shard, in order."""
    found: dict[str, _Sample] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                key, _, kind = name.partition(".")
                if not member.isreg() or member.issparse() or not key or not kind:
                    continue
                sample = found.setdefault(
                    f"{folder}/{key}", _Sample(f"{shard.name}#{f'{folder}/' if folder else ''}{key}")
                )
                member_position = (number, member.offset_data, member.size)
                kind = kind.lower()
                if kind in MASKS:
                    sample.mask = member_position
                elif f".{kind}" in SUFFIXES:
                    sample.image = sample.image or member_position
                elif kind in ("cls", "txt.cls", "label") and member.size <= 1024:
                    content = tar.extractfile(member)
                    sample.label = content.read().decode("utf-8", "replace").strip() if content else None
    except (tarfile.TarError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{shard}: expected an uncompressed tar file, got one that cannot be read ({reason})"
        ) from error
    return list(found.values())
