"""Streamed sums equal one look at everything, for any split into batches; shares lie where they
must."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.probes.statistics.running import NUM_GROUPS, RunningCovariance, RunningGroupMeans, RunningMean, group_sizes

splits = st.lists(st.integers(1, 6), min_size=1, max_size=6)
seeds = st.integers(0, 1000)
offsets = st.sampled_from([0.0, 1.0, 1e4, -1e6])


def vectors(sizes: list[int], seed: int, offset: float, *shape: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(size, *shape, generator=rng, dtype=torch.float64) + offset for size in sizes]


@given(sizes=splits, seed=seeds, offset=offsets, shape=st.sampled_from([(), (3,), (2, 2)]))
def test_mean_and_error_of_any_split(sizes: list[int], seed: int, offset: float, shape: tuple[int, ...]) -> None:
    batches = vectors(sizes, seed, offset, *shape)
    running = RunningMean()
    for batch in batches:
        running.add(batch)
    everything = torch.cat(batches).numpy()
    assert running.count == len(everything)
    assert running.mean is not None
    assert running.mean.shape == running.sem.shape == shape
    # a spread of 1 beside a mean of 1e6 keeps 16 - 6 digits
    np.testing.assert_allclose(running.mean.numpy(), everything.mean(0), rtol=1e-12, atol=1e-12 * abs(offset) + 1e-12)
    if len(everything) > 1:
        sem = everything.std(0, ddof=1) / math.sqrt(len(everything))
        np.testing.assert_allclose(running.sem.numpy(), sem, rtol=1e-8)
    else:
        assert running.sem.isnan().all()


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4), seed=seeds, shape=st.sampled_from([(), (3,)]))
def test_groups_are_every_32nd_image_of_any_split(sizes: list[int], seed: int, shape: tuple[int, ...]) -> None:
    batches = vectors(sizes, seed, 0.0, *shape)
    running = RunningMean()
    for batch in batches:
        running.add(batch)
    everything = torch.cat(batches)
    found = running.group_means
    assert found is not None
    expected = torch.stack([everything[group::NUM_GROUPS].mean(0) for group in range(NUM_GROUPS)])
    torch.testing.assert_close(found, expected, equal_nan=True)
    # weighted by their sizes, they have the mean of all
    weighted = torch.einsum("g,g...->...", group_sizes(running.count), found.nan_to_num()) / running.count
    torch.testing.assert_close(weighted, running.mean)
    if shape:
        part = running.part([2, 0])
        assert part.group_means is not None
        torch.testing.assert_close(part.group_means, found[:, [2, 0]], equal_nan=True)
        torch.testing.assert_close(part.sem, running.sem[[2, 0]], equal_nan=True)


def test_groups_of_maps_are_not_kept() -> None:
    running = RunningMean()
    running.add(torch.zeros(2, 5, 13))
    assert running.group_sums is None
    assert running.group_means is None
    assert running.part(slice(2)).group_means is None


@given(sizes=splits, seed=seeds, offset=offsets)
def test_covariance_of_any_split(sizes: list[int], seed: int, offset: float) -> None:
    batches = vectors(sizes, seed, offset, 4)
    running = RunningCovariance()
    for batch in batches:
        running.add(batch)
    everything = torch.cat(batches).numpy()
    expected = np.cov(everything, rowvar=False, ddof=0) if len(everything) > 1 else np.zeros((4, 4))
    np.testing.assert_allclose(running.covariance.numpy(), expected, rtol=1e-7, atol=1e-9)
    assert running.mean is not None
    np.testing.assert_allclose(running.mean.numpy(), everything.mean(0), rtol=1e-12, atol=1e-12 * abs(offset) + 1e-12)


def test_half_precision_is_added_up_in_double() -> None:
    running = RunningMean()
    for _ in range(300):
        running.add(torch.full((10,), 0.1, dtype=torch.float16))
    assert running.mean is not None
    assert float(running.mean) == pytest.approx(float(torch.tensor(0.1, dtype=torch.float16)), rel=1e-12)


def grouped(num_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Vectors [b 5 3] and how often each counts, 0 to 3 times."""
    rng = torch.Generator().manual_seed(seed)
    values = torch.randn(num_images, 5, 3, generator=rng, dtype=torch.float64)
    values += torch.randn(5, 3, generator=rng, dtype=torch.float64)  # groups differ
    return values, torch.randint(4, (num_images, 5), generator=rng).double()


def share_by_loops(values: Tensor, weight: Tensor) -> float:
    """Between-group over total sum of squares, a vector at a time."""
    rows = [
        (group, values[image, group].numpy())
        for image in range(len(values))
        for group in range(values.shape[1])
        for _ in range(int(weight[image, group]))
    ]
    centre = np.mean([row for _, row in rows], axis=0)
    total = sum(((row - centre) ** 2).sum() for _, row in rows)
    between = 0.0
    for group in {group for group, _ in rows}:
        members = [row for g, row in rows if g == group]
        between += len(members) * ((np.mean(members, axis=0) - centre) ** 2).sum()
    return between / total


@given(sizes=splits, seed=seeds, offset=offsets)
def test_share_of_groups_of_any_split(sizes: list[int], seed: int, offset: float) -> None:
    values, weight = grouped(sum(sizes), seed)
    weight[0, 0] = weight[0, 1] = 1  # two vectors at least
    running = RunningGroupMeans(len(values))
    for part, times in zip(values.split(sizes), weight.split(sizes), strict=True):
        running.add(part + offset, times)
    assert running.share == pytest.approx(share_by_loops(values, weight), rel=1e-8)
    assert 0 <= running.share <= 1


def test_share_at_its_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    by_position = torch.randn(1, 5, 3, generator=generator).expand(20, 5, 3)
    ones = torch.ones(20, 5)
    only_position, only_image, nothing = (RunningGroupMeans(20) for _ in range(3))
    only_position.add(by_position, ones)
    assert only_position.share == pytest.approx(1)
    only_image.add(torch.randn(20, 1, 3, generator=generator).expand(20, 5, 3), ones)
    assert only_image.share == pytest.approx(0, abs=1e-12)
    # a number that has no exact binary form: its mean is off by a rounding, and that is not a
    # variance
    for batch in torch.full((20, 5, 3), 0.1).split(3):
        nothing.add(batch, torch.ones(len(batch), 5))
    assert math.isnan(nothing.share)


@pytest.mark.parametrize("noise", [1e-9, 3e-8])
def test_rounding_noise_of_float32_is_no_variance(noise: float) -> None:
    running = RunningGroupMeans(16)
    values = 0.7 + noise * torch.randn(16, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    running.add(values.float(), torch.ones(16, 4))
    assert math.isnan(running.share)


def test_a_place_that_was_never_seen_has_no_say() -> None:
    values, weight = grouped(6, 0)
    weight[:, 2] = 0
    values[:, 2] = 1e9
    running = RunningGroupMeans(6)
    running.add(values, weight)
    assert running.share == pytest.approx(share_by_loops(values, weight))


def test_the_error_of_a_share_is_the_jackknife_of_its_definition() -> None:
    values, weight = grouped(6, 0)
    running = RunningGroupMeans(6)
    for part, times in zip(values.split(4), weight.split(4), strict=True):
        running.add(part, times)
    share, error = running.estimate()
    # groups of one image: the textbook form, sqrt((n - 1) / n sum (share without i - their mean)^2)
    without = torch.tensor(
        [share_by_loops(values[others], weight[others]) for others in ~torch.eye(6, dtype=torch.bool)]
    )
    wanted = (5 / 6 * (without - without.mean()).square().sum()).sqrt()
    assert float(error) == pytest.approx(float(wanted), rel=1e-5)
    assert float(share) == running.share
    alone = RunningGroupMeans(1)
    alone.add(values[:1], weight[:1])
    assert math.isnan(alone.estimate()[1])
