"""What `lcmae.Watch` sends to TensorBoard, W&B and MLflow. TensorBoard is the real one; W&B and
MLflow are no test dependencies (both bring servers and clients along), so modules with the calls of
theirs that we use stand in for them."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lcmae.app.dashboard.stored import reading
from lcmae.errors import InputError
from lcmae.probes.jobs.watch import Watch
from tests.probes.jobs.test_watch import PIXELS, own, train


def watched(out: Path, *loggers: str) -> list[dict[str, Any]]:
    """Train four steps, measured at 0 and 2; the run's own metrics."""
    module = own()
    with Watch(module, PIXELS, "spectrum", every=2, out=out, loggers=loggers) as watch:
        train(module, watch)
    assert not watch.failures
    return reading.metrics_of(out)


def numbers(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "step"}


def test_tensorboard_has_every_number_of_every_step(tmp_path: Path) -> None:
    accumulators: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    lines = watched(tmp_path / "run", "tensorboard")
    events = accumulators.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == numbers(lines[0]).keys()
    for name in ("spectrum/effective_rank/cls", "watch/seconds"):
        name = next(tag for tag in events.Tags()["scalars"] if tag.startswith(name.rpartition("/")[0]))
        found = [(event.step, event.value) for event in events.Scalars(name)]
        expected = [(line["step"], line[name]) for line in lines]
        assert [step for step, _ in found] == [step for step, _ in expected] == [0, 2]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], nan_ok=True)


class Wandb(ModuleType):
    """`wandb.run`, `wandb.init` and a session's `log` and `finish`."""

    def __init__(self, session: Any = None) -> None:
        super().__init__("wandb")
        self.run, self.calls = session, []

    def session(self) -> Any:
        return SimpleNamespace(
            log=lambda metrics, step: self.calls.append((step, metrics)), finish=lambda: self.calls.append("finish")
        )

    def init(self, **settings: Any) -> Any:
        self.calls.append(settings)
        return self.session()


class Mlflow(ModuleType):
    """`mlflow.active_run`, `start_run`, `log_metrics` and `end_run`."""

    def __init__(self, active: Any = None) -> None:
        super().__init__("mlflow")
        self.active, self.calls = active, []

    def active_run(self) -> Any:
        return self.active

    def start_run(self, **settings: Any) -> None:
        self.calls.append(settings)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.calls.append((step, metrics))

    def end_run(self) -> None:
        self.calls.append("end")


@pytest.mark.parametrize("has_session", [False, True], ids=["ours", "the training's"])
def test_wandb_and_mlflow_get_every_number_and_open_runs_stay_open(
    has_session: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb, mlflow = Wandb(), Mlflow("a run" if has_session else None)
    wandb.run = wandb.session() if has_session else None
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    lines = watched(tmp_path / "run", "wandb", "mlflow")
    sent = [(line["step"], numbers(line)) for line in lines]
    for module in (wandb, mlflow):
        logged = [call for call in module.calls if isinstance(call, tuple)]
        assert [step for step, _ in logged] == [0, 2]
        for (_, found), (_, expected) in zip(logged, sent, strict=True):
            assert found == pytest.approx(expected, nan_ok=True)
    if has_session:
        assert len(wandb.calls) == len(mlflow.calls) == 2, "neither begun nor ended"
    else:
        assert wandb.calls[0]["name"] == mlflow.calls[0]["run_name"] == "run"
        assert wandb.calls[0]["config"]["watch"]["every"] == 2
        assert (wandb.calls[-1], mlflow.calls[-1]) == ("finish", "end")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"expected the package for {name}, got none: install it with"):
        Watch(own(), PIXELS, "spectrum", out=tmp_path / "run", loggers=(name,))
