"""Is anything being learned? Frozen features of *unmasked* images, measured by their neighbours and
by a linear map.

Cheap and deterministic, for a look during training: kNN with cosine similarity and a ridge
regression onto classes. (The `transfer` probe holds the published protocols.) U-MAE's own online
accuracy is measured on masked images; this is not.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.models import Feature, MaskedImageModel
from lcmae.shapes import Float, Int, UInt8
from lcmae.training.classifiers import knn_predict, ridge_predict


@dataclass(frozen=True)
class Labelled:
    """Images with their classes: uint8 [b c h w] and int64 [b]."""

    pixels: UInt8[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]


@dataclass(frozen=True)
class Monitor:
    """A fixed choice of training and test images; call it with a model for accuracies and effective
    ranks."""

    train: Labelled
    test: Labelled

    def __call__(self, model: MaskedImageModel) -> dict[str, float]:
        """`cls_knn`, `cls_linear`, `cls_effective_rank` and the same for `mean`; accuracies are
        shares of `num_test_images` test images."""
        train = unmasked_features(model, self.train.pixels)
        test = unmasked_features(model, self.test.pixels)
        found = {
            f"{feature}_{name}": value
            for feature in test
            for name, value in evaluate(train[feature], self.train.labels, test[feature], self.test.labels).items()
        }
        return {**found, "num_test_images": float(len(self.test.labels))}

    def raw_pixels(self) -> dict[str, float]:
        """The same numbers of the pixels themselves: the baseline to hold beside any feature."""
        train, test = (part.pixels.flatten(1).float() / 255 for part in (self.train, self.test))
        return evaluate(train, self.train.labels, test, self.test.labels)


def evaluate(
    train: Float[Tensor, "a d"],
    train_labels: Int[Tensor, " a"],
    test: Float[Tensor, "b d"],
    test_labels: Int[Tensor, " b"],
) -> dict[str, float]:
    """kNN (20 neighbours, or all there are) and ridge accuracy of `test` given `train`, and the
    effective rank of `test`."""
    return {
        "knn": accuracy(knn_predict(train, train_labels, test, k=min(20, len(train))), test_labels),
        "linear": accuracy(ridge_predict(train, train_labels, test), test_labels),
        "effective_rank": effective_rank(test),
    }


@torch.no_grad()
def unmasked_features(
    model: MaskedImageModel, pixels: UInt8[Tensor, "b c h w"], batch_size: int = 256
) -> dict[Feature, Float[Tensor, "b d"]]:
    """Class token (where there is one) and mean token of whole images, on the CPU; train/eval state
    is put back."""
    was_training = model.training
    model.eval()
    try:
        outputs = [model(model.prepare(batch)) for batch in pixels.split(batch_size)]
    finally:
        model.train(was_training)
    features: tuple[Feature, ...] = ("cls", "mean") if model.num_prefix else ("mean",)
    return {name: torch.cat([out.feature(name) for out in outputs]).cpu() for name in features}


def effective_rank(features: Float[Tensor, "b d"]) -> float:
    """exp of the entropy of the covariance's eigenvalues, scaled to sum 1 (Roy and Vetterli, 2007,
    on centred variances).

    1 when all variance lies along one direction, d when it is even. (RankMe uses uncentred singular
    values: other numbers.)
    """
    centred = features.double() - features.double().mean(0)
    variance = torch.linalg.svdvals(centred).square()
    if variance.sum() <= 0:
        return 1.0  # constant features span a point
    share = variance / variance.sum()
    return float(torch.special.entr(share).sum().exp())


def accuracy(predicted: Int[Tensor, " b"], labels: Int[Tensor, " b"]) -> float:
    """Share of equal labels."""
    return float((predicted == labels).double().mean())
