"""What is stored: runs, their steps, metrics and probe results, read without torch and kept by
(path, time, size).

Nothing here raises on what a run folder may hold while it is written, torn or deleted: a reader
gets the content or an `InputError` of one sentence, and `overview` turns even that into a line of
the table.
"""

import json
import shlex
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import xarray as xr

from lcmae.app.dashboard.stored.names import label, labelled, name_of
from lcmae.errors import CheckpointError, InputError
from lcmae.probes.results import catalogue
from lcmae.probes.results.conditions import Condition
from lcmae.probes.results.store import load_attrs, load_result
from lcmae.runs.checkpoint import MANIFEST, read_manifest
from lcmae.runs.durable import alive
from lcmae.runs.run import Run, find_runs
from lcmae.safety.files import read_regular
from lcmae.safety.text import printable

MAX_METRICS = 500
"""Names of metrics in one run; each is a curve."""

MAX_RESULTS = 256
"""Results in memory."""

Stamp = tuple[str, int, int]
"""A file's path, time of change and size: the key of every cache here (arrays are never keys)."""

_lock = threading.Lock()
_recent: "OrderedDict[Stamp, tuple[str, float]]" = OrderedDict()
_unfit: dict[Stamp, str] = {}


def stamp(path: Path) -> Stamp:
    """The file as it is now; (path, 0, 0) where there is none."""
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_mtime_ns, status.st_size


def runs_below(root: Path) -> dict[str, Path]:
    """Every run at or below `root` by its name: the path from `root` on, as far as it is plain text
    (`names.name_of`)."""
    return {name_of(path, root): path for path in find_runs(root)}


def config_of(path: Path) -> dict[str, Any]:
    """A run's config; `InputError` where there is no run any more."""
    return _config(stamp(path / "config.json"))


@lru_cache(maxsize=2048)
def _config(key: Stamp) -> dict[str, Any]:
    return Run.open(Path(key[0]).parent).config


def objective_of(path: Path) -> str:
    """Kind of a run's objective; "" where its config does not say it or does not read."""
    try:
        objective = _part(config_of(path), "objective")
    except InputError:
        return ""
    return _text(objective.get("kind")) or ""


def target_units(path: Path) -> str:
    """The unit of a squared error in the space of a run's targets; the words of the probes."""
    is_normalised = bool(_part(config_of(path), "model").get("normalize_targets"))
    return "variance of a patch" if is_normalised else "squared input units"


def metrics_of(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a run's metrics; `InputError` where one holds what no curve can."""
    return _metrics(stamp(path / "metrics.jsonl"))


@lru_cache(maxsize=256)
def _metrics(key: Stamp) -> list[dict[str, Any]]:
    lines = [
        {label(name): _bounded(name, value, key[0]) for name, value in line.items()}
        for line in Run(Path(key[0]).parent, {}).metrics()
    ]
    num_names = len({name for line in lines for name in line})
    if num_names > MAX_METRICS:
        raise InputError(f"expected at most {MAX_METRICS} metrics in {printable(key[0])}, got {num_names}")
    return lines


def _bounded(name: str, value: Any, file: str) -> Any:
    """A metric as it is, if it is a number that fits 64 bits; text is no curve, but may be long."""
    if isinstance(value, int) and value.bit_length() > 63:
        raise InputError(
            f"expected numbers of at most 63 bits in {printable(file)}, got {printable(name, 40)} of {value.bit_length()} bits"
        )
    return value


def steps_of(path: Path) -> list[int]:
    """Published steps, ascending; none where the folder is gone."""
    return _steps(stamp(path / "checkpoints"))


@lru_cache(maxsize=2048)
def _steps(key: Stamp) -> list[int]:
    try:
        return Run(Path(key[0]).parent, {}).steps()
    except OSError:  # deleted between the look and the listing
        return []


def result_steps(path: Path, probe: str) -> list[int]:
    """Steps that have a stored result of a probe, ascending; whether the file reads is another
    question."""
    folders = (path / "probes").glob("*/")
    return sorted(int(step.name) for step in folders if _is_step(step.name) and catalogue.files(step, probe))


def probes_of(path: Path) -> list[str]:
    """Names of the probes that have a result of any step, sorted."""
    steps = [step for step in (path / "probes").glob("*/") if _is_step(step.name)]
    return sorted({catalogue.probe_of(file, step) for step in steps for file in catalogue.files(step)})


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= 18


def conditions_at(path: Path, step: int, probe: str) -> dict[Condition, Path]:
    """What is stored of a probe at a step, by the condition that checkpoints can share, the newest
    file last; torn files are left out."""
    found: dict[Condition, Path] = {}
    for key in sorted(_stamps(path, step, probe), key=lambda key: key[1]):
        try:
            condition = _condition(key)
        except InputError:
            continue  # `result_of` says so where nothing else is there
        found.pop(condition, None)
        found[condition] = Path(key[0])
    return found


def _stamps(path: Path, step: int, probe: str) -> list[Stamp]:
    return [stamp(file) for file in catalogue.files(Run(path, {}).results_folder(step), probe)]


@lru_cache(maxsize=4096)
def _condition(key: Stamp) -> Condition:
    return Condition.of(load_attrs(Path(key[0]))).apart_from_checkpoint


def result_path(path: Path, step: int, probe: str, condition: Condition | None = None) -> Path:
    """Where the result of a probe lies in a run: the one under this condition; else, or where none
    is named, the newest that reads."""
    known = conditions_at(path, step, probe)
    if condition in known:
        return known[condition]
    if known:
        return list(known.values())[-1]
    torn = _stamps(path, step, probe)
    return Path(torn[-1][0]) if torn else Run(path, {}).result_path(step, probe)


def result_of(path: Path, step: int, probe: str, condition: Condition | None = None) -> xr.Dataset:
    """The stored result of `result_path`, shared between readers: don't change it. `InputError` for
    a missing or torn file, and for one that is no result of this probe."""
    key = stamp(result_path(path, step, probe, condition))
    if key in _unfit:
        raise InputError(_unfit[key])
    result = catalogue.checked(_result(key), key[0], probe)
    with _lock:
        _recent[key] = probe, time.monotonic()
        _recent.move_to_end(key)
        while len(_recent) > MAX_RESULTS:
            _recent.popitem(last=False)
    return result


def recent_results(since: float) -> list[tuple[Stamp, str, xr.Dataset]]:
    """What pages have read since then (`time.monotonic`): file, probe, result."""
    with _lock:
        known = [(key, probe) for key, (probe, at) in _recent.items() if at >= since]
    return [(key, probe, _result(key)) for key, probe in known]


def refuse(key: Stamp, why: str) -> None:
    """From now on `result_of` says `why` of this file, until it changes."""
    with _lock:
        _recent.pop(key, None)
        _unfit[key] = why
        while len(_unfit) > 1000:
            _unfit.pop(next(iter(_unfit)))


@lru_cache(maxsize=MAX_RESULTS)
def _result(key: Stamp) -> xr.Dataset:
    return labelled(load_result(Path(key[0])))


@dataclass(frozen=True)
class Writer:
    """Who trains a run, by its lock: a process of this machine, or of another one."""

    pid: int
    host: str

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a process of another machine is believed to."""
        return self.host != socket.gethostname() or alive(self.pid)


def writer_of(path: Path) -> Writer | None:
    """The writer that the lock names; None where the run was left in order, or the lock is none.
    Reading takes no lock from anybody."""
    try:
        return _read_lock(path)
    except InputError:
        return None  # `overview` says so


def _read_lock(path: Path) -> Writer | None:
    """The same; `InputError` for a lock that lcmae did not write."""
    file = path / ".lock"
    try:
        content = read_regular(file, 4096)
    except OSError:
        return None
    if not content.strip():
        return None
    try:
        text = json.loads(content)
        pid, host = text["pid"], text["host"]
    except (ValueError, TypeError, KeyError, RecursionError):
        pid, host = None, None
    if isinstance(pid, bool) or not isinstance(pid, int) or not 0 < pid < 2**31 or not isinstance(host, str):
        raise InputError(
            f"expected process and host in {printable(file)}, got something else; delete it if nobody writes"
        )
    return Writer(pid, host)


def is_running(path: Path) -> bool:
    """Whether a process is training this run now."""
    writer = writer_of(path)
    return writer is not None and writer.is_alive


def state_of(path: Path) -> str:
    """`running`; `finished`; `stopped` before its end (asked to, or its loss was no number any
    more); `ended` (one of the two: its checkpoints do not say which); `interrupted` (its process
    died); `empty`. `InputError` for a lock that lcmae did not write."""
    writer = _read_lock(path)
    if writer is not None:
        return "running" if writer.is_alive else "interrupted"
    steps = steps_of(path)
    if not steps:
        return "ended" if stamp(path / "metrics.jsonl")[2] else "empty"
    num_steps = _num_steps(stamp(path / "checkpoints" / f"{steps[-1]:06d}" / MANIFEST))
    if num_steps is None:
        return "ended"
    return "finished" if steps[-1] >= num_steps else "stopped"


@lru_cache(maxsize=2048)
def _num_steps(key: Stamp) -> int | None:
    try:
        found = read_manifest(Path(key[0]).parent).get("num_steps")
    except CheckpointError:  # deleted between the look and the reading
        return None
    return found if isinstance(found, int) else None


def overview(name: str, path: Path) -> dict[str, Any]:
    """A line of the runs table; a run that does not read says so in `state` and has nothing
    else."""
    try:
        config, lines, state = config_of(path), metrics_of(path), state_of(path)
    except InputError as error:
        return {"name": name, "state": f"unreadable: {printable(error)}"}
    objective = _part(config, "objective")
    mask, model = _part(objective, "mask"), _part(config, "model")
    losses = [line for line in lines if isinstance(line.get("loss"), float)]
    monitors = [line for line in lines if "cls_knn" in line or "mean_knn" in line]
    monitored = monitors[-1] if monitors else {}
    feature = "cls" if "cls_knn" in monitored else "mean"
    steps = steps_of(path)
    return {
        "name": name,
        "state": state,
        "objective": _text(objective.get("kind")),
        "model": _text(model.get("kind")),
        "mask": _text(mask.get("kind")),
        "ratio": _number(mask.get("ratio")),
        "data": _text(config.get("data")),
        "step": _number(lines[-1].get("step")) if lines else None,
        "loss": losses[-1]["loss"] if losses else None,
        "collapse": _number(losses[-1].get("collapse")) if losses else None,
        "knn": _number(monitored.get(f"{feature}_knn")),
        "linear": _number(monitored.get(f"{feature}_linear")),
        "rank": _number(monitored.get(f"{feature}_effective_rank")),
        "checkpoints": len(steps),
        "results": printable(", ".join(probes_of(path)), 2000),
        "seed": _number(config.get("seed")),
    }


def _text(value: Any) -> str | None:
    return None if value is None else printable(value)


def _number(value: Any) -> int | float | None:
    """A number that a table takes; None for anything else that a foreign config may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, float) or value.bit_length() <= 53 else None


def _part(config: dict[str, Any], name: str) -> dict[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def step_path(path: Path, step: int) -> Path:
    """The folder of a checkpoint, as commands take it."""
    return path / "checkpoints" / f"{step:06d}"


def probe_command(probe: str, path: Path, step: int | None = None) -> str:
    """The command that stores a probe's result for a run (its newest step, if none is named)."""
    target = path if step is None else step_path(path, step)
    return f"lcmae probe {probe} --checkpoint {shlex.quote(str(target))}"


def words_of(command: object) -> list[str]:
    """The words of a stored command; none where it is no command line."""
    try:
        return shlex.split(str(command))
    except ValueError:
        return []


def every_step_command(path: Path, like: xr.Dataset | None = None) -> str:
    """The command that stores results for every checkpoint of a run; with the settings of a result,
    where one is given.

    What is stored already with these settings is not computed again.
    """
    words = words_of(like.attrs.get("command", "")) if like is not None else []
    if "--checkpoint" not in words[:-1]:
        return f"{probe_command('all', path)} --every-step"
    words[words.index("--checkpoint") + 1] = str(path)
    return shlex.join([*words, "--every-step"])
