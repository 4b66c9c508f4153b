"""The two threads in which models compute, whoever asks. Imports no torch.

A pass has hooks on its modules that must not meet another pass, so each thread has modules of its
own with the same weights (`lcmae.app.dashboard.server.tuning.with_own_modules`). The second takes
what needs no other answer. More threads would only share the same cores.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Found = TypeVar("Found")

_NAME = "model-compute"
_first, _second = (ThreadPoolExecutor(1, thread_name_prefix=f"{_NAME}-{number}") for number in (1, 2))


def compute(call: Callable[[], Found], *, beside: bool = False) -> Found:
    """What `call` returns, computed in the first thread, or in the second `beside` it; raises what
    it raises. What a call asks for itself is computed in its own thread."""
    if threading.current_thread().name.startswith(_NAME):
        return call()
    return (_second if beside else _first).submit(call).result()
