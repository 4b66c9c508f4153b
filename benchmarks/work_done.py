"""What computing something takes, counted: rows of forward passes, bytes written, bytes held at
most. The same on every machine."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lcmae.masking import Mask
from lcmae.models import MaskedImageModel


@dataclass(frozen=True)
class Cost:
    """Of one piece of work."""

    encoder_rows: int
    """Images (times masks) that an encoder saw, whichever network of the class it was."""

    decoder_rows: int
    """The same of decoders or heads."""

    bytes_written: int
    """Sizes of all tensors that were made, views left out."""

    peak_bytes: int
    """Most bytes that such tensors held at one time; what lay there before and kernels' own scratch
    space are not seen."""


def cost_of(work: Callable[[], object], model: MaskedImageModel) -> Cost:
    """Do the work once, counted; several times slower than it is otherwise."""
    with counted_rows(type(model)) as rows, Memory() as memory:
        work()
    return Cost(rows["encode"], rows["predict"], memory.written, memory.peak)


@contextmanager
def counted_rows(kind: type[MaskedImageModel]) -> Iterator[dict[str, int]]:
    """While inside, rows that `encode` and `predict` of every model of this class are called with;
    `predict_hidden` counts as `predict`."""
    rows = {"encode": 0, "predict": 0}

    def counting(name: str, counts_as: str) -> Callable[..., Any]:
        method = getattr(kind, name)

        def counted(self: MaskedImageModel, *args: Any) -> Any:
            [mask] = [arg for arg in args if isinstance(arg, Mask)]
            rows[counts_as] += len(mask)
            return method(self, *args)

        return counted

    counted = {"encode": "encode", "predict": "predict"}
    if kind.predict_hidden is not MaskedImageModel.predict_hidden:  # that one calls `predict`
        counted["predict_hidden"] = "predict"
    with ExitStack() as stack:
        for name, counts_as in counted.items():
            stack.enter_context(patch.object(kind, name, counting(name, counts_as)))
        yield rows


class Memory(TorchDispatchMode):
    """While inside, follows the storages of tensors that operations make, until each is let go
    of."""

    def __init__(self) -> None:
        super().__init__()
        self.written = self.held = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and _address(leaf) not in before:
                self._see(leaf)
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._known:
            return
        self._known[address] = size
        self.written += size
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._forget, address)

    def _forget(self, address: int) -> None:
        self.held -= self._known.pop(address)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
