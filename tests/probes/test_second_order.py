"""The probe beside brute force, and known answers: a linear network gains nothing, a perfect one
explains everything."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from lcmae.masking import Block, Mask, Random
from lcmae.models import MAE, MaskedImageModel, MaskedOutput
from lcmae.patches import patchify, unpatchify
from lcmae.probes.base import ProbeError
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.second_order import LINEAR, NEAR, POSITION, WIENER, SecondOrder
from tests.conftest import tiny_mae

SETTINGS = {"ratios": (0.5,), "num_masks": 8, "fit_images": 1000, "components": 12}


@dataclass
class Field:
    """Gaussian images: each patch is a mix of its left neighbour and noise; another split of the
    same kind."""

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice) -> Tensor:
        return self.pixels[index]

    def other_split(self, limit: int | None) -> "Field":
        return Field(draw(1000, seed=1).pixels[:limit])


def draw(count: int, seed: int) -> Field:
    """AR(1) over the 24 patches of a 4 x 6 grid in raster order, phi = 0.9, 12 values a patch."""
    rng = torch.Generator().manual_seed(seed)
    patches = [torch.randn(count, 12, generator=rng)]
    for _ in range(23):
        patches.append(0.9 * patches[-1] + (1 - 0.81) ** 0.5 * torch.randn(count, 12, generator=rng))
    return Field(unpatchify(torch.stack(patches, 1), (4, 6), 2) + 0.5)


class Oracle(MAE):
    """A network that was told the answer."""

    def forward(self, images: Tensor, mask: Mask | None = None, *, only_hidden: bool = False) -> MaskedOutput:
        out = super().forward(images, mask)
        return replace(out, pred=patchify(images, self.patch_size))


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    model = tiny_mae(normalize_targets=False)
    return SecondOrder.model_validate(SETTINGS)(model, draw(128, seed=2), torch.Generator().manual_seed(0))


def test_linear_baselines_stand_in_their_order(result: xr.Dataset) -> None:
    r2 = {str(name): float(result["r2"].sel(network=name, ratio=0.5)) for name in result["network"].values}
    assert r2[POSITION] == 0
    assert r2["constant"] <= 0.01
    assert r2["nearest"] < r2[NEAR] < r2[LINEAR] <= r2[WIENER] + 0.01
    assert r2[WIENER] > 0.6
    # a Gaussian line: an untrained network knows nothing of it, and nothing can pass the filter
    assert r2[TRAINED] < r2[LINEAR]
    assert float(result["gain_over_wiener"].sel(ratio=0.5)) < 0


def test_the_filter_reaches_what_the_field_allows(result: xr.Dataset) -> None:
    """Each hidden patch of an AR(1) line depends on the nearest visible patch on either side alone;
    the expected share follows from their distances."""

    phi, size, shares = 0.9, 24, []
    rng = np.random.default_rng(0)
    covariance = phi ** abs(np.arange(size)[:, None] - np.arange(size))
    for _ in range(200):
        hidden = np.zeros(size, dtype=bool)
        hidden[rng.permutation(size)[: size // 2]] = True
        cross = covariance[np.ix_(hidden, ~hidden)]
        shares.append(np.diag(cross @ np.linalg.solve(covariance[np.ix_(~hidden, ~hidden)], cross.T)).mean())
    expected = float(np.mean(shares))
    assert float(result["r2"].sel(network=WIENER, ratio=0.5)) == pytest.approx(expected, abs=0.04)


def test_numbers_say_how_they_came_about(result: xr.Dataset) -> None:
    assert result.attrs["measured_images"] == 128
    assert result.attrs["fit_images"] == 800  # four fifths; the others chose the ridge
    assert result.attrs["own_ratio"] == pytest.approx(0.75)  # the mask's own stands beside the asked
    assert result.attrs["input_variance_left_out"] == pytest.approx(0, abs=1e-9)
    assert {"error_sem", "r2_sem", "gain_over_linear_sem"} <= set(result.data_vars)
    assert bool((result["r2_sem"].sel(network=[TRAINED, LINEAR, WIENER]) > 0).all())
    assert float(result["reach"].sel(ratio=0.5)) >= 1
    directions = result["shared_variance"].sel(ratio=0.5)
    assert bool((directions.diff("direction") <= 1e-12).all())


def test_who_knows_the_answer_explains_everything() -> None:
    model = Oracle(**tiny_mae(normalize_targets=False).config.model_dump(exclude={"kind"})).eval()
    probe = SecondOrder.model_validate({**SETTINGS, "untrained": False})
    found = probe(model, draw(32, seed=3), torch.Generator().manual_seed(0))
    assert float(found["r2"].sel(network=TRAINED, ratio=0.5)) == pytest.approx(1)
    assert float(found["gain_over_wiener"].sel(ratio=0.5)) > 0.1
    assert bool((found["gain_map"] > 0).all())


@pytest.mark.slow
def test_masks_of_any_strategy_and_normalised_targets(mae: MaskedImageModel) -> None:
    model = tiny_mae(normalize_targets=True)
    probe = SecondOrder.model_validate(
        {**SETTINGS, "ratios": (0.5,), "mask": Block(ratio=0.5, min_block=2), "fit_images": 200, "untrained": False}
    )
    found = probe(model, draw(32, seed=4), torch.Generator().manual_seed(0))
    assert found["error"].attrs["units"] == "variance of a patch"
    assert bool(np.isfinite(found["r2"].values).all())


def test_what_it_needs_is_said(mae: MaskedImageModel) -> None:
    probe = SecondOrder.model_validate(SETTINGS)
    with pytest.raises(ProbeError, match="needs images of a named data set"):
        probe(mae, draw(32, seed=0).pixels, torch.Generator())
    with pytest.raises(ProbeError, match="at least 2 images, got 1"):
        probe(mae, draw(1, seed=0), torch.Generator())
    with pytest.raises(ValueError, match="rising ratios"):
        SecondOrder(ratios=(0.5, 0.25))
    assert isinstance(SecondOrder().mask, Random)
