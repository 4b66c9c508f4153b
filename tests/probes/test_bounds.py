"""The bounds probe: plain loops, models whose answers are known, and what it refuses."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from einops import repeat
from torch import Tensor, nn

from lcmae.masking import Mask, Random
from lcmae.models import MAE, MaskedImageModel, ModelConfig, SimMIM
from lcmae.patches import patchify
from lcmae.probes.base import ProbeError, run_probes
from lcmae.probes.bounds import LEVELS, Bounds
from lcmae.probes.mask_graphs.kernel import Sample, gaussian, kernel_graph
from lcmae.probes.mask_graphs.sample import Distances, GraphSample, fixed_masks
from lcmae.probes.registry import probe_class
from lcmae.probes.results.store import load_result, save_result
from lcmae.probes.watching.batch import Batch
from tests.conftest import tiny_mae
from tests.reference.work import counted_rows, numbers_held

SMALL = Bounds(mask=Random(ratio=0.5), num_masks=3, num_bins=4, num_sampled=10, rank=4, batch_size=4)


class Predicts(MaskedImageModel):
    """Tokens are the patches; the prediction is `answer` at each place, or the patch itself where
    there is none."""

    encodes_hidden = True

    def __init__(self, answer: Tensor | None = None) -> None:
        super().__init__(ModelConfig(image_size=(8, 12), patch_size=2, width=12, feature="mean"))
        self.answer = answer
        self.num_prefix = 0
        self.blocks, self.decoder_blocks = nn.ModuleList(), nn.ModuleList()
        self.weight = nn.Parameter(torch.ones(()))  # says where the model lives

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        tokens = repeat(patchify(images, self.patch_size), "b n p -> (b k) n p", k=len(mask) // len(images))
        return tokens[:, :0], tokens, torch.arange(self.num_patches).expand(len(tokens), -1)

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        return tokens if self.answer is None else self.answer.expand_as(tokens)


def probed(model: MaskedImageModel, images: Tensor, probe: Bounds = SMALL) -> xr.Dataset:
    return run_probes([probe], model, images, 7).datasets["bounds"]


@pytest.fixture
def photos(rng: torch.Generator) -> Tensor:
    """Ten images that share some structure, so that their variances differ by level."""
    position, image = torch.randn(1, 3, 8, 12, generator=rng), torch.randn(10, 3, 1, 1, generator=rng)
    return position + 2 * image + torch.randn(10, 3, 8, 12, generator=rng)


def test_numbers_equal_plain_loops(mae: MAE, photos: Tensor) -> None:
    found = probed(mae, photos)
    mae.eval()
    masks, out = Batch(mae, photos, 0, 7).masked(SMALL.mask, 3)
    target, pred = mae.targets(photos).double(), out.pred.double().unflatten(0, (10, 3))
    hidden = masks.is_hidden.unflatten(0, (10, 3))

    losses = [((pred[b, k] - target[b])[hidden[b, k]] ** 2).mean() for b in range(10) for k in range(3)]
    assert float(found["loss"]) == pytest.approx(float(torch.stack(losses).mean()))

    rows = []
    for b in range(10):
        for k, m in combinations(range(3), 2):
            for position in torch.nonzero(hidden[b, k] & hidden[b, m])[:, 0].tolist():
                p, other, t = pred[b, k, position], pred[b, m, position], target[b, position]
                squares = [(p - t).square(), (other - t).square(), ((p + other) / 2 - t).square()]
                one, another, between = (float(square.mean()) for square in squares)
                rows.append(
                    [float((p * other).mean()), float((p**2 + other**2).mean() / 2), (one + another) / 2, between]
                )
    product, length, loss, middle = np.mean(rows, axis=0)
    assert float(found["half_alignment"]) == pytest.approx(-product / 2)
    assert float(found["half_length"]) == pytest.approx(length / 2)
    assert float(found["pair_loss"]) == pytest.approx(loss)
    # the identity behind the bound
    assert float(found["pair_loss"] - found["pair_bound"]) == pytest.approx(middle)

    chosen = torch.cat([target[b, hidden[b, k]] for b in range(10) for k in range(3)])
    positions = torch.cat([torch.nonzero(hidden[b, k])[:, 0] for b in range(10) for k in range(3)])
    whose = torch.arange(10).repeat_interleave(3 * 12)
    around = {"global": chosen.mean(0).expand_as(chosen), "position": chosen.clone(), "image": chosen.clone()}
    for level, groups in (("position", positions), ("image", whose)):
        for group in groups.unique():
            around[level][groups == group] = chosen[groups == group].mean(0)
    for level in LEVELS:
        expected = float((chosen - around[level]).square().mean())
        assert float(found["variance"].sel(level=level)) == pytest.approx(expected), level
        assert float(found["share_of_variance"].sel(level=level)) == pytest.approx(float(found["loss"]) / expected)

    vectors = torch.nn.functional.normalize(out.prefix[:, 0].double().unflatten(0, (10, 3))[:, 0], dim=-1)
    cosines = [float(vectors[i] @ vectors[j]) ** 2 for i in range(10) for j in range(10) if i != j]
    assert float(found["uniformity"]) == pytest.approx(np.mean(cosines), rel=1e-5)
    assert float(found["umae_loss"]) == pytest.approx(float(found["loss"]) + 0.01 * np.mean(cosines), rel=1e-5)

    first = masks[torch.arange(0, 30, 3)]
    again = mae(photos, first.complement()).pred.detach().double()
    wrong = [((again[b] - target[b])[first.is_hidden[b]] ** 2).mean() for b in range(10)]
    assert float(found["autoencoding"]) == pytest.approx(float(torch.stack(wrong).mean()))


def test_the_tail_is_that_of_the_pixel_graph(mae: MAE, photos: Tensor) -> None:
    found = probed(mae, photos)
    masks = fixed_masks(SMALL.mask, mae.grid, 2, 7)
    sample = GraphSample(masks, 10, 10, 7)
    sample.add(Batch(mae, photos, 0, 7), parts=False, whole=False)
    distances = Distances(sample, "pixels", 1)
    tails = []
    for mask in range(2):
        content = distances.under(mask)
        kernels = [gaussian(part, 0.5 * distances.unit) for part in (content.visible, content.hidden)]
        tails.append(kernel_graph(kernels[0], kernels[1], Sample(np.arange(10) % 2, np.arange(10)), 4).tail)
    np.testing.assert_allclose(found["tail"].sel(bandwidth=0.5), np.mean(tails, axis=0), atol=1e-9)
    np.testing.assert_array_equal(found["tail_at_width"], found["tail"].sel(rank=4))
    # the graph belongs to images and masks, so another model has the same
    np.testing.assert_array_equal(found["tail"], probed(tiny_mae(), photos)["tail"])


def test_a_constant_encoder_ends_at_the_variance_by_position(photos: Tensor) -> None:
    model = Predicts()
    masks = Batch(model, photos, 0, 7).masks(SMALL.mask, 3)
    count = masks.is_hidden.unflatten(0, (10, 3)).sum(1).float()
    target = model.targets(photos)
    answer = (target * count[..., None]).sum(0) / count.sum(0)[:, None]
    found = probed(Predicts(answer), photos)
    assert float(found["loss"]) == pytest.approx(float(found["variance"].sel(level="position")), rel=1e-5)
    assert float(found["share_of_variance"].sel(level="position")) == pytest.approx(1, rel=1e-5)
    # both predictions of a pair are one and the same: half of L_align takes off what the lengths
    # give
    assert float(found["pair_bound"]) == pytest.approx(0, abs=1e-9)
    constant = probed(Predicts(target[:, :1].mean(0)), photos)
    assert float(constant["loss"]) >= float(constant["variance"].sel(level="global"))


def test_a_model_that_knows_the_answer(photos: Tensor) -> None:
    found = probed(Predicts(), photos)
    assert float(found["loss"]) == 0
    assert float(found["autoencoding"]) == 0
    alignment = found["alignment"].sel(pair="same_image", quantity="prediction")
    np.testing.assert_allclose(alignment, 1, atol=1e-6)
    assert found["quantity"].values.tolist() == ["prediction", "mean"]


def test_the_bound_on_pairs_holds_whatever_the_model(photos: Tensor) -> None:
    for _ in range(3):
        found = probed(tiny_mae(), photos)
        assert float(found["pair_loss"]) >= float(found["pair_bound"]) >= 0


def test_the_contract(simmim: SimMIM, photos: Tensor, tmp_path: Path) -> None:
    assert probe_class("bounds") is Bounds
    found = probed(simmim, photos)
    assert found.attrs["feature"] == "mean"
    assert found["alignment"].dims == ("quantity", "pair", "centring")
    for name in ("loss", "pair_loss", "pair_bound", "variance", "share_of_variance", "uniformity", "umae_loss"):
        assert bool((found[f"{name}_sem"] > 0).all()), name
    assert found["loss"].attrs["units"] == "squared input units"
    save_result(found, tmp_path / "bounds.nc")
    xr.testing.assert_equal(load_result(tmp_path / "bounds.nc"), found)


def test_batches_do_not_matter(mae: MAE, photos: Tensor) -> None:
    one, other = (probed(mae, photos, SMALL.model_copy(update={"batch_size": size})) for size in (3, 10))
    xr.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_cost_is_linear_and_memory_flat(mae: MAE, rng: torch.Generator) -> None:
    rows, held = [], []
    for count in (16, 32):
        images = torch.randn(count, 3, 8, 12, generator=rng)
        accumulator = SMALL.start(mae, count, 0)
        with counted_rows(mae.norm) as counted:
            for first in range(0, count, 4):
                accumulator.update(Batch(mae, images[first : first + 4], first, 0))
        rows.append(sum(counted))
        held.append(numbers_held([accumulator.sums.sums, accumulator.sample, accumulator.pairs.alignments]))
    # K masks, and the first of them swapped
    assert rows == [16 * 4, 32 * 4]
    assert held[0] == held[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 10}, "needs more images than the rank 10 of the tail, got 10"),
        ({"mask": Random(ratio=0.999)}, "masking ratio 0.999 leaves 0 of the 24 patches"),
        ({"feature": "cls"}, "needs a class token for feature cls"),
    ],
)
def test_what_cannot_be_answered_is_one_line(photos: Tensor, changes: dict, message: str) -> None:
    results = run_probes([SMALL.model_copy(update=changes)], Predicts(), photos, 7)
    assert isinstance(results.failures["bounds"], ProbeError)
    assert message in str(results.failures["bounds"])


def test_equal_images_have_no_graph(mae: MAE) -> None:
    error = run_probes([SMALL], mae, torch.zeros(10, 3, 8, 12), 7).failures["bounds"]
    assert "expected images that differ" in str(error)
