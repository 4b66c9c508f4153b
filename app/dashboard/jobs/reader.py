"""Foreign checkpoints, for the dashboard: which there are below the root, and what they are. Opens
none of them itself.

Listing looks at names alone. Reading is done by `lcmae.app.dashboard.jobs.inspect_many`, a process
of its own with a limit on memory, time and writing, so that no file can hurt the server, and the
server does not import torch.
"""

import json
import os
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from lcmae import processes
from lcmae.app.dashboard.stored import reading
from lcmae.errors import CheckpointError, InputError
from lcmae.runs.run import is_run
from lcmae.runs.within_root import within_root

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".tar")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names that make a folder with config.json one of Hugging Face."""

MAX_DEPTH = 5
MAX_ENTRIES = 20_000
MAX_NAMES = 500
TIMEOUT = 300.0
"""Seconds for one reader; importing torch takes up to 40 of them on a small busy machine, hashing 1
GB two."""

_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Listing:
    """What may be a checkpoint, by its name."""

    names: list[str]
    """Paths from the root on; nearest first, then by name."""

    is_complete: bool
    """False where a limit of depth, names or looks ended the search."""


def candidates_below(root: Path) -> Listing:
    """Files with the suffix of a checkpoint and Hugging Face folders, outside runs' own folders.

    Hidden names and links are passed over (a link can be typed), and so are names that do not print
    in one line.
    """
    names: list[str] = []
    num_entries = 0
    is_complete = True
    folders = deque([(root, 0)])
    while folders:
        folder, depth = folders.popleft()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(islice(listing, MAX_ENTRIES - num_entries), key=lambda entry: entry.name)
        except OSError:
            continue  # gone, or not ours to read
        num_entries += len(entries)
        own = ("checkpoints", "probes") if is_run(folder) else ()
        known = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
        is_package = not own and folder != root and "config.json" in known and not known.isdisjoint(WEIGHTS)
        if is_package:
            names.append(folder.relative_to(root).as_posix())
        for entry in entries:
            if entry.name.startswith(".") or entry.name in own or not entry.name.isprintable():
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    folders.append((folder / entry.name, depth + 1))
                else:
                    is_complete = False
            elif entry.name not in known or (is_package and entry.name in WEIGHTS):
                continue  # a link, a pipe; or what the package is listed for
            elif entry.name.lower().endswith(SUFFIXES):
                names.append((folder / entry.name).relative_to(root).as_posix())
        if num_entries >= MAX_ENTRIES or len(names) > MAX_NAMES:
            return Listing(names[:MAX_NAMES], False)
    return Listing(names, is_complete)


@dataclass(frozen=True)
class Answer:
    """What `lcmae inspect` says of one path: facts, or the reason why there are none."""

    facts: dict[str, Any] | None
    """As of `lcmae inspect --json`."""

    refusal: str = ""
    """One line, where there are no facts."""

    memory: int | None = None
    """Bytes that the reader held at most, up to and with this file, above an idle reader; None
    where it gave no answer."""


def inspect_below(root: Path, path: str) -> Answer:
    """One path that a person typed or picked below `root`; remembered until it, or what lies beside
    it, changes."""
    try:
        found = within_root(path, root)
    except CheckpointError as error:
        return Answer(None, str(error))
    try:
        with _ONE_AT_A_TIME:  # each reader takes half a GiB for torch
            return _remembered(_stamps(found))
    except ReaderEndedError as error:
        return Answer(None, str(error))


class ReaderEndedError(InputError):
    """The reader died or took too long; another try may tell more, so this is never remembered."""


@lru_cache(maxsize=64)
def _remembered(stamps: tuple[reading.Stamp, ...]) -> Answer:
    answer = read([Path(stamps[0][0])])[0]
    if answer.memory is None:
        raise ReaderEndedError(answer.refusal)
    return answer


def _stamps(path: Path) -> tuple[reading.Stamp, ...]:
    """The path, and the files that reading it can look at."""
    try:
        beside = sorted(islice(path.iterdir(), 1000)) if path.is_dir() else sorted(path.parent.glob("*.json"))
    except OSError:
        beside = []  # not ours to list; the reader says what it makes of that
    return reading.stamp(path), *map(reading.stamp, beside)


def inspect_all_below(root: Path, paths: Sequence[Path | str]) -> list[Answer]:
    """The same for many paths, with one reader for all of them; nothing is remembered."""
    answers: dict[int, Answer] = {}
    found: dict[int, Path] = {}
    for number, path in enumerate(paths):
        try:
            found[number] = within_root(path, root)
        except CheckpointError as error:
            answers[number] = Answer(None, str(error))
    answers |= dict(zip(found, read(list(found.values())), strict=True))
    return [answers[number] for number in range(len(paths))]


def read(paths: Sequence[Path]) -> list[Answer]:
    """Answers of one reader, in order; where it dies or takes too long, the rest of the answers say
    so."""
    # -B: nothing is written
    command = processes.python("-B", "-m", "lcmae.app.dashboard.jobs.inspect_many")
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    asked = json.dumps([str(path) for path in paths]).encode()
    try:
        done = processes.run(command, input=asked, capture_output=True, env=environment, timeout=TIMEOUT)
        output, ending = (
            done.stdout,
            f"exit code {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}",
        )
    except subprocess.TimeoutExpired as late:
        output, ending = late.stdout or b"", f"a kill after {TIMEOUT:.0f} s"
    # a line that was cut has no end
    lines = output[: output.rfind(b"\n") + 1].splitlines()
    answers = [
        Answer(answer.get("facts"), answer.get("refusal", ""), answer["memory"]) for answer in map(json.loads, lines)
    ]
    missing = Answer(None, f"expected an answer of the process that reads checkpoints, got none: it ended by {ending}")
    return [*answers, *[missing] * (len(paths) - len(answers))]
