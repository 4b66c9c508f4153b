"""The published losses, written from the papers' formulas on whole images or whole Gram matrices,
in float64."""

import torch
from torch import Tensor


def mae(pred: Tensor, target: Tensor, is_hidden: Tensor) -> float:
    """He et al. (2111.06377): mean over hidden patches of each patch's mean squared error; [b n p],
    [b n p], [b n]."""
    errors = [float((pred[b, i] - target[b, i]).square().mean()) for b, i in is_hidden.nonzero().tolist()]
    return sum(errors) / len(errors)


def simmim(pred: Tensor, images: Tensor, is_hidden: Tensor, grid: tuple[int, int]) -> float:
    """Xie et al. (2111.09886), on pixels: the absolute error where the mask is 1, over hidden
    pixels, over channels.

    pred [b n p] with values ordered (row, column, channel), images [b c h w].
    """
    channels, height, width = images.shape[1:]
    side = height // grid[0]
    painted = torch.zeros_like(images)
    mask = torch.zeros(len(images), height, width, dtype=images.dtype)
    for b in range(len(images)):
        for y in range(height):
            for x in range(width):
                patch = (y // side) * grid[1] + x // side
                mask[b, y, x] = float(is_hidden[b, patch])
                start = ((y % side) * side + x % side) * channels
                painted[b, :, y, x] = pred[b, patch, start : start + channels]
    error = (painted - images).abs() * mask[:, None]
    return float(error.sum() / mask.sum() / channels)


def uniformity(vectors: Tensor) -> float:
    """Zhang et al. (2210.08344), the spectral term: mean of the squared Gram matrix of unit
    vectors, diagonal included."""
    unit = vectors / vectors.square().sum(1, keepdim=True).sqrt()
    return float((unit @ unit.T).square().mean())


def participation_ratio(vectors: Tensor) -> float:
    """(sum of eigenvalues)^2 / (sum of their squares), of the second moment of the unit vectors."""
    unit = vectors / vectors.square().sum(1, keepdim=True).sqrt()
    eigenvalues = torch.linalg.eigvalsh(unit.T @ unit / len(unit))
    return float(eigenvalues.sum().square() / eigenvalues.square().sum())
