"""Everything that fifteen minutes of one GPU can measure, on a machine with Python, torch and no
network.

    # here, first: what must be carried
    python -m benchmarks.gpu.pack
    # there, in two calls
    python3 -m benchmarks.gpu.run --seconds 230 --steps tests roof steps
    python3 -m benchmarks.gpu.run --seconds 560 --steps cifar probes
    # here: tables of what came back
    python -m benchmarks.gpu.read FOLDER ...
    # a trial, on any machine
    python -m benchmarks.gpu.run --device cpu --tiny --out /tmp/trial

Steps run in order of value (`benchmarks.gpu.plan`), each in a process with a time limit.
`results.json` in --out is written again whenever a step has measured something; a step that fails
is in it with its traceback, and the next one goes on; after SIGTERM or a kill it holds all that was
measured until then. Ends with 0 where all steps are done, 1 where one failed, 143 after SIGTERM.
docs/gpu/README.md has the whole plan. Standard library alone.
"""

import argparse
import importlib.metadata
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any

from benchmarks.gpu.plan import ENDING, GRACE, OPTIONS, STEPS, Step, allotted, steps_named
from benchmarks.gpu.record import read_json, write_json

ROOT = Path(__file__).parents[2]
CARRIED = ROOT / ".gpu" / "pack"
WORK = ROOT / ".gpu" / "work"
"""Runs, and the records of steps. It lives as long as the machine, so a later call finds them."""

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
RESULTS, LOG = "results.json", "run.log"
POLL = 0.5
MOST_LOG = 2 << 20
"""Bytes of the log that come back."""


class Stopped(Exception):
    """A signal asked this program to stop."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps; the exit code says how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", default=[step.name for step in STEPS], help="which, by name")
    parser.add_argument("--seconds", type=float, default=570.0, help="for all of them")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="models and data that a CPU trains in seconds")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="where results go; $OUT")
    parser.add_argument("--work", type=Path, default=WORK, help="where runs lie")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help=f"of the step cifar: {', '.join(OPTIONS)}"
    )
    options = parser.parse_args(argv)
    try:
        steps = steps_named(options.steps)
    except ValueError as error:
        parser.error(str(error))
    unknown = [word for word in options.option if word.partition("=")[0] not in OPTIONS or "=" not in word]
    if unknown:
        parser.error(f"expected --option NAME=VALUE with a name out of {', '.join(OPTIONS)}, got {unknown[0]}")
    if options.out is None:
        parser.error("expected --out FOLDER or $OUT, got neither")
    return Session(options, sys.argv[1:] if argv is None else argv).run(steps)


class Session:
    """One call of the program."""

    def __init__(self, options: argparse.Namespace, words: Sequence[str]) -> None:
        self.options, self.begin = options, time.monotonic()
        self.out, self.work = Path(options.out), Path(options.work)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.work / "records").mkdir(parents=True, exist_ok=True)
        self.results: dict[str, Any] = {
            "command": shlex.join(["python3", "-m", "benchmarks.gpu.run", *words]),
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": options.device,
            "tiny": options.tiny,
            "machine": machine(),
            "steps": {},
        }
        self.environment = environment(self.results)
        self.child: subprocess.Popen[bytes] | None = None

    @property
    def left(self) -> float:
        return self.options.seconds - (time.monotonic() - self.begin)

    def run(self, steps: Sequence[Step]) -> int:
        """All steps; SIGTERM, SIGHUP and Ctrl-C end the one that runs and write what there is."""
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            for index, step in enumerate(steps):
                self._step(step, steps[index + 1 :])
        except Stopped as stop:
            self.results["stopped"] = str(stop)
            return 143
        finally:
            self._stop_child()
            for number, handler in before.items():
                signal.signal(number, handler)
            self.results["seconds"] = round(time.monotonic() - self.begin, 1)
            self._write()
            trim(self.out / LOG)
            print(summary(self.results), flush=True)
        return 0 if all(step["state"] in ("done", "not begun") for step in self.results["steps"].values()) else 1

    def _receive(self, number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # what there is gets written, whoever asks again
        raise Stopped(signal.Signals(number).name)

    def _step(self, step: Step, later: Sequence[Step]) -> None:
        seconds = allotted(step, later, self.left)
        entry = self.results["steps"][step.name] = {"state": "not begun", "given_s": round(seconds, 1)}
        if not seconds:
            entry["reason"] = f"{self.left:.0f} s were left, and it needs {step.least + GRACE + ENDING:.0f}"
            self._write()
            return
        record = self.work / "records" / f"{step.name}.json"
        record.unlink(missing_ok=True)
        begin, limit = time.monotonic(), time.monotonic() + seconds + GRACE
        words = [sys.executable, "-u", "-m", "benchmarks.gpu.child", step.name, "--seconds", str(seconds)]
        words += ["--device", self.options.device, "--record", record, "--work", self.work, "--out", self.out]
        words += ["--tiny"] if self.options.tiny else []
        words += [word for option in self.options.option for word in ("--option", option)]
        print(f"{step.name}: {seconds:.0f} s for {step.measures}", flush=True)
        entry["state"] = "stopped"  # until it ends: so it stands in the file if nobody can write any more
        try:
            with (self.out / LOG).open("ab") as log:
                self._start([str(word) for word in words], log)
                code, changed = None, 0.0
                while (code := self._poll()) is None and time.monotonic() < limit:
                    changed = self._merge(entry, record, changed)
                    time.sleep(POLL)
                if code is None:
                    entry["reason"] = f"its time was over, {GRACE:.0f} s ago"
                self._stop_child()
        finally:
            self._merge(entry, record, 0.0)
            entry["seconds"] = round(time.monotonic() - begin, 1)
            self._write()
        if code is not None:
            failed = code != 0 or bool(entry.get("problems"))
            entry |= {"state": "failed" if failed else "done", "exit_code": code}
            if code != 0:
                entry["last_lines"] = tail(self.out / LOG)
        self._write()
        print(line_of(step.name, entry), flush=True)

    def _start(self, words: list[str], log: IO[bytes]) -> None:
        # a group, and not a session: what a killed call leaves running must not outlive it
        self.child = subprocess.Popen(
            words, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT, process_group=0
        )

    def _poll(self) -> int | None:
        assert self.child is not None
        return self.child.poll()

    def _stop_child(self) -> None:
        """SIGTERM to the child and all that it started; SIGKILL where that does not help."""
        child, self.child = self.child, None
        if child is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not send(child.pid, number):
                break
            end = time.monotonic() + (GRACE if number == signal.SIGTERM else 1.0)
            while time.monotonic() < end and (child.poll() is None or send(child.pid, 0)):
                time.sleep(0.1)
        child.wait()

    def _merge(self, entry: dict[str, Any], record: Path, seen: float) -> float:
        """Take over what the child has written since `seen`."""
        changed = record.stat().st_mtime if record.is_file() else seen
        if changed != seen:
            entry |= read_json(record)
            self._write()
        return changed

    def _write(self) -> None:
        write_json(self.out / RESULTS, self.results)


def send(group: int, number: int) -> bool:
    """Whether a process group took a signal, that is, whether it still lives."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def machine() -> dict[str, Any]:
    """What this runs on."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
    }
    query = "name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit"
    try:
        words = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        found["gpu"] = subprocess.check_output(words, text=True, timeout=20, stderr=subprocess.STDOUT).strip()
    except (OSError, subprocess.SubprocessError) as error:
        found["gpu"] = f"none seen: {error}"
    return found


def environment(results: dict[str, Any]) -> dict[str, str]:
    """The children's: our code, those carried packages that are missing here, the data."""
    missing, there = [], {}
    for folder in sorted((CARRIED / "site").glob("*")):
        version = version_of(folder.name)
        if version is None:
            missing.append(str(folder))
        else:
            there[folder.name] = version
    results["packages"] = {"carried": [Path(path).name for path in missing], "of_the_machine": there}
    manifest = read_json(CARRIED / "manifest.json")
    results["revision"] = None if manifest is None else manifest["revision"]
    found = dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join([*missing, str(ROOT)])
    if (CARRIED / "data").is_dir():
        found["LCMAE_DATA"] = str(CARRIED / "data")
    # spinning threads take cores from the processes beside them; no hub can be asked
    found |= {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    # images often forbid bytecode, and then every process compiles torch and its friends anew
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    found["TORCHINDUCTOR_CACHE_DIR"] = str(WORK / "compiled")
    return found


def version_of(package: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def tail(path: Path, num_bytes: int = 3000) -> str:
    """The end of a text file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - num_bytes))
        return file.read().decode(errors="replace")


def trim(path: Path) -> None:
    """Cut a long log to its end."""
    if path.is_file() and path.stat().st_size > MOST_LOG:
        path.write_text(tail(path, MOST_LOG))


def line_of(name: str, entry: dict[str, Any]) -> str:
    """One step in a line."""
    parts = len(entry.get("parts", {}))
    line = f"{name}: {entry['state']} in {entry.get('seconds', 0):.0f} s, {parts} parts measured"
    if skipped := entry.get("skipped"):
        line += "; skipped: " + "; ".join(f"{part} {reason}".strip() for part, reason in skipped.items())
    if problems := entry.get("problems"):
        ends = (f"{part} {text.strip().splitlines()[-1]}".strip() for part, text in problems.items())
        line += "; failed: " + "; ".join(ends)
    return line + (f"; {entry['reason']}" if "reason" in entry else "")


def summary(results: dict[str, Any]) -> str:
    """All steps, a line each, last: the reply of a machine carries the end of the output."""
    lines = [line_of(name, entry) for name, entry in results["steps"].items()]
    stopped = f", stopped by {results['stopped']}" if "stopped" in results else ""
    return "\n".join(["", f"{results['seconds']:.0f} s in all{stopped}", *lines])


if __name__ == "__main__":
    sys.exit(main())
