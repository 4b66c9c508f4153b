"""The spectrum probe: slow definitions, vectors whose spectrum is known, and what it costs."""

import math
from pathlib import Path

import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import Random
from lcmae.models import MAE, MaskedImageModel
from lcmae.objectives.base import uniformity
from lcmae.probes.base import run_probes
from lcmae.probes.measures import ranks
from lcmae.probes.measures.neighbours import distances, estimate_two_nn, two_nn, wang_isola
from lcmae.probes.registry import probe_class
from lcmae.probes.results.networks import trained
from lcmae.probes.results.store import load_result, save_result
from lcmae.probes.spectrum import Spectrum
from lcmae.probes.statistics.jackknife import GroupedSums, groups_of, standard_error
from lcmae.probes.statistics.moments import GroupedMoments, Moments, OuterProducts, estimate
from lcmae.probes.watching.batch import Batch
from lcmae.settings import parse
from lcmae.training import monitor
from tests.conftest import tiny_mae
from tests.reference import spectrum as slow
from tests.reference.work import counted_rows, numbers_held

SMALL = Spectrum(num_masks=3, first_rank=2, last_rank=12, batch_size=4)


def moments(vectors: Tensor) -> Moments:
    grouped = GroupedMoments()
    grouped.add(vectors[:, None], groups_of(range(len(vectors)), len(vectors)))
    return grouped.whole()


def skewed(count: int, width: int, rng: torch.Generator) -> Tensor:
    """Vectors with a falling spectrum and a mean."""
    scale = 1 / torch.arange(1, width + 1)
    return torch.randn(count, width, generator=rng) * scale + 0.3


def test_ranks_equal_their_definitions(rng: torch.Generator) -> None:
    vectors = skewed(30, 12, rng)
    raw, unit = moments(vectors), moments(torch.nn.functional.normalize(vectors.double(), dim=1))
    # float64 moments against singular values: rounding alone
    assert float(ranks.effective_rank(raw)) == pytest.approx(slow.effective_rank(vectors), rel=1e-9)
    assert float(ranks.effective_rank(raw)) == pytest.approx(monitor.effective_rank(vectors), rel=1e-9)
    assert float(ranks.rankme(raw)) == pytest.approx(slow.rankme(vectors), rel=1e-7)
    assert float(ranks.uniformity(unit)) == pytest.approx(slow.mean_squared_cosine(vectors, True), rel=1e-9)
    assert float(ranks.uniformity_of_others(unit)) == pytest.approx(slow.mean_squared_cosine(vectors, False), rel=1e-9)
    assert float(ranks.uniformity(unit)) == pytest.approx(float(uniformity(vectors)), rel=1e-5)
    values = ranks.variances(raw)
    assert float(ranks.alpha_req(values, 2, 9)) == pytest.approx(slow.alpha(values, 2, 9), rel=1e-9)
    assert float(ranks.rankme(raw, centre=True, power=2)) == pytest.approx(float(ranks.effective_rank(raw)))


def test_participation_ratio_is_the_inverse_of_uniformity(rng: torch.Generator) -> None:
    unit = moments(torch.nn.functional.normalize(skewed(40, 10, rng).double(), dim=1))
    values = ranks.eigenvalues(unit.second_moment, unit.count)
    assert float(ranks.participation_ratio(values) * ranks.uniformity(unit)) == pytest.approx(1, rel=1e-12)


def test_lidar_equals_its_definition(rng: torch.Generator) -> None:
    views = skewed(20, 6, rng)[:, None] + 0.1 * torch.randn(20, 5, 6, generator=rng)
    centre = views.mean(1, keepdim=True)
    between, within = GroupedMoments(), GroupedMoments()
    group = groups_of(range(20), 20)
    between.add(centre, group)
    within.add(views - centre, group)
    found = float(ranks.lidar(between.whole(), within.whole(), 1e-4))
    assert found == pytest.approx(slow.lidar(views, 1e-4), rel=1e-5)


def test_spectrum_of_a_gaussian_of_known_covariance(rng: torch.Generator) -> None:
    # eigenvalues i^-1.5 exactly: whiten a sample, then give it that covariance, turned by any
    # rotation
    width, alpha = 40, 1.5
    sample = torch.randn(500, width, generator=rng).double()
    white = torch.linalg.qr(sample - sample.mean(0)).Q * math.sqrt(500)
    wanted = torch.arange(1, width + 1).double() ** -alpha
    turn = torch.linalg.qr(torch.randn(width, width, generator=rng).double()).Q
    known = moments((white * wanted.sqrt()) @ turn + 2.0)
    torch.testing.assert_close(ranks.variances(known), wanted, rtol=1e-9, atol=1e-12)
    assert float(ranks.alpha_req(ranks.variances(known), 5, 30)) == pytest.approx(alpha, rel=1e-9)
    assert float(ranks.effective_rank(known)) == pytest.approx(slow.entropy_rank(wanted), rel=1e-9)
    even = moments(white)
    assert float(ranks.effective_rank(even)) == pytest.approx(width, rel=1e-9)
    assert float(ranks.rankme(even)) == pytest.approx(width, rel=1e-9)


def test_fewer_vectors_than_width_leave_no_rounding_in_the_spectrum(rng: torch.Generator) -> None:
    few = torch.randn(6, 50, generator=rng)
    assert int((ranks.variances(moments(few)) > 0).sum()) == 5
    assert float(ranks.rankme(moments(few))) == pytest.approx(slow.rankme(few), rel=1e-7)


def test_the_direction_that_a_layer_norm_removes_is_no_eigenvalue(rng: torch.Generator) -> None:
    # float32, as models make it: coordinates sum to 0 but for rounding
    normed = torch.nn.functional.layer_norm(skewed(300, 16, rng) + 3, (16,)) + 5
    values = ranks.variances(moments(normed))
    assert int((values > 0).sum()) == 15
    assert float(ranks.alpha_req(values, 5, 16)) == pytest.approx(slow.alpha(values[:15], 5, 15), rel=1e-9)


@given(first=st.integers(1, 39), seed=st.integers(0, 1000))
def test_moments_do_not_depend_on_batches(first: int, seed: int) -> None:
    vectors = torch.randn(40, 2, 5, generator=torch.Generator().manual_seed(seed)) + 100
    once, twice = GroupedMoments(), GroupedMoments()
    once.add(vectors, groups_of(range(40), 40))
    twice.add(vectors[:first], groups_of(range(first), 40))
    twice.add(vectors[first:], groups_of(range(first, 40), 40))
    torch.testing.assert_close(once.whole().covariance, twice.whole().covariance, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(
        once.whole().covariance, torch.cov(vectors.flatten(0, 1).double().T, correction=0), rtol=1e-9, atol=1e-11
    )
    torch.testing.assert_close(once.without(3).mean, twice.without(3).mean, rtol=1e-12, atol=1e-12)


def test_jackknife_of_a_mean_is_its_standard_error(rng: torch.Generator) -> None:
    values = torch.randn(7, generator=rng).double()
    sums = GroupedSums(7, num_groups=7)
    sums.add(range(7), value=values, count=torch.ones(7))
    mean, sem = sums.estimate(lambda total: total["value"] / total["count"])
    torch.testing.assert_close(mean, values.mean())
    torch.testing.assert_close(sem, values.std() / math.sqrt(7))


def test_jackknife_equals_the_textbook_form_for_equal_groups(rng: torch.Generator) -> None:
    vectors = skewed(24, 5, rng)
    grouped = GroupedMoments()
    grouped.add(vectors[:, None], groups_of(range(24), 24))
    _, sem = estimate(ranks.effective_rank, grouped)
    blocks = [vectors[groups_of(range(24), 24) == index] for index in range(8)]
    assert float(sem) == pytest.approx(slow.jackknife(blocks, slow.effective_rank), rel=1e-9)


def test_jackknife_of_unequal_groups_still_finds_the_error_of_a_mean(rng: torch.Generator) -> None:
    # a thousand repetitions of 3 + 5 + 8 + 4 values of variance 1: the mean of 20 has variance 1/20
    sizes = torch.tensor([3.0, 5.0, 8.0, 4.0]).double()
    draws = torch.randn(1000, 20, generator=rng).double()
    sums = torch.stack([part.sum(1) for part in draws.split([3, 5, 8, 4], dim=1)])
    without = (draws.sum(1) - sums) / (20 - sizes)[:, None]
    squared = standard_error(draws.mean(1), without, sizes).square()
    assert float(squared.mean()) == pytest.approx(1 / 20, rel=0.1)


def test_two_nn_and_wang_isola_equal_their_definitions(rng: torch.Generator) -> None:
    points = torch.randn(25, 4, generator=rng)
    assert float(two_nn(distances(points))) == pytest.approx(slow.two_nn(points), rel=1e-9)
    unit = torch.nn.functional.normalize(points.double(), dim=1)
    assert float(wang_isola(distances(unit))) == pytest.approx(slow.wang_isola(points), rel=1e-9)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_on_a_manifold_of_known_dimension(dimension: int, rng: torch.Generator) -> None:
    # a flat torus of this dimension, bent into 2 d circles and turned in 20 dimensions
    angles = 2 * math.pi * torch.rand(1000, dimension, generator=rng)
    flat = torch.cat([angles.sin(), angles.cos()], dim=1)
    turn = torch.linalg.qr(torch.randn(20, 20, generator=rng)).Q
    value, sem = estimate_two_nn(distances(flat @ turn[: 2 * dimension]))
    # the estimator's own error at 1000 points is 3 %, and its bias grows with the dimension
    assert float(value) == pytest.approx(dimension, rel=0.12)
    assert 0 < float(sem) < 0.2 * dimension


def test_the_error_of_two_nn_is_its_spread(rng: torch.Generator) -> None:
    found = [estimate_two_nn(distances(torch.rand(150, 3, generator=rng))) for _ in range(120)]
    values, errors = (torch.stack(part) for part in zip(*found, strict=True))
    # 120 draws know the ratio to 7 %; mutual neighbours count as independent: about 1.1
    assert 0.85 < float(values.std() / errors.square().mean().sqrt()) < 1.35


def test_two_nn_leaves_out_points_that_coincide(rng: torch.Generator) -> None:
    points = torch.randn(60, 3, generator=rng)
    doubled = torch.cat([points, points[:5]])
    assert math.isfinite(float(two_nn(distances(doubled), same=1e-6)))
    assert math.isnan(float(two_nn(distances(torch.ones(9, 3)), same=1e-6)))
    assert math.isnan(float(two_nn(distances(points[:2]))))
    assert all(math.isfinite(float(part)) for part in estimate_two_nn(distances(doubled), same=1e-6))
    assert all(math.isnan(float(part)) for part in estimate_two_nn(distances(points[:2])))


def test_result_equals_definitions_on_the_model_s_own_vectors(mae: MAE, rng: torch.Generator) -> None:
    images = torch.randn(9, 3, 8, 12, generator=rng)
    seed = 5
    found = trained(run_probes([SMALL], mae, images, seed).datasets["spectrum"])
    batch = Batch(mae.eval(), images, 0, seed)
    masks, masked = batch.masked(SMALL.mask, 3)
    whole = batch.unmasked()
    views = {"full": whole.prefix[:, 0], "masked": masked.prefix[::3, 0]}
    for view, vectors in views.items():
        here = found.sel(feature="cls", view=view)
        assert float(here.effective_rank) == pytest.approx(slow.effective_rank(vectors), rel=1e-4)
        assert float(here.rankme) == pytest.approx(slow.rankme(vectors), rel=1e-4)
        assert float(here.uniformity) == pytest.approx(float(uniformity(vectors)), rel=1e-4)
        assert float(here.participation_ratio) == pytest.approx(1 / float(uniformity(vectors)), rel=1e-4)
        assert float(here.wang_isola) == pytest.approx(slow.wang_isola(vectors), rel=1e-4)
        assert float(here.intrinsic_dimension) == pytest.approx(slow.two_nn(vectors), rel=1e-3)
    tokens = found.sel(feature="token", view="masked")
    assert float(tokens.rankme) == pytest.approx(slow.rankme(masked.tokens[::3].flatten(0, 1)), rel=1e-4)
    assert int(tokens.num_vectors) == 9 * masks.visible.shape[1]
    cls = masked.prefix[:, 0].unflatten(0, (9, 3))
    assert float(found.lidar.sel(feature="cls")) == pytest.approx(slow.lidar(cls, 1e-4), rel=1e-3)
    assert math.isnan(float(found.lidar.sel(feature="token")))
    # seven of eight groups lie within the same images: errors are there, and positive
    assert (found.effective_rank_sem > 0).all()


def test_batches_change_nothing_but_rounding(mae: MAE, rng: torch.Generator) -> None:
    images = torch.randn(10, 3, 8, 12, generator=rng)
    few, many = (
        run_probes([SMALL.model_copy(update={"batch_size": size})], mae, images, 1).datasets["spectrum"]
        for size in (3, 10)
    )
    for name in few.data_vars:
        torch.testing.assert_close(
            torch.as_tensor(few[name].values),
            torch.as_tensor(many[name].values),
            # intrinsic dimension divides nearly equal distances
            rtol=1e-3,
            atol=1e-4,
            equal_nan=True,
        )


@pytest.mark.slow
def test_memory_is_flat_and_work_linear(mae: MAE, rng: torch.Generator) -> None:
    probe = SMALL.model_copy(update={"num_sampled": 8})
    held, rows = {}, {}
    # 10 images a group are more than a quarter of the width, so that outer products are summed
    for count in (80, 320):
        images = torch.randn(count, 3, 8, 12, generator=rng)
        accumulator = probe.start(mae, count, 0)
        with counted_rows(mae) as seen:
            for first in range(0, count, 5):
                accumulator.update(Batch(mae, images[first : first + 5], first, 0))
        held[count], rows[count] = numbers_held(accumulator), sum(seen)
    assert rows[320] == 4 * rows[80]
    assert held[320] == held[80]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_outer_products_are_exact_and_bounded(sizes: list[int]) -> None:
    width, products = 20, OuterProducts()
    rng = torch.Generator().manual_seed(len(sizes))
    vectors = torch.randint(-9, 10, (sum(sizes), width), generator=rng).double()  # whole numbers, whose sums are exact
    for part in vectors.split(sizes):
        products.add(part)
        assert numbers_held(products) <= 1.25 * width**2
    torch.testing.assert_close(products.total(), vectors.T @ vectors, rtol=0, atol=0)
    few = OuterProducts()
    few.add(vectors[:2])
    assert numbers_held(few) == vectors[:2].numel()


def test_one_image_gives_numbers_without_errors(mae: MAE, images: Tensor) -> None:
    found = trained(SMALL(mae, images[:1], torch.Generator().manual_seed(0))).sel(feature="cls", view="full")
    assert float(found.rankme) == pytest.approx(1)
    assert float(found.effective_rank) == 1
    assert float(found.uniformity) == pytest.approx(1)
    for name in ("rankme_sem", "lidar", "alpha_req", "wang_isola", "intrinsic_dimension", "uniformity_of_others"):
        assert math.isnan(float(found[name])), name


def test_constant_features_span_a_point(images: Tensor) -> None:
    model = tiny_mae()
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.fill_(0.7)
    found = trained(SMALL(model, images, torch.Generator().manual_seed(0))).sel(feature="mean", view="masked")
    for name in ("effective_rank", "rankme", "participation_ratio", "uniformity", "uniformity_of_others"):
        assert float(found[name]) == pytest.approx(1, rel=1e-5), name
    assert float(found.wang_isola) == pytest.approx(0, abs=1e-5)
    for name in ("lidar", "alpha_req", "intrinsic_dimension"):
        assert math.isnan(float(found[name])), name


def test_vectors_of_zeros_have_no_rank(images: Tensor) -> None:
    model = tiny_mae()
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.zero_()
    found = trained(SMALL(model, images, torch.Generator().manual_seed(0))).sel(feature="mean", view="full")
    for name in ("rankme", "participation_ratio", "uniformity"):
        assert math.isnan(float(found[name])), name


def test_without_class_token_there_is_no_cls(images: Tensor) -> None:
    found = trained(SMALL(WithoutPrefix(tiny_mae()), images, torch.Generator().manual_seed(0)))
    assert found.feature.values.tolist() == ["mean", "token"]
    assert not found.effective_rank.isnull().any()


class WithoutPrefix(MaskedImageModel):
    """A model's patch tokens alone; it predicts nothing."""

    num_prefix = 0
    has_prediction = False

    def __init__(self, inner: MAE) -> None:
        super().__init__(inner.config.model_copy(update={"feature": "mean"}))
        self.inner = inner
        self.blocks = inner.blocks

    def encode(self, images, mask):
        prefix, tokens, positions = self.inner.encode(images, mask)
        return prefix[:, :0], tokens, positions

    def predict(self, prefix, tokens, mask):
        return tokens.new_zeros(len(tokens), self.num_patches, 0)


def test_a_result_is_stored_whole(mae: MAE, images: Tensor, tmp_path: Path) -> None:
    found = Spectrum(mask=Random(ratio=0.5), num_masks=2)(mae, images[:2], torch.Generator().manual_seed(0))
    save_result(found, tmp_path / "spectrum.nc")
    xr.testing.assert_equal(load_result(tmp_path / "spectrum.nc"), found)


def test_settings_that_cannot_be_are_refused() -> None:
    assert probe_class("spectrum") is Spectrum
    with pytest.raises(InputError, match="at least 5 ranks for alpha-ReQ, got 8 to 11"):
        parse(Spectrum, {"first_rank": 8, "last_rank": 11})
