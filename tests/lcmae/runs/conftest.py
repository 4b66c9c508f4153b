"""A run folder for each test."""

from pathlib import Path

import pytest

from lcmae.runs.run import Run
from tests.reference.run_folders import CONFIG


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "first", CONFIG)
