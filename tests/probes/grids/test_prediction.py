"""Which stored number chooses the mask: a planted one does, noise does not, and what is learned on
a data set is never judged there."""

import math
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from lcmae.app.cli import main
from lcmae.app.command_line.predictions import print_predictions
from lcmae.errors import InputError
from lcmae.probes.grids.prediction import Sample, judged, permutation_p, predict, regrets, sample_of
from lcmae.probes.grids.table import read_table, write_table

COLUMNS = {
    "mean_knn": ("kNN accuracy", "share of test images"),
    "mean_linear": ("ridge accuracy", "share of test images"),
    "probe.planted": ("a planted number", "1"),
    "probe.noise": ("noise", "1"),
    "probe.constant": ("always 1", "1"),
}


def table(folder: Path, data: str, seed: int, *, planted: bool = True, seeds: int = 4, cells: int = 8) -> Path:
    rng, rows = np.random.default_rng(seed), []
    ratios = np.linspace(0.15, 0.85, cells).round(2).tolist()
    ratios[-2] = 0.75
    level = 0.5 + 0.05 * rng.permutation(cells)
    level[-2] = 0.55  # the rule's cell is poor
    for one in range(seeds):
        for cell, ratio in enumerate(ratios):
            knn = level[cell] + 0.005 * rng.normal()
            row: dict[str, Any] = {
                "run": f"{ratio}-s{one}", "status": "done", "objective": "mae", "mask": "random", "ratio": ratio, "unit": 1,
                "seed": one, "data": data, "mean_knn": knn, "mean_linear": knn, "train_seconds": 1.0,
                "probe.planted": -level[cell] + 0.01 * rng.normal() if planted else float(rng.normal()),
                "probe.noise": float(rng.normal()), "probe.constant": 1.0,
            }  # fmt: skip
            rows.append(row)
    path = folder / data
    path.mkdir(parents=True)
    write_table(rows, COLUMNS, path / "table.parquet")
    return path / "table.parquet"


def test_a_number_that_knows_the_order_beats_the_rule(tmp_path: Path) -> None:
    for seed, data in enumerate(("one", "two", "three")):
        table(tmp_path, data, seed)
    found = predict(tmp_path)
    by_name = {one.measure: one for one in found.predictors}
    assert set(by_name) == {"probe.planted", "probe.noise", "ratio"}  # no accuracy, no time, no constant
    planted = by_name["probe.planted"]
    assert all(rho < -0.8 for rho in planted.correlation)
    assert all(p < 0.05 for p in planted.p_value)
    assert planted.regret.mean < 0.03
    assert found.rule.mean > 0.1
    assert planted.beats_rule
    assert found.chosen == ("probe.planted",) * 3
    assert found.predictors[0].measure == "probe.planted"
    assert "Better than the rule" in found.sentence()
    assert "probe.planted" in found.sentence()


def test_nothing_beats_the_rule_where_nothing_knows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = {f"n{number}": "noise" for number in range(6)}
    wrong = 0
    for _ in range(20):
        samples = []
        for data in ("a", "b", "c"):
            target = 0.6 + 0.01 * rng.normal(size=(8, 4))
            numbers = {name: rng.normal(size=(8, 4)) for name in names}
            samples.append(Sample(data, data, tuple(("mae", "random", i, 1) for i in range(8)), target, numbers, 3))
        found = judged(samples, names)
        wrong += any(one.beats_rule for one in found.predictors)
        if not any(one.beats_rule for one in found.predictors):
            assert found.sentence().startswith("Nothing that is stored beats the rule")
    assert wrong <= 3


def test_the_direction_comes_from_other_data_sets() -> None:
    """A number that orders cells upwards in one data set and downwards in the other chooses the
    worst cell in both."""
    target = np.linspace(0.4, 0.7, 6)[:, None] + np.zeros((6, 2))
    keys = tuple(("mae", "random", 0.1 * i, 1) for i in range(6))
    samples = [
        Sample("up", "up", keys, target, {"n": target.copy()}, 5),
        Sample("down", "down", keys, target, {"n": -target}, 5),
    ]
    found = judged(samples, {})
    assert found.rule.mean == pytest.approx(0)
    assert found.predictors[0].regret.mean == pytest.approx(0.3)
    assert found.of_chosen.mean == pytest.approx(0.3)


def test_seeds_that_agree_leave_no_interval_and_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """A number whose regret is 0 for every seed, and the rule's 0.3: certain of these seeds, and of
    no others."""
    target = np.linspace(0.4, 0.7, 6)[:, None] + np.zeros((6, 2))
    keys = tuple(("mae", "random", 0.1 * i, 1) for i in range(6))
    found = judged([Sample(data, data, keys, target, {"n": target.copy()}, 0) for data in ("a", "b")], {})
    assert found.predictors[0].regret.mean == pytest.approx(0)
    assert found.predictors[0].over_rule.mean == pytest.approx(-0.3)
    assert math.isnan(found.predictors[0].over_rule.low)
    assert math.isnan(found.predictors[0].p_over_rule)
    assert not found.predictors[0].beats_rule
    assert found.rule.points() == "30.0 (no interval: all 4 seeds agree)"
    assert "(regret 30.0 points, no interval: all 4 seeds agree)" in found.sentence()
    print_predictions(found)
    assert "no interval: all 4" in " ".join(capsys.readouterr().out.split())


def test_a_table_whose_seeds_agree_is_as_uncertain_as_the_others() -> None:
    rng = np.random.default_rng(0)
    keys = tuple(("mae", "random", 0.1 * i, 1) for i in range(6))
    level = np.linspace(0.4, 0.7, 6)[:, None]
    noisy, silent = level + 0.02 * rng.normal(size=(6, 4)), level + np.zeros((6, 4))

    def width(*targets: np.ndarray) -> float:
        samples = [Sample(str(i), str(i), keys, target, {"n": target}, 0) for i, target in enumerate(targets)]
        return judged(samples, {}).rule.high - judged(samples, {}).rule.low

    assert width(noisy, silent) == pytest.approx(width(noisy, noisy))
    assert width(noisy, silent) > 0


def test_regret_is_of_the_cells_that_other_seeds_choose() -> None:
    target = np.array([[0.9, 0.5, 0.5], [0.6, 0.6, 0.6]])
    sample = Sample("x", "x", (("a",), ("b",)), target, {}, 1)
    # by the others: seed 0 -> b (0.6 > 0.5), seeds 1 and 2 -> a (0.7 > 0.6)
    assert regrets(sample, None).tolist() == pytest.approx([0, -0.1, -0.1])
    assert regrets(sample, np.array([[1.0] * 3, [0.0] * 3])).tolist() == pytest.approx([0.6 - 0.9, 0, 0])


def test_a_permutation_p_is_the_share_of_orders() -> None:
    first, second = np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 3, 2, 5, 4])
    own = abs(float(np.asarray(spearmanr(first, second))[0]))
    every = [abs(float(np.corrcoef(np.array(order), second)[0, 1])) for order in permutations(first)]
    expected = np.mean([value >= own - 1e-12 for value in every])
    assert permutation_p(first, second) == pytest.approx(expected, abs=0.02)
    assert math.isnan(permutation_p(first, np.ones(5)))


def test_one_data_set_is_shown_and_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path, "only", 0)
    found = predict(tmp_path)
    assert found.sentence().startswith("One data set (only)")
    assert all(math.isnan(one.regret.mean) for one in found.predictors)
    assert main(["compare", "--predict", str(tmp_path), "--target", "mean_linear"]) == 0
    text = capsys.readouterr().out
    assert "One data set (only)" in text
    assert "What predicts mean_linear" in text
    assert "probe.planted" in text


def test_the_command_prints_numbers_best_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, data in enumerate(("one", "two")):
        table(tmp_path, data, seed)
    table(tmp_path, "small", 3, cells=3)
    assert main(["compare", "--predict", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "left out: small has 3 cells" in text
    assert text.index("probe.planted") < text.index("probe.noise")


def test_what_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected comparisons below"):
        predict(tmp_path)
    file = table(tmp_path, "small", 0, cells=3)
    with pytest.raises(InputError, match="at least 4 cells with two seeds of mean_knn, got small has 3 cells"):
        predict(tmp_path)
    assert sample_of(read_table(file), "x", "other") == "x has no other"
