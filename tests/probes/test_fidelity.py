"""The fidelity probe: measures against their definitions, pictures whose fidelity is known, and
what it costs."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from einops import rearrange
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import Grid, Mask, Random
from lcmae.models import MAE
from lcmae.patches import normalize_patches, patchify
from lcmae.probes.base import ProbeError, run_probes
from lcmae.probes.fidelity import Fidelity, mean_colour, measures, nearest_other, ssim
from lcmae.probes.registry import probe_class
from lcmae.probes.results.store import load_result, save_result
from lcmae.probes.watching.batch import Batch
from lcmae.settings import parse
from tests.conftest import tiny_mae
from tests.reference.work import counted_rows, numbers_held

SMALL = Fidelity(ratios=(0.5, 0.75), batch_size=4)


def slow_ssim(one: np.ndarray, two: np.ndarray) -> float:
    """Wang et al. (2004), equation 13, window by window at every pixel of the reflected image: [c h
    w] in [0, 1]."""
    one, two = (np.pad(part, ((0, 0), (5, 5), (5, 5)), mode="reflect") for part in (one, two))
    side = np.arange(11) - 5
    line = np.exp(-(side**2) / (2 * 1.5**2))
    weight = np.outer(line, line) / line.sum() ** 2
    values = []
    for channel in range(one.shape[0]):
        for y in range(one.shape[1] - 10):
            for x in range(one.shape[2] - 10):
                a, b = (part[channel, y : y + 11, x : x + 11] for part in (one, two))
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
                both = (weight * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + 0.01**2)
                    * (2 * both + 0.03**2)
                    / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
                )
    return float(np.mean(values))


def test_measures_equal_their_definitions(rng: torch.Generator) -> None:
    truth = torch.rand(3, 2, 14, 13, generator=rng)
    picture = (truth + 0.2 * torch.randn(truth.shape, generator=rng)).clamp(0, 1)
    found = measures(picture, truth)
    for row in range(3):
        one, two = picture[row].double().numpy(), truth[row].double().numpy()
        error = float(((one - two) ** 2).mean())
        assert float(found[row, 0]) == pytest.approx(slow_ssim(one, two), rel=1e-9)
        assert float(found[row, 1]) == pytest.approx(10 * math.log10(1 / error))
        assert float(found[row, 2]) == pytest.approx(error)


@pytest.mark.slow  # importing torchmetrics takes 5 s where transformers is installed
def test_ssim_is_that_of_torchmetrics(rng: torch.Generator) -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    truth = torch.rand(3, 3, 20, 14, generator=rng).double()
    picture = (truth + 0.2 * torch.randn(truth.shape, generator=rng)).clamp(0, 1)
    wanted = structural_similarity_index_measure(picture, truth, reduction="none", data_range=1.0)
    torch.testing.assert_close(ssim(picture, truth), wanted, rtol=1e-6, atol=1e-6)


def test_perfect_and_constant_pictures() -> None:
    truth = torch.full((1, 1, 12, 12), 0.25)
    torch.testing.assert_close(measures(truth, truth), torch.tensor([[1.0, 100.0, 0.0]]).double())
    # flat pictures differ in luminance alone: 2 a b + c over a^2 + b^2 + c
    flat = float(ssim(torch.full_like(truth, 0.5), truth))
    assert flat == pytest.approx((2 * 0.125 + 1e-4) / (0.25 + 0.0625 + 1e-4), rel=1e-5)
    assert float(measures(truth + 0.1, truth)[0, 1]) == pytest.approx(20, rel=1e-5)


def test_images_too_small_to_reflect_have_no_ssim(rng: torch.Generator) -> None:
    assert ssim(torch.rand(2, 1, 5, 30, generator=rng), torch.rand(2, 1, 5, 30, generator=rng)).isnan().all()
    assert ssim(torch.rand(2, 1, 6, 30, generator=rng), torch.rand(2, 1, 6, 30, generator=rng)).isfinite().all()


def test_baselines_are_what_they_say(rng: torch.Generator) -> None:
    images = torch.rand(2, 3, 8, 12, generator=rng)
    patches = patchify(images, 2)
    mask = Random(ratio=0.5)(2, (4, 6), rng)
    painted = mean_colour(patches, mask, 3)
    for row in range(2):
        shown = rearrange(patches[row, mask.visible[row]], "v (q c) -> (v q) c", c=3)
        torch.testing.assert_close(painted[row, 7].reshape(4, 3), shown.mean(0).expand(4, 3))
    other = nearest_other((4, 6), torch.device("cpu"))
    for patch, position in enumerate(other.tolist()):
        distance = abs(patch // 6 - position // 6) + abs(patch % 6 - position % 6)
        assert distance == 1


class Knowing(MAE):
    """Predicts the truth, which it gets to know beforehand."""

    truth: Tensor

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        return self.truth.repeat_interleave(len(tokens) // len(self.truth), 0)


def knowing(images: Tensor, **settings: object) -> Knowing:
    config = tiny_mae(image_size=tuple(images.shape[-2:]), patch_size=4, **settings).config
    model = Knowing(**config.model_dump())
    model.truth = model.targets(images)
    return model


def test_a_perfect_predictor_is_perfect(rng: torch.Generator) -> None:
    images = torch.rand(4, 3, 16, 12, generator=rng) * 2 - 1
    found = SMALL(knowing(images), images, rng).sel(network="trained")
    for name, value in {"ssim": 1, "mse": 0}.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)
        np.testing.assert_allclose(found[f"{name}_unmasked"], value, atol=1e-6)
    assert (found.psnr > 99).all()


def test_normalised_targets_are_perfect_only_with_leaked_statistics(rng: torch.Generator) -> None:
    images = torch.rand(4, 3, 16, 12, generator=rng) * 2 - 1
    found = SMALL(knowing(images, normalize_targets=True), images, rng)
    assert found.network.values.tolist() == [
        "trained",
        "trained, leaky",
        "pixels",
        "mean colour",
        "untrained",
        "position mean",
    ]
    # (x - mean) / std * std + mean, float32
    np.testing.assert_allclose(found.mse.sel(network="trained, leaky"), 0, atol=1e-10)
    assert (found.mse.sel(network="trained") > 1e-3).all()
    # without a mask each patch's own statistics were seen
    assert float(found.mse_unmasked.sel(network="trained")) == pytest.approx(0, abs=1e-10)
    # the nearest visible patch's statistics, by hand
    model = knowing(images, normalize_targets=True)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(3)))
    here = run_probes([SMALL], model, images, seed).datasets["fidelity"]
    mask, _ = Batch(model, images, 0, seed).masked(Random(ratio=0.5), 1)
    patches = patchify(images, 4)
    errors = []
    for row in range(4):
        guess = patches[row].clone()
        for patch in mask.hidden[row].tolist():
            seen = mask.visible[row]
            distance = (seen // 3 - patch // 3).square() + (seen % 3 - patch % 3).square()
            source = patches[row, seen[distance == distance.min()].min()]
            guess[patch] = normalize_patches(patches[row : row + 1])[0, patch] * source.std() + source.mean()
        errors.append((guess / 2 + 0.5).clamp(0, 1).sub(patches[row] / 2 + 0.5).square().mean())
    assert float(here.mse.sel(network="trained", ratio=0.5)) == pytest.approx(
        float(torch.stack(errors).mean()), rel=1e-4
    )


def test_hidden_error_is_that_of_hidden_pixels(mae: MAE, images: Tensor) -> None:
    found = run_probes([SMALL], mae, images, 7).datasets["fidelity"].sel(network="trained", ratio=0.75)
    batch = Batch(mae.eval(), images, 0, 7)
    mask, out = batch.masked(Random(ratio=0.75), 1)
    error = ((out.pred / 2 + 0.5).clamp(0, 1) - (patchify(images, 2) / 2 + 0.5)).square().mean(-1)
    hidden = error.gather(1, mask.hidden).mean(1).double()
    assert float(found.mse_hidden) == pytest.approx(float(hidden.mean()), rel=1e-5)
    assert float(found.mse_hidden_sem) == pytest.approx(float(hidden.std() / math.sqrt(5)), rel=1e-4)
    assert float(found.mse) == pytest.approx(float(hidden.mean()) * 0.75, rel=1e-5)


def test_memory_is_flat_and_work_linear(mae: MAE, rng: torch.Generator) -> None:
    held, rows = {}, {}
    for count in (8, 32):
        images = torch.randn(count, 3, 8, 12, generator=rng)
        accumulator = SMALL.start(mae, count, 0)
        with counted_rows(mae) as seen:
            for first in range(0, count, 4):
                accumulator.update(Batch(mae, images[first : first + 4], first, 0))
        held[count], rows[count] = numbers_held(accumulator), sum(seen)
    assert rows[32] == 4 * rows[8] == 3 * 32  # unmasked and two ratios
    assert held[32] == held[8]


def test_what_cannot_be_is_a_sentence(mae: MAE, images: Tensor, rng: torch.Generator) -> None:
    assert probe_class("fidelity") is Fidelity
    with pytest.raises(InputError, match="ratios between 0 and 1"):
        parse(Fidelity, {"ratios": [0.0, 0.5]})
    with pytest.raises(ProbeError, match=r"probe fidelity: needs ratios that .* grid allow"):
        Fidelity(ratios=(0.99,))(mae, images, rng)
    with pytest.raises(ProbeError, match="probe fidelity: needs ratios"):
        Fidelity(mask=Grid(), ratios=(0.9999,))(mae, images, rng)
    mae.has_prediction = False
    with pytest.raises(ProbeError, match="probe fidelity: needs a checkpoint with its decoder"):
        SMALL(mae, images, rng)


def test_one_image_gives_numbers_without_errors_that_can_be_stored(mae: MAE, images: Tensor, tmp_path) -> None:
    found = Fidelity(untrained=False)(mae, images[:1], torch.Generator().manual_seed(0))
    assert found.network.values.tolist() == ["trained", "pixels", "mean colour", "position mean"]
    assert found.mse_sem.isnull().all()
    assert not found.mse.isnull().any()
    save_result(found, tmp_path / "fidelity.nc")
    xr.testing.assert_equal(load_result(tmp_path / "fidelity.nc"), found)
