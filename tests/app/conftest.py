"""What the tests of pages share."""

from functools import cache
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner

from lcmae.app.dashboard.live import prefetch


@pytest.fixture(autouse=True)
def _packages_are_scanned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every AppTest is a new server, and reads what every installed package says of itself: a third
    of a second each."""
    monkeypatch.setattr(manifest_scanner, "scan_component_manifests", _manifests)


@pytest.fixture(autouse=True)
def _nothing_is_prefetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in the middle of the next test; the tests of it ask for it themselves."""
    monkeypatch.setattr(prefetch, "start", lambda steps: None)


_manifests = cache(manifest_scanner.scan_component_manifests)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder whose runs the dashboard shows."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("LCMAE_RUNS", str(folder))
    return folder
