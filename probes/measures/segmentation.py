"""Segmentation by patches: what classes a patch's pixels have, kNN and logistic regression of patch
tokens, and the mean intersection over union of what they name.

The protocol follows CAPI's evaluation (Darcet et al., 2502.08769): a patch is learned as the class
of its pixels, kNN by cosine with the number of neighbours chosen on held-out images by mIoU, a
linear classifier likewise, scores by pixel, ignored pixels left out. What differs: neighbours by
cosine alone, and logistic regression by the protocol of `lcmae.probes.measures.linear_probe`, whose
rate is chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lcmae.patches import Grid
from lcmae.probes.measures.linear_probe import Heads, train
from lcmae.shapes import Float, Int

NONE = -1
"""The class of a pixel, or of a patch, that has none."""

CLASSIFIERS = ("knn", "logistic")
CHUNK = 1024
"""Patches whose neighbours are looked for at one time."""

HELD_OUT = 5
"""Every so manieth training image chooses neighbours and rate."""


def class_votes(pixels: Int[Tensor, "b h w"], grid: Grid, num_classes: int) -> Float[Tensor, "b n k"]:
    """How many pixels of each patch are of each class, float32; pixels of class -1 are not
    counted."""
    patches = rearrange(pixels, "b (gh ph) (gw pw) -> b (gh gw) (ph pw)", gh=grid[0], gw=grid[1])
    votes = torch.zeros(*patches.shape[:2], num_classes + 1)
    return votes.scatter_add_(2, patches + 1, torch.ones(patches.shape))[..., 1:]


def majority(votes: Float[Tensor, "b n k"]) -> Int[Tensor, "b n"]:
    """The commonest class of each patch's pixels: of two as common the one of the smaller number,
    and -1 where no pixel has a class."""
    return torch.where(votes.sum(-1) > 0, votes.argmax(-1), NONE)


def pixel_counts(predicted: Int[Tensor, "q b n"], votes: Float[Tensor, "b n k"]) -> Float[Tensor, "b q 3 k"]:
    """By image, prediction and class: pixels that are named rightly, that are named so, and that
    are of the class. A patch's prediction holds for all of its pixels."""
    votes = votes.double()
    known = votes.sum(-1)
    right = votes.expand(len(predicted), -1, -1, -1).gather(3, predicted[..., None])[..., 0]
    found = votes.new_zeros(2, *predicted.shape[:2], votes.shape[-1])
    found[0].scatter_add_(2, predicted, right)
    found[1].scatter_add_(2, predicted, known.expand(predicted.shape))
    of_class = votes.sum(1).expand(len(predicted), -1, -1)
    return rearrange([found[0], found[1], of_class], "what q b k -> b q what k")


def class_iou(counts: Float[Tensor, "... 3 k"]) -> Float[Tensor, "... k"]:
    """Intersection over union of each class; NaN for a class that no pixel is of."""
    right, named, of_class = counts.unbind(-2)
    return torch.where(of_class > 0, right / (named + of_class - right), torch.nan)


def mean_iou(counts: Float[Tensor, "... 3 k"]) -> Float[Tensor, "..."]:
    """Mean over the classes that pixels are of, which are the same for all predictions; NaN where
    there are none."""
    return class_iou(counts).nanmean(-1)


def pixel_accuracy(counts: Float[Tensor, "... 3 k"]) -> Float[Tensor, "..."]:
    """Share of the pixels that have a class which are named rightly; NaN where there are none."""
    right, _, of_class = counts.sum(-1).unbind(-1)
    return torch.where(of_class > 0, right / of_class, torch.nan)


def nearest_classes(
    bank: Float[Tensor, "m d"],
    classes: Int[Tensor, " m"],
    tokens: Float[Tensor, "s d"],
    neighbours: Sequence[int],
    num_classes: int,
) -> Int[Tensor, "j s"]:
    """The commonest class of the nearest rows of `bank` by cosine, for each number of neighbours;
    of two as common the one whose neighbours are nearer on the whole."""
    bank, tokens = (F.normalize(part.float(), dim=-1) for part in (bank, tokens))
    most, found = min(max(neighbours), len(bank)), []
    for part in tokens.split(CHUNK):
        similarity, rows = (part @ bank.T).topk(most)
        votes = torch.zeros(len(part), num_classes, dtype=torch.float64)
        by_number, done = [], 0
        # what breaks ties adds up to less than one vote
        weight = 1 + (similarity.double() + 1) / (4 * most)
        for number in sorted(neighbours):
            here = slice(done, min(number, most))
            votes.scatter_add_(1, classes[rows[:, here]], weight[:, here])
            by_number.append(votes.argmax(1))
            done = here.stop
        found.append(torch.stack(by_number))
    order = sorted(neighbours)
    return torch.cat(found, dim=1)[[order.index(number) for number in neighbours]]


@dataclass(frozen=True)
class PatchClassifiers:
    """kNN and logistic regression of the tokens of one layer."""

    bank: Float[Tensor, "m d"]
    classes: Int[Tensor, " m"]
    num_classes: int
    neighbours: int
    heads: Heads
    rate: float
    held_out: Float[Tensor, " 2"]
    """mIoU on held-out training images, by classifier."""

    def predict(self, tokens: Float[Tensor, "s d"]) -> Int[Tensor, "2 s"]:
        """The class of each token, by classifier."""
        near = nearest_classes(self.bank, self.classes, tokens, [self.neighbours], self.num_classes)
        return torch.cat([near, self.heads.predict(tokens.float()[None])[0]])


def fit(
    tokens: Float[Tensor, "b t d"],
    votes: Float[Tensor, "b t k"],
    *,
    neighbours: tuple[int, ...],
    rates: tuple[float, ...],
    epochs: int,
    seed: int,
) -> PatchClassifiers:
    """Choose the number of neighbours and the learning rate on every fifth image, never on patches
    of an image that taught; then learn from all patches that have a class."""
    classes, num_classes = majority(votes), votes.shape[-1]
    held_out = torch.arange(len(tokens)) % HELD_OUT == 0

    def learned(images: Tensor) -> tuple[Tensor, Tensor]:
        has_class = classes[images] != NONE
        return tokens[images][has_class].float(), classes[images][has_class]

    def scores(predicted: Int[Tensor, "q s"]) -> Float[Tensor, " q"]:
        shaped = predicted.unflatten(1, (int(held_out.sum()), tokens.shape[1]))
        return mean_iou(pixel_counts(shaped, votes[held_out]).sum(0)).nan_to_num(0.0)

    asked = tokens[held_out].flatten(0, 1)
    bank, known = learned(~held_out)
    by_number = scores(nearest_classes(bank, known, asked, neighbours, num_classes))
    tried = train(bank[None], known, num_classes, torch.tensor(rates)[None], epochs, (seed, 0))
    by_rate = scores(tried.predict(asked.float()[None])[0])
    # among equals the one listed first
    rate = rates[int(by_rate.argmax())]
    bank, known = learned(torch.ones_like(held_out))
    return PatchClassifiers(
        bank,
        known,
        num_classes,
        neighbours[int(by_number.argmax())],
        train(bank[None], known, num_classes, torch.tensor([[rate]]), epochs, (seed, 0)),
        rate,
        torch.stack([by_number.max(), by_rate.max()]),
    )
