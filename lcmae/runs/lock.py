"""One writer at a time in a run folder."""

import contextlib
import errno
import json
import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lcmae.errors import InputError
from lcmae.runs.durable import alive
from lcmae.safety.text import printable, reason, show

log = logging.getLogger(__name__)

NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL})
"""What `flock` says on a file system that has none (Lustre mounted noflock, some of NFS)."""


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Be the one writer of a folder. Raises `InputError` naming the other one's process and
    machine.

    The kernel's flock decides (filelock asks for it), so there is no race, a killed writer holds
    nothing, and neither does a forked child (a DataLoader worker); the file's text only says who.
    It stays behind, empty: removing it would let two processes lock two files of the same name.
    """
    path, owner = folder / ".lock", os.getpid()
    try:
        kernel = _flock(folder, path)
        try:
            _sign(folder, path, kernel is not None)
            try:
                yield
            finally:
                # a forked child that unwinds through here must not free its parent's lock
                if os.getpid() == owner:
                    with _opened(path) as descriptor:
                        os.ftruncate(descriptor, 0)
        finally:
            if kernel is not None and os.getpid() == owner:
                kernel.release()
    except _Unusable as error:
        raise InputError(f"cannot lock {show(folder)}: {error}") from error.__cause__


class _Unusable(Exception):
    """The lock's file cannot be read or written; its text says why."""


def _flock(folder: Path, path: Path) -> FileLock | None:
    """The kernel's lock, taken; None where the file system has none."""
    kernel = FileLock(path, blocking=False, mode=0o666, preserve_lock_file=True)
    try:
        kernel.acquire()
    except Timeout as error:
        with _opened(path) as descriptor:
            other = _writer(_read_lock(descriptor))
        raise InputError(f"expected no other writer of {show(folder)}, got {other}") from error
    except NotImplementedError:
        return None
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise _Unusable(reason(error)) from error
    return kernel


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of the plain file at `path`, which is made where it is missing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise _Unusable(reason(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _Unusable("expected a plain file at .lock, got a pipe or device")
        yield descriptor
    finally:
        os.close(descriptor)


def _sign(folder: Path, path: Path, kernel_decides: bool) -> None:
    """Write who writes into the file, unless it names somebody who may still be at work."""
    with _opened(path) as descriptor:
        left = _read_lock(descriptor)
        if left:
            # a restarted container has another host name on the same kernel, whose flock has just
            # said that nobody writes
            same_boot = left.get("boot") is not None and left.get("boot") == _boot()
            here = left.get("host") == socket.gethostname() or (kernel_decides and same_boot)
            if not here or (not kernel_decides and alive(left["pid"])):
                hint = "" if here else f"; if that process is gone, delete {show(folder / '.lock')}"
                raise InputError(f"expected no other writer of {show(folder)}, got {_writer(left)}{hint}")
            log.warning("%s: took over from %s, which ended without releasing it", show(folder), _writer(left))
        mine = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "boot": _boot(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(mine).encode(), 0)
        except OSError as error:
            raise _Unusable(reason(error)) from error


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
