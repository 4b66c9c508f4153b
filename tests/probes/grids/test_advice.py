"""Advice never goes beyond its evidence: the published mask unless a race shows another one to be
better, by more than seeds and test images could undo."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lcmae.probes.grids.advice import Advice, Baselines, RaceEvidence, decide, untested, words
from lcmae.probes.grids.table import read_table, write_table
from lcmae.probes.grids.verdict import PUBLISHED, verdict

COLUMNS = {
    "mean_knn": ("kNN accuracy, mean token", "share of test images"),
    "num_test_images": ("test images behind the accuracies", "images"),
}
Levels = dict[tuple[float, int], float]


def table(folder: Path, levels: Levels, *, noise: float = 0.004, images: int = 2000, seeds: int = 5) -> xr.Dataset:
    rng, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        for (ratio, unit), level in levels.items():
            knn = round((level + noise * rng.normal()) * images) / images
            row: dict[str, Any] = {
                "run": f"{ratio}-{unit}-s{seed}", "status": "done", "objective": "mae", "mask": "random", "ratio": ratio,
                "unit": unit, "seed": seed, "data": "d", "mean_knn": knn, "num_test_images": float(images),
                "train_seconds": 1.0, "probe_seconds": 0.0,
            }  # fmt: skip
            rows.append(row)
    write_table(rows, COLUMNS, folder / "table.parquet")
    return read_table(folder / "table.parquet")


def advice(folder: Path, levels: Levels, *, untrained: float = 0.3, **more: Any) -> Advice:
    found = verdict(table(folder, levels, **more), "mean_knn", PUBLISHED)
    return decide(RaceEvidence(found, (), "a small ViT", (), Baselines((untrained,) * 5, 0.4)))


FLAT = {(0.5, 1): 0.6, (0.75, 1): 0.6, (0.5, 2): 0.6, (0.75, 2): 0.6}


def test_a_mask_that_is_better_beyond_doubt_is_advised(tmp_path: Path) -> None:
    found = advice(tmp_path, {**FLAT, (0.5, 2): 0.75})
    assert found.key == ("mae", "random", 0.5, 2)
    assert found.grounds == "better"
    assert found.headline.startswith("Random 0.5 in units of 2 patches: 7")
    assert found.alternatives == ()
    assert any("Mask units of 1 patches are ruled out as the best; 2 may be." in line for line in found.reasons)


def test_the_published_mask_stays_where_nothing_is_better(tmp_path: Path) -> None:
    found = advice(tmp_path, FLAT)
    assert (found.key, found.grounds) == (PUBLISHED, "not ruled out")
    assert "no tested mask is better beyond chance" in found.headline
    assert "random 0.75 in units of 2 patches" in {words(key) for key in found.alternatives}
    assert PUBLISHED not in found.alternatives
    assert any("The mask unit is undecided" in line for line in found.reasons)


def test_few_test_images_cannot_replace_it(tmp_path: Path) -> None:
    # sure over seeds, but 100 other test images could bring it back:
    # 0.1 < 1.96 sqrt(2 0.6 0.4 / 100) = 0.14
    levels = {**FLAT, (0.5, 2): 0.7}
    assert advice(tmp_path, levels, images=2000).grounds == "better"
    found = advice(tmp_path, levels, images=100)
    assert (found.key, found.grounds) == (PUBLISHED, "not ruled out")
    assert "not by enough to be sure on other images" in found.headline
    assert ("mae", "random", 0.5, 2) in found.alternatives


def test_networks_that_know_no_more_than_untrained_ones_decide_nothing(tmp_path: Path) -> None:
    found = advice(tmp_path, {**FLAT, (0.5, 2): 0.75}, untrained=0.76)
    assert (found.key, found.grounds) == (PUBLISHED, "published")
    assert "could not tell masks apart" in found.headline
    assert "untrained networks 76.0%" in found.reasons[0]


def test_two_seeds_say_that_they_are_provisional(tmp_path: Path) -> None:
    found = advice(tmp_path, FLAT, seeds=2)
    assert any("2 seeds of each mask are valid but nearly powerless" in line for line in found.unknown)


def test_without_a_test_the_headline_says_so() -> None:
    found = untested("There was no time.")
    assert found.headline == "Random 0.75, as published; not tested on your images."
    assert found.to_json()["mask"] == {"objective": "mae", "mask": "random", "ratio": 0.75, "unit": 1}


@pytest.mark.parametrize("seed", range(3))
def test_chance_seldom_replaces_the_published_mask(tmp_path: Path, seed: int) -> None:
    """Forty grids of equal masks whose seeds alone differ: at most a few are called better."""
    rng = np.random.default_rng(seed)
    wrong = 0
    for number in range(40):
        shifts = {key: value + 0.0 for key, value in FLAT.items()}
        folder = tmp_path / str(number)
        folder.mkdir()
        base = table(folder, shifts)
        noisy = base["mean_knn"].values + 0.01 * rng.normal(size=base.sizes["row"])
        found = verdict(base.assign(mean_knn=base["mean_knn"].copy(data=noisy)), "mean_knn", PUBLISHED)
        wrong += decide(RaceEvidence(found, (), "", (), Baselines((0.3,)))).grounds == "better"
    assert wrong <= 2
