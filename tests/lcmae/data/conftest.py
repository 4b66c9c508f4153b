"""Sources in a home of their own, and the folder and table that several files of tests open."""

from pathlib import Path
from typing import Any

import pytest

from tests.reference.image_files import png, write_folder, write_parquet


@pytest.fixture(autouse=True)
def _own_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the user's data is found, and nothing is written into it, unless a test says
    so."""
    if "data_root" in request.fixturenames:
        request.getfixturevalue("data_root")  # looks for the user's data before it is hidden
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LCMAE_DATA", str(home))
    monkeypatch.chdir(home)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 images of cats, 10 of dogs and one broken file of each."""
    root = write_folder(tmp_path / "pets", {"cat": 20, "dog": 10})
    (root / "cat" / "broken.png").write_bytes(png(0)[:100])
    (root / "dog" / "page.jpg").write_text("<html>")
    return root


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """30 rows of three classes; row 7 is broken and row 9 is empty."""
    cells: list[Any] = [png(row) for row in range(30)]
    cells[7], cells[9] = cells[7][:100], None
    return write_parquet(tmp_path / "table.parquet", cells, [row % 3 for row in range(30)])
