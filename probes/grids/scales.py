"""The scale on which a measure's differences add up, and back: accuracies by their log odds,
positive numbers by their logarithm, the rest as it is. No torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ACCURACY_UNIT = "share of test images"


@dataclass(frozen=True)
class Scale:
    """A monotone scale for statistics. `step` is the rounding step of values on it."""

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]
    num_images: int | None = None
    """Test images behind an accuracy."""

    def step(self, values: np.ndarray) -> float:
        """Rounding step of the values on the scale: an accuracy changes by one image at a time."""
        if self.num_images is None:
            return 0.0
        share = float(np.clip(np.nanmean(values), 0.5 / self.num_images, 1 - 0.5 / self.num_images))
        return 1 / (self.num_images * share * (1 - share))

    def test_set_error(self, share: float) -> float:
        """Standard error that other test images would add to a difference of two accuracies near
        `share`, at most (runs that err independently), on the raw scale; 0 for other measures.

        Binomial: it follows from the share and the number of images, and is estimated from no
        groups, so a 95 % interval takes the normal quantile and no Student's t."""
        if self.num_images is None:
            return 0.0
        return math.sqrt(2 * share * (1 - share) / self.num_images)


def scale_of(values: np.ndarray, units: str, num_images: int | None = None) -> Scale:
    """The scale of a measure: log odds of accuracies, with half an image added to hits and misses;
    logarithms of what is always positive; else the values themselves."""
    known = values[np.isfinite(values)]
    if units == ACCURACY_UNIT and num_images:
        return logit(num_images)
    if len(known) and known.min() > 0 and units != ACCURACY_UNIT:
        return Scale("logarithm", np.log, np.exp)
    return Scale("as it is", np.asarray, np.asarray)


def logit(num_images: int) -> Scale:
    """Log odds of accuracies on so many test images: log((h + 1/2) / (n - h + 1/2)), h = hits."""

    def forward(share: np.ndarray) -> np.ndarray:
        hits = np.asarray(share) * num_images
        return np.log((hits + 0.5) / (num_images - hits + 0.5))

    def back(odds: np.ndarray) -> np.ndarray:
        share = 1 / (1 + np.exp(-np.asarray(odds)))
        return np.asarray(np.clip((share * (num_images + 1) - 0.5) / num_images, 0, 1))

    return Scale("log odds", forward, back, num_images)
