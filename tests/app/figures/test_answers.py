"""Every page answers in a sentence with its interval, and claims no more than it."""

import math
import re
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as some

from lcmae.app.dashboard.page import ProbePage
from lcmae.app.dashboard.pages import PAGES
from lcmae.app.figures import answers, claims, training
from lcmae.app.figures.answers import Answer, Headline, Number, against, best_of, level, number, of_runs, verdict
from tests.app import computed, synthetic

PROBES = [page.name for page in PAGES if page.is_probe]
MOST_LETTERS = 36
"""Of what a tile of a run says that its number is: two lines."""

INTERVAL = re.compile(r"± \d|\(-?[\d.]+ to -?[\d.]+\)")


def page(name: str) -> ProbePage:
    return import_module(f"lcmae.app.dashboard.pages.{name}").PAGE


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("count", [1, 3])
def test_every_page_answers_and_names_an_interval(name: str, count: int):
    results = {run: synthetic.RESULTS[name](seed=seed) for seed, run in enumerate("abc"[:count])}
    found = page(name).answer(results)
    assert found.sentence.endswith(".")
    assert "–" not in found.sentence, "no number is missing"
    assert "nan" not in found.sentence.lower()
    assert 1 <= len(found.tiles) <= 4
    shown = [found.sentence, *(tile.interval for tile in found.tiles)]
    assert INTERVAL.search(shown[0]) or not any(shown[1:]), "a tile has an interval, so the sentence has one"
    if count > 1:
        assert any(re.search(rf"\b{run}\b", found.sentence) for run in results)
        assert {tile.label for tile in found.tiles} <= set(results)
        assert all(3 < len(tile.quantity.partition(" [")[0]) <= MOST_LETTERS for tile in found.tiles)


def test_a_tile_of_a_run_says_what_its_number_is_and_in_which_unit():
    results = {run: synthetic.reconstruction(seed=seed) for seed, run in enumerate("ab")}
    found = page("reconstruction").answer(results)
    assert {tile.quantity for tile in found.tiles} == {"error of hidden patches [squared input units]"}
    sizes = of_runs(
        {run: xr.Dataset({"size": ((), 1.0, {"units": "patches"})}) for run in "ab"}, Headline("size", "size", "lowest")
    )
    assert [(tile.label, tile.quantity, tile.value) for tile in sizes.tiles] == [
        ("a", "size", "1 patches"), ("b", "size", "1 patches"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["reconstruction", "local_contrast", "bounds", "mask_graph", "hierarchy"])
def test_runs_that_are_the_same_cannot_be_told_apart(name: str):
    result = synthetic.RESULTS[name](seed=0)
    assert "cannot be told apart" in page(name).answer({"a": result, "b": result.copy()}).sentence


@pytest.mark.parametrize(
    "name", ["reconstruction", "transfer", "decoder_attention", "receptive_field", "spectrum", "fidelity"]
)
def test_numbers_stand_beside_those_of_the_baselines(name: str):
    [result] = [computed.with_baselines(name)]
    found = page(name).answer({"a": result})
    assert "untrained" in f"{found}"


def test_a_result_without_intervals_makes_no_claim():
    bare = synthetic.reconstruction(seed=0).drop_vars(["error_sem", "error_nearest_sem"])
    found = page("reconstruction").answer({"a": bare})
    assert "is shown, without an interval, beside" in found.sentence
    assert not re.search(r"\b(above|below)\b", found.sentence)
    both = page("reconstruction").answer({"a": bare, "b": synthetic.reconstruction(seed=5)})
    assert "cannot be told apart" in both.sentence


def test_one_image_has_no_interval_and_no_failure():
    found = page("local_contrast").answer({"a": synthetic.local_contrast(one_image=True)})
    assert "largest part" in found.sentence


def test_runs_of_other_units_are_not_ordered_among_each_other():
    found = page("reconstruction").answer(
        {"a": synthetic.reconstruction(seed=0), "n": synthetic.reconstruction(seed=1, normalised=True)}
    )
    assert found.sentence.count("lowest") == 2


ends = some.floats(-5, 5, allow_nan=False)
width = some.floats(0, 3, allow_nan=False)


@given(ends, width, ends, width)
def test_a_word_of_order_is_never_said_where_the_difference_holds_0(a: float, up: float, b: float, down: float):
    one, other = Number(a, a - up, a + up), Number(b, b - down, b + down)
    words = against(one, {"X": other})
    apart = abs(a - b) > math.hypot(up, down)
    assert ("above" in words or "below" in words) == apart
    assert apart or "cannot be told apart" in words
    found = best_of({"one": one, "other": other}, "highest")
    assert found is not None
    assert bool(found.alike) == (not apart)


def test_paired_groups_decide_between_runs():
    """Two runs whose intervals overlap widely, while every group of images says the same: told
    apart by the pairs, and only by them."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=64)

    def result(shift: float) -> xr.Dataset:
        values = images + shift + 0.01 * rng.normal(size=64)
        groups = values.reshape(8, 8).mean(0)  # image i is of group i mod 8
        about = {"long_name": "x", "units": "1"}
        sem = {**about, "degrees_of_freedom": 63}
        return xr.Dataset({
            "x": xr.Variable((), values.mean(), about),
            "x_sem": xr.Variable((), values.std(ddof=1) / 8, sem),
            "x_groups": xr.Variable("group", groups, {**about, "num_images": 64}),
        })  # fmt: skip

    headline = Headline("x", "x", "lowest")
    a, b = result(0.0), result(0.1)
    assert verdict(answers.difference(number(a, "x"), number(b, "x"))) == "cannot be told apart from"
    assert re.search(r"; next is b, .* \(higher by 0\.(09|10)", of_runs({"a": a, "b": b}, headline).sentence)
    highest = of_runs({"a": a, "b": b}, Headline("x", "x", "highest")).sentence
    assert highest.startswith("b has the highest")
    assert re.search(r"; next is a, .* \(lower by 0\.(09|10)", highest)
    without = {name: one.drop_vars("x_groups") for name, one in (("a", a), ("b", b))}
    assert "cannot be told apart" in of_runs(without, headline).sentence


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (Number(0.782, 0.771, 0.793, is_share=True), "78.2 ± 1.1 %"),
        (Number(0.42, 0.31, 0.60, "patches"), "0.42 (0.31 to 0.60) patches"),
        (Number(12.0, 10.0, 14.0), "12.0 ± 2.0"),
        (Number(1234.0, 1134.0, 1334.0, "px"), "1234 ± 100 px"),
        (Number(0.5, unit="dB"), "0.5 dB"),
        (level(0.1, share=True), "10 %"),
    ],
)
def test_numbers_are_written_to_two_digits_of_their_interval(shown: Number, words: str):
    assert str(shown) == words


def test_nothing_is_never_minus_nothing():
    tile = Number(0.052, -0.0002, 0.104).tile("a")
    assert tile.interval == "0.000 to 0.104"
    assert str(Number(-0.00001, -0.4, 0.4)).startswith("0.00 ")


def test_brackets_hold_no_brackets():
    own, other = Number(0.9, 0.89, 0.91, is_share=True), Number(0.5, 0.45, 0.52, is_share=True)
    assert against(own, {"X": other}) == "is above X (50.0; 45.0 to 52.0 %)"


def test_many_runs_are_counted_not_listed():
    results = {f"run{seed}": synthetic.reconstruction(seed=seed) for seed in range(30)}
    found = page("reconstruction").answer(results)
    assert len(found.sentence) < 250
    assert len(found.tiles) == 4
    assert isinstance(found, Answer)


def test_training_says_where_a_run_stands_against_its_collapse_level():
    def run(loss: float, collapse: float = 0.4) -> xr.Dataset:
        lines = [
            {"step": 10, "loss": 1.0, "collapse": collapse, "lr": 0.1},
            {"step": 20, "loss": loss, "collapse": collapse, "lr": 0.1},
        ]
        return training.dataset(lines, "squared input units")

    assert "10 % of its collapse level: the rest was learned" in training.answer({"a": run(0.04)}).sentence
    assert "nothing but the mean patch" in training.answer({"a": run(0.4)}).sentence
    both = training.answer({"a": run(0.2), "b": run(0.04)})
    assert "b has the lowest loss against its own collapse level, 10 % (a 50 %)" in both.sentence
    assert [tile.label for tile in both.tiles] == ["b, of collapse", "a, of collapse"]
    assert "No picked run" in training.answer({"a": run(0.2).drop_vars("collapse")}).sentence


def test_claims_are_counted_by_verdict():
    outcomes = [
        SimpleNamespace(verdict=verdict) for verdict in ("reproduced", "reproduced", "contradicted", "not decidable")
    ]
    sentence = claims.answer(outcomes).sentence  # pyright: ignore[reportArgumentType]
    assert "Of the 4 claims, 2 are reproduced and 1 contradicted" in sentence
    assert "1 cannot be decided" in sentence
    assert "1 is reproduced and 1 contradicted" in claims.answer(outcomes[1:]).sentence  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("reproduced", "The one claim is reproduced by an interval that lies on one side of the level that decides."),
        (
            "contradicted",
            "The one claim is contradicted by an interval that lies on one side of the level that decides.",
        ),
        ("not decidable", "The one claim cannot be decided here."),
    ],
)
def test_one_claim_is_not_counted(verdict: str, words: str):
    assert claims.answer([SimpleNamespace(verdict=verdict)]).sentence == words  # pyright: ignore[reportArgumentType]
