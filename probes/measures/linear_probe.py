"""A linear classifier of frozen features, trained by one fixed protocol, for many features and
learning rates at once.

The head is MAE's (He et al., 2111.06377, appendix A.1): batch norm without affine parameters (eps
1e-6), then a linear layer whose weights start normal with deviation 0.01 and biases at 0; no weight
decay, momentum 0.9, 90 epochs, of them 10 to warm up, then a cosine. Where we differ, because
features are computed once: no augmentation, SGD for LARS (as Caron et al., 2104.14294, do), batches
of 256, and the learning rate out of a grid. It is chosen on a fifth of the training images that the
head did not see, never on test images, and the head is then trained on all of them, once for each
seed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from lcmae.randomness import generator
from lcmae.shapes import Float, Int

EPS = 1e-6
MOMENTUM = 0.9
BATCH_SIZE = 256
INITIAL_STD = 0.01
NORM_MOMENTUM = 0.1
"""Step of batch norm's running statistics, torch's default."""

WARM_UP = 1 / 9
"""Share of the steps with a rising rate: 10 of 90 epochs."""

HELD_OUT = 5
"""One in so many training images decides the learning rate."""

MOST_NUMBERS = 8_000_000
"""Features times batch times width that are worked on at once: bounds memory for deep and wide
networks."""


class Heads(NamedTuple):
    """Linear classifiers of f features, r of each, that share their feature's batch norm."""

    mean: Float[Tensor, "f d"]
    variance: Float[Tensor, "f d"]
    weight: Float[Tensor, "f r d c"]
    bias: Float[Tensor, "f r c"]

    def logits(self, features: Float[Tensor, "f b d"]) -> Float[Tensor, "f b r c"]:
        """With the running statistics of batch norm, as in evaluation."""
        scale = (self.variance + EPS).rsqrt()[:, None]
        # one product for all rates of a feature
        together = (features - self.mean[:, None]) * scale @ rearrange(self.weight, "f r d c -> f d (r c)")
        return rearrange(together, "f b (r c) -> f b r c", r=self.weight.shape[1]) + self.bias[:, None]

    def predict(self, features: Float[Tensor, "f b d"]) -> Int[Tensor, "f r b"]:
        """The class of each image."""
        return self.logits(features).argmax(-1).transpose(1, 2)


@dataclass(frozen=True)
class LinearProbe:
    """One head a seed for each of f features, at the rate that held-out images chose."""

    heads: list[Heads]
    rate: Float[Tensor, " f"]

    def predict(self, features: Float[Tensor, "f b d"]) -> Int[Tensor, "s f b"]:
        """The class of each image by each seed's head."""
        return torch.stack([heads.predict(features)[:, 0] for heads in self.heads])


def fit(
    banks: Mapping[str, Float[Tensor, "f n d"]],
    labels: Int[Tensor, " n"],
    num_classes: int,
    *,
    rates: tuple[float, ...],
    epochs: int,
    num_seeds: Mapping[str, int],
    seed: int,
) -> dict[str, LinearProbe]:
    """For each bank of features: choose rates on held-out images with the first seed, then train on
    all images with every seed.

    Every feature is trained in the same order of images and from the same weights.
    """
    order = torch.randperm(len(labels), generator=generator("linear-held-out", seed))
    held_out, rest = order[: len(order) // HELD_OUT], order[len(order) // HELD_OUT :]

    def choose(features: Tensor) -> tuple[Tensor]:
        grid = torch.tensor(rates).expand(len(features), -1)
        tried = train(features, labels, num_classes, grid, epochs, (seed, 0), among=rest)
        right = (tried.predict(features[:, held_out]) == labels[held_out]).float().mean(-1)
        # among equals the smallest rate, which is listed first
        return (grid.gather(1, right.argmax(1, keepdim=True)),)

    chosen = _together({name: (features,) for name, features in banks.items()}, choose)
    heads: dict[str, list[Heads]] = {name: [] for name in banks}
    for index in range(max(num_seeds.values())):
        some = {name: (banks[name], *chosen[name]) for name in banks if num_seeds[name] > index}

        def learn(part: Tensor, rate: Tensor, index: int = index) -> Heads:
            return train(part, labels, num_classes, rate, epochs, (seed, index))

        trained = _together(some, learn)
        for name, parts in trained.items():
            heads[name].append(Heads(*parts))
    return {name: LinearProbe(heads[name], chosen[name][0][:, 0]) for name in banks}


def _together(
    banks: Mapping[str, tuple[Tensor, ...]], work: Callable[..., tuple[Tensor, ...]]
) -> dict[str, tuple[Tensor, ...]]:
    """`work` on banks of one width together, as many features at a time as `MOST_NUMBERS` allows;
    features come first in all tensors, the features themselves being the first."""
    found = {}
    for width in dict.fromkeys(bank[0].shape[-1] for bank in banks.values()):
        alike = {name: bank for name, bank in banks.items() if bank[0].shape[-1] == width}
        at_once = max(1, MOST_NUMBERS // (BATCH_SIZE * width))
        features, *others = zip(*alike.values(), strict=True)
        # rows first in memory, as `train` wants them: one copy less of the largest tensor
        rows_first = torch.cat([part.transpose(0, 1) for part in features], dim=1).transpose(0, 1)
        every = [rows_first, *(torch.cat(parts) for parts in others)]
        pieces = zip(*(part.split(at_once) for part in every), strict=True)
        done = zip(*(work(*piece) for piece in pieces), strict=True)
        sizes = [len(bank[0]) for bank in alike.values()]
        found |= dict(zip(alike, zip(*(torch.cat(parts).split(sizes) for parts in done), strict=True), strict=True))
    return found


@torch.no_grad()
def train(
    features: Float[Tensor, "f n d"],
    labels: Int[Tensor, " n"],
    num_classes: int,
    rates: Float[Tensor, "f r"],
    epochs: int,
    seed: tuple[int, int],
    among: Int[Tensor, " m"] | None = None,
) -> Heads:
    """SGD of the mean cross-entropy, for all features and rates in step; the rates are per 256
    images of a batch. `among`: the images that are trained on, by default all; they are not
    copied."""
    among = torch.arange(features.shape[1]) if among is None else among
    (num_features, _, width), num_images = features.shape, len(among)
    num_rates, batch_size = rates.shape[1], min(BATCH_SIZE, num_images)
    steps = num_images // batch_size  # the last batch is left out if it is not full
    rates = (rates * batch_size / 256).repeat_interleave(num_classes, dim=1)[..., None]
    first = torch.randn(width, num_classes, generator=generator("linear-start", *seed)) * INITIAL_STD
    # one product serves all rates of a feature; images come last, because a softmax along the last
    # axis is 20 times slower
    weight = repeat(first, "d c -> f (r c) d", f=num_features, r=num_rates).contiguous()
    bias = weight.new_zeros(num_features, num_rates * num_classes, 1)
    speed, bias_speed = torch.zeros_like(weight), torch.zeros_like(bias)
    mean, variance = features.new_zeros(num_features, width), features.new_ones(num_features, width)
    wanted = torch.nn.functional.one_hot(labels, num_classes).to(features.dtype)

    rows_first = features.transpose(0, 1).contiguous()  # so that a batch is copied row by row
    for epoch in range(epochs):
        order = torch.randperm(num_images, generator=generator("linear-order", *seed, epoch))
        for step in range(steps):
            rows = among[order[step * batch_size : (step + 1) * batch_size]]
            x = rows_first[rows]
            own_mean = x.mean(0)
            x -= own_mean
            own_variance = x.square().mean(0)
            x *= (own_variance + EPS).rsqrt()
            mean.lerp_(own_mean, NORM_MOMENTUM)
            variance.lerp_(own_variance * (batch_size / max(batch_size - 1, 1)), NORM_MOMENTUM)

            # the gradient of the mean cross-entropy is (softmax - one-hot) / batch
            logits = torch.baddbmm(bias, weight, rearrange(x, "b f d -> f d b"))
            slope = rearrange(logits, "f (r c) b -> f r c b", r=num_rates).softmax(2)
            slope -= wanted[rows].T
            slope = rearrange(slope, "f r c b -> f (r c) b")
            speed.mul_(MOMENTUM).add_(slope @ rearrange(x, "b f d -> f b d"), alpha=1 / batch_size)
            bias_speed.mul_(MOMENTUM).add_(slope.sum(2, keepdim=True), alpha=1 / batch_size)
            rate = rates * rate_factor(epoch * steps + step, epochs * steps)
            weight.addcmul_(speed, rate, value=-1)
            bias.addcmul_(bias_speed, rate, value=-1)
    by_rate = rearrange(weight, "f (r c) d -> f r d c", r=num_rates)
    return Heads(mean, variance, by_rate, rearrange(bias, "f (r c) 1 -> f r c", r=num_rates))


def rate_factor(step: int, num_steps: int) -> float:
    """Linear warm-up over the first ninth of the steps, then half a cosine down to 0."""
    warm_up = round(num_steps * WARM_UP)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (num_steps - warm_up)))
