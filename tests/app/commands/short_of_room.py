"""A program for tests: commands on a file system of their own that is nearly full, then read-only,
then out of reach.

It runs as `unshare --user --map-root-user --mount python -P -m tests.app.commands.short_of_room
RUN`, so that what it mounts goes when it ends, and prints a line of JSON for each command tried.
"""

import contextlib
import ctypes
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SMALL = ["--limit", "32", "--batch-size", "16", "--epochs", "1", "--warmup-epochs", "0", "--monitor-every", "0"]
SMALL += ["--model.image-size", "8", "--model.patch-size", "2", "--model.width", "16", "--model.depth", "1"]
SMALL += ["--model.decoder-width", "16", "--model.decoder-depth", "1"]
KIB = 1024
FREE = (0, 8, 24, 72)
"""KiB that are free: for nothing, for a folder and a lock, for a part of what is written."""

SIZE = 4096
"""KiB of the file system."""


def commands(disk: Path) -> dict[str, list[str]]:
    """Every command that writes, as it writes to `disk`."""
    run = str(disk / "run")
    return {
        "train": ["train", "mae-digits", *SMALL, "--out", str(disk / "new")],
        "train --resume": ["train", "--resume", str(disk / "half")],
        "probe": ["probe", "reconstruction", "--checkpoint", run, "--images", "20", "--device", "cpu"],
        "export": ["export", run, "--to", "official", "--out", str(disk / "out.pth")],
        "import": ["import", str(disk / "good.pth"), "--out", str(disk / "imported")],
        "embed": ["embed", run, "--images", "40", "--out", str(disk / "vectors.parquet")],
        "stitch": ["stitch", run, str(disk / "other"), *STITCHED, "--out", str(disk / "stitch.nc")],
        "report": ["report", run, "--out", str(disk / "report.html")],
        "masks": ["masks", "--grid", "4", "4", "--num-masks", "4", "--html", str(disk / "masks.html")],
        "compare": ["compare", "--out", str(disk / "grid"), *GRID],
        "claims": ["claims", "--claims", "mae-learns", "--epochs", "1", "--seeds", "2", "--out", str(disk / "claims")],
    }


STITCHED = ["--images", "20", "--fit-images", "20", "--device", "cpu"]
GRID = ["--ratios", "0.5", "--epochs", "1", "--probes", "none", "--workers", "1", "--set", "limit=32", "batch_size=16"]
GRID += ["monitor_every=0", "model.image_size=8", "model.patch_size=2", "model.width=16"]
GRID += ["model.depth=1", "model.decoder_width=16", "model.decoder_depth=1"]


def attempt(words: list[str]) -> dict[str, Any]:
    """The exit code and the last lines of one command in this process."""
    from lcmae.app.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
    return {"code": code, "error": err.getvalue().splitlines()}


def mount(disk: Path, *options: str) -> None:
    """A file system in memory of `SIZE`."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={SIZE}k", *options]), "tmpfs", str(disk)]
    subprocess.run(command, check=True)


def strays(disk: Path) -> list[str]:
    """Hidden names that are no lock."""
    return sorted(str(path.relative_to(disk)) for path in disk.rglob(".*") if path.name != ".lock")


def fill(disk: Path, free: int) -> None:
    """A file that leaves so many KiB."""
    left = os.statvfs(disk)
    size = left.f_bavail * left.f_bsize - free * KIB
    (disk / "filler").write_bytes(bytes(max(0, size)))


def give_up_privilege() -> None:
    """No longer pass over the permissions of files, as only root may."""
    cap_dac_override, cap_dac_read_search, version = 1, 2, 0x20080522
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(version, 0)
    sets = (ctypes.c_uint32 * 6)()
    if library.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    lost = ~(1 << cap_dac_override | 1 << cap_dac_read_search) & 0xFFFFFFFF
    for position in (0, 1, 2):  # effective, permitted, inheritable
        sets[position] &= lost
    if library.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def main(start: Path) -> None:
    """Try everything; `start` holds what the file system begins with."""
    disk = Path("/mnt")
    for name in commands(disk):
        for free in FREE:
            mount(disk)
            shutil.copytree(start, disk, dirs_exist_ok=True)
            fill(disk, free)
            found = attempt(commands(disk)[name])
            print(
                json.dumps({"state": "full", "command": name, "free": free, **found, "strays": strays(disk)}),
                flush=True,
            )
            subprocess.run(["umount", str(disk)], check=True)
    mount(disk)
    shutil.copytree(start, disk, dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for name, words in commands(disk).items():
        print(json.dumps({"state": "read-only", "command": name, **attempt(words)}), flush=True)
    subprocess.run(["umount", str(disk)], check=True)
    mount(disk)
    shutil.copytree(start, disk, dirs_exist_ok=True)
    give_up_privilege()
    for folder in (disk / "run", disk / "other", disk / "half", disk / "good.pth", disk):
        folder.chmod(0)
    for name, words in commands(disk).items():
        print(json.dumps({"state": "out of reach", "command": name, **attempt(words)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
