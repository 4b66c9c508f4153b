"""The README's first picture: two photographs that come with lcmae, and over each what the class
token attends to in the first, the middle and the last layer (mean over heads).

    lcmae zoo mae-cifar10-small
    lcmae probe encoder_attention --checkpoint runs/mae-cifar10-small --data photographs --split all
    PYTHONPATH=. python docs/site/picture.py runs/mae-cifar10-small docs/images/attention.jpg

The model sees 32 x 32 pixels in 8 x 8 patches; shown is the same crop of each photograph, larger.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import lcmae
from lcmae.app.figures.card import laid_over

SIDE, GAP, ROWS = 220, 6, 2
PHOTOGRAPHS = Path(lcmae.__file__).parent / "data" / "photographs"


def main() -> None:
    """Read the stored attention, lay it over the photographs, write the picture."""
    run, out = (Path(one) for one in sys.argv[1:])
    maps = lcmae.results(run)["encoder_attention"]["attention_map"].mean("head")
    layers = [maps.layer.values[at] for at in (0, (maps.sizes["layer"] - 1) // 2, -1)]
    rows = []
    for number, file in enumerate(sorted(PHOTOGRAPHS.glob("*.jpg"))[:ROWS]):
        photograph = np.asarray(ImageOps.fit(Image.open(file).convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS))
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
