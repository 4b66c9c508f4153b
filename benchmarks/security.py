"""Hostile files through every command that reads them: what docs/security.md reports.

    python -P benchmarks/security.py [images] [results] [checkpoints]

Each file (a checkpoint, a stored result, an image) is written anew, and read by a process of its
own: inspect, load, import and probe for checkpoints, report for results, a folder of images for
images. Counted are files that appeared, programs that were started, processes that a signal ended,
tracebacks, and how far memory rose. The one program that lcmae itself starts there is git, which
tells the version of a working copy.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1]))

from lcmae.app.cli import main
from lcmae.errors import InputError

SECONDS = 60

STARTED: list[str] = []
"""Programs that this process, or a fork of it, started since it was last emptied."""


def note_started(event: str, parts: tuple) -> None:
    """An audit hook."""
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        STARTED.append(os.path.basename(os.fsdecode(parts[0] or "")))


def checkpoint(path: Path, folder: Path) -> str:
    from lcmae.formats import load

    said = command("inspect", str(path))
    said += command("import", str(path), "--out", str(folder / "imported"))
    out = str(folder / "results")
    said += command("probe", "spectrum", "--checkpoint", str(path), "--data", "digits", "--images", "10", "--out", out)
    with contextlib.suppress(InputError):
        load(path)
    return said


def result(path: Path, folder: Path) -> str:
    from lcmae.probes.results.store import load_result
    from lcmae.runs.run import Run

    with contextlib.suppress(InputError):
        load_result(path)
    run = Run.create(folder / "run", {"data": "digits"})
    place = run.path / "probes" / "000000"
    place.mkdir(parents=True)
    if path.is_file() or path.is_symlink():
        os.rename(path, place / "spectrum.nc")
    return command("report", str(run.path), "--out", str(folder / "report.html"))


def image(path: Path, folder: Path) -> str:
    from lcmae.data.decode import Decoder, Unreadable

    with contextlib.suppress(Unreadable):
        Decoder(16, 16, 3)(path)
    return ""


def command(*arguments: str) -> str:
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        code = main(arguments)
    text = words.getvalue()
    assert code in (0, 1, 2), code
    return text


def images() -> dict[str, Callable[[Path], Path]]:
    from PIL import Image

    def of(content: bytes) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            (folder / "cat.png").write_bytes(content)
            return folder / "cat.png"

        return make

    def drawn(mode: str, size: tuple[int, int], **more: object) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            Image.new(mode, size).save(folder / "cat.png", "PNG", **more)
            return folder / "cat.png"

        return make

    return {
        "EPS": of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/tmp/x) (w) file\nshowpage\n"),
        "words": of(b"no image"),
        "XPM": of(b"/* XPM */\nstatic char *a[] = {\n"),
        "16 bits": drawn("I;16", (8_000, 8_000)),
        "palette with alpha": drawn("P", (9_000, 9_000), transparency=0),
        "bilevel": drawn("1", (9_000, 9_000)),
        "a bomb": drawn("1", (13_000, 13_000)),
        "a line": drawn("P", (1, 5_000_000 // 100)),
    }


def tried(read: Callable[[Path, Path], str], make: Callable[[Path], Path]) -> tuple[str, int, int, int, list[str]]:
    """What it said, the wait status, MiB above this process, files that appeared beside it, and
    programs that it started."""
    with tempfile.TemporaryDirectory() as name:
        folder, work = Path(name) / "files", Path(name) / "work"
        folder.mkdir()
        work.mkdir()
        path = make(folder)
        before = set(folder.rglob("*"))
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            import signal
            import traceback

            signal.alarm(SECONDS)
            base = resident()  # a fork shares less than its parent holds
            STARTED.clear()
            os.close(readable)
            try:
                said = read(path, work)
            except BaseException:
                said = "Traceback " + traceback.format_exc()
            programs = " ".join(name.replace(" ", "_") for name in STARTED)
            os.write(writable, f"{base}\n{programs}\n{said[-50_000:]}".encode("utf-8", "replace"))
            os._exit(0)
        os.close(writable)
        with os.fdopen(readable, "rb") as words:
            base, programs, said = [*words.read().decode("utf-8", "replace").split("\n", 2), "", ""][:3]
        _, status, used = os.wait4(child, 0)
        above = used.ru_maxrss // 1024 - int(base or 1 << 40)
        return said, status, above, len(set(folder.rglob("*")) - before), programs.split()


def resident() -> int:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def report() -> int:
    import warnings

    import torch

    import tests.reference.hostile_folders
    import tests.reference.hostile_torch  # noqa: F401 - it adds to the corpus
    from lcmae.training.train import train  # noqa: F401 - loaded once, before the forks
    from tests.reference.hostile import CORPUS
    from tests.reference.hostile_results import RESULTS

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.addaudithook(note_started)
    rooms = {"images": (image, images()), "results": (result, RESULTS), "checkpoints": (checkpoint, CORPUS)}
    with tempfile.TemporaryDirectory() as name:
        from tests.reference.hostile import good

        good(Path(name) / "a.pth")
        checkpoint(Path(name) / "a.pth", Path(name))  # imports
        result(Path(name) / "none.nc", Path(name))
    print(
        "| read | files | side effects | programs but git | ended by a signal | tracebacks | peak above base | slowest |"
    )
    print("|---|---|---|---|---|---|---|---|")
    bad = 0
    for room, (read, entries) in rooms.items():
        if sys.argv[1:] and room not in sys.argv[1:]:
            continue
        effects, foreign, signals, tracebacks, peak, slowest = 0, 0, 0, 0, (0, ""), (0.0, "")
        for title, make in entries.items():
            begun = time.monotonic()
            said, status, mib, appeared, programs = tried(read, make)
            effects += appeared
            others = [name for name in programs if name != "git"]
            foreign += len(others)
            signals += os.WIFSIGNALED(status)
            is_traceback = "Traceback" in said or re.search(r"lcmae [a-z]+: failed: ", said) is not None
            tracebacks += is_traceback
            if is_traceback or os.WIFSIGNALED(status) or appeared or others:
                print(f"{room}: {title}: {status} {appeared} {others} {said[-600:]}", file=sys.stderr)
            peak, slowest = max(peak, (mib, title)), max(slowest, (time.monotonic() - begun, title))
        bad += effects + foreign + signals + tracebacks
        print(
            f"| {room} | {len(entries)} | {effects} | {foreign} | {signals} | {tracebacks} | {peak[0]} MiB ({peak[1]}) | "
            f"{slowest[0]:.1f} s ({slowest[1]}) |",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(report())
