"""Poolings beside the papers' equations, and known answers: a needle among noise, constant tokens,
shuffled labels."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lcmae.probes.measures import pooling
from lcmae.probes.measures.pooled_accuracy import PooledAccuracy
from tests.reference.probes import pooling as reference

TRAIN = {"rates": (0.003, 0.01), "epochs": 40, "seed": 0}


def needle(count: int, num_tokens: int, seed: int, width: int = 16) -> tuple[Tensor, Tensor]:
    """Noise tokens, one of which, anywhere, carries a mark and one of two classes."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, num_tokens, width, generator=rng)
    labels = torch.randint(2, (count,), generator=rng)
    where = torch.randint(num_tokens, (count,), generator=rng)
    tokens[torch.arange(count), where, 0] += 8
    tokens[torch.arange(count), where, 1] += 6.0 * (2 * labels - 1)
    return tokens, labels


def accuracy(name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    few = train[0] if name in ("abmilp", "efficient") else train[0].mean(1, keepdim=True)
    seen = test[0] if name in ("abmilp", "efficient") else test[0].mean(1, keepdim=True)
    found = pooling.fit(name, few, train[1], 2, **TRAIN)
    return float((found.classifier.predict(seen)[0] == test[1]).double().mean())


def test_pooling_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.normal(size=(3, 7, 12))).float()
    weights = pooling.start("efficient", 12, 4, 2, seed=1)
    assert weights["query"].shape == (2, 12, 12)  # the most queries that cut 12 into equal chunks
    weights = {
        name: torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) for name, weight in weights.items()
    }
    found = pooling.pool("efficient", weights, tokens)
    for rate in range(2):
        # [q d e]: the columns of V that chunk q is made of
        value = weights["value"][rate].numpy().transpose(0, 2, 1).reshape(12, 12)
        for image in range(3):
            wanted = reference.efficient(tokens[image].numpy(), weights["query"][rate].numpy(), value)
            np.testing.assert_allclose(found[rate, image], wanted, atol=1e-4)
    weights = pooling.start("abmilp", 12, 4, 1, seed=1) | {"score_bias": torch.full((1, 1), 0.3)}
    found = pooling.pool("abmilp", weights, tokens)
    wanted = reference.abmilp(tokens[1].numpy(), weights["query"][0, 0].numpy(), 0.3)
    np.testing.assert_allclose(found[0, 1], wanted, atol=1e-5)


def test_a_query_of_zero_is_the_mean() -> None:
    tokens = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))
    weights = {name: torch.zeros_like(part) for name, part in pooling.start("abmilp", 12, 4, 1, seed=0).items()}
    torch.testing.assert_close(pooling.pool("abmilp", weights, tokens)[0], tokens.mean(1))


def test_parameters_are_those_of_the_papers_log() -> None:
    # ViT-B, 1,000 classes
    assert reference.num_parameters(768, 32, 1000) == 1_383_400
    assert pooling.num_parameters("efficient", 768, 1000) == 1_383_400
    assert pooling.num_queries(192) == 32
    assert pooling.num_queries(48) == 24
    assert pooling.num_parameters("mean", 768, 1000) == pooling.num_parameters("cls", 768, 1000) == 769_000
    assert pooling.num_parameters("abmilp", 768, 1000) == 769_000 + 769
    # the MLP is as large, to a unit's worth
    assert abs(pooling.num_parameters("mlp", 768, 1000) - 1_383_400) <= (768 + 1 + 1000) / 2


@pytest.mark.slow
def test_a_needle_is_found_by_those_who_attend() -> None:
    """Once the needle is one of many, the mean knows little of it; a query finds it anywhere."""
    near, far = (needle(600, count, seed=1) for count in (2, 96))
    test_near, test_far = (needle(400, count, seed=2) for count in (2, 96))
    assert accuracy("mean", near, test_near) > 0.9
    # the mean's share of the needle is 6 / 96, its noise 1 / sqrt(96): 73 % at best
    assert accuracy("mean", far, test_far) < 0.8
    assert accuracy("mlp", far, test_far) < 0.8
    assert accuracy("efficient", far, test_far) > 0.95
    assert accuracy("abmilp", far, test_far) > 0.95


def test_constant_tokens_and_shuffled_labels_are_chance() -> None:
    tokens, labels = needle(300, 8, seed=1)
    test_tokens, test_labels = needle(400, 8, seed=2)
    for name in ("efficient", "abmilp", "mean"):
        constant = accuracy(name, (torch.ones_like(tokens), labels), (torch.ones_like(test_tokens), test_labels))
        assert constant == pytest.approx(0.5, abs=0.08)
    shuffled = labels[torch.randperm(300, generator=torch.Generator().manual_seed(5))]
    assert accuracy("efficient", (tokens, shuffled), (test_tokens, test_labels)) == pytest.approx(0.5, abs=0.15)


def test_rates_in_step_do_not_touch_each_other() -> None:
    tokens, labels = needle(130, 6, seed=3)
    both = pooling.train("efficient", tokens, labels, 2, torch.tensor([0.001, 0.01]), 3, 0)
    for number, rate in enumerate((0.001, 0.01)):
        alone = pooling.train("efficient", tokens, labels, 2, torch.tensor([rate]), 3, 0)
        for name, weight in alone.weights.items():
            # Adam divides by roots of tiny squares: float32 sums in another order
            torch.testing.assert_close(both.weights[name][number], weight[0], rtol=1e-3, atol=1e-4)


def test_layers_are_held_as_memory_allows() -> None:
    assert PooledAccuracy.layers_within(12, 500, 65, 192) == list(range(12))
    few = PooledAccuracy.layers_within(12, 500, 197, 768)
    assert few == [3, 7, 11]
    assert PooledAccuracy.layers_within(12, 10**6, 197, 768) == [11]


def test_half_precision_holds_tokens_of_any_size() -> None:
    pooled = PooledAccuracy(1, False, (2, 4), (0.01,), 30, 0)
    tokens, labels = needle(200, 8, seed=1)
    pooled.add(("trained", 0), tokens * 1e6)
    pooled.learn(labels, 2)
    assert not pooled.tokens
    other, other_labels = needle(100, 8, seed=2)
    pooled.count(("trained", 0), other * 1e6, other_labels)
    found = pooled.variables(["trained"], 100)["pooled_accuracy"]
    assert pooled.poolings == ("mean", "mlp", "abmilp", "efficient")  # no class token
    assert float(found.values[3, 0, 0]) > 0.9


def test_stored_queries_point_at_the_needle_in_every_image() -> None:
    """As stored, a query's attention is the softmax of its product with tokens as they are: the
    divisors of the layer and of the paper are within."""
    pooled = PooledAccuracy(2, False, (2, 4), (0.01,), 30, 0)
    size = 1e3  # tokens of a layer may have any size
    tokens, labels = needle(300, 8, seed=1)
    pooled.add(("trained", 1), tokens * size)
    pooled.learn(labels, 2)
    seen, seen_labels = needle(200, 8, seed=2)
    pooled.count(("trained", 1), seen * size, seen_labels)
    stored = pooled.variables(["trained"], 200)
    assert pooled.held_layers == [1]
    queries = torch.from_numpy(stored["query_weight"].values)
    assert queries.shape == (1, 16, 16)
    shared = (queries[0] @ (seen * size).mT).softmax(-1)  # [b q n]
    needle_at = seen[:, :, 0].argmax(1)
    found = shared.mean(1).argmax(1)
    # the mark stands 8 deviations above the noise, so where the needle is, is known in every image
    assert float((found == needle_at).double().mean()) > 0.98
    wanted = np.mean([reference.queries(image, queries[0].numpy()) for image in (seen * size).numpy()], axis=0)
    np.testing.assert_allclose(stored["query_map"].values.reshape(16, 8), wanted, atol=1e-4)
