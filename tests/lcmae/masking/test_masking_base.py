"""Laws of every mask strategy: a mask is a split of the patches, its count is exact, and it is a
function of its generator."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from lcmae.errors import InputError
from lcmae.masking import AnyMask, Block, Grid, Mask, MaskStrategy, Random, at_ratio, stack_masks
from lcmae.settings import members, parse

# what looks at a checkpoint first has tests of its own
STRATEGIES = [
    strategy
    for strategy in members(AnyMask)
    if issubclass(strategy, MaskStrategy) and not any(field.is_required() for field in strategy.model_fields.values())
]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.__name__)

grids = st.tuples(st.integers(4, 9), st.integers(4, 9))
seeds = st.integers(0, 2**31)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(strategy: type[MaskStrategy], num_images: int, grid: tuple[int, int], seed: int, **values: float) -> Mask:
    """Masks, or the example is dropped where the strategy says in words that this grid or ratio
    cannot be."""
    try:
        return parse(strategy, values)(num_images, grid, generator(seed))
    except InputError:
        reject()


@every_strategy
@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(grid=grids, ratio=st.floats(0.05, 0.95), seed=seeds)
def test_a_mask_is_a_permutation_with_an_exact_count(
    strategy: type[MaskStrategy], grid: tuple[int, int], ratio: float, seed: int
) -> None:
    num_images, num_patches = 3, grid[0] * grid[1]
    mask = draw(strategy, num_images, grid, seed, ratio=ratio)
    # the count of MAE's release, but for products like 10 * 0.1 that fall just short of a whole
    # number
    num_visible = math.floor(num_patches * (1 - ratio) + 1e-9)
    assert mask.visible.shape == (num_images, num_visible)
    assert mask.hidden.shape == (num_images, num_patches - num_visible)
    assert mask.ratio == (num_patches - num_visible) / num_patches
    order = torch.cat([mask.visible, mask.hidden], dim=1)
    assert torch.equal(order.sort(1).values, torch.arange(num_patches).expand(num_images, -1))
    # both parts in raster order, and the map says the same
    for part, is_hidden in ((mask.visible, False), (mask.hidden, True)):
        assert torch.equal(part, part.sort(1).values)
        assert (mask.is_hidden.gather(1, part) == is_hidden).all()


@every_strategy
@given(grid=grids, seed=seeds)
def test_a_mask_is_a_function_of_its_generator(strategy: type[MaskStrategy], grid: tuple[int, int], seed: int) -> None:
    before = torch.random.get_rng_state()
    first, again = (draw(strategy, 4, grid, seed).is_hidden for _ in range(2))
    assert torch.equal(first, again)
    # no global generator was touched
    assert torch.equal(torch.random.get_rng_state(), before)


@every_strategy
def test_images_get_masks_of_their_own(strategy: type[MaskStrategy]) -> None:
    rng = generator(0)
    masks = [strategy()(64, (8, 8), rng).is_hidden for _ in range(2)]
    different = {tuple(row) for row in torch.cat(masks).tolist()}
    # only a fixed pattern may repeat, and it has at least two phases
    assert len(different) >= 2
    if strategy in (Random, Block, Grid):
        assert len(different) == 128


@pytest.mark.parametrize("strategy", [Random, Block, Grid])
def test_one_image_says_nothing_about_the_next(strategy: type[MaskStrategy]) -> None:
    hidden = strategy(ratio=0.5)(8000, (4, 4), generator(0)).is_hidden.double()
    first, second = hidden[0::2], hidden[1::2]
    joint = first.T @ second / len(first)
    # 256 covariances of 4000 pairs: deviation below 0.25 / sqrt(4000) = 0.004 each, six deviations
    # allowed
    assert (joint - first.mean(0)[:, None] * second.mean(0)).abs().max() < 0.024


@pytest.mark.parametrize("strategy", [Random(), Block(), Block(ratio=0.4), Grid(), Grid(ratio=0.4, cell=3)])
@pytest.mark.parametrize("grid", [(7, 7), (5, 8), (8, 5)])
def test_every_patch_is_sometimes_hidden_and_sometimes_visible(strategy: MaskStrategy, grid: tuple[int, int]) -> None:
    share = strategy(2000, grid, generator(1)).is_hidden.double().mean(0)
    # last row and column included, which two published ports of other strategies never reach
    assert share.min() > 0.05
    assert share.max() < 0.995


def test_random_hides_every_patch_alike() -> None:
    share = Random(ratio=0.75)(20000, (3, 5), generator(2)).is_hidden.double().mean(0)
    # 15 patches of which 12 are hidden; deviation sqrt(.8 * .2 / 20000) = 0.003, five of them
    # allowed
    assert (share - 0.8).abs().max() < 0.015


def test_random_hides_pairs_as_a_draw_without_return_does() -> None:
    hidden = Random(ratio=0.5)(20000, (3, 4), generator(3)).is_hidden.double()
    pairs = (hidden.T @ hidden / len(hidden)).fill_diagonal_(6 / 12 * 5 / 11)
    assert (pairs - 6 / 12 * 5 / 11).abs().max() < 0.02


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), seed=seeds)
def test_grid_shows_one_of_each_cell(rows: int, columns: int, seed: int) -> None:
    assume(rows * columns > 1)
    visible = ~Grid(ratio=0.75, cell=2)(3, (2 * rows, 2 * columns), generator(seed)).is_hidden
    cells = visible.reshape(3, rows, 2, columns, 2)
    assert (cells.sum((2, 4)) == 1).all()


@given(grid=grids, cell=st.integers(2, 4), ratio=st.floats(0.1, 0.9), seed=seeds)
def test_grid_shows_the_same_share_of_every_cell(grid: tuple[int, int], cell: int, ratio: float, seed: int) -> None:
    visible = ~draw(Grid, 2, grid, seed, ratio=ratio, cell=cell).is_hidden.reshape(2, *grid)
    cells = [
        visible[:, top : top + cell, left : left + cell].flatten(1)
        for top in range(0, grid[0], cell)
        for left in range(0, grid[1], cell)
    ]
    counts = torch.stack([patches.sum(1) for patches in cells], dim=1).double()
    sizes = torch.tensor([patches.shape[1] for patches in cells])
    # one share fits all cells, cut ones too, to within one patch
    assert (((counts - 1) / sizes).amax(1) <= ((counts + 1) / sizes).amin(1)).all()


@given(seed=seeds)
def test_block_hides_whole_rectangles_but_for_the_last(seed: int) -> None:
    # blocks of exactly 3 x 3, and 9 to hide: one untrimmed square anywhere
    strategy = Block(ratio=0.75, min_block=9, max_block=9, aspect=(1.0, 1.0))
    assert strategy.num_hidden((3, 4)) == 9
    rows, columns = strategy(1, (3, 4), generator(seed)).is_hidden.reshape(3, 4).nonzero().T.unique_consecutive(dim=1)
    assert {(int(row), int(column)) for row, column in zip(rows, columns, strict=True)} in (
        {(row, column + start) for row in range(3) for column in range(3)} for start in (0, 1)
    )


def test_block_hides_in_bigger_pieces_than_random() -> None:
    def edges(strategy: MaskStrategy) -> float:
        hidden = strategy(500, (14, 14), generator(4)).is_hidden.reshape(-1, 14, 14)
        return float((hidden[:, 1:] != hidden[:, :-1]).double().mean())

    assert edges(Block(ratio=0.5)) < 0.5 * edges(Random(ratio=0.5))


@every_strategy
@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.5, -0.1, math.nan, math.inf, "much"])
def test_impossible_ratios_are_refused_in_one_line(strategy: type[MaskStrategy], ratio: float) -> None:
    with pytest.raises(InputError, match=r"^ratio: .* got ") as refusal:
        parse(strategy, {"ratio": ratio})
    assert "\n" not in str(refusal.value)


@every_strategy
def test_misspelt_settings_are_refused(strategy: type[MaskStrategy]) -> None:
    with pytest.raises(InputError, match=r"^raito: "):
        parse(strategy, {"raito": 0.5})


@pytest.mark.parametrize(("ratio", "grid"), [(0.999, (4, 4)), (0.001, (1, 1)), (0.5, (1, 1))])
def test_a_ratio_that_leaves_nothing_is_refused(ratio: float, grid: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"^masking ratio .* expected at least one visible and one hidden$"):
        Random(ratio=ratio)(1, grid, generator(0))


def test_ten_patches_at_ratio_nine_tenths_keep_one() -> None:
    assert Random(ratio=0.9).num_hidden((2, 5)) == 9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"aspect": (0.0, 2.0)}, r"^aspect: expected \(low, high\) with 0 < low <= high, got "),
        ({"aspect": (2.0, 1.0)}, r"^aspect: expected \(low, high\) with 0 < low <= high, got "),
        ({"min_block": 9, "max_block": 4}, r"expected max_block >= min_block \(9\), got 4"),
        ({"min_block": 0}, "min_block: "),
    ],
)
def test_blocks_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(Block, values)


def test_shapes_too_big_for_the_grid_are_refused() -> None:
    with pytest.raises(InputError, match=r"^expected min_block of at most 4 patches on a 2x2 grid, got 5$"):
        Block(min_block=5)(1, (2, 2), generator(0))
    with pytest.raises(InputError, match=r"^expected a cell of at most 2 patches on a 2x9 grid, got 3$"):
        Grid(cell=3)(1, (2, 9), generator(0))


def test_from_hidden_wants_equal_counts() -> None:
    with pytest.raises(InputError, match=r"^expected the same number of hidden patches in every image, got 1 to 2$"):
        Mask.from_hidden(torch.tensor([[True, False, False], [True, True, False]]))


@given(num_patches=st.integers(2, 20), seed=seeds, data=st.data())
def test_from_hidden_and_complement_are_what_they_say(num_patches: int, seed: int, data: st.DataObject) -> None:
    num_hidden = data.draw(st.integers(0, num_patches))
    chosen = torch.rand(3, num_patches, generator=generator(seed)).argsort(1) < num_hidden
    mask = Mask.from_hidden(chosen)
    assert mask.hidden.tolist() == [row.nonzero().flatten().tolist() for row in chosen]
    assert mask.visible.tolist() == [(~row).nonzero().flatten().tolist() for row in chosen]
    other, expected = mask.complement(), Mask.from_hidden(~chosen)
    for name in ("visible", "hidden", "is_hidden"):
        assert torch.equal(getattr(other, name), getattr(expected, name))
    both = stack_masks([mask, mask[1:]])
    assert len(both) == 5
    assert torch.equal(both[3:].hidden, mask.hidden[1:])


def test_none_hides_nothing() -> None:
    mask = Mask.none(2, 6)
    assert mask.hidden.shape == (2, 0)
    assert mask.visible.tolist() == [list(range(6))] * 2
    assert mask.ratio == 0


def test_every_strategy_goes_by_its_own_name() -> None:
    kinds = [get_args(strategy.model_fields["kind"].annotation) for strategy in STRATEGIES]
    assert len(set(kinds)) == len(STRATEGIES)
    for strategy in STRATEGIES:
        assert parse(strategy, strategy().model_dump_json()) == strategy()


@given(
    st.sampled_from([cls for cls in STRATEGIES if not cls.needs_images]),
    st.floats(0.001, 0.999),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
@settings(max_examples=300, deadline=None)
def test_what_check_lets_pass_is_drawn_and_the_rest_is_one_line(
    cls: type[MaskStrategy], ratio: float, grid: tuple[int, int]
) -> None:
    try:
        strategy = at_ratio(cls(), ratio)
    except InputError:
        strategy = cls()  # a strategy of one ratio
    try:
        strategy.check(grid)
    except InputError:
        with pytest.raises(InputError, match=r"^[^\n]+$"):
            strategy(2, grid, torch.Generator().manual_seed(0))
        return
    mask = strategy(2, grid, torch.Generator().manual_seed(0))
    assert mask.hidden.shape[1] == strategy.num_hidden(grid)
    assert mask.visible.shape[1] > 0
