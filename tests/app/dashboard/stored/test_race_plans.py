"""Races and advice as commands, and advice that is read back."""

import json
from pathlib import Path

import pytest

from lcmae.app.commands.advise import AdviseArguments
from lcmae.app.dashboard.stored import race_plans
from lcmae.errors import InputError


def test_a_race_is_a_command_of_compare(tmp_path: Path):
    plan = race_plans.race(tmp_path, ["random", "block"], [0.75, 0.5], "digits", 24, 300)
    assert plan.folder == tmp_path / "race"
    assert plan.line == (
        "lcmae compare --race --masks random,block --ratios 0.5,0.75 --data digits --epochs 24 --set limit=300 "
        f"--out {tmp_path / 'race'}"
    )
    plan.folder.mkdir()
    assert race_plans.race(tmp_path, ["random", "block"], [0.75, 0.5], "digits", 24).folder == tmp_path / "race-2"
    effort = race_plans.effort(["random", "block"], [0.75, 0.5], 24)
    assert effort.startswith("4 cells; at most 36 short runs (12 of 3, of 6 and of 24 epochs)")


@pytest.mark.parametrize(
    ("masks", "ratios", "epochs"),
    [(["random", "block", "grid"], [0.75], 24), ([], [0.5, 0.75], 24), (["random", "grid"], [0.5, 0.75], 7)],
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
