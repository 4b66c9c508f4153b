"""The definition of a range, one value at a time in exact fractions: LOW is 0, HIGH is 255, what
lies outside is cut off, and halves go to the even number."""

from fractions import Fraction

import numpy as np


def to_eight_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 of the same shape."""
    span = Fraction(high) - Fraction(low)

    def one(value: float) -> int:
        return round(min(max((Fraction(value) - Fraction(low)) * 255 / span, Fraction(0)), Fraction(255)))

    return np.array([one(value) for value in values.ravel().tolist()], np.uint8).reshape(values.shape)
