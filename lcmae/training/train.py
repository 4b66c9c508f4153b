"""The training loop, visible in one screen (`train`), and the few parts it is made of.

Unusual here: nothing random is carried along. Order, augmentation and masks are functions of (seed,
epoch, step), so a resumed run continues bit for bit from weights, optimiser and step alone.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from lcmae.config import RunConfig
from lcmae.data import ImageSource, open_source
from lcmae.errors import InputError
from lcmae.models import MaskedImageModel
from lcmae.progress import ProgressBar
from lcmae.randomness import generator
from lcmae.runs.run import Run
from lcmae.settings import parse
from lcmae.training import distributed
from lcmae.training.memory import check_memory
from lcmae.training.metrics import REMEDY, MetricLog, NonFiniteLossError
from lcmae.training.monitor import Labelled, Monitor
from lcmae.training.schedule import MicroBatches, Schedule
from lcmae.training.speed import attention_kernel, compile_blocks, recompute_blocks
from lcmae.training.step import Draw, GraphedStep, Step, Task, Values
from lcmae.training.trackers import open_trackers


@dataclass(frozen=True)
class Outcome:
    """How training ended: the last published step, and the signal that stopped it early, if one
    did."""

    step: int
    stopped_by: signal.Signals | None = None


def train(run: Run, *, label: str = "training", device: str | None = None) -> Outcome:
    """Train a run to the end of its config, from its newest checkpoint if it has one, and publish.

    SIGTERM, SIGHUP and Ctrl-C finish the step, publish, and return with `stopped_by`. Raises
    `NonFiniteLossError` where the loss is no longer a number (the last good checkpoint stays), and
    `InputError` for data or settings that do not fit.
    """
    config = parse(RunConfig, run.config)
    target = torch.device(device) if device else distributed.start()
    check_memory(config, target)
    config.objective.mask.open()
    source = open_training_data(config).to(target)
    schedule = Schedule(config, len(source))
    model = prepared(build_model(config), config).to(target)
    task = distributed.wrap(Task(model), shard=config.shard)
    optimizer = make_optimizer(model, config)
    draw, compute = Draw(model, config), make_step(task, optimizer, config)
    monitor = open_monitor(config, source)

    with ExitStack() as stack:
        if distributed.is_main():
            stack.enter_context(run.lock())
        stop = stack.enter_context(stop_signal())
        stack.enter_context(attention_kernel(model, config.attention))
        step, log = restore(run, model, optimizer, config)
        with open_trackers(config.loggers, run) as track, ProgressBar(label, schedule.num_steps, done=step) as bar:
            for step, batches in schedule.steps(source, after=step):  # noqa: B020 - the step that is at hand
                log.add(step, update(draw, compute, batches, schedule, step))
                bar.advance(note=log.note)

                is_measured = monitor is not None and schedule.is_due(step, config.monitor_every)
                publish = schedule.is_due(step, config.checkpoint_every)
                if is_measured or publish or step % config.log_every == 0:
                    log.write(run, track)
                if is_measured and monitor is not None:
                    log.write_more(run, track, step, evaluate(model, monitor))
                stopped_by = stop.agreed()
                if publish or stopped_by:
                    publish_step(run, step, schedule.num_steps, model, optimizer, log, config)
                if stopped_by:
                    return Outcome(step, stopped_by)
    return Outcome(step)


def update(draw: Draw, compute: Step, batches: MicroBatches, schedule: Schedule, step: int) -> Values:
    """One optimiser step; returns the loss and its terms, on the device, so that nobody waits for
    it."""
    objective, rate, epoch = schedule.objective(step), schedule.learning_rate(step), schedule.epoch_of(step)
    rng = generator("mask", schedule.config.seed, step, device=draw.model.device)
    inputs = (draw(objective, indices, pixels, epoch, rng) for indices, pixels in batches)
    values = compute(objective, inputs, rate)
    return {**values, "lr": values["loss"].new_full((), rate)}


def make_step(task: nn.Module, optimizer: torch.optim.Optimizer, config: RunConfig) -> Step:
    """The step that the config asks for, on the device where the model already lies."""
    if not config.cuda_graph or not next(task.parameters()).is_cuda:
        return Step(task, optimizer, config)
    if distributed.is_active():
        raise InputError("expected a single process for CUDA graphs, got a torchrun launch: add --no-cuda-graph")
    return GraphedStep(task, optimizer, config)


def prepared(model: MaskedImageModel, config: RunConfig) -> MaskedImageModel:
    """The model, in training mode, as fast or as small as the config asks for."""
    model.precision = config.precision
    if config.activation_checkpointing:
        recompute_blocks(model)
    if config.compile:
        compile_blocks(model, fixed_shapes=config.ratio_schedule is None)
    return model.train()


def evaluate(model: MaskedImageModel, monitor: Monitor) -> dict[str, float]:
    """What the monitor says; its few batches of other shapes are not worth compiling for."""
    with torch.compiler.set_stance("force_eager"):
        return monitor(model)


def build_model(config: RunConfig) -> MaskedImageModel:
    """The model with initial weights that depend on the config's seed alone; global random state is
    left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # the CPU's alone: torch.manual_seed would reach GPUs
        return config.model.build()


def make_optimizer(model: MaskedImageModel, config: RunConfig) -> torch.optim.AdamW:
    """AdamW without decay on norms, biases, tokens and positions, in one fused pass over all
    weights."""
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_free = parameter.ndim <= 1 or name.endswith(("_token", "pos_embed"))
            (free if is_free else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.base_lr, betas=config.betas, fused=True)


def open_training_data(config: RunConfig, split: str = "train", limit: int | None = None) -> ImageSource:
    """The config's images at the model's size and channels."""
    return open_source(
        config.data,
        split=split,
        image_size=config.model.image_size,
        channels=config.model.channels,
        limit=limit or config.limit,
        download=config.download,
    )


def open_monitor(config: RunConfig, source: ImageSource) -> Monitor | None:
    """The monitor on a fixed choice of labelled images; None without labels, on other processes, or
    when sharded."""
    if source.labels is None or config.shard or not distributed.is_main():
        return None
    parts = []
    for split in ("train", "test"):
        part = open_training_data(config, split, limit=config.monitor_images)
        assert part.labels is not None
        parts.append(Labelled(part[slice(None)], part.labels))
    return Monitor(*parts)


def restore(
    run: Run, model: MaskedImageModel, optimizer: torch.optim.Optimizer, config: RunConfig
) -> tuple[int, MetricLog]:
    """Load the newest checkpoint that checks out; (0, empty log) for a fresh run. Later metrics
    lines are dropped."""
    if not any((run.path / "checkpoints").glob("[0-9]*")):
        if distributed.is_main():
            run.truncate_metrics(0)  # a run killed before its first checkpoint begins again
        return 0, MetricLog()
    checkpoint = run.newest()
    state = checkpoint.resume_state()
    distributed.load_state(model, optimizer, checkpoint.tensors(), state["optimizer"], shard=config.shard)
    if distributed.is_main():
        run.truncate_metrics(checkpoint.step)
    return checkpoint.step, MetricLog.from_state(state["log"])


def publish_step(
    run: Run,
    step: int,
    num_steps: int | None,
    model: MaskedImageModel,
    optimizer: torch.optim.Optimizer,
    log: MetricLog,
    config: RunConfig,
) -> None:
    """Publish weights and all that resuming needs; a non-finite loss, or weights that would make
    one, are refused."""
    log.check_finite()
    tensors, optimizer_state = distributed.state(model, optimizer, shard=config.shard)
    # a loss is that of the weights before its step: the step itself may have ruined them
    bad = next((name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())), None)
    bad = distributed.from_main(bad)  # sharded weights are put together in the main process alone
    if bad is not None:
        raise NonFiniteLossError(f"{bad} is not finite after step {step}; {REMEDY}")
    if distributed.is_main():
        resume = {"optimizer": optimizer_state, "log": log.state()}
        run.publish(step, tensors, config=run.config, resume=resume, num_steps=num_steps)
    if distributed.is_active():
        dist.barrier()


def publish_untrained(run: Run) -> None:
    """Publish the initial weights of a run's config as step 0, from which training would go on. A
    baseline."""
    config = parse(RunConfig, run.config)
    model = build_model(config)
    with run.lock():
        publish_step(run, 0, None, model, make_optimizer(model, config), MetricLog(), config)


class _Stop:
    """A request to stop, made by a signal; `agreed` says whether any process got one, the same
    answer in all."""

    received: signal.Signals | None = None

    def agreed(self) -> signal.Signals | None:
        number = int(distributed.largest(float(self.received or 0)))
        return signal.Signals(number) if number else None


@contextmanager
def stop_signal() -> Iterator[_Stop]:
    """Collect SIGTERM, SIGHUP (the end of a terminal) and Ctrl-C instead of dying of them; a second
    one is not held back, and unwinds as a second Ctrl-C does. What was to be ignored (nohup) is."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only
        return

    def receive(number: int, frame: Any) -> None:
        stop.received = signal.Signals(number)
        for other, handler in before.items():
            signal.signal(other, leave if handler is signal.SIG_DFL else handler)

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    wanted = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    taken = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, receive) for number in taken}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
