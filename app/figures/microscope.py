"""Pictures of the microscope: one image in four pictures, and what belongs to one patch of it,
marked in every map."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import style
from lcmae.app.figures.patch_maps import MARK, Maps, largest, mark

TERMS = {"loss": "loss", "invariance": "invariance", "local_consistency": "local consistency"}


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


def attention(rows: xr.DataArray, patch: int, head: int | None) -> Maps:
    """Attention from the patch, rows [head row column]: mean of heads, then one head, or each of
    the first eight."""
    axis = str(rows.dims[0])
    heads = [head - 1] if head is not None else range(min(rows.sizes[axis], 8))
    panels = {"mean of heads": rows.mean(axis, keep_attrs=True)}
    if rows.sizes[axis] > 1:
        panels |= {f"head {number + 1}": rows[number] for number in heads}
    height, width = rows.shape[1:]
    return Maps(panels, "attention", (height, width), patch)


MOST_QUERIES = 6
"""Queries of an attentive probe that are drawn one by one."""


def query_maps(found: xr.Dataset, patch: int) -> Maps:
    """Where an attentive probe looks: the mean of its queries, then those whose attention is most
    concentrated in this image (the lowest entropy)."""
    maps = found["attention"]
    entropy = -(maps * np.log(maps.where(maps > 0, 1))).sum(("row", "column"))
    order = np.argsort(entropy.values, kind="stable")[:MOST_QUERIES]
    panels = {f"mean of {maps.sizes['query']} queries": maps.mean("query", keep_attrs=True)}
    panels |= {f"query {int(maps['query'][at])}": maps.isel(query=int(at)) for at in order}
    height, width = maps.shape[1:]
    return Maps(panels, "attention", (height, width), patch)


def query_words(found: xr.Dataset) -> str:
    """How much of the queries' attention the patches have that they look at most, beside an even
    share."""
    mean = found["attention"].mean("query").values.reshape(-1)
    most = max(1, round(len(mean) / 10))
    share = float(np.sort(mean)[-most:].sum())
    patches = "the patch" if most == 1 else f"the {most} of {len(mean)} patches"
    return f"Their mean gives {share:.0%} to {patches} that they attend to most (if even: {most / len(mean):.0%})."


def receptive_field(found: xr.Dataset, patch: int, grid: tuple[int, int]) -> Maps | None:
    """Gradient maps, each as a share of its largest value, with the disc around the patch that
    holds half of the gradient; None where every gradient is 0."""
    panels: dict[str, xr.DataArray] = {}
    radii: dict[str, float] = {}
    for target in map(str, found["target"].values):
        field = found["field"].sel(target=target)
        if largest(field) > 0:
            panels[target] = field / largest(field)
            radii[target] = float(found["half_radius"].sel(target=target))
    return Maps(panels, "share of the maximum", grid, patch, radii) if panels else None


def contrast(found: xr.Dataset, patch: int) -> Maps:
    """Loss, invariance and local consistency of each patch, on one scale."""
    panels = {words: found[name] for name, words in TERMS.items()}
    height, width = found["loss"].shape
    return Maps(panels, str(found["loss"].attrs["units"]), (height, width), patch)


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


def outline(figure: go.Figure, patch: int, grid: tuple[int, ...], **where: float) -> None:
    """Mark the patch on a picture whose corner and size are given as `mark` takes them."""
    for shape in mark(patch, grid, **where):
        figure.add_shape(shape)
