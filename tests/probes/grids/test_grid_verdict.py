"""Verdicts of a table: the answer in words, the baseline, what is provisional, and what it costs to
know more."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.grids.table import read_table, write_table
from lcmae.probes.grids.verdict import baseline_of, parse_baseline, verdict

LEVELS = {
    ("random", 0.5): 0.85,
    ("grid", 0.5): 0.85,
    ("random", 0.75): 0.82,
    ("block", 0.75): 0.7,
    ("window", 0.9): 0.4,
}
COLUMNS = {
    "mean_knn": ("kNN accuracy, mean token", "share of test images"),
    "num_test_images": ("test images behind the accuracies", "images"),
    "spectrum.effective_rank": ("effective rank", "dimensions"),
    "other.number": ("a number", "1"),
}


def table(folder: Path, seeds: int = 5, *, noise: float = 0.01, drop: tuple[str, ...] = ()) -> xr.Dataset:
    rng, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        for (mask, ratio), level in LEVELS.items():
            name = f"mae-{mask}-{ratio:g}-s{seed}"
            row: dict[str, Any] = {
                "run": name, "status": "failed" if name in drop else "done", "objective": "mae", "mask": mask,
                "ratio": ratio, "unit": 1 if mask == "random" else None, "seed": seed, "data": "digits",
                "train_seconds": 60.0, "probe_seconds": 0.0,
            }  # fmt: skip
            if name not in drop:
                share = round((level + noise * rng.normal()) * 1000) / 1000
                row |= {"mean_knn": share, "num_test_images": 1000.0, "spectrum.effective_rank": 10 * share + 1}
                row |= {"other.number": float(rng.normal())}
            rows.append(row)
    write_table(rows, COLUMNS, folder / "table.parquet")
    return read_table(folder / "table.parquet")


def test_the_answer_stands_in_a_sentence(tmp_path: Path) -> None:
    found = verdict(table(tmp_path), "mean_knn")
    assert found.baseline == ("mae", "random", 0.75, 1)
    assert {key[1:3] for key in found.best} == {("random", 0.5), ("grid", 0.5)}
    words = {cell.key[1:3]: cell.word for cell in found.cells}
    assert words == {
        ("random", 0.5): "higher", ("grid", 0.5): "higher", ("random", 0.75): "baseline", ("block", 0.75): "lower",
        ("window", 0.9): "lower",
    }  # fmt: skip
    sentence = found.sentence()
    assert "may be the best; random 0.75, block 0.75 and window 0.9 are not" in sentence
    assert "; against random 0.75, the baseline, 2 are better and 2 are worse." in sentence
    assert "undecided" not in sentence
    assert [cell.mean for cell in found.cells] == sorted((cell.mean for cell in found.cells), reverse=True)


def test_intervals_are_in_the_measures_unit(tmp_path: Path) -> None:
    found = verdict(table(tmp_path), "mean_knn")
    for cell in found.cells:
        assert 0 <= cell.low <= cell.mean <= cell.high <= 1
        assert cell.change_low <= cell.change <= cell.change_high
        assert cell.mean == pytest.approx(LEVELS[cell.key[1], cell.key[2]], abs=0.02)
    ranks = verdict(table(tmp_path), "spectrum.effective_rank")
    assert ranks.scale == "logarithm"
    window = next(cell for cell in ranks.cells if cell.key[1] == "window")
    assert window.change == pytest.approx(5 / 9.2, abs=0.05)  # a ratio


def test_two_seeds_are_provisional_and_more_are_offered_with_their_cost(tmp_path: Path) -> None:
    found = verdict(table(tmp_path, 2, noise=0.05), "mean_knn")
    assert found.is_provisional
    assert any("--seeds 5" in note for note in found.notes())
    assert found.minutes_a_seed == pytest.approx(5)
    sentence = found.sentence()
    assert "undecided" in sentence
    assert "would probably decide" in sentence
    assert "minutes" in sentence


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    found = verdict(table(tmp_path, 1), "mean_knn")
    assert all(math.isnan(cell.low) for cell in found.cells)
    assert len(found.best) == len(found.cells)
    assert "One seed says nothing about chance" in found.notes()[0]


def test_missing_runs_are_left_out_and_say_so_in_the_count(tmp_path: Path) -> None:
    found = verdict(table(tmp_path, drop=("mae-grid-0.5-s1", "mae-grid-0.5-s2")), "mean_knn")
    assert {cell.key[1]: cell.num_seeds for cell in found.cells}["grid"] == 3


def test_a_number_without_a_better_end_has_no_best(tmp_path: Path) -> None:
    found = verdict(table(tmp_path), "other.number")
    assert found.direction == 0
    assert all(cell.may_be_best is None for cell in found.cells)
    assert "best" not in found.sentence()


def test_the_baseline_is_asked_for_or_published() -> None:
    keys = [
        ("umae", "block", 0.5, None),
        ("mae", "random", 0.5, 1),
        ("mae", "random", 0.8, 1),
        ("mae", "random", 0.8, 2),
    ]
    assert baseline_of(keys) == 2  # nearest to the published 0.75
    assert baseline_of(keys[:1]) == 0
    # without random masks it is the nearest ratio of MAE, and never whatever stands first
    others = [("simmim", "block", 0.75, None), ("mae", "window", 0.25, None), ("mae", "block", 0.7, None),
              ("mae", "window", 0.8, None)]  # fmt: skip
    assert others[baseline_of(others)] == ("mae", "block", 0.7, None)
    assert others[::-1][baseline_of(others[::-1])] == ("mae", "block", 0.7, None)
    assert baseline_of(keys, keys[0]) == 0
    assert parse_baseline("random, 0.5", keys) == keys[1]
    assert parse_baseline("mae, random, 0.8", keys) == keys[2]
    assert parse_baseline("unit 2", keys) == keys[3]
    with pytest.raises(InputError, match="expected --baseline with the words of one cell"):
        parse_baseline("mae", keys)
    with pytest.raises(InputError, match=r"expected a baseline out of umae, block, 0\.5"):
        baseline_of(keys, ("mae", "grid", 0.5, None))


def test_a_measure_that_no_run_has_is_refused(tmp_path: Path) -> None:
    found = table(tmp_path)
    with pytest.raises(InputError, match="expected runs with train_seconds, got none"):
        verdict(found.assign(status=found["status"].copy(data=np.full(found.sizes["row"], "failed"))), "train_seconds")
