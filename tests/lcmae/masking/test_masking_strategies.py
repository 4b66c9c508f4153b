"""What each family of masks promises: its figure, even coverage where it claims it, independence,
and words for the impossible."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import (
    STRATEGIES,
    Block,
    Checkerboard,
    CoarseRandom,
    Complementary,
    Grid,
    InverseBlock,
    LossGuided,
    Mask,
    MaskStrategy,
    MultiBlock,
    Noise,
    Random,
    Stripes,
    Window,
    at_ratio,
)
from lcmae.masking.rectangles import depth
from lcmae.objectives import LCMAE
from lcmae.settings import parse
from tests.conftest import tiny_mae

FREE = [strategy() for strategy in STRATEGIES.values() if not strategy.needs_images]
VARIANTS = [
    *FREE,
    *(Noise(colour=colour) for colour in ("red", "blue", "purple")),
    CoarseRandom(ratio=0.6, unit=3),
    Grid(ratio=0.4),
    Checkerboard(ratio=0.7, cell=2),
    Stripes(ratio=0.5, direction="columns", period=2),
    Stripes(ratio=0.3, direction="diagonals", period=3),
    InverseBlock(ratio=0.9, aspect=(0.2, 1.0)),
    Complementary(of=Window()),
    Window(ratio=0.5, aspect=(0.3, 3.0)),
    MultiBlock(ratio=0.85, num_targets=2),
    Block(ratio=0.4, min_block=1, max_block=10),
]
seeds = st.integers(0, 2**31)


def name(strategy: MaskStrategy) -> str:
    changed = strategy.model_dump(exclude_defaults=True, exclude={"kind", "of"})
    return " ".join([type(strategy).__name__, *(f"{key}={value}" for key, value in changed.items())])


every_free_strategy = pytest.mark.parametrize("strategy", FREE, ids=name)
every_variant = pytest.mark.parametrize("strategy", VARIANTS, ids=name)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(mask: Mask, grid: tuple[int, int]) -> Tensor:
    return mask.is_hidden.view(-1, *grid)


def drawn(strategy: MaskStrategy, grid: tuple[int, int], num_masks: int, seed: int = 0) -> Tensor:
    """Maps [mask rows columns], true where hidden."""
    return maps(strategy(num_masks, grid, generator(seed)), grid)


@every_free_strategy
@pytest.mark.parametrize("grid", [(8, 8), (14, 14), (6, 10), (12, 4)])
@pytest.mark.parametrize("ratio", [None, "least", "most"])
def test_counts_are_exact_up_to_one_patch(strategy: MaskStrategy, grid: tuple[int, int], ratio: str | None) -> None:
    num_patches = grid[0] * grid[1]
    expected = strategy.num_hidden(grid)
    if ratio is not None and not isinstance(strategy, Complementary):
        expected = 1 if ratio == "least" else num_patches - 1
        strategy = at_ratio(strategy, expected / num_patches)
    mask = strategy(5, grid, generator(0))
    assert mask.is_hidden.sum(1).tolist() == [expected] * 5
    assert mask.hidden.shape == (5, expected)


@every_variant
def test_even_coverage_where_it_is_claimed(strategy: MaskStrategy) -> None:
    num_masks = 4000
    claimed = [grid for grid in ((8, 8), (6, 12), (12, 12), (14, 9)) if strategy.is_uniform(grid)]
    for grid in claimed:
        ratio = strategy.num_hidden(grid) / (grid[0] * grid[1])
        error = (drawn(strategy, grid, num_masks).double().mean(0) - ratio).abs().max()
        # binomial: at most 144 patches, of which one in a million exceeds five deviations
        assert error < 5 * (ratio * (1 - ratio) / num_masks) ** 0.5
    even = not isinstance(strategy, Block | Window | MultiBlock)
    assert bool(claimed) == even


@pytest.mark.parametrize("strategy", [Block(), Window(), MultiBlock()], ids=name)
def test_uneven_coverage_is_not_claimed(strategy: MaskStrategy) -> None:
    coverage = drawn(strategy, (8, 8), 4000).double().mean(0)
    assert coverage.max() - coverage.min() > 0.3
    assert not strategy.is_uniform((8, 8))


@every_variant
@pytest.mark.parametrize("grid", [(8, 8), (6, 9), (10, 6)])
def test_every_patch_is_sometimes_hidden_and_sometimes_visible(strategy: MaskStrategy, grid: tuple[int, int]) -> None:
    share = drawn(strategy, grid, 2000, seed=1).double().mean(0)
    # the last row and column included, which published ports of I-JEPA, BEiT and HPM never reach
    assert share.min() > 0
    assert share.max() < 1


@every_free_strategy
def test_one_image_says_nothing_about_the_next(strategy: MaskStrategy) -> None:
    hidden = strategy(16000, (4, 4), generator(2)).is_hidden.double()
    # complementary masks come in twos, and it is the pairs that are independent
    step = 2 if isinstance(strategy, Complementary) else 1
    first, second = hidden[0 :: 2 * step], hidden[step :: 2 * step]
    joint = first.T @ second / len(first)
    covariance = (joint - first.mean(0)[:, None] * second.mean(0)).abs().max()
    # deviation of each covariance below 0.25 / sqrt(pairs), six of them allowed
    assert covariance < 6 * 0.25 / len(first) ** 0.5


@every_variant
def test_a_mask_lives_where_its_generator_does(strategy: MaskStrategy) -> None:
    expected = strategy(8, (8, 8), generator(3))
    # whatever device the rest of the program works on: anything created elsewhere would be meta,
    # without values
    with torch.device("meta"):
        mask = strategy(8, (8, 8), generator(3))
    assert mask.is_hidden.device.type == "cpu"
    assert torch.equal(mask.is_hidden, expected.is_hidden)
    assert torch.equal(mask.hidden, expected.hidden)


@every_free_strategy
def test_a_share_is_part_of_the_whole(strategy: MaskStrategy) -> None:
    whole = strategy(12, (8, 6), generator(4))
    share = strategy(12, (8, 6), generator(4), share=slice(4, 8))
    assert torch.equal(share.is_hidden, whole[4:8].is_hidden)
    assert torch.equal(share.visible, whole[4:8].visible)


@pytest.mark.parametrize(
    ("strategy", "grid", "message"),
    [
        (Block(max_block=99), (8, 8), r"^expected max_block of at most 64 patches on a 8x8 grid, got 99$"),
        (CoarseRandom(unit=5), (4, 9), r"^expected a mask unit of at most 4 patches on a 4x9 grid, got 5$"),
        (CoarseRandom(unit=4), (4, 4), r"^expected a mask unit of at most 3 patches on a 4x4 grid, got 4$"),
        (
            Noise(colour="green", wide=9),
            (8, 8),
            r"^expected a filter of at most 4 patches for green noise on a 8x8 grid",
        ),
        (Checkerboard(cell=8), (4, 8), r"^expected squares of at most 7 patches on a 4x8 grid, got 8$"),
        (Stripes(period=5), (4, 9), r"^expected a period of at most 4 for rows of a 4x9 grid, got 5$"),
        (Complementary(), (3, 5), r"^expected an even number of patches for complementary masks, got a 3x5 grid$"),
        (Complementary(of=Grid(cell=5)), (4, 4), r"^expected a cell of at most 4 patches on a 4x4 grid, got 5$"),
        (Random(ratio=0.99), (4, 4), r"^masking ratio 0.99 leaves 0 of the 16 patches"),
    ],
)
def test_the_impossible_is_refused_before_training(strategy: MaskStrategy, grid: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        strategy.check(grid)
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match=message):
        strategy(1, grid, generator(0))


@pytest.mark.parametrize(
    ("strategy", "values", "message"),
    [
        (Noise, {"sigma": 2.0, "wide": 1.0}, r"expected wide above sigma \(2.0\), got 1.0"),
        (Noise, {"colour": "mauve"}, r"^colour: input should be 'red', 'green', 'blue' or 'purple', got 'mauve'$"),
        (Stripes, {"period": 3, "phase": 3}, r"expected a phase of 0 to 2, got 3"),
        (
            MultiBlock,
            {"target_scale": (0.5, 1.5)},
            r"^target_scale: expected .* 0 < low <= high <= 1, got \(0.5, 1.5\)$",
        ),
        (Window, {"aspect": (0.0, 1.0)}, r"^aspect: expected .* 0 < low <= high, got \(0.0, 1.0\)$"),
        (Complementary, {"ratio": 0.6}, r"^ratio: .* got 0.6$"),
        (CoarseRandom, {"unit": 0}, r"^unit: .* got 0$"),
        (LossGuided, {}, r"^checkpoint: field required"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    strategy: type[MaskStrategy], values: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        parse(strategy, values)
    assert "\n" not in str(refusal.value)


def test_another_ratio_keeps_the_rest() -> None:
    assert at_ratio(Grid(cell=3), 0.4) == Grid(ratio=0.4, cell=3)
    with pytest.raises(InputError, match=r"^ratio: .*, got 1.5$"):
        at_ratio(Random(), 1.5)
    with pytest.raises(InputError, match=r"^ratio: .*, got 0.75$"):
        at_ratio(Complementary(), 0.75)


@given(unit=st.integers(1, 4), down=st.integers(2, 4), across=st.integers(1, 4), ratio=st.floats(0.1, 0.9), seed=seeds)
def test_coarse_units_are_whole_but_for_one(unit: int, down: int, across: int, ratio: float, seed: int) -> None:
    strategy, grid = CoarseRandom(unit=unit, ratio=ratio), (unit * down, unit * across)
    if not 0 < int(grid[0] * grid[1] * (1 - ratio) + 1e-9) < grid[0] * grid[1]:
        return
    hidden = drawn(strategy, grid, 3, seed).view(3, down, unit, across, unit).sum((2, 4))
    partly = (hidden > 0) & (hidden < unit**2)
    assert partly.sum((1, 2)).max() <= 1


def test_units_in_pixels() -> None:
    # SimMIM's 32 pixels, on a Swin with patches of 4 and a ViT with patches of 16
    assert CoarseRandom.of_pixels(32, patch_size=4, ratio=0.6) == CoarseRandom(unit=8, ratio=0.6)
    assert CoarseRandom.of_pixels(32, patch_size=16).unit == 2
    for wrong in (8, 24):
        with pytest.raises(InputError, match=rf"whole number of 16-pixel patches, got {wrong} pixels$"):
            CoarseRandom.of_pixels(wrong, patch_size=16)


@given(
    rows=st.integers(2, 9), columns=st.integers(2, 9), ratio=st.floats(0.05, 0.95), slant=st.floats(0.2, 5), seed=seeds
)
def test_a_window_is_one_rectangle_but_for_one_trimmed_line(
    rows: int, columns: int, ratio: float, slant: float, seed: int
) -> None:
    strategy = Window(ratio=ratio, aspect=(slant, slant))
    num_visible = int(rows * columns * (1 - ratio) + 1e-9)
    if num_visible == 0:
        return
    for hidden in drawn(strategy, (rows, columns), 3, seed):
        assert excess(~hidden) < min(rows, num_visible)


@given(rows=st.integers(2, 9), columns=st.integers(2, 9), ratio=st.floats(0.05, 0.95), seed=seeds)
def test_an_inverse_block_is_a_window_rolled(rows: int, columns: int, ratio: float, seed: int) -> None:
    num_visible = int(rows * columns * (1 - ratio) + 1e-9)
    if num_visible == 0:
        return
    for hidden in drawn(InverseBlock(ratio=ratio), (rows, columns), 2, seed):
        rolls = (hidden.roll((down, across), (0, 1)) for down in range(rows) for across in range(columns))
        assert min(excess(~rolled) for rolled in rolls) < min(rows, num_visible)


def excess(visible: Tensor) -> int:
    """Hidden patches in the smallest rectangle round the visible ones."""
    row, column = visible.nonzero().T
    area = (row.max() - row.min() + 1) * (column.max() - column.min() + 1)
    return int(area - visible.sum())


def test_a_window_reaches_every_corner() -> None:
    hidden = drawn(Window(), (8, 8), 500)
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert not hidden[:, row, column].all()


def test_an_inverse_block_crosses_the_border() -> None:
    visible = ~drawn(InverseBlock(ratio=0.75, aspect=(1.0, 1.0)), (8, 8), 200)
    crossing = visible[:, 0].any(1) & visible[:, -1].any(1)
    # a square of 4 of 8 rows crosses the border from 3 of 8 places
    assert abs(crossing.double().mean() - 3 / 8) < 5 * (3 / 8 * 5 / 8 / 200) ** 0.5


def test_depth_counts_rings() -> None:
    top, left, height, width = (torch.tensor([side]) for side in (1.0, 1.0, 3.0, 4.0))
    expected = [
        [0, 0, 0, 0, 0, 0, -1],
        [0, 1, 1, 1, 1, 0, -1],
        [0, 1, 2, 2, 1, 0, -1],
        [0, 1, 1, 1, 1, 0, -1],
        [0, 0, 0, 0, 0, 0, -1],
    ]
    assert depth(top, left, height, width, (5, 7)).tolist() == [expected]


SQUARE = MultiBlock(ratio=0.25, num_targets=1, target_scale=(0.25, 0.25), target_aspect=(1, 1), context_scale=(1, 1))


def test_a_target_of_the_right_size_is_hidden_whole() -> None:
    hidden = drawn(SQUARE, (8, 8), 50)
    assert all(excess(mask) == 0 for mask in hidden)


@pytest.mark.parametrize("ratio", [0.15, 0.4])
def test_targets_shrink_and_grow_by_rings(ratio: float) -> None:
    square, other = drawn(SQUARE, (8, 8), 50), drawn(at_ratio(SQUARE, ratio), (8, 8), 50)
    # the same generator draws the same target
    smaller, larger = (other, square) if ratio < 0.25 else (square, other)
    assert (smaller & ~larger).sum() == 0


def test_the_frame_outside_the_context_is_hidden() -> None:
    # a context of 6 x 6 on 8 x 8 at any place leaves 28 patches outside; the target is one patch
    strategy = MultiBlock(
        ratio=29 / 64,
        num_targets=1,
        target_scale=(1 / 64, 1 / 64),
        target_aspect=(1, 1),
        context_scale=(0.5625, 0.5625),
    )
    for hidden in drawn(strategy, (8, 8), 50):
        boxes = [~hidden[top : top + 6, left : left + 6] for top in range(3) for left in range(3)]
        # all that is visible lies in one 6 x 6 box, but for the patch that chance adds where the
        # target is outside
        assert max(int(box.sum()) for box in boxes) >= 35


def test_area_and_aspect_are_drawn_apart() -> None:
    strategy = MultiBlock(num_targets=1, target_scale=(0.05, 0.2), target_aspect=(0.5, 2.0), context_scale=(1, 1))
    grid, num_images = (60, 60), 2000
    within = strategy.preference(num_images, grid, generator(0)).view(-1, *grid) >= 1
    height, width = within.any(2).sum(1).double(), within.any(1).sum(1).double()
    sides = torch.stack([(height * width).log(), (height / width).log()])
    # correlation of independent draws: deviation 1 / sqrt(2000), five allowed; one number for both
    # gives nearly 1
    assert torch.corrcoef(sides)[0, 1].abs() < 5 / num_images**0.5


def test_filters_are_what_they_say() -> None:
    grid, cpu = (8, 12), torch.device("cpu")
    red, green, blue, purple = (Noise(colour=colour).filter(grid, cpu) for colour in ("red", "green", "blue", "purple"))
    one = torch.ones_like(red)
    one[0, 0] = 0  # the mean has no rank
    torch.testing.assert_close(red + blue, one)
    torch.testing.assert_close(green + purple, one)
    assert red[0, 1:].diff().max() < 0
    assert blue[0, 1:].diff().min() > 0
    assert green.max() == 1
    assert green[0, 1] < green.max()
    assert green[-1, -1] < green.max()
    # 2 (pi sigma f)^2 at one cycle in twelve patches
    assert abs(float(red[0, 1]) - 2.718281828 ** (-2 * (3.14159265 * 0.75 / 12) ** 2)) < 1e-6


def test_colours_order_by_smoothness() -> None:
    def changes(strategy: MaskStrategy) -> float:
        hidden = drawn(strategy, (14, 14), 300)
        return float((hidden[:, 1:] != hidden[:, :-1]).double().mean())

    red, blue, white = changes(Noise(colour="red")), changes(Noise(colour="blue")), changes(Random())
    assert red < 0.8 * white < white < blue


def test_patterns_are_regular() -> None:
    assert drawn(Checkerboard(phase=0), (2, 4), 1)[0].tolist() == [[False, True] * 2, [True, False] * 2]
    assert drawn(Checkerboard(phase=1, cell=2), (2, 4), 1)[0].tolist() == [[True, True, False, False]] * 2
    assert drawn(Stripes(phase=1), (4, 2), 1)[0].tolist() == [[True] * 2] * 3 + [[False] * 2]
    assert drawn(Stripes(direction="columns", phase=0), (2, 4), 1)[0].tolist() == [[False, True, True, True]] * 2
    assert drawn(Stripes(direction="diagonals", period=2, phase=0, ratio=0.5), (2, 2), 1)[0].tolist() == [
        [False, True],
        [True, False],
    ]


@given(num_masks=st.integers(1, 7), seed=seeds, of=st.sampled_from([Random(), Block(), Window(), Noise(), Grid()]))
def test_complementary_masks_partition_the_image(num_masks: int, seed: int, of: MaskStrategy) -> None:
    mask = Complementary(of=of)(num_masks, (6, 8), generator(seed))  # pyright: ignore[reportArgumentType]
    assert len(mask) == num_masks
    for first in range(0, num_masks - 1, 2):
        assert torch.equal(mask.visible[first], mask.hidden[first + 1])
        assert torch.equal(mask.is_hidden[first], ~mask.is_hidden[first + 1])


def test_chance_decides_which_of_a_pair_comes_first() -> None:
    first = drawn(Complementary(of=Window()), (8, 8), 8000)[0::2].double().mean(0)
    # a window alone would show the centre and hide the corners; five deviations of 4000 draws
    assert (first - 0.5).abs().max() < 5 * 0.5 / 4000**0.5


def test_two_masks_an_image_are_its_pair(images: Tensor) -> None:
    mask = LCMAE(mask=Complementary(of=Window())).draw(tiny_mae(), images, generator(0), num_masks=2)
    assert torch.equal(mask.is_hidden[0::2], ~mask.is_hidden[1::2])
