"""A run folder: what it is made in, found by and opened from; and single files in it."""

import errno
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lcmae.errors import InputError
from lcmae.runs.run import Run, find_runs, is_run, is_step, write_atomically
from tests.reference.run_folders import CONFIG, hidden, one_line, publish


@pytest.mark.parametrize("name", ["plain", "with space", "ünï ☃", "a\nb", "'quo\"te'"])
def test_a_run_is_found_again_under_any_name(tmp_path: Path, name: str) -> None:
    created = Run.create(tmp_path / "deep" / name, CONFIG)
    created.log_metrics({"step": 1})
    publish(created, 7)
    found = Run.open(tmp_path / "deep" / name)
    assert (found.config, found.name, found.path, found.steps()) == (CONFIG, name, tmp_path / "deep" / name, [7])
    assert find_runs(tmp_path) == [tmp_path / "deep" / name]
    assert hidden(tmp_path / "deep") == []
    with pytest.raises(InputError) as error:
        Run.create(tmp_path / "deep" / name, CONFIG)
    assert "has a run" in one_line(error)


def test_a_run_takes_an_empty_folder_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", {}).config == {}
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="empty folder"):
        Run.create(tmp_path / "used", {})
    assert os.listdir(tmp_path / "used") == ["notes.txt"]


def test_of_two_that_create_the_same_run_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        Run.create(tmp_path / "run", {"winner": 1})
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(InputError, match="cannot make a run folder"):
        Run.create(tmp_path / "run", {"winner": 2})
    assert Run.open(tmp_path / "run").config == {"winner": 1}
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ratio": math.nan}, "JSON"),
        ({"ratio": math.inf}, "JSON"),
        ({"nested": [{3: 1}]}, "keys that are strings, got 3"),
        ({"path": Path("x")}, "PosixPath"),
    ],
)
def test_a_config_that_json_cannot_hold_is_refused(
    tmp_path: Path, run: Run, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        Run.create(tmp_path / "refused", config)
    assert message in one_line(error)
    assert not (tmp_path / "refused").exists()
    with pytest.raises(InputError, match=message):
        run.publish(1, {"w": torch.ones(1)}, config=config, resume=None)
    assert os.listdir(run.path / "checkpoints") == []


def test_unwritable_places_give_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError) as error:
        Run.create(tmp_path / "file" / "run", {})
    assert "file is not a folder" in one_line(error)
    with pytest.raises(InputError, match="is not a folder"):
        write_atomically(tmp_path / "file" / "x", b"")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)  # tests run as root, whom no mode bits stop
    with pytest.raises(InputError, match="Read-only file system"):
        Run.create(tmp_path / "run", {})
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "nothing there"), (b"{", "expected JSON"), (b"\xff", "expected JSON"), (b"[1]", "JSON object"), ("", "")],
)
def test_what_is_no_run_is_not_opened(tmp_path: Path, text: bytes | str | None, message: str) -> None:
    folder = tmp_path / "run"
    if text is not None:
        folder.mkdir()
    if isinstance(text, bytes):
        (folder / "config.json").write_bytes(text)
    with pytest.raises(InputError) as error:
        Run.open(folder)
    assert message in one_line(error)


def test_find_runs_walks_links_once_and_stays_out_of_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "root"
    for name in ["b", "a", "grid/2", "grid/10", ".hidden/c"]:
        Run.create(root / name, {})
    elsewhere = Run.create(tmp_path / "scratch" / "far", {}).path
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "0-again").symlink_to(root / "a")
    (root / "far").symlink_to(elsewhere)
    Run.create(root / "a" / "checkpoints" / "inside", {})
    (root / "weights").mkdir()
    (root / "weights" / "config.json").write_text("{}")  # as Hugging Face lays them out: no run
    os.mkfifo(root / "pipe")
    assert find_runs(root) == [root / name for name in ["a", "b", "far", "grid/10", "grid/2"]]
    assert find_runs(root / "a") == [root / "a"]
    assert find_runs(tmp_path / "missing") == []
    assert not caplog.records


def test_is_run_and_is_step(run: Run, tmp_path: Path) -> None:
    step = publish(run, 500)
    assert step == run.path / "checkpoints" / "000500"
    assert is_run(run.path)
    assert is_step(step)
    for other in (run.path / "checkpoints", step / "manifest.json", tmp_path):
        assert not is_run(other)
        assert not is_step(other)
    assert not is_step(run.path)


def test_listing_runs_needs_no_torch(run: Run) -> None:
    publish(run, 3)
    run.log_metrics({"step": 3})
    code = (
        "import sys; from lcmae.runs.run import Run, find_runs\n"
        f"(path,) = find_runs({str(run.path.parent)!r}); run = Run.open(path)\n"
        "print(run.steps(), run.metrics(), run.newest().step, [m for m in ('torch', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[3] [{'step': 3}] 3 []\n"


def test_a_file_is_written_by_bytes_or_by_a_function(run: Run) -> None:
    path = run.result_path(5, "local_contrast")
    assert path == run.path / "probes" / "000005" / "local_contrast.nc"
    write_atomically(path, b"first")

    def write(temporary: Path) -> None:
        assert temporary.suffix == ".nc"
        assert path.read_bytes() == b"first"
        temporary.write_bytes(b"second")

    write_atomically(path, write)
    assert path.read_bytes() == b"second"

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["local_contrast.nc"]
    with pytest.raises(InputError, match="name of a probe"):
        run.result_path(5, "../../config")
