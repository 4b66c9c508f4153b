"""The README's first picture: the photographs that come with lcmae, and over each what the class
token of the zoo's model attends to in its first, middle and last layer.

`PYTHONPATH=. python docs/site/picture.py FILE.jpg` draws it. The model sees 32 x 32 pixels in 8 x 8
patches; shown is the same crop of each photograph, larger.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import lcmae
from lcmae.app import zoo_models
from lcmae.app.commands.zoo import copy
from lcmae.app.figures.card import laid_over

SIDE, GAP = 220, 6


def main() -> None:
    """Probe, lay the maps over the photographs, write the picture."""
    (out,) = (Path(one) for one in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        model = lcmae.load(copy(zoo_models.models()["mae-cifar10-small"], Path(folder) / "run"))
    results = lcmae.probe(model, lcmae.images("photographs"), ["encoder_attention"])
    maps = results["encoder_attention"]["attention_map"].mean("head")
    layers = [maps.layer.values[at] for at in (0, (maps.sizes["layer"] - 1) // 2, -1)]
    photographs = lcmae.images("photographs", image_size=SIDE, channels=3).pixels.permute(0, 2, 3, 1).numpy()
    rows = []
    for number, photograph in enumerate(photographs[:2]):
        laid = [laid_over(photograph, maps.isel(picture=number).sel(layer=one).values) for one in layers]
        rows.append([photograph, *laid])
    Image.fromarray(mosaic(rows)).save(out, quality=88, optimize=True)
    print(f"{out}: layers {', '.join(str(one) for one in layers)}")


def mosaic(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Pictures [y x 3] of one size in rows, with white between them."""
    height, width = len(rows) * (SIDE + GAP) - GAP, len(rows[0]) * (SIDE + GAP) - GAP
    canvas = np.full((height, width, 3), 255, np.uint8)
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            top, left = down * (SIDE + GAP), across * (SIDE + GAP)
            canvas[top : top + SIDE, left : left + SIDE] = picture
    return canvas


if __name__ == "__main__":
    main()
