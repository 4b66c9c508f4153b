"""The gallery: every figure of every probe, drawn from the tests' made-up runs, with the code that
draws it; and those that belong to no probe (others.py).

`PYTHONPATH=. python docs/site/gallery.py FOLDER` writes it as Markdown pages; the site does so when
it is built.
The code under a figure is what was run for it: nothing is drawn otherwise.
"""

import ast
import contextlib
import html
import importlib
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import others
import torch

import lcmae
from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages import PAGES
from lcmae.app.figures import style
from lcmae.probes.registry import PROBES
from tests.app import synthetic

OTHERS = others.OTHERS
RUNS = ("mae", "umae")
"""The made-up runs, named as their objectives."""

PLACE = '<div class="lcmae-figure"'


class Shown(NamedTuple):
    """A figure with its words and the code that drew it."""

    heading: str
    caption: str
    code: str
    figure: Any


def pages() -> dict[str, str]:
    """Name of each page -> its Markdown; `index` lists them."""
    found = {name: page(name) for name in (*PROBES, *OTHERS)}
    counts = {name: text.count(PLACE) for name, text in found.items()}
    rows = [
        f"| [{text.splitlines()[0].removeprefix('# ')}]({name}.md) | {counts[name]} |" for name, text in found.items()
    ]
    index = f"""# Gallery

{sum(counts.values())} figures, all drawn when this site was built, each with the code that drew it.
**Their numbers are invented** unless a page says otherwise: they come from the tests' synthetic
runs, so that every figure can be drawn without training. Measurements of models are under
*Results*.

| figures of | number |
|---|---|
"""
    return {"index": index + "\n".join([*rows, ""]), **found}


@cache
def page(name: str) -> str:
    """One page of figures as Markdown."""
    with contextlib.chdir(made_up()):
        title, summary, numbers, figures = of_others(name) if name in OTHERS else of_probe(name)
    parts = [f"# {title}", "", summary, "", numbers, ""]
    for shown in figures:
        caption = [shown.caption, ""] if shown.caption else []
        parts += [f"## {shown.heading}", "", *caption, to_html(shown), "", "```python", shown.code.strip(), "```", ""]
    parts += ['<script src="../assets/plotly.min.js"></script>', '<script src="../site/gallery.js"></script>', ""]
    return "\n".join(parts)


def of_probe(name: str) -> tuple[str, str, str, list[Shown]]:
    """Title, summary, what the numbers are, and figures of a probe, by the public door."""
    title = next(page.title for page in PAGES if page.name == name)
    content = importlib.import_module(f"lcmae.app.dashboard.pages.{name}").PAGE
    namespace: dict[str, Any] = {"lcmae": lcmae}
    results = run('results = lcmae.results("runs")\nresults', namespace)
    measured = results[name]
    if content.every_step:
        measured = {one: found.expand_dims(step=[40]) for one, found in measured.items()}
    captions = {panel.title: panel.caption for panel in content.panels(measured, take_first)}
    figures = []
    for heading in results.figures(name):
        quoted = heading.replace('"', '\\"')
        code = f'results.figures("{name}")["{quoted}"]'
        before = f'results = lcmae.results("runs")  # or lcmae.probe(models, images, ["{name}"])\n'
        figures.append(Shown(heading, captions.get(heading, ""), before + code, run(before + code, namespace)))
    return title, content.summary, others.MADE_UP, figures


def of_others(name: str) -> tuple[str, str, str, list[Shown]]:
    """The same of figures that belong to no probe."""
    title, summary, codes, numbers = OTHERS[name]
    namespace: dict[str, Any] = {"lcmae": lcmae, "torch": torch}
    figures = [Shown(heading, "", code, run(code, namespace)) for heading, code in codes.items()]
    return title, summary, numbers, figures


def run(code: str, namespace: dict[str, Any]) -> Any:
    """What the last line of some code is; run where the folder `runs` lies."""
    *first, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        raise ValueError(f"expected code that ends in a figure, got {code!r}")
    exec(compile(ast.Module(first, []), "<gallery>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "<gallery>", "eval"), namespace)


@cache
def made_up() -> Path:
    """A folder that holds `runs`, the tests' synthetic ones, and what others.py reads."""
    folder = Path(tempfile.mkdtemp(prefix="lcmae-gallery-"))
    for name in RUNS:
        synthetic.run(folder / "runs" / name, kind=name)
    others.write(folder)
    return folder


def to_html(shown: Shown) -> str:
    """The place of a figure, and what gallery.js draws there."""
    figure = shown.figure.update_layout(template=style.TEMPLATE)
    height = int(figure.to_dict()["layout"].get("height", 400))
    label = html.escape(f"{shown.heading}. {shown.caption}".strip(), quote=True)
    data = (figure.to_json() or "").replace("</", "<\\/")
    place = f'{PLACE} role="img" aria-label="{label}" style="height:{height}px"></div>'
    return f'{place}\n<script type="application/json">{data}</script>'


def main() -> None:
    """Write the pages below a folder."""
    (folder,) = (Path(one) for one in sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / f"{name}.md").write_text(text)
        print(folder / f"{name}.md")


if __name__ == "__main__":
    main()
