"""Computing from a page: one queue a server, whose jobs are batch commands in processes of their
own. No streamlit, no torch.

A job is the very command that the page shows (`lcmae probe ...`), so its numbers are those of a
terminal. Jobs belong to the server, not to the session that asked: every session sees the same
ones, and asking twice is asking once. They end with the server. A process group each, so that what
a command starts is stopped with it.
"""

import atexit
import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from lcmae import processes
from lcmae.errors import InputError
from lcmae.runs.durable import sweep
from lcmae.safety.text import printable, reason

MAX_WAITING = 200
MAX_ENDED = 200
"""Jobs that have ended and are remembered."""

MAX_COMPLAINTS = 100
"""Of a job, that are remembered."""

PATIENCE = 5.0
"""Seconds that a process has to stop in order, before it is killed."""

Arguments = tuple[str, ...]
State = Literal["waiting", "running", "stopping", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Progress:
    """What the command says of itself, as `lcmae.progress` writes it."""

    label: str
    done: int
    total: int
    seconds_left: float
    note: str = ""

    @property
    def share(self) -> float:
        return min(self.done / max(self.total, 1), 1.0)


@dataclass(eq=False)
class Job:
    """One command, from being asked for to its end. Read by any thread, changed by its queue."""

    arguments: Arguments
    """Words behind `lcmae`."""

    folder: Path | None
    """Where it writes, in it or in folders below it; what a killed process leaves half-written
    there is removed."""

    state: State = "waiting"
    progress: Progress | None = None
    """None until the command has something to count: loading torch takes seconds."""

    error: str = ""
    """One sentence, where it failed."""

    complaints: list[str] = field(default_factory=list)
    """Every sentence of that kind, of which `error` is the last: a command of several probes goes
    on without the one that cannot be computed."""

    asked: float = field(default_factory=time.monotonic)
    began: float | None = None
    ended: float | None = None
    """By the same clock."""

    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def is_active(self) -> bool:
        return self.state in ("waiting", "running", "stopping")

    @property
    def seconds(self) -> float | None:
        """How long it took; None where it has not ended, or never began."""
        return None if self.began is None or self.ended is None else self.ended - self.began


class Queue:
    """Jobs one after another, `workers` at a time. `start` are the words before a job's
    arguments."""

    def __init__(self, workers: int = 1, start: Sequence[str] | None = None) -> None:
        self._start = list(start or processes.module("lcmae.app.dashboard.jobs.worker"))
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._known: dict[Arguments, Job] = {}
        self._is_closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, arguments: Sequence[str], folder: Path | None = None) -> Job:
        """The job of these arguments: the one that waits or runs, else a new one. `InputError`
        where too many wait, or a word is none that a process can be given."""
        key = tuple(arguments)
        check_words(key)
        with self._changed:
            known = self._known.get(key)
            if known is not None and known.is_active:
                return known
            if self._is_closed or len(self._waiting) >= MAX_WAITING:
                raise InputError(f"expected at most {MAX_WAITING} jobs that wait, got one more")
            job = Job(key, folder)
            self._known.pop(key, None)  # so that the order is that of asking
            self._known[key] = job
            self._forget()
            self._waiting.append(job)
            self._changed.notify_all()
            return job

    def find(self, arguments: Sequence[str]) -> Job | None:
        """The newest job of these arguments, whatever became of it."""
        with self._changed:
            return self._known.get(tuple(arguments))

    def active(self) -> list[Job]:
        """What runs and waits, in order."""
        with self._changed:
            return [job for job in self._known.values() if job.is_active]

    def known(self) -> list[Job]:
        """Every job that is remembered, whatever became of it, in the order of asking."""
        with self._changed:
            return list(self._known.values())

    def cancel(self, job: Job) -> None:
        """Take it out of the queue, or tell its process to stop, and kill it where it does not.
        Returns at once."""
        with self._changed:
            if job.state == "waiting":
                self._waiting.remove(job)
                job.state = "cancelled"
            elif job.state == "running":
                job.state = "stopping"
                if job.process is not None:
                    _stop(job.process)
            self._changed.notify_all()

    def wait(self, job: Job, seconds: float = 60) -> None:
        """Until it has ended, or that long."""
        with self._changed:
            self._changed.wait_for(lambda: not job.is_active, seconds)

    def close(self) -> None:
        """Stop everything, and wait until it is gone: the server ends."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for job in self.active():
            self.cancel(job)
        for thread in self._threads:
            thread.join(2 * PATIENCE)

    # --- the worker threads ---

    def _work(self) -> None:
        while (job := self._take()) is not None:
            try:
                ended, last_line = self._run(job)
            except (OSError, ValueError) as error:  # the queue has one thread, which goes on
                ended, last_line = 1, f"the process could not be started: {reason(error)}"
            try:
                self._tidy(job)
            except OSError as error:  # a folder that somebody else deletes; the queue goes on
                ended, last_line = ended or 1, last_line or f"its folder could not be cleaned up: {reason(error)}"
            with self._changed:
                if job.state == "stopping":
                    job.state = "cancelled"
                elif ended == 0:
                    job.state = "done"
                else:
                    job.state, job.error = "failed", explain(ended, last_line)
                job.process, job.ended = None, time.monotonic()
                self._changed.notify_all()

    def _tidy(self, job: Job) -> None:
        if job.folder is not None:
            for folder in (job.folder, *job.folder.glob("*/")):
                sweep(folder)

    def _take(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._waiting)
            if self._is_closed:
                return None
            job = self._waiting.popleft()
            job.state, job.began = "running", time.monotonic()
            return job

    def _run(self, job: Job) -> tuple[int, str]:
        """Exit code, and the last line that was no progress."""
        process = processes.start(
            [*self._start, *job.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={"LCMAE_PROGRESS": "json", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        with self._changed:
            job.process = process
            if job.state == "stopping":  # it was cancelled while it was started
                _stop(process)
        last = ""
        with process:
            assert process.stderr is not None
            for line in process.stderr:
                progress = read_progress(line)
                if progress is not None:
                    job.progress = progress
                elif line.strip():
                    last = line.strip()
                    if last.startswith(f"lcmae {job.arguments[0]}: ") and len(job.complaints) < MAX_COMPLAINTS:
                        job.complaints.append(explain(1, last))
        return process.returncode, last

    def _forget(self) -> None:
        ended = [key for key, job in self._known.items() if not job.is_active]
        for key in ended[: max(0, len(ended) - MAX_ENDED)]:
            del self._known[key]


def read_progress(line: str) -> Progress | None:
    """A line of `lcmae.progress` for programs; None for any other."""
    try:
        return Progress(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None


def check_words(words: Sequence[str]) -> None:
    """Refuse words that no command line can hold: a NUL ends them, and a lone surrogate has no
    bytes. `InputError`."""
    for word in words:
        try:
            is_plain = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            is_plain = False
        if not is_plain:
            raise InputError(f"expected a command of printable words, got {printable(word)}")


def explain(code: int, last_line: str) -> str:
    """Why a command failed, in one sentence: its own where it said one."""
    who, colon, what = last_line.partition(": ")
    if code > 0 and colon and who.startswith("lcmae "):
        return what
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (
            ", as the system does when memory runs out" if name == "SIGKILL" else ""
        )
    return f"its process ended with exit code {code}" + (f" and said: {last_line[:500]}" if last_line else "")


def _stop(process: subprocess.Popen[str]) -> None:
    """Tell the whole process group to stop, and kill what is left of it after a while."""
    _signal(process, signal.SIGTERM)
    killer = threading.Timer(PATIENCE, _signal, (process, signal.SIGKILL))
    killer.daemon = True
    killer.start()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    if process.poll() is None:  # its number is not yet another one's
        os.killpg(process.pid, number)


@cache
def server_queue() -> Queue:
    """The server's one queue, made when the first page asks for it, and closed when the server
    ends."""
    created = Queue()
    atexit.register(created.close)
    return created
