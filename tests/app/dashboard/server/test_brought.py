"""`lcmae dashboard CHECKPOINT --data FOLDER`: one command from a file of another library to the
microscope on one's own images."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcmae.app import cli
from lcmae.app.commands import dashboard
from lcmae.app.dashboard.server.brought import as_run
from lcmae.errors import InputError
from lcmae.runs.run import Run, find_runs
from tests.app.pages import components, open_page, words
from tests.app.trained import published, tiny
from tests.reference.hostile import good


def photos(folder: Path, shape: tuple[int, ...] = (20, 30, 3)) -> Path:
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full(shape, 60 * number, np.uint8)).save(folder / f"beach {number}.png")
    return folder


def test_a_file_becomes_a_run_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs, file = tmp_path / "runs", tmp_path / "mine (1).pth"
    good(file)
    code, run = as_run(str(file), runs, f"folder:{tmp_path}")
    assert (code, run) == (0, runs / "mine-1")
    assert Run.open(run).config["data"] == f"folder:{tmp_path}"
    said = capfd.readouterr()
    assert "importing" in said.err
    assert not said.out

    assert as_run(str(file), runs) == (0, run)
    assert as_run(str(run), runs) == (0, run)
    assert as_run(str(run / "checkpoints" / "000000"), runs) == (0, run)
    assert "importing" not in capfd.readouterr().err
    os.utime(file, (2**31, 2**31))  # another file by now
    assert as_run(str(file), runs) == (0, runs / "mine-1-2")
    with pytest.raises(InputError, match=r"expected a run below .*elsewhere, got .*mine-1; --runs "):
        as_run(str(run), tmp_path / "elsewhere")


def test_what_cannot_be_imported_ends_the_command_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no checkpoint")
    assert cli.main(["dashboard", str(tmp_path / "bad.pth"), "--runs", str(tmp_path / "runs")]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("lcmae import: ")
    assert find_runs(tmp_path) == []


def test_the_command_opens_the_microscope_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = published(tmp_path / "runs" / "vit b", tiny(channels=3), data=None)
    shown: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dashboard, "show", lambda *given: shown.append(given) or 0)
    folder = photos(tmp_path / "my photos")
    words_of = ["dashboard", str(run.path), "--runs", str(tmp_path / "runs"), "--data", str(folder)]
    assert cli.main(words_of) == 0
    (given,) = shown
    assert given[-1] == "/microscope?a=vit+b"
    assert given[-2] == (f"folder:{folder}",)

    monkeypatch.setenv("LCMAE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(sys, "argv", ["served.py", "--data", f"folder:{folder}"])
    app = open_page("microscope", a="vit b")
    assert not app.warning
    assert "beach" in words(app)
    assert components(app, "lcmae.patch_board")


@pytest.mark.parametrize("what", ["12 bands", "nothing there", "no image reads"])
def test_data_that_does_not_fit_falls_back_to_the_photographs_and_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    published(root / "a", tiny(channels=3), data=None)
    data = str(tmp_path / "data.npy")
    if what == "12 bands":
        np.save(data, np.zeros((5, 20, 20, 12), np.uint8))
    elif what == "no image reads":
        data = str(photos(tmp_path / "torn"))
        for file in Path(data).iterdir():
            file.write_bytes(b"torn")
    monkeypatch.setattr(sys, "argv", ["served.py", "--data", data])
    app = open_page("microscope", a="a")
    (notice,) = [warning.value for warning in app.warning]
    expected = {"12 bands": "expected 3 bands, got 12", "nothing there": "found neither a file nor a folder"}
    assert ": photographs that come with lcmae are shown, because " in notice
    assert expected.get(what, "none of 1 images can be read") in notice
    assert "photographs/" in words(app)


def test_a_model_that_the_photographs_do_not_fit_asks_for_data(root: Path) -> None:
    published(root / "a", tiny(channels=12), data=None)
    app = open_page("microscope", a="a")
    assert "expected images of 12 bands for this model, got none" in words(app)
    assert "lcmae dashboard --data FOLDER" in words(app)
