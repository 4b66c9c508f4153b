"""The two threads in which all models compute, whoever asks. Imports no torch before something is
computed.

More would only share the same cores. What libraries keep for a thread stays warm, and its memory is
used again. A pass has hooks on its modules, which must not meet another pass: so each thread has
modules of its own (`lcmae.app.dashboard.live.models.Loaded.twin`), and a model without twins
computes in the first thread alone.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

Found = TypeVar("Found")

_NAME = "computes"
_threads = tuple(ThreadPoolExecutor(1, thread_name_prefix=f"{_NAME}-{number}") for number in range(2))
_askers = ThreadPoolExecutor(4, thread_name_prefix="asks")
"""Threads that wait for the two on behalf of a page, which waits for something else in the
meantime."""


def compute(call: Callable[[], Found], *, by_twin: bool, on_all_cores: bool) -> Found:
    """What `call` gives, computed in the first thread or in that of twins. There, it may ask the
    first thread for nothing, which waits for the second at times."""
    number = int(by_twin)
    if threading.current_thread().name.startswith(f"{_NAME}-{number}"):
        return call()

    def alone() -> Found:
        import torch

        torch.set_num_threads(all_threads() if on_all_cores else 1)
        return call()

    return _threads[number].submit(alone).result()


def together(first: Callable[[], Any], second: Callable[[], Any]) -> None:
    """Both at once, so that both threads have something to compute; raises what either raises."""
    other = _askers.submit(copy_context().run, second)
    try:
        first()
    finally:
        other.result()


@cache
def all_threads() -> int:
    """As many threads as torch takes by itself; to be asked before any of them is taken away."""
    import torch

    return torch.get_num_threads()
