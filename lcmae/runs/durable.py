"""How files reach the disk: whole or not at all.

Everything is written under a hidden temporary name beside its target, flushed to the disk, and only
then renamed; the parent folder is flushed last, because the name lives there.
"""

import ctypes
import errno
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lcmae.errors import InputError
from lcmae.safety.text import is_full, reason, show

# tells this process from an earlier one of the same pid and host, as a restarted container has
_TOKEN = secrets.token_hex(4)
_COUNT = itertools.count()
_TEMPORARY = re.compile(r"\.tmp-(?P<pid>[0-9]{1,9})-(?P<token>[0-9a-f]{8})-[0-9]+@(?P<host>[^@]*)@.*", re.DOTALL)
_ASIDE = re.compile(r"\.old-(?P<step>[0-9]{6,})")


def to_json(value: Any, what: str) -> bytes:
    """Sorted, indented JSON; an `InputError` for what JSON cannot hold and give back (NaN, keys
    that are not strings)."""
    for key in _keys(value):
        if not isinstance(key, str):
            raise InputError(f"{what}: expected keys that are strings, got {key!r}")
    try:
        return json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what}: expected values that JSON can hold, got one that it cannot: {reason(error)}"
        ) from error


def _keys(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _keys(item)


def temporary_name(suffix: str = "") -> str:
    """A hidden name that no other process, thread or machine takes, and that `sweep` can trace to
    its owner."""
    return f".tmp-{os.getpid()}-{_TOKEN}-{next(_COUNT)}@{socket.gethostname()}@{suffix}"


def flush(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems cannot flush a folder and say so; nothing else can be done
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """A folder and its parents, each new name flushed to the disk."""
    if not path.is_dir():
        make_folder(path.parent)
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, f"{show(path)} is not a folder") from error
        flush(path.parent)


def check_writable(folder: Path) -> None:
    """`InputError` where files cannot be made below a folder that may not be there yet; asked
    before work of hours, and no promise (the disk may be full by then)."""
    nearest = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(nearest).f_flag & os.ST_RDONLY
        raise InputError(f"cannot write {show(folder)}: {os.strerror(errno.EROFS if is_read_only else errno.EACCES)}")


def home(path: Path | str) -> Path:
    """A path as a shell would read it: `~/b` is in the home folder."""
    return Path(os.path.expanduser(path))


def plain(path: Path | str) -> Path:
    """The same place without `..` in the way (`missing/../b` is `b`), and with `~` for the home
    folder."""
    path = home(path)
    return Path(os.path.realpath(path.parent)) / path.name if ".." in path.parts else path


def write_atomically(path: Path | str, data: bytes | Callable[[Path], None]) -> None:
    """Write a file so that its name always holds a whole one, the old or the new, also through a
    crash.

    `data` is the bytes, or a function that writes the file at the path it is given (same folder,
    same suffix). Missing folders are made. An `OSError` (disk full, not allowed) becomes an
    `InputError`; the old file stays.
    """
    path = plain(path)
    temporary = path.parent / temporary_name(path.suffix)
    try:
        make_folder(path.parent)
        sweep_strays(path.parent)
        try:
            if isinstance(data, bytes):
                temporary.write_bytes(data)
            else:
                data(temporary)
            flush(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        flush(path.parent)
    except Exception as error:
        if isinstance(error, OSError) or is_full(error):
            raise InputError(f"cannot write {show(path)}: {reason(error)}") from error
        raise


def write_once(path: Path | str, write: Callable[[Path], None]) -> bool:
    """Write a whole file where nothing is yet; False where something is, which stays as it is.

    Of two writers one wins, the other gets an error. Where the file system has no hard links, the
    later of two writers that are at it in the same instant wins. Errors as `write_atomically`.
    """
    path = plain(path)
    temporary = path.parent / temporary_name(path.suffix)
    try:
        make_folder(path.parent)
        sweep_strays(path.parent)
        try:
            if os.path.lexists(path):
                return False
            write(temporary)
            flush(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        flush(path.parent)
    except Exception as error:
        if isinstance(error, OSError) or is_full(error):
            raise InputError(f"cannot write {show(path)}: {reason(error)}") from error
        raise
    return True


def alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sweep(folder: Path) -> None:
    """Remove what dead processes of this machine left half-written in a folder; other machines'
    files are left alone.

    A step that a kill caught between the two renames of `_swap` gets its name back. Only the one
    writer of a run may call this on its checkpoints.
    """
    if not folder.is_dir():
        return
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if aside := _ASIDE.fullmatch(name):
            target = folder / aside["step"]
            if target.exists():
                shutil.rmtree(path)
            else:
                path.rename(target)
                flush(folder)
    sweep_strays(folder)


def sweep_strays(folder: Path) -> None:
    """Remove what dead processes of this machine left half-written in a folder, whoever writes to
    it now."""
    for name in sorted(os.listdir(folder)):
        if (owner := _TEMPORARY.fullmatch(name)) and _is_gone(owner):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                # two may sweep at once
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_gone(owner: re.Match[str]) -> bool:
    if owner["host"] != socket.gethostname():
        return False
    if int(owner["pid"]) == os.getpid():
        return owner["token"] != _TOKEN
    return not alive(int(owner["pid"]))


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    at_cwd, exchange = -100, 2
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, exchange)
        else:
            failed = library.renameat2(at_cwd, names[0], at_cwd, names[1], exchange)
    except AttributeError:
        return False
    if failed and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return not failed
