"""Values that the whole server shares: computed once, whoever asks, and bounded in bytes and in
number."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values by key; the least recently used goes first. The newest stays, however big it is."""

    def __init__(self, *, max_bytes: int, max_entries: int, size: Callable[[Value], int]) -> None:
        self.max_bytes, self.max_entries, self.size = max_bytes, max_entries, size
        self._lock = threading.Lock()
        self._futures: OrderedDict[Hashable, Future[Value]] = OrderedDict()
        self._bytes: dict[Hashable, int] = {}

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of `key`; of several threads that ask at once, one computes and the others
        wait.

        What `compute` raises, all of them get, and nothing is stored.
        """
        with self._lock:
            future = self._futures.get(key)
            is_mine = future is None
            if future is None:
                future = self._futures[key] = Future()
            self._futures.move_to_end(key)
        if not is_mine:
            return future.result()
        try:
            value = compute()
        except BaseException as error:
            with self._lock:
                del self._futures[key]
            future.set_exception(error)
            raise
        future.set_result(value)
        with self._lock:
            self._bytes[key] = self.size(value)
            self._trim(key)
        return value

    def find(self, key: Hashable) -> Value | None:
        """The value, if it is there already."""
        with self._lock:
            if key not in self._bytes:
                return None
            self._futures.move_to_end(key)
            return self._futures[key].result()

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def num_bytes(self) -> int:
        """Bytes of all values that are stored."""
        return sum(self._bytes.values())

    def _trim(self, newest: Hashable) -> None:
        oldest = [key for key in self._futures if key in self._bytes and key != newest]
        for key in oldest:
            if self.num_bytes <= self.max_bytes and len(self._bytes) <= self.max_entries:
                return
            del self._futures[key], self._bytes[key]
