"""Position beside its definitions, and known answers: a planted position code, and tokens without
one."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from lcmae.models import MAE
from lcmae.probes.base import ProbeError
from lcmae.probes.measures.plain_images import plain_images
from lcmae.probes.measures.position import (
    FLOOR,
    decodability,
    nearest,
    principal,
    semantic_invariance,
    soap,
    upper_side,
    without,
)
from lcmae.probes.position import REMOVALS, Position
from lcmae.probes.results.store import load_result, save_result
from tests.app.computed import some_images
from tests.conftest import tiny_mae
from tests.reference.probes import position as reference

GRID = (3, 4)


def planted(count: int, seed: int, strength: float = 6.0) -> tuple[Tensor, Tensor]:
    """Tokens [s 12 8]: a code of the position in two directions that is the same in every image,
    and the content of the image (two classes) with noise in others."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=rng)
    tokens = torch.randn(count, 12, 8, generator=rng)
    where = torch.cartesian_prod(torch.arange(3), torch.arange(4)).float()
    tokens[..., :2] = strength * (where - where.mean(0))
    tokens[..., 2] += 3.0 * (2 * labels - 1)[:, None]
    return tokens, labels


def test_scores_and_projection_are_the_papers() -> None:
    real, plain = torch.randn(2, 9, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    real[:, :, 0] += torch.arange(5)
    plain[:, :, 0] += torch.arange(5)
    components = principal(real)
    upper = [upper_side(tokens, components, 4).double().mean(0) for tokens in (real, plain)]
    scores = semantic_invariance(*upper)
    mean, vectors = components.mean.numpy(), components.vectors.numpy()
    wanted = [reference.semantic_invariance(real.numpy(), plain.numpy(), vectors[:, c], mean) for c in range(4)]
    np.testing.assert_allclose(scores, wanted, rtol=1e-12)
    found = soap(real, components, scores, 2)
    for image, patch in ((0, 1), (8, 4)):
        one = reference.soap(real[image, patch].numpy(), vectors, scores.numpy(), 2)
        np.testing.assert_allclose(found[image, patch], one, rtol=1e-9)
    queries = torch.tensor([[1, 3]] * 9)
    same = nearest(real, None, queries, 3)
    assert same.accuracy.isnan().all()
    for image in (0, 4):
        wanted = np.mean([reference.same_position(real.numpy(), image, patch, 3) for patch in (1, 3)])
        assert float(same.same_position[image]) == pytest.approx(wanted)


def test_position_scores_1_and_content_the_floor() -> None:
    (real, _), (plain, _) = planted(2000, seed=0), planted(2000, seed=1)
    components = principal(real)
    scores = semantic_invariance(*(upper_side(tokens, components, 8).double().mean(0) for tokens in (real, plain)))
    # the code's two directions have the largest variance; a position at the mean has no side
    assert float(scores[:2].min()) > 0.9
    np.testing.assert_allclose(scores[2:], FLOOR, atol=0.002)
    assert math.sqrt(0.5) == FLOOR
    ones = torch.ones(12, 1, dtype=torch.float64)
    assert float(semantic_invariance(ones, ones)) == 1
    assert float(semantic_invariance(ones, 0 * ones)) == 0


def test_position_is_decoded_where_it_is() -> None:
    (train, _), (test, _) = planted(40, seed=0), planted(30, seed=1)
    assert float(decodability(train, test, GRID, 0).min()) > 0.999
    without = decodability(train[..., 2:], test[..., 2:], GRID, 0)
    assert without.shape == (30,)
    assert abs(float(without.mean())) < 0.02


def test_taking_position_out_lets_content_vote() -> None:
    """While tokens are mostly position, the nearest patches of 13 other images are those at the
    same position, of any class; without it they are of the same class, at any position."""
    tokens, _ = planted(14, seed=2, strength=100.0)
    labels = torch.arange(14) % 2
    tokens[..., 2] = 3.0 * (2 * labels - 1)[:, None]
    queries = torch.arange(12)[None].expand(14, -1)
    components = principal(tokens)
    plain, _ = planted(14, seed=3, strength=100.0)
    scores = semantic_invariance(*(upper_side(part, components, 8).double().mean(0) for part in (tokens, plain)))
    assert sorted(scores.argsort(descending=True)[:2].tolist()) == [0, 1]
    before = nearest(tokens, labels, queries, 13)
    assert float(before.same_position.mean()) > 0.85
    # of 13 others 6 are of the same class, so the vote is lost
    assert float(before.accuracy.mean()) < 0.3
    exact = torch.zeros_like(scores).index_fill(0, torch.tensor([0, 1]), 1.0)
    for changed in (soap(tokens, components, exact, 2), tokens - tokens.mean(0)):
        after = nearest(changed, labels, queries, 13)
        assert float(after.same_position.mean()) == pytest.approx(1 / 12, abs=0.04)
        assert float(after.accuracy.mean()) > 0.95
    # a random direction of content is no remedy
    other = without(tokens, components.vectors[:, 5:6], torch.ones(1, dtype=torch.float64))
    assert float(nearest(other, labels, queries, 13).same_position.mean()) > 0.85


def test_plain_images_are_functions_of_seed_and_index() -> None:
    images = plain_images([0, 5, 9], 3, 16, 24, seed=1)
    assert images.shape == (3, 3, 16, 24)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    torch.testing.assert_close(plain_images([9], 3, 16, 24, seed=1)[0], images[2])
    assert not torch.equal(plain_images([9], 3, 16, 24, seed=2)[0], images[2])
    # no position is brighter than another on average: nothing to learn position from
    mean = plain_images(list(range(400)), 1, 8, 8, seed=0).mean((0, 1))
    assert float(mean.std()) < 0.03


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return Position(num_sampled=24)(tiny_mae(), some_images(40), torch.Generator().manual_seed(0))


def test_the_probe_says_what_it_measured(result: xr.Dataset, tmp_path) -> None:
    assert result.attrs["num_sampled"] == 24
    assert result["network"].values.tolist() == ["trained", "untrained", "pixels"]
    assert result["removal"].values.tolist() == list(REMOVALS)
    scored = result["invariance"]
    assert float(scored.min()) >= 0
    assert float(scored.max()) <= 1 + 1e-6
    assert (result["invariance_sem"].sel(network="trained") >= 0).all()
    # position embeddings stand in the tokens of every network; noise patches say nothing of it
    assert float(result["position_r2"].sel(network="untrained", layer=1)) > 0.5
    assert float(result["position_r2"].sel(network="pixels", layer=1)) < 0.2
    assert float(result["same_position"].sel(removal="nothing", layer=1)) > 2 * result.attrs["chance_same_position"]
    assert result["component_map"].shape[1:] == (4, 6)
    save_result(result, tmp_path / "position.nc")
    xr.testing.assert_equal(load_result(tmp_path / "position.nc"), result)


def test_batches_change_nothing(result: xr.Dataset) -> None:
    again = Position(num_sampled=24, batch_size=7)(tiny_mae(), some_images(40), torch.Generator().manual_seed(0))
    xr.testing.assert_allclose(result["position_r2"], again["position_r2"], atol=1e-3)


def test_of_large_models_the_untrained_network_s_last_layer_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_mae()
    a_layer = 4 * model.num_patches * model.config.width * 24  # 24 images, real and plain
    monkeypatch.setattr("lcmae.probes.position.MOST_BYTES", 3 * a_layer)
    found = Position(num_sampled=24)(model, some_images(40), torch.Generator().manual_seed(0))
    assert found.attrs["num_sampled"] == 24
    assert found["position_r2"].sel(network="untrained").isnull().values.tolist() == [True, False]
    assert found["position_r2"].sel(network="trained").notnull().all()


def test_what_it_needs_is_said(mae: MAE) -> None:
    with pytest.raises(ProbeError, match="at least 2 images, got 1"):
        Position()(mae, torch.rand(1, 3, 8, 12), torch.Generator())
