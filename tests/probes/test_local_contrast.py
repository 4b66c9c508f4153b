"""The four terms streamed are those of one big decomposition; their errors, maps, shares and
collapse levels are what they say."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lcmae.contrast import TERMS, decompose
from lcmae.masking import Block, Random
from lcmae.models import MAE, SimMIM
from lcmae.objectives.lcmae import visible_tokens
from lcmae.probes.local_contrast import LocalContrast, NestedVariance
from lcmae.probes.results.networks import trained
from lcmae.probes.watching.batch import Batch
from tests.conftest import tiny_mae, tiny_simmim

Data = tuple[Tensor, Tensor, Tensor]


def synthetic_residuals(num_images: int, num_masks: int, seed: int, num_hidden: int = 3, offset: float = 0.0) -> Data:
    """Predictions, targets and masks with an exact count, all differing in level by image, patch
    and mask."""
    rng = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    target = noise(num_images, 1, 4) + noise(1, 6, 4) + noise(num_images, 6, 4) + offset
    pred = 0.5 * target[:, None] + 0.3 * noise(num_images, num_masks, 6, 4) + offset
    order = torch.rand(num_images, num_masks, 6, generator=rng).argsort(-1)
    return pred, target, order < num_hidden


def streamed(data: Data, sizes: list[int] | int) -> NestedVariance:
    running = NestedVariance()
    for part in zip(*(tensor.split(sizes) for tensor in data), strict=True):
        running.add(*part)
    return running


class TestNestedVariance:
    @given(
        sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
        num_masks=st.integers(1, 4),
        seed=st.integers(0, 500),
        offset=st.sampled_from([0.0, 50.0]),
    )
    def test_equals_one_big_decomposition(self, sizes: list[int], num_masks: int, seed: int, offset: float) -> None:
        data = synthetic_residuals(sum(sizes), num_masks, seed, offset=offset)
        running, whole = streamed(data, sizes), decompose(*data)
        assert running.loss == pytest.approx(float(whole.loss), rel=1e-10)
        terms = running.terms()
        assert tuple(terms) == TERMS
        for name, value in whole.terms().items():
            assert terms[name] == pytest.approx(float(value), rel=1e-10, abs=1e-10)
        assert math.fsum(terms.values()) == pytest.approx(running.loss, rel=1e-10)

        # maps by place: sums over images, as means over the times the place was hidden
        count = whole.count.sum(0)
        for name, values in running.maps().items():
            expected = getattr(whole, f"{name}_map").sum(0) / count
            np.testing.assert_allclose(values.numpy(), expected.numpy(), rtol=1e-10, atol=1e-12)

    def test_what_is_visible_has_no_say(self) -> None:
        pred, target, hidden = synthetic_residuals(4, 3, 0)
        junk = torch.where(hidden[..., None], pred, torch.nan)
        assert streamed((junk, target, hidden), 2).terms() == streamed((pred, target, hidden), 2).terms()

    def test_errors_of_plain_means_are_direct(self) -> None:
        data = synthetic_residuals(40, 3, 1)
        sems = streamed(data, 7).sems()
        pred, target, hidden = data
        alone = [decompose(pred[[image]], target[[image]], hidden[[image]]) for image in range(40)]
        for name in ("invariance", "local_consistency"):
            values = [float(getattr(one, name)) for one in alone]
            assert sems[name] == pytest.approx(np.std(values, ddof=1) / math.sqrt(40), rel=1e-9)
        losses = [float(one.loss) for one in alone]
        assert streamed(data, 7).loss_sem == pytest.approx(np.std(losses, ddof=1) / math.sqrt(40), rel=1e-9)

    def test_errors_agree_with_a_bootstrap(self) -> None:
        data = synthetic_residuals(200, 2, 2, offset=1.0)
        sems = streamed(data, 50).sems()
        # one number a term from images drawn with replacement; 300 draws give an error to about 4 %
        rng = torch.Generator().manual_seed(3)
        draws = [
            streamed(tuple(tensor[index] for tensor in data), 200).terms()  # pyright: ignore[reportArgumentType]
            for index in (torch.randint(200, (200,), generator=rng) for _ in range(300))
        ]
        for name in TERMS:
            assert sems[name] == pytest.approx(np.std([draw[name] for draw in draws], ddof=1), rel=0.2), name

    def test_a_single_image_has_no_error(self) -> None:
        running = streamed(synthetic_residuals(1, 3, 0), 1)
        assert all(math.isnan(sem) for sem in running.sems().values())
        assert math.isnan(running.loss_sem)
        assert running.terms()["global_consistency"] == pytest.approx(0, abs=1e-15)

    def test_a_constant_prediction_sits_on_the_collapse_level(self) -> None:
        _, target, hidden = synthetic_residuals(9, 4, 0)
        best = (target * hidden.sum(1)[..., None]).sum((0, 1)) / hidden.sum()
        terms = streamed((best.expand(9, 4, 6, 4), target, hidden), 4).terms()
        assert (terms["invariance"], terms["offset"]) == pytest.approx((0, 0), abs=1e-28)
        every = target[:, None].expand(9, 4, 6, 4)[hidden]
        assert terms["local_consistency"] + terms["global_consistency"] == pytest.approx(
            float((every - every.mean(0)).square().mean()), rel=1e-12
        )

    def test_patches_seen_once_tell_nothing_of_the_noise(self) -> None:
        pred, target, _ = synthetic_residuals(5, 2, 0)
        first = torch.arange(6) < 3
        running = streamed((pred, target, torch.stack([first, ~first]).expand(5, 2, 6)), 5)
        assert running.terms()["invariance"] == 0


def result(model: Any, images: Tensor, **settings: Any) -> xr.Dataset:
    return trained(LocalContrast(**{"num_masks": 4, **settings})(model, images, torch.Generator().manual_seed(0)))


def outputs(model: Any, images: Tensor, dataset: xr.Dataset) -> tuple[Tensor, Tensor, Tensor, Any, Any]:
    """What the probe saw: predictions [b k n p], targets, hidden [b k n], the masks and the whole
    output."""
    probe = LocalContrast.model_validate_json(dataset.attrs["settings"])
    batch = Batch(model, images, 0, int(dataset.attrs["seed"]))
    masks, out = batch.masked(probe.mask, probe.num_masks)
    pred = rearrange(out.pred, "(b k) n p -> b k n p", k=probe.num_masks)
    hidden = rearrange(masks.is_hidden, "(b k) n -> b k n", k=probe.num_masks)
    return pred.double(), model.targets(images).double(), hidden, masks, out


@pytest.fixture(params=["mae", "simmim", "normalised"])
def model(request: pytest.FixtureRequest) -> MAE | SimMIM:
    kinds = {"mae": tiny_mae, "simmim": tiny_simmim, "normalised": lambda: tiny_mae(normalize_targets=True)}
    return kinds[request.param]()


class TestProbe:
    @pytest.mark.parametrize("batch_size", [1, 2, 5])
    def test_is_the_decomposition_of_all_images(self, model: Any, images: Tensor, batch_size: int) -> None:
        dataset = result(model, images, batch_size=batch_size, mask=Block(ratio=0.5))
        pred, target, hidden, _, _ = outputs(model, images, dataset)
        whole = decompose(pred, target, hidden)
        # float32 predictions of other batch sizes differ in their last digit
        assert float(dataset["loss"]) == pytest.approx(float(whole.loss), rel=1e-5)
        for name, value in whole.terms().items():
            assert float(dataset["term"].sel(part=name)) == pytest.approx(float(value), rel=1e-4, abs=1e-7)
        assert float(dataset["term"].sum()) == pytest.approx(float(dataset["loss"]), rel=1e-6)

        shown = (whole.loss_map / whole.count.clamp(min=1)).reshape(-1, *model.grid)
        np.testing.assert_allclose(dataset["picture_loss"].values, shown.numpy(), rtol=1e-4, atol=1e-6)
        by_position = (whole.invariance_map.sum(0) / whole.count.sum(0)).reshape(model.grid)
        np.testing.assert_allclose(dataset["invariance_map"].values, by_position.numpy(), rtol=1e-3, atol=1e-7)

    def test_collapse_levels_are_the_variance_of_the_hidden_targets(self, model: Any, images: Tensor) -> None:
        dataset = result(model, images)
        _, target, hidden, _, _ = outputs(model, images, dataset)
        collapse = dataset["collapse"]
        assert float(collapse.sel(part="invariance")) == float(collapse.sel(part="offset")) == 0
        every = target[:, None].expand(-1, 4, -1, -1)[hidden]
        level = float((every - every.mean(0)).square().mean())
        assert float(collapse.sum()) == pytest.approx(level, rel=1e-6)

    def test_a_model_that_says_the_same_everywhere_sits_on_it(self, images: Tensor) -> None:
        model = tiny_mae()
        nn.init.zeros_(model.decoder_pred.weight)
        nn.init.constant_(model.decoder_pred.bias, 0.1)
        dataset = result(model, images)
        for name in ("local_consistency", "global_consistency"):
            assert float(dataset["term"].sel(part=name)) == pytest.approx(
                float(dataset["collapse"].sel(part=name)), rel=1e-5
            )
        assert float(dataset["term"].sel(part="invariance")) == pytest.approx(0, abs=1e-14)
        # nothing varies, so position explains no share of it
        assert math.isnan(dataset["position_share"].sel(quantity="prediction"))

    def test_token_shares_are_a_nested_variance_and_sum_to_one(self, model: Any, images: Tensor) -> None:
        dataset = result(model, images)
        _, _, _, masks, out = outputs(model, images, dataset)
        tokens, shown = visible_tokens(out, masks)
        tokens = rearrange(tokens, "(b k) n d -> b k n d", k=4).double()
        parts = decompose(tokens, torch.zeros_like(tokens[:, 0]), rearrange(shown, "(b k) n -> b k n", k=4))
        spread = [float(getattr(parts, name)) for name in TERMS[:3]]
        assert dataset["token_share"].values == pytest.approx([part / sum(spread) for part in spread], rel=1e-3)
        assert float(dataset["token_share"].sum()) == pytest.approx(1)

    def test_share_of_place_at_its_ends(self) -> None:
        model = tiny_mae()
        # the same image over and over: position explains all of the target
        rng = torch.Generator().manual_seed(1)
        one = torch.randn(1, 3, 8, 12, generator=rng).expand(6, -1, -1, -1).contiguous()
        assert float(result(model, one)["position_share"].sel(quantity="target")) == pytest.approx(1)
        # images of one level each: position explains none of it
        flat = torch.randn(6, 1, 1, 1, generator=rng).expand(-1, 3, 8, 12).contiguous()
        share = float(result(model, flat, num_masks=64)["position_share"].sel(quantity="target"))
        assert share == pytest.approx(0, abs=0.01)  # patches are hidden unequally often in each image

    def test_a_single_image_has_numbers_and_no_errors(self, model: Any, images: Tensor) -> None:
        dataset = result(model, images[:1])
        assert math.isnan(dataset["loss_sem"])
        assert dataset["term_sem"].isnull().all()
        assert np.isfinite(dataset["term"].values).all()
        assert dataset["picture_loss"].shape == (1, 4, 6)

    @pytest.mark.parametrize("num_pictures", [0, 3, 9])
    def test_pictures_are_of_the_first_images(self, images: Tensor, num_pictures: int) -> None:
        model = tiny_mae()
        dataset = result(model, images, num_pictures=num_pictures, batch_size=2)
        if num_pictures == 0:
            assert "original" not in dataset
            return
        assert dataset.sizes["picture"] == min(num_pictures, 5)
        expected = (model.to_pixels(images).clamp(0, 1) * 255).round().to(torch.uint8)
        assert np.array_equal(dataset["original"].values, rearrange(expected, "b c h w -> b h w c")[:num_pictures])

    def test_says_whose_definition_it_is_and_how_it_came_about(self, images: Tensor) -> None:
        dataset = result(tiny_mae(), images, mask=Random(ratio=0.5))
        assert "not the LC-MAE paper's" in dataset.attrs["definition"]
        assert json.loads(dataset.attrs["settings"])["mask"]["ratio"] == 0.5
        assert dataset.attrs["num_images"] == 5
        assert all({"units", "long_name"} <= variable.attrs.keys() for variable in dataset.data_vars.values())
