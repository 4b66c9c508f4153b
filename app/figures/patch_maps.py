"""Small maps of one image, in which the same patch is marked: as pictures for a page, as a figure
to take away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.colors import get_colorscale, sample_colorscale

from lcmae.app.figures import style

MARK = style.RED
BAR = 64
"""Height in pixels of a colour bar below its maps, with its numbers and its title."""

PER_ROW = 3
HEADING = 0.2
"""Room for the heading of a map, as a share of its height."""


@dataclass(frozen=True)
class Maps:
    """Maps [row column] of one image by their headings, on one colour scale from 0 up; all have one
    shape."""

    panels: Mapping[str, xr.DataArray]
    unit: str
    """What the colours mean."""

    grid: tuple[int, int]
    """Rows and columns of patches; a map may have a finer grid, of pixels."""

    patch: int
    """The patch that is marked, in raster order."""

    radii: Mapping[str, float] = field(default_factory=dict)
    """Radius, in cells of the map, of the disc around the patch that holds half of a map."""

    @property
    def top(self) -> float:
        """The largest value of all maps; 0 where none is known."""
        return max(largest(values) for values in self.panels.values())

    def disc(self, name: str) -> tuple[float, float, float, float] | None:
        """Middle (x, y) and radii (x, y) of a map's disc, in patches."""
        if name not in self.radii:
            return None
        (rows, columns), shape = self.grid, self.panels[name].shape
        row, column = divmod(self.patch, columns)
        radius = self.radii[name]
        return column + 0.5, row + 0.5, radius * columns / shape[1], radius * rows / shape[0]

    def words(self) -> list[str]:
        """What the maps say of each patch, in raster order."""
        words = [[f"{name} = {value}" for value in self._values(name)] for name in self.panels]
        end = "" if next(iter(self.panels.values())).shape == self.grid else " (means over the patch)"
        return [", ".join(of_patch) + end for of_patch in zip(*words, strict=True)]

    def _values(self, name: str) -> list[str]:
        (rows, columns), values = self.grid, np.asarray(self.panels[name].values, dtype=float)
        cells = values.reshape(rows, values.shape[0] // rows, columns, values.shape[1] // columns)
        return ["nothing" if np.isnan(value) else f"{value:.3g}" for value in cells.mean((1, 3)).reshape(-1)]

    def figure(self) -> go.Figure:
        """In rows of three, everything at once: a figure is checked whenever it is changed, which
        costs more than drawing it."""
        rows, columns = next(iter(self.panels.values())).shape
        lines = -(-len(self.panels) // PER_ROW)
        width = min(len(self.panels), PER_ROW) * columns * (1 + style.GAP) - style.GAP * columns
        traces: list[Any] = []
        headings, marks = [], []
        for position, (name, values) in enumerate(self.panels.items()):
            left, top = corner(position, rows, columns)
            traces.append(style.heatmap(values, name, x0=left, y0=top, dx=1, dy=1))
            middle = {"x": left + columns / 2, "y": top, "yanchor": "bottom"}
            headings.append({"text": name, **middle, "showarrow": False, "font": {"size": 12}})
            marks.append(mark(self.patch, self.grid, x0=left, y0=top, width=columns, height=rows))
            if name in self.radii:
                traces.append(self._dotted(name, left, top))
        bar = {"orientation": "h", "y": 0, "yanchor": "top", "len": 1, "x": 0, "xanchor": "left", "thickness": 10}
        bar |= {"title": {"text": self.unit, "side": "bottom"}, "outlinewidth": 0}
        bottom = rows * (lines * (1 + HEADING) - HEADING)
        figure = style.figure(
            height=round(lines * 125 * (1 + HEADING) * min(rows / columns, 2)) + BAR,
            margin={"l": 0, "r": 0, "t": 0, "b": BAR, "autoexpand": False},
            annotations=headings,
            shapes=[in_one_path(rectangles) for rectangles in zip(*marks, strict=True)],
            coloraxis=style.colour_axis(self.unit, cmin=0, cmax=self.top or 1.0) | {"colorbar": bar},
            xaxis={"visible": False, "range": [0, width], "constrain": "domain", "constraintoward": "left"},
            yaxis={
                "visible": False, "range": [bottom, -HEADING * rows], "scaleanchor": "x", "constrain": "domain",
                "constraintoward": "top",
            },
        )  # fmt: skip
        return figure.add_traces(traces)

    def _dotted(self, name: str, left: float, top: float) -> go.Scatter:
        """The disc of a map whose corner is given, as far as it lies on the map."""
        disc, (rows, columns) = self.disc(name), self.panels[name].shape
        assert disc is not None
        turn = np.linspace(0, 2 * np.pi, 120)
        across = (disc[0] + disc[2] * np.cos(turn)) * columns / self.grid[1]
        down = (disc[1] + disc[3] * np.sin(turn)) * rows / self.grid[0]
        within = (across >= 0) & (across <= columns) & (down >= 0) & (down <= rows)
        return go.Scatter(
            x=np.where(within, left + across, np.nan),
            y=np.where(within, top + down, np.nan),
            mode="lines",
            showlegend=False,
            line={"color": "#ffffff", "width": 2, "dash": "dot"},
            hovertemplate=f"half of the gradient lies within {self.radii[name]:.1f} pixels<extra></extra>",
        )


def coloured(values: xr.DataArray, limit: float | None = None) -> np.ndarray:
    """A map [row column] as a picture uint8 [row column 4] on the house's colour scale from 0 to
    `limit` (by default its largest value), in 256 steps; NaN is transparent."""
    limit = limit or largest(values) or 1.0
    known = values.notnull().values
    steps = (np.where(known, values.values / limit, 0.0).clip(0, 1) * 255).round().astype(int)
    return np.concatenate([colours()[steps], np.where(known, 255, 0)[..., None]], axis=-1).astype(np.uint8)


@cache
def colours() -> np.ndarray:
    """The house's colour scale, uint8 [256 3]."""
    scale = sample_colorscale(style.SEQUENTIAL, np.linspace(0, 1, 256).tolist(), colortype="tuple")
    return (np.array(scale) * 255).round().astype(np.uint8)


@cache
def gradient() -> str:
    """The house's colour scale as CSS colours."""
    return ", ".join(str(colour) for _, colour in get_colorscale(style.SEQUENTIAL))


def largest(values: xr.DataArray) -> float:
    """The largest value that is known; 0 where none is."""
    return float(np.nanmax(values.values, initial=0.0))


def corner(position: int, rows: int, columns: int) -> tuple[float, float]:
    """Left and top of the map that comes at this position."""
    return position % PER_ROW * columns * (1 + style.GAP), position // PER_ROW * rows * (1 + HEADING)


def mark(
    patch: int, grid: tuple[int, ...], *, x0: float, y0: float = 0.0, width: float, height: float
) -> list[dict[str, Any]]:
    """The selected patch, in red within white, so that it is seen on every colour."""
    rows, columns = grid
    dx, dy = width / columns, height / rows
    left, top = x0 + patch % columns * dx, y0 + patch // columns * dy
    position = {"type": "rect", "x0": left, "x1": left + dx, "y0": top, "y1": top + dy}
    return [{**position, "line": {"color": colour, "width": size}} for colour, size in (("#ffffff", 5), (MARK, 2.5))]


def in_one_path(rectangles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rectangles of one line style as one shape, which a browser draws in the time of one."""
    path = "".join("M{x0},{y0}H{x1}V{y1}H{x0}Z".format_map(rectangle) for rectangle in rectangles)
    return {"type": "path", "path": path, "line": rectangles[0]["line"]}
