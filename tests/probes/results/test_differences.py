"""Differences with intervals: hand-solved values, pairing against apart, coverage, and every
direction has a variable."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from lcmae.probes.registry import PROBES
from lcmae.probes.results.differences import COLUMNS, Difference, apart, differences, differing, verdict
from lcmae.probes.results.metric_directions import BETTER, better
from lcmae.probes.results.tables import Cell
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import by_leaving_out, error_of, variable
from tests.app import synthetic


def cell(value: float, low: float, high: float) -> Cell:
    return Cell("x", (), "x", "", "x", "", value, math.nan, low, high, "1")


def result(values: np.ndarray, name: str = "error") -> xr.Dataset:
    """A mean over images as a probe stores it."""
    running = RunningMean()
    running.add(torch.from_numpy(values))
    assert running.mean is not None
    assert running.group_means is not None
    variables = {
        name: synthetic.var((), float(running.mean), name),
        f"{name}_sem": synthetic.var((), float(running.sem), f"standard error over images: {name}"),
        f"{name}_groups": synthetic.var("group", running.group_means.numpy(), f"groups: {name}"),
    }
    variables[f"{name}_groups"].attrs["num_images"] = len(values)
    return xr.Dataset(variables, attrs=dict(synthetic.ATTRS))


def row(a: xr.Dataset, b: xr.Dataset) -> dict:
    frame = differences("reconstruction", a, b)
    assert frame.columns.tolist() == list(COLUMNS)
    assert len(frame) == 1
    return frame.iloc[0].to_dict()


def test_intervals_apart_are_newcombes():
    # Newcombe (1998), table II, example (a), method 10: 56/70 - 48/80 = 0.2, 95 % interval 0.0524
    # to 0.3339
    z = 1.959964

    def wilson(count: int, total: int) -> Cell:
        share = count / total
        middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
        reach = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
        return cell(share, middle - reach, middle + reach)

    found = apart(wilson(48, 80), wilson(56, 70))
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)


def test_symmetric_intervals_apart_add_in_squares():
    assert apart(cell(1.0, -2.0, 4.0), cell(2.0, -2.0, 6.0)) == Difference(1.0, -4.0, 6.0, "apart")
    assert apart(cell(1.0, math.nan, math.nan), cell(2.0, 1.0, 3.0)).how == "none stored"


def test_up_to_32_images_pairs_are_the_images_themselves():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 20))
    found = row(result(first), result(second))
    each = second - first
    reach = 2.093024 * each.std(ddof=1) / math.sqrt(20)  # t of 19 degrees of freedom
    assert found["interval"] == "paired, 20 images"
    np.testing.assert_allclose(
        [found["B - A"], found["low"], found["high"]],
        [each.mean(), each.mean() - reach, each.mean() + reach],
        rtol=1e-6,
    )


@pytest.mark.parametrize("count", [33, 100, 640])
def test_the_difference_of_groups_is_that_of_the_means(count: int):
    first, second = np.random.default_rng(count).normal(size=(2, count))
    found = row(result(first), result(second))
    assert found["B - A"] == pytest.approx(second.mean() - first.mean())
    assert found["B - A"] == pytest.approx(found["B"] - found["A"])


def test_what_both_find_hard_cancels_in_pairs():
    rng = np.random.default_rng(0)
    hard = rng.normal(scale=10, size=200)
    found = row(result(hard + rng.normal(size=200)), result(hard + 1 + rng.normal(size=200)))
    assert found["says"] == "A better"
    assert found["high"] - found["low"] < 0.8
    unalike = result(hard).assign_attrs(seed=4)
    assert row(unalike, result(hard + 1))["interval"] == "apart"
    assert row(unalike, result(hard + 1))["says"] == "not told apart"


@pytest.mark.parametrize("count", [20, 50, 321])
def test_paired_intervals_hold_the_truth_as_often_as_they_say(count: int):
    rng = np.random.default_rng(1)
    trials, covered = 300, 0
    for _ in range(trials):
        shared = rng.normal(size=count)
        found = row(result(shared + rng.exponential(size=count)), result(shared + rng.exponential(size=count) + 0.5))
        covered += found["low"] <= 0.5 <= found["high"]
    # 95 % with 300 trials: a standard error of 1.3 %
    assert covered / trials == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize(
    ("low", "high", "direction", "says"),
    [
        (1, 2, "higher", "B better"),
        (-2, -1, "higher", "A better"),
        (1, 2, "lower", "A better"),
        (-2, -1, "lower", "B better"),
        (1, 2, "neither", "differ"),
        (-1, 2, "lower", "not told apart"),
        (math.nan, math.nan, "lower", ""),
        (-1, 1, "lower", "equal"),
    ],
)
def test_verdicts(low: float, high: float, direction: str, says: str):
    assert verdict(Difference((low + high) / 2, low, high, ""), direction) == says


def test_a_table_of_two_results_of_a_probe():
    a, b = synthetic.local_contrast(seed=1), synthetic.local_contrast(seed=2)
    frame = differences("local_contrast", a, b)
    part = frame[(frame["quantity"] == "part of the masked loss") & (frame["part"] == "invariance")].iloc[0]
    assert part["better"] == "lower"
    sems = [float(one["term_sem"].sel(part="invariance")) for one in (a, b)]
    assert part["high"] - part["B - A"] == pytest.approx(1.96 * math.hypot(*sems))
    # NaN in both is no row, and numbers of other units are not subtracted
    assert "prediction" not in frame["part"].tolist()
    other = differences("local_contrast", a, synthetic.local_contrast(normalised=True))
    assert set(other["unit"]) == {"1"}


def test_conditions_are_named():
    a, b = synthetic.local_contrast(), synthetic.local_contrast()
    assert differing(a, b) == []
    assert differing(a, b.assign_attrs(num_images=8, data="cifar10")) == ["data", "num_images"]


def test_every_direction_has_a_reason_and_a_probe():
    for name, (direction, reason) in BETTER.items():
        assert name.split(".")[0] in PROBES
        assert direction in ("higher", "lower")
        assert len(reason) > 10
    assert better("reconstruction", "error_nearest").direction == "neither"


def left_out(values: np.ndarray) -> xr.Dataset:
    """The square of a mean over images, as a probe stores it: with what is left without each
    group."""
    sums = GroupedSums(len(values), 8)
    sums.add(range(len(values)), value=torch.from_numpy(values), images=torch.ones(len(values)))
    whole, without = sums.leave_out(lambda total: (total["value"] / total["images"]).square())
    error = sums.error(whole, without)
    variables = {
        "error": variable((), float(whole), "error"),
        "error_sem": error_of((), float(error), "error", degrees=sums.degrees_of_freedom, method="jackknife"),
        **by_leaving_out((), without, sums.filled_sizes, "error", "error"),
    }
    return xr.Dataset(variables, attrs=dict(synthetic.ATTRS))


def test_numbers_that_are_no_means_are_paired_by_what_is_left_without_a_group():
    rng = np.random.default_rng(0)
    hard = rng.normal(loc=1, scale=1, size=160)
    found = row(left_out(hard), left_out(hard + 0.1 + 0.05 * rng.normal(size=160)))
    assert found["interval"] == "paired, 160 images in 8 groups"
    assert found["says"] == "A better"
    # apart, what both find hard would hide it
    assert found["high"] - found["low"] < 0.3 * (found["B high"] - found["B low"])
    np.testing.assert_allclose(found["B - A"], found["B"] - found["A"])


def test_intervals_by_leaving_out_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    trials, covered = 200, 0
    for _ in range(trials):
        shared = rng.normal(loc=1, size=160)
        found = row(left_out(shared), left_out(shared + 0.2 + 0.3 * rng.normal(size=160)))
        covered += found["low"] <= 1.2**2 - 1 <= found["high"]
    assert covered / trials == pytest.approx(0.95, abs=0.045)


def test_no_checkpoint_is_better_by_its_baseline():
    a, b = (
        xr.Dataset(
            {"error": synthetic.var("network", np.array([value, value]), "error")},
            {"network": ["trained", "untrained"]},
            dict(synthetic.ATTRS),
        )
        for value in (1.0, 2.0)
    )
    frame = differences("reconstruction", a, b)
    assert dict(zip(frame["quantity"], frame["better"], strict=True)) == {
        "error": "lower",
        "error, untrained network of the same shape": "neither",
    }
