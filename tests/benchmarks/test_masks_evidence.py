"""The evidence on masks: a rule's difference is the one that the cells have, its verdict follows
its interval, and both files say what is not there."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from benchmarks import masks_evidence
from benchmarks.mask_rules import GRID_RULES, OTHER_RULES, Rule, from_claims, judge, judge_all
from benchmarks.masks_evidence import LINES, command, left_out, main, masks_page, rules_page
from lcmae.app.cli import main as lcmae
from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.commands.compare import CompareArguments, split_lists
from lcmae.probes.grids.cells import cells
from lcmae.probes.grids.configs import config_of
from lcmae.probes.grids.table import ABOUT, TABLE, read_table, write_table

COLUMNS = {"mean_knn": ("kNN accuracy, mean token", "share of test images")}
LEVELS = {("random", 0.25, 1): 0.5, ("random", 0.5, 1): 0.7, ("random", 0.75, 1): 0.7, ("random", 0.9, 1): 0.4,
          ("random", 0.25, 2): 0.4, ("random", 0.5, 2): 0.6, ("random", 0.75, 2): 0.45, ("block", 0.5, None): 0.5,
          ("block", 0.75, None): 0.8}  # fmt: skip
LARGE, NOT_TOO_LARGE, THREE_QUARTERS, BLOCKS = GRID_RULES[:4]


def rows(seeds: int, noise: float = 0.003) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = []
    for (mask, ratio, unit), level in LEVELS.items():
        for seed in range(seeds):
            knn = level + 0.02 * seed + noise * rng.normal()
            found.append(
                {"run": f"mae-{mask}-{ratio}-{unit}-s{seed}", "objective": "mae", "mask": mask, "ratio": ratio, "unit": unit,
                 "seed": seed, "status": "done", "mean_knn": knn, "data": "digits", "epochs": 48, "steps": 528,
                 "train_seconds": 30.0, "probe_seconds": 1.0}
            )  # fmt: skip
    return found


def table(folder: Path, seeds: int = 5, noise: float = 0.003) -> xr.Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(rows(seeds, noise), COLUMNS, folder / TABLE)
    return read_table(folder / TABLE)


def test_a_rule_is_the_difference_of_its_cells(tmp_path: Path) -> None:
    grid = table(tmp_path)
    found = {one.rule.name: one for one in judge_all({"digits": grid})}
    assert found[LARGE.name].word == "holds"
    assert found[LARGE.name].difference == pytest.approx(20, abs=1)
    assert found[LARGE.name].low < found[LARGE.name].difference < found[LARGE.name].high
    assert found[NOT_TOO_LARGE.name].word == "holds"
    assert found[THREE_QUARTERS.name].word == "not decidable"
    assert found[BLOCKS.name].word == "contradicted"
    assert found["A larger unit wants a smaller ratio"].word == "holds"
    assert found["A larger unit is better"].word == "contradicted"
    assert "Random masks are better than a grid at 0.75" not in found, "its cells are not there"


def test_a_rule_of_one_seed_has_no_verdict(tmp_path: Path) -> None:
    found = judge(LARGE, table(tmp_path, seeds=1), "digits", "mean_knn", 1)
    assert math.isnan(found.low)
    assert found.word == "not decidable"
    assert "no interval" in found.row()


def test_intervals_hold_for_all_rules_together(tmp_path: Path) -> None:
    grid = table(tmp_path)
    alone, together = (judge(LARGE, grid, "digits", "mean_knn", number) for number in (1, 16))
    assert alone.difference == together.difference
    assert together.low < alone.low < alone.high < together.high


def test_an_interval_covers_its_difference_in_95_of_100_grids(tmp_path: Path) -> None:
    """By simulation: a difference of four cells on the scale of the verdict, noise of 3 points."""
    rule = next(one for one in GRID_RULES if len(one.weights) == 4)
    names = list(LEVELS)
    base = read_table_of(tmp_path)
    rng = np.random.default_rng(1)
    truth = 0.6 + 0.0 * np.arange(len(names))
    covered = 0
    for _ in range(200):
        knn = truth[:, None] + 0.02 * rng.normal(size=3) + 0.03 * rng.normal(size=(len(names), 3))
        grid = base.assign(mean_knn=("row", knn.ravel(), base["mean_knn"].attrs))
        found = judge(rule, grid, "digits", "mean_knn", 1)
        covered += found.low <= 0 <= found.high
    assert covered >= 0.93 * 200


def read_table_of(folder: Path) -> xr.Dataset:
    """The grid with three seeds."""
    return table(folder, seeds=3)


def test_weights_sum_to_zero_and_rules_say_what_they_are() -> None:
    for rule in GRID_RULES:
        assert sum(weight for weight, *_ in rule.weights) == pytest.approx(0)
        assert rule.source
        assert rule.words.endswith(".")
    assert len({rule.name for rule in (*GRID_RULES, *OTHER_RULES)}) == len(GRID_RULES) + len(OTHER_RULES)
    assert isinstance(GRID_RULES[0], Rule)


@pytest.mark.parametrize("data", sorted(LINES))
def test_the_lines_are_grids_that_can_be_trained_and_have_the_cells_of_the_rules(data: str) -> None:
    words = split_lists(command(data, 2).split()[2:])
    options = parse_arguments(CompareArguments, words, command="compare")
    grid = CompareArguments.model_validate(options)
    every = cells(grid)
    assert len(every) == 2 * 20
    known = {(cell.mask, cell.ratio, cell.unit or 1) for cell in every}
    assert all((mask, ratio, unit) in known for rule in GRID_RULES for _, mask, ratio, unit in rule.weights)
    for cell in every[:20]:
        config_of(grid, cell)


def test_claims_are_read_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "claims.md"
    file.write_text(
        "Written by this command. 8 seeds; 1 minute of training.\n\n"
        "| **umae-linear**: Words. | linear | - | -0.0037 [-0.0424, +0.035] share | above 0 | – not decidable: it |\n"
    )
    assert from_claims(("umae-linear", "nothing"), file) == (
        " Claims, 8 seeds: *umae-linear* -0.0037 [-0.0424, +0.035] share: not decidable: it."
    )
    assert from_claims((), file) == ""


def test_runs_are_kept_without_their_weights_and_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "limit=40 batch_size=16 monitor_images=40 model.image_size=8 model.patch_size=2 model.width=16"
    small += " model.depth=1 model.heads=2 model.decoder_width=16 model.decoder_depth=1 model.decoder_heads=2"
    line = f"--masks random --ratios 0.5,0.75 --probes none --epochs 1 --set {small}"
    monkeypatch.setattr(masks_evidence, "LINES", {"digits": line})
    docs = str(tmp_path / "docs")
    assert main(["--train", "digits", "--seeds", "2", "--runs", str(tmp_path / "here"), "--docs", docs]) == 0
    first = read_table(tmp_path / "here" / "digits" / TABLE)
    capsys.readouterr()

    monkeypatch.setattr("lcmae.probes.grids.run.run_cell", lambda job: pytest.fail(f"{job.cell.name} is trained again"))
    assert main(["--train", "digits", "--seeds", "2", "--runs", str(tmp_path / "there"), "--docs", docs]) == 0
    assert "0.5" in capsys.readouterr().out
    assert not list((tmp_path / "there").rglob("*.safetensors"))
    assert read_table(tmp_path / "there" / "digits" / TABLE).equals(first)

    assert lcmae(["compare", "--matrix", str(tmp_path / "here" / "digits")]) == 0
    for runs in ("here", "elsewhere"):  # the second has nothing but what the first kept
        assert main(["--write", "--runs", str(tmp_path / runs), "--docs", docs]) == 0
        page = (tmp_path / "docs" / "results" / "masks.md").read_text()
        assert "4 runs of 1 epochs (2 steps), 2 seeds per cell" in page
        assert "Untrained networks reach" in page
        assert "Tested at other ratios than trained at" in page


def test_what_was_kept_outlasts_a_signal_and_a_training_that_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, file = tmp_path / "runs", tmp_path / "docs" / "results" / "masks" / "digits.jsonl.gz"
    arguments = ["--train", "digits", "--runs", str(runs), "--docs", str(tmp_path / "docs")]
    monkeypatch.setattr(masks_evidence, "train", lambda *_: 2)
    assert main(arguments) == 2
    assert not file.exists(), "nothing was done, so nothing is kept"

    def stopped(*_: object) -> int:
        cell = runs / "digits" / "mae-random-0.5-s0" / "cell.json"
        cell.parent.mkdir(parents=True)
        cell.write_text('{"asked": {}, "row": {"run": "mae-random-0.5-s0"}, "columns": {}}')
        raise SystemExit(143)

    monkeypatch.setattr(masks_evidence, "train", stopped)
    with pytest.raises(SystemExit):
        main(arguments)
    assert file.is_file()


def test_a_comparison_that_was_stopped_before_a_run_was_done_was_not_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "cifar10").mkdir(parents=True)
    write_table([{"run": "mae-random-0.5-s0", "status": "stopped"}], {}, tmp_path / "runs" / "cifar10" / TABLE)
    assert main(["--write", "--runs", str(tmp_path / "runs"), "--docs", str(tmp_path / "docs")]) == 0
    assert "**cifar10**: not run. `lcmae compare" in (tmp_path / "docs" / "results" / "masks.md").read_text()


def test_the_files_say_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks_evidence, "baselines", lambda *_: ({"mean_knn": 0.45}, {"mean_knn": 0.9}))
    table(tmp_path / "runs" / "digits", seeds=2)
    asked = '{"settings": {"seeds": 5}, "cells": [' + ", ".join(f'"c{it}"' for it in range(45)) + "]}"
    (tmp_path / "runs" / "digits" / "comparison.json").write_text(asked)
    assert main(["--write", "--runs", str(tmp_path / "runs"), "--docs", str(tmp_path / "docs")]) == 0
    page = (tmp_path / "docs" / "results" / "masks.md").read_text()
    assert "**digits**: 27 of its 45 runs are missing; 2 seeds per cell where five are advised." in page
    assert "**cifar10**: not run. `lcmae compare" in page
    assert "Untrained networks reach 45.0%, raw pixels 90.0%" in page
    assert "Provisional: 2 seeds" in page
    rules = (tmp_path / "docs" / "design-rules.md").read_text()
    assert f"{len(OTHER_RULES)} rules were not tested here" in rules
    assert all(f"| {rule.name} |" in rules for rule in OTHER_RULES)
    assert all(
        len(line) <= 132
        for line in page.splitlines()
        if not line.startswith(("|", "-", "**", "Untrained", "Interval", " "))
    )
    nothing = dict.fromkeys(LINES)
    assert "0 hold, 0 are contradicted" in rules_page(nothing)
    assert len(left_out(nothing)) == len(LINES) + 1
    assert masks_page(nothing, tmp_path).startswith("# Which mask")
    assert "train_seconds" in ABOUT
