"""Classifiers that learn where in the tokens the class is: is it there, but spread?

Sources: efficient probing (Psomas et al., 2506.10178): `a_qn = softmax_n(c_q . z_n / sqrt(D))` for
32 learned queries without projections, chunk q of `V z` pooled by query q, then batch norm and a
linear layer; AbMILP of depth 1 (Przewiezlikowski et al., 2412.03215): one linear score a token.
The control is an MLP of as many parameters as efficient probing upon the mean token. `cls` and
`mean` are the linear probe's features, here under the same protocol.

V is linear, so tokens are pooled first and then multiplied: as many times fewer products as there
are tokens. Where we differ from the papers: Adam for LARS, no augmentation (features are computed
once), the learning rate chosen on a fifth of the training images instead of the test accuracy, and
the last epoch instead of the best one. A layer's tokens are divided by one number, their root mean
square over the first training images, so that a rate means the same at every layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.probes.measures.linear_probe import EPS, HELD_OUT, INITIAL_STD, rate_factor
from lcmae.randomness import generator
from lcmae.shapes import Float, Int

POOLINGS = ("cls", "mean", "mlp", "abmilp", "efficient")
MOST_QUERIES = 32
"""Queries of efficient probing; of a width that they do not divide, the most that do."""

QUERY_STD = 0.02
BATCH_SIZE = 64
BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Pooled:
    """Trained classifiers of one layer's tokens, r of them in step."""

    pooling: str
    weights: Mapping[str, Tensor]
    mean: Float[Tensor, "r 1 d"]
    variance: Float[Tensor, "r 1 d"]
    """Of the pooled training images: batch norm as in evaluation."""

    def predict(self, tokens: Float[Tensor, "b n d"]) -> Int[Tensor, "r b"]:
        """The class of each image by each classifier."""
        pooled = pool(self.pooling, self.weights, tokens.float())
        return _logits(self.weights, (pooled - self.mean) * (self.variance + EPS).rsqrt()).argmax(-1)


@dataclass(frozen=True)
class Chosen:
    """One classifier, at the rate that held-out images chose."""

    classifier: Pooled
    rate: float
    at_edge: bool
    """Whether a better rate may lie beyond those that were tried."""


def num_queries(width: int) -> int:
    """The largest number of queries, at most 32, that cut the width into equal chunks."""
    return max(count for count in range(1, MOST_QUERIES + 1) if width % count == 0)


def hidden_units(width: int, num_classes: int) -> int:
    """Of the MLP that has as many parameters as efficient probing, to less than a unit's worth."""
    wanted = num_queries(width) * width + width**2 + num_classes * width
    return max(1, round(wanted / (width + 1 + num_classes)))


def num_parameters(pooling: str, width: int, num_classes: int) -> int:
    """Learned numbers of a classifier."""
    return sum(part[0].numel() for part in start(pooling, width, num_classes, 1, 0).values())


def start(pooling: str, width: int, num_classes: int, num_rates: int, seed: int) -> dict[str, Tensor]:
    """First weights, the same for all rates [r ...]."""
    rng = generator("pooling-start", pooling, seed)

    def normal(*shape: int, std: float) -> Tensor:
        return (torch.randn(*shape, generator=rng) * std).expand(num_rates, *shape).clone()

    inputs, weights = width, dict[str, Tensor]()
    if pooling == "efficient":
        queries = num_queries(width)
        weights["query"] = normal(queries, width, std=QUERY_STD)
        weights["value"] = normal(queries, width, width // queries, std=width**-0.5)
    elif pooling == "abmilp":
        weights["query"] = normal(1, width, std=QUERY_STD)
        weights["score_bias"] = normal(1, std=0.0)
    elif pooling == "mlp":
        inputs = hidden_units(width, num_classes)
        weights["hidden"] = normal(width, inputs, std=width**-0.5)
        weights["hidden_bias"] = normal(1, inputs, std=0.0)
    weights["linear"] = normal(inputs, num_classes, std=INITIAL_STD)
    weights["bias"] = normal(1, num_classes, std=0.0)
    return weights


def attention(pooling: str, weights: Mapping[str, Tensor], tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b r q n"]:
    """How each query shares itself out over the tokens."""
    query = weights["query"]
    scores = query.flatten(0, 1) @ tokens.mT  # [b (r q) n]
    scores = scores * tokens.shape[-1] ** -0.5 if pooling == "efficient" else scores + weights["score_bias"]
    return scores.softmax(-1).unflatten(1, query.shape[:2])


def pool(pooling: str, weights: Mapping[str, Tensor], tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "r b d"]:
    """One vector an image. `cls`, `mean` and `mlp` take one token as it is (their mean, of
    several)."""
    if "query" not in weights:
        return tokens.mean(1).expand(len(weights["bias"]), -1, -1)
    shared = attention(pooling, weights, tokens)
    pooled = shared.flatten(1, 2) @ tokens  # [b (r q) d]
    if pooling == "abmilp":
        return pooled.transpose(0, 1)
    # chunk q of V, applied after pooling: sum_n a_qn (V z_n) = V (sum_n a_qn z_n)
    chunks = pooled.transpose(0, 1) @ weights["value"].flatten(0, 1)  # [(r q) b e]
    return chunks.unflatten(0, weights["value"].shape[:2]).transpose(1, 2).flatten(2)


def _logits(weights: Mapping[str, Tensor], normed: Float[Tensor, "r b d"]) -> Float[Tensor, "r b c"]:
    if "hidden" in weights:
        normed = F.gelu(normed @ weights["hidden"] + weights["hidden_bias"])
    return normed @ weights["linear"] + weights["bias"]


def train(
    pooling: str,
    tokens: Float[Tensor, "n t d"],
    labels: Int[Tensor, " n"],
    num_classes: int,
    rates: Float[Tensor, " r"],
    epochs: int,
    seed: int,
) -> Pooled:
    """Adam on the mean cross-entropy, for all rates in step; warm-up and cosine as in the linear
    probe."""
    weights = start(pooling, tokens.shape[-1], num_classes, len(rates), seed)
    names = list(weights)
    means, squares = ({name: torch.zeros_like(weights[name]) for name in names} for _ in range(2))
    batch_size = min(BATCH_SIZE, len(labels))
    steps = len(labels) // batch_size  # the last batch is left out if it is not full
    done = 0
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=generator("pooling-order", seed, epoch))
        for step in range(steps):
            rows = order[step * batch_size : (step + 1) * batch_size]
            slopes = _slopes(pooling, weights, tokens[rows].float(), labels[rows])
            factor = rate_factor(done, epochs * steps)
            done += 1
            for name, slope in zip(names, slopes, strict=True):
                means[name].lerp_(slope, 1 - BETAS[0])
                squares[name].lerp_(slope.square(), 1 - BETAS[1])
                corrected = (squares[name] / (1 - BETAS[1] ** done)).sqrt_().add_(1e-8)
                rate = (rates * factor / (1 - BETAS[0] ** done)).reshape(-1, *[1] * (slope.ndim - 1))
                weights[name].sub_(rate * means[name] / corrected)
    pooled = torch.cat([pool(pooling, weights, part.float()) for part in tokens.split(256)], dim=1)
    return Pooled(pooling, weights, pooled.mean(1, keepdim=True), pooled.var(1, correction=0, keepdim=True))


def _slopes(
    pooling: str, weights: Mapping[str, Tensor], tokens: Float[Tensor, "b n d"], labels: Int[Tensor, " b"]
) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        free = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        pooled = pool(pooling, free, tokens)
        variance, mean = torch.var_mean(pooled, 1, correction=0, keepdim=True)
        logits = _logits(free, (pooled - mean) * (variance + EPS).rsqrt())
        # a sum over rates of mean losses: rates do not touch each other
        loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="sum") / len(labels)
        return torch.autograd.grad(loss, list(free.values()))


def fit(
    pooling: str,
    tokens: Float[Tensor, "n t d"],
    labels: Int[Tensor, " n"],
    num_classes: int,
    *,
    rates: tuple[float, ...],
    epochs: int,
    seed: int,
) -> Chosen:
    """The rate is chosen on held-out training images; then all are used."""
    order = torch.randperm(len(labels), generator=generator("pooling-held-out", seed))
    held_out, rest = order[: len(order) // HELD_OUT], order[len(order) // HELD_OUT :]
    best = 0
    if len(rates) > 1:
        tried = train(pooling, tokens[rest], labels[rest], num_classes, torch.tensor(rates), epochs, seed)
        # among equals the smallest rate, which is listed first
        best = int((tried.predict(tokens[held_out]) == labels[held_out]).double().mean(1).argmax())
    trained = train(pooling, tokens, labels, num_classes, torch.tensor([rates[best]]), epochs, seed)
    return Chosen(trained, rates[best], len(rates) > 1 and best in (0, len(rates) - 1))
