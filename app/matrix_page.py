"""What `lcmae compare --matrix` found: one HTML page that needs nothing else, and its panels for
the dashboard."""

from collections.abc import Iterator
from html import escape

import pandas as pd
import xarray as xr

from lcmae.app.command_line.tables import print_table
from lcmae.app.dashboard.components.ratio_matrix import ABOUT, TITLES, notes, panels
from lcmae.app.figures import ratio_matrix as figures
from lcmae.app.report import closing, opening, to_figure, to_table
from lcmae.probes.grids.ratio_verdict import sentences

PAGE = "matrix.html"


def document(matrix: xr.Dataset, where: str) -> str:
    """The page."""
    return "".join(_parts(matrix, where))


def _parts(matrix: xr.Dataset, where: str) -> Iterator[str]:
    yield opening(f"lcmae compare --matrix {where}", f"Trained at one masking ratio, tested at another: {where}")
    runs = int(matrix["num_seeds"].sum())
    yield f"<p>{runs} runs, {matrix.sizes['cell']} cells, {int(matrix.attrs['images'])} test images at most.</p>"
    for line in sentences(matrix):
        yield f'<p class="answer">{escape(line)}</p>'
    for line in notes(matrix):
        yield f"<p>{escape(line)}</p>"
    for panel in panels(matrix):
        yield to_figure(panel)
    for name in figures.known(matrix):
        yield f"<h2>{TITLES[name]}</h2>" + to_table(table(matrix, name))
    yield closing()


def table(matrix: xr.Dataset, name: str) -> pd.DataFrame:
    """Means with intervals, a row a cell and a column a test ratio."""
    rows = []
    for cell in range(matrix.sizes["cell"]):
        row = {"training": str(matrix["name"].values[cell]), "seeds": str(int(matrix["num_seeds"].values[cell]))}
        for column, ratio in enumerate(matrix["test_ratio"].values):
            mean, low, high = (float(matrix[f"{name}_{part}"].values[cell, column]) for part in ("mean", "low", "high"))
            if mean == mean:
                row[f"test {ratio:g}"] = f"{mean:.3g}" + (f" ({low:.3g} to {high:.3g})" if low == low else "")
        rows.append(row)
    return pd.DataFrame(rows)


def print_matrix(matrix: xr.Dataset) -> None:
    """Sentences, then a table for each measure."""
    for line in [*sentences(matrix), *notes(matrix)]:
        print(line)
    for name in figures.known(matrix):
        shown = table(matrix, name).fillna("")
        rows = [[str(value) for value in row] for row in shown.itertuples(index=False)]
        print_table(
            f"{TITLES[name]} by training (rows) and masking ratio of the test", list(shown.columns), rows, note=ABOUT
        )
