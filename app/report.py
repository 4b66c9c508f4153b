"""The figures of the dashboard as one HTML file that needs nothing else: no server, no network, no
lcmae."""

import base64
import gzip
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import import_module
from pathlib import Path

import pandas as pd
import xarray as xr

from lcmae.app.dashboard import contract
from lcmae.app.dashboard.components import comparison as comparison_panels
from lcmae.app.dashboard.components import ratio_matrix
from lcmae.app.dashboard.components.curves import SUMMARY, all_curves
from lcmae.app.dashboard.page import Panel, ProbePage, take_first
from lcmae.app.dashboard.pages import PAGES, stitch
from lcmae.app.dashboard.stored import measured, reading, trends
from lcmae.app.dashboard.stored.names import label, name_of
from lcmae.app.figures import legend, style
from lcmae.app.figures import stitch as stitch_figures
from lcmae.app.figures import training as training_figures
from lcmae.app.figures.answers import Tile
from lcmae.errors import InputError
from lcmae.probes.grids.ratio_verdict import FILE as MATRIX
from lcmae.probes.grids.ratio_verdict import read_matrix, sentences
from lcmae.probes.grids.table import TABLE, measures, read_table
from lcmae.probes.grids.verdict import verdict
from lcmae.probes.results import tables
from lcmae.runs.run import Run, write_atomically
from lcmae.safety.files import is_regular

CSS = """
body { font: 16px/1.5 "Source Sans 3", Helvetica, Arial, sans-serif; color: #31333f; background: #fff;
       max-width: 1060px; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 3rem; border-top: 1px solid #dde; padding-top: 1.5rem }
figure { margin: 1rem 0 2rem } figcaption { color: #60646f; font-size: 14px }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e6e8ee; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } code { overflow-wrap: anywhere }
.missing { color: #8a4b00 } .answer { font-weight: 600; font-size: 18px }
dl { display: flex; flex-wrap: wrap; gap: .75rem } dl div { border: 1px solid #dde; border-radius:
8px; padding: .5rem .75rem } dt, dd { margin: 0; font-size: 13px } dd b { font-size: 20px } """
DRAW = """
const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
(async () => {
  const script = document.createElement("script");
  script.textContent = await unpack(document.getElementById("plotly").textContent);
  document.head.append(script);
  const shown = new IntersectionObserver((entries) => entries.filter((one) =>
  one.isIntersecting).forEach(async ({ target }) => { shown.unobserve(target); const { data, layout
  } = JSON.parse(await unpack(target.nextElementSibling.textContent)); Plotly.newPlot(target, data,
  layout, { displaylogo: false, responsive: true }); }), { rootMargin: "1500px" });
  document.querySelectorAll(".plotly-graph-div").forEach((target) => shown.observe(target));
  document.getElementById("drawing").remove(); })().catch((error) =>
  (document.getElementById("drawing").textContent = `Figures cannot be drawn here: ${error}`)); """
"""Unpacks plotly.js, then each figure when it comes near the window."""

ANSWER = '<p class="answer">'

COMPARED = ("mean_knn", "mean_linear")
"""Measures of a comparison that a report concludes on, where it has them."""


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Write every figure, caption, table and provenance of these runs' newest results, and what the
    comparisons conclude that they are part of; whole or not at all. A comparison's folder stands
    for its conclusions alone.

    Raises `InputError` where there is no run, or where `out` cannot be written. What a run lacks is
    said in the report.
    """
    if not runs:
        raise InputError("expected at least one run to report on, got none")
    alone = [path for path in runs if is_comparison(path)]
    named = name_runs([Run.open(path).path for path in runs if path not in alone])
    around = [path.resolve().parent for path in named.values() if is_comparison(path.resolve().parent)]
    style.know({name: reading.objective_of(path) for name, path in named.items()})
    pieces = document(named, list(dict.fromkeys([*(path.resolve() for path in alone), *around])))
    write_atomically(out, "".join(pieces).encode("utf-8", "backslashreplace"))


def is_comparison(folder: Path) -> bool:
    """Whether `lcmae compare` wrote here, a table or a matrix of training and test ratios."""
    return is_regular(folder / TABLE) or is_regular(folder / "matrix" / MATRIX)


def name_runs(paths: Sequence[Path]) -> dict[str, Path]:
    """Runs by their folder's name; by the whole path where two folders are called the same."""
    names = [name_of(path.resolve(), path.resolve().parent) for path in paths]
    return {
        (name if names.count(name) == 1 else label(path, 1000)): path for name, path in zip(names, paths, strict=True)
    }  # fmt: skip


def document(runs: dict[str, Path], compared: Sequence[Path] = ()) -> Iterator[str]:
    """The file, piece by piece: comparisons, then runs."""
    title = f"lcmae: {', '.join(runs or [path.name for path in compared])}"
    yield opening(title, title)
    for folder in compared:
        yield from comparison(folder)
    if runs:
        yield from probed(runs)
    yield closing()


def probed(runs: dict[str, Path]) -> Iterator[str]:
    """Runs in a table, their training, and a section for each probe."""
    yield to_table(pd.DataFrame([reading.overview(name, path) for name, path in runs.items()]))
    sections = {
        page.name: (page.title, section(page.title, import_module(f"lcmae.app.dashboard.pages.{page.name}").PAGE, runs))
        for page in PAGES
        if page.is_probe
    }
    if len(runs) > 1:
        title = next(page.title for page in PAGES if page.name == "stitch")
        sections["stitch"] = title, stitching(title, runs)
    yield from summary(sections)
    yield from training(runs)
    for name, (_, pieces) in sections.items():
        yield f'<section id="{name}">'
        yield from pieces
        yield "</section>"


def comparison(folder: Path) -> Iterator[str]:
    """What `lcmae compare` concludes of the runs in a folder, and what `--matrix` does."""
    yield f"<h2>Comparison: {escape(folder.name)}</h2>"
    try:
        if is_regular(folder / TABLE):
            yield from conclusions(read_table(folder / TABLE))
    except InputError as error:
        yield f'<p class="missing">{escape(str(error))}</p>'
    yield "<h3>Trained at one ratio, tested at another</h3>"
    file = folder / "matrix" / MATRIX
    if not is_regular(file):
        command = f"lcmae compare --matrix {shlex.quote(str(folder))}"
        yield f'<p class="missing">Not computed. <code>{escape(command)}</code></p>'
        return
    try:
        matrix = read_matrix(file)
    except InputError as error:
        yield f'<p class="missing">{escape(str(error))}</p>'
        return
    for line in sentences(matrix):
        yield f"{ANSWER}{escape(line)}</p>"
    for line in ratio_matrix.notes(matrix):
        yield f"<p>{escape(line)}</p>"
    for panel in ratio_matrix.panels(matrix):
        yield to_figure(panel)


def conclusions(table: xr.Dataset) -> Iterator[str]:
    """The verdict on each accuracy, in words and pictures."""
    known = [name for name in COMPARED if name in measures(table)]
    if not known:
        yield '<p class="missing">No run has an accuracy.</p>'
    for name in known:
        found = verdict(table, name)
        yield f"{ANSWER}{escape(found.long_name)}: {escape(found.sentence())}</p>"
        for note in found.notes():
            yield f"<p>{escape(note)}</p>"
        for _, panel in comparison_panels.panels(found, table):
            yield to_figure(panel)


def opening(title: str, heading: str, css: str = "") -> str:
    """The head of a file, its heading, and when it was written."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{CSS}{css}</style>'
        f'</head><body><h1>{escape(heading)}</h1><p>Written {now}. <span id="drawing">Figures are being drawn.</span></p>'
    )


def closing() -> str:
    """The end of a file: plotly.js, and what draws its figures (`to_figure`)."""
    from plotly.offline import get_plotlyjs

    script = f'<script type="application/gzip" id="plotly">{compressed(get_plotlyjs())}</script>'
    return f"{script}<script>{DRAW}</script></body></html>\n"


def compressed(text: str) -> str:
    """Gzip as base64: plotly.js in a quarter of its size. Browsers unpack it since 2023."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def summary(sections: Mapping[str, tuple[str, Sequence[str]]]) -> Iterator[str]:
    """What each probe found, in the sentences of its section, as the list of contents."""
    yield "<h2>Summary</h2><ul>"
    for name, (title, pieces) in sections.items():
        sentences = " ".join(
            piece.removeprefix(ANSWER).removesuffix("</p>") for piece in pieces if piece.startswith(ANSWER)
        )
        yield f'<li><a href="#{name}">{escape(title)}</a>: {sentences or "not computed."}</li>'
    yield "</ul>"


def training(runs: dict[str, Path]) -> Iterator[str]:
    """Losses of the runs that have logged any."""
    curves = {}
    for name, path in runs.items():
        try:
            lines = training_figures.dataset(reading.metrics_of(path), reading.target_units(path))
        except InputError:
            continue  # the table says so
        if "loss" in lines:
            curves[name] = lines
    if curves:
        yield f"<h2>Training</h2><p>{_prose(SUMMARY)}</p>"
        for shown in all_curves(curves):
            yield to_figure(shown)


def section(title: str, content: ProbePage, runs: dict[str, Path]) -> list[str]:
    """A probe's section; a result that does not fit its probe is left out of it, with a
    sentence."""
    begin = time.monotonic()
    try:
        return list(probe(title, content, runs))
    except Exception:
        if not contract.refuse_unfit(begin):
            raise  # a fault of ours
        return list(probe(title, content, runs))


def probe(title: str, content: ProbePage, runs: dict[str, Path]) -> Iterator[str]:
    """A probe's section: two sentences, figures, numbers, provenance; and for each run without a
    result, the command."""
    yield f"<h2>{escape(title)}</h2><p>{_prose(content.summary)}</p>"
    results: dict[str, xr.Dataset] = {}
    steps = {name: reading.result_steps(path, content.probe) for name, path in runs.items()}
    known = {name: measured.conditions_of(path, content.probe, steps[name]) for name, path in runs.items()}
    wanted = next(iter(measured.offered(known.values())), None)
    shown_at: dict[str, int] = {}
    for name, path in runs.items():
        problem = "not computed"
        shown = wanted if wanted in known[name] else next(reversed(known[name]), None)
        try:
            if steps[name]:
                shown_at[name] = steps[name][-1] if shown is None else known[name][shown]
                results[name] = reading.result_of(path, shown_at[name], content.probe, shown)
                continue
        except InputError as error:
            problem = str(error)
        command = reading.probe_command(content.probe, path)
        yield f'<p class="missing">{escape(name)}: {escape(problem)}. <code>{escape(command)}</code></p>'
    if not results:
        return
    alike = measured.groups(results)
    for number, (condition, group) in enumerate(alike):
        if number:
            yield f"<h3>Measured under other conditions: {escape(', '.join(group))}</h3>"
        words = measured.words(condition, [other for other, _ in alike], group, [shown_at[name] for name in group])
        yield f"<p>{escape(words)}</p>"
        figured, left_out = group, []
        if content.every_step:
            figured, left_out = trends.all_along_steps(runs, content.probe, group)
        found = content.answer(figured)
        yield f"{ANSWER}{escape(found.sentence)}</p>"
        yield to_tiles(found.tiles)
        if left_out:
            yield f'<p class="missing">Not in the trends: {escape("; ".join(left_out))}.</p>'
        for panel in content.panels(figured, take_first):
            yield to_figure(panel)
        yield "<h3>Numbers</h3>" + to_table(tables.scalars(group))
    yield "<h3>Where this comes from</h3>" + to_table(tables.provenance(results))


def stitching(title: str, runs: dict[str, Path]) -> list[str]:
    """What `lcmae stitch` wrote beside the runs about two of them or more, file by file; else the
    command."""
    pieces, names = [f"<h2>{escape(title)}</h2><p>{_prose(stitch.SUMMARY)}</p>"], {path.name for path in runs.values()}
    files = {file: None for path in runs.values() for file in stitch.files_below(path.parent, deep=False).values()}
    for file in files:
        try:
            result = stitch.read(file)
        except InputError as error:
            pieces.append(f'<p class="missing">{escape(str(error))}</p>')
            continue
        if len(names.intersection(result["decoder"].values.tolist())) > 1:
            pieces += stitched(file, result)
    if len(pieces) == 1:
        command = f"lcmae stitch {shlex.join(map(str, runs.values()))} --out stitch.nc"
        pieces.append(f'<p class="missing">not computed. <code>{escape(command)}</code> beside the runs</p>')
    return pieces


def stitched(file: Path, result: xr.Dataset) -> Iterator[str]:
    """One file of `lcmae stitch`: its sentence, its matrices, its numbers."""
    found = stitch_figures.answer(result)
    yield f"<h3>{escape(label(file.name))}</h3><p>{escape(stitch.condition(result))}</p>"
    yield f"{ANSWER}{escape(found.sentence)}</p>"
    yield to_tiles(found.tiles)
    for variable in stitch_figures.HANDED:
        yield to_figure(stitch.matrix(result, variable))
    yield to_figure(stitch.baselines(result))
    yield "<h3>Numbers</h3>" + to_table(tables.scalars({file.stem: result}))
    yield "<h3>Where this comes from</h3>" + to_table(tables.provenance({file.stem: result}))


def to_tiles(tiles: Sequence[Tile]) -> str:
    """Headline numbers in a row."""
    shown = "".join(
        f"<div><dt>{escape(tile.label)}</dt>"
        + (f"<dd>{escape(tile.quantity)}</dd>" if tile.quantity else "")
        + f"<dd><b>{escape(tile.value)}</b></dd>"
        + (f"<dd>95 %: {escape(tile.interval)}</dd>" if tile.interval else "")
        + (f"<dd>{escape(tile.baseline)}</dd></div>" if tile.baseline else "</div>")
        for tile in tiles
    )
    return f"<dl>{shown}</dl>" if shown else ""


def to_figure(shown: Panel) -> str:
    """A figure with title and caption; plotly.js is in the file already."""
    legend.tidy(shown.figure, style.known(), [])  # runs are called by their folders here
    figure = shown.figure.update_layout(template=style.TEMPLATE)
    height = int(figure.to_dict()["layout"].get("height", 400))
    drawing = f'<div class="plotly-graph-div" style="height:{height}px"></div>'
    drawing += f'<script type="application/gzip">{compressed(figure.to_json() or "")}</script>'
    words = f"<h3>{escape(shown.title)}</h3><figcaption>{_prose(shown.caption)}</figcaption>"
    return f'<figure aria-label="{escape(shown.caption)}">{words}{drawing}</figure>'


def to_table(frame: pd.DataFrame) -> str:
    """A table; numbers have four significant digits, what is missing is blank."""
    head = "".join(f"<th>{escape(str(column))}</th>" for column in frame.columns)
    rows = ("".join(map(_cell, row)) for row in frame.itertuples(index=False))
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"<td class=n>{'' if value != value else f'{value:.4g}'}</td>"
    return f"<td>{'' if value is None else escape(str(value))}</td>"


def _prose(text: str) -> str:
    """Escaped text; what stands between asterisks is emphasised."""
    parts = escape(text).split("*")
    return "".join(f"<em>{part}</em>" if position % 2 else part for position, part in enumerate(parts))
