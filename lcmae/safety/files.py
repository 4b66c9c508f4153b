"""Small files of a run folder: opened only if they are plain files, and read up to a bound."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lcmae.errors import InputError
from lcmae.safety.text import show

MIB = 2**20


@contextlib.contextmanager
def open_regular(path: Path | str) -> Iterator[BinaryIO]:
    """A plain file, open for reading. No link is followed and no pipe is waited for.

    `InputError` for a link, pipe or device; `OSError` for a folder, and what is missing or not
    allowed.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a NUL
        raise InputError(f"expected a path, got {show(path)}") from error
    except OSError as error:
        # a link (ELOOP) or a socket (ENXIO)
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise InputError(f"expected a plain file, got a link, pipe, socket or device: {show(path)}") from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise InputError(f"expected a plain file, got a pipe, socket or device: {show(path)}")
    except BaseException:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_regular(path: Path | str, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes; see `open_regular`.

    `InputError` where it is larger, also where it grows while it is read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else None
    if content is None or len(content) > limit:
        raise InputError(f"expected a file of at most {limit} bytes, got {max(size, limit + 1)}: {show(path)}")
    return content


def is_special(path: Path | str) -> bool:
    """Whether a pipe, socket or device lies there, or a link to one: to open it may wait for
    ever."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_regular(path: Path | str) -> bool:
    """Whether a plain file lies there, and no link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False
