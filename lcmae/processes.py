"""The one way in which lcmae starts Python processes: no file of the working folder is a module.

`python -m`, `python -c` and the workers of multiprocessing, torchrun, submitit and Dask put the
working folder first on the path of modules. A person's folder may hold an `app.py`, a `tests/` or a
`random.py`, and none of them is ours to run. Python's flag `-P` leaves the folder out of one
process; the variable PYTHONSAFEPATH does it for the processes that a library starts.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

SAFE_PATH = "PYTHONSAFEPATH"


def cores() -> int:
    """Cores that this process may use: of a batch system or a container often fewer than the
    machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def python(*words: str) -> list[str]:
    """The command line of this Python with more words, without the working folder among its
    modules."""
    return [sys.executable, "-P", *words]


def module(name: str, *arguments: str) -> list[str]:
    """The command line that runs a module as a program."""
    return python("-m", name, *arguments)


def torchrun(num_processes: int, *arguments: str) -> list[str]:
    """The command line of `lcmae ARGUMENTS` in several processes of one group on this machine."""
    launcher = module("torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}", "--no-python")
    return [*launcher, *module("lcmae.app.cli", *arguments)]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with `changes`, for a child whose own children are safe, too."""
    return {**os.environ, **(changes or {}), SAFE_PATH: "1"}


def start(command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
    """Start a command made by `python` or `module`. `env`: changes of the environment; `options`
    are Popen's."""
    return subprocess.Popen(command, env=environment(env), **options)


def run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a command made by `python` or `module` to its end. `env`: changes of the environment;
    `options` are those of `subprocess.run`."""
    return subprocess.run(command, env=environment(env), check=False, **options)


@contextmanager
def safe_path() -> Iterator[None]:
    """While this lasts, Python processes that a library starts leave the working folder out, too.
    A spawned worker also gets the module path of its parent, and so sees what its parent sees."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE_PATH, None)
        else:
            os.environ[SAFE_PATH] = before


def leave_working_folder_out() -> None:
    """Take back what `python -m` did: the working folder, first on this process's module path."""
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
