"""Maps of stored points: the model's vectors beside raw pixels, and pictures of the points that
were selected."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from PIL import Image, ImageDraw

from lcmae.app.figures import style
from lcmae.app.figures.answers import Answer, Number, against, beside, level
from lcmae.probes.statistics.intervals import student

SIDES = {"patches": ("token", "patch"), "images": ("pooled", "image")}
"""What is mapped -> kinds of its points: the model's on the left, raw pixels on the right."""

TITLES = {"token": "tokens of the model", "patch": "raw patches", "pooled": "pooled vectors", "image": "raw images"}

COLOURS = ("label", "row", "column", "image", "loss", "invariance", "local_consistency")
WORDS = {
    "label": "class", "row": "row of the grid", "column": "column of the grid", "image": "image",
    "loss": "loss where hidden", "invariance": "invariance (contrast term)",
    "local_consistency": "local consistency (contrast term)",
}  # fmt: skip
MOST_CLASSES = len(style.PALETTE) * len(style.SYMBOLS)
"""More classes than colours times symbols cannot be told apart; their numbers are then a scale."""

NEIGHBOURS = 10
"""Nearest points of other images that a sentence speaks of."""

MOST_POINTS = 3000
"""Points whose pairs are looked at."""

SIDE = 96
"""Height and least width of a selected point's picture, in pixels."""


def things(result: xr.Dataset) -> list[str]:
    """Which maps there are; none in results of older versions, which have no pictures of their
    points."""
    if "patch_thumbnail" not in result:
        return []
    return [what for what, kinds in SIDES.items() if set(kinds) <= set(result["kind"].values.tolist())]


def colours(result: xr.Dataset, what: str) -> list[str]:
    """By what points can be coloured: no rows of whole images, no unknown classes, no terms that
    are not stored."""
    known = [name for name in COLOURS if name in result and (what == "patches" or name not in ("row", "column"))]
    return [name for name in known if name != "label" or bool((result["label"] >= 0).any())]


def planes(result: xr.Dataset, what: str) -> list[str]:
    """Planes in which every point of both sides has a position, UMAP first."""
    points = result.isel(point=np.isin(result["kind"].values, SIDES[what]))
    known = [name for name in ("umap", "pca") if f"{name}_x" in result]
    return [name for name in known if bool(points[f"{name}_x"].notnull().all())]


def side(result: xr.Dataset, kind: str) -> xr.Dataset:
    """Points of one kind, in their order: the same number is the same patch (or image) on both
    sides."""
    return result.isel(point=result["kind"].values == kind)


def maps(result: xr.Dataset, what: str, plane: str, colour_by: str, selected: Sequence[int] = ()) -> go.Figure:
    """Both sides in the same colours, each in a plane of its own; `selected` points stand out on
    both."""
    shown = style.figure(height=520, dragmode="lasso", margin={"l": 30, "r": 20, "t": 64, "b": 40})
    for position, kind in enumerate(SIDES[what]):
        points = side(result, kind)
        for rows, name, marker in _groups(points, colour_by):
            within = {int(row): at for at, row in enumerate(rows)}
            chosen = [within[row] for row in selected if row in within] if len(selected) else None
            shown.add_trace(
                go.Scattergl(
                    x=points[f"{plane}_x"].values[rows],
                    y=points[f"{plane}_y"].values[rows],
                    mode="markers",
                    name=name,
                    legendgroup=name,
                    showlegend=bool(name) and position == 0,
                    xaxis="x2" if position else "x",
                    yaxis="y2" if position else "y",
                    marker={"size": 6 if what == "patches" else 9, **marker},
                    selectedpoints=chosen,
                    unselected={"marker": {"opacity": 0.15}},
                    customdata=_about(points, rows),
                    hovertemplate="image %{customdata[1]}"
                    + (", row %{customdata[2]}, column %{customdata[3]}" if what == "patches" else "")
                    + ", class %{customdata[4]}<extra>"
                    + TITLES[kind]
                    + "</extra>",
                )
            )
    left, right = (TITLES[kind] for kind in SIDES[what])
    shown.update_layout(
        modebar={"orientation": "v"},  # beside the legend, not on it
        xaxis={"domain": [0, 0.485], "title": f"{left}: {plane.upper()} axis 1"},
        xaxis2={"domain": [0.515, 1], "title": f"{right}: {plane.upper()} axis 1", "anchor": "y2"},
        yaxis={"title": f"{plane.upper()} axis 2"},
        yaxis2={"anchor": "x2"},
    )
    if colour_by not in result or not _is_class(result, colour_by):
        units = str(result[colour_by].attrs["units"])
        shown.update_layout(coloraxis=style.colour_axis(WORDS[colour_by] + ("" if units == "1" else f" [{units}]")))
    return shown.update_xaxes(showticklabels=False).update_yaxes(showticklabels=False)


def answer(result: xr.Dataset, what: str, plane: str) -> Answer:
    """Whether points of one class lie near each other in the plane, beside the same points by their
    pixels; without classes, how many neighbours both sides share."""
    own, raw = (side(result, kind).isel(point=slice(MOST_POINTS)) for kind in SIDES[what])
    near = [_neighbours(points, plane) for points in (own, raw)]
    images, labels = own["image"].values, own["label"].values.astype(int)
    known = labels >= 0
    count = near[0].shape[1]
    words = f"of the {count} nearest {what} of other images in this {plane.upper()}"
    known = labels >= 0
    if known.all() and len(np.unique(labels)) > 1:
        same = [_share(labels[one] == labels[:, None], one, images) for one in near]
        by_chance = level(_same_by_chance(labels, images), share=True)
        relation = against(same[0], {"the share by raw pixels": same[1], "that by chance": by_chance}, ", which ")
        tiles = [same[0].tile("same class, by the model", beside("chance", by_chance)), same[1].tile("by raw pixels")]
        return Answer(f"{same[0]} {words} are of the same class{relation}.", tuple(tiles))
    shared = np.array([np.isin(one, other) for one, other in zip(*near, strict=True)])
    both, by_chance = _share(shared, near[0], images), level(count / max(len(images) - 1, 1), share=True)
    relation = against(both, {"chance": by_chance}, ", which ")
    return Answer(f"{both} {words} are near by raw pixels, too{relation}.", (both.tile("neighbours of both"),))


def _share(hits: np.ndarray, near: np.ndarray, images: np.ndarray) -> Number:
    """Share of [point neighbour] that are hits, with its 95 % interval over images.

    A point counts by its own neighbours and by those whose neighbour it is, so points do not pass
    for independent ones; an interval so made held the truth in 97 to 100 % of simulated maps.
    """
    share, count = float(hits.mean()), near.shape[1]
    influence = hits.mean(1) - share
    np.add.at(influence, near.reshape(-1), ((hits - share) / count).reshape(-1))
    by_image = np.array([influence[images == image].sum() for image in np.unique(images)])
    if len(by_image) < 2:
        return Number(share, is_share=True)
    degrees = len(by_image) - 1
    half = float(student(degrees) * np.sqrt(len(by_image) / degrees * (by_image**2).sum()) / len(images))
    return Number(share, max(0.0, share - half), min(1.0, share + half), is_share=True)


def _same_by_chance(labels: np.ndarray, images: np.ndarray) -> float:
    """How often two points of different images are of one class."""
    of_image = np.unique(images, return_counts=True)[1].astype(float)
    pairs = len(images) ** 2 - (of_image**2).sum()
    same = 0.0
    for label in np.unique(labels):
        counts = np.unique(images[labels == label], return_counts=True)[1].astype(float)
        same += counts.sum() ** 2 - (counts**2).sum()
    return float(same / pairs) if pairs else 0.0


def _neighbours(points: xr.Dataset, plane: str) -> np.ndarray:
    """[point neighbour]: the nearest points of other images in the plane; of a single image, the
    nearest points."""
    where = np.stack([points[f"{plane}_{axis}"].values.astype(float) for axis in "xy"], axis=1)
    squared = ((where[:, None] - where[None]) ** 2).sum(-1)
    images = points["image"].values
    others = images[:, None] != images[None]
    squared[~others if others.any(1).all() else np.eye(len(images), dtype=bool)] = np.inf
    count = max(1, min(NEIGHBOURS, int(np.isfinite(squared).sum(1).min())))
    return np.argsort(squared, axis=1, kind="stable")[:, :count]


def _is_class(points: xr.Dataset, colour_by: str) -> bool:
    return colour_by == "label" and len(np.unique(points["label"].values)) <= MOST_CLASSES


def _groups(points: xr.Dataset, colour_by: str) -> list[tuple[np.ndarray, str, Mapping[str, object]]]:
    """(rows, name, marker) of each trace: one a class, else one on a colour scale with what is
    unknown in grey below it."""
    values = points[colour_by].values
    if _is_class(points, colour_by):
        found = []
        for position, label in enumerate(np.unique(values).tolist()):
            colour, symbol = style.PALETTE[position % 6], style.SYMBOLS[position // 6 % 6]
            marker = {"color": style.GREY if label < 0 else colour, "symbol": symbol, "opacity": 0.8}
            found.append((np.flatnonzero(values == label), f"class {label}" if label >= 0 else "no class", marker))
        return found
    known = np.isfinite(values.astype(float))
    scaled = {"color": values[known], "coloraxis": "coloraxis", "opacity": 0.8}
    unknown = {"color": style.GREY, "opacity": 0.3}
    groups = [(np.flatnonzero(~known), "never hidden", unknown), (np.flatnonzero(known), "", scaled)]
    return [group for group in groups if len(group[0])]


def _about(points: xr.Dataset, rows: np.ndarray) -> list[list[int]]:
    """[number among its kind, image, row, column, class] of each point."""
    columns = [points[name].values[rows].tolist() if name in points else [-1] * len(rows)
               for name in ("image", "row", "column", "label")]  # fmt: skip
    return [list(one) for one in zip(rows.tolist(), *columns, strict=True)]


def numbers_of(selection: Mapping[str, object]) -> list[int]:
    """Numbers of the points that streamlit says are selected, ascending; a click, a box and a lasso
    alike."""
    points = selection.get("points", [])
    assert isinstance(points, list)
    return sorted({int(point["customdata"][0]) for point in points if point.get("customdata")})


def pictures(result: xr.Dataset, what: str, numbers: Sequence[int]) -> list[tuple[np.ndarray, str]]:
    """A picture uint8 [y x 3] and its words for each selected point; a patch beside its image, in
    which it is framed."""
    points = side(result, SIDES[what][0])
    images = side(result, "pooled")["image"].values.tolist()
    rows, columns = (int(part) for part in str(result.attrs["grid"]).split(" x "))
    found = []
    for number in numbers:
        one = points.isel(point=number)
        image, label = int(one["image"]), int(one["label"])
        whole = _enlarged(result["image_thumbnail"].values[images.index(image)])
        words = f"image {image}" + ("" if label < 0 else f", class {label}")
        if what == "patches":
            row, column = int(one["row"]), int(one["column"])
            patch = _enlarged(result["patch_thumbnail"].values[int(one["thumbnail"])])
            gap = np.full((SIDE, 6, 3), 128, np.uint8)
            whole = np.concatenate([_framed(whole, row / rows, column / columns, 1 / rows, 1 / columns), gap, patch], 1)
            words += f", row {row}, column {column}"
        found.append((whole, words))
    return found


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """Of the house's height for pictures, each pixel a square, in three channels."""
    colour = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].repeat(3, -1)
    width = max(1, round(SIDE * pixels.shape[1] / pixels.shape[0]))
    return np.asarray(Image.fromarray(colour).resize((width, SIDE), Image.Resampling.NEAREST))


def _framed(pixels: np.ndarray, top: float, left: float, height: float, width: float) -> np.ndarray:
    """A frame in the house's orange around a part of the picture, given in shares of it."""
    drawn = Image.fromarray(pixels)
    down, across = pixels.shape[0], pixels.shape[1]
    box = (left * across, top * down, (left + width) * across - 1, (top + height) * down - 1)
    ImageDraw.Draw(drawn).rectangle(box, outline=style.ORANGE, width=3)
    return np.asarray(drawn)
