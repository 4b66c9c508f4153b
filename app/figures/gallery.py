"""Images in the order of a number that is stored of each, with small pictures of them. Labelled
numbers -> rows, words and one picture; no torch, no streamlit."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lcmae.app.figures import style
from lcmae.app.figures.answers import Answer, Number, Tile, best_of, level, verdict
from lcmae.probes.results.conditions import Condition
from lcmae.probes.statistics.intervals import student

NEEDED = frozenset({"image_error", "image_error_nearest", "image_class", "image_thumbnail"})
OWN, OVER_COPY, BY_CLASS, IN_ORDER = "error", "error over a copy's", "class", "order of the data"
DISTANCE = "attention distance"
"""What images can be sorted by; differences of runs come beside these."""

FEW = 5
"""Images of a class, from which on it is compared with others."""

ACROSS = 32
"""Small pictures in a row of the one picture that holds them all."""


@dataclass(frozen=True)
class Gallery:
    """The images of one result in order."""

    images: Sequence[int]
    """As the result counts them."""

    words: Sequence[str]
    """What stands below each."""

    titles: Sequence[str]
    """The same in full."""


def has_images(result: xr.Dataset) -> bool:
    """Whether a result keeps numbers of single images."""
    return result.variables.keys() >= NEEDED


def class_of(result: xr.Dataset) -> np.ndarray:
    """The class of each image; -1 where it is not known."""
    return result["image_class"].values.astype(int)


def comparable(results: Mapping[str, xr.Dataset], name: str) -> list[str]:
    """Other runs whose images, masks and units are those of a run: errors may be subtracted."""
    own = results[name]
    return [
        other for other, result in results.items()
        if other != name and Condition.of(result.attrs).apart_from_checkpoint == Condition.of(own.attrs).apart_from_checkpoint
        and result.sizes["image"] == own.sizes["image"]
        and result["image_error"].attrs["units"] == own["image_error"].attrs["units"]
    ]  # fmt: skip


def less(other: str) -> str:
    """The name of the number "error less that of another run"."""
    return f"error less that of {other}"


def sort_keys(results: Mapping[str, xr.Dataset], name: str) -> list[str]:
    """What the images of a run can be sorted by; by attention distance where it was put beside
    (`with_distance`)."""
    has_classes = len(np.unique(class_of(results[name]))) > 1
    others = map(less, comparable(results, name))
    distance = [DISTANCE] if "image_distance" in results[name] else []
    return [OWN, OVER_COPY, *others, *distance, *([BY_CLASS] if has_classes else []), IN_ORDER]


def with_distance(result: xr.Dataset, attention: xr.Dataset) -> xr.Dataset:
    """The images of `reconstruction` with the attention distance of each that `encoder_attention`
    stored of the same images; as it was where that is older, or of another number of images."""
    distance = attention.get("image_distance")
    if distance is None or distance.dims != ("image",) or distance.size != result.sizes["image"]:
        return result
    return result.assign(image_distance=distance.variable)


def numbers(results: Mapping[str, xr.Dataset], name: str, key: str) -> np.ndarray:
    """The number of each image by which it is sorted."""
    result = results[name]
    own = result["image_error"].values.astype(float)
    if key == OVER_COPY:
        return own / np.maximum(result["image_error_nearest"].values.astype(float), np.finfo(float).tiny)
    if key == DISTANCE:
        return result["image_distance"].values.astype(float)
    if key == BY_CLASS:
        return class_of(result).astype(float)
    if key == IN_ORDER:
        return np.arange(len(own), dtype=float)
    for other in results:
        if key == less(other):
            return own - results[other]["image_error"].values.astype(float)
    return own


def ordered(
    results: Mapping[str, xr.Dataset], name: str, key: str, *, descending: bool, of_class: int | None = None
) -> Gallery:
    """Images that have a small picture, of one class or of all, sorted by a number; of equals the
    one with the larger error first."""
    result = results[name]
    values, classes, errors = numbers(results, name, key), class_of(result), result["image_error"].values
    rank = np.lexsort((-errors, -values if descending else values))
    ranked = [int(one) for one in rank if one < result.sizes["thumbnail"] and of_class in (None, classes[one])]
    short, unit = key in (OWN, IN_ORDER, BY_CLASS), str(result["image_error"].attrs["units"])
    words, titles = [], []
    for image in ranked:
        group = f", class {classes[image]}" if classes[image] >= 0 else ""
        words.append(f"{errors[image] if short else values[image]:.3g}")
        more = "" if short else f", {key} {values[image]:.3g}"
        titles.append(f"image {image}{group}: error {errors[image]:.3g} {unit}{more}")
    return Gallery(ranked, words, titles)


def sheet(result: xr.Dataset) -> tuple[str, int, int, int]:
    """All small pictures in one PNG as a data address, `ACROSS` to a row; rows, and height and
    width of each in pixels."""
    small = result["image_thumbnail"].values
    count, height, width, channels = small.shape
    across = min(ACROSS, count)
    rows = -(-count // across)
    whole = np.zeros((rows * across, height, width, channels), np.uint8)
    whole[:count] = small
    laid = whole.reshape(rows, across, height, width, channels).transpose(0, 2, 1, 3, 4)
    return style.png(laid.reshape(rows * height, across * width, channels)), rows, height, width


def mean_of(values: np.ndarray, unit: str) -> Number:
    """Mean over images with its 95 % interval (Student's t); without one of a single image."""
    count = len(values)
    if count == 0:
        return Number(np.nan)
    middle = float(values.mean())
    if count == 1:
        return Number(middle, unit=unit)
    half = float(student(count - 1) * values.std(ddof=1) / np.sqrt(count))
    return Number(middle, middle - half, middle + half, unit)


def answer(results: Mapping[str, xr.Dataset], name: str, key: str) -> Answer:
    """Which class is hardest, or on how many images one run beats the other, with intervals."""
    result = results[name]
    unit = str(result["image_error"].attrs["units"])
    errors, classes = result["image_error"].values.astype(float), class_of(result)
    whole = mean_of(errors, unit)
    if key == DISTANCE:
        return _of_distance(result)
    tiles = [whole.tile("mean error"), *_extremes(errors, unit)]
    others = [other for other in results if key == less(other)]
    if others:
        return _between(numbers(results, name, key), name, others[0], unit, whole)
    by_class: dict[Hashable, Number] = {
        int(one): mean_of(errors[classes == one], unit) for one in np.unique(classes)
        if one >= 0 and (classes == one).sum() >= FEW
    }  # fmt: skip
    if len(by_class) < 2:
        return Answer(f"Over {len(errors)} images the error is {whole}; half of the images lie between "
                      f"{np.quantile(errors, 0.25):.3g} and {np.quantile(errors, 0.75):.3g}.", tuple(tiles))  # fmt: skip
    hardest = best_of(by_class, "highest")
    assert hardest is not None
    unlike = len(hardest.alike)
    caution = f"; {unlike} other class{'es' if unlike > 1 else ''} cannot be told apart from it" if unlike else ""
    return Answer(
        f"Class {hardest.name} has the largest mean error, {hardest.number} over {int((classes == hardest.name).sum())} "
        f"images{caution}; over all {len(errors)} it is {whole}.",
        tuple(tiles),
    )


def _extremes(values: np.ndarray, unit: str, what: str = "error") -> list[Tile]:
    return [
        level(float(values[at]), unit).tile(f"{word} {what}, image {int(at)}")
        for word, at in (("least", values.argmin()), ("largest", values.argmax()))
    ]


def _of_distance(result: xr.Dataset) -> Answer:
    """How far attention reaches, image by image."""
    distances = result["image_distance"].values.astype(float)
    unit = str(result["image_distance"].attrs["units"])
    mean = mean_of(distances, unit)
    low, high = np.quantile(distances, [0.25, 0.75])
    return Answer(
        f"Over {len(distances)} whole images the attention distance is {mean}; for half of the images it is between "
        f"{low:.3g} and {high:.3g}.",
        (mean.tile("mean attention distance"), *_extremes(distances, unit, "distance")),
    )


def _between(apart: np.ndarray, name: str, other: str, unit: str, whole: Number) -> Answer:
    """Of paired differences."""
    mean = mean_of(apart, unit)
    better = int((apart < 0).sum())
    words = {"below": f"{name} has the lower error", "above": f"{other} has the lower error"}.get(
        verdict(mean), "The two runs cannot be told apart by their mean error"
    )
    return Answer(
        f"{words}: {name} less {other} is {mean} over {len(apart)} images, and {name} is better on {better} of them.",
        (
            mean.tile("mean difference"),
            Tile(f"images on which {name} is better", f"{better / len(apart):.0%}"),
            whole.tile(f"mean error of {name}"),
        ),
    )
