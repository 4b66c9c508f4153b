"""What `lcmae compare --matrix` found: one HTML page that needs nothing else, and its panels for
the dashboard."""

from collections.abc import Iterator
from html import escape

import pandas as pd
import xarray as xr

from lcmae.app.command_line.tables import print_table
from lcmae.app.dashboard.page import Panel
from lcmae.app.figures import ratio_matrix as figures
from lcmae.app.report import closing, opening, to_figure, to_table
from lcmae.probes.grids.ratio_verdict import sentences
from lcmae.probes.grids.verdict import ADVISED_SEEDS, FEW_SEEDS

PAGE = "matrix.html"
TITLES = {
    "loss": "Masked loss",
    "mean_knn": "kNN accuracy",
    "mean_linear": "Ridge accuracy",
    "effective_rank": "Effective rank",
}
ABOUT = (
    "Every run under the same random masks of each test ratio. Features are mean tokens of what is visible, of training and "
    "test images alike; test ratio 0 is whole images. Means over seeds, ± half of the 95 % interval; a star may be the best "
    "at its test ratio (each test ratio alone)."
)


def panels(matrix: xr.Dataset) -> Iterator[Panel]:
    """A heat map for each measure."""
    for name in figures.known(matrix):
        title = f"{TITLES[name]}, trained at one ratio, tested at another"
        yield Panel(title, ABOUT, figures.heat_map(matrix, name), is_wide=True)


def notes(matrix: xr.Dataset) -> list[str]:
    """What a reader must know beside the answer."""
    lines = []
    seeds = int(matrix["num_seeds"].min())
    if int(matrix["num_seeds"].max()) < 2:
        lines.append("One seed says nothing of chance, and has no intervals.")
    elif seeds < 2:
        lines.append("Cells of one seed have their variance from the others: their intervals are wide.")
    elif seeds < FEW_SEEDS:
        lines.append(f"Provisional: 2 seeds are valid but nearly powerless; --seeds {ADVISED_SEEDS} is the advice.")
    if matrix.attrs.get("left_out"):
        lines.append(f"Left out, because training is not at its end: {matrix.attrs['left_out']}.")
    return lines


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
