"""The invariance probe: pairs one by one, predictors whose answers are known, and what it costs."""

import math
from pathlib import Path

import pytest
import torch
import xarray as xr
from einops import repeat
from torch import Tensor, nn

from lcmae.masking import Checkerboard, Complementary, Mask, Random
from lcmae.models import MAE, MaskedImageModel, ModelConfig
from lcmae.objectives.lcmae import visible_tokens
from lcmae.patches import patchify
from lcmae.probes.base import run_probes
from lcmae.probes.invariance import Invariance
from lcmae.probes.measures.retrieval import chance, info_nce, scores, top1
from lcmae.probes.registry import probe_class
from lcmae.probes.results.networks import trained
from lcmae.probes.results.store import load_result, save_result
from lcmae.probes.watching.batch import Batch
from tests.conftest import tiny_mae
from tests.reference import invariance as slow
from tests.reference.work import counted_rows, numbers_held

SMALL = Invariance(mask=Random(ratio=0.5), num_masks=3, num_bins=5, batch_size=4)


class Echo(MaskedImageModel):
    """Tokens are the patches themselves, hidden or not; the prediction of patch i is the patch
    `shift` places on."""

    encodes_hidden = True

    def __init__(self, shift: int = 0, *, has_class_token: bool = True, has_prediction: bool = True) -> None:
        super().__init__(ModelConfig(image_size=(8, 12), patch_size=2, width=12, feature="mean"))
        self.shift = shift
        self.num_prefix = int(has_class_token)
        self.has_prediction = has_prediction
        self.weight = nn.Parameter(torch.ones(()))  # says where the model lives

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        patches = patchify(images, self.patch_size)
        tokens = repeat(patches, "b n p -> (b k) n p", k=len(mask) // len(images))
        every = torch.arange(self.num_patches).expand(len(tokens), -1)
        return tokens[:, : self.num_prefix], tokens, every

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        return tokens.roll(-self.shift, 1) if self.has_prediction else tokens[..., :0]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("similarity", ["cosine", "distance"])
def test_retrieval_equals_its_definition(similarity, rng: torch.Generator) -> None:
    target = torch.randn(2, 9, 4, generator=rng)
    pred = target + torch.randn(2, 9, 4, generator=rng)
    score = scores(pred, target, similarity)
    own = torch.arange(9)
    for image in range(2):
        credits, losses = slow.retrieval(pred[image], target[image], similarity, 0.3)
        assert top1(score, own)[image].tolist() == pytest.approx(credits)
        assert info_nce(score, own, 0.3)[image].tolist() == pytest.approx(losses)


def test_both_similarities_agree_for_vectors_of_length_1(rng: torch.Generator) -> None:
    pred, target = torch.nn.functional.normalize(torch.randn(2, 1, 7, 5, generator=rng).double(), dim=-1)
    own = torch.arange(7)
    by_cosine, by_distance = (info_nce(scores(pred, target, name), own, 0.1) for name in ("cosine", "distance"))
    torch.testing.assert_close(by_cosine, by_distance)


def test_scores_that_say_nothing_are_at_chance(rng: torch.Generator) -> None:
    target = torch.randn(1, 6, 4, generator=rng)
    own = torch.arange(6)
    # the same prediction everywhere finds one target, whichever it is
    constant = torch.ones(1, 6, 4)
    for similarity in ("cosine", "distance"):
        assert float(top1(scores(constant, target, similarity), own).mean()) == pytest.approx(chance(6)[0])
    # identical targets share the credit, and all-zero targets are no division by zero
    for same in (torch.ones(1, 6, 4), torch.zeros(1, 6, 4)):
        for similarity in ("cosine", "distance"):
            score = scores(same, same, similarity)
            assert top1(score, own)[0].tolist() == pytest.approx([chance(6)[0]] * 6)
            assert info_nce(score, own, 0.1)[0].tolist() == pytest.approx([chance(6)[1]] * 6)


def test_a_perfect_predictor_finds_every_target(rng: torch.Generator) -> None:
    found = trained(SMALL(Echo(), torch.randn(12, 3, 8, 12, generator=rng), seeded()))
    assert (found.retrieval == 1).all()
    assert (found.retrieval_ceiling == 1).all()
    xr.testing.assert_allclose(found.info_nce, found.info_nce_ceiling)
    # among 24 places and 12 images
    assert found.retrieval_chance.values.tolist() == pytest.approx([1 / 24, 1 / 12])
    assert (found.info_nce < found.info_nce_chance).all()
    # patches of another image are found by chance; at the same place the true image is always
    # nearer than another
    shuffled = found.sel(scope="image")
    off = abs(shuffled.retrieval_shuffled - shuffled.retrieval_chance)
    assert (off < 4 * shuffled.retrieval_shuffled_sem).all()
    assert (found.retrieval_shuffled.sel(scope="other_images") == 0).all()
    # tokens that no mask changes are alike to rounding; those of other images have nothing in
    # common
    same = found.alignment.sel(pair="same_image", quantity=["token", "cls"])
    assert same.values == pytest.approx(torch.ones(2, 2).numpy(), abs=1e-6)
    assert (abs(found.alignment.sel(pair="other_image", quantity="token")) < 0.1).all()


def test_a_predictor_of_the_next_patch_finds_none_of_its_own(rng: torch.Generator) -> None:
    found = trained(SMALL(Echo(shift=1), torch.randn(6, 3, 8, 12, generator=rng), seeded()))
    assert float(found.retrieval.sel(scope="image").max()) == 0
    assert float(found.retrieval.sel(scope="other_images").max()) < 0.5


@pytest.mark.parametrize("other_image", [False, True])
def test_alignment_equals_its_definition(mae: MAE, other_image: bool, rng: torch.Generator) -> None:
    images = torch.randn(6, 3, 8, 12, generator=rng)
    found = trained(run_probes([SMALL], mae, images, 7).datasets["invariance"])
    masks, out = Batch(mae.eval(), images, 0, 7).masked(SMALL.mask, 3)
    tokens, shown = visible_tokens(out, masks)
    tokens, shown = tokens.unflatten(0, (6, 3)), shown.unflatten(0, (6, 3))
    views = {"token": (tokens, shown)}
    for name in ("cls", "mean"):
        views[name] = out.feature(name).unflatten(0, (6, 3))[:, :, None], torch.ones_like(shown[..., :1])
    for name, (vectors, counts) in views.items():
        expected = slow.alignment(vectors, counts, shown, other_image, num_bins=5)
        here = found.sel(quantity=name, pair="other_image" if other_image else "same_image")
        cosine, correlation, _ = expected.pop(-1)
        # the model computes in float32
        assert here.alignment.values.tolist() == pytest.approx([cosine, correlation], abs=1e-5)
        for index in range(5):
            cosine, correlation, count = expected.get(index, (math.nan, math.nan, 0))
            assert int(here.num_pairs[index]) == count
            got = here.alignment_by_overlap.isel(overlap=index).values.tolist()
            assert got == pytest.approx([cosine, correlation], abs=1e-5, nan_ok=True)


def test_masks_that_are_the_same_overlap_in_full(mae: MAE, images: Tensor) -> None:
    found = trained(SMALL.model_copy(update={"mask": Checkerboard(phase=0)})(mae, images, seeded()))
    pairs = found.num_pairs.sel(quantity="token", pair="same_image")
    # 3 pairs of masks of 5 images, 12 visible patches each
    assert pairs.values.tolist() == [0, 0, 0, 0, 3 * 5 * 12]
    same = found.alignment.sel(pair="same_image")
    assert same.values == pytest.approx(torch.ones(3, 2).numpy(), abs=1e-5)


def test_masks_without_a_common_patch_leave_tokens_without_pairs(mae: MAE, images: Tensor) -> None:
    found = trained(Invariance(mask=Complementary(), num_masks=2)(mae, images, seeded()))
    tokens = found.sel(quantity="token", pair="same_image")
    assert int(tokens.num_pairs.sum()) == 0
    assert bool(tokens.alignment.isnull().all())
    pooled = found.sel(quantity="cls", pair="same_image")
    assert pooled.num_pairs.values.tolist() == [5] + [0] * 19
    assert not pooled.alignment.isnull().any()


def test_batches_change_nothing_but_rounding(mae: MAE, rng: torch.Generator) -> None:
    images = torch.randn(7, 3, 8, 12, generator=rng)
    few, many = (
        run_probes([SMALL.model_copy(update={"batch_size": size})], mae, images, 1).datasets["invariance"]
        for size in (1, 7)
    )
    for name in few.data_vars:
        torch.testing.assert_close(
            torch.as_tensor(few[name].values),
            torch.as_tensor(many[name].values),
            rtol=1e-4,
            atol=1e-5,
            equal_nan=True,
        )


def test_memory_is_flat_and_work_linear(mae: MAE, rng: torch.Generator) -> None:
    probe = SMALL.model_copy(update={"num_sampled": 8})
    held, rows = {}, {}
    for count in (16, 64):
        images = torch.randn(count, 3, 8, 12, generator=rng)
        accumulator = probe.start(mae, count, 0)
        with counted_rows(mae) as seen:
            for first in range(0, count, 4):
                accumulator.update(Batch(mae, images[first : first + 4], first, 0))
        held[count], rows[count] = numbers_held(accumulator), sum(seen)
    assert rows[64] == 4 * rows[16]
    assert held[64] == held[16]


def test_one_image_has_no_other_to_compare_with(mae: MAE, images: Tensor) -> None:
    found = trained(SMALL(mae, images[:1], seeded()))
    assert not found.alignment.sel(pair="same_image").isnull().any()
    assert bool(found.alignment.sel(pair="other_image").isnull().all())
    assert not found.retrieval.sel(scope="image").isnull().any()
    assert bool(found.retrieval.sel(scope="other_images").isnull().all())
    assert bool(found.retrieval_shuffled.isnull().all())


def test_constant_features_are_alike_and_correlate_with_nothing(images: Tensor) -> None:
    model = tiny_mae()
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.fill_(0.7)
    found = trained(SMALL(model, images, seeded()))
    assert found.alignment.sel(centring="raw").values == pytest.approx(torch.ones(3, 2).numpy(), abs=1e-5)
    assert bool(found.alignment.sel(centring="centred").isnull().all())


def test_without_class_token_or_prediction_the_rest_is_measured(images: Tensor) -> None:
    found = trained(SMALL(Echo(has_class_token=False, has_prediction=False), images, seeded()))
    assert found["quantity"].values.tolist() == ["token", "mean"]
    assert not found.alignment.isnull().any()
    assert bool(found.retrieval.isnull().all())
    assert not found.retrieval_chance.isnull().any()


def test_a_result_is_stored_whole(images: Tensor, tmp_path: Path) -> None:
    assert probe_class("invariance") is Invariance
    found = SMALL(Echo(), images, seeded())
    save_result(found, tmp_path / "invariance.nc")
    xr.testing.assert_equal(load_result(tmp_path / "invariance.nc"), found)
