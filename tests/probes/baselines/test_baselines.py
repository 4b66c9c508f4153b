"""Baselines beside a probe's numbers: the same numbers of an untrained network and of raw pixels,
on the first images."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from lcmae.masking import Mask, Random
from lcmae.models import MAE
from lcmae.patches import patchify
from lcmae.probes.base import run_probes, start_with_baselines
from lcmae.probes.baselines.pixels import RawPixels, nearest_visible
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.registry import PROBES, probe_class
from lcmae.probes.results.networks import trained
from lcmae.probes.spectrum import Spectrum
from lcmae.settings import parse
from tests.conftest import tiny_mae
from tests.few import few
from tests.reference.work import numbers_held

COMPARED = {name: cls for name in PROBES if "baseline_images" in (cls := probe_class(name)).model_fields}


def run(name: str, model: MAE, images: Tensor, **settings: object) -> xr.Dataset:
    results = run_probes([parse(probe_class(name), settings)], model, images, seed=3)
    assert not results.failures
    return results.datasets[name]


@pytest.mark.parametrize("name", COMPARED)
def test_baselines_are_the_numbers_of_an_untrained_network(name: str, images: Tensor) -> None:
    model = tiny_mae()
    found = run(name, model, images)
    fresh = untrained(model, 3)
    assert isinstance(fresh, MAE)
    alone = run(name, fresh, images, baseline_images=0)
    kinds = COMPARED[name].baselines
    assert found.attrs["untrained_images"] == 5
    for variable in kinds["untrained"]:
        for suffix in ("", "_sem"):
            if variable + suffix in alone:
                beside, wanted = (
                    one[variable + suffix].sel(network=network)
                    for one, network in ((found, "untrained"), (alone, "trained"))
                )
                np.testing.assert_allclose(beside, wanted, rtol=1e-4, atol=1e-6)
    assert alone["network"].values.tolist() == ["trained"]


@pytest.mark.parametrize("name", few(COMPARED))
def test_baselines_see_the_first_images_and_change_nothing_else(name: str, images: Tensor) -> None:
    model = tiny_mae()
    settings = {"batch_size": 2, "baseline_images": 3}
    some, none = run(name, model, images, **settings), run(name, model, images, batch_size=2, baseline_images=0)
    own = trained(some)
    for variable, values in trained(none).items():
        np.testing.assert_array_equal(own[variable], values)
    first = run(name, model, images[:3], batch_size=2)
    assert some.attrs["untrained_images"] == 3
    for kind, variables in COMPARED[name].baselines.items():
        assert set(variables) & set(first)
        for variable in set(variables) & set(first):  # numbers of registers stand where there are some
            fewer, same = (one[variable].sel(network=kind) for one in (some, first))
            np.testing.assert_allclose(fewer, same, rtol=1e-4, atol=1e-6)


def test_one_untrained_network_serves_all_probes_and_is_let_go(images: Tensor) -> None:
    model = tiny_mae()
    one = untrained(model, 3)
    assert untrained(model, 3) is one
    assert untrained(model, 4) is not one
    assert untrained(tiny_mae(), 3) is not one
    accumulators = [
        start_with_baselines(probe_class(name)(), model, 5, 3) for name in ("spectrum", "encoder_attention")
    ]
    assert len({id(part.others["untrained"][0]) for part in accumulators}) == 1  # type: ignore[attr-defined]


def test_raw_pixels_are_their_patches_and_predict_the_nearest_visible(images: Tensor, rng: torch.Generator) -> None:
    model = tiny_mae()
    pixels = RawPixels.like(model)
    mask = Random()(10, model.grid, rng)
    out = pixels(images, mask)
    patches = patchify(images, 2).repeat_interleave(2, 0)
    for row in range(10):
        assert torch.equal(out.tokens[row], patches[row, mask.visible[row]])
        assert torch.equal(out.pred[row], patches[row, nearest_visible(mask, model.grid)[row]])
    whole = pixels(images, Mask.none(5, 24))
    assert torch.equal(whole.pred, patchify(images, 2))
    assert torch.equal(whole.pooled, patchify(images, 2).mean(1))


def test_raw_pixels_predict_normalised_targets(images: Tensor, rng: torch.Generator) -> None:
    model = tiny_mae(normalize_targets=True)
    pixels = RawPixels.like(model)
    assert torch.equal(pixels(images, Mask.none(5, 24)).pred, model.targets(images))
    found = run("local_contrast", model, images)
    copied = run("reconstruction", model, images).error_nearest
    assert float(found.loss.sel(network="pixels")) > 0
    assert float(copied) > 0


def test_a_baseline_without_a_label_is_not_a_number(images: Tensor) -> None:
    found = run("spectrum", tiny_mae(), images)
    assert found.effective_rank.sel(network="pixels", feature="cls").isnull().all()
    assert not found.effective_rank.sel(network="pixels", feature="token").isnull().any()
    assert not found.effective_rank.sel(network="untrained").isnull().any()
    assert found.singular_value.sel(network="pixels").isnull().all()


def test_memory_is_flat(images: Tensor) -> None:
    held = {}
    for count in (64, 256):
        probe = Spectrum(num_sampled=8, num_masks=2, baseline_images=8)
        accumulator = start_with_baselines(probe, tiny_mae(), count, 0)
        held[count] = numbers_held(accumulator)
    assert held[64] == held[256]


def test_zero_images_leave_baselines_out(images: Tensor) -> None:
    found = run("reconstruction", tiny_mae(), images, baseline_images=0)
    assert found["network"].values.tolist() == ["trained"]
    assert "untrained_images" not in found.attrs
