"""Schedules of the masking ratio: their ends, their bounds, and the number of shapes they make."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lcmae.errors import InputError
from lcmae.masking import Random, at_ratio
from lcmae.masking.schedules import (
    AnySchedule,
    Constant,
    Cosine,
    Cyclic,
    Linear,
    RatioSchedule,
    UniformPerBatch,
    quantize,
)
from lcmae.settings import parse

SCHEDULES: list[RatioSchedule] = [Constant(), Linear(), Cosine(), Cyclic(), UniformPerBatch()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
ratios = st.floats(0.01, 0.99)
progresses = st.floats(0, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_schedule
@given(progress=progresses, seed=st.integers(0, 2**31))
def test_a_schedule_gives_a_ratio_that_a_strategy_takes(schedule: RatioSchedule, progress: float, seed: int) -> None:
    ratio = schedule(progress, generator(seed))
    assert ratio == schedule(progress, generator(seed))
    assert at_ratio(Random(), ratio).ratio == ratio


@given(start=ratios, end=ratios)
def test_straight_and_cosine_start_and_end_where_they_say(start: float, end: float) -> None:
    for schedule in (Linear(start=start, end=end), Cosine(start=start, end=end)):
        ends = [schedule(progress, generator()) for progress in (0.0, 0.5, 1.0)]
        assert ends == pytest.approx([start, (start + end) / 2, end])


@given(start=ratios, end=ratios, first=progresses, second=progresses)
def test_straight_and_cosine_never_turn(start: float, end: float, first: float, second: float) -> None:
    first, second = sorted((first, second))
    for schedule in (Linear(start=start, end=end), Cosine(start=start, end=end)):
        step = schedule(second, generator()) - schedule(first, generator())
        assert step * (end - start) >= -1e-12


def test_cosine_is_slow_at_its_ends() -> None:
    straight, cosine = (schedule(start=0.2, end=0.8)(0.1, generator()) for schedule in (Linear, Cosine))
    assert 0.2 < cosine < straight


def test_cyclic_swings_round_its_mean() -> None:
    schedule = Cyclic(mean=0.6, amplitude=0.2, cycles=2)
    quarters = [schedule(progress / 8, generator()) for progress in range(9)]
    assert quarters == pytest.approx([0.6, 0.8, 0.6, 0.4, 0.6, 0.8, 0.6, 0.4, 0.6])


def test_uniform_draws_anew_within_its_bounds() -> None:
    rng, schedule = generator(), UniformPerBatch(low=0.4, high=0.6)
    draws = torch.tensor([schedule(0.5, rng) for _ in range(4000)])
    assert draws.min() >= 0.4
    assert draws.max() <= 0.6
    # mean and deviation of a uniform number, to five standard errors
    deviation = 0.2 / 12**0.5
    assert abs(draws.mean() - 0.5) < 5 * deviation / 4000**0.5
    assert abs(draws.std() - deviation) < 0.05 * deviation


@pytest.mark.parametrize("schedule", SCHEDULES[:4], ids=lambda schedule: type(schedule).__name__)
def test_only_uniform_touches_the_generator(schedule: RatioSchedule) -> None:
    rng = generator()
    before = rng.get_state()
    schedule(0.3, rng)
    assert torch.equal(rng.get_state(), before)


@every_schedule
@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_progress_outside_of_training_is_refused(schedule: RatioSchedule, progress: float) -> None:
    with pytest.raises(InputError, match=r"^expected a progress between 0 and 1, got "):
        schedule(progress, generator())


@pytest.mark.parametrize(
    ("schedule", "values", "message"),
    [
        (Cyclic, {"mean": 0.9, "amplitude": 0.2}, r"expected mean -\+ amplitude within \(0, 1\), got 0.9 -\+ 0.2"),
        (UniformPerBatch, {"low": 0.8, "high": 0.6}, r"expected high >= low \(0.8\), got 0.6"),
        (Linear, {"start": 0.0}, r"^start: "),
        (Constant, {"ratio": 1.0}, r"^ratio: "),
    ],
)
def test_schedules_that_leave_the_ratios_are_refused(
    schedule: type[RatioSchedule], values: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse(schedule, values)


@every_schedule
def test_a_schedule_goes_by_its_name_in_json(schedule: RatioSchedule) -> None:
    assert TypeAdapter(AnySchedule).validate_json(schedule.model_dump_json()) == schedule


@given(
    ratio=ratios,
    rows=st.integers(2, 16),
    columns=st.integers(2, 16),
    multiple=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_quantised_ratios_show_the_nearest_multiple(
    ratio: float, rows: int, columns: int, multiple: int, seed: int
) -> None:
    num_patches = rows * columns
    num_visible = int(num_patches * (1 - ratio) + 1e-9)
    if multiple >= num_patches or not 0 < num_visible < num_patches:
        return
    mask = Random(ratio=quantize(ratio, (rows, columns), multiple))(1, (rows, columns), generator(seed))
    shown = mask.visible.shape[1]
    possible = range(multiple, num_patches, multiple)
    assert shown in possible
    assert abs(shown - num_visible) == min(abs(other - num_visible) for other in possible)


def test_quantised_schedules_make_few_shapes() -> None:
    shown = {
        Random(ratio=quantize(Cosine(start=0.3, end=0.9)(step / 500, generator()), (14, 14), 8)).num_hidden((14, 14))
        for step in range(501)
    }
    # 20 to 137 visible patches in eights
    assert len(shown) == 16
    with pytest.raises(InputError, match=r"^expected a multiple of 1 to 15 visible patches on a 4x4 grid, got 16$"):
        quantize(0.5, (4, 4), 16)
