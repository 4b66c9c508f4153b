"""The unbiased terms: as their pairs say, adding up to the loss, unbiased where the exact ones are
not, with errors that cover."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.contrast import decompose
from lcmae.probes.statistics.intervals import student
from lcmae.probes.statistics.mask_pairs import MaskPairs
from tests.reference import mask_pairs as reference

VARIANCES = {"mask": 0.05, "patch": 0.06, "image": 0.005, "mean": 0.0005}


def drawn(rng: torch.Generator, images: int, masks: int, patches: int, num_hidden: int, shared: float = 0.0):
    """Residuals with a part for mask, patch, image and all; of the mask's part, `shared` is common
    to the patches of one mask."""

    def noise(*shape: int, variance: float) -> Tensor:
        return torch.randn(*shape, 4, generator=rng, dtype=torch.float64) * variance**0.5

    own = noise(images, 1, patches, variance=VARIANCES["patch"]) + noise(images, 1, 1, variance=VARIANCES["image"])
    of_mask = VARIANCES["mask"]
    residual = own + noise(images, masks, patches, variance=of_mask * (1 - shared))
    residual = residual + noise(images, masks, 1, variance=of_mask * shared) + VARIANCES["mean"] ** 0.5
    order = torch.rand(images, masks, patches, generator=rng).argsort(-1)
    return residual, order.argsort(-1) < num_hidden


def estimated(residual: Tensor, hidden: Tensor, sizes: int = 1000, *, even: bool = True) -> MaskPairs:
    found = MaskPairs(len(residual), even=even)
    for part, chosen in zip(residual.split(sizes), hidden.split(sizes), strict=True):
        found.add(part, torch.zeros_like(part[:, 0]), chosen)
    return found


@given(
    images=st.integers(2, 6),
    masks=st.integers(2, 4),
    num_hidden=st.integers(1, 4),
    seed=st.integers(0, 500),
    sizes=st.integers(1, 4),
)
def test_equal_to_their_pairs_and_add_up(images: int, masks: int, num_hidden: int, seed: int, sizes: int) -> None:
    residual, hidden = drawn(torch.Generator().manual_seed(seed), images, masks, 5, num_hidden)
    found = estimated(residual, hidden, sizes).terms().value
    np.testing.assert_allclose(found, reference.terms(residual, hidden), rtol=1e-9, atol=1e-12)
    if bool(found.isfinite().all()):
        whole = decompose(residual, torch.zeros_like(residual[:, 0]), hidden)
        assert float(found.sum()) == pytest.approx(float(whole.loss), rel=1e-12)


def test_maps_are_their_pairs() -> None:
    residual, hidden = drawn(torch.Generator().manual_seed(0), 5, 3, 6, 4)
    found = estimated(residual, hidden, 2).local_map().value
    np.testing.assert_allclose(found, reference.local_map(residual, hidden), rtol=1e-9)


def test_a_shift_of_all_residuals_changes_the_offset_alone() -> None:
    residual, hidden = drawn(torch.Generator().manual_seed(1), 8, 3, 6, 3)
    plain, moved = (estimated(one, hidden).terms().value for one in (residual, residual + 100.0))
    np.testing.assert_allclose(moved[:3], plain[:3], atol=1e-8)


@pytest.mark.parametrize(("masks", "num_hidden", "shared"), [(2, 12, 0.3), (8, 4, 0.0), (4, 8, 0.3)])
def test_without_bias_where_the_exact_terms_have_one(masks: int, num_hidden: int, shared: float) -> None:
    """z is the bias in Monte-Carlo errors."""
    rng = torch.Generator().manual_seed(masks)
    patches, rounds = 16, 100
    truth = [VARIANCES["mask"], 15 / 16 * VARIANCES["patch"], VARIANCES["image"] + VARIANCES["patch"] / 16]
    truth.append(VARIANCES["mean"])
    ours, exact, covered = [], [], []
    for _ in range(rounds):
        residual, hidden = drawn(rng, 32, masks, patches, num_hidden, shared)
        found = estimated(residual, hidden)
        terms = found.terms()
        ours.append(terms.value.numpy())
        reach = student(found.degrees_of_freedom) * terms.sem.numpy()
        covered.append(abs(ours[-1] - truth) <= reach)
        exact.append(
            [float(one) for one in decompose(residual, torch.zeros_like(residual[:, 0]), hidden).terms().values()]
        )
    z = (np.mean(ours, 0) - truth) / np.std(ours, 0, ddof=1) * math.sqrt(rounds)
    assert np.abs(z).max() < 4
    biased = (np.mean(exact, 0) - truth) / np.std(exact, 0, ddof=1) * math.sqrt(rounds)
    assert np.abs(biased[:2]).min() > 6
    # 95 % +- 4 Monte-Carlo errors
    assert np.mean(covered, 0).min() > 0.86


def test_token_shares_are_those_of_the_truth() -> None:
    rng, found = torch.Generator().manual_seed(5), []
    for _ in range(40):
        residual, hidden = drawn(rng, 64, 8, 16, 4, 0.5)
        found.append(estimated(residual, hidden).shares().value.numpy())
    parts = np.array([VARIANCES["mask"], 15 / 16 * VARIANCES["patch"], VARIANCES["image"] + VARIANCES["patch"] / 16])
    z = (np.mean(found, 0) - parts / parts.sum()) / np.std(found, 0, ddof=1) * math.sqrt(40)
    assert np.abs(z).max() < 4


def test_uneven_chances_weigh_positions_as_the_loss_does() -> None:
    """Position 0 is hidden always and has noise, position 1 or 2 by turns and have none."""
    rng = torch.Generator().manual_seed(0)
    hidden = torch.zeros(400, 4, 3, dtype=torch.bool)
    hidden[..., 0] = True
    which = torch.randint(1, 3, (400, 4), generator=rng)
    hidden.scatter_(2, which[..., None], True)
    residual = torch.zeros(400, 4, 3, 4, dtype=torch.float64)
    residual[..., 0, :] = torch.randn(400, 4, 4, generator=rng, dtype=torch.float64)
    assert float(estimated(residual, hidden, even=False).terms().value[0]) == pytest.approx(0.5, rel=0.04)
    assert float(estimated(residual, hidden, even=True).terms().value[0]) > 0.55


def test_visible_patches_have_no_say() -> None:
    residual, hidden = drawn(torch.Generator().manual_seed(2), 4, 3, 6, 3)
    junk = torch.where(hidden[..., None], residual, torch.nan)
    torch.testing.assert_close(estimated(junk, hidden).terms().value, estimated(residual, hidden).terms().value)


def test_nothing_seen_twice_has_no_number() -> None:
    residual = torch.randn(3, 2, 2, 4, dtype=torch.float64)
    hidden = torch.tensor([[True, False], [False, True]]).expand(3, 2, 2)
    found = estimated(residual, hidden).terms()
    assert bool(found.value[:2].isnan().all())
    assert bool(found.value[2:].isfinite().all())
    assert bool(estimated(residual[:1], hidden[:1]).terms().sem.isnan().all())
