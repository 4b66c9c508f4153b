"""Classes from frozen features, without training: by neighbours, and by a linear map."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.errors import InputError
from lcmae.shapes import Float, Int


def knn_predict(
    train: Float[Tensor, "a d"],
    labels: Int[Tensor, " a"],
    test: Float[Tensor, "b d"],
    k: int = 20,
    temperature: float = 0.07,
) -> Int[Tensor, " b"]:
    """Weighted vote of the k most cosine-similar training images, weights exp(similarity / 0.07)
    (Wu et al., 1805.01978)."""
    if len(train) < k:
        raise InputError(f"expected at least {k} training images for {k} nearest neighbours, got {len(train)}")
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    votes = []
    for block in test.split(1024):  # pairs in blocks, so that memory stays flat in the number of test images
        similarity, nearest = (block @ train.T).topk(k, dim=1)
        weight = ((similarity - 1) / temperature).exp()
        vote = torch.zeros(len(block), int(labels.max()) + 1, dtype=weight.dtype)
        votes.append(vote.scatter_add_(1, labels[nearest], weight).argmax(1))
    return torch.cat(votes)


def ridge_predict(
    train: Float[Tensor, "a d"], labels: Int[Tensor, " a"], test: Float[Tensor, "b d"], strength: float = 1e-3
) -> Int[Tensor, " b"]:
    """Ridge regression of standardised features onto one-hot classes, in float64; the penalty is
    `strength` per image. Memory grows with the smaller of d^2 and a^2: raw pixels are many."""
    mean, std = train.double().mean(0), train.double().std(0).clamp(min=1e-6)
    x, z = ((part.double() - mean) / std for part in (train, test))
    y = F.one_hot(labels).double()
    penalty, centre = strength * len(x), y.mean(0)
    if len(x) < x.shape[1]:  # X'(XX' + pI)^-1 is (X'X + pI)^-1 X'
        fitted = z @ (x.T @ _ridged_solve(x @ x.T, penalty, y - centre))
    else:
        fitted = z @ _ridged_solve(x.T @ x, penalty, x.T @ (y - centre))
    return (fitted + centre).argmax(1)


def _ridged_solve(gram: Float[Tensor, "n n"], penalty: float, right: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    gram.diagonal().add_(penalty)
    return torch.linalg.solve(gram, right)
