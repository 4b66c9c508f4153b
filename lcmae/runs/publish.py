"""Publishing a checkpoint: a step appears complete and on the disk, or not at all."""

import errno
import importlib.metadata
import json
import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcmae.errors import CheckpointError, InputError
from lcmae.runs.checkpoint import MANIFEST, MODEL, RESUME, SCHEMA, sealed, sha256, verify
from lcmae.runs.durable import exchange, flush, make_folder, temporary_name, to_json
from lcmae.safety.text import reason, show

if TYPE_CHECKING:
    import torch


def publish(
    checkpoints: Path,
    step: int,
    tensors: "Mapping[str, torch.Tensor]",
    *,
    config: Mapping[str, Any],
    resume: Mapping[str, Any] | None,
    num_steps: int | None = None,
) -> Path:
    """Make `checkpoints/<step>/` appear, complete and on the disk, or leave everything as it was.

    `num_steps`: of the whole training, where it is known; the manifest says so.

    A step that is already published is kept where files and config are the same, and swapped in one
    system call where they are not, so its name is never missing. Raises `CheckpointError` when the
    disk refuses, or when `resume` would not read back under `weights_only`.
    """
    from safetensors import SafetensorError

    if step < 0:
        raise InputError(f"expected a step of 0 or more, got {step}")
    to_json(config, "config")
    target = checkpoints / f"{step:06d}"
    temporary = checkpoints / temporary_name()
    try:
        make_folder(checkpoints)
        temporary.mkdir()
        _write_model(temporary / MODEL, tensors)
        if resume is not None:
            _write_resume(temporary / RESUME, resume)
        manifest = _describe(temporary, step, num_steps, config)
        for file in temporary.iterdir():
            flush(file)
        # the manifest goes last: it vouches for files that are already on the disk
        (temporary / MANIFEST).write_bytes(sealed(manifest))
        flush(temporary / MANIFEST)
        flush(temporary)
        _give_name(temporary, target, manifest)
        flush(checkpoints)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot publish step {step} in {show(checkpoints)}: {reason(error)}") from error
    finally:
        # nothing is left under this name after success; after a swap it is the old step, after a
        # failure the remains
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write_model(path: Path, tensors: "Mapping[str, torch.Tensor]") -> None:
    """Tensors on their own memory (safetensors refuses views and shared storage), readable as the
    umask says."""
    from safetensors.torch import save_file

    alone, storages = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        alone[name] = tensor
    save_file(alone, path, metadata={"format": "pt"})
    # safetensors makes its files private (0600); a folder made beside it tells what the umask
    # allows
    path.chmod(path.parent.stat().st_mode & 0o666)


def _write_resume(path: Path, resume: Mapping[str, Any]) -> None:
    import torch

    try:
        # through a Python file, so that a full disk is an OSError with a reason behind torch's
        # "unexpected pos"
        with path.open("wb") as file:
            torch.save(_plain(dict(resume)), file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
    try:
        # now, not hours later: mapped, so this reads the structure and not the gigabytes
        torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"expected a resume state of tensors and plain values, got {_unsafe(error)}") from error


def _plain(value: Any) -> Any:
    """The same value without objects that are shared by chance: pickle writes what it has met
    before as a reference, so that a resumed run would write other bytes than an uninterrupted
    one."""
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple([_plain(item) for item in value])
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _unsafe(error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+) was not", str(error))
    return found[1] if found else reason(error)


def _describe(folder: Path, step: int, num_steps: int | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest: what lies here, what made it, when."""
    import torch

    files = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in folder.iterdir()}
    return {
        "schema": SCHEMA,
        "step": step,
        "num_steps": num_steps,
        "files": files,
        "config": json.loads(to_json(config, "config")),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)}
        | {name: _version(name) for name in ("timm", "safetensors", "lcmae")},
        "git": git_revision(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # a checkout on the path of a GPU image is not installed


@cache
def git_revision() -> str | None:
    """The commit of this code, "-dirty" behind it where it was edited; None outside a checkout of
    lcmae itself."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # a package inside somebody's own repository (its .venv) must not be given that repository's
        # revision
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], check=True, capture_output=True, timeout=20)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _give_name(temporary: Path, target: Path, manifest: Mapping[str, Any]) -> None:
    try:
        os.rename(temporary, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not _holds(target, manifest):
            _swap(temporary, target)


def _holds(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a published step is intact and has these very files and config; time and versions may
    differ."""
    try:
        published, _ = verify(folder)
    except CheckpointError:
        return False
    return all(published[key] == manifest[key] for key in ("files", "config"))


def _swap(temporary: Path, target: Path) -> None:
    if exchange(temporary, target):
        return
    # no exchange here (NFS): the name is missing between two renames, and a kill in between is
    # mended by `sweep`
    aside = target.parent / f".old-{target.name}"
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(target, aside)
    os.rename(temporary, target)
    shutil.rmtree(aside)
