"""The step of half change: by hand, and what has none."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.probes.results.when import half_change, order


def test_half_is_crossed_between_stored_steps() -> None:
    found = half_change([0, 10, 20, 40], [1.0, 1.0, 2.0, 5.0])
    # half is 3: a third of the way from 2 at 20 to 5 at 40
    assert found.step == pytest.approx(20 + 20 / 3)
    assert found.change == 4
    assert math.isnan(found.low)  # no errors are known
    falling = half_change([0, 10, 20, 40], [-1.0, -1.0, -2.0, -5.0])
    assert falling.step == found.step
    assert half_change([0, 10, 20], [0.0, 5.0, 4.0]).step == pytest.approx(4)  # the first crossing


def test_what_did_not_change_beyond_its_error_has_no_step() -> None:
    assert math.isnan(half_change([0, 10], [1.0, 1.1], [0.1, 0.1]).step)
    assert half_change([0, 10], [1.0, 1.5], [0.1, 0.1]).step == 5
    for steps, values in (([], []), ([3], [1.0]), ([0, 1], [2.0, 2.0]), ([0, 1], [math.nan, 2.0])):
        assert math.isnan(half_change(steps, values).step)


def test_intervals_hold_the_true_step_as_often_as_they_say() -> None:
    """A line of 11 steps with noise of a known size: half is at 50; an interval over independent
    errors holds it in about 95 % of the cases."""
    rng = np.random.default_rng(1)
    steps, held = np.arange(0, 101, 10), 0
    for _ in range(200):
        values = steps / 100 + 0.03 * rng.standard_normal(11)
        found = half_change(steps.tolist(), values.tolist(), [1.96 * 0.03] * 11)
        held += found.low <= 50 <= found.high
    # the first crossing of a noisy line comes early, so a little less is possible
    assert held / 200 > 0.85


@given(
    st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=2, max_size=8), st.floats(0.1, 10), st.floats(-5, 5)
)
def test_scale_and_shift_change_nothing(values: list[float], scale: float, shift: float) -> None:
    steps = list(range(len(values)))
    one = half_change(steps, values)
    other = half_change(steps, [scale * value + shift for value in values])
    if abs(values[-1] - values[0]) > 1e-3:
        assert steps[0] <= one.step <= steps[-1]
        assert other.step == pytest.approx(one.step, abs=1e-6)


def test_numbers_are_ordered_by_their_step() -> None:
    def rows(run: str, quantity: str, values: list[float]) -> list[dict[str, object]]:
        return [
            {
                "run": run,
                "quantity": quantity,
                "part": "",
                "unit": "1",
                "step": 10 * at,
                "value": value,
                "low (95 %)": value - 0.02,
                "high (95 %)": value + 0.02,
            }
            for at, value in enumerate(values)
        ]

    frame = pd.DataFrame([
        *rows("a", "late", [0.0, 0.0, 0.1, 1.0]), *rows("a", "early", [0.0, 0.9, 1.0, 1.0]), *rows("a", "flat", [0.5] * 4),
    ])  # fmt: skip
    found = order(frame)
    assert found["quantity"].tolist() == ["early", "late"]
    low, step, high = (found[name].to_numpy(float) for name in ("low", "step", "high"))
    assert bool((low <= step).all())
    assert bool((step <= high).all())
    assert order(frame.iloc[:0]).empty
