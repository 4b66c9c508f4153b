"""A Slurm cluster as a `concurrent.futures.Executor`: submitit's own executor is none, its jobs are
no futures.

Jobs that are submitted together become one job array. A job is finished when its result file is
there. One that left the queue without a result (killed, out of time, its node gone) fails: submitit
asks accounting (sacct) for that, which small clusters do not run, so we ask the queue.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any


@dataclass
class _Sent:
    future: Future[Any]
    job: Any
    """submitit's SlurmJob."""
    gone_since: float | None = None
    """When the queue was first found without it, in seconds of time.monotonic."""


class SlurmPool(Executor):
    """Wraps a submitit executor, whose parameters are set. `seconds`: between two looks at files;
    between two looks at the queue; and of patience with a shared file system, after a job has left
    the queue and before it counts as lost."""

    def __init__(self, submitit_executor: Any, *, seconds: tuple[float, float, float] = (1.0, 20.0, 30.0)) -> None:
        self._executor = submitit_executor
        self._interval, self._ask, self._patience = seconds
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._watcher = threading.Thread(target=self._watch, name="slurm", daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._changed:
            if self._closed:
                raise RuntimeError("cannot submit after shutdown")
            future: Future[Any] = Future()
            self._waiting.append((future, lambda: self._executor.submit(fn, *args, **kwargs)))
            return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._changed:
            self._closed = True
            if cancel_futures:
                for future, _ in self._waiting:
                    future.cancel()
            self._changed.notify_all()
        if wait:
            self._watcher.join()

    def _watch(self) -> None:
        """Send what waits, look at what was sent, until closed and nothing is left."""
        sent: list[_Sent] = []
        asked = time.monotonic()
        while True:
            with self._changed:
                waiting, self._waiting = self._waiting, []
                closed = self._closed
            sent += self._send([pair for pair in waiting if not pair[0].cancelled()])
            now = time.monotonic()
            if now - asked >= self._ask:
                asked = now
                self._note_gone(sent)
            sent = [one for one in sent if not self._settle(one)]
            if closed and not sent and not self._waiting:
                return
            with self._changed:
                self._changed.wait(self._interval)

    def _send(self, waiting: Sequence[tuple[Future[Any], Callable[[], Any]]]) -> list[_Sent]:
        if not waiting:
            return []
        try:
            with self._executor.batch():
                return [_Sent(future, start()) for future, start in waiting]
        except Exception as error:  # sbatch refused: each future says so, the watcher lives on
            for future, _ in waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            return []

    def _settle(self, one: _Sent) -> bool:
        """Whether nothing is left to do for a job."""
        if one.future.cancelled():
            one.job.cancel(check=False)
            return True
        if one.job.paths.result_pickle.exists():
            outcome = _outcome(one.job)
        elif one.gone_since is not None and time.monotonic() - one.gone_since > self._patience:
            text = f"Slurm job {one.job.job_id} ended without a result; its log: {one.job.paths.stderr}"
            outcome = RuntimeError(text)
        else:
            return False
        if one.future.set_running_or_notify_cancel():
            if isinstance(outcome, Exception):
                one.future.set_exception(outcome)
            else:
                one.future.set_result(outcome)
        return True

    def _note_gone(self, sent: Sequence[_Sent]) -> None:
        """Note the jobs that are no longer in the queue; a queue that does not answer says
        nothing."""
        if not sent:
            return
        arrays = ",".join(sorted({one.job.job_id.partition("_")[0] for one in sent}))
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={arrays}"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode and "Invalid job id" not in asked.stderr:
            return
        queued = set(asked.stdout.split())
        for one in sent:
            gone = one.job.job_id not in queued
            one.gone_since = (one.gone_since or time.monotonic()) if gone else None


def _outcome(job: Any) -> Any:
    """What the job returned, or a one-line error: submitit knows a failure as the text of its
    traceback."""
    try:
        error = job.exception()
        if error is None:
            return job.result()
    except Exception as unreadable:
        error = unreadable
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    last = next((line for line in reversed(lines) if ": " in line and not line.startswith(("You can", "File"))), "")
    return RuntimeError(last or type(error).__name__)
