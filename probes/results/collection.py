"""`Results`: what probes found out about models, as one object with its table and its figures. No
torch.

    results = lcmae.probe(model, images, ["local_contrast"])     # or lcmae.results("runs/demo")
    results.to_frame()                    # every number, tidy
    results["local_contrast"]             # the xarray.Dataset
    results.answer("local_contrast")      # the page's sentence, with its interval
    results.figures("local_contrast")     # {title: plotly Figure}
    results.compare("a", "b")             # paired differences of two runs
"""

import html
import importlib
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.results import catalogue
from lcmae.probes.results.conditions import Condition, labels
from lcmae.probes.results.differences import differences
from lcmae.probes.results.store import load_attrs
from lcmae.probes.results.tables import cells
from lcmae.runs.durable import home
from lcmae.runs.run import Run, find_runs

COLUMNS = (
    "run", "step", "probe", "quantity", "part", "value", "sem", "low", "high", "unit", "data", "images", "mask",
)  # fmt: skip

MOST_ROWS = 1_000_000
"""Rows that `to_dataframe` of one result may have."""


class ResultDataset(xr.Dataset):
    """A probe's result: an `xarray.Dataset` whose `to_dataframe` refuses to multiply dimensions
    that have nothing to do with each other into more rows than memory holds."""

    __slots__ = ()

    def to_dataframe(self, *args: Any, **keywords: Any) -> pd.DataFrame:
        """As `xarray.Dataset.to_dataframe`, up to a million rows; `InputError` beyond."""
        rows = math.prod(self.sizes.values())
        if rows > MOST_ROWS:
            raise InputError(
                f"expected variables that share their dimensions, got {len(self.sizes)} dimensions whose product is {rows:,} "
                'rows; `results.to_frame()` is the table of all numbers, and `result[["NAME"]].to_dataframe()` that of one'
            )
        return super().to_dataframe(*args, **keywords)


@dataclass(frozen=True)
class Entry:
    """One result: of a run, a probe, a step, under a condition."""

    run: str
    attrs: Mapping[str, Any]
    source: xr.Dataset | Path

    @property
    def probe(self) -> str:
        return str(self.attrs["probe"])

    @property
    def step(self) -> int | None:
        """Optimiser step; None for a checkpoint that has none."""
        step = str(self.attrs.get("step", ""))
        return int(step) if step.isdecimal() else None

    @cached_property
    def condition(self) -> Condition:
        return Condition.of(self.attrs)

    @cached_property
    def dataset(self) -> xr.Dataset:
        """The whole result, read when it is first asked for."""
        return catalogue.load(self.source, self.probe) if isinstance(self.source, Path) else self.source


class ResultsWarning(UserWarning):
    """A stored result that is left out, in its one sentence."""


class Results:
    """Results of probes by run, step and condition; `failures` says in a sentence what could not
    run. A stored result that differs in form from what its probe writes is left out, with a
    `ResultsWarning`; the other runs are not affected."""

    def __init__(self, entries: Iterable[Entry], failures: Mapping[str, str] | None = None) -> None:
        self.entries = tuple(entries)
        self.failures = dict(failures or {})
        self._left_out: dict[Path, str] = {}

    @property
    def probes(self) -> list[str]:
        """Names of the probes."""
        return list(dict.fromkeys(entry.probe for entry in self.entries))

    @property
    def runs(self) -> list[str]:
        """Names of the runs, or models."""
        return list(dict.fromkeys(entry.run for entry in self.entries))

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.probes)

    def __contains__(self, probe: object) -> bool:
        return probe in self.probes

    def __getitem__(self, probe: str) -> Any:
        """The Dataset of the only run, else {run: Dataset}; a run with several steps or conditions
        is named with them. Means by groups, which only intervals need, are left out."""
        found = {name: _plain(entry.dataset) for name, entry in self._named(probe).items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def _readable(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Those whose results read; the others are named once, and left out."""
        for entry in entries:
            try:
                entry.dataset  # noqa: B018 - read now, and remembered
            except InputError as error:
                if isinstance(entry.source, Path) and entry.source not in self._left_out:
                    self._left_out[entry.source] = str(error)
                    warnings.warn(f"{entry.run} is left out: {error}", ResultsWarning, stacklevel=4)
                continue
            yield entry

    def _of(self, probe: str) -> list[Entry]:
        known = [entry for entry in self.entries if entry.probe == probe]
        found = list(self._readable(known))
        if known and not found:
            raise InputError(self._left_out[Path(str(known[0].source))])
        if not found:
            why = f" ({self.failures[probe]})" if probe in self.failures else ""
            raise InputError(f"expected a probe out of {', '.join(self.probes) or 'none'}, got {probe!r}{why}")
        return found

    def _named(self, probe: str) -> dict[str, Entry]:
        """Entries of a probe by run, with step and condition where a run has several."""
        found = self._of(probe)
        words = labels([entry.condition for entry in found])
        parts = [(entry.run, "" if entry.step is None else f"step {entry.step}", word)
                 for entry, word in zip(found, words, strict=True)]  # fmt: skip
        named = {}
        for part, entry in zip(parts, found, strict=True):
            for length in (1, 2, 3):
                if Counter(one[:length] for one in parts)[part[:length]] == 1:
                    break
            name = ", ".join(filter(None, part[:length]))
            named[name if name not in named else f"{name} ({entry.condition.digest[:8]})"] = entry
        return named

    def to_frame(self) -> pd.DataFrame:
        """Every number of every result, a row each: run, step, probe, quantity (the variable),
        part, value, sem, the ends of its 95 % interval, unit, data, images, mask. Pictures and maps
        are left to `results[...]`."""
        rows = []
        for entry in self._readable(self.entries):
            about = (entry.condition.data, entry.condition.num_images, entry.condition.mask_words)
            for cell in cells(entry.dataset):
                part = ", ".join(filter(None, (cell.part, cell.beside)))
                numbers = (cell.value, cell.error, cell.low, cell.high)
                rows.append((entry.run, entry.step, entry.probe, cell.variable, part, *numbers, cell.unit, *about))
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def answer(self, probe: str) -> str:
        """What the results of a probe say, in the sentence of its page, with the interval; a line
        for each condition. Of several runs it says which of them cannot be told apart."""
        page, groups = self._page(probe), self._alike(probe)
        sentences = [page.answer(results).sentence for _, results in groups]
        if len(groups) == 1:
            return sentences[0]
        return "\n".join(f"{words}: {sentence}" for (words, _), sentence in zip(groups, sentences, strict=True))

    def figures(self, probe: str) -> dict[str, Any]:
        """The dashboard's own figures of a probe, {title: plotly Figure}. Runs of different
        conditions get separate figures, whose titles say so."""
        page, groups = self._page(probe), self._alike(probe)
        figures: dict[str, Any] = {}
        for words, results in groups:
            if page.every_step:
                results = {
                    name: one.expand_dims(step=[int(one.attrs.get("step") or 0)]) for name, one in results.items()
                }
            for panel in page.panels(results, lambda question, options: options[0]):
                title = panel.title if len(groups) == 1 else f"{panel.title} ({words})"
                figures[title if title not in figures else f"{title} {len(figures) + 1}"] = panel.figure
        return figures

    def _page(self, probe: str) -> Any:
        # the one place where probes reach for the app: for its figures, by name, on demand
        self._of(probe)
        return importlib.import_module(f"lcmae.app.dashboard.pages.{probe}").PAGE

    def _alike(self, probe: str) -> list[tuple[str, dict[str, xr.Dataset]]]:
        """Runs that were measured alike, with their condition in words."""
        groups: dict[Condition, dict[str, xr.Dataset]] = {}
        for name, entry in self._named(probe).items():
            groups.setdefault(entry.condition.apart_from_checkpoint, {})[name] = entry.dataset
        return list(zip(labels(list(groups)), groups.values(), strict=True))

    def compare(self, a: str, b: str) -> pd.DataFrame:
        """B minus A for every number that both have, with its 95 % interval: paired over images
        where both were measured alike. For each probe the newest step under a shared condition is
        compared, if there is one."""
        for name in (a, b):
            if name not in self.runs:
                raise InputError(f"expected a run out of {', '.join(self.runs)}, got {name!r}")
        frames = []
        for probe in self.probes:
            known = list(self._readable(entry for entry in self.entries if entry.probe == probe))
            of_a, of_b = ([entry for entry in known if entry.run == name] for name in (a, b))
            if of_a and of_b:
                pairs = [(one, two) for one in of_a for two in of_b]
                first, second = max(pairs, key=lambda pair: (_alike(*pair), *(entry.step or 0 for entry in pair)))
                frames.append(differences(probe, first.dataset, second.dataset))
        if not frames:
            raise InputError(f"expected a probe that {a} and {b} both have, got none")
        return pd.concat(frames, ignore_index=True)

    def save(self, folder: Path | str) -> list[Path]:
        """Store every result below a folder, FOLDER/RUN/probes/STEP, where `lcmae.results` and the
        dashboard's commands find them; what is stored there already stays."""
        paths = []
        for entry in self._readable(self.entries):
            run = re.sub(r"[^A-Za-z0-9._-]+", "-", entry.run).strip("-.") or "model"
            target = home(folder) / run / "probes" / f"{entry.step or 0:06d}"
            paths.append(catalogue.add(entry.dataset, target))
        return paths

    def __repr__(self) -> str:
        lines = [f"Results: {len(self.probes)} probes, {len(self.runs)} runs"]
        lines += [f"  {run}: {probes} ({words})" for run, words, probes in self._lines()]
        lines += [f"  not computed: {sentence}" for sentence in self.failures.values()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(run)}</td><td>{html.escape(words)}</td><td>{html.escape(probes)}</td></tr>"
            for run, words, probes in self._lines()
        )
        failures = "".join(f"<p>not computed: {html.escape(sentence)}</p>" for sentence in self.failures.values())
        return f"<table><tr><th>run</th><th>measured on</th><th>probes</th></tr>{rows}</table>{failures}"

    def _lines(self) -> list[tuple[str, str, str]]:
        """Run, conditions and probes, a line for each that differ."""
        lines: dict[tuple[str, str], list[str]] = {}
        for entry in self.entries:
            step = "" if entry.step is None else f", step {entry.step}"
            lines.setdefault((entry.run, f"{entry.condition}{step}"), []).append(entry.probe)
        return [(run, words, ", ".join(dict.fromkeys(probes))) for (run, words), probes in lines.items()]


def _alike(a: Entry, b: Entry) -> bool:
    return a.condition.apart_from_checkpoint == b.condition.apart_from_checkpoint


def _plain(result: xr.Dataset) -> ResultDataset:
    shown = result.drop_vars([name for name in result.data_vars if str(name).endswith("_groups")])
    return ResultDataset(shown.data_vars, shown.coords, shown.attrs)


def results(folder_or_runs: Any) -> Results:
    """What is stored: of a run, of every run below a folder, of a folder of results (`--out`,
    `Results.save`), or of several of these, also as {name: path}. Damaged files are left out.
    `InputError` where nothing is stored."""
    if isinstance(folder_or_runs, Mapping):
        named = [(str(name), _path(one)) for name, one in folder_or_runs.items()]
    else:
        is_one = isinstance(folder_or_runs, str) or not isinstance(folder_or_runs, Iterable)
        named = [("", _path(one)) for one in ([folder_or_runs] if is_one else folder_or_runs)]
    entries = [entry for name, path in named for entry in _stored(name, path)]
    if not entries:
        paths = ", ".join(str(path) for _, path in named) or "nothing"
        raise InputError(
            f"expected stored results of probes at {paths}, found none; `lcmae probe all --checkpoint RUN`"
        )
    return Results(entries)


def _path(one: Any) -> Path:
    path = one.path if isinstance(one, Run) else home(one) if isinstance(one, str | Path) else None
    if path is None:
        raise InputError(f"expected a folder, a run, or several of them, got {type(one).__name__}")
    if not path.is_dir():
        raise InputError(f"expected a folder with results, found none at {path}")
    return path


def _stored(name: str, path: Path) -> Iterator[Entry]:
    if (path / "probes").is_dir():
        runs = {name or path.resolve().name: path}
    else:
        below = dict.fromkeys([*find_runs(path), *(folder.parent for folder in sorted(path.glob("*/probes/")))])
        runs = {"/".join(filter(None, (name, run.relative_to(path).as_posix()))): run for run in below}
    folders = [(run, step) for run, folder in runs.items() for step in sorted((folder / "probes").glob("*/"))]
    for run, folder in folders or [(name or path.resolve().name, path)]:
        for file in catalogue.files(folder):
            try:
                attrs = load_attrs(file)
            except InputError:
                continue  # torn: `lcmae probe --list` names it
            about = {"probe": catalogue.probe_of(file, folder), **attrs}
            if "step" not in about and folder.name.isdecimal():
                about["step"] = folder.name
            yield Entry(run, about, file)
