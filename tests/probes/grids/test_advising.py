"""Advice within a time: the plan fits, what was not reached is not used, the command reads, and the
made-up images with a known part size get the unit that is better there, or none."""

import json
import math
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.app.cli import main
from lcmae.app.commands import train
from lcmae.errors import InputError
from lcmae.probes.grids import advising
from lcmae.probes.grids import run as running
from lcmae.probes.grids.advising import DESIGNS, Design, Pace, Question, advise, least_minutes, plan
from lcmae.probes.grids.cells import SETTINGS, Cell, Comparison
from lcmae.probes.grids.command import train_command
from lcmae.probes.grids.configs import config_of
from lcmae.probes.grids.racing import RaceResult, Rung, race
from lcmae.probes.grids.run import compare
from lcmae.probes.grids.table import TABLE, write_table
from lcmae.probes.jobs.executors import Engine
from lcmae.training.monitor import Monitor

HIERARCHY = "hierarchy:images=128"
COLUMNS = {
    "mean_knn": ("kNN accuracy, mean token", "share of test images"),
    "mean_linear": ("ridge accuracy, mean token", "share of test images"),
    "num_test_images": ("test images behind the accuracies", "images"),
}


@pytest.fixture(autouse=True)
def _few_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """One ratio and one unit: the statistics are tested elsewhere."""
    monkeypatch.setattr(advising.image_statistics, "RATIOS", (0.75,))
    monkeypatch.setattr(advising.image_statistics, "UNITS", (1,))


# --- the plan ---


paces = st.builds(Pace, st.floats(0.001, 1), st.floats(0.5, 20), st.floats(0, 600))


@given(seconds=st.floats(0, 20_000), workers=st.integers(1, 8), pace=paces)
def test_a_plan_fits_into_the_time_if_no_cell_is_dropped(seconds: float, workers: int, pace: Pace) -> None:
    design, steps = plan(seconds, workers, pace)
    if design is None:
        assert steps == 0
        return
    of_run, of_step = pace.seconds_a_run, pace.seconds_a_step
    work = sum(design.num_cells * rung.seeds * (of_run + rung.share * steps * of_step) for rung in design.rungs)
    assert work / workers + design.rungs[-1].seeds * pace.seconds_a_baseline <= seconds
    assert steps >= design.least_steps


@given(workers=st.integers(1, 8), pace=paces)
def test_the_minutes_that_are_asked_for_bring_a_race(workers: int, pace: Pace) -> None:
    """Another call has 15 s kept free, and begins; what it found timed, it does not time again."""
    seconds = 60.0 * least_minutes(pace, workers)
    assert plan(seconds - 15 - 60, workers, pace)[0] is not None
    work = 12 * (pace.seconds_a_run + DESIGNS[-1].least_steps * pace.seconds_a_step)
    least = work / workers + 3 * pace.seconds_a_baseline
    assert plan(0.99 * least, workers, pace)[0] is None


def test_a_machine_thirty_times_slower_has_a_race_in_the_rest_of_twenty_minutes() -> None:
    """200 photographs on two cores beside other work at a load of 12: what the pilot timed."""
    design, steps = plan(900.0, 2, Pace(0.96, 10.9, 20.0))
    assert design == DESIGNS[-1]
    assert steps >= DESIGNS[-1].least_steps


def test_more_time_makes_a_larger_race() -> None:
    chosen = [plan(60.0 * minutes, 2, Pace(0.03, 3.0))[0] for minutes in (0.5, 8, 12, 30, 60, 240)]
    sizes = [0 if design is None else DESIGNS[::-1].index(design) + 1 for design in chosen]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert sizes[-1] == len(DESIGNS)


def test_designs_count_their_cells() -> None:
    for design in DESIGNS:
        grid = Comparison(masks=design.masks, ratios=design.ratios, units=design.units)
        assert len({cell.settings for cell in advising.cells(grid)}) == design.num_cells
        assert design.num_cells >= 4
        for cell in advising.cells(grid):
            config_of(grid.model_copy(update={"data": "hierarchy", "recipes": "hierarchy", "epochs": 1}), cell)


# --- deadlines ---


def test_after_the_deadline_no_run_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run_cell(job: Any) -> dict[str, Any]:
        ran.append(job.cell.name)
        clock[0] += 10
        return {"row": {**running.settings_row(job.cell), "status": "done", "mean_knn": 0.5}, "columns": COLUMNS}

    clock = [time.monotonic()]
    monkeypatch.setattr(running, "run_cell", run_cell)
    monkeypatch.setattr(running.time, "monotonic", lambda: clock[0])
    grid = Comparison(ratios=(0.25, 0.5, 0.75), seeds=2, probes=("none",))
    found = compare(grid, tmp_path, Engine(), deadline=clock[0] + 25)
    assert len(ran) == 3
    assert found.out_of_time
    assert found.stopped_by is None
    late = race(grid.model_copy(update={"units": (1, 2)}), tmp_path / "race", Engine(), deadline=clock[0] - 1)
    assert late.out_of_time
    assert late.rungs == []
    assert len(ran) == 3


def test_a_pilot_that_has_no_time_begins_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run_cell", lambda job: pytest.fail(f"{job.cell.name} ran"))
    base = Comparison(data=HIERARCHY, recipes="hierarchy", probes=("none",))
    assert advising.measure_pace(base, tmp_path, Engine(), None, 4, None, time.monotonic() - 1) is None
    given = Question(data=HIERARCHY, images=40, minutes=3)
    found = advise(given, tmp_path / "out", workers=1, started=time.monotonic() - 179)
    assert found.tested is None
    assert any("too few to time a training step" in line for line in found.advice.reasons)


def rung(folder: Path, runs: dict[str, float], names: list[str]) -> None:
    folder.mkdir()
    rows = []
    for name, knn in runs.items():
        ratio, seed = name.removeprefix("mae-random-").split("-s")
        rows.append(
            {"run": name, "status": "done", "objective": "mae", "mask": "random", "ratio": float(ratio), "unit": 1,
             "seed": int(seed), "data": "d", "mean_knn": knn}
        )  # fmt: skip
    write_table(rows, COLUMNS, folder / TABLE)
    (folder / SETTINGS).write_text(json.dumps({"cells": names}))


def test_a_rung_counts_when_each_cell_has_two_seeds(tmp_path: Path) -> None:
    names = [f"mae-random-{ratio}-s{seed}" for seed in range(3) for ratio in (0.5, 0.75)]
    rung(tmp_path / "rung-1", dict.fromkeys(names, 0.5), names)
    rung(tmp_path / "rung-2", dict.fromkeys(names[:3], 0.6), names)  # one cell has one seed: too few
    first = advising.last_table(tmp_path, 3)
    assert first is not None
    assert first["mean_knn"].values.tolist() == [0.5] * 6
    rung(tmp_path / "rung-3", dict.fromkeys(names[:5], 0.7), names)
    last = advising.last_table(tmp_path, 3)
    assert last is not None
    assert sorted(last["run"].values) == sorted(names[:5])
    assert advising.last_table(tmp_path / "nowhere", 3) is None


def test_baselines_look_at_raw_pixels_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    raw_pixels = Monitor.raw_pixels
    monkeypatch.setattr(Monitor, "raw_pixels", lambda self: looked.append(1) or raw_pixels(self))
    question = Question(data="hierarchy:images=64", images=40)
    base = advising._comparison(question, advising._open(question), 40).model_copy(update={"epochs": 1})
    found = advising._baselines(base, 3, "mean_linear")
    assert len(set(found.untrained)) > 1, "each seed has weights of its own"
    assert len(found.untrained) == 3
    assert 0 < found.pixels <= 1
    assert looked == [1], "pixels do not change with the seed"


# --- the command ---


@pytest.mark.parametrize("key", [("mae", "random", 0.75, 1), ("mae", "random", 0.5, 2), ("mae", "window", 0.25, None)])
def test_the_command_is_the_config_that_was_tested(key: tuple[Any, ...]) -> None:
    question = Question(data="hierarchy:images=64", images=40)
    base = advising._comparison(question, advising._open(question), 40).model_copy(update={"epochs": 7})
    words = shlex.split(train_command(base, key))
    assert words[:3] == ["lcmae", "train", "mae-cifar10-small"]
    options, fields = train._own_options().parse_known_args(words[3:])
    found = train._config("mae-cifar10-small", options, fields)
    wanted = config_of(base, Cell(key[1], key[2], key[3], "mae", 0)).model_copy(update={"checkpoint_every": 0})
    assert found.warmup_epochs == pytest.approx(wanted.warmup_epochs, rel=0.05)
    assert words[words.index("--warmup-epochs") + 1] == "0.58"  # of 7 epochs a twelfth, in two digits
    assert found.model_copy(update={"warmup_epochs": wanted.warmup_epochs}) == wanted


def test_a_long_warm_up_is_whole_epochs() -> None:
    question = Question(data="hierarchy:images=64", images=40)
    base = advising._comparison(question, advising._open(question), 40).model_copy(update={"epochs": 400})
    words = shlex.split(train_command(base, ("mae", "random", 0.75, 1)))
    assert words[words.index("--warmup-epochs") + 1] == "33"


# --- the whole of it ---


def test_little_time_gets_the_published_mask_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "advise"
    words = ["advise", "--data", HIERARCHY, "--images", "40", "--minutes", "0.2", "--out", str(out), "--workers", "1"]
    begin = time.monotonic()
    assert main(words) == 0
    assert time.monotonic() - begin < 60
    text = capsys.readouterr().out
    assert text.startswith("Random 0.75, as published; not tested on your images.")
    assert "lcmae train mae-cifar10-small --data hierarchy:images=128" in text
    page = (out / "advice.html").read_text()
    assert "not tested on your images" in page
    assert 'src="http' not in page
    assert not (out / "rung-1").exists()
    stored = json.loads((out / "advice.json").read_text())
    assert stored["advice"]["grounds"] == "published"
    # another question needs another folder
    assert main([*words[:2], "digits", *words[3:]]) == 2
    assert "choose another --out" in capsys.readouterr().err


@pytest.mark.slow
def test_images_without_classes_get_statistics_and_no_race(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "photos.npy", np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8))
    words = ["advise", "--data", str(tmp_path / "photos.npy"), "--minutes", "3", "--out", str(tmp_path / "out")]
    assert main([*words, "--workers", "1"]) == 0
    text = capsys.readouterr().out
    assert "not tested on your images" in text
    assert "The images have no classes to compare features by." in text


def answering(monkeypatch: pytest.MonkeyPatch, levels: dict[tuple[float, int], float]) -> None:
    """Cells that take no time, at these accuracies."""

    def run_cell(job: Any) -> dict[str, Any]:
        rng = np.random.default_rng([job.cell.seed, int(100 * job.cell.ratio), job.cell.unit or 1])
        share = levels.get((job.cell.ratio, job.cell.unit or 1), 0.5) + 0.005 * rng.normal()
        row = {
            **running.settings_row(job.cell), "unit": job.cell.unit or 1, "status": "done", "mean_knn": share,
            "mean_linear": share, "num_test_images": 5000.0, "image_mask_pairs": 1, "train_seconds": 0.1,
            "probe_seconds": 0.0, "steps": 10, "epochs": job.config["epochs"],
        }  # fmt: skip
        return {"row": row, "columns": COLUMNS}

    monkeypatch.setattr(running, "run_cell", run_cell)
    monkeypatch.setattr(advising, "_baselines", lambda *_: advising.Baselines((0.3,), 0.4))


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "words"), [(2, "2 may be"), (1, "1 may be"), (0, "The mask unit is undecided")])
def test_hierarchical_images_get_the_unit_that_the_race_prefers_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: int, words: str
) -> None:
    """A part of these images is 2 patches wide, and theory prefers that unit: the advice follows
    the race, and says where it is undecided."""
    levels = {(ratio, other): 0.7 if other == unit else 0.5 for ratio in (0.5, 0.75) for other in (1, 2)}
    answering(monkeypatch, levels)
    found = advise(Question(data=HIERARCHY, images=40, minutes=5), tmp_path / "out", workers=1)
    assert found.tested is not None
    assert any(words in line for line in found.advice.reasons)
    assert found.advice.key[3] == (unit or 1)
    assert found.advice.grounds == ("better" if unit == 2 else "not ruled out")
    assert ("--objective.mask.unit" in found.command or "coarse_random" in found.command) == (unit == 2)
    again = advise(Question(data=HIERARCHY, images=40, minutes=5), tmp_path / "out", workers=1)
    assert again.advice == found.advice


@pytest.mark.slow
def test_a_real_race_of_tiny_networks_ends_in_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Design(("random",), (0.5, 0.75), (1, 2), (Rung(2, 1.0),), 1)
    monkeypatch.setattr(advising, "DESIGNS", (tiny,))
    monkeypatch.setattr(advising, "MOST_STEPS", 2)
    monkeypatch.setattr(advising, "MONITORED", 40)
    lines: list[str] = []
    deadlines: list[float] = []

    def noted(*words: Any, **options: Any) -> RaceResult:
        deadlines.append(options["deadline"])
        return race(*words, **options)

    monkeypatch.setattr(advising, "race", noted)
    begin = time.monotonic()
    found = advise(Question(data=HIERARCHY, images=40, minutes=4), tmp_path / "out", workers=1, say=lines.append)
    assert found.tested is not None
    after = 2 * json.loads((tmp_path / "out" / advising.FILE).read_text())["seconds_a_baseline"]
    assert after > 0
    assert deadlines[0] - begin < 240 - 10 - after + 1, "untrained networks are measured after it, in the time"
    assert found.tested.verdict.baseline == ("mae", "random", 0.75, 1)
    assert len(found.tested.verdict.cells) == 4
    assert len(found.tested.baselines.untrained) == 2
    assert 0 < found.tested.baselines.pixels <= 1
    assert any("nearly powerless" in line for line in found.advice.unknown)
    assert found.advice.key == ("mae", "random", 0.75, 1)
    assert any("a race of 4 masks" in line for line in lines)
    assert math.isfinite(found.seconds)
    from lcmae.app.advice_page import document, terminal

    page = document(found)
    for words in ("What was tested", "random 0.5 in units of 2 patches", "Not known", "Train with it"):
        assert words in page
    assert found.command in terminal(found)
    assert page.count('class="plotly-graph-div"') >= 4
    assert 'id="plotly"' in page, "what draws the figures is in the file"
    assert 'id="drawing"' in page


def test_too_few_images_are_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((8, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match="at least 20 images"):
        advise(Question(data=str(tmp_path / "few.npy"), minutes=1), tmp_path / "out", workers=1)
