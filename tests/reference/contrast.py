"""The local-contrastive algebra by its pairs (DESIGN.md): every pair is formed, one at a time, in
float64.

With weights n_bi (masks that hide patch i of image b), n_b and n their sums, and r_., t_. weighted
means of prediction and target over what is left out of the index, each term is a sum over *ordered*
pairs, divided by twice the pairs' own weight, by n, and by the number of values in a patch:

    invariance           pairs of masks k, l that hide one patch   |r_bki - r_bli|^2
    local_consistency    pairs of patches i, j of one image        |(r_bi - r_bj) - (t_bi - t_bj)|^2
    global_consistency   pairs of images b, c                      |(r_b - r_c) - (t_b - t_c)|^2
    offset               no pair                                   |r_0 - t_0|^2
"""

import math

import torch
from torch import Tensor


def loss(pred: Tensor, target: Tensor, hidden: Tensor) -> float:
    """Mean squared error over everything that is hidden; pred [b k n p], target [b n p], hidden [b
    k n]."""
    errors = [
        float((pred[b, k, i] - target[b, i]).square().mean()) for b, k, i in hidden.nonzero().tolist()
    ]  # one by one
    return math.fsum(errors) / len(errors)


def invariance(pred: Tensor, target: Tensor, hidden: Tensor) -> float:
    total = 0.0
    for b in range(pred.shape[0]):
        for i in range(pred.shape[2]):
            hiding = [k for k in range(pred.shape[1]) if hidden[b, k, i]]
            for k in hiding:
                for other in hiding:
                    total += float((pred[b, k, i] - pred[b, other, i]).square().mean()) / (2 * len(hiding))
    return total / int(hidden.sum())


def local_consistency(pred: Tensor, target: Tensor, hidden: Tensor) -> float:
    total = 0.0
    for b in range(pred.shape[0]):
        weight = [int(hidden[b, :, i].sum()) for i in range(pred.shape[2])]
        positions = [i for i in range(pred.shape[2]) if weight[i]]
        mean = {i: pred[b, hidden[b, :, i], i].mean(0) for i in positions}
        for i in positions:
            for j in positions:
                mismatch = (mean[i] - mean[j]) - (target[b, i] - target[b, j])
                total += weight[i] * weight[j] * float(mismatch.square().mean()) / (2 * sum(weight))
    return total / int(hidden.sum())


def global_consistency(pred: Tensor, target: Tensor, hidden: Tensor) -> float:
    weight, pred_mean, target_mean = _image_means(pred, target, hidden)
    images = [b for b in range(pred.shape[0]) if weight[b]]
    total = 0.0
    for b in images:
        for c in images:
            mismatch = (pred_mean[b] - pred_mean[c]) - (target_mean[b] - target_mean[c])
            total += weight[b] * weight[c] * float(mismatch.square().mean()) / (2 * sum(weight))
    return total / sum(weight)


def offset(pred: Tensor, target: Tensor, hidden: Tensor) -> float:
    positions = hidden.nonzero().tolist()
    residual = torch.stack([pred[b, k, i] - target[b, i] for b, k, i in positions])
    return float(residual.mean(0).square().mean())


def token_info_nce(first: Tensor, second: Tensor, in_first: Tensor, in_second: Tensor, temperature: float) -> float:
    """Mean over patches visible twice of -log softmax of the cosine with itself, among what the
    second mask shows."""
    losses = []
    for b in range(first.shape[0]):
        for i in range(first.shape[1]):
            if not (in_first[b, i] and in_second[b, i]):
                continue
            shown = [j for j in range(first.shape[1]) if in_second[b, j]]
            logits = {j: _cosine(first[b, i], second[b, j]) / temperature for j in shown}
            losses.append(math.log(sum(math.exp(logit) for logit in logits.values())) - logits[i])
    return sum(losses) / len(losses) if losses else 0.0


def _image_means(pred: Tensor, target: Tensor, hidden: Tensor) -> tuple[list[int], list[Tensor], list[Tensor]]:
    weight, pred_mean, target_mean = [], [], []
    for b in range(pred.shape[0]):
        positions = hidden[b].nonzero().tolist()
        weight.append(len(positions))
        empty = torch.zeros_like(target[b, :1])
        pred_mean.append(torch.stack([pred[b, k, i] for k, i in positions] or list(empty)).mean(0))
        target_mean.append(torch.stack([target[b, i] for _, i in positions] or list(empty)).mean(0))
    return weight, pred_mean, target_mean


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(first @ second) / (float(first.norm()) * float(second.norm()))
