"""One writer at a time in a run folder."""

import contextlib
import fcntl
import json
import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lcmae.errors import InputError
from lcmae.runs.durable import alive
from lcmae.safety.text import printable, reason, show

log = logging.getLogger(__name__)

# locks held by this process; a forked child (a DataLoader worker) closes its copies, or an orphan
# would hold the run
_held: set[int] = set()


def _drop_inherited_locks() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_drop_inherited_locks)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Be the one writer of a folder. Raises `InputError` naming the other one's process and
    machine.

    The kernel's flock decides, so there is no race and a killed writer holds nothing; the file's
    text only says who. It stays behind, empty: removing it would let two processes lock two files
    of the same name.
    """
    path = folder / ".lock"
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"cannot lock {show(folder)}: expected a plain file at .lock, got a pipe or device")
    except OSError as error:
        raise InputError(f"cannot lock {show(folder)}: {reason(error)}") from error
    _held.add(descriptor)
    owner = os.getpid()
    try:
        try:
            _take(folder, descriptor)
        except OSError as error:
            raise InputError(f"cannot lock {show(folder)}: {reason(error)}") from error
        try:
            yield
        finally:
            # a forked child that unwinds through here must not free its parent's lock
            if os.getpid() == owner:
                os.ftruncate(descriptor, 0)
    finally:
        if os.getpid() == owner:
            _held.discard(descriptor)
            os.close(descriptor)


def _take(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kernel_decides = True
    except BlockingIOError as error:
        raise InputError(
            f"expected no other writer of {show(folder)}, got {_writer(_read_lock(descriptor))}"
        ) from error
    except OSError:
        # some cluster file systems (Lustre mounted noflock) have no locks: the text is all there is
        kernel_decides = False
    left = _read_lock(descriptor)
    if left:
        # a restarted container has another host name on the same kernel, whose flock has just said
        # that nobody writes
        same_boot = left.get("boot") is not None and left.get("boot") == _boot()
        here = left.get("host") == socket.gethostname() or (kernel_decides and same_boot)
        if not here or (not kernel_decides and alive(left["pid"])):
            hint = "" if here else f"; if that process is gone, delete {show(folder / '.lock')}"
            raise InputError(f"expected no other writer of {show(folder)}, got {_writer(left)}{hint}")
        log.warning("%s: took over from %s, which ended without a word", show(folder), _writer(left))
    mine = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot": _boot(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(mine).encode(), 0)


def _boot() -> str | None:
    """Linux's name for this start of this machine; None on other systems."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.is_file() else None


def _read_lock(descriptor: int) -> dict[str, Any]:
    try:
        text = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, RecursionError):
        return {}  # empty: it was left in order, or its writer has not got to writing its name
    pid = text.get("pid") if isinstance(text, dict) else None
    return text if isinstance(pid, int) and 0 < pid < 2**31 else {}


def _writer(lock: Mapping[str, Any]) -> str:
    if not lock:
        return "another process"
    host, started = printable(lock.get("host"), 60), printable(lock.get("started"), 40)
    return f"process {lock['pid']} on {host}, started {started}"
