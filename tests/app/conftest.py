"""What the tests of pages share."""

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder whose runs the dashboard shows."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("LCMAE_RUNS", str(folder))
    return folder
