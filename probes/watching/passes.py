"""Forward passes of one batch, each made once for all probes that look at it.

What lies inside a pass (block outputs, attention maps) is seen by watchers, which must be named
before the pass is made. One that comes late costs a second pass; its result is the same.
"""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

Output = TypeVar("Output")
Watcher = Callable[[], AbstractContextManager[Any]]
"""Entered around a pass; what it yields is kept. It must not raise: the pass belongs to others,
too."""


@dataclass
class Passes:
    """Outputs by view (which masks were on), and what watchers saw."""

    _outputs: dict[Hashable, Any] = field(default_factory=dict)
    _waiting: dict[Hashable, dict[Hashable, Watcher]] = field(default_factory=dict)
    _seen: dict[tuple[Hashable, Hashable], Any] = field(default_factory=dict)

    def watch(self, view: Hashable, key: Hashable, watcher: Watcher) -> None:
        """Have `watcher` around the pass of this view; the first one under a key stands for all."""
        if (view, key) not in self._seen:
            self._waiting.setdefault(view, {}).setdefault(key, watcher)

    def output(self, view: Hashable, run: Callable[[], Output]) -> Output:
        """What `run` gives, which is called the first time, and again only for watchers that came
        late."""
        if view not in self._outputs or view in self._waiting:
            with ExitStack() as stack:
                for key, watcher in self._waiting.pop(view, {}).items():
                    self._seen[view, key] = stack.enter_context(watcher())
                self._outputs[view] = run()
        return self._outputs[view]

    def seen(self, view: Hashable, key: Hashable) -> Any:
        """What the watcher under this key yielded, once the pass is made."""
        return self._seen[view, key]
