"""How well a model fits images, for one reading of its file against another: numbers of each image,
so that readings are compared in pairs.

Two measures, both without labels and both lcmae's own:

* of a model with its decoder, the **fit**: 1 less its error on hidden patches over the error of the
  best constant patch (R2 in the space of its targets: 1 is perfect, 0 a constant, below 0 worse);
  readings are compared by the logarithm of that quotient, image by image;
* of an encoder alone, the **recognition** of views: two disjoint halves of an image's patches are
  embedded, and the margin is the cosine of the two less the largest cosine to another image's half
  (vectors centred over the images). Wrong settings blur what an encoder sees, but weak evidence it
  is: random networks recognise views as well.

And one answer by itself: `brightness`, the slope of predicted on true mean of hidden patches. A
network that was trained on raw pixels predicts how bright a patch is (a slope near 1); one trained
on patches of mean 0 and variance 1 cannot (near 0).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.data.source import ImageSource
from lcmae.mask import Mask, stack_masks
from lcmae.masking import Random
from lcmae.models import MaskedImageModel, take
from lcmae.patches import patchify
from lcmae.probes.baselines.pixels import nearest_visible
from lcmae.progress import ProgressBar, Silent
from lcmae.randomness import generator
from lcmae.shapes import Float


@dataclass(frozen=True)
class Fit:
    """Numbers of each image, all [images], float64."""

    error: np.ndarray
    """Mean squared error of hidden patches, in target space."""

    constant: float
    """The least that one constant patch reaches."""

    brightness: np.ndarray
    """[images, 2]: covariance of predicted and true means of hidden patches, and variance of the
    true ones, in input space."""

    @property
    def fit(self) -> float:
        """R2 over all images."""
        return 1 - float(self.error.mean()) / self.constant

    @property
    def score(self) -> np.ndarray:
        """Minus the logarithm of each image's error over the constant's: hard images weigh no more
        than easy ones."""
        return -np.log(np.maximum(self.error, 1e-12) / self.constant)

    @property
    def slope(self) -> tuple[float, np.ndarray]:
        """Of predicted on true means, over all images; and without each image in turn, [images]."""
        total = self.brightness.sum(0)
        rest = total - self.brightness
        return float(total[0] / total[1]), rest[:, 0] / rest[:, 1]


def baselines(
    model: MaskedImageModel, source: ImageSource, ratio: float, seed: int, size: int
) -> dict[str, np.ndarray]:
    """Errors of each image [images] without a network, under the same masks: `nearest` copies the
    nearest visible patch, `position mean` is the mean target of the position over the *other*
    images."""
    errors, targets, hidden = [], [], []
    for rows in batches(source, size):
        images = model.prepare(source[rows])
        mask, target = _masks(model, rows, ratio, seed), model.targets(images)
        copied = take(target, nearest_visible(mask, model.grid))
        errors.append(take((copied - target).square(), mask.hidden).mean((1, 2)).double())
        targets.append(target.double())
        hidden.append(mask.hidden)
    target, index = torch.cat(targets), torch.cat(hidden)
    others = (target.sum(0) - target) / max(len(target) - 1, 1)
    by_position = take((target - others).square(), index).mean((1, 2))
    return {"nearest visible patch": torch.cat(errors).numpy(), "position mean": by_position.numpy()}


def batches(source: ImageSource, size: int) -> list[slice]:
    return [slice(first, min(first + size, len(source))) for first in range(0, len(source), size)]


@torch.no_grad()
def fit(
    model: MaskedImageModel, source: ImageSource, ratio: float, seed: int, size: int, bar: ProgressBar | Silent
) -> Fit:
    """The same masks for every reading of a file: a function of the seed and the image."""
    errors, bright, targets = [], [], []
    for rows in batches(source, size):
        images = model.prepare(source[rows])
        mask = _masks(model, rows, ratio, seed)
        out = model(images, mask)
        target, pred = take(model.targets(images), mask.hidden), take(out.pred, mask.hidden)
        errors.append((pred - target).square().mean((1, 2)).double())
        targets.append(target.double())
        true = take(patchify(images, model.patch_size), mask.hidden).mean(-1).double()
        mean = pred.double().mean(-1)
        off = true - true.mean(1, keepdim=True)
        bright.append(torch.stack([(off * (mean - mean.mean(1, keepdim=True))).sum(1), off.square().sum(1)], dim=1))
        bar.advance(len(images))
    every = torch.cat(targets).flatten(0, 1)
    constant = float((every - every.mean(0)).square().mean())
    return Fit(torch.cat(errors).numpy(), constant, torch.cat(bright).numpy())


@torch.no_grad()
def recognition(
    model: MaskedImageModel, source: ImageSource, seed: int, size: int, bar: ProgressBar | Silent
) -> np.ndarray:
    """The margin of each image [images], from -2 to 2: above 0 its other half is the nearest."""
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for rows in batches(source, size):
        images = model.prepare(source[rows])
        mask = _masks(model, rows, 0.5, seed)
        for found, view in zip(halves, (mask, mask.complement()), strict=True):
            found.append(model(images, view).pooled.double())
        bar.advance(len(images))
    one, other = (F.normalize(part - part.mean(0), dim=1) for part in map(torch.cat, halves))
    return margins(one, other).numpy()


def margins(one: Float[Tensor, "b d"], other: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Cosine to the own counterpart less the largest to another's."""
    cosine = one @ other.T
    own = cosine.diagonal()
    return own - cosine.masked_fill(torch.eye(len(one), dtype=torch.bool), -torch.inf).amax(1)


def _masks(model: MaskedImageModel, rows: slice, ratio: float, seed: int) -> Mask:
    strategy = Random(ratio=ratio)
    drawn = [strategy(1, model.grid, generator("loading", seed, number)) for number in range(rows.start, rows.stop)]
    return stack_masks(drawn).to(model.device)
