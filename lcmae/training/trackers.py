"""Metrics to TensorBoard, Weights & Biases or MLflow, for those who keep their runs there.
metrics.jsonl is always written."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from lcmae.errors import InputError
from lcmae.runs.run import Run

Tracker = Callable[[int, Mapping[str, float]], None]


@contextmanager
def open_trackers(names: tuple[str, ...], run: Run) -> Iterator[Tracker]:
    """One function that passes (step, metrics) on to every tracker asked for, and closes them at
    the end."""
    with ExitStack() as stack:
        trackers = [_OPENERS[name](run, stack) for name in names]

        def track(step: int, metrics: Mapping[str, float]) -> None:
            for tracker in trackers:
                tracker(step, metrics)

        yield track


def _tensorboard(run: Run, stack: ExitStack) -> Tracker:
    writer = _package("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(run.path / "tensorboard"))
    stack.callback(writer.close)

    def track(step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    return track


def _wandb(run: Run, stack: ExitStack) -> Tracker:
    wandb = _package("wandb", "wandb")
    if wandb.run is not None:  # of the training that is watched; whoever began it ends it
        mine = wandb.run
        return lambda step, metrics: mine.log(dict(metrics), step=step)
    session = wandb.init(project="lcmae", name=run.name, dir=str(run.path), config=run.config)
    stack.callback(session.finish)
    return lambda step, metrics: session.log(dict(metrics), step=step)


def _mlflow(run: Run, stack: ExitStack) -> Tracker:
    mlflow = _package("mlflow", "mlflow")
    if mlflow.active_run() is None:  # else it is that of the training that is watched
        mlflow.start_run(run_name=run.name)
        stack.callback(mlflow.end_run)
    return lambda step, metrics: mlflow.log_metrics(dict(metrics), step=step)


_OPENERS: dict[str, Callable[[Run, ExitStack], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _package(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"expected the package for {extra}, got none: install it with `uv sync --extra {extra}`"
        ) from error
