"""What will be asked for next, computed while somebody looks at what was asked for. Nothing here belongs to a session: whoever
asks a model for something (`app.live.answer`) stops what is computed ahead, and whoever was answered may have more computed ahead.
"""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, current_thread
from typing import Any

from lcmae.errors import InputError

REST = 0.15
"""Seconds after an answer in which the browser draws it, on the same processors."""

_NAME = "ahead"
_thread = ThreadPoolExecutor(1, thread_name_prefix=_NAME)
_lock = Lock()
_stopped = Event()


def after_rest(steps: Iterable[Callable[[], Any]]) -> None:
    """Take the steps one after another, in a thread, unless `stop` is called before. They are iterated over there, too."""
    global _stopped
    mine = Event()
    with _lock:
        _stopped.set()
        _stopped = mine
    _thread.submit(_take, mine, steps)


def stop() -> None:
    """Take no further step. One that is being taken comes to its end; what it asks for itself stops nothing."""
    if current_thread().name.startswith(_NAME):
        return
    with _lock:
        _stopped.set()


def _take(stopped: Event, steps: Iterable[Callable[[], Any]]) -> None:
    if stopped.wait(REST):
        return
    try:
        for step in steps:
            if stopped.is_set():
                return
            step()
    except InputError:
        return  # nobody asked; whoever asks is told
    except Exception:  # a thread's own: nobody waits for it, so the server's log is told
        logging.getLogger(__name__).exception("what was computed ahead failed")
