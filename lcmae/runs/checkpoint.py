"""Reading a checkpoint, and how a reader knows that every byte is the one that was published.

The manifest lists the size and sha256 of each file and carries a seal over itself, since torch and
safetensors both load a flipped bit without a word. `read_manifest` is the cheap look (sizes),
`verify` the full one (hashes).
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcmae.errors import CheckpointError, InputError
from lcmae.runs.durable import to_json
from lcmae.safety.files import MIB, is_regular, read_regular
from lcmae.safety.text import reason, show

if TYPE_CHECKING:
    import torch

SCHEMA = 1
MAX_MANIFEST = 16 * MIB
MODEL, RESUME, MANIFEST = "model.safetensors", "resume.pt", "manifest.json"

Stamp = tuple[int, int, int, int]
"""Device, inode, size and time of change: the same stamp is the same file, not hashed twice."""


def stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(manifest: Mapping[str, Any]) -> bytes:
    seal = hashlib.sha256(to_json(manifest, "manifest")).hexdigest()
    return to_json({**manifest, "seal": seal}, "manifest")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published step whose files all lie there with the right sizes; their
    contents are not read.

    Raises `CheckpointError` in one line that names the step and what is wrong with it.
    """
    path = folder / MANIFEST
    try:
        if not path.is_file():
            raise CheckpointError(f"checkpoint {show(folder)}: expected a {MANIFEST}, got none")
        raw = read_regular(path, MAX_MANIFEST)
    except CheckpointError:
        raise
    except (OSError, InputError) as error:
        raise CheckpointError(f"checkpoint {show(folder)}: cannot read {MANIFEST}: {reason(error)}") from error
    manifest: Any = None
    try:
        manifest = json.loads(raw)
        seal = manifest.pop("seal", None)
        intact = seal is not None and sealed(manifest) == raw
    except (ValueError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise CheckpointError(
            f"checkpoint {show(folder)}: expected an intact {MANIFEST}, got one that was altered or cut"
        )
    if manifest.get("schema") != SCHEMA:
        found = manifest.get("schema")
        raise CheckpointError(f"checkpoint {show(folder)}: expected a manifest of schema {SCHEMA}, got {found!r}")
    match manifest:
        case {"step": int(step), "config": dict(), "files": {"model.safetensors": _} as files}:
            if f"{step:06d}" != folder.name:
                raise CheckpointError(f"checkpoint {show(folder)}: expected the manifest of this step, got step {step}")
            for name, record in files.items():
                try:
                    _check_size(folder, name, record)
                except OSError as error:
                    raise CheckpointError(f"checkpoint {show(folder)}: cannot read {name}: {reason(error)}") from error
        case _:
            raise CheckpointError(f"checkpoint {show(folder)}: expected step, config and {MODEL} in its manifest")
    return manifest


def _check_size(folder: Path, name: str, record: Any) -> None:
    match record:
        case {"bytes": int(size), "sha256": str()} if name == Path(name).name:
            found = f"{os.path.getsize(folder / name)} bytes" if is_regular(folder / name) else "no such file"
            if found != f"{size} bytes":
                raise CheckpointError(f"checkpoint {show(folder)}: expected {size} bytes in {name}, got {found}")
        case _:
            raise CheckpointError(
                f"checkpoint {show(folder)}: expected a file's size and sha256, got {name!r}: {record!r}"
            )


def verify_file(folder: Path, name: str, manifest: Mapping[str, Any]) -> Stamp:
    """Hash one file against the manifest, and say which file that was."""
    expected = manifest["files"][name]["sha256"]
    try:
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            seen = stamp(os.fstat(file.fileno()))
    except OSError as error:
        raise CheckpointError(f"checkpoint {show(folder)}: cannot read {name}: {reason(error)}") from error
    if found != expected:
        raise CheckpointError(
            f"checkpoint {show(folder)}: expected sha256 {expected[:12]}... of {name}, got {found[:12]}...: "
            "altered or replaced since it was published"
        )
    return seen


def verify(folder: Path) -> tuple[dict[str, Any], dict[str, Stamp]]:
    """The manifest of a step whose every file was hashed just now, and the stamps of those
    files."""
    while True:
        before = _stamp_of_manifest(folder)
        try:
            manifest = read_manifest(folder)
            return manifest, {name: verify_file(folder, name, manifest) for name in manifest["files"]}
        except CheckpointError:
            # a writer may have swapped the step between two of our reads: then look at the new one
            if _stamp_of_manifest(folder) == before:
                raise


def _stamp_of_manifest(folder: Path) -> Stamp | None:
    try:
        return stamp((folder / MANIFEST).stat())
    except OSError:
        return None


class Checkpoint:
    """A published step whose files were hashed against its manifest when this object was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest, self._seen = verify(path)
        self.step: int = self.manifest["step"]
        self.config: dict[str, Any] = self.manifest["config"]
        self.sha256: str = self.manifest["files"][MODEL]["sha256"]
        """Of model.safetensors."""

        self.num_steps: int | None = self.manifest.get("num_steps")
        """Of the whole training; None where its writer did not say."""

    def __repr__(self) -> str:
        return f"Checkpoint({show(self.path)})"

    def tensors(self, device: "str | torch.device" = "cpu") -> "dict[str, torch.Tensor]":
        """The model's tensors, bit for bit as published. Raises `CheckpointError` if they are
        not."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            with self._trusted(MODEL) as path:
                # copied: safetensors maps the file, and whatever befell it later would befall the
                # tensors
                return {name: tensor.clone() for name, tensor in load_file(path, device=str(device)).items()}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"checkpoint {show(self.path)}: cannot read {MODEL}: {reason(error)}") from error

    def resume_state(self) -> dict[str, Any]:
        """What `publish` was given as `resume`, on the CPU. Raises `CheckpointError` if the step
        has none."""
        import torch

        if RESUME not in self.manifest["files"]:
            raise CheckpointError(f"checkpoint {show(self.path)}: expected {RESUME} to resume from, got a step without")
        try:
            with self._trusted(RESUME) as path:
                return torch.load(path, weights_only=True, map_location="cpu")
        except CheckpointError:
            raise
        except Exception as error:  # torch has a dozen kinds for a file that is not what it says it is
            raise CheckpointError(f"checkpoint {show(self.path)}: cannot read {RESUME}: {reason(error)}") from error

    @contextlib.contextmanager
    def _trusted(self, name: str) -> Iterator[Path]:
        """A file that is the one that was hashed, when the reading starts and when it ends."""
        path = self.path / name
        if stamp(path.stat()) != self._seen[name]:
            self._seen[name] = verify_file(self.path, name, self.manifest)
        yield path
        if stamp(path.stat()) != self._seen[name]:
            raise CheckpointError(f"checkpoint {show(self.path)}: {name} was replaced while it was read")
