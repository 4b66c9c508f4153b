"""Run: where everything of a run lies, how it is written safely and read back.

    config.json  metrics.jsonl
    checkpoints/000500/{model.safetensors, resume.pt, manifest.json}
    probes/000500/<probe>/<condition>.nc

One process writes, any number read at any moment, and a kill at any moment costs at most the step
that was being written. Torch is imported only to read or write tensors, so a dashboard can list
runs without it.
"""

import contextlib
import errno
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcmae.errors import CheckpointError, InputError
from lcmae.runs.checkpoint import MANIFEST, Checkpoint, read_manifest
from lcmae.runs.durable import (
    flush,
    home,
    make_folder,
    plain,
    sweep,
    sweep_strays,
    temporary_name,
    to_json,
    write_atomically,
)
from lcmae.runs.lock import lock
from lcmae.runs.publish import publish
from lcmae.safety.files import MIB, read_regular
from lcmae.safety.text import reason, show

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "Run", "find_runs", "is_run", "is_step", "write_atomically"]

log = logging.getLogger(__name__)

# JSON has no such numbers; they are stored as these strings and read back as floats
_NOT_FINITE = ("nan", "inf", "-inf")


MAX_CONFIG, MAX_METRICS = 16 * MIB, 1024 * MIB
"""Bytes of config.json and of metrics.jsonl, which are read into memory."""


class Run:
    """A run folder. `Run.create` makes one, `Run.open` finds one."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    def __repr__(self) -> str:
        return f"Run({show(self.path)})"

    @property
    def name(self) -> str:
        return os.path.basename(os.path.abspath(self.path))

    @classmethod
    def create(cls, path: Path | str, config: Mapping[str, Any]) -> "Run":
        """A new run folder with its config, in one rename. The path must be free, or an empty
        folder."""
        path = plain(path)
        target = Path(os.path.abspath(path))
        text = to_json(config, "config")
        temporary = target.parent / temporary_name()
        try:
            if (target / "config.json").exists():
                raise InputError(f"expected a new run folder, got one that has a run: {show(path)}")
            if target.is_dir() and any(target.iterdir()):
                raise InputError(f"expected a new or empty folder for a run, got one with other files: {show(path)}")
            make_folder(target.parent)
            sweep_strays(target.parent)
            try:
                make_folder(temporary / "checkpoints")
                write_atomically(temporary / "config.json", text)
                # of two processes that create the same run one finds the folder taken, and fails
                # here
                os.rename(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            flush(target.parent)
        except OSError as error:
            raise InputError(f"cannot make a run folder at {show(path)}: {reason(error)}") from error
        return cls(path, json.loads(text))

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """An existing run folder. Raises `InputError` where there is none, or its config does not
        read."""
        path = home(path)
        file = path / "config.json"
        if not os.path.isfile(file):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                _reach(file)
            found = "a folder without config.json" if os.path.isdir(path) else "nothing there"
            found = "a file" if os.path.isfile(path) else found
            raise InputError(f"expected a run folder, got {found}: {show(path)}")
        try:
            config = json.loads(read_regular(file, MAX_CONFIG))
        except OSError as error:
            raise InputError(f"cannot read {show(file)}: {reason(error)}") from error
        except InputError:
            raise
        except (ValueError, RecursionError) as error:
            raise InputError(f"expected JSON in {show(file)}, got something else: {reason(error)}") from error
        if not isinstance(config, dict):
            raise InputError(f"expected a JSON object in {show(file)}, got {type(config).__name__}")
        return cls(path, config)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer of this run, and clear away what a killed one left. `InputError` where
        another one lives."""
        with lock(self.path):
            self.sweep()
            yield

    def sweep(self) -> None:
        """Remove the temporary files of processes of this host that are dead; `lock` does it for
        every writer."""
        folders = [self.path, self.path / "checkpoints", *(self.path / "probes").glob("**/")]
        try:
            for folder in folders:
                sweep(folder)
        except OSError as error:
            raise InputError(f"cannot clear old temporary files in {show(self.path)}: {reason(error)}") from error

    # --- metrics ---

    def log_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl in a single write. NaN and infinities are stored as
        "nan", "inf", "-inf"."""
        line = json.dumps(_storable(values), allow_nan=False).encode() + b"\n"
        path = self.path / "metrics.jsonl"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                # a killed writer may have left half a line: ours must not be glued to it
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                line = b"\n" + line if torn else line
                if os.write(descriptor, line) < len(line):
                    os.ftruncate(descriptor, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InputError(f"cannot write {show(path)}: {reason(error)}") from error

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line, in order. A torn last line is being written or was lost; broken ones
        elsewhere are counted."""
        lines, num_broken = self._metric_lines()
        if num_broken:
            log.warning("%s: skipped %d broken lines", show(self.path / "metrics.jsonl"), num_broken)
        return [values for _, values in lines]

    def truncate_metrics(self, after_step: int) -> None:
        """Drop the lines of later steps (and broken ones), for a run that continues from
        `after_step`."""
        lines, _ = self._metric_lines()
        remaining = [raw + b"\n" for raw, values in lines if not _is_after(values, after_step)]
        if os.path.isfile(self.path / "metrics.jsonl"):
            write_atomically(self.path / "metrics.jsonl", b"".join(remaining))

    def _metric_lines(self) -> tuple[list[tuple[bytes, dict[str, Any]]], int]:
        path = self.path / "metrics.jsonl"
        if not os.path.isfile(path):
            return [], 0
        try:
            *whole, torn = read_regular(path, MAX_METRICS).split(b"\n")
        except OSError as error:
            raise InputError(f"cannot read {show(path)}: {reason(error)}") from error
        parsed = [(raw, _parse_metrics(raw)) for raw in whole]
        last = _parse_metrics(torn)
        lines = [(raw, values) for raw, values in [*parsed, (torn, last)] if values is not None]
        return lines, sum(values is None for _, values in parsed)

    # --- checkpoints ---

    def publish(
        self,
        step: int,
        tensors: "Mapping[str, torch.Tensor]",
        *,
        config: Mapping[str, Any],
        resume: Mapping[str, Any] | None,
        num_steps: int | None = None,
    ) -> Path:
        """Publish a step (of `num_steps`) and say where it lies; see `lcmae.runs.publish`.

        Metrics written so far reach the disk first.
        """
        metrics = self.path / "metrics.jsonl"
        if not os.path.isfile(self.path / "config.json"):
            raise CheckpointError(f"cannot publish step {step}: the run folder is gone: {show(self.path)}")
        try:
            if metrics.exists():
                flush(metrics)
        except OSError as error:
            raise CheckpointError(f"cannot publish step {step}: {show(metrics)}: {reason(error)}") from error
        return publish(self.path / "checkpoints", step, tensors, config=config, resume=resume, num_steps=num_steps)

    def _folders(self) -> dict[int, Path]:
        """The folders that are named like steps, ascending, whatever is in them."""
        folder = self.path / "checkpoints"
        names = os.listdir(folder) if folder.is_dir() else []
        return {int(name): folder / name for name in sorted(names, key=_by_number) if _is_step_name(name)}

    def steps(self) -> list[int]:
        """Published steps, ascending, whose manifest reads and whose files have their sizes;
        nothing is hashed."""
        found = []
        for step, folder in self._folders().items():
            with contextlib.suppress(CheckpointError):  # `newest` names these
                read_manifest(folder)
                found.append(step)
        return found

    def checkpoint(self, step: int) -> Checkpoint:
        """One step, every file hashed. Raises `CheckpointError` if it is missing or torn."""
        path = self.path / "checkpoints" / f"{step:06d}"
        if not path.is_dir():
            have = ", ".join(str(known) for known in self.steps()[-5:]) or "none"
            raise CheckpointError(
                f"expected a checkpoint of step {step} in {show(self.path)}, got none; last steps: {have}"
            )
        return Checkpoint(path)

    def newest(self, *, report: Callable[[str], object] | None = None) -> Checkpoint:
        """The newest step that is intact. Each newer one that is not is named through `report` (a
        warning in the log)."""
        folders = self._folders()
        for step in reversed(folders):
            try:
                return Checkpoint(folders[step])
            except CheckpointError as error:
                (report or log.warning)(f"skipped step {step}: {error}")
        found = f"{len(folders)} that are damaged" if folders else "none"
        raise InputError(f"expected a published checkpoint in {show(self.path)}, got {found}")

    def results_folder(self, step: int) -> Path:
        """Where the results of a step lie (`lcmae.probes.results.catalogue`)."""
        return self.path / "probes" / f"{step:06d}"

    def result_path(self, step: int, probe: str) -> Path:
        """Where the one result of a probe on a step lay before results had conditions."""
        if not probe.isidentifier():
            raise InputError(f"expected the name of a probe, got {probe!r}")
        return self.results_folder(step) / f"{probe}.nc"


def find_runs(root: Path | str) -> list[Path]:
    """Every run folder at or below `root`, sorted; none where `root` is missing. Linked folders are
    seen once."""
    found, seen = [], set()
    # links are followed last, so a folder that is also linked to is found under its own name
    folders, links = [Path(root)], []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder != Path(root) or not isinstance(error, FileNotFoundError):
                log.warning("skipped %s: %s", show(folder), reason(error))
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        own = ("checkpoints", "probes") if is_run(folder) else ()
        if is_run(folder):
            found.append(folder)
        for entry in entries:
            if entry.name.startswith(".") or entry.name in own:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(folder / entry.name)
            elif entry.is_symlink() and os.path.isdir(entry):
                links.append(folder / entry.name)
    return sorted(found)


def _reach(path: Path) -> None:
    """`InputError` where a folder on the way may not be entered; `OSError` where nothing is
    there."""
    try:
        os.stat(path)
    except PermissionError as error:
        raise InputError(f"cannot read {show(path)}: {reason(error)}") from error


def is_run(path: Path | str) -> bool:
    """Whether a folder is a run: a config, and checkpoints or metrics beside it."""
    path = Path(path)
    written = os.path.isdir(path / "checkpoints") or os.path.isfile(path / "metrics.jsonl")
    return written and os.path.isfile(path / "config.json")


def is_step(path: Path | str) -> bool:
    """Whether a folder is one of a run's checkpoints/<step>; its contents are not checked."""
    path = Path(os.path.abspath(path))
    return _is_step_name(path.name) and path.parent.name == "checkpoints" and os.path.isfile(path / MANIFEST)


def _is_step_name(name: str) -> bool:
    return re.fullmatch("[0-9]{6,18}", name) is not None and f"{int(name):06d}" == name


def _by_number(name: str) -> tuple[int, str]:
    return len(name), name  # of names that are steps, none has a zero too many


def _storable(value: Any) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"metrics: expected names that are strings, got {key!r}")
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if hasattr(value, "item"):  # a number of numpy or torch
        return _storable(value.item())
    raise InputError(f"metrics: expected numbers, strings, lists or dicts, got {type(value).__name__}")


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("a whole number of more than 64 bits")  # which no figure can draw
    return float(value) if value in _NOT_FINITE else value


def _parse_metrics(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
        return _restored(values) if isinstance(values, dict) else None
    except (ValueError, RecursionError):
        return None


def _is_after(values: Mapping[str, Any], step: int) -> bool:
    found = values.get("step")
    return isinstance(found, int | float) and found > step
