"""The augmentation graph where every number is known: worked out by hand, by brute force, and by
estimators on growing samples."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.errors import InputError
from lcmae.probes.mask_graphs.discrete import Discrete, exact_graph
from lcmae.probes.mask_graphs.kernel import (
    Sample,
    bistochastic,
    gaussian,
    kernel_graph,
    nearest_distance,
    principal_components,
    squared_distances,
    unit_of,
    variance_over_images,
)
from lcmae.probes.mask_graphs.numbers import GraphNumbers, largest_eigenvalues
from lcmae.probes.mask_graphs.palette_images import PATCHES, exact_sweep, masks, palette_images
from lcmae.probes.mask_graphs.toy import QUANTITIES, estimator_errors
from lcmae.probes.measures.canonical import both_halves, canonical_spectrum, held_out

# Two patches of two colours, two classes; the class is the colour of the left patch.
TWO = Discrete(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0.4, 0.1, 0.1, 0.4]), np.array([0, 0, 1, 1]))
LEFT, RIGHT = np.array([True, False]), np.array([False, True])


def test_two_patches_two_classes_by_hand() -> None:
    graph = exact_graph(TWO, hidden=RIGHT, num_eigenvalues=2)
    # M = [[.4 .1] [.1 .4]], both marginals (.5 .5), so B = 2 M with singular values 1 and .6:
    # eigenvalues 1 and .36
    assert graph.eigenvalues.tolist() == pytest.approx([1, 0.36])
    assert graph.squares == pytest.approx(1 + 0.36**2)
    assert graph.tail.tolist() == pytest.approx([0.36**2, 0], abs=1e-12)
    # sharing the right patch: the image itself with .8^2 + .2^2 = .68, else the image with the
    # other left patch: another class sharing the left patch: the image itself with .68, else the
    # image with the other right patch: the same class
    assert graph.edges.ravel().tolist() == pytest.approx([0.68, 0, 0.32, 0.68, 0.32, 0], abs=1e-12)
    # the left patch, which is visible, is the class
    assert graph.label_error == pytest.approx(0)
    assert graph.components == 1


def test_the_other_mask_by_hand() -> None:
    graph = exact_graph(TWO, hidden=LEFT, num_eigenvalues=2)
    # the same spectrum, and the two ways of sharing change places
    assert graph.eigenvalues.tolist() == pytest.approx([1, 0.36])
    assert graph.edges.ravel().tolist() == pytest.approx([0.68, 0.32, 0, 0.68, 0, 0.32], abs=1e-12)
    # the right patch names the class in 4 cases of 5
    assert graph.label_error == pytest.approx(0.2)


def test_classes_that_never_meet_are_two_components() -> None:
    graph = exact_graph(Discrete(np.array([[0, 0], [1, 1]]), np.array([0.5, 0.5]), np.array([0, 1])), RIGHT, 3)
    # M = diag(.5 .5): B is the identity, each image shares with itself alone
    assert graph.components == 2
    assert graph.eigenvalues.tolist() == pytest.approx([1, 1, 0])
    assert graph.edges.ravel().tolist() == pytest.approx([1, 0, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.zeros(4, int)}, "two classes or more, got one class"),
        ({"probability": np.full(4, 0.5)}, "add to 1, got a sum of 2"),
        ({"colours": np.zeros((4, 2), int)}, "different images, got some twice"),
    ],
)
def test_bad_worlds_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Discrete(**{**vars(TWO), **change})


@pytest.mark.parametrize("hidden", [[False, False], [True, True]])
def test_a_mask_that_hides_nothing_or_everything_is_refused(hidden: list[bool]) -> None:
    with pytest.raises(InputError, match="hides some patches and shows some"):
        exact_graph(TWO, np.array(hidden), 2)


def test_more_images_than_can_be_listed_are_refused() -> None:
    rows = np.stack([np.arange(10_001), np.zeros(10_001, int)], axis=1)
    with pytest.raises(InputError, match="1 to 10000 images to enumerate, got 10001"):
        Discrete(rows, np.full(10_001, 1 / 10_001), rows[:, 0] % 2)


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "num_hidden"), [(1, 1), (1, 2), (2, 8)])
def test_the_toy_s_mean_is_over_all_masks(unit: int, num_hidden: int) -> None:
    """One mask of each kind, weighed, is the mean over every mask."""
    blocks = np.arange(16).reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(4, 4)
    chosen = (
        [list(patches) for patches in combinations(range(16), num_hidden)]
        if unit == 1
        else [[*blocks[first], *blocks[second]] for first, second in combinations(range(4), 2)]
    )
    rows = []
    for patches in chosen:
        hidden = np.zeros(16, bool)
        hidden[patches] = True
        rows.append(exact_graph(palette_images(), hidden, 8).flat())
    np.testing.assert_allclose(exact_sweep(8)[unit, num_hidden].flat(), np.mean(rows, axis=0), atol=1e-9)


def test_the_toy_shows_the_trade_off() -> None:
    sweep = exact_sweep(8)
    graphs = [sweep[1, count] for count in range(1, PATCHES)]
    for count in range(1, PATCHES):
        assert sum(share for _, share in masks(count, 1)) == pytest.approx(1)
    same, intra, inter = np.array([graph.edges[1] for graph in graphs]).T
    # small ratios: edges lead back; then within the class; large ratios: to other classes, which
    # alpha follows
    assert (np.diff(same) < 0).all()
    assert same[0] > 0.8
    assert inter[0] < 1e-9
    assert (np.diff(inter) >= -1e-12).all()
    assert inter[-1] > 0.25
    assert 0 < intra.argmax() < len(intra) - 1
    assert (np.diff([graph.label_error for graph in graphs]) >= -1e-12).all()
    # the tail shrinks from the middle on; nothing tells hidden from visible in a spectrum
    tails = np.array([graph.tail[1] for graph in graphs])
    assert (np.diff(tails[7:]) < 0).all()
    np.testing.assert_allclose(tails, tails[::-1], atol=1e-9)
    # what is shared by hidden parts at a ratio is shared by visible parts at the other
    mirrored = [graph.edges[1] for graph in graphs[::-1]]
    np.testing.assert_allclose([graph.edges[0] for graph in graphs], mirrored, atol=1e-12)
    # with whole blocks hidden, a class is confused sooner
    assert sweep[2, 8].label_error > sweep[1, 8].label_error


def test_numbers_survive_a_row() -> None:
    graph = exact_graph(TWO, RIGHT, 2)
    back = GraphNumbers.unflatten(graph.flat())
    np.testing.assert_array_equal(back.flat(), graph.flat())
    assert back.label_error == graph.label_error


def exact_kernels(images: Discrete, rows: np.ndarray, hidden: np.ndarray) -> list[np.ndarray]:
    """1 where contents are equal, 0 elsewhere: of what is visible, and of what is hidden."""
    parts = [images.colours[rows][:, patches] for patches in (~hidden, hidden)]
    return [(part[:, None] == part[None]).all(-1).astype(float) for part in parts]


def test_the_kernel_form_of_the_hand_solved_case() -> None:
    # ten images in the very proportions of the world
    rows = np.array([0, 0, 0, 0, 1, 2, 3, 3, 3, 3])
    visible, hidden = exact_kernels(TWO, rows, RIGHT)
    found = kernel_graph(visible, hidden, Sample(TWO.label[rows], rows), 2)
    exact = exact_graph(TWO, RIGHT, 2)
    np.testing.assert_allclose(found.edges, exact.edges, atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues, atol=1e-7)
    assert found.squares == pytest.approx(exact.squares)
    assert found.label_error == 0
    # seen from the right patch, the two images that are not alike lose the vote of the others
    found = kernel_graph(hidden, visible, Sample(TWO.label[rows], rows), 2)
    assert found.label_error == pytest.approx(0.2)


def test_a_soft_kernel_of_two_images_by_hand() -> None:
    # K = [[1 a] [a 1]] becomes [[1 a] [a 1]] / (1 + a), with eigenvalues 1 and (1 - a) / (1 + a)
    kernel = np.array([[1.0, 0.25], [0.25, 1.0]])
    step = bistochastic(kernel, np.full(2, 0.5))
    np.testing.assert_allclose(step, kernel / 1.25)
    found = kernel_graph(kernel, np.eye(2), Sample(np.array([0, 1]), np.arange(2)), 1)
    assert found.edges.ravel().tolist() == pytest.approx([1, 0, 0, 0.8, 0, 0.2])
    assert found.squares == pytest.approx(1 + 0.6**2)
    assert found.label_error == 1


@given(st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 3.0]))
def test_laws_of_the_kernel_form(seed: int, bandwidth: float) -> None:
    rng = np.random.default_rng(seed)
    size = 12
    points = [rng.normal(size=(size, 3)) for _ in range(2)]
    kernels = [gaussian(squared_distances(part), bandwidth) for part in points]
    weight = rng.dirichlet(np.full(size, 5.0))
    found = kernel_graph(kernels[0], kernels[1], Sample(np.arange(size) % 3, np.arange(size)), 5, weight)
    steps = [bistochastic(kernel, weight) for kernel in kernels]
    for step in steps:
        # as a walk: symmetric weights whose rows add to those of the images
        np.testing.assert_allclose(step @ np.sqrt(weight), np.sqrt(weight), atol=1e-7)
        np.testing.assert_allclose(step, step.T)
    # an independent way to the spectrum: the eigenvalues of the product itself
    every = np.sort(np.linalg.eigvals(steps[0] @ steps[1]).real)[::-1]
    np.testing.assert_allclose(found.eigenvalues, every[:5], atol=1e-6)
    assert found.squares == pytest.approx((every**2).sum(), abs=1e-6)
    assert found.eigenvalues[0] == pytest.approx(1, abs=1e-6)
    assert (found.edges >= -1e-12).all()
    np.testing.assert_allclose(found.edges.sum(1), 1, atol=1e-6)


def test_lanczos_and_the_dense_solver_agree() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(80, 80)) / 20
    matrix = root @ root.T
    matrix /= np.linalg.eigvalsh(matrix)[-1]
    few, many = (largest_eigenvalues(lambda x: matrix @ x, 80, count, lambda: matrix) for count in (6, 40))
    np.testing.assert_allclose(few, many[:6], atol=1e-10)
    assert largest_eigenvalues(lambda x: matrix @ x, 80, 90, lambda: matrix)[80:].tolist() == [0] * 10


def test_beyond_the_cap_nothing_is_dense() -> None:
    def never() -> np.ndarray:
        raise AssertionError("a dense matrix of 5000 rows was asked for")

    diagonal = np.linspace(0, 1, 5000)
    found = largest_eigenvalues(lambda x: diagonal * x.reshape(-1), 5000, 2, never)
    assert found == pytest.approx(diagonal[[-1, -2]], abs=1e-9)
    with pytest.raises(InputError, match="at most 4000 images"):
        Sample(np.arange(4001) % 2, np.arange(4001))


@pytest.mark.slow
def test_estimators_converge_to_the_exact_toy() -> None:
    errors = estimator_errors((60, 240, 960))
    of_kernel, of_model = errors
    assert (of_kernel[:, 2] < of_kernel[:, 0]).all(), dict(zip(QUANTITIES, of_kernel.tolist(), strict=True))
    assert (of_kernel[[0, 1], 2] < 0.05).all()
    assert of_kernel[2, 2] < 0.7 * of_kernel[2, 0]
    assert of_kernel[3, 2] < 0.15 * of_kernel[3, 0]
    assert of_model[2, 2] < 0.6 * of_model[2, 0]
    assert np.isnan(of_model[:2]).all()


@pytest.mark.parametrize("size", [200, 3200])
def test_estimators_on_samples_of_the_hand_solved_world(size: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.choice(4, size, p=TWO.probability)
    colours = np.eye(2)[TWO.colours[rows]]
    values, squares = canonical_spectrum(both_halves(colours[:, 0], colours[:, 1], rng.random(size) < 0.5, 1e-3), 2)
    # four standard errors of a squared correlation of .6: 4 x 2 x .6 x (1 - .36) / sqrt(n)
    room = 3.1 / np.sqrt(size)
    assert values[1] == pytest.approx(0.36, abs=room)
    assert squares == pytest.approx(1 + 0.36**2, abs=room)
    if size < 1000:  # pairs of images
        visible, hidden = exact_kernels(TWO, rows, RIGHT)
        found = kernel_graph(visible, hidden, Sample(TWO.label[rows], rows), 2)
        assert found.eigenvalues[1] == pytest.approx(0.36, abs=room)
        np.testing.assert_allclose(found.edges, exact_graph(TWO, RIGHT, 2).edges, atol=room)


def test_canonical_correlations_of_known_ones() -> None:
    rng = np.random.default_rng(0)
    shared, noise = rng.normal(size=(2, 20_000, 2))
    first = shared @ np.array([[2.0, 1.0], [0.0, 1.0]])
    second = 3 + np.stack([0.8, 0.3]) * shared + np.sqrt(1 - np.stack([0.8, 0.3]) ** 2) * noise
    fit = rng.random(20_000) < 0.5
    # linear maps of either side change nothing: correlations .8 and .3
    assert held_out(first, second, fit, 1e-6).correlations() == pytest.approx([0.8, 0.3], abs=0.03)
    # features that are unrelated, and constant ones, correlate with nothing on other images
    assert np.abs(held_out(first, rng.normal(size=(20_000, 2)), fit, 1e-6).correlations()).max() < 0.04
    assert held_out(np.full((20_000, 3), 1e3), second, fit, 1e-6).correlations().tolist() == [0, 0]


def test_canonical_pairs_are_judged_on_any_of_the_other_images() -> None:
    rng = np.random.default_rng(2)
    first = rng.normal(size=(60, 3))
    second, fit = first @ rng.normal(size=(3, 2)) + rng.normal(size=(60, 2)), np.arange(60) % 2 == 0
    found, judged = held_out(first, second, fit, 1e-3), np.arange(60) % 5 != 0
    on = judged[~fit]
    expected = [np.corrcoef(found.first[on, pair], found.second[on, pair])[0, 1] for pair in range(2)]
    np.testing.assert_allclose(found.correlations(judged), expected)
    np.testing.assert_allclose(found.correlations(np.ones(60, bool)), found.correlations())
    # nothing to judge on, and nothing to fit to
    assert found.correlations(fit).tolist() == [0, 0]
    assert held_out(first, second, np.ones(60, bool), 1e-3).correlations().tolist() == [0, 0]
    assert held_out(first, second, np.zeros(60, bool), 1e-3).correlations().tolist() == [0, 0]


def test_few_images_and_many_features_do_not_pass_for_correlation() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 60, 50))
    values, _ = canonical_spectrum(both_halves(first, second, np.arange(60) % 2 == 0, 1e-2), 3)
    # on the images of the fit they all are 1
    assert values[1] < 0.4


def test_the_variance_over_images_of_a_mean_and_of_the_unit() -> None:
    rng = np.random.default_rng(0)
    values, nearest, group = rng.normal(size=400), 1 + rng.random(400), np.arange(400) % 8
    each = np.array([values[group == one].mean() for one in range(8)])
    whole = np.full((2, 1), values.mean())
    found = variance_over_images(lambda mask, rows, unit: values[rows].mean(keepdims=True), whole, nearest)
    assert float(found[0]) == pytest.approx(each.var(ddof=1) / 8)
    # the unit itself has the jackknife's error of a median, of distances within the whole sample
    medians = np.array([np.median(nearest[group != one]) for one in range(8)])
    whole = np.full((2, 1), np.median(nearest))
    found = variance_over_images(lambda mask, rows, unit: np.array([unit]), whole, nearest)
    assert float(found[0]) == pytest.approx(7 / 8 * ((medians - medians.mean()) ** 2).sum())
    # where most of the images that are left have an equal one, the unit is that of all
    assert unit_of(np.array([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0]), np.arange(5)) == 2


def test_distances_and_components() -> None:
    rng = np.random.default_rng(0)
    points = 100 + rng.normal(size=(30, 5)) * np.array([3, 2, 1, 0.5, 0.1])
    direct = ((points[:, None] - points[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(points), direct, atol=1e-9)
    others = [min(row[:number].tolist() + row[number + 1 :].tolist()) for number, row in enumerate(direct)]
    assert nearest_distance(direct) == pytest.approx(np.median(np.sqrt(others)))
    left, scale, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
    scores = principal_components(points, 2)
    np.testing.assert_allclose(squared_distances(scores), squared_distances(left[:, :2] * scale[:2]), atol=1e-8)
    # float32 could not tell these apart: no distance, and not one of rounding
    alike = 0.3 + 1e-8 * rng.normal(size=(5, 7))
    assert not squared_distances(alike).any()
    with pytest.raises(InputError, match="expected images that differ in their features, got equal ones in most cases"):
        nearest_distance(squared_distances(alike), "features")


def test_one_class_and_too_many_eigenvalues_are_refused() -> None:
    with pytest.raises(InputError, match="two classes or more, got one class"):
        Sample(np.zeros(5, int), np.arange(5))
    with pytest.raises(InputError, match="fewer eigenvalues than images, got 5 of 5 images"):
        kernel_graph(np.eye(5), np.eye(5), Sample(np.arange(5) % 2, np.arange(5)), 5)
