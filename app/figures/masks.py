"""Pictures of mask strategies: samples of every strategy in one, and each patch's chance to be
hidden.

Arrays come with the last two axes (rows, columns) of the patch grid, in raster order; the first row
is drawn on top.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lcmae.app.figures import style
from lcmae.app.figures.answers import Answer

HIDDEN = "#26355d"
VISIBLE = "#ffdb8a"
VEIL, SHARE = 118, 0.86  # grey over what is hidden, and how much of it
PATCH = 8  # side of a drawn patch, in pixels
TITLE = 34  # room for a panel's title, in pixels


def gallery(samples: Mapping[str, np.ndarray], num_columns: int = 2) -> go.Figure:
    """Samples of every strategy, one strip each: `samples[name]` is [mask rows columns], true where
    hidden."""
    names = list(samples)
    rows, columns = _largest_grid(samples)
    num_samples = max((len(value) for value in samples.values()), default=1)
    figure, positions = _panels(names, num_columns, num_samples * (columns + 1) * PATCH, rows * PATCH)
    for name, (row, column) in zip(names, positions, strict=True):
        hidden = np.asarray(samples[name])
        if hidden.ndim != 3:
            raise ValueError(f"expected samples [mask rows columns] of {name}, got {hidden.ndim} axes")
        strip, which = side_by_side(hidden.astype(float))
        figure.add_trace(
            go.Heatmap(
                z=strip,
                customdata=which,
                zmin=0,
                zmax=1,
                colorscale=[[0, VISIBLE], [1, HIDDEN]],
                showscale=False,
                xgap=0.5,
                ygap=0.5,
                hoverongaps=False,
                hovertemplate="sample %{customdata[0]:.0f}, row %{y}, column %{customdata[1]:.0f}<br>"
                "hidden: %{z:.0f}<extra>" + name + "</extra>",
            ),
            row=row,
            col=column,
        )
    _titles(figure, names, [f"{name}, {np.mean(samples[name]):.0%} hidden" for name in names])
    for name, colour in (("visible", VISIBLE), ("hidden", HIDDEN)):
        figure.add_trace(_key(name, colour))
    return figure.update_layout(
        showlegend=True, legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0}
    )


def coverage(maps: Mapping[str, np.ndarray], num_columns: int = 4) -> go.Figure:
    """Each patch's chance to be hidden, one heat map a strategy on one scale: `maps[name]` is [rows
    columns] in [0, 1]."""
    names = list(maps)
    rows, columns = _largest_grid(maps)
    figure, positions = _panels(names, num_columns, 2 * columns * PATCH, 2 * rows * PATCH, right=110)
    for name, (row, column) in zip(names, positions, strict=True):
        chance = np.asarray(maps[name], dtype=float)
        if chance.ndim != 2:
            raise ValueError(f"expected coverage [rows columns] of {name}, got {chance.ndim} axes")
        figure.add_trace(
            go.Heatmap(
                z=chance,
                coloraxis="coloraxis",
                hovertemplate="row %{y}, column %{x}<br>chance to be hidden %{z:.3f}<extra>" + name + "</extra>",
            ),
            row=row,
            col=column,
        )
    _titles(figure, names, [f"{name}, {np.min(maps[name]):.2f} to {np.max(maps[name]):.2f}" for name in names])
    return figure.update_layout(
        coloraxis={"cmin": 0, "cmax": 1, "colorscale": "Cividis_r", "colorbar": {"title": {"text": "chance hidden"}}},
    )


def over_photograph(pixels: np.ndarray, hidden: np.ndarray, gap: float = 0.04) -> np.ndarray:
    """Copies of a photograph uint8 [y x 3] in a row, uint8 [y x 4], each under one of the masks
    [mask row column]: what is hidden keeps a trace of itself, gaps are transparent."""
    height, width = pixels.shape[:2]
    rows, columns = hidden.shape[1:]
    if height % rows or width % columns:
        raise ValueError(
            f"expected a photograph of whole patches, got {height}x{width} pixels for {rows}x{columns} patches"
        )
    space = max(1, round(gap * width))
    strip = np.zeros((height, len(hidden) * (width + space) - space, 4), np.uint8)
    grey = np.array([VEIL, VEIL, VEIL])
    for position, mask in enumerate(hidden):
        by_pixel = mask.repeat(height // rows, 0).repeat(width // columns, 1)[..., None]
        covered = np.where(by_pixel, SHARE * grey + (1 - SHARE) * pixels, pixels)
        left = position * (width + space)
        strip[:, left : left + width, :3] = covered.round()
        strip[:, left : left + width, 3] = 255
    return strip


def distances(values: Mapping[str, float]) -> go.Figure:
    """How far hidden patches lie from the nearest visible one under each strategy, the farthest on
    top."""
    order = sorted(values, key=lambda name: values[name])
    shown = style.figure(height=90 + 26 * len(order))
    shown.add_trace(
        go.Bar(
            x=[values[name] for name in order],
            y=order,
            orientation="h",
            marker={"color": style.BLUE},
            text=[f"{values[name]:.2f}" for name in order],
            hovertemplate="%{y}: %{x:.3f} patches<extra></extra>",
        )
    )
    shown.update_xaxes(title="distance from a hidden patch to the nearest visible one [patches]", rangemode="tozero")
    return shown.update_layout(showlegend=False, margin={"t": 10})


def answer(values: Mapping[str, float], ratio: float, side: int, num_masks: int) -> Answer:
    """Which strategy hides patches farthest from what is visible, of means over so many masks."""
    far, near = max(values, key=lambda name: values[name]), min(values, key=lambda name: values[name])
    return Answer(
        f"At ratio {ratio:g} on {side} x {side} patches a hidden patch lies {values[far]:.2f} patches from the nearest visible "
        f"one under {far}, and {values[near]:.2f} under {near} (means over {num_masks} masks): the farther, the less can be "
        "copied from a neighbour."
    )


def side_by_side(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[mask rows columns] as one strip with an empty column between masks, and each position's
    (mask, column)."""
    num_masks, rows, columns = masks.shape
    padded = np.full((num_masks, rows, columns + 1), np.nan)
    padded[:, :, :columns] = masks
    strip = padded.transpose(1, 0, 2).reshape(rows, -1)[:, :-1]
    position = np.arange(strip.shape[1])
    which = np.stack([position // (columns + 1), position % (columns + 1)], axis=-1)
    return strip, np.broadcast_to(which, (rows, *which.shape))


def _panels(
    names: list[str], num_columns: int, width: int, height: int, right: int = 20
) -> tuple[go.Figure, list[tuple[int, int]]]:
    """Empty panels of this size in pixels, and the (row, column) of each: square patches, the first
    row on top, no axes."""
    if not names:
        raise ValueError("expected at least one mask strategy to draw, got none")
    num_columns = min(num_columns, len(names))
    num_rows = -(-len(names) // num_columns)
    whole_width = num_columns * (width + 24) - 24
    whole_height = num_rows * (height + TITLE) - TITLE
    figure = make_subplots(
        rows=num_rows,
        cols=num_columns,
        subplot_titles=names,
        horizontal_spacing=24 / whole_width if num_columns > 1 else 0,
        vertical_spacing=TITLE / whole_height if num_rows > 1 else 0,
    )
    figure.update_xaxes(visible=False, constrain="domain")
    axes: Iterator[Any] = figure.select_yaxes()
    for axis in axes:
        axis.update(visible=False, constrain="domain", autorange="reversed", scaleanchor=axis.anchor)
    margin = {"l": 20, "r": right, "t": 70, "b": 20}
    figure.update_layout(
        width=whole_width + margin["l"] + margin["r"],
        height=whole_height + margin["t"] + margin["b"],
        margin=margin,
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure, [(1 + index // num_columns, 1 + index % num_columns) for index in range(len(names))]


def _titles(figure: go.Figure, names: list[str], titles: list[str]) -> None:
    by_name = dict(zip(names, titles, strict=True))
    figure.for_each_annotation(lambda note: note.update(text=by_name[note.text], font={"size": 12}))


def _key(name: str, colour: str) -> go.Scatter:
    """An entry of the legend, without a point in the picture."""
    return go.Scatter(x=[None], y=[None], mode="markers", marker={"color": colour, "symbol": "square"}, name=name)


def _largest_grid(arrays: Mapping[str, Any]) -> tuple[int, int]:
    shapes = [np.shape(value)[-2:] for value in arrays.values()]
    return max((shape[0] for shape in shapes), default=1), max((shape[-1] for shape in shapes), default=1)
