"""Classes or clusters of patches as colours over a picture."""

import numpy as np
from plotly.colors import hex_to_rgb

from lcmae.app.figures import style

COLOURS = (*style.PARTS, *style.KINDS)
"""Of classes: these, and after them shades of all hues."""


def overlaid(picture: np.ndarray, classes: np.ndarray, weight: float = 0.6) -> np.ndarray:
    """A picture uint8 [y x channel] under the colours of its patches' classes [row column], uint8
    [y x 3]; a patch without a class stays as it is."""
    grey = picture[..., :3].astype(float).mean(-1, keepdims=True)
    rows = np.arange(picture.shape[0]) * classes.shape[0] // picture.shape[0]
    columns = np.arange(picture.shape[1]) * classes.shape[1] // picture.shape[1]
    spread = classes[rows][:, columns]
    colours = np.array([colour_of(int(one)) for one in range(max(int(classes.max()), 0) + 1)], dtype=float)
    mixed = (1 - weight) * grey + weight * colours[spread.clip(min=0)]
    return np.where(spread[..., None] >= 0, mixed, grey).round().astype(np.uint8)


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of a class by its number: the house's first, then hues by the golden angle."""
    if number < len(COLOURS):
        return hex_to_rgb(COLOURS[number])
    hue = number * 0.618034 % 1.0
    turn = np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    red, green, blue = (200 * turn.clip(0, 1) + 30).round().astype(int).tolist()
    return red, green, blue
