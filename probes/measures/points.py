"""Tokens and patches, and whole images, as points in a plane: one labelled table, by PCA always and
by UMAP where asked for.

Tokens, patches, pooled vectors and pictures have different widths, so each kind has a plane of its
own; the table puts them side by side. The same `image` and `position` under two kinds are the same
patch, and position -1 is the whole image.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from lcmae.probes.statistics.variables import variable
from lcmae.shapes import Float, Int, UInt8

KINDS = {"token": "patch", "patch": "patch", "pooled": "image", "image": "image"}
"""Kind of point -> what a point is. Token and pooled vector are the model's; patch and image are
raw pixels (an image's are those of its picture)."""


@dataclass(frozen=True)
class Points:
    """Tokens and patches of b images at s places, with where they come from."""

    tokens: Float[Tensor, "b s d"]
    patches: Float[Tensor, "b s p"]
    pooled: Float[Tensor, "b e"]
    pictures: UInt8[Tensor, "b y x c"]
    patch_pictures: UInt8[Tensor, "b s q r c"]
    labels: Int[Tensor, " b"]
    """Class of each image; -1 where it is not known."""

    images: Int[Tensor, " b"]
    """Index of each image among all images."""

    positions: Int[Tensor, " s"]
    """Raster index of each place."""

    num_columns: int
    """Of the grid."""

    terms: Mapping[str, tuple[Float[Tensor, "b s"], Float[Tensor, " b"]]]
    """Error of each patch and of each image by name, as far as there is a prediction; NaN where no
    mask hid the patch."""

    units: str
    """Of the terms."""


def table(
    points: Points, num_points: int, rng: torch.Generator, umap_neighbours: int | None
) -> tuple[dict[str, xr.Variable], dict[str, str]]:
    """Columns over `point`: kind, image, position, row, column, label, thumbnail, the terms, pca_x,
    pca_y (and umap_x, umap_y); pictures `image_thumbnail` and `patch_thumbnail`, which `thumbnail`
    counts; and attributes of the result.

    At most `num_points` tokens and their patches, drawn; all images. `umap_neighbours` None leaves
    UMAP out.
    """
    num_images, num_positions = points.tokens.shape[:2]
    chosen = torch.randperm(num_images * num_positions, generator=rng)[:num_points].sort().values
    image, slot = chosen // num_positions, chosen % num_positions
    of_kind = {
        "token": points.tokens[image, slot],
        "patch": points.patches[image, slot],
        "pooled": points.pooled,
        "image": points.pictures.flatten(1) / 255,
    }

    position = points.positions[slot]
    whole = torch.full((num_images,), -1)

    def column(of_patches: Tensor, of_images: Tensor, words: str, units: str = "1") -> xr.Variable:
        return variable("point", torch.cat([of_patches, of_patches, of_images, of_images]), words, units)

    columns = {
        "kind": variable("point", [kind for kind, part in of_kind.items() for _ in range(len(part))], "kind of point"),
        "image": column(points.images[image], points.images, "index of the image"),
        "position": column(position, whole, "raster index of the patch (-1: the whole image)"),
        "row": column(position // points.num_columns, whole, "row of the patch (-1: the whole image)"),
        "column": column(position % points.num_columns, whole, "column of the patch (-1: the whole image)"),
        "label": column(points.labels[image], points.labels, "class of the image (-1: unknown)"),
        "thumbnail": column(torch.arange(len(chosen)), torch.arange(num_images), "index of the thumbnail"),
        "image_thumbnail": variable(("picture", "y", "x", "channel"), points.pictures, "image, small", "pixel value"),
        "patch_thumbnail": variable(
            ("drawn", "patch_y", "patch_x", "channel"),
            points.patch_pictures[image, slot],
            "patch, at most 16 pixels wide",
            "pixel value",
        ),
    }
    for name, (of_patches, of_images) in points.terms.items():
        columns[name] = column(
            of_patches[image, slot], of_images, f"{name.replace('_', ' ')} where hidden", points.units
        )
    vectors = {kind: part.double() for kind, part in of_kind.items()}
    planes = {"pca": [pca_plane(part) for part in vectors.values()]}
    attributes = {
        "tokens_of": "last encoder block, before the final norm",
        "pooled_of": "the model's feature of the whole image, after the final norm",
    }
    if umap_neighbours is not None:
        seed = int(torch.randint(2**31, (), generator=rng))
        embedded = [umap_plane(part, umap_neighbours, seed) for part in vectors.values()]
        planes["umap"] = [plane for plane, _ in embedded]
        said = sorted({sentence for _, sentences in embedded for sentence in sentences})
        attributes["umap_warnings"] = "; ".join(said) or "none"
    for name, plane in planes.items():
        for axis, letter in enumerate("xy"):
            columns[f"{name}_{letter}"] = variable(
                "point", torch.cat(plane)[:, axis], f"{name.upper()} axis {axis + 1} (each kind has its own)", "a.u."
            )
    return columns, attributes


def pca_plane(vectors: Float[Tensor, "s d"]) -> Float[Tensor, "s 2"]:
    """Scores on the first two principal axes, the largest loading of each made positive; 0 where
    there is no axis."""
    centred = vectors - vectors.mean(0)
    left, scale, right = torch.linalg.svd(centred, full_matrices=False)
    loading = right.gather(1, right.abs().argmax(1, keepdim=True))[:, 0]
    scores = left * scale * torch.where(loading < 0, -1.0, 1.0)
    missing = scores.new_zeros(len(scores), max(0, 2 - scores.shape[1]))
    return torch.cat([scores, missing], dim=1)[:, :2]


def umap_plane(vectors: Float[Tensor, "s d"], num_neighbours: int, seed: int) -> tuple[Float[Tensor, "s 2"], list[str]]:
    """UMAP (McInnes et al., 1802.03426) with its defaults, and what it warned of, each sentence
    once; NaN for too few points."""
    if len(vectors) <= num_neighbours + 1:
        return torch.full((len(vectors), 2), math.nan, dtype=torch.float64), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import umap  # compiles for most of a minute: not before it is asked for

        # one thread: with a seed there is no other, and saying so spares a warning
        mapper = umap.UMAP(n_neighbors=num_neighbours, random_state=seed, n_jobs=1)
        plane = np.asarray(mapper.fit_transform(vectors.numpy().astype(np.float32)))
    return torch.from_numpy(plane).double(), sorted({" ".join(str(warning.message).split()) for warning in caught})
