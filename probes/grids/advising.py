"""Which mask for these images, within a given time? Their own statistics, then a race of small
networks, then what may be concluded (`lcmae.probes.grids.advice`).

    OUT/advice.json      the question, the plan, and the advice
    OUT/statistics.nc    `lcmae.probes.grids.image_statistics`
    OUT/pilot/           a few steps that say how fast this machine is
    OUT/rung-1/ ...      the race (`lcmae.probes.grids.racing`), resumable

The plan is made once, from the pilot, so that the whole race fits into the time even where no cell
is dropped; a second call goes on with it, for as long again. A race needs a measure that does not
prefer a mask by its construction. That is accuracy on classes: images without classes get their
statistics, and no race.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcmae.config import RunConfig
from lcmae.data import ImageSource, open_source
from lcmae.errors import InputError
from lcmae.probes.grids import image_statistics, timed_statistics
from lcmae.probes.grids.advice import Advice, Baselines, RaceEvidence, decide, untested
from lcmae.probes.grids.cells import SETTINGS, Cell, Comparison, cells
from lcmae.probes.grids.command import RECIPES, train_command
from lcmae.probes.grids.configs import config_of
from lcmae.probes.grids.racing import Rung, race, rungs
from lcmae.probes.grids.run import CellStopped, compare
from lcmae.probes.grids.table import TABLE, read_json, read_table
from lcmae.probes.grids.verdict import PUBLISHED, Key, verdict
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.results.store import load_result, save_result
from lcmae.progress import Silent, tell
from lcmae.runs.durable import make_folder, to_json
from lcmae.runs.run import write_atomically
from lcmae.settings import Settings
from lcmae.training.train import build_model, open_monitor, open_training_data

FILE, STATISTICS = "advice.json", "statistics.nc"
MOST_IMAGES, MONITORED = 4000, 1000
SIDE, SMALL_SIDE, PATCHES = 64, 32, 8
"""Sides of the networks' images, and patches along a side."""

LEAST_SECONDS = 120.0
"""Less time than this is for statistics alone."""
STATISTICS_SHARE = 0.3
"""Most of the time that the images' statistics may take; beyond it they are those of one ratio."""
LEAST_TESTED = 20
"""Fewest test images of a race."""
NEIGHBOURS = 20
"""Training images of a class from which on kNN is the measure; ridge accuracy below."""
MOST_STEPS = 4000
SPARE = 0.85
"""Share of the time that is planned for."""


@dataclass(frozen=True)
class Design:
    """A race that more or less time can be spent on."""

    masks: tuple[str, ...]
    ratios: tuple[float, ...]
    units: tuple[int, ...]
    rungs: tuple[Rung, ...]
    least_steps: int
    """Shorter schedules than this teach too little: a smaller race is better then."""

    @property
    def num_cells(self) -> int:
        """Masks other than random have no unit."""
        return len(self.ratios) * (len(self.masks) - 1 + len(self.units))


DESIGNS = (
    Design(("random", "block", "grid", "window"), (0.25, 0.5, 0.75, 0.9), (1, 2), rungs(5), 1600),
    Design(("random", "block"), (0.5, 0.75, 0.9), (1, 2), rungs(5), 1200),
    Design(("random",), (0.25, 0.5, 0.75, 0.9), (1, 2), (Rung(3, 1 / 4), Rung(5, 1.0)), 800),
    Design(("random",), (0.25, 0.5, 0.75, 0.9), (1, 2), (Rung(3, 1.0),), 400),
    Design(("random",), (0.5, 0.75), (1, 2), (Rung(3, 1.0),), 100),
)
"""The largest first. The last one is for time that would else be thrown away: a hundred steps teach
little, and the advice says so where they taught nothing."""


class Question(Settings):
    """What is asked: another one needs another folder."""

    data: str
    """Where images come from."""
    images: int | None = None
    """Most images that are used."""
    minutes: float = 30.0
    """Time, of each call."""
    seed: int = 0
    """Of the statistics."""


@dataclass(frozen=True)
class Pace:
    """What a run costs on this machine, with all workers busy."""

    seconds_a_step: float
    seconds_a_run: float
    """Beside its steps: opening, measuring, publishing."""
    seconds_a_baseline: float = 0.0
    """Measuring an untrained network, after the race: one a seed."""


@dataclass(frozen=True)
class Answer:
    """All that the page shows."""

    question: Question
    statistics: xr.Dataset
    advice: Advice
    command: str
    tested: RaceEvidence | None
    num_images: int
    seconds: float


Say = Callable[[str], object]


def advise(
    question: Question,
    out: Path,
    *,
    workers: int,
    device: str | None = None,
    started: float | None = None,
    say: Say = lambda line: None,
    progress: Callable[[str, int], Any] | None = None,
) -> Answer:
    """The answer within `question.minutes` of `started` (a `time.monotonic()`, by default now).
    `progress(label, steps)` is a context manager with `advance()`. `InputError` for images that
    cannot be opened, fewer than 20 of them, and for another question in this folder."""
    began = time.monotonic() if started is None else started
    deadline = began + 60 * question.minutes
    make_folder(out)
    known = _recall(question, out)
    source = _open(question)
    pixels, labels = source.pixels, source.labels
    statistics = _statistics(question, out, pixels, labels, deadline, progress, say)
    tested, why = None, _no_race(question, source)
    base = _comparison(question, source, len(source))
    if why is None:
        tested, why = _test(question, base, known, out, workers, device, deadline, progress, say)
    advice = untested(why or "There was not enough time.") if tested is None else decide(tested)
    epochs = known.get("epochs") or max(1, math.ceil(2000 * _batch_size(len(source)) / max(len(source), 1)))
    shown = base if tested is not None else _of_recipe(base)
    command = train_command(shown.model_copy(update={"epochs": int(epochs)}), advice.key)
    answer = Answer(question, statistics, advice, command, tested, len(source), time.monotonic() - began)
    known |= {"advice": advice.to_json(), "command": command, "seconds": round(answer.seconds, 1)}
    _write(known, out)
    return answer


# --- what is asked, and of which images ---


def _recall(question: Question, out: Path) -> dict[str, Any]:
    asked = question.model_dump(mode="json", exclude={"minutes"})
    found = read_json(out / FILE)
    if found is None:
        return {"question": asked}
    if found.get("question") != asked:
        raise InputError(
            f"expected the advice on {asked['data']} ({asked['images'] or 'all'} images) in {out}, got one on "
            f"{found.get('question', {}).get('data')}; choose another --out"
        )
    return found


def _write(known: dict[str, Any], out: Path) -> None:
    write_atomically(out / FILE, to_json(known, FILE))


def _open(question: Question) -> ImageSource:
    """The training images, at the size of the networks: 64 pixels, or 32 where images are small."""
    first = open_source(question.data, split="train", image_size=None, channels=None, limit=1)
    side = SIDE if min(first.decoder.height, first.decoder.width) >= SIDE else SMALL_SIDE
    channels = 3 if first.decoder.channels == 4 else first.decoder.channels
    most = min(question.images or MOST_IMAGES, MOST_IMAGES)
    return open_source(question.data, split="train", image_size=side, channels=channels, limit=most)


def _no_race(question: Question, source: ImageSource) -> str | None:
    """Why no race could decide anything; None where one could."""
    only = (
        "Only statistics that need no classes were taken, and they do not choose a mask: losses and ranks of networks that "
        "were trained under different masks cannot be compared."
    )
    if source.labels is None:
        return f"The images have no classes to compare features by. {only}"
    if not image_statistics.repeated(source.labels):
        found = len(source.labels.unique())
        return f"The images' classes ({found} among {len(source)} images) say too little. {only}"
    test = open_source(
        question.data, split="test", image_size=SMALL_SIDE, channels=source.decoder.channels, limit=LEAST_TESTED
    )
    if len(test) < LEAST_TESTED:
        return f"There are {len(test)} test images; a race needs at least {LEAST_TESTED}."
    if question.minutes * 60 < LEAST_SECONDS:
        given = "1 minute is" if question.minutes == 1 else f"{question.minutes:g} minutes are"
        return f"{given} too few for a race: give it at least {LEAST_SECONDS / 60:g}."
    return None


def _statistics(
    question: Question,
    out: Path,
    pixels: torch.Tensor,
    labels: torch.Tensor | None,
    deadline: float,
    progress: Callable[[str, int], Any] | None,
    say: Say,
) -> xr.Dataset:
    file = out / STATISTICS
    if file.is_file():
        return load_result(file)
    left = deadline - time.monotonic()
    within = STATISTICS_SHARE * left if left >= LEAST_SECONDS else 0.0
    found = timed_statistics.within(
        within, pixels, labels, pixels.shape[2] // PATCHES, question.seed, say=say, progress=progress
    )
    save_result(found, file)
    return found


# --- the race ---


def _batch_size(num_images: int) -> int:
    return 64 if num_images >= 512 else 32 if num_images >= 128 else max(2, min(16, num_images))


def _comparison(question: Question, source: ImageSource, num_images: int) -> Comparison:
    """What all cells share: the small network, its images and its optimiser."""
    is_long = question.minutes >= 60
    width, depth = (96, 6) if is_long else (64, 4)
    batch = _batch_size(num_images)
    side = source.decoder.height
    limit = [] if question.images is None else [f"limit={num_images}"]
    return Comparison(
        data=question.data,
        recipes=RECIPES,
        probes=("none",),
        set=(
            f"model.image_size=[{side}, {side}]",
            f"model.patch_size={side // PATCHES}",
            f"model.channels={source.decoder.channels}",
            f"model.width={width}",
            f"model.depth={depth}",
            "model.decoder_width=48",
            "model.decoder_depth=1",
            f"batch_size={batch}",
            f"base_lr={0.0025 * 256 / batch:g}",
            "clip=1.0",
            f"monitor_images={MONITORED}",
            *limit,
        ),
    )


def _of_recipe(base: Comparison) -> Comparison:
    """The same images with the recipe's own network: where nothing was tested, nothing is said of
    another one."""
    shape = ("width", "depth", "decoder_width", "decoder_depth")
    changes = [change for change in base.set if not change.startswith(tuple(f"model.{name}=" for name in shape))]
    return base.model_copy(update={"set": tuple(changes)})


def _test(
    question: Question,
    base: Comparison,
    known: dict[str, Any],
    out: Path,
    workers: int,
    device: str | None,
    deadline: float,
    progress: Callable[[str, int], Any] | None,
    say: Say,
) -> tuple[RaceEvidence | None, str | None]:
    """The race as far as time allows; or None, and why."""
    engine = Engine(workers=workers)
    source = open_training_data(config_of(base.model_copy(update={"seeds": 1}), Cell("random", 0.75, None, "mae", 0)))
    steps_an_epoch = max(1, len(source) // _batch_size(len(source)))
    if "seconds_a_step" not in known:
        say(f"a pilot of {2 * workers} short runs, to time a step")
        pace = measure_pace(base, out / "pilot", engine, device, steps_an_epoch, progress, deadline - 10)
        if pace is None:
            return None, (
                f"{question.minutes:g} minutes were too few to time a training step on this machine. Statistics are done and "
                "stored; the same command continues."
            )
        known |= {"seconds_a_step": pace.seconds_a_step, "seconds_a_run": pace.seconds_a_run}
    measure = "mean_knn" if _images_a_class(source) >= NEIGHBOURS else "mean_linear"
    if "seconds_a_baseline" not in known:
        say("untrained networks and raw pixels, to time them")
        known |= {
            "seconds_a_baseline": _seconds_of(partial(_baselines, base.model_copy(update={"seeds": 1}), 1, measure))
        }
    if "design" not in known:
        pace = Pace(known["seconds_a_step"], known["seconds_a_run"], known["seconds_a_baseline"])
        design, steps = plan(deadline - time.monotonic() - 15, workers, pace)
        if design is None:  # another call may bring more time
            least = least_minutes(pace, workers)
            return None, (
                f"{question.minutes:g} minutes were too few for a race on this machine. Statistics and timing are done and "
                f"stored; the same command with --minutes {max(least, math.ceil(question.minutes)):.0f} goes on, and "
                "probably reaches one."
            )
        known |= {"design": DESIGNS.index(design), "epochs": max(1, steps // steps_an_epoch)}
        _write(known, out)
    design = DESIGNS[known["design"]]
    grid = base.model_copy(
        update={
            "masks": design.masks,
            "ratios": design.ratios,
            "units": design.units,
            "epochs": known["epochs"],
            "seeds": design.rungs[-1].seeds,
        }
    )
    of_a_run = known["epochs"] * steps_an_epoch * known["seconds_a_step"] + known["seconds_a_run"]

    def report(row: dict[str, Any], done: int, total: int, seconds_left: float) -> None:
        value = row.get(measure)
        what = row.get("error") or ("" if value is None else f"{value:.1%}")
        left = max(0.0, deadline - time.monotonic())
        if tell("runs of this rung", done, total, min(seconds_left, left), str(row["run"])):
            return
        say(f"run {done}/{total}, about {min(seconds_left, left):.0f} s of this rung left: {row['run']} {what}")

    say(f"a race of {design.num_cells} masks, {known['epochs'] * steps_an_epoch} steps a run")
    result = race(
        grid, out, engine, measure=measure, plan=design.rungs, device=device, report=report, keep=(PUBLISHED,),
        deadline=deadline - 1.3 * of_a_run - 10 - design.rungs[-1].seeds * known["seconds_a_baseline"],
    )  # fmt: skip
    if result.stopped_by is not None:
        raise CellStopped(result.stopped_by)
    table = last_table(out, len(design.rungs))
    if table is None:
        return None, "The time ended before each mask had two seeds; the same command continues from there."
    config = config_of(grid, Cell("random", 0.75, 1, "mae", 0))
    found = verdict(table, measure, PUBLISHED)
    seeds = min(cell.num_seeds for cell in found.cells)
    baselines = _baselines(grid, seeds, measure)
    conditions = _conditions(config, source, seeds, int(table["epochs"].max()) * steps_an_epoch)
    left = {cell.key for cell in found.cells}
    dropped = tuple(key for key in _all_keys(grid) if key not in left)
    agreement = tuple(result.agreement()) if len(result.rungs) > 1 else ()
    return RaceEvidence(found, dropped, conditions, agreement, baselines), None


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def measure_pace(
    base: Comparison,
    folder: Path,
    engine: Engine,
    device: str | None,
    steps_an_epoch: int,
    progress: Callable[[str, int], Any] | None = None,
    deadline: float = math.inf,
) -> Pace | None:
    """Two waves of short runs: the second one meets warm processes. None where no run ended before
    the deadline, a `time.monotonic()`."""
    epochs = max(1, math.ceil(12 / steps_an_epoch))
    grid = base.model_copy(update={"ratios": (0.5,), "epochs": epochs, "seeds": 2 * engine.workers})
    ends: list[float] = []
    with Silent() if progress is None else progress("pilot runs", grid.seeds) as bar:

        def begin(done: int, total: int) -> None:
            ends.append(time.monotonic())
            bar.advance(done)

        def report(*_: object) -> None:
            ends.append(time.monotonic())
            bar.advance()

        found = compare(grid, folder, engine, device=device, begin=begin, report=report, deadline=deadline)
    rows = [row for row in found.rows if row["status"] == "done"]
    if found.stopped_by is not None:
        raise CellStopped(found.stopped_by)
    if not found.rows:
        return None
    if not rows:
        raise InputError(f"expected networks that can be trained on {base.data}, got {found.rows[0]['error']}")
    step = float(np.mean([row["train_seconds"] / row["steps"] for row in rows]))
    if len(ends) <= engine.workers + 1:  # found done: nothing was timed
        return Pace(step, 5.0)
    wall = (ends[-1] - ends[engine.workers]) if len(ends) > 2 else ends[-1] - ends[0]
    return Pace(step, max(0.5, wall - step * rows[0]["steps"]))


def plan(seconds: float, workers: int, pace: Pace) -> tuple[Design | None, int]:
    """The largest design whose schedules are long enough, and steps of a whole one, if no cell is
    dropped; None where the smallest does not fit."""
    for design in DESIGNS:
        steps = _steps(design, seconds, workers, pace)
        if steps >= design.least_steps:
            return design, min(steps, MOST_STEPS)
    return None, 0


def _steps(design: Design, seconds: float, workers: int, pace: Pace) -> int:
    runs = sum(design.num_cells * rung.seeds for rung in design.rungs)
    whole = sum(design.num_cells * rung.seeds * rung.share for rung in design.rungs)
    seconds -= design.rungs[-1].seeds * pace.seconds_a_baseline
    return math.floor((SPARE * seconds * workers - runs * pace.seconds_a_run) / (whole * pace.seconds_a_step))


def least_minutes(pace: Pace, workers: int) -> int:
    """Of another call, which finds statistics and timing done, for the smallest race."""
    design = DESIGNS[-1]
    runs = sum(design.num_cells * rung.seeds for rung in design.rungs)
    work = runs * (pace.seconds_a_run + design.least_steps * pace.seconds_a_step)
    after = design.rungs[-1].seeds * pace.seconds_a_baseline
    return math.ceil((work / SPARE / workers + after) / 60 + 1.5)


def last_table(out: Path, num_rungs: int) -> xr.Dataset | None:
    """The latest rung's table in which every cell has two runs that are done. Which runs were
    reached is the clock's doing, not the results', so cells may have one more than others."""
    for number in range(num_rungs, 0, -1):
        folder = out / f"rung-{number}"
        asked = read_json(folder / SETTINGS)
        if asked is None or not (folder / TABLE).is_file():
            continue
        table = read_table(folder / TABLE)
        done = set(table["run"].values[table["status"].values == "done"].tolist())
        counts: dict[str, int] = {}
        for name in asked["cells"]:
            cell = name.rpartition("-s")[0]
            counts[cell] = counts.get(cell, 0) + (name in done)
        if counts and min(counts.values()) >= 2:
            return table
    return None


def _all_keys(grid: Comparison) -> list[Key]:
    """Cells as tables name them: plain random masks have a unit of one patch."""
    keys = [(cell.objective, cell.mask, cell.ratio, cell.unit) for cell in cells(grid)]
    return list(dict.fromkeys((*key[:3], 1 if key[1] == "random" and key[3] is None else key[3]) for key in keys))


def _images_a_class(source: ImageSource) -> float:
    assert source.labels is not None
    return min(len(source), MONITORED) / len(source.labels.unique())


def _baselines(grid: Comparison, seeds: int, measure: str) -> Baselines:
    """Untrained networks and raw pixels, by the same measure on the same images."""
    configs = [config_of(grid, Cell("random", 0.75, 1, "mae", seed)) for seed in range(seeds)]
    monitor = open_monitor(configs[0], open_training_data(configs[0]))
    assert monitor is not None
    pixels = monitor.raw_pixels()[measure.partition("_")[2]]
    return Baselines(tuple(monitor(build_model(config))[measure] for config in configs), pixels)


def _conditions(config: RunConfig, source: ImageSource, seeds: int, steps: int) -> str:
    model = config.model
    height, width = model.image_size
    return (
        f"ViT of width {model.width} and depth {model.depth}, images of {height}x{width} pixels in patches of "
        f"{model.patch_size}, {steps} steps of {config.batch_size} of {len(source)} training images, {seeds} seeds"
    )
