"""The unbiased contrast terms by their pairs: every product of two residuals is formed, one at a
time, in float64.

    |a_b|^2, the squared mean residual of an image: mean over ordered pairs of different masks k, l
             of (mean of mask k's residuals) . (mean of mask l's)
    |mu|^2,  the squared mean of all: mean over ordered pairs of different images of the products of
             their means
    s_d,     the variance over masks: pairs of masks that hide one patch, |e_k - e_l|^2 / 2, each
             patch of an image with weight (n - 1), that is n - 1 times the mean over its pairs
"""

import torch
from torch import Tensor


def terms(residual: Tensor, hidden: Tensor) -> list[float]:
    """[invariance, local, global, offset]; residual [b k n p], hidden [b k n], exact counts."""
    images, masks, patches, values = residual.shape
    loss, count = 0.0, 0
    noise, freedom = 0.0, 0
    of_images, means = [], []
    for b in range(images):
        mask_mean = [residual[b, k][hidden[b, k]].mean(0) for k in range(masks)]
        products = [float(mask_mean[k] @ mask_mean[m]) for k in range(masks) for m in range(masks) if k != m]
        of_images.append(sum(products) / len(products) / values)
        means.append(torch.stack(mask_mean).mean(0))
        for i in range(patches):
            seen = [residual[b, k, i] for k in range(masks) if hidden[b, k, i]]
            loss += sum(float(e.square().sum()) for e in seen) / values
            count += len(seen)
            if len(seen) > 1:
                halves = [float((e - f).square().sum()) / 2 for e in seen for f in seen if e is not f]
                noise += (len(seen) - 1) * sum(halves) / len(halves) / values
                freedom += len(seen) - 1
    invariance = noise / freedom if freedom else float("nan")
    own = sum(of_images) / images
    others = [float(means[b] @ means[c]) / values for b in range(images) for c in range(images) if b != c]
    offset = sum(others) / len(others) if others else float("nan")
    return [invariance, loss / count - invariance - own, own - offset, offset]


def local_map(residual: Tensor, hidden: Tensor) -> list[float]:
    """At each position: mean square of the residual, less the variance over masks, less twice its
    product with the image's mean under *other* masks, plus the image's own squared mean."""
    images, masks, patches, values = residual.shape
    found = []
    own = sum(terms(residual, hidden)[2:])
    for i in range(patches):
        square, products, count, noise, freedom = 0.0, 0.0, 0, 0.0, 0
        for b in range(images):
            seen = [k for k in range(masks) if hidden[b, k, i]]
            for k in seen:
                square += float(residual[b, k, i].square().sum()) / values
                others = [residual[b, m][hidden[b, m]].mean(0) for m in range(masks) if m != k]
                products += float(residual[b, k, i] @ torch.stack(others).mean(0)) / values
            count += len(seen)
            if len(seen) > 1:
                cell = torch.stack([residual[b, k, i] for k in seen])
                noise += float((cell - cell.mean(0)).square().sum()) / values
                freedom += len(seen) - 1
        invariance = noise / freedom if freedom else float("nan")
        found.append(square / count - invariance - 2 * products / count + own)
    return found
