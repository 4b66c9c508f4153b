"""A model of the owner's own file stands among the checkpoints, and no link can name another
file."""

import sys
from pathlib import Path

import pytest

from lcmae.app.dashboard.components.picks import Picks, adapters
from lcmae.app.dashboard.live import inspection, models
from lcmae.app.dashboard.live.selection import Selection
from lcmae.app.dashboard.server import launch
from lcmae.errors import InputError

MAKE = """
from tests.lcmae.adapters.foreign import adapt_official, official_style

def make():
    return adapt_official(official_style())
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MAKE)
    (tmp_path / "other.py").write_text("raise SystemExit('this ran')\n")
    (tmp_path / "runs").mkdir()
    words = launch.command(tmp_path / "runs", 8600, adapters=(f"{path}:make",))
    monkeypatch.setattr(sys, "argv", ["streamlit_script.py", *words[words.index("--") + 1 :]])
    return path


def test_the_microscope_answers_about_an_adapted_model(file: Path) -> None:
    picked = Picks(file.parent / "runs", {}, [], None)
    assert models.names(picked) == list(adapters()) == ["adapter mine.py:make"]
    loaded = models.load(models.locate(picked, "adapter mine.py:make"))
    assert loaded is models.load(models.locate(picked, "adapter mine.py:make"))
    assert (loaded.encoder, loaded.decoder) == ((2, 4), (2, 3))
    seen = inspection.inspect(loaded, Selection(data="digits"))
    assert seen.pictures()["reconstruction"].shape == (16, 16, 3)
    assert seen.attention()["encoder"].shape[-2:] == (4, 4)
    assert float(seen.receptive_field()["half_radius"].isel(target=-1)) > 0


def test_no_address_names_a_file(file: Path) -> None:
    picked = Picks(file.parent / "runs", {}, [], None)
    for name in (f"adapter {file.parent}/other.py:make", f"{file.parent}/other.py:make", "../other.py:make"):
        with pytest.raises(InputError):
            models.locate(picked, name)
