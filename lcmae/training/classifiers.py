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
    `strength` per image."""
    mean, std = train.double().mean(0), train.double().std(0).clamp(min=1e-6)
    x, y = (train.double() - mean) / std, F.one_hot(labels).double()
    gram = x.T @ x + strength * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, x.T @ (y - y.mean(0)))
    return ((test.double() - mean) / std @ weights + y.mean(0)).argmax(1)
