"""Nearest patches and mutual information from their definitions, by loops; numpy only."""

import numpy as np


def nearest(images: np.ndarray, image: int, position: int, side: int, number: int) -> list[tuple[int, int]]:
    """(image, position) of the patches of other images [b c h w] whose pixels have the largest
    cosine with those of one patch, nearest first."""

    def patch(which: int, at: int) -> np.ndarray:
        columns = images.shape[3] // side
        row, column = at // columns * side, at % columns * side
        return images[which, :, row : row + side, column : column + side].flatten()

    asked, found = patch(image, position), []
    for other in range(len(images)):
        if other != image:
            for at in range(images.shape[2] * images.shape[3] // side**2):
                one = patch(other, at)
                found.append((-(one @ asked) / np.linalg.norm(one) / np.linalg.norm(asked), other, at))
    return [(other, at) for _, other, at in sorted(found)[:number]]


def mutual_information(counts: np.ndarray) -> float:
    """In nats, of a table of counts [clusters groups]."""
    joint = counts / counts.sum()
    found = 0.0
    for row in range(joint.shape[0]):
        for column in range(joint.shape[1]):
            if joint[row, column] > 0:
                found += joint[row, column] * np.log(joint[row, column] / joint[row].sum() / joint[:, column].sum())
    return float(found)
