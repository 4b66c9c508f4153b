"""What will be asked for next, computed while somebody looks at what was asked for. Nothing here belongs to a session: whoever
asks for something stops what is computed ahead, and whoever has been answered may have something computed ahead."""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from lcmae.errors import InputError

REST = 0.15
"""Seconds after an answer in which the browser draws it, on the same processors."""

_thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
_stopped = Event()


def after_rest(steps: Iterable[Callable[[], Any]]) -> None:
    """Take the steps one after another, in a thread, unless `stop` is called before. They are iterated over there, too."""
    global _stopped
    stop()
    _stopped = Event()
    _thread.submit(_take, _stopped, steps)


def stop() -> None:
    """Take no further step. One that is being taken comes to its end."""
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
    except Exception:
        logging.getLogger(__name__).exception("what was computed ahead failed")
