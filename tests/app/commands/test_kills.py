"""Every command that writes, killed at every file operation below its folder: no result is lost,
and the next start leaves no stray file.

The same file is the program under test: one process imports everything once, then forks a writer
for each operation, ends it with SIGKILL right before that operation, and lets another do the same
command again. It prints a table, which docs/security.md shows.
"""

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

COMMANDS = (
    *("probe", "export official", "export timm", "export huggingface", "import", "stitch"),
    *("report", "compare", "claims"),
)
SIGNALLED = ("probe", "export official", "import", "stitch", "report")
STITCHED = ("--images", "20", "--fit-images", "20", "--device", "cpu")
WRITES = ("open", "os.", "shutil.", "ctypes.")


def arguments(name: str, folder: Path) -> list[str]:
    """A command line that writes below `folder`."""
    run, out = str(folder / "run"), folder / "out"
    command, _, layout = name.partition(" ")
    suffix = {"official": ".pth", "timm": ".safetensors", "huggingface": "", "": ""}[layout]
    return {
        "probe": ["probe", "invariance", "fidelity", "--checkpoint", run, "--images", "40"],
        "export": ["export", run, "--to", layout, "--out", str(out) + suffix],
        "import": ["import", str(folder / "good.pth"), "--out", str(folder / "imported")],
        "stitch": ["stitch", run, str(folder / "other"), *STITCHED, "--out", str(folder / "stitch.nc")],
        "report": ["report", run, "--out", str(folder / "report.html")],
    }[command]


def do(name: str, folder: Path) -> int:
    """Run one command in this process; its words go nowhere."""
    from lcmae.app.cli import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if name == "compare":
            # what it writes beside its runs: settings and table, whole after each run
            from lcmae.probes.grids.table import TABLE, write_table
            from lcmae.runs.durable import sweep
            from lcmae.runs.lock import lock

            with lock(folder):
                sweep(folder)
                write_table([{"run": "a", "status": "done", "seed": 0}], {}, folder / TABLE)
            return 0
        if name == "claims":
            from lcmae.probes.claims.record import Record, to_markdown, write_record
            from lcmae.runs.durable import write_atomically

            record = Record(outcomes=(), command="c", written="2026", machine="m", versions="v", train_minutes=0)
            write_record(record, folder)
            write_atomically(folder / "claims.md", to_markdown(record).encode())
            return 0
        return main(arguments(name, folder))


def forked(action: Callable[[], int]) -> int:
    """The wait status of a child that does it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = action()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def killed_at(
    name: str, folder: Path, last: int, number: signal.Signals = signal.SIGKILL, heard: Path | None = None
) -> int:
    """Do the command, and get a signal right before its file operation number `last` below the
    folder."""
    count, below = itertools.count(1), os.fspath(folder)

    def watch(event: str, parts: tuple[Any, ...]) -> None:
        if not event.startswith(WRITES) or not any(isinstance(part, str | bytes | os.PathLike) for part in parts):
            return
        paths = [os.fsdecode(part) for part in parts if isinstance(part, str | bytes | os.PathLike)]
        if any(path.startswith(below) for path in paths) and not _reads(event, parts) and next(count) == last:
            if heard is not None:
                heard.touch()  # lies beside the folder, which is what is counted
            os.kill(os.getpid(), number)

    sys.addaudithook(watch)
    return do(name, folder)


def _reads(event: str, parts: tuple[Any, ...]) -> bool:
    """Opened for reading, listed: nothing can be lost by that."""
    if event in ("os.listdir", "os.scandir", "os.getxattr"):
        return True
    return event == "open" and isinstance(parts[2], int) and not parts[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)


def strays(folder: Path) -> list[str]:
    """Hidden names that are no lock."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name != ".lock")


def is_whole(path: Path) -> bool:
    """Whether what lies under a name that readers see can be read."""
    from lcmae.errors import InputError
    from lcmae.formats import inspect
    from lcmae.probes.results.store import load_result

    try:
        if path.suffix == ".nc":
            load_result(path)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix in (".pth", ".safetensors"):
            inspect(path)
        elif path.suffix == ".html":
            return path.read_text().endswith("</html>\n")
    except (InputError, ValueError):
        return False
    return True


def tried(name: str, start: Path, work: Path) -> dict[str, Any]:
    """Kills at every operation of one command, and what was found after each."""
    row = {"command": name, "signal": "SIGKILL", "kills": 0, "lost": [], "torn": [], "strays": [], "failed": []}
    for last in itertools.count(1):
        folder = work / f"{name.replace(' ', '-')}-{last}"
        shutil.copytree(start, folder)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name}
        status = forked(lambda folder=folder, last=last: killed_at(name, folder, last))
        visible = [path for path in folder.rglob("*") if path.is_file() and "/." not in str(path.relative_to(work))]
        row["torn"] += [str(path) for path in visible if not is_whole(path)]
        row["lost"] += [str(path) for path, old in before.items() if not path.exists() or path.read_bytes() != old]
        if status == 0:
            row["strays"] += strays(folder)
            return row
        row["kills"] += 1
        again = forked(lambda folder=folder: do(name, folder))
        # what was finished before the kill is not written over, rightly
        if again and not (name.startswith(("export", "import", "stitch")) and os.waitstatus_to_exitcode(again) == 2):
            row["failed"].append(f"{last}: {again}")
        row["strays"] += strays(folder)
        shutil.rmtree(folder)
    raise AssertionError


def signalled(name: str, start: Path, work: Path) -> dict[str, Any]:
    """SIGTERM, SIGHUP and Ctrl-C in turn at every operation of one command: it ends with the
    signal's code, or came to its end before it could hear, and nothing is lost."""
    row = {"command": name, "signal": "in turn", "kills": 0, "lost": [], "torn": [], "strays": [], "failed": []}
    numbers = itertools.cycle([signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    for last, number in zip(itertools.count(1), numbers, strict=False):
        folder = work / f"signal-{name.replace(' ', '-')}-{last}"
        shutil.copytree(start, folder)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name}
        heard = folder.with_suffix(".heard")
        status = forked(partial(killed_at, name, folder, last, number, heard))
        code = os.waitstatus_to_exitcode(status)
        visible = [path for path in folder.rglob("*") if path.is_file() and "/." not in str(path.relative_to(work))]
        row["torn"] += [str(path) for path in visible if not is_whole(path)]
        row["lost"] += [str(path) for path, old in before.items() if not path.exists() or path.read_bytes() != old]
        if strays(folder):  # the signal came right before one was removed: the next start does it
            forked(partial(do, name, folder))
        row["strays"] += strays(folder)
        shutil.rmtree(folder)
        if not heard.exists():
            return row
        row["kills"] += 1
        if code not in (128 + number, 0):
            row["failed"].append(f"{last}: {number.name}: {code}")
    raise AssertionError


def main(work: Path, names: Sequence[str]) -> None:
    import torch

    from lcmae.training.train import train
    from tests.reference.hostile import good
    from tests.reference.tiny_runs import tiny_run

    torch.set_num_threads(1)  # a forked child has no threads of its parent
    start = work / "start"
    train(tiny_run(start / "run", epochs=1), device="cpu")
    shutil.copytree(start / "run", start / "other")
    good(start / "good.pth")
    warm = work / "warm"
    shutil.copytree(start, warm)
    for name in COMMANDS:
        assert do(name, warm) == 0, name  # what a command imports is imported once, before the forks
    for name in names or COMMANDS:
        print(json.dumps(tried(name, start, work)), flush=True)
    for name in [name for name in names or COMMANDS if name in SIGNALLED]:
        print(json.dumps(signalled(name, start, work)), flush=True)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    command = [sys.executable, "-P", "-W", "ignore", __file__, str(tmp_path_factory.mktemp("kills"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {(row["command"], row["signal"]): row for row in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_at_any_file_operation_loses_nothing(rows: dict[tuple[str, str], dict[str, Any]], name: str) -> None:
    row = rows[name, "SIGKILL"]
    assert row["kills"] >= 3
    assert row["lost"] == row["torn"] == row["strays"] == row["failed"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALLED)
def test_a_signal_at_any_file_operation_loses_nothing(rows: dict[tuple[str, str], dict[str, Any]], name: str) -> None:
    row = rows[name, "in turn"]
    assert row["kills"] >= 3
    assert row["lost"] == row["torn"] == row["strays"] == row["failed"] == []


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
