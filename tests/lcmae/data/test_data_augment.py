"""Augmentation is a function of (seed, epoch, index), and draws what the papers' augmentation
draws."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torch import Tensor

from lcmae.data import Augmentation, augment
from lcmae.data.augmentation import crop_grid, draw_crops
from lcmae.data.counter import hash64, uniforms
from lcmae.errors import InputError
from lcmae.settings import parse


@pytest.fixture
def pictures(rng: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (12, 3, 8, 10), generator=rng, dtype=torch.uint8)


counts = st.integers(-(2**63), 2**63 - 1)


def splitmix64(state: int) -> int:
    """The reference in plain integers: one step of Steele, Lea and Flood's generator from
    `state`."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    return state ^ (state >> 31)


@given(counts, counts)
def test_the_hash_is_splitmix64(first: int, second: int) -> None:
    def step(state: int, count: int) -> int:
        return splitmix64((state + 0x9E3779B97F4A7C15 * count) % 2**64)

    assert int(hash64(first, torch.tensor([second]))[0]) % 2**64 == step(step(0, first), second)


def test_known_values_of_splitmix64() -> None:
    # the first outputs from seed 0, as published with the generator
    outputs = [int(hash64(count)) % 2**64 for count in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_uniforms_are_uniform_and_independent() -> None:
    draws = uniforms(3, torch.arange(4000)[:, None], torch.arange(12))
    assert draws.min() >= 0
    assert draws.max() < 1
    # 100 bins of 480: chi-squared with 99 degrees of freedom stays below 149 in 999 of 1000 cases
    expected = draws.numel() / 100
    assert ((draws.flatten().histc(100, 0, 1) - expected) ** 2 / expected).sum() < 149
    # neighbouring draws, images, seeds: correlations of n pairs are 1 / sqrt(n) wide, five of which
    # are allowed
    correlations = draws.T.corrcoef() - torch.eye(12)
    assert correlations.abs().max() < 5 / math.sqrt(4000)
    for other in (
        uniforms(4, torch.arange(4000)),
        uniforms(3, torch.arange(1, 4001), 0),
        uniforms(0, torch.arange(4000)),
    ):
        assert torch.stack([draws[:, 0], other]).corrcoef()[0, 1].abs() < 5 / math.sqrt(4000)


def test_order_of_counts_matters() -> None:
    assert hash64(1, 2) != hash64(2, 1)
    assert hash64(0, 1) != hash64(1)


def test_none_only_changes_the_type(pictures: Tensor) -> None:
    assert torch.equal(augment(pictures, torch.arange(12), seed=0, epoch=0, settings=None), pictures.float() / 255)


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.permutations(range(12)), st.integers(1, 12))
def test_an_image_is_augmented_alike_in_any_batch_and_order(seed: int, epoch: int, order: list[int], size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (12, 3, 8, 10), generator=generator, dtype=torch.uint8)
    settings = Augmentation()
    whole = augment(pictures, torch.arange(12), seed=seed, epoch=epoch, settings=settings)
    for part in torch.tensor(order).split(size):
        assert torch.equal(augment(pictures[part], part, seed=seed, epoch=epoch, settings=settings), whole[part])


def test_seed_epoch_and_index_each_change_the_crop(pictures: Tensor) -> None:
    same = pictures[:1].expand(4, -1, -1, -1).contiguous()
    settings = Augmentation(flip=False)
    first = augment(same, torch.arange(4), seed=0, epoch=0, settings=settings)
    for other in (
        augment(same, torch.arange(4), seed=1, epoch=0, settings=settings),
        augment(same, torch.arange(4), seed=0, epoch=1, settings=settings),
        augment(same, torch.arange(4) + 1, seed=0, epoch=0, settings=settings)[:-1],
    ):
        assert all(not torch.equal(one, two) for one, two in zip(first, other, strict=False))


def test_it_draws_nothing_from_the_global_generator(pictures: Tensor) -> None:
    before = torch.get_rng_state()
    augment(pictures, torch.arange(12), seed=0, epoch=0, settings=Augmentation())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_crop_of_everything_is_the_image(pictures: Tensor) -> None:
    whole = Augmentation(scale=(1, 1), aspect=(10 / 8, 10 / 8), flip=False)
    pixels = augment(pictures, torch.arange(12), seed=0, epoch=0, settings=whole)
    # sampling places are rounded to float32, 1e-7 of a side, times slopes of up to 255 steps a
    # pixel
    torch.testing.assert_close(pixels, pictures / 255, atol=1e-5, rtol=0)


def test_a_flip_mirrors_half_of_the_images_and_nothing_else(pictures: Tensor) -> None:
    many = pictures[:1].expand(2000, -1, -1, -1).contiguous()
    flipping = Augmentation(scale=(1, 1), aspect=(10 / 8, 10 / 8))
    pixels = augment(many, torch.arange(2000), seed=0, epoch=3, settings=flipping)
    image = many[0] / 255
    unchanged = (pixels - image).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (pixels - image.flip(-1)).abs().amax((1, 2, 3)) < 1e-5
    assert (unchanged ^ mirrored).all()
    assert abs(mirrored.float().mean() - 0.5) < 5 * 0.5 / math.sqrt(2000)  # five standard errors


@given(
    st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)),
    st.sampled_from([(8, 8), (8, 16), (30, 10)]),
)
def test_boxes_lie_inside_and_keep_to_the_settings(
    scale: tuple[float, float], aspect: tuple[float, float], size: tuple[int, int]
) -> None:
    scale, aspect = (min(scale), max(scale)), (min(aspect), max(aspect))
    height, width = size
    settings = Augmentation(scale=scale, aspect=aspect)
    boxes, _ = draw_crops(torch.arange(200), height / width, seed=0, epoch=0, settings=settings)
    left, top, wide, high = boxes.T
    assert (torch.stack([left, top, wide, high, 1 - left - wide, 1 - top - high]) > -1e-9).all()
    ratio = (wide * width) / (high * height)
    assert (ratio > aspect[0] * (1 - 1e-6)).all()
    assert (ratio < aspect[1] * (1 + 1e-6)).all()
    # where no try fitted, the box is the largest central one, whose area the aspect decides
    central = ((wide > 1 - 1e-9) | (high > 1 - 1e-9)) & ((left - (1 - wide) / 2).abs() < 1e-9)
    area = wide * high
    assert ((area > scale[0] - 1e-6) & (area < scale[1] + 1e-6) | central).all()


def test_areas_and_aspects_are_spread_as_the_paper_says() -> None:
    # small boxes always fit, so nothing is rejected: area is even, aspect is even on a log scale
    settings = Augmentation(scale=(0.1, 0.4), aspect=(1 / 2, 2))
    boxes, _ = draw_crops(torch.arange(20000), 1.0, seed=0, epoch=0, settings=settings)
    left, top, wide, high = boxes.T
    for share in (
        (wide * high - 0.1) / 0.3,
        (wide / high).log2() / 2 + 0.5,
        left / (1 - wide),
        top / (1 - high),
    ):
        # Kolmogorov: the largest gap to an even spread is below 1.95 / sqrt(n) in 999 of 1000 cases
        even = (torch.arange(20000) + 0.5) / 20000
        assert (share.sort().values - even).abs().max() < 1.95 / math.sqrt(20000)


def reference_crop(rng: np.random.Generator, settings: Augmentation) -> tuple[float, float]:
    """Area and aspect of one crop of a square image: ten tries, one by one, else the whole
    image."""
    for _ in range(10):
        area = rng.uniform(*settings.scale)
        aspect = math.exp(rng.uniform(math.log(settings.aspect[0]), math.log(settings.aspect[1])))
        if area * aspect < 1 and area / aspect < 1:
            return area, aspect
    return 1, 1


def test_tries_that_do_not_fit_are_drawn_anew() -> None:
    # most tries fail here, so a try that shared draws with the one before it would show
    settings = Augmentation(scale=(0.3, 1), aspect=(1 / 3, 3))
    boxes, _ = draw_crops(torch.arange(20000), 1.0, seed=0, epoch=0, settings=settings)
    ours = torch.stack([boxes[:, 2] * boxes[:, 3], boxes[:, 2] / boxes[:, 3]])
    rng = np.random.default_rng(0)
    theirs = torch.tensor([reference_crop(rng, settings) for _ in range(20000)]).T
    for mine, other in zip(ours, theirs, strict=True):
        # Kolmogorov and Smirnov: two samples of n differ by less than 1.95 sqrt(2 / n) in 999 of
        # 1000 cases
        test: Any = ks_2samp(mine, other)
        assert test.statistic < 1.95 * math.sqrt(2 / 20000)


def test_a_crop_is_the_enlarged_part() -> None:
    # a ramp stays a ramp: the pixel at column j of the crop shows the image at left + (j + 1/2)
    # wide
    ramp = torch.arange(0, 256, 8, dtype=torch.uint8).expand(1, 1, 32, 32).contiguous()
    index = torch.tensor([5])
    settings = Augmentation(scale=(0.3, 0.3), aspect=(1, 1), flip=False)
    boxes, flips = draw_crops(index, 1.0, seed=0, epoch=0, settings=settings)
    pixels = augment(ramp, index, seed=0, epoch=0, settings=settings)[0, 0]
    left, _, wide, _ = boxes[0].tolist()
    positions = 32 * (left + wide * (torch.arange(32) + 0.5) / 32)
    within = (positions > 2) & (positions < 30)  # a bicubic kernel at the border sees pixels repeated
    expected = (8 * (positions - 0.5) / 255).expand(32, 32)
    assert within.sum() > 8
    # torch's cubic kernel (a = -0.75) reproduces a ramp to 0.1 of its step
    torch.testing.assert_close(pixels[:, within], expected[:, within].float(), atol=0.8 / 255, rtol=0)
    assert not flips.any()


def test_the_grid_of_the_whole_image_is_torchs_own() -> None:
    theta = torch.eye(2, 3).expand(2, 2, 3)
    expected = torch.nn.functional.affine_grid(theta, [2, 3, 5, 7], align_corners=False)
    grid = crop_grid(torch.tensor([[0.0, 0, 1, 1]]).expand(2, 4), torch.tensor([False, True]), 5, 7)
    torch.testing.assert_close(grid[0], expected[0])
    torch.testing.assert_close(grid[1], expected[1].flip(1))


@pytest.mark.parametrize(
    "wrong", [{"scale": (0, 1)}, {"scale": (0.5, 0.2)}, {"scale": (0.5, 1.5)}, {"aspect": (2, 1)}, {"aspect": (-1, 1)}]
)
def test_impossible_settings_are_refused_in_one_line(wrong: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(InputError, match=r"expected (scale|aspect)") as error:
        parse(Augmentation, wrong)
    assert "\n" not in str(error.value)
