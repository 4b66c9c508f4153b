"""What will probably be asked for next is computed while somebody looks at the last answer. Nothing
here belongs to a session: any request to a model (`lcmae.app.dashboard.live.models.answer`) stops
the prefetch, and any answer may start another one.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import Any

from lcmae.errors import InputError

Steps = Iterable[Callable[[], Any]]

PAUSE = 0.15
"""Seconds after an answer in which the browser draws it, on the same processors."""

_NAME = "prefetch"
_thread = ThreadPoolExecutor(1, thread_name_prefix=_NAME)
_lock = Lock()
_stopped = Event()


def start(steps: Callable[[], Steps]) -> None:
    """After a pause, take the steps one after another in a thread of their own, unless `stop` is
    called before. `steps` is called there, too."""
    global _stopped
    mine = Event()
    with _lock:
        _stopped.set()
        _stopped = mine
    _thread.submit(_run, mine, steps)


def stop() -> None:
    """Take no further step. The one that is running comes to its end; what a step asks for itself
    stops nothing."""
    if threading.current_thread().name.startswith(_NAME):
        return
    with _lock:
        _stopped.set()


def _run(stopped: Event, steps: Callable[[], Steps]) -> None:
    if stopped.wait(PAUSE):
        return
    try:
        for step in steps():
            if stopped.is_set():
                return
            step()
    except InputError:
        return  # nobody asked; the page that asks will show the message
    except Exception:  # nobody waits for this thread, so the server's log gets it
        logging.getLogger(__name__).exception("prefetch failed")
