"""`lcmae dashboard --data`: images are checked at once, before the server starts, and without
torch."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcmae.app import cli
from lcmae.app.commands import dashboard
from tests.reference.image_files import png


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would be served."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dashboard, "show", lambda *given: found.append(given) or 0)
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in: photos and masks of theirs, an array, and what is no images."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "masks", "nothing", "zips"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.png").write_bytes(png(number))
        (tmp_path / "masks" / f"{number}.png").write_bytes(png(number))
    np.save(tmp_path / "scans.npy", np.zeros((3, 8, 8), np.uint8))
    (tmp_path / "notes.txt").write_text("no images")
    with zipfile.ZipFile(tmp_path / "zips" / "photos.zip", "w") as archive:
        archive.writestr("0.png", png(0))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data", "photos"], "folder:{here}/photos"),
        (["--data", "scans.npy"], "numpy:{here}/scans.npy"),
        (["--data", "folder:photos?bands=3,2,1"], "folder:{here}/photos?bands=3,2,1"),
        (["--data", "photos", "--masks", "masks"], "folder:{here}/photos?masks={here}/masks"),
        (["--data", "webdataset:shards-{{000..012}}.tar"], "webdataset:{here}/shards-{{000..012}}.tar"),
        (["--data", "photographs"], "photographs"),
    ],
)
def test_images_are_named_so_that_any_folder_opens_them(
    here: Path, shown: list[tuple[Any, ...]], words: list[str], expected: str
) -> None:
    assert cli.main(["dashboard", *(word.replace("{{", "{").replace("}}", "}") for word in words)]) == 0
    assert shown[0][-2] == (expected.format(here=here),)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--data", "photso"], "got 'photso', and no file or folder has this name"),
        (["--data", "folder:photso"], "expected data at photso, found neither a file nor a folder"),
        (["--data", "./photso"], "expected data at photso, found neither a file nor a folder"),
        (["--data", "nothing"], "found nothing"),
        (["--data", "zips"], "found files of .zip: unpack it to a folder first"),
        (["--data", "zips/photos.zip"], "unpack it to a folder first"),
        (["--data", "notes.txt"], "got a file of another kind (.txt)"),
        (["--data", "photos/0.png"], "give its folder"),
        (["--data", ""], "expected the name of a source of images, or a path, got an empty text"),
        (["--masks", "masks"], "expected --data with --masks, got --masks alone"),
        (["--value-range", "0:1"], "expected --data with --value-range, got --value-range alone"),
    ],
)
def test_what_is_no_images_is_refused_before_the_server_starts(
    here: Path, shown: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert cli.main(["dashboard", *words]) == 2
    assert shown == []
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
    assert err.startswith("lcmae dashboard: expected ")


def test_the_check_loads_no_torch(here: Path) -> None:
    code = (
        "import sys; from lcmae.app.commands import dashboard; dashboard.show = lambda *given: print(given[-2]) or 0; "
        "code = dashboard.run(['--data', 'photos', '--data', 'scans.npy', '--value-range', '0:9']); "
        "print(sorted({'torch', 'PIL', 'streamlit'} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    first, second = done.stdout.splitlines()
    assert "numpy:" in first
    assert second == "[] 0"
