"""Where jobs run: processes here, Slurm through submitit, any Dask cluster by address. Each is a
`concurrent.futures.Executor`, each a few lines, and the files they leave are the same.
"""

import multiprocessing
import os
import shlex
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lcmae import processes
from lcmae.errors import InputError
from lcmae.probes.jobs.slurm import SlurmPool
from lcmae.settings import Settings


class Engine(Settings):
    """Which engine runs many jobs, and what it may use."""

    engine: Literal["local", "slurm", "dask"] = "local"
    """local (processes of this machine), slurm (submitit), or dask (a running cluster)."""

    workers: int = Field(default=1, ge=1)
    """Local processes at a time; 1 runs the jobs here, one after the other. At most this many Slurm
    jobs at a time."""

    address: str | None = None
    """Address of the Dask scheduler, tcp://host:port."""

    partition: str | None = None
    """Slurm partition."""

    gpus: int = Field(default=0, ge=0)
    """GPUs of each Slurm job."""

    minutes: int = Field(default=60, ge=1)
    """Time limit of each Slurm job, in minutes."""

    cpus: int = Field(default=2, ge=1)
    """CPU cores of each Slurm job."""

    @property
    def in_process(self) -> bool:
        """Whether jobs run one after the other in this process."""
        return self.engine == "local" and self.workers == 1

    def check(self) -> None:
        """`InputError` for settings that no executor can be made of."""
        if self.engine == "dask" and self.address is None:
            raise InputError("expected --address tcp://host:port with --engine dask, got none")

    @contextmanager
    def executor(self, folder: Path, *, threads: int | None = None) -> Iterator[Executor]:
        """An executor for this engine; `folder` (shared with the cluster) takes Slurm's logs. Local
        workers compute in so many threads, by default their share of the cores."""
        if self.engine == "local":
            # spawned, not forked: a fork of a process that has used threads may hang
            spawn = multiprocessing.get_context("spawn")
            share = threads or max(1, processes.cores() // self.workers)
            with (
                processes.safe_path(),
                ProcessPoolExecutor(self.workers, mp_context=spawn, initializer=_begin, initargs=(share,)) as pool,
            ):
                yield pool
        elif self.engine == "slurm":
            slurm = _package("submitit", "slurm").SlurmExecutor(
                folder=str(folder / "slurm"), python=shlex.join(processes.python())
            )
            more = {"partition": self.partition} if self.partition else {}
            slurm.update_parameters(
                time=self.minutes,
                gpus_per_node=self.gpus,
                cpus_per_task=self.cpus,
                array_parallelism=self.workers,
                **more,
            )
            with SlurmPool(slurm) as pool:
                yield pool
        else:
            self.check()
            client = _connect(str(self.address))
            try:
                yield client.get_executor(pure=False)
            finally:
                client.close()


def _begin(threads: int) -> None:
    """Called in each local worker, before it imports what computes."""
    # NumPy's OpenBLAS asks at its import: two workers of two threads each on two cores solve a
    # system of 240 unknowns in 30 ms in place of 2
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", str(threads))
    # training holds a first signal back and hands a second one to this; a SystemExit would be taken
    # for the job's answer, and the worker would go on to wait for the queue's lock, which one that
    # died of the same signal never gives back
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    _end_with_parent()


def _end_with_parent() -> None:
    """A worker whose parent was killed would else wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _connect(address: str) -> Any:
    distributed = _package("distributed", "dask")
    try:
        return distributed.Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise InputError(f"expected a Dask scheduler at {address}, got {type(error).__name__}: {error}") from error


def _package(module: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"expected the package {module}, got none: install it with `uv sync --extra {extra}`"
        ) from error
