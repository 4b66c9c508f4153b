"""Paths that other people type: resolved, and refused unless they lie where they may. Imports no
torch."""

import os
from pathlib import Path

from lcmae.errors import CheckpointError
from lcmae.safety.text import show


def within_root(path: Path | str, root: Path | str) -> Path:
    """A path that a person typed, resolved; refused unless it lies in `root` after all links are
    followed.

    So must everything in it, if it is a folder, and the settings beside it, if it is a file. What
    is missing and what lies elsewhere get the same answer, so that nobody learns what is on the
    disk. Raises `CheckpointError`.
    """
    try:
        base = Path(root).resolve(strict=True)
        found = (base / path).resolve(strict=True)
        if all(link.resolve().is_relative_to(base) for link in (found, *_links(found))):
            return found
    except (OSError, ValueError, RuntimeError):
        pass  # the answer below is the same, on purpose
    raise CheckpointError(f"expected a checkpoint below {show(root)}, got {typed(path)}")


def _links(path: Path) -> list[Path]:
    """Every link that reading `path` could follow."""
    if path.is_dir():
        walked = (Path(folder) / name for folder, folders, files in os.walk(path) for name in (*folders, *files))
        return [entry for entry in walked if entry.is_symlink()]
    return [entry for entry in path.parent.glob("*.json") if entry.is_symlink()]


def typed(path: Path | str) -> str:
    """What a person typed, in a message: one line, of at most 300 characters."""
    text = os.fspath(path)
    return (text if text.isprintable() else ascii(text))[:300]
