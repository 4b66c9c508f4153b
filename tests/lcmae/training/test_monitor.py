"""The monitor's judgement against scikit-learn and against definitions; it looks at whole images
and changes nothing."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.errors import InputError
from lcmae.models import MAE, SimMIM
from lcmae.training.classifiers import knn_predict, ridge_predict
from lcmae.training.monitor import (
    Labelled,
    Monitor,
    accuracy,
    effective_rank,
    evaluate,
    unmasked_features,
)


def clouds(num_images: int, width: int, seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Features of four overlapping classes; the classes' centres do not depend on the seed."""
    centres = torch.randn(4, width, generator=torch.Generator().manual_seed(99))
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (num_images,), generator=rng)
    return centres[labels] + spread * torch.randn(num_images, width, generator=rng), labels


@pytest.fixture
def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *clouds(120, 6, 0), *clouds(90, 6, 1)


def test_knn_is_sklearns_with_the_same_weights(split: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    train, labels, test, test_labels = split
    for k in (1, 20):
        weights: Any = lambda distance: np.exp(-distance / 0.07)  # noqa: E731 - scikit-learn's stubs know names alone
        reference = KNeighborsClassifier(k, metric="cosine", weights=weights)
        expected = reference.fit(train.numpy(), labels.numpy()).predict(test.numpy())
        predicted = knn_predict(train, labels, test, k=k)
        assert predicted.tolist() == expected.tolist()
    # and the task is neither trivial nor hopeless, so that the equality above says something
    assert 0.5 < accuracy(predicted, test_labels) < 1


def test_knn_by_hand() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 3.0], [-1.0, 0.0]])
    labels = torch.tensor([7, 2, 2, 0])
    # lengths do not count; one close neighbour outweighs two at right angles
    assert knn_predict(train, labels, torch.tensor([[9.0, 0.1], [0.1, 5.0], [-3.0, 0.0]]), k=3).tolist() == [7, 2, 0]


def test_blocks_of_pairs_do_not_show() -> None:
    train, labels = clouds(40, 5, 0)
    test, _ = clouds(1100, 5, 1)  # more than the 1,024 of one block
    whole = knn_predict(train, labels, test)
    assert torch.equal(whole[1020:1030], knn_predict(train, labels, test[1020:1030]))
    assert len(whole) == 1100


def test_too_few_neighbours_are_one_line() -> None:
    train, labels = clouds(19, 5, 0)
    with pytest.raises(InputError, match=r"^expected at least 20 training images for 20 nearest neighbours, got 19$"):
        knn_predict(train, labels, train)
    # a judgement takes those that there are
    assert 0 <= evaluate(train, labels, train, labels)["knn"] <= 1


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_ridge_is_sklearns(split: tuple[Tensor, Tensor, Tensor, Tensor], strength: float) -> None:
    from sklearn.linear_model import Ridge

    train, labels, test, test_labels = split
    mean, std = train.double().mean(0), train.double().std(0)
    x, z = ((part.double() - mean) / std for part in (train, test))
    one_hot = np.eye(4)[labels.numpy()]
    reference = Ridge(alpha=strength * len(train), fit_intercept=True).fit(x.numpy(), one_hot)
    predicted = ridge_predict(train, labels, test, strength)
    assert predicted.tolist() == reference.predict(z.numpy()).argmax(1).tolist()
    assert 0.5 < accuracy(predicted, test_labels) < 1


def test_ridge_of_more_features_than_images_is_sklearns() -> None:
    from sklearn.linear_model import Ridge

    train, labels = clouds(40, 70, 0, spread=4)
    test, test_labels = clouds(60, 70, 1, spread=4)
    mean, std = train.double().mean(0), train.double().std(0)
    x, z = ((part.double() - mean) / std for part in (train, test))
    reference = Ridge(alpha=1e-3 * len(train)).fit(x.numpy(), np.eye(4)[labels.numpy()])
    predicted = ridge_predict(train, labels, test)
    assert predicted.tolist() == reference.predict(z.numpy()).argmax(1).tolist()
    assert 0.25 < accuracy(predicted, test_labels) < 1


def test_ridge_of_raw_pixels_needs_no_matrix_of_pixels_by_pixels() -> None:
    # 300,000 pixels by as many would be 720 GB, which no allocator gives
    pixels = torch.rand(12, 300_000, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    assert torch.equal(ridge_predict(pixels, labels, pixels), labels)


def test_ridge_does_not_mind_scale_shift_or_a_constant_feature(split: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    train, labels, test, _ = split
    plain = ridge_predict(train.double(), labels, test.double())
    scale = torch.logspace(-3, 3, 6, dtype=torch.float64)
    moved = [torch.cat([part.double() * scale + 5, torch.ones(len(part), 1)], 1) for part in (train, test)]
    assert torch.equal(ridge_predict(moved[0], labels, moved[1]), plain)


def test_a_class_that_training_never_saw_is_never_right() -> None:
    train, labels = clouds(60, 6, 0)
    values = evaluate(train, labels.clamp(max=1), train, torch.full_like(labels, 5))
    assert (values["knn"], values["linear"]) == (0, 0)


class TestEffectiveRank:
    @given(seed=st.integers(0, 50), width=st.integers(1, 6), num_images=st.integers(2, 12))
    def test_is_exp_of_the_entropy_of_the_covariances_eigenvalues(self, seed: int, width: int, num_images: int) -> None:
        features = torch.randn(num_images, width, generator=torch.Generator().manual_seed(seed))
        eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(features.double().numpy(), rowvar=False)))
        share = [max(value, 0) / eigenvalues.sum() for value in eigenvalues]
        expected = math.exp(-sum(p * math.log(p) for p in share if p > 0))
        found = effective_rank(features)
        assert found == pytest.approx(expected, rel=1e-6)
        assert 1 - 1e-9 <= found <= min(width, num_images - 1) + 1e-9

    def test_of_known_covariances(self) -> None:
        # variances 1/2, 1/4, 1/4 have an entropy of 3/2 bits
        axes = torch.diag(torch.tensor([2.0, 1.0, 1.0]).sqrt())
        assert effective_rank(torch.cat([axes, -axes])) == pytest.approx(2**1.5)
        even = torch.eye(5)
        assert effective_rank(torch.cat([even, -even])) == pytest.approx(5)
        line = torch.linspace(-1, 1, 9)[:, None] * torch.tensor([[3.0, -4.0]])
        assert effective_rank(line) == pytest.approx(1)

    def test_does_not_mind_shift_scale_or_rotation(self) -> None:
        features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([1, 2, 3, 4])
        turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).double()).Q
        assert effective_rank(7 * features @ turn + 100) == pytest.approx(effective_rank(features))

    def test_of_constant_features_is_one(self) -> None:
        assert effective_rank(torch.full((8, 3), 0.5)) == 1.0


@pytest.fixture
def pixels(rng: torch.Generator) -> Tensor:
    return torch.randint(256, (30, 3, 8, 12), generator=rng, dtype=torch.uint8)


def test_features_are_those_of_whole_images(mae: MAE, pixels: Tensor) -> None:
    features = unmasked_features(mae, pixels, batch_size=7)  # the last batch is smaller
    with torch.no_grad():
        out = mae(mae.prepare(pixels))
    assert out.tokens.shape[1] == mae.num_patches
    torch.testing.assert_close(features["cls"], out.prefix[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features["mean"], out.tokens.mean(1), rtol=1e-5, atol=1e-5)


def test_a_model_without_class_token_has_a_mean_alone(
    mae: MAE, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mae, "num_prefix", 0)
    assert list(unmasked_features(mae, pixels)) == ["mean"]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode_also_after_an_error(simmim: SimMIM, pixels: Tensor, training: bool) -> None:
    simmim.train(training)
    unmasked_features(simmim, pixels)
    assert {module.training for module in simmim.modules()} == {training}
    with pytest.raises(InputError):
        unmasked_features(simmim, pixels[:, :, :4])
    assert {module.training for module in simmim.modules()} == {training}
    assert all(parameter.grad is None for parameter in simmim.parameters())


def test_monitor_and_raw_pixels_name_their_numbers(mae: MAE, pixels: Tensor) -> None:
    labels = torch.arange(30) % 3
    # the class is the brightness: no feature is needed to tell
    pixels = (pixels // 8 + 64 * labels[:, None, None, None]).to(torch.uint8)
    monitor = Monitor(Labelled(pixels, labels), Labelled(pixels[:12], labels[:12]))
    names = [f"{feature}_{name}" for feature in ("cls", "mean") for name in ("knn", "linear", "effective_rank")]
    names.append("num_test_images")
    assert list(monitor(mae)) == names
    raw = monitor.raw_pixels()
    assert raw["linear"] == 1
    flat = pixels.flatten(1).float() / 255
    assert raw == evaluate(flat, labels, flat[:12], labels[:12])
    # scaled to [0, 1], neither centred nor of length 1: brightness does not turn a picture, so
    # neighbours miss it
    assert raw["knn"] < 1
