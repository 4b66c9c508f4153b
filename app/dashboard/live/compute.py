"""The one thread in which all models compute, whoever asks. Imports no torch.

More threads would only share the same cores, and a pass has hooks on its modules that must not meet
another pass.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Found = TypeVar("Found")

_NAME = "model-compute"
_thread = ThreadPoolExecutor(1, thread_name_prefix=_NAME)


def compute(call: Callable[[], Found]) -> Found:
    """What `call` returns, computed in the thread of all models; raises what it raises."""
    if threading.current_thread().name.startswith(_NAME):
        return call()
    return _thread.submit(call).result()
