"""One optimiser step, twice: `Step` is the one to read, `GraphedStep` the same one recorded on a
GPU and replayed.

What is random (augmentation, masks) is drawn before, by `Draw`, so that nothing in a step is.
Neither waits for the device.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lcmae.config import RunConfig
from lcmae.data import augment
from lcmae.masking import Mask
from lcmae.models import MaskedImageModel
from lcmae.objectives import AnyObjective, Loss
from lcmae.shapes import Float, Int, UInt8
from lcmae.training import distributed

Values = dict[str, Tensor]
"""The loss, its terms and the gradient's norm by name: scalars on the device."""


@dataclass(frozen=True)
class Inputs:
    """What one micro-batch is computed from: images in the model's input space, and their masks."""

    images: Float[Tensor, "b c h w"]
    masks: Mask

    def tensors(self) -> tuple[Tensor, ...]:
        return self.images, self.masks.visible, self.masks.hidden, self.masks.is_hidden

    def clone(self) -> "Inputs":
        images, *masks = (tensor.clone() for tensor in self.tensors())
        return Inputs(images, Mask(*masks))


class Draw:
    """From stored pixels to `Inputs`, on the pixels' device, as a function of (seed, epoch, image)
    and of `rng`."""

    def __init__(self, model: MaskedImageModel, config: RunConfig) -> None:
        self.model, self.config = model, config

    def __call__(
        self,
        objective: AnyObjective,
        indices: Int[Tensor, " b"],
        pixels: UInt8[Tensor, "b c h w"],
        epoch: int,
        rng: torch.Generator,
    ) -> Inputs:
        images = augment(pixels, indices, seed=self.config.seed, epoch=epoch, settings=self.config.augmentation)
        images = self.model.from_pixels(images)
        return Inputs(images, objective.draw(self.model, images, rng, objective.masks_per_image))


class Task(nn.Module):
    """Model and loss as one module, so that DDP and FSDP see the whole computation."""

    def __init__(self, model: MaskedImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, objective: AnyObjective, images: Tensor, masks: Mask) -> Loss:
        return objective.loss(self.model, images, masks)


class Step:
    """Forward, backward, clipping and AdamW; call it with as many micro-batches as the config
    accumulates."""

    def __init__(self, task: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig) -> None:
        self.task, self.optimizer, self.config = task, optimizer, config

    def __call__(self, objective: AnyObjective, inputs: Iterable[Inputs], rate: float) -> Values:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return self.compute(objective, inputs)

    def compute(self, objective: AnyObjective, inputs: Iterable[Inputs]) -> Values:
        count, sums = self.config.accumulate, Values()

        self.optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(inputs, start=1):
            # gradients travel between devices once, with the last micro-batch
            is_last = number == count
            with nullcontext() if is_last or not hasattr(self.task, "no_sync") else self.task.no_sync():  # type: ignore[operator]
                loss: Loss = self.task(objective, batch.images, batch.masks)
                (loss.total / count).backward()
            values = {"loss": loss.total, **loss.terms}
            if loss.collapse is not None:
                values["collapse"] = loss.collapse
            for name, value in values.items():
                sums[name] = sums.get(name, 0) + value.detach() / count

        sums["grad_norm"] = distributed.whole(self._clipped_norm())
        self.optimizer.step()
        return sums

    def _clipped_norm(self) -> Tensor:
        """The norm of the whole gradient before it is clipped."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if self.config.clip is not None:
            return nn.utils.clip_grad_norm_(parameters, self.config.clip)
        return nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])


Record = Callable[[Callable[[], Values]], tuple[Callable[[], None], Values]]
"""Takes a computation on fixed memory; returns what repeats it, and where its values then lie."""


class GraphedStep(Step):
    """`Step` recorded once for each objective and shape, then replayed: the CPU pays one launch
    instead of a thousand.

    The first steps of a shape are plain ones, on a stream of their own, in which libraries set
    themselves up; they count. Inputs, learning rate and values lie at fixed addresses, between
    which and the caller's tensors every call copies.
    """

    warm_up = 3

    def __init__(
        self, task: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig, record: Record | None = None
    ) -> None:
        super().__init__(task, optimizer, config)
        self._record = record or CudaGraphs()
        self._seen: dict[Any, int] = {}
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, objective: AnyObjective, inputs: Iterable[Inputs], rate: float) -> Values:
        batches = list(inputs)
        key = objective, tuple(tensor.shape for batch in batches for tensor in batch.tensors())
        if key not in self._recordings:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] <= self.warm_up:
                with own_stream(batches[0].images.device):
                    return super().__call__(objective, batches, rate)
            self._recordings[key] = _Recording(self, objective, batches, self._record)
        return self._recordings[key](batches, rate)


class _Recording:
    """A step on fixed memory."""

    def __init__(self, step: Step, objective: AnyObjective, batches: list[Inputs], record: Record) -> None:
        self.inputs = [batch.clone() for batch in batches]
        self.rate = torch.zeros((), device=batches[0].images.device)

        def compute() -> Values:
            with rate_as_tensor(step.optimizer, self.rate):
                return step.compute(objective, self.inputs)

        step.optimizer.zero_grad(set_to_none=True)
        self.replay, self.values = record(compute)

    def __call__(self, batches: list[Inputs], rate: float) -> Values:
        for mine, given in zip(self.inputs, batches, strict=True):
            for buffer, tensor in zip(mine.tensors(), given.tensors(), strict=True):
                buffer.copy_(tensor, non_blocking=True)
        self.rate.fill_(rate)
        self.replay()
        return {name: value.clone() for name, value in self.values.items()}


class CudaGraphs:
    """Records on the GPU. All graphs share one pool of memory: they run one after the other, and
    keep nothing in it."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, compute: Callable[[], Values]) -> tuple[Callable[[], None], Values]:
        graph = torch.cuda.CUDAGraph()
        # a loader's thread that pins memory meanwhile does no harm
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            values = compute()
        self._pool = graph.pool()
        return graph.replay, values


@contextmanager
def rate_as_tensor(optimizer: torch.optim.Optimizer, rate: Tensor) -> Iterator[None]:
    """The learning rate as a tensor that is read in every replay, instead of a number that would be
    recorded."""
    before = [(group["lr"], group.get("capturable", False)) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"], group["capturable"] = rate, rate.is_cuda
    try:
        yield
    finally:
        for group, (number, capturable) in zip(optimizer.param_groups, before, strict=True):
            group["lr"], group["capturable"] = number, capturable


def own_stream(device: torch.device) -> AbstractContextManager[None]:
    """A stream beside the current one, which waits for it before and after; nothing on a CPU."""
    return _own_stream(device) if device.type == "cuda" else nullcontext()


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    current, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    own.wait_stream(current)
    with torch.cuda.stream(own):
        yield
    current.wait_stream(own)
