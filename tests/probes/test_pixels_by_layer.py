"""Reading patches off tokens beside least squares, and known answers: tokens that are patches, and
tokens that are a neighbour's patch."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import MAE
from lcmae.patches import patchify, unpatchify
from lcmae.probes.base import ProbeError
from lcmae.probes.measures import ridge
from lcmae.probes.measures.pixel_reach import around, interior, offsets, read, read_without, share
from lcmae.probes.pixels_by_layer import PixelsByLayer
from lcmae.probes.statistics.jackknife import Refitted, standard_error
from tests.conftest import tiny_mae
from tests.reference.probes import pixels_by_layer as reference

GRID = (4, 6)


def smooth(count: int, seed: int) -> Tensor:
    """Images whose patches are mixes of their left neighbour and noise."""
    rng = torch.Generator().manual_seed(seed)
    patches = [torch.randn(count, 12, generator=rng)]
    for _ in range(23):
        patches.append(0.8 * patches[-1] + 0.6 * torch.randn(count, 12, generator=rng))
    return unpatchify(torch.stack(patches, 1), GRID, 2)


def test_offsets_are_those_of_a_loop() -> None:
    patches = torch.randn(3, 24, 2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(around(patches, GRID, 1), reference.around(patches.numpy(), GRID, 1))
    assert interior(GRID, 1).tolist() == [7, 8, 9, 10, 13, 14, 15, 16]
    assert offsets(1)[4] == (0, 0)
    assert around(patches, GRID, 0).shape == (3, 24, 1, 2)


def test_what_is_read_is_least_squares_where_there_is_no_noise_in_the_ridge() -> None:
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(300, 8, 5, generator=rng).double()
    targets = tokens @ torch.randn(5, 9 * 4, generator=rng).double() + torch.randn(300, 8, 36, generator=rng)
    targets = targets.unflatten(2, (9, 4))
    found = read(tokens[:200], targets[:200], tokens[200:], targets[200:], seed=0)
    r2 = share(found.error.sum(0), found.total.sum(0), torch.tensor(1.0))
    for offset in (0, 4, 8):
        fit_y, y = targets[:200, :, offset].numpy(), targets[200:, :, offset].numpy()
        wanted = reference.explained(tokens[:200].numpy(), fit_y, tokens[200:].numpy(), y)
        assert float(r2[offset]) == pytest.approx(wanted, abs=2e-3)


def test_leaving_images_out_fits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(3)
    tokens = torch.randn(50, 4, 5, generator=rng) * torch.tensor([1.0, 2.0, 0.1, 5.0, 1e-3])
    targets = (tokens @ torch.randn(5, 2 * 3, generator=rng) + torch.randn(50, 4, 6, generator=rng)).unflatten(
        2, (2, 3)
    )
    fit, test = slice(0, 26), slice(26, 50)
    group, fit_group = torch.arange(24) // 6, torch.arange(26) // 7
    strength = torch.tensor([1e-2, 1.0], dtype=torch.float64)
    errors, totals = read_without(tokens[fit], targets[fit], tokens[test], targets[test], strength, fit_group, group)
    for offset in range(2):
        # one strength to choose from is no choice
        monkeypatch.setattr(ridge, "STRENGTHS", (float(strength[offset]),))
        for one in range(4):
            mine, others = fit_group != one, group != one
            wanted = read(tokens[fit][mine], targets[fit][mine], tokens[test][others], targets[test][others], seed=0)
            # means of 20 float32 tokens, taken in another order
            assert float(errors[one, offset]) == pytest.approx(float(wanted.error.sum(0)[offset]), rel=1e-6)
            assert float(totals[one, offset]) == pytest.approx(float(wanted.total.sum(0)[offset]), rel=1e-6)


def test_half_of_what_fitting_again_adds_counts() -> None:
    whole, sizes = torch.tensor(2.0), torch.full((4,), 3.0)
    narrow, wide = 2 + 0.1 * torch.tensor([-1.0, 1, -1, 1]), 2 + 0.3 * torch.tensor([1.0, 1, -1, -1])
    for refitted, variances in ((wide, (narrow, wide)), (narrow / 2 + 1, (narrow, narrow))):
        found = Refitted({"x": whole}, {"x": narrow}, {"x": refitted}, sizes, sizes)
        value, error = found.estimate(lambda sums: sums["x"])
        assert float(value) == 2
        both = [standard_error(whole, one, sizes) ** 2 for one in variances]
        assert float(error) == pytest.approx(float(sum(both) / 2) ** 0.5)


class Shifted(MAE):
    """Blocks give out the patches themselves, or those of the neighbour on the left."""

    shift = 0

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        patches = patchify(images, self.patch_size)
        moved = patches.unflatten(1, GRID).roll(self.shift, dims=2).flatten(1, 2)
        tokens = torch.nn.functional.pad(moved, (0, self.config.width - moved.shape[-1]))
        tokens = torch.cat([tokens[:, :1], tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens[:, :1], tokens[:, 1:], mask.visible


class Through(torch.nn.Module):
    """A block that changes nothing."""

    def forward(self, x: Tensor, **_: object) -> Tensor:
        return x


def shifted(by: int) -> MAE:
    model = Shifted(**tiny_mae().config.model_dump(exclude={"kind"})).eval()
    model.shift = by
    model.blocks = torch.nn.ModuleList([Through(), Through()])
    return model


@pytest.mark.parametrize("by", [0, 1])
def test_identity_and_shift_are_read_where_they_are(by: int) -> None:
    probe = PixelsByLayer(untrained=False)
    found = probe(shifted(by), smooth(200, seed=1), torch.Generator().manual_seed(0))
    r2 = found["r2"].sel(network="trained", layer=2)
    assert float(r2.sel(down=0, across=-by)) > 0.999
    # one step away the line's correlation of 0.8 is left, two steps 0.64
    assert float(r2.sel(down=0, across=1 - by)) == pytest.approx(0.64, abs=0.05)
    assert float(r2.sel(down=1, across=0)) == pytest.approx(0, abs=0.1)
    own = float(found["own"].sel(network="trained", layer=1))
    assert own > 0.999 if by == 0 else own == pytest.approx(0.64, abs=0.05)
    if by == 0:  # the patch itself has gathered nothing
        np.testing.assert_allclose(found["gathered"], 0, atol=1e-3)
        np.testing.assert_allclose(
            found["r2"].sel(network="trained", layer=1), found["r2"].sel(network="pixels", layer=1), atol=2e-3
        )


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return PixelsByLayer(num_sampled=60)(tiny_mae(), smooth(80, seed=2), torch.Generator().manual_seed(0))


def test_the_probe_says_what_it_measured(result: xr.Dataset) -> None:
    assert result["network"].values.tolist() == ["trained", "untrained", "pixels"]
    assert result["r2"].shape == (3, 2, 3, 3)
    assert result.attrs["num_sampled"] == 60
    assert result.attrs["num_interior"] == 8
    assert result.attrs["variance_left_out"] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(result["own"], result["r2"].sel(down=0, across=0))
    near = result["r2"].stack(o=("down", "across"))
    mean = near.where((abs(near["down"]) + abs(near["across"])) > 0, drop=True).mean("o")
    np.testing.assert_allclose(result["around"], mean, rtol=1e-5)
    wanted = result["around"].sel(network="trained") - result["around"].sel(network="pixels")
    np.testing.assert_allclose(result["gathered"], wanted, rtol=1e-4, atol=1e-6)
    assert (result["own_sem"] >= 0).all()


def test_components_left_out_count_as_error() -> None:
    few = PixelsByLayer(num_sampled=60, components=3, untrained=False)
    found = few(tiny_mae(), smooth(80, seed=2), torch.Generator().manual_seed(0))
    assert 0.5 < found.attrs["variance_left_out"] < 1
    assert float(found["own"].sel(network="pixels", layer=1)) < 1 - found.attrs["variance_left_out"] + 0.05


def test_what_it_needs_is_said(mae: MAE) -> None:
    with pytest.raises(ProbeError, match="at least 4 images, got 3"):
        PixelsByLayer()(mae, torch.rand(3, 3, 8, 12), torch.Generator())
