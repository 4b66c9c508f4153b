"""A local cache laid out as huggingface_hub lays it out."""

from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_cache(root: Path, repo: str, revision: str = "main") -> Path:
    """The snapshot of a repository in a cache, where `revision` stands for its one commit."""
    home = root / f"models--{repo.replace('/', '--')}"
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs" / revision).write_text(COMMIT)
    snapshot = home / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    return snapshot
