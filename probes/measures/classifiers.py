"""kNN and linear probes upon a bank of training features: what they say about images, and how sure
the count of it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import xarray as xr
from torch import Tensor

from lcmae.probes.measures.linear_probe import LinearProbe
from lcmae.probes.statistics.variables import GIVEN_FIT, error_of, variable
from lcmae.shapes import Float, Int
from lcmae.training.classifiers import knn_predict

CLASSIFIERS = ("knn", "linear")


@dataclass(frozen=True)
class Opinions:
    """The class of each image by each classifier, for each of f features; the linear probe has an
    opinion a seed."""

    knn: Int[Tensor, "f b"]
    linear: Int[Tensor, "s f b"]

    def right(self, labels: Int[Tensor, " b"]) -> Float[Tensor, "b j f"]:
        """By image and classifier: 1 where right, 0 where wrong, the share of right seeds for the
        linear probe."""
        both = [(self.knn == labels).double(), (self.linear == labels).double().mean(0)]
        return torch.stack(both).permute(2, 0, 1)

    def confusion(self, labels: Int[Tensor, " b"], num_classes: int) -> Float[Tensor, "j f c c"]:
        """Images of each true class (rows) by predicted class, means over seeds."""
        counts = [
            torch.stack([_pairs(labels, self.knn[feature][None], num_classes) for feature in range(len(self.knn))]),
            torch.stack([_pairs(labels, self.linear[:, feature], num_classes) for feature in range(len(self.knn))]),
        ]
        return torch.stack(counts)


@dataclass(frozen=True)
class Bank:
    """f features of the training images, all of one width, and the linear probes that were trained
    upon them."""

    features: Float[Tensor, "f n d"]
    labels: Int[Tensor, " n"]
    linear: LinearProbe
    neighbours: int
    temperature: float

    def classify(self, features: Float[Tensor, "f b d"]) -> Opinions:
        """The class of each image by its features."""
        pairs = zip(self.features, features, strict=True)
        knn = [knn_predict(own, self.labels, seen, self.neighbours, self.temperature) for own, seen in pairs]
        return Opinions(torch.stack(knn), self.linear.predict(features))


def wilson(share: Float[Tensor, "..."], count: int, z: float = 1.96) -> tuple[Tensor, Tensor]:
    """The 95 % interval of a share of `count` images (Wilson, 1927); not empty at 0 and 1. Its
    variance is the binomial one, estimated from no groups: a normal quantile, not Student's t."""
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)).clamp(min=0).sqrt()
    return (middle - reach).clamp(0, 1), (middle + reach).clamp(0, 1)


def with_interval(
    name: str, dims: tuple[str, ...], share: Float[Tensor, "..."], count: int, long_name: str
) -> Mapping[str, xr.Variable]:
    """An accuracy over `count` images, its binomial standard error, given the classifier,
    and its Wilson interval (`_interval`, by `bound`)."""
    return {
        name: variable(dims, share, long_name),
        f"{name}_sem": error_of(
            dims,
            (share * (1 - share) / count).clamp(min=0).sqrt(),
            long_name,
            degrees=count - 1,
            over=GIVEN_FIT,
            method="binomial",
        ),
        f"{name}_interval": variable(
            (*dims, "bound"), torch.stack(wilson(share, count), dim=-1), f"95 % interval (Wilson): {long_name}"
        ),
    }


def _pairs(labels: Int[Tensor, " b"], predicted: Int[Tensor, "s b"], num_classes: int) -> Float[Tensor, "c c"]:
    cells = (labels * num_classes + predicted).flatten().bincount(minlength=num_classes**2)
    return cells.double().reshape(num_classes, num_classes) / len(predicted)
