"""Diagnostics of masks: hand-made masks with known answers, and scipy as the slow reference."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import Checkerboard, Mask, MaskStrategy, Random, Stripes, Window
from lcmae.masking.diagnostics import (
    MaskDiagnostics,
    boundary_share,
    describe,
    diagnose,
    diagnostics_table,
    local_entropy,
    mean_distance,
    mean_region,
    regions,
)


def from_picture(*rows: str) -> Tensor:
    """[1 rows columns], hidden where '#'."""
    return torch.tensor([[[cell == "#" for cell in row] for row in rows]])


# scipy's stubs say that `label` may return a number alone
ndimage: Any = scipy.ndimage

CORNER = from_picture(
    "..#.",
    "..#.",
    "####",
    "#.##",
)


def test_a_hand_made_mask() -> None:
    found = describe(Mask.from_hidden(CORNER.flatten(1)), (4, 4))
    assert found.ratio == 9 / 16
    assert torch.equal(found.coverage, CORNER[0].double())
    # regions of 4, 2 and 1 visible patches
    assert found.visible_region == pytest.approx(7 / 3)
    # all but (2, 2) and (3, 3) have a visible patch beside them
    assert found.boundary_share == pytest.approx(7 / 9)
    # and are at distance 1; the nearest of (2, 2) is diagonal, that of (3, 3) two columns away
    assert found.distance == pytest.approx((7 + math.sqrt(2) + 2) / 9)
    assert found.coverage_entropy == 0


def test_a_checkerboard_of_both_phases() -> None:
    found = diagnose(Checkerboard(), (6, 8), 400, torch.Generator().manual_seed(0))
    assert found.kind == "checkerboard"
    assert (found.ratio, found.visible_region, found.boundary_share, found.distance) == (0.5, 1, 1, 1)
    assert found.local_entropy == 0
    assert found.coverage_entropy > 0.99
    assert found.coverage_error == 0.5 / 20


def test_stripes_are_regions() -> None:
    found = diagnose(Stripes(phase=0), (8, 5), 3, torch.Generator().manual_seed(0))
    # rows 0 and 4 visible; hidden rows at distance 1 2 1 1 2 3
    assert found.visible_region == 5
    assert found.boundary_share == pytest.approx(3 / 6)
    assert found.distance == pytest.approx(10 / 6)
    assert found.coverage_entropy == 0


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), share=st.floats(0.1, 0.9), seed=st.integers(0, 2**31))
def test_agrees_with_scipy(rows: int, columns: int, share: float, seed: int) -> None:
    hidden = torch.rand(4, rows, columns, generator=torch.Generator().manual_seed(seed)) < share
    hidden[:, 0, 0] = False  # something is visible, or there is no nearest
    maps = hidden.numpy()

    labels = [ndimage.label(~one) for one in maps]
    total = sum(number for _, number in labels)
    assert mean_region(~hidden) == pytest.approx((~maps).sum() / total)
    for (expected, _), found in zip(labels, regions(~hidden).numpy(), strict=True):
        # the same partition: label pairs are one to one
        pairs = set(zip(expected.ravel().tolist(), found.ravel().tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

    distances = np.concatenate([ndimage.distance_transform_edt(one)[one] for one in maps])
    assert mean_distance(hidden) == pytest.approx(distances.mean() if len(distances) else 0.0)
    beside = [ndimage.binary_dilation(~one)[one] for one in maps]
    assert boundary_share(hidden) == pytest.approx(np.concatenate(beside).mean() if len(distances) else 0.0)


def test_a_spiral_is_one_region() -> None:
    spiral = ~from_picture(
        ".....",
        "####.",
        "...#.",
        ".###.",
        ".....",
    )
    assert mean_region(spiral) == 17
    assert set(regions(spiral)[spiral].tolist()) == {0}


def test_independent_patches_have_the_entropy_of_a_coin() -> None:
    hidden = torch.rand(4000, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.75
    coin = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    # 100 000 places: the estimate is good to about 0.003
    assert local_entropy(hidden) == pytest.approx(coin, abs=0.01)
    assert local_entropy(from_picture("####")) == 0


def test_nothing_hidden_and_nothing_visible() -> None:
    nothing = describe(Mask.none(3, 12), (3, 4))
    assert (nothing.ratio, nothing.visible_region, nothing.boundary_share, nothing.distance) == (0, 12, 0, 0)
    everything = describe(Mask.none(3, 12).complement(), (3, 4))
    assert (everything.ratio, everything.visible_region, everything.boundary_share, everything.distance) == (1, 0, 0, 0)
    assert everything.coverage_entropy == 0


def test_many_masks_are_measured_in_parts() -> None:
    # more masks than fit in one part of 2^24 distances
    rng = torch.Generator().manual_seed(0)
    hidden = Random()(500, (14, 14), rng).is_hidden.view(-1, 14, 14)
    halves = [mean_distance(hidden[:250]), mean_distance(hidden[250:])]
    assert mean_distance(hidden) == pytest.approx(sum(halves) / 2)


def test_a_table_has_one_row_a_strategy() -> None:
    strategies: list[MaskStrategy] = [Random(), Window()]
    table = diagnostics_table(strategies, (8, 8), 200, seed=0)
    assert [row["mask"] for row in table] == ["random", "window"]
    again: MaskDiagnostics = diagnose(Window(), (8, 8), 200, torch.Generator().manual_seed(0))
    assert table[1] == again.row()
    # what it is for: a window leaves hidden patches further from anything visible
    assert float(table[1]["distance (patches)"]) > 1.5 * float(table[0]["distance (patches)"])


def test_bad_requests_are_refused() -> None:
    with pytest.raises(InputError, match=r"^expected at least one mask to diagnose, got 0$"):
        diagnose(Random(), (4, 4), 0, torch.Generator())
    with pytest.raises(InputError, match=r"^expected masks of a 4x4 grid, got 2 of 12 patches$"):
        describe(Mask.none(2, 12), (4, 4))
