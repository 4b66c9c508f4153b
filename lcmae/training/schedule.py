"""Which images belong to which step, and at which learning rate: pure functions of the config and
the step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from lcmae.config import RunConfig
from lcmae.data import ImageSource, random_order
from lcmae.errors import InputError
from lcmae.masking import at_ratio
from lcmae.masking.schedules import quantize
from lcmae.objectives import AnyObjective
from lcmae.randomness import generator
from lcmae.shapes import Int, UInt8
from lcmae.training import distributed

MicroBatches = list[tuple[Int[Tensor, " b"], UInt8[Tensor, "b c h w"]]]


@dataclass(frozen=True)
class Schedule:
    """Steps are counted from 1: step s is the s-th update. An epoch leaves out the images that do
    not fill a batch."""

    config: RunConfig
    num_images: int

    def __post_init__(self) -> None:
        size, shares = self.config.batch_size, self.config.accumulate * distributed.world_size()
        if size > self.num_images:
            todo = f"; say batch_size={self.num_images} (--batch-size {self.num_images}) or less" * (
                self.num_images > 0
            )
            raise InputError(
                f"expected batch_size of at most {self.num_images} (the number of images), got {size}{todo}"
            )
        if size % shares:
            raise InputError(
                f"expected batch_size to be a multiple of {shares} (micro-batches x processes), got {size}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.num_images // self.config.batch_size

    @property
    def num_steps(self) -> int:
        return self.steps_per_epoch * self.config.epochs

    def epoch_of(self, step: int) -> int:
        """The epoch, from 0, that a step belongs to."""
        return (step - 1) // self.steps_per_epoch

    def is_due(self, step: int, every: int) -> bool:
        """Whether `step` ends a multiple of `every` epochs (0: never), or the run."""
        ends_epoch = step % self.steps_per_epoch == 0
        return step == self.num_steps or (every > 0 and ends_epoch and (step // self.steps_per_epoch) % every == 0)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up from 0, then half a cosine to 0; the peak is base_lr * batch_size / 256
        (Goyal et al., 1706.02677)."""
        peak = self.config.base_lr * self.config.batch_size / 256
        warmup = self.config.warmup_epochs * self.steps_per_epoch
        done = step - 1
        if done < warmup:
            return peak * (done + 1) / (warmup + 1)
        progress = (done - warmup) / max(self.num_steps - warmup, 1)
        return peak * 0.5 * (1 + math.cos(math.pi * progress))

    def objective(self, step: int) -> AnyObjective:
        """The config's objective, at the masking ratio that its schedule gives this step."""
        config = self.config
        if config.ratio_schedule is None:
            return config.objective
        progress = (step - 1) / max(self.num_steps - 1, 1)
        ratio = config.ratio_schedule(progress, generator("ratio", config.seed, step))
        mask = at_ratio(config.objective.mask, quantize(ratio, config.model.grid, config.ratio_multiple))
        return config.objective.model_copy(update={"mask": mask})

    def steps(self, source: ImageSource, after: int) -> Iterator[tuple[int, MicroBatches]]:
        """Steps after number `after`, each with this process's micro-batches (indices, pixels), in
        order."""
        config = self.config
        batches = source.stream(self._shares(after), config.workers)
        for step in range(after + 1, self.num_steps + 1):
            yield step, [next(batches) for _ in range(config.accumulate)]

    def _shares(self, after: int) -> Iterator[Int[Tensor, " b"]]:
        """The positions of this process's micro-batches, one after another, from step `after` + 1
        to the last epoch's end."""
        config, rank, world = self.config, distributed.rank(), distributed.world_size()
        share = config.batch_size // (config.accumulate * world)
        for epoch in range(after // self.steps_per_epoch, config.epochs):
            first = max(after - epoch * self.steps_per_epoch, 0)
            order = random_order(self.num_images, seed=config.seed, epoch=epoch)
            order = order[: self.steps_per_epoch * config.batch_size]
            # the whole batch is cut into micro-batches, and each of those into one share a process
            mine = order.view(self.steps_per_epoch, config.accumulate, world, share)[first:, :, rank]
            yield from mine.reshape(-1, share)
