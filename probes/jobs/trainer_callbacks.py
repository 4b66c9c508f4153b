"""`Watch` as a callback of the two trainers that people use: thin adapters, made when they are
asked for, so that neither library is needed here."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from lcmae.errors import InputError

Begin = Callable[[nn.Module], Any]
"""The module that is trained -> its `lcmae.Watch`, whose module imports this one."""

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""The two packages that one library comes as; their classes are different ones."""


class Watcher:
    """What both callbacks share: a watch that begins and ends with the training."""

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.watch: Any = None

    def start(self, module: nn.Module, step: int) -> None:
        """Begin, and measure what training starts from where that step is due."""
        self.watch = self.begin(module)
        self.watch(step)

    def step(self, step: int) -> None:
        """After an optimiser step."""
        if self.watch is not None:
            self.watch(step)

    def end(self) -> None:
        """Close the watch; it stays readable."""
        if self.watch is not None:
            self.watch.close()


def lightning(begin: Begin) -> Any:
    """A Lightning callback, of the package that is loaded already."""
    base = _lightning().Callback

    class WatchCallback(base):
        """Probes at optimiser steps; `watcher.watch` is the `lcmae.Watch`."""

        def __init__(self) -> None:
            super().__init__()
            self.watcher = Watcher(begin)

        def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
            self.watcher.start(pl_module, trainer.global_step)

        def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *rest: Any) -> None:
            self.watcher.step(trainer.global_step)

        def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
            self.watcher.end()

        def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
            self.watcher.end()

    return WatchCallback()


def _lightning() -> Any:
    names = sorted(LIGHTNING, key=lambda name: name not in sys.modules)
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise InputError(f"expected Lightning ({' or '.join(LIGHTNING)}), got none: install the one that you train with")


def hugging_face(begin: Begin) -> Any:
    """A callback of `transformers.Trainer`."""
    try:
        base = importlib.import_module("transformers").TrainerCallback
    except ModuleNotFoundError as error:
        raise InputError("expected the package transformers, got none: install it beside lcmae") from error

    class WatchCallback(base):
        """Probes at optimiser steps; `watcher.watch` is the `lcmae.Watch`."""

        def __init__(self) -> None:
            self.watcher = Watcher(begin)

        def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            self.watcher.start(known["model"], state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            self.watcher.step(state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            self.watcher.end()

    return WatchCallback()
