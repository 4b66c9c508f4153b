"""Races and advice as commands, and advice that is read back."""

import json
from pathlib import Path

import pytest

from lcmae.app.commands.advise import AdviseArguments
from lcmae.app.dashboard.stored import race_plans
from lcmae.errors import InputError
from lcmae.probes.grids.cells import Comparison


def test_a_race_is_a_command_of_compare(tmp_path: Path):
    plan = race_plans.race(tmp_path, ["random", "block"], [0.75, 0.5], "digits", 24, 1000)
    assert plan.folder == tmp_path / "race"
    assert plan.line == (
        "lcmae compare --race --masks random,block --ratios 0.5,0.75 --data digits --epochs 24 --set limit=1000 "
        f"--out {tmp_path / 'race'}"
    )
    plan.folder.mkdir()
    assert race_plans.race(tmp_path, ["random", "block"], [0.75, 0.5], "digits", 24).folder == tmp_path / "race-2"
    effort = race_plans.effort(["random", "block"], [0.75, 0.5], 24)
    assert effort.startswith("4 cells; at most 36 short runs (12 of 3, of 6 and of 24 epochs)")


def test_few_images_are_trained_on_in_small_batches(tmp_path: Path):
    plan = race_plans.race(tmp_path, ["random", "block"], [0.75, 0.5], "digits", 8, 100)
    assert "--set limit=100 batch_size=32 --images 100 --out" in plan.line
    assert Comparison.model_fields["images"].default == race_plans.PROBED


def test_fewer_cells_than_a_race_has_are_a_comparison(tmp_path: Path):
    plan = race_plans.race(tmp_path, ["random", "block"], [0.75], "digits", 1)
    assert plan.line == (
        "lcmae compare --seeds 3 --masks random,block --ratios 0.75 --data digits --epochs 1 --out "
        f"{tmp_path / 'comparison'}"
    )


def test_rungs_of_a_race_in_words(tmp_path: Path):
    assert race_plans.rungs(tmp_path) == []
    cells = [{"cell": ["mae", "random", 0.75, 1], "mean": 0.1, "goes_on": number < 3} for number in range(4)]
    stored = {"rungs": [{"seeds": 3, "epochs": 1, "cells": cells}, {"seeds": True, "epochs": "x", "cells": [3]}]}
    (tmp_path / "race.json").write_text(json.dumps(stored))
    assert race_plans.rungs(tmp_path) == ["rung 1: 3 seeds of 1 epoch; 3 of 4 cells go on"]
    second = {"seeds": 3, "epochs": 2, "cells": cells[:3], "returned": [["mae", "random", 0.75, 1]]}
    (tmp_path / "race.json").write_text(json.dumps({"rungs": [stored["rungs"][0], second]}))
    assert race_plans.rungs(tmp_path)[1] == (
        "rung 2: 3 seeds of 2 epochs; 3 of 3 cells go on, and 1 that rung 1 had dropped"
    )


@pytest.mark.parametrize(
    ("masks", "ratios", "epochs"),
    [(["random"], [0.75], 24), ([], [0.5, 0.75], 24), (["random", "grid"], [0.5, 0.6], 7)],
)
def test_what_cannot_race_is_refused(tmp_path: Path, masks: list[str], ratios: list[float], epochs: int):
    with pytest.raises(InputError, match="expected at least"):
        race_plans.race(tmp_path, masks, ratios, "digits", epochs)


def test_advice_is_a_command_that_parses(tmp_path: Path):
    plan = race_plans.advice(tmp_path, "folder:/my photos", 5, 40)
    assert plan.words[0] == "advise"
    assert "'folder:/my photos'" in plan.line
    named = dict(zip(plan.words[1::2], plan.words[2::2], strict=True))
    read = AdviseArguments(data=named["--data"], minutes=float(named["--minutes"]), images=int(named["--images"]))
    assert (read.minutes, read.images) == (5, 40)


def write(folder: Path, content: object) -> None:
    folder.mkdir(parents=True)
    (folder / "advice.json").write_text(json.dumps(content))


def test_advice_is_found_and_what_is_none_is_left_out(tmp_path: Path):
    given = {"headline": "Take random 0.75.", "grounds": "untested", "reasons": ["a", "b"], "alternatives": ["block, 0.5"],
             "unknown": ["c"]}  # fmt: skip
    write(tmp_path / "one", {"advice": given, "command": "lcmae train mae-digits"})
    write(tmp_path / "group" / "two", {"question": {}})
    write(tmp_path / "three", {"advice": {"headline": 3}})
    write(tmp_path / "four", ["advice"])
    (tmp_path / "five").mkdir()
    (tmp_path / "five" / "advice.json").write_text("{")
    found = race_plans.advice_below(tmp_path)
    assert list(found) == ["one"]
    one = found["one"]
    assert (one.headline, one.reasons, one.unknown) == ("Take random 0.75.", ("a", "b"), ("c",))
    assert one.command == "lcmae train mae-digits"
    assert one.page == tmp_path / "one" / "advice.html"


def test_foreign_text_is_bounded_and_prints(tmp_path: Path):
    write(tmp_path / "one", {"advice": {"headline": "x\n" * 9000, "reasons": ["\x1b[31m"] * 99, "unknown": "no list"}})
    one = race_plans.advice_below(tmp_path)["one"]
    assert len(one.headline) <= 1000
    assert "\n" not in one.headline
    assert len(one.reasons) == race_plans.MOST_LINES
    assert one.unknown == ()
