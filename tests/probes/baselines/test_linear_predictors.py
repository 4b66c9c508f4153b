"""Linear predictors of hidden patches against brute force over all masks, and known answers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.probes.baselines.second_order import (
    MaskChances,
    PatchMoments,
    _of_one_system,
    fixed_linear,
    fixed_linear_random,
    mask_chances,
    neighbours,
    patch_basis,
    patch_moments,
    predict,
    predict_wiener,
    random_chances,
    reach,
    shared_spectrum,
    wiener,
)


def correlated(rng: np.random.Generator, n: int = 120, patches: int = 5, size: int = 3) -> np.ndarray:
    """Images of patches [n N d] with a full covariance and a mean."""
    mix = rng.normal(size=(patches * size, patches * size))
    return (rng.normal(size=(n, patches * size)) @ mix + rng.normal(size=patches * size)).reshape(n, patches, size)


def moments_of(x: np.ndarray, t: np.ndarray | None = None) -> PatchMoments:
    return patch_moments(iter([(x, x if t is None else t)]))


def all_masks(patches: int, visible: int) -> np.ndarray:
    return np.array(
        [
            [i not in combination for i in range(patches)]
            for combination in itertools.combinations(range(patches), visible)
        ]
    )


def error(x: np.ndarray, moments: PatchMoments, weights: np.ndarray, masks: np.ndarray) -> float:
    """Summed squared error on hidden patches, averaged over masks and images, by brute force."""
    total = 0.0
    for hidden in masks:
        found = predict(moments, weights, x, np.broadcast_to(hidden, x.shape[:2]))
        total += float(((found - x)[:, hidden] ** 2).sum()) / len(x)
    return total / len(masks)


@pytest.mark.parametrize("unit", [1, 2])
def test_weights_are_those_of_least_squares_on_all_masks_and_images(unit: int) -> None:
    rng = np.random.default_rng(0)
    x = correlated(rng)
    masks = rng.random((40, 5)) < rng.uniform(0.3, 0.8, size=5)  # a lopsided strategy
    masks = masks[:, np.arange(5) // unit * unit]  # of units of two, patches 0 and 1 are hidden together
    moments, chances = moments_of(x), mask_chances(masks)
    weights = fixed_linear(moments, chances)
    centred = (x - x.mean(0)).reshape(len(x), -1)
    best = 0.0
    for j in range(5):
        rows = np.vstack([np.repeat(~hidden, 3) * centred for hidden in masks if hidden[j]])
        goal = np.vstack([centred[:, 3 * j : 3 * j + 3]] * int(masks[:, j].sum()))
        solution = np.linalg.lstsq(rows, goal, rcond=None)[0]
        best += float(((goal - rows @ solution) ** 2).sum()) / len(x) / len(masks)
    assert error(x, moments, weights, masks) == pytest.approx(best, rel=1e-10)


def test_patches_of_a_mask_unit_share_a_system_unless_they_may_use_different_inputs() -> None:
    hidden = np.random.default_rng(0).random((60, 4)) < 0.5
    hidden = hidden[:, [0, 0, 1, 1, 2, 3]]
    chances = mask_chances(hidden)
    everything = np.ones((6, 6), dtype=bool)
    assert _of_one_system(chances, everything) == [[0, 1], [2, 3], [4], [5]]
    everything[3, 0] = False
    assert _of_one_system(chances, everything) == [[0, 1], [2], [3], [4], [5]]
    h, v = hidden.astype(float), 1.0 - hidden
    np.testing.assert_array_equal(chances.two, np.einsum("kj,ki,kl->jil", h, v, v) / 60)


@pytest.mark.parametrize("visible", [1, 2, 4])
def test_one_inverse_serves_all_patches_under_random_masks(visible: int) -> None:
    rng = np.random.default_rng(1)
    x = correlated(rng)
    t = np.tanh(x[..., :2]) + 0.1 * x[..., 1:]  # targets of another size, no linear function of x
    moments = moments_of(x, t)
    exact, drawn = random_chances(5, visible), mask_chances(all_masks(5, visible))
    np.testing.assert_allclose(exact.two, drawn.two, atol=1e-12)
    np.testing.assert_allclose(exact.one, drawn.one, atol=1e-12)
    one, many = fixed_linear_random(moments, visible, 0.01), fixed_linear(moments, exact, 0.01)
    np.testing.assert_allclose(one, many, atol=1e-9 * abs(many).max())


@given(st.integers(0, 500), st.integers(1, 4))
def test_who_sees_the_mask_is_never_worse_and_nobody_is_worse_than_the_mean(seed: int, visible: int) -> None:
    x = correlated(np.random.default_rng(seed))
    moments, masks = moments_of(x), all_masks(5, visible)
    filtered = 0.0
    for hidden in masks:
        found = predict_wiener(moments, x, hidden)
        filtered += float(((found - x)[:, hidden] ** 2).sum()) / len(x) / len(masks)
    fixed = error(x, moments, fixed_linear_random(moments, visible), masks)
    mean = error(x, moments, np.zeros((15, 15)), masks)
    assert filtered <= fixed * (1 + 1e-9)
    assert fixed <= mean * (1 + 1e-9)


def test_neighbours_of_an_autoregressive_line_explain_what_the_formula_says() -> None:
    """AR(1), x_i = phi x_(i-1) + noise: both neighbours visible, 2 phi^2 / (1 + phi^2); one visible
    patch at distance s, phi^(2 s)."""
    phi, size = 0.8, 7
    distance = abs(np.arange(size)[:, None] - np.arange(size))
    covariance = phi**distance
    moments = PatchMoments(np.zeros((size, 1)), np.zeros((size, 1)), covariance, covariance, 1000)

    def explained(hidden: np.ndarray, patch: int) -> float:
        weights = wiener(moments, hidden)
        row = int(hidden[:patch].sum())
        return float(weights[row] @ covariance[patch, ~hidden])

    only = np.zeros(size, dtype=bool)
    only[3] = True
    assert explained(only, 3) == pytest.approx(2 * phi**2 / (1 + phi**2))
    for s in (1, 2, 3):
        lone = np.ones(size, dtype=bool)
        lone[0] = False
        assert explained(lone, s) == pytest.approx(phi ** (2 * s))


def test_a_gaussian_field_leaves_nothing_to_gain_beyond_its_neighbours() -> None:
    """A Markov line: once both neighbours are visible, farther patches add nothing."""
    phi, size = 0.6, 6
    covariance = phi ** abs(np.arange(size)[:, None] - np.arange(size))
    moments = PatchMoments(np.zeros((size, 1)), np.zeros((size, 1)), covariance, covariance, 1000)
    hidden = np.zeros((1, size), dtype=bool)
    hidden[0, 2] = True
    chances = mask_chances(hidden)
    everything = fixed_linear(moments, chances)
    near = fixed_linear(moments, chances, allowed=neighbours((1, size)))
    np.testing.assert_allclose(everything, near, atol=1e-12)
    assert reach(moments, everything, (1, size))[2] == pytest.approx(1)
    assert np.isnan(reach(moments, everything, (1, size))[0])  # never hidden


def test_shared_directions_are_the_best_linear_code_of_all_pixels() -> None:
    rng = np.random.default_rng(2)
    x = correlated(rng, n=400)
    moments, masks = moments_of(x), all_masks(5, 3)
    visible = (~masks).astype(float)
    pairs = visible.T @ visible / len(masks)
    values = shared_spectrum(moments, pairs)
    normal = np.kron(pairs, np.ones((3, 3))) * moments.inputs
    right = moments.inputs * np.repeat(np.diag(pairs), 3)[None]
    explained = right @ np.linalg.solve(normal, right.T)
    vectors = np.linalg.eigh(explained)[1][:, ::-1][:, :4]
    weights = vectors @ vectors.T @ right @ np.linalg.inv(normal)
    centred = (x - x.mean(0)).reshape(len(x), -1)
    loss = np.mean([((centred - (np.repeat(~h, 3) * centred) @ weights.T) ** 2).sum() / len(x) for h in masks])
    assert loss == pytest.approx(np.trace(moments.inputs) - values[:4].sum(), rel=1e-9)


def test_moments_do_not_depend_on_batches() -> None:
    x = correlated(np.random.default_rng(3)) + 100
    whole = moments_of(x)
    parts = patch_moments(iter([(x[:7], x[:7]), (x[7:50], x[7:50]), (x[50:], x[50:])]))
    np.testing.assert_allclose(parts.inputs, whole.inputs, atol=1e-8)
    np.testing.assert_allclose(whole.inputs, np.cov(x.reshape(len(x), -1).T, bias=True), atol=1e-8)
    np.testing.assert_allclose(parts.mean_target, x.mean(0))
    with pytest.raises(ValueError, match="at least 2 images"):
        moments_of(x[:1])


def test_a_stationary_covariance_depends_on_the_offset_alone() -> None:
    x = correlated(np.random.default_rng(4), patches=6, size=2)
    found = moments_of(x).stationary((2, 3)).inputs.reshape(6, 2, 6, 2)
    np.testing.assert_allclose(found[0, :, 1], found[1, :, 2])
    np.testing.assert_allclose(found[0, :, 1], found[4, :, 5])
    np.testing.assert_allclose(found[0, :, 4], found[1, :, 5])
    np.testing.assert_allclose(found, found.transpose(2, 3, 0, 1))


def test_a_patch_basis_keeps_the_variance_that_it_says() -> None:
    x = correlated(np.random.default_rng(5), n=300, size=6)
    basis = patch_basis(x, 2)
    centred = x - x.mean(0)
    rest = centred - basis.project(centred) @ basis.directions.T
    assert (rest**2).sum() / (centred**2).sum() == pytest.approx(basis.left_out)
    assert patch_basis(x, 99).left_out == pytest.approx(0, abs=1e-12)
    assert patch_basis(np.zeros((4, 3, 5)), 2).left_out == 0


def test_patches_that_never_vary_or_are_never_hidden_are_no_trouble() -> None:
    x = correlated(np.random.default_rng(6))
    x[:, 2] = 1.0
    moments = moments_of(x)
    assert np.isfinite(fixed_linear_random(moments, 2)).all()
    chances = MaskChances(np.array([0, 1.0, 0, 0, 0]), np.zeros((5, 5)), np.zeros((5, 5, 5)))
    assert not fixed_linear(moments, chances).any()
    for visible in (0, 5):
        with pytest.raises(ValueError, match="expected 1 to 4 visible patches"):
            fixed_linear_random(moments, visible)
        with pytest.raises(ValueError, match="expected 1 to 4 visible patches"):
            random_chances(5, visible)
