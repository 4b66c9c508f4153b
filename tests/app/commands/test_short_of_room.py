"""A full disk is exit code 1 and "No space left on device" in every command that writes; read-only
and unreadable folders are bad input. One line each, and nothing half-written stays."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lcmae import processes
from lcmae.training.train import train
from tests.app.commands.short_of_room import commands
from tests.reference.hostile import good
from tests.reference.tiny_runs import tiny_run

pytestmark = pytest.mark.slow

ROOM = ["unshare", "--user", "--map-root-user", "--mount"]
MOUNT = "mount -t tmpfs -o size=64k tmpfs /mnt && umount /mnt"


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every command in every state of the disk."""
    try:
        allowed = subprocess.run([*ROOM, "sh", "-c", MOUNT], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here, so no file system of its own to fill")
    if allowed.returncode:
        pytest.skip(f"no file system can be mounted here: {allowed.stderr.decode().strip()}")
    start = tmp_path_factory.mktemp("start")
    train(tiny_run(start / "run", epochs=1), device="cpu")
    shutil.copytree(start / "run", start / "other")
    tiny_run(start / "half", epochs=1)
    good(start / "good.pth")
    command = [*ROOM, *processes.module("tests.app.commands.short_of_room", str(start))]
    done = processes.run(command, env={"PYTHONPATH": str(Path(__file__).parents[3])}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def words(found: dict[str, Any]) -> list[str]:
    """What was said but for progress and notes."""
    ours = f"lcmae {found['command'].split()[0]}: "
    return [line for line in found["error"] if line.startswith((ours, "Traceback", "  File"))]


def test_every_command_is_tried(attempts: list[dict[str, Any]]) -> None:
    names = set(commands(Path("x")))
    for state in ("full", "read-only", "out of reach"):
        assert {found["command"] for found in attempts if found["state"] == state} == names


def test_a_full_disk_is_a_failure_of_one_line(attempts: list[dict[str, Any]]) -> None:
    full = [found for found in attempts if found["state"] == "full"]
    failed = [found for found in full if found["code"] != 0]
    assert {found["command"] for found in failed} == set(commands(Path("x")))
    for found in failed:
        assert found["code"] == 1, found
        runs = 2 if found["command"] == "claims" else 1  # a line for each run that failed
        assert 1 <= len(words(found)) <= runs, found
        assert all(line.endswith("No space left on device") for line in words(found)), found
    assert [found for found in full if found["strays"]] == []


@pytest.mark.parametrize(
    ("state", "reasons"), [("read-only", ["Read-only file system"]), ("out of reach", ["Permission denied"])]
)
def test_folders_that_refuse_are_one_line(
    attempts: list[dict[str, Any]], state: str, reasons: list[str]
) -> None:  # fmt: skip
    for found in attempts:
        if found["state"] == state:
            assert found["code"] == 2, found
            assert len(words(found)) == 1, found
            assert words(found)[0].endswith(tuple(reasons)), found
