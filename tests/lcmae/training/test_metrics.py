"""Lines of metrics: means over the steps they stand for, whatever stopped in between; what is no
number is named."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lcmae.runs.run import Run
from lcmae.training.metrics import MetricLog, NonFiniteLossError

Point = tuple[int, Mapping[str, float]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {})


def silent(step: int, metrics: Mapping[str, float]) -> None:
    pass


def add(log: MetricLog, step: int, loss: float, **more: float) -> None:
    log.add(step, {name: torch.tensor(value) for name, value in {"loss": loss, **more}.items()})


@given(losses=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20))
def test_a_line_is_the_mean_and_carries_the_last_step(
    tmp_path_factory: pytest.TempPathFactory, losses: list[float]
) -> None:
    run = Run.create(tmp_path_factory.mktemp("metrics") / "run", {})
    log = MetricLog()
    for step, loss in enumerate(losses, start=3):
        add(log, step, loss, lr=0.5)
    log.write(run, silent)
    (line,) = run.metrics()
    assert line["step"] == 2 + len(losses)
    assert line["loss"] == math.fsum(losses) / len(losses)  # exactly: float64 of float32 values
    assert line["lr"] == 0.5
    assert line["seconds_per_step"] >= 0


def test_what_was_written_is_forgotten(run: Run) -> None:
    seen: list[Point] = []
    log = MetricLog()
    log.write(run, lambda *point: seen.append(point))  # nothing waits, nothing is written
    add(log, 1, 1.0)
    log.write(run, lambda *point: seen.append(point))
    add(log, 2, 5.0)
    log.write(run, lambda *point: seen.append(point))
    assert [(line["step"], line["loss"]) for line in run.metrics()] == [(1, 1.0), (2, 5.0)]
    assert [(step, metrics["loss"]) for step, metrics in seen] == [(1, 1.0), (2, 5.0)]
    assert log.note == "loss 5.0000"


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_what_waits_travels_through_a_checkpoint(tmp_path: Path, run: Run, waiting: int) -> None:
    log = MetricLog()
    for step in range(1, waiting + 1):
        add(log, step, step / 3)
    torch.save(log.state(), tmp_path / "state.pt")
    restored = MetricLog.from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    other = Run.create(tmp_path / "other", {})
    for one, where in ((log, run), (restored, other)):
        add(one, waiting + 1, 0.1)
        one.write(where, silent)
    assert run.metrics()[0] | {"seconds_per_step": 0} == other.metrics()[0] | {"seconds_per_step": 0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_loss_that_is_no_number_is_named(run: Run, bad: float) -> None:
    log = MetricLog()
    for step, loss in enumerate([1.0, 2.0, bad, bad], start=8):
        add(log, step, loss)
    for check in (log.check_finite, lambda: log.write(run, silent)):
        with pytest.raises(NonFiniteLossError, match=rf"^loss is {bad} at step 10; expected finite numbers"):
            check()
    assert run.metrics() == []


def test_another_value_that_is_no_number_is_written_as_it_is(run: Run) -> None:
    log = MetricLog()
    add(log, 1, 1.0, grad_norm=math.inf)
    log.write(run, silent)
    assert run.metrics()[0]["grad_norm"] == math.inf


def test_a_line_of_numbers_is_passed_on_as_it_is(run: Run) -> None:
    seen: list[Point] = []
    MetricLog().write_more(run, lambda *point: seen.append(point), 7, {"knn": 0.5})
    assert run.metrics() == [{"step": 7, "knn": 0.5}]
    assert seen == [(7, {"knn": 0.5})]
