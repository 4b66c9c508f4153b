"""What will be asked for next, computed while somebody looks at what was asked for. Nothing here
belongs to a session: whoever asks a model for something (`lcmae.app.dashboard.live.models.answer`)
stops what is computed ahead, and whoever was answered may have more computed ahead.
"""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from threading import Event, Lock
from typing import Any

from lcmae.app.dashboard.live import compute
from lcmae.errors import InputError

Steps = Iterable[Callable[[], Any]]

REST = 0.15
"""Seconds after an answer in which the browser draws it, on the same processors."""

_is_ahead = ContextVar("is_ahead", default=False)
"""Whether what runs here is computed ahead; it goes along with a step to other threads."""

_thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
_lock = Lock()
_stopped = Event()


def after_rest(parts: Callable[[], tuple[Steps, Steps]]) -> None:
    """Take the steps of two parts, those of a part one after another, in threads, unless `stop` is
    called before. `parts` is called there, too."""
    global _stopped
    mine = Event()
    with _lock:
        _stopped.set()
        _stopped = mine
    _thread.submit(_take, mine, parts)


def stop() -> None:
    """Take no further step. Those that are being taken come to their end; what they ask for
    themselves stops nothing."""
    if _is_ahead.get():
        return
    with _lock:
        _stopped.set()


def _take(stopped: Event, parts: Callable[[], tuple[Steps, Steps]]) -> None:
    if stopped.wait(REST):
        return
    _is_ahead.set(True)
    try:
        first, second = parts()
        compute.together(partial(_go, stopped, first), partial(_go, stopped, second))
    except InputError:
        return  # nobody asked; whoever asks is told
    except Exception:  # a thread's own: nobody waits for it, so the server's log is told
        logging.getLogger(__name__).exception("what was computed ahead failed")


def _go(stopped: Event, steps: Steps) -> None:
    for step in steps:
        if stopped.is_set():
            return
        step()
