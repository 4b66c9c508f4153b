"""From a checkpoint and photographs to the commands that take it apart. No streamlit, no torch.

What people bring is kept below the root of the runs, in `uploads/`, under a name of its content;
what is done with it are the commands of a terminal, which a page starts as jobs.
"""

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcmae.app.dashboard.stored.names import name_of
from lcmae.errors import InputError
from lcmae.runs.durable import write_once
from lcmae.runs.run import is_run

FOLDER = "uploads"
MOST_PHOTOGRAPHS = 200
MOST_BYTES = 8 << 30
"""Of everything in `uploads/`."""

HEADLINE = ("reconstruction", "second_order", "spectrum", "encoder_attention", "decoder_attention", "local_contrast")
"""Probes that an answer card is made of."""

STANDARD = (*HEADLINE, "receptive_field", "invariance", "fidelity", "frequency")
SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Preset:
    """How much is done."""

    probes: tuple[str, ...]
    images: int
    words: str


PRESETS = {
    "quick": Preset(HEADLINE, 16, "six probes, at most 16 images; 16 seconds for the zoo's model on four photographs"),
    "standard": Preset(STANDARD, 128, "ten probes, at most 128 images; 50 seconds for the zoo's model on CIFAR-10"),
    "everything": Preset(("all",), 500, "every probe, at most 500 images"),
}


@dataclass(frozen=True)
class Plan:
    """The run that comes of it, and the words behind `lcmae` of each command, in order."""

    run: Path
    commands: tuple[tuple[str, ...], ...]

    @property
    def lines(self) -> str:
        """For a terminal."""
        return "\n".join(shlex.join(["lcmae", *words]) for words in self.commands)


def plan(root: Path, checkpoint: str, data: str | None, preset: str, *, is_zoo: bool = False) -> Plan:
    """The commands for a run, a step, a file, a folder of Hugging Face, a hub name (`hf:ORG/NAME`)
    or a model of the zoo. `data` is the name of a source; None is what a run was trained on."""
    chosen, commands = PRESETS[preset], []
    path = Path(checkpoint)
    if is_zoo:
        run = free(root, checkpoint)
        commands.append(("zoo", checkpoint, "--out", str(run)))
    elif is_run(path):
        run = path
    else:
        name = path.stem if path.suffix in SUFFIXES else path.name
        run = free(root, re.sub(r"[^\w.-]+", "-", name.removeprefix("hf:")).strip("-.") or "checkpoint")
        shown = ("--data", data) if data else ()
        commands.append(("import", checkpoint, "--out", str(run), *shown))
    # of photographs that were brought all are shown: there is no split to keep apart
    split = ("--split", "all") if data and f"{FOLDER}/photographs-" in data else ()
    images = ("--data", data, *split) if data else ()
    count = str(min(chosen.images, MOST_PHOTOGRAPHS)) if split else str(chosen.images)
    commands.append(("probe", *chosen.probes, "--checkpoint", str(run), *images, "--images", count))
    return Plan(run, tuple(commands))


def free(root: Path, name: str) -> Path:
    """A folder below the root that is not taken, of this name."""
    number = 1
    while (found := root.absolute() / f"{name}{'' if number == 1 else f'-{number}'}").exists():
        number += 1
    return found


def left_out(complaints: Iterable[str], titles: Mapping[str, str]) -> list[str]:
    """What a command said of the probes that it could not compute, by the titles of their pages and
    without the paths: a sentence of those that gave the same reason; anything else as it
    stands."""
    probes: dict[str, list[str]] = {}
    others = []
    for complaint in complaints:
        found = re.search(r"(?:^|: )probe (\w+): (.+)$", complaint)
        if found is None:
            others.append(complaint)
        else:
            probes.setdefault(found[2], []).append(titles.get(found[1], found[1]))
    return [f"{', '.join(names)}: {why}" for why, names in probes.items()] + others


def run_name(plan: Plan, root: Path) -> str:
    """What pages will call the run."""
    return name_of(plan.run, root.absolute())


def keep_checkpoint(root: Path, name: str, content: bytes) -> Path:
    """An uploaded checkpoint as a file below the root. `InputError` for a name that is none of a
    checkpoint's, or where there is no room."""
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"expected a checkpoint ({', '.join(SUFFIXES)}), got a file that ends in {suffix[:20]!r}")
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(name).stem)[:60].strip("-.") or "checkpoint"
    return _keep(root, f"{stem}-{_digest([content])}{suffix}", content)


def keep_photographs(root: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    """Uploaded photographs as a folder below the root, in the order of their names. `InputError`
    for more than `MOST_PHOTOGRAPHS`, or for what is no image by its name."""
    if not 0 < len(files) <= MOST_PHOTOGRAPHS:
        raise InputError(f"expected 1 to {MOST_PHOTOGRAPHS} photographs, got {len(files)}")
    ordered = sorted(files)
    folder = f"photographs-{_digest(content for _, content in ordered)}"
    for number, (name, content) in enumerate(ordered):
        suffix = Path(name).suffix.lower()
        if suffix not in IMAGES:
            raise InputError(f"expected images ({', '.join(IMAGES)}), got a file that ends in {suffix[:20]!r}")
        _keep(root, f"{folder}/{number:03d}{suffix}", content)
    return (root / FOLDER / folder).absolute()


def _keep(root: Path, name: str, content: bytes) -> Path:
    file = (root / FOLDER / name).absolute()
    known = sum(one.stat().st_size for one in (root / FOLDER).rglob("*") if one.is_file() and not one.is_symlink())
    if known + len(content) > MOST_BYTES:
        raise InputError(
            f"expected at most {MOST_BYTES >> 30} GiB of uploads in {root / FOLDER}, got more; delete some"
        )

    def write(path: Path) -> None:
        path.write_bytes(content)

    write_once(file, write)
    return file


def _digest(contents: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for content in contents:
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()[:10]
