"""What `lcmae compare --matrix` found: panels and notes, for the dashboard and for its own page."""

from collections.abc import Iterator

import xarray as xr

from lcmae.app.dashboard.page import Panel
from lcmae.app.figures import ratio_matrix as figures
from lcmae.probes.grids.verdict import ADVISED_SEEDS, FEW_SEEDS

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
        lines.append("One seed has no intervals and says nothing about chance.")
    elif seeds < 2:
        lines.append("Cells of one seed have their variance from the others: their intervals are wide.")
    elif seeds < FEW_SEEDS:
        lines.append(f"Provisional: 2 seeds are valid but nearly powerless; --seeds {ADVISED_SEEDS} is the advice.")
    if matrix.attrs.get("left_out"):
        lines.append(f"Left out, because training has not finished: {matrix.attrs['left_out']}.")
    return lines
