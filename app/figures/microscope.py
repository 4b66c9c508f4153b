"""Pictures of the microscope: one image in four pictures, and what belongs to one patch of it, marked in every map."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.colors import get_colorscale, sample_colorscale

from app.figures import style

MARK = style.RED
BAR = 64
"""Height in pixels of a colour bar below its maps, with its numbers and its title."""

TERMS = {"loss": "loss", "invariance": "invariance", "local_consistency": "local consistency"}


def coloured(values: xr.DataArray) -> np.ndarray:
    """A map [row column] as a picture uint8 [row column 4] on the house's colour scale from 0 to its largest value; NaN is
    transparent."""
    limit = largest(values) or 1.0
    known = values.notnull().values
    scaled = np.where(known, values.values / limit, 0.0).clip(0, 1)
    colours = sample_colorscale(style.SEQUENTIAL, scaled.reshape(-1).tolist(), colortype="tuple")
    pixels = (np.array(colours).reshape(*values.shape, 3) * 255).round()
    return np.concatenate([pixels, 255.0 * known[..., None]], axis=-1).astype(np.uint8)


def largest(values: xr.DataArray) -> float:
    """The largest value that is known; 0 where none is."""
    return float(np.nanmax(values.values, initial=0.0))


def gradient() -> str:
    """The house's colour scale as CSS colours."""
    return ", ".join(str(colour) for _, colour in get_colorscale(style.SEQUENTIAL))


def masked(shown: xr.Dataset) -> np.ndarray:
    """The image with its hidden patches in grey."""
    pixels = shown["original"].values.copy()
    rows, columns = shown["hidden"].shape
    hidden = np.kron(shown["hidden"].values, np.ones((pixels.shape[0] // rows, pixels.shape[1] // columns))) > 0
    pixels[hidden] = 128
    return pixels


def pictures(shown: xr.Dataset, patch: int) -> go.Figure:
    """Image, mask, reconstruction and error side by side."""
    columns: list[tuple[str, list]] = [("image", [shown["original"].values]), ("masked", [masked(shown)])]
    if "reconstruction" in shown:
        columns.append(("reconstruction", [shown["reconstruction"].values]))
    if "reconstruction_leaky" in shown:
        columns.append(("true statistics<br>(leaks the answer)", [shown["reconstruction_leaky"].values]))
    unit = ""
    if "picture_error" in shown:
        columns.append(("error", [shown["picture_error"].where(shown["hidden"] == 1)]))
        unit = str(shown["picture_error"].attrs["units"])
    figure = style.mosaic(columns, colour_title=unit)
    aspect = shown["original"].shape[1] / shown["original"].shape[0]
    for number in range(len(columns)):
        outline(figure, patch, shown["hidden"].shape, x0=number * (aspect + style.GAP), width=aspect, height=1)
    return figure


def attention(rows: xr.DataArray, patch: int, head: int | None) -> go.Figure:
    """Attention from the patch, rows [head row column]: mean of heads, then one head, or each of the first eight."""
    axis = str(rows.dims[0])
    heads = [head - 1] if head is not None else range(min(rows.sizes[axis], 8))
    panels = {"mean of heads": rows.mean(axis, keep_attrs=True)}
    if rows.sizes[axis] > 1:
        panels |= {f"head {number + 1}": rows[number] for number in heads}
    return tiles(panels, "attention", patch, panels["mean of heads"].shape)


def receptive_field(found: xr.Dataset, patch: int, grid: tuple[int, int]) -> go.Figure:
    """Gradient maps, each as a share of its largest value, with the disc around the patch that holds half of the gradient."""
    panels: dict[str, xr.DataArray] = {}
    radii = []
    for target in found["target"].values:
        field = found["field"].sel(target=target)
        if largest(field) > 0:
            panels[str(target)] = field / largest(field)
            radii.append(float(found["half_radius"].sel(target=target)))
    if not panels:
        return style.figure(height=80).add_annotation(text="every gradient is zero here", showarrow=False)
    figure = tiles(panels, "share of the maximum", patch, grid)
    rows, columns = next(iter(panels.values())).shape
    middle = np.array([(patch // grid[1] + 0.5) * rows / grid[0], (patch % grid[1] + 0.5) * columns / grid[1]])
    turn = np.linspace(0, 2 * np.pi, 120)
    for place, radius in enumerate(radii):
        down, across = middle[:, None] + radius * np.stack([np.sin(turn), np.cos(turn)])
        inside = (across >= 0) & (across <= columns) & (down >= 0) & (down <= rows)
        left, top = corner(place, rows, columns)
        figure.add_trace(
            go.Scatter(
                x=np.where(inside, left + across, np.nan),
                y=np.where(inside, top + down, np.nan),
                mode="lines",
                showlegend=False,
                line={"color": "#ffffff", "width": 2, "dash": "dot"},
                hovertemplate=f"half of the gradient lies within {radius:.1f} pixels<extra></extra>",
            )
        )
    return figure


def contrast(found: xr.Dataset) -> go.Figure:
    """Loss, invariance and local consistency of each patch, on one scale. No patch is marked: so it is the same figure for all
    patches, which a browser need not draw anew."""
    panels = {words: found[name] for name, words in TERMS.items()}
    return tiles(panels, str(found["loss"].attrs["units"]), None, found["loss"].shape)


def numbers(shown: xr.Dataset, terms: xr.Dataset | None, fields: xr.Dataset | None, patch: int) -> pd.DataFrame:
    """Every number of the patch beside the image's own; NaN where there is none."""
    row, column = np.unravel_index(patch, shown["hidden"].shape)
    rows: list[tuple[str, float, float, str]] = []
    if "error" in shown:
        unit = str(shown["error"].attrs["units"])
        is_hidden = bool(shown["hidden"].values[row, column])
        for words, name, of_image in (
            ("error", "picture_error", "error"),
            ("a copied neighbour's error", "nearest_error", "error_nearest"),
        ):
            value = float(shown[name].values[row, column]) if is_hidden else np.nan
            rows.append((words, value, float(shown[of_image]), unit))
    if terms is not None:
        for name, words in TERMS.items():
            values, of_image = terms[name], float(terms[f"image_{name}"])
            rows.append((words, float(values.values[row, column]), of_image, str(values.attrs["units"])))
        rows.append(("times hidden", float(terms["times_hidden"].values[row, column]), np.nan, "masks"))
    if fields is not None:
        for target in fields["target"].values:
            radius = float(fields["half_radius"].sel(target=target))
            rows.append((f"radius: {target}", radius, np.nan, "pixels"))
    return pd.DataFrame(rows, columns=["quantity", "this patch", "this image", "unit"])


def in_plane(result: xr.Dataset, plane: str, image: int, patch: int) -> go.Figure:
    """Stored points of tokens: all in grey, those of this image in blue, this patch as a star."""
    points = result.isel(point=result["kind"].values == "token")
    same_image = points["image"].values == image
    same_patch = same_image & (points["position"].values == patch)
    figure = style.figure(height=380)
    layers: Sequence[tuple[str, np.ndarray, Mapping[str, object]]] = (
        ("other images", ~same_image, {"color": style.GREY, "size": 4, "opacity": 0.4}),
        ("this image", same_image & ~same_patch, {"color": style.BLUE, "size": 8}),
        ("this patch", same_patch, {"color": MARK, "size": 16, "symbol": "star"}),
    )
    for name, chosen, marker in layers:
        here = points.isel(point=chosen)
        if not here.sizes["point"]:
            continue
        figure.add_trace(
            go.Scatter(
                x=here[f"{plane}_x"].values,
                y=here[f"{plane}_y"].values,
                mode="markers",
                name=name,
                marker=dict(marker),
                customdata=np.stack([here["image"].values, here["position"].values], axis=-1),
                hovertemplate="image %{customdata[0]}, patch %{customdata[1]}<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(title=f"{plane.upper()} axis 1", showticklabels=False)
    return figure.update_yaxes(title=f"{plane.upper()} axis 2", showticklabels=False)


PER_ROW = 3
"""Maps side by side: so many fill half of a page."""

HEADING = 0.2
"""Room above a map, as a share of its height."""


def corner(place: int, rows: int, columns: int) -> tuple[float, float]:
    """Left and top of the map that comes at this place."""
    return place % PER_ROW * columns * (1 + style.GAP), place // PER_ROW * rows * (1 + HEADING)


def tiles(panels: Mapping[str, xr.DataArray], title: str, patch: int | None, grid: tuple[int, ...]) -> go.Figure:
    """Maps [row column] in rows of three on one colour scale from 0 up, the patch of the grid (if any) marked in each."""
    rows, columns = next(iter(panels.values())).shape
    lines = -(-len(panels) // PER_ROW)
    width = min(len(panels), PER_ROW) * columns * (1 + style.GAP) - style.GAP * columns
    traces, headings, marks = [], [], []
    for place, (name, values) in enumerate(panels.items()):
        left, top = corner(place, rows, columns)
        dx, dy = columns / values.shape[1], rows / values.shape[0]
        traces.append(style.heatmap(values, name, x0=left, y0=top, dx=dx, dy=dy))
        middle = {"x": left + columns / 2, "y": top, "yanchor": "bottom"}
        headings.append({"text": name, **middle, "showarrow": False, "font": {"size": 12}})
        marks.append([] if patch is None else mark(patch, grid, x0=left, y0=top, width=columns, height=rows))
    bar = {"orientation": "h", "y": 0, "yanchor": "top", "len": 1, "x": 0, "xanchor": "left", "thickness": 10}
    bar |= {"title": {"text": title, "side": "bottom"}, "outlinewidth": 0}
    bottom = rows * (lines * (1 + HEADING) - HEADING)
    # a figure is checked whenever it is changed, which costs more than drawing it: so everything at once, for a page that
    # makes five at every click. Maps stand at the left, under their heading.
    figure = style.figure(
        height=round(lines * 125 * (1 + HEADING) * min(rows / columns, 2)) + BAR,
        # no room to be made for the colour bar: a browser would lay out everything twice
        margin={"l": 0, "r": 0, "t": 0, "b": BAR, "autoexpand": False},
        annotations=headings,
        shapes=[in_one_path(rectangles) for rectangles in zip(*marks, strict=True)],
        coloraxis=style.colour_axis(title, cmin=0) | {"colorbar": bar},
        xaxis={"visible": False, "range": [0, width], "constrain": "domain", "constraintoward": "left"},
        yaxis={
            "visible": False, "range": [bottom, -HEADING * rows], "scaleanchor": "x", "constrain": "domain",
            "constraintoward": "top",
        },
    )  # fmt: skip
    return figure.add_traces(traces)


def outline(figure: go.Figure, patch: int, grid: tuple[int, ...], **where: float) -> None:
    """Mark the patch on a picture whose corner and size are given as `mark` takes them."""
    for shape in mark(patch, grid, **where):
        figure.add_shape(shape)


def mark(
    patch: int, grid: tuple[int, ...], *, x0: float, y0: float = 0.0, width: float, height: float
) -> list[dict[str, Any]]:
    """The selected patch, in red within white, so that it is seen on every colour."""
    rows, columns = grid
    dx, dy = width / columns, height / rows
    left, top = x0 + patch % columns * dx, y0 + patch // columns * dy
    place = {"type": "rect", "x0": left, "x1": left + dx, "y0": top, "y1": top + dy}
    return [{**place, "line": {"color": colour, "width": size}} for colour, size in (("#ffffff", 5), (MARK, 2.5))]


def in_one_path(rectangles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rectangles of one line style as one shape, which a browser draws in the time of one."""
    path = "".join("M{x0},{y0}H{x1}V{y1}H{x0}Z".format_map(rectangle) for rectangle in rectangles)
    return {"type": "path", "path": path, "line": rectangles[0]["line"]}
