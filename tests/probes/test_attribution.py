"""Attributions beside every coalition and every order, and known answers: a linear model, of which
all methods say its weights, and a model that looks at one patch."""

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr
from torch import Tensor

from lcmae.app.figures import answers
from lcmae.masking import Mask, Random
from lcmae.models import MAE, MaskedImageModel, ModelConfig, spread
from lcmae.patches import patchify
from lcmae.probes.attribution import METHODS, Attribution
from lcmae.probes.base import ProbeError
from lcmae.probes.measures.faithfulness import area, mean_reach, removed, spread_of, steps_of
from lcmae.probes.results.networks import trained
from lcmae.probes.watching.attributions import Queried
from tests.conftest import tiny_mae, tiny_simmim
from tests.reference.probes import attribution as reference

SAME_IF_LINEAR = ["ablation", "integrated gradients", "gradient x input", "Shapley values"]
QUICK: dict[str, Any] = {"path_steps": 4, "shapley_permutations": 1, "num_parts": 24}


class Linear(MaskedImageModel):
    """Predicts each patch by fixed weights of the visible ones; no blocks, and nothing to learn."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__(ModelConfig(image_size=(8, 12), patch_size=2, width=12, heads=1, depth=1))
        self.weights = torch.nn.Parameter(weights)  # [query, patch, value, value]
        self.blocks, self.decoder_blocks, self.num_prefix = torch.nn.ModuleList(), torch.nn.ModuleList(), 0

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        patches = patchify(images, 2).repeat_interleave(len(mask) // len(images), 0)
        visible = patches.gather(1, mask.visible[..., None].expand(-1, -1, 12))
        return visible[:, :0], visible, mask.visible

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        return torch.einsum("qnvw,bnw->bqv", self.weights, spread(tokens, mask.visible, 24))


def linear(rng: torch.Generator) -> Linear:
    return Linear(torch.randn(24, 24, 12, 12, generator=rng, dtype=torch.float64)).double().eval()


def asked(model: MaskedImageModel, images: Tensor, ratio: float = 0.75) -> tuple[Queried, Tensor]:
    mask = Random(ratio=ratio)(len(images), model.grid, torch.Generator().manual_seed(3))
    return Queried(model, images, images.mean(0), mask, mask.hidden[:, 4]).with_direction()


def lively() -> MAE:
    """Weights with which patches interact, in float64."""
    model, rng = tiny_mae(), torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=rng)
    return model.double().eval().requires_grad_(False)


def test_all_methods_say_a_linear_model_s_weights(images: Tensor, rng: torch.Generator) -> None:
    model, images = linear(rng), images.double()
    query, length = asked(model, images)
    # by hand: u . W (x - mean), patch by patch
    off = patchify(images - images.mean(0), 2)
    for row in range(5):
        own = model.weights[int(query.query[row])].detach()
        parts = torch.einsum("nvw,nw->nv", own, off[row])[query.mask.visible[row]]
        unit = parts.sum(0) / parts.sum(0).norm()
        assert float(length[row]) == pytest.approx(float(parts.sum(0).norm()))
        wanted = (parts @ unit).numpy()
        path, delta = query.integrated_gradients(3)
        assert abs(float(delta[row])) < 1e-6  # captum's steps are float32
        for found in (query.ablation(), path, query.gradient_times_input(), query.shapley(2, seed=0)):
            np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-5)


def test_the_probe_of_a_linear_model(images: Tensor, rng: torch.Generator) -> None:
    found = Attribution(**QUICK)(linear(rng), images.double(), torch.Generator().manual_seed(0))
    assert found["network"].values.tolist() == ["trained"]  # nothing can build it afresh
    assert "attention" not in found["explanation"].values
    result = trained(found)
    np.testing.assert_allclose(result["agreement"].sel(explanation=SAME_IF_LINEAR, other_explanation=SAME_IF_LINEAR), 1)
    assert float(result["completeness_error"]) < 1e-6
    assert float(result["additivity"]) == pytest.approx(1)
    # of a sum the order by its parts is the best that there is
    best = result["faithfulness"].sel(explanation="ablation")
    assert (result["faithfulness"] <= best + 1e-6).all()
    assert float(best) > float(result["faithfulness"].sel(explanation="random order")) + 0.2
    # what is left and what is there of the same patches add up to all
    both = result["deletion_curve"] + result["insertion_curve"]
    np.testing.assert_allclose(both, 1, rtol=1e-5)


def test_grey_hides_as_nothing_does_where_grey_is_zero(images: Tensor, rng: torch.Generator) -> None:
    found = trained(Attribution(blank="grey", **QUICK)(linear(rng), images.double(), torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(found["agreement"].sel(explanation="hiding", other_explanation="ablation"), 1)
    assert found.attrs["blank"] == "grey"


def test_a_model_that_looks_at_one_patch_says_so(images: Tensor) -> None:
    weights = torch.zeros(24, 24, 12, 12)
    weights[:, 7] = torch.eye(12)
    model, mask = Linear(weights).eval(), Mask.from_hidden(torch.arange(24).expand(5, -1) % 4 != 3)
    query, _ = Queried(model, images, images.mean(0), mask, mask.hidden[:, 2]).with_direction()
    for found in (query.ablation(), query.gradient_times_input(), query.integrated_gradients(2)[0]):
        assert found.abs().argmax(1).tolist() == [1] * 5  # visible: 3, 7, 11, ...
        torch.testing.assert_close(spread_of(found), torch.ones(5).double())


def scores(query: Queried, row: int) -> reference.Score:
    """The score of one row, from the blank image's on."""

    def score(present: np.ndarray) -> float:
        found = query.predict_many(torch.tensor(present)[None], torch.tensor([row]))[0]
        assert query.direction is not None
        return float(found @ query.direction[row])

    return score


def test_methods_are_their_definitions(images: Tensor) -> None:
    query, length = asked(lively(), images.double())
    score = scores(query, 1)
    np.testing.assert_allclose(query.ablation()[1], reference.ablation(score, 6), atol=1e-9)
    path, delta = query.integrated_gradients(8)
    np.testing.assert_allclose(path[1], reference.integrated_gradients(score, 6, nodes=8), atol=1e-5)
    assert float(path[1].sum() - delta[1]) == pytest.approx(float(length[1]), rel=1e-5)
    # with more steps they add up to the whole change
    assert abs(float(query.integrated_gradients(48)[1][1])) < min(0.01 * abs(float(delta[1])), 1e-3 * float(length[1]))


def test_shapley_values_tend_to_the_mean_over_all_orders(images: Tensor) -> None:
    query, length = asked(lively(), images[:2].double(), ratio=0.83)  # 4 patches are visible
    known = {present: scores(query, 0)(np.array(present)) for present in product((0.0, 1.0), repeat=4)}
    wanted = torch.tensor(reference.shapley(lambda present: known[tuple(present)], 4))
    state = torch.random.get_rng_state()
    few, many = (query.shapley(count, seed=1)[0] for count in (1, 64))
    assert (state == torch.random.get_rng_state()).all()
    # of whatever orders, what they say adds up
    assert float(few.sum()) == pytest.approx(float(length[0]), rel=1e-5)
    assert float((many - wanted).norm()) < 0.1 * float(wanted.norm())
    assert float((many - wanted).norm()) < float((few - wanted).norm())


def test_hiding_is_another_mask(images: Tensor) -> None:
    model = lively()
    query, _ = asked(model, images.double())
    found = query.hiding()
    is_hidden = query.mask.is_hidden[:1].clone()
    is_hidden[0, query.mask.visible[0, 2]] = True
    pred = model(images[:1].double(), Mask.from_hidden(is_hidden)).pred[0, query.query[0]]
    whole = model(images[:1].double(), query.mask[:1]).pred[0, query.query[0]]
    assert query.direction is not None
    assert float(found[0, 2]) == pytest.approx(float((whole - pred).double() @ query.direction[0]), abs=1e-5)


@pytest.mark.parametrize("num_features", [2, 3, 7, 16, 49])
def test_steps_are_even_and_symmetric(num_features: int) -> None:
    steps = steps_of(num_features, 6)
    assert steps[0] == 0
    assert steps[-1] == num_features
    assert (steps + steps.flip(0) == num_features).all()
    assert (steps.diff() > 0).all()


def test_curves_and_areas_are_those_of_a_loop(rng: torch.Generator) -> None:
    weights = torch.randn(9, 9, generator=rng).double()

    def score(present: np.ndarray) -> float:
        there = torch.tensor(present)
        return float(there @ weights @ there)

    attribution, steps = torch.randn(9, generator=rng).double(), steps_of(9, 4)
    away = removed(attribution[None], steps)[:, 0]
    whole = score(np.ones(9))
    for insertion, present in ((False, 1 - away), (True, away)):
        wanted = reference.curve(score, attribution.tolist(), steps.tolist(), insertion=insertion)
        found = torch.tensor([score(row.numpy()) / whole for row in present])
        np.testing.assert_allclose(found, wanted)
        assert float(area(found, steps)) == pytest.approx(reference.area(wanted, steps.tolist()))


def test_a_random_order_has_no_faithfulness_whatever_the_score() -> None:
    """All subsets of each size, by hand: insertion's and deletion's expected curves have one
    area."""
    rng = np.random.default_rng(0)
    values = {subset: rng.normal() for size in range(6) for subset in combinations(range(5), size)}
    steps = steps_of(5, 3)
    mean = {size: np.mean([values[subset] for subset in combinations(range(5), size)]) for size in range(6)}
    put_back = torch.tensor([mean[int(step)] for step in steps])
    taken_away = torch.tensor([mean[5 - int(step)] for step in steps])
    assert float(area(put_back, steps)) == pytest.approx(float(area(taken_away, steps)))


def test_how_wide_and_how_far_by_hand() -> None:
    one = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(spread_of(one), [2, np.nan])
    np.testing.assert_allclose(mean_reach(one, torch.tensor([[1.0, 3, 9, 9]] * 2)), [2, np.nan])


def test_agreement_is_scipy_s_mean_over_queries(images: Tensor) -> None:
    few = Attribution(num_queries=1, num_images=4, **QUICK)(tiny_mae(), images[:4], torch.Generator().manual_seed(0))
    maps = few["attribution_map"].values[:, 0].reshape(4, len(few["map"]), 24)
    ranked: list[Any] = [spearmanr(own[~np.isnan(own)], other[~np.isnan(other)]) for own, other in maps[:, [0, 2]]]
    wanted = [one.statistic for one in ranked]
    chosen = trained(few)["agreement"].sel(explanation="ablation", other_explanation="integrated gradients")
    assert float(chosen) == pytest.approx(np.mean(wanted), abs=1e-5)
    error = trained(few)["agreement_sem"].sel(explanation="ablation", other_explanation="integrated gradients")
    assert float(error) == pytest.approx(np.std(wanted, ddof=1) / 2, rel=1e-4)
    assert few["agreement_sem"].attrs["degrees_of_freedom"] == 3


def test_runs_over_the_same_images_are_compared_in_pairs(images: Tensor) -> None:
    one, other = (Attribution(**QUICK)(tiny_mae(), images, torch.Generator().manual_seed(0)) for _ in range(2))
    where = {"explanation": "ablation"}
    found = answers.between(one, other, answers.Headline("reach", "reach", "highest", lambda result: where))
    assert math.isfinite(found.low)
    without = one["reach_without"].sel({"network": "trained", **where}).values
    assert len(without) == 5
    sem = math.sqrt(4 / 5 * ((without - without.mean()) ** 2).sum())
    assert float(one["reach_sem"].sel({"network": "trained", **where})) == pytest.approx(sem, rel=1e-4)


@pytest.mark.parametrize("build", [tiny_mae, tiny_simmim])
def test_the_probe_says_what_it_measured(build, images: Tensor) -> None:
    model = build()
    whole = Attribution(untrained_images=2, **QUICK)(model, images, torch.Generator().manual_seed(0))
    assert whole["network"].values.tolist() == ["trained", "untrained"]
    assert whole["explanation"].values.tolist() == list(METHODS)
    assert whole["agreement"].sel(network="untrained", explanation="Shapley values").isnull().all()
    assert whole["agreement"].sel(network="untrained", explanation="attention").notnull().sum() == len(METHODS) - 1
    result = trained(whole)
    for name in ("deletion_curve", "insertion_curve"):
        ends = result[name].isel(fraction=[0, -1])
        np.testing.assert_allclose(
            ends, np.broadcast_to([1, 0] if name == "deletion_curve" else [0, 1], ends.shape), atol=1e-5
        )
    again = Attribution(untrained_images=2, batch_size=2, **QUICK)(model, images, torch.Generator().manual_seed(0))
    xr.testing.assert_allclose(whole["faithfulness"], again["faithfulness"], rtol=1e-3, atol=1e-4)
    hidden = result["hidden"].values.astype(bool)
    known = result["attribution_map"].notnull().values
    assert (known == ~hidden[:, None, None]).all()
    assert np.take_along_axis(hidden.reshape(4, 24), result["query_patch"].values, 1).all()


def test_what_it_cannot_do_is_said_in_a_sentence(images: Tensor) -> None:
    with pytest.raises(ProbeError, match="at least 2 images for a position mean, got 1"):
        Attribution()(tiny_mae(), images[:1], torch.Generator())
    with pytest.raises(ProbeError, match="at least 2 patches visible, got 1"):
        Attribution(mask=Random(ratio=0.95))(tiny_mae(), images, torch.Generator())
