"""The shared latents of small trees by hand and by brute force; of the pictures' tree in cases that
are plain."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from lcmae.data.hierarchy import Hierarchy, HierarchySettings, Tree
from lcmae.errors import InputError
from lcmae.masking import Checkerboard, CoarseRandom, MaskStrategy, Random
from lcmae.probes.latents.separator import Graph, Levels, expected_levels, graph_of, touched

#        0            root, height 3
#      1   2          height 2
#     3 4 5 6         height 1: each has pixels
BINARY = Graph(np.array([-1, 0, 0, 1, 1, 2, 2]), np.array([1, 1, 1, 2, 2, 2, 2]), np.array([3, 2, 2, 1, 1, 1, 1]))
#   0 - 1 - 2         a chain; pixels hang from every node
CHAIN = Graph(np.array([-1, 0, 1]), np.array([2, 1, 2]), np.array([3, 2, 1]))
#   0 with five children that weigh 1 each, one of which has two children of 3
STAR = Graph(
    np.array([-1, 0, 0, 0, 0, 0, 5, 5]), np.array([4, 1, 1, 1, 1, 1, 3, 3]), np.array([3, 2, 2, 2, 2, 2, 1, 1])
)


def brute_force(graph: Graph, sees: np.ndarray, hides: np.ndarray) -> tuple[int, set[float]]:
    """The smallest weight of all sets that separate, and the levels of the sets that have it."""
    count = len(graph.parent)
    best, levels = 10**9, set()
    for size in range(1, count + 1):
        for nodes in combinations(range(count), size):
            weight = int(graph.dims[list(nodes)].sum())
            if weight <= best and separates(graph, set(nodes), sees, hides):
                levels = levels if weight == best else set()
                best = weight
                levels.add(float((graph.dims * graph.height)[list(nodes)].sum() / weight))
    return best, levels


def separates(graph: Graph, cut: set[int], sees: np.ndarray, hides: np.ndarray) -> bool:
    edges = np.zeros((len(graph.parent),) * 2)
    for node, parent in enumerate(graph.parent):
        if parent >= 0 and node not in cut and parent not in cut:
            edges[node, parent] = 1
    part = connected_components(edges, directed=False)[1]
    left = [node for node in range(len(graph.parent)) if node not in cut]
    return not {part[n] for n in left if sees[n]} & {part[n] for n in left if hides[n]}


@pytest.mark.parametrize(("graph", "owners"), [(BINARY, [3, 4, 5, 6]), (CHAIN, [0, 1, 2]), (STAR, [1, 2, 3, 4, 6, 7])])
def test_small_trees_equal_brute_force_under_every_mask(graph: Graph, owners: list[int]) -> None:
    states = [(True, False), (False, True), (True, True), (False, False)]
    checked = 0
    for number in range(4 ** len(owners)):
        sees, hides = np.zeros(len(graph.parent), bool), np.zeros(len(graph.parent), bool)
        for owner_index, owner in enumerate(owners):
            sees[owner], hides[owner] = states[number // 4**owner_index % 4]
        if not sees.any() or not hides.any():
            continue
        if len(owners) > 4 and number % 41:
            continue  # the star has 4096 masks: a sample of them
        weight, levels = brute_force(graph, sees, hides)
        found = [graph.separator(sees, hides, highest=highest) for highest in (True, False)]
        for one in found:
            assert one.weight == weight
            assert separates(graph, set(one.nodes.tolist()), sees, hides)
        assert found[0].level == pytest.approx(max(levels))
        assert found[1].level == pytest.approx(min(levels))
        checked += 1
    assert checked > 30


def test_by_hand() -> None:
    def levels(sees: list[int], hides: list[int]) -> list[tuple[int, float]]:
        masks = [np.isin(np.arange(7), nodes) for nodes in (sees, hides)]
        found = [BINARY.separator(*masks, highest=highest) for highest in (True, False)]
        return [(one.weight, one.level) for one in found]

    # left half against right half: one number does, node 0 (height 3) or 1 or 2 (height 2)
    assert levels([3, 4], [5, 6]) == [(1, 3.0), (1, 2.0)]
    # one of the left half hidden, all others visible: its parent alone (its own node would be two
    # numbers)
    assert levels([3, 5, 6], [4]) == [(1, 2.0), (1, 2.0)]
    # every second: both parents
    assert levels([3, 5], [4, 6]) == [(2, 2.0), (2, 2.0)]
    # a node that is half hidden is in every cut: 2 numbers of height 1, and nothing else is needed
    assert levels([3], [3]) == [(2, 1.0), (2, 1.0)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_trees_equal_brute_force(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 7))
    parent = np.array([-1] + [data.draw(st.integers(0, node - 1)) for node in range(1, count)])
    height = np.array(data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)))
    dims = np.array(data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)))
    sees = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    hides = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    if not sees.any() or not hides.any():
        return
    graph = Graph(parent, dims, height)
    weight, levels = brute_force(graph, sees, hides)
    found = [graph.separator(sees, hides, highest=highest) for highest in (True, False)]
    assert [one.weight for one in found] == [weight, weight]
    assert [one.level for one in found] == pytest.approx([max(levels), min(levels)])


TREE = Hierarchy(HierarchySettings(), "train", 32, 32, 1).tree


def expected(mask: MaskStrategy, num_masks: int = 16) -> Levels:
    return expected_levels(TREE, (32, 32), (8, 8), mask, num_masks, torch.Generator().manual_seed(0))


def test_a_checkerboard_of_textures_shares_every_part_and_one_of_parts_every_layout() -> None:
    fine = expected(Checkerboard(cell=1, ratio=0.5))
    # each part has two visible and two hidden textures: the part, 3 numbers, beats the pair, 6
    assert fine.share.mean.tolist() == [[0, 0, 1, 0]] * 2
    assert fine.level.mean.tolist() == [2, 2]
    assert float(fine.weight.mean) == 48
    coarse = expected(Checkerboard(cell=2, ratio=0.5))
    assert coarse.share.mean.tolist() == [[0, 1, 0, 0]] * 2
    assert coarse.level.mean.tolist() == [3, 3]
    assert coarse.top.mean.tolist() == [3, 3]
    # and a board of whole layouts, two visible and two hidden, shares the class alone
    whole = expected(CoarseRandom(unit=4, ratio=0.5))
    assert whole.share.mean.tolist() == [[1, 0, 0, 0]] * 2
    assert float(whole.weight.mean) == 1


def test_small_and_large_ratios_share_low_levels_only() -> None:
    """The paper's inverted U, and the cut's symmetry: it does not care which side is hidden."""
    top = {ratio: expected(Random(ratio=ratio), 64).top.mean[0].item() for ratio in (0.05, 0.5, 0.95)}
    assert top[0.5] > 2.5 > max(top[0.05], top[0.95])
    graph, patches = graph_of(TREE), touched(TREE, 32, 32, (8, 8)).numpy()
    hidden = np.random.default_rng(0).random((8, 64)) < 0.3
    for row in hidden:
        sees, hides = (np.concatenate([np.zeros(21, bool), patches @ part]) for part in (~row, row))
        for highest in (True, False):
            one, other = graph.separator(sees, hides, highest=highest), graph.separator(hides, sees, highest=highest)
            assert (one.weight, one.level) == (other.weight, other.level)


def test_patches_larger_than_textures_hide_all_of_theirs() -> None:
    coarse = touched(TREE, 32, 32, (4, 4))
    assert coarse.sum(0).tolist() == [4] * 16
    assert coarse.sum(1).tolist() == [1] * 64
    # patches smaller than a texture: it can be half hidden
    assert touched(TREE, 32, 32, (16, 16)).sum(1).tolist() == [4] * 64


def test_a_mask_that_hides_nothing_shares_nothing() -> None:
    nothing, all_of_it = np.zeros(7, bool), np.ones(7, bool)
    for sees, hides in ((all_of_it, nothing), (nothing, all_of_it)):
        with pytest.raises(InputError, match="hides something and shows something"):
            BINARY.separator(sees, hides, highest=True)


def test_a_tree_too_large_for_its_capacities_is_refused() -> None:
    count = 40_000
    graph = Graph(np.arange(-1, count - 1), np.ones(count, int), np.full(count, 3))
    mask = np.ones(count, bool)
    with pytest.raises(InputError, match="small enough for 32-bit capacities"):
        graph.separator(mask, mask, highest=True)


def test_the_tree_is_a_settings_tree() -> None:
    small = Tree(("class", "part", "texture"), 2, (1, 3, 3))
    graph = graph_of(small)
    assert graph.parent.tolist()[:6] == [-1, 0, 0, 0, 0, 1]
    assert graph.dims.tolist() == [1] + [3] * 20
    assert graph.height.tolist() == [3] + [2] * 4 + [1] * 16
