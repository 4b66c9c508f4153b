"""Claims: the rule that decides (hand-solved), readings, every claim on made-up results, the
record, one small rerun."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from lcmae.app.cli import main
from lcmae.config import RunConfig
from lcmae.data import open_source
from lcmae.errors import InputError
from lcmae.probes.claims import grids, rerun
from lcmae.probes.claims.catalogue import CLAIMS, chosen
from lcmae.probes.claims.claim import (
    DIGITS,
    Claim,
    Effect,
    LessNull,
    Needs,
    Rule,
    Verdict,
    correlation,
    decide,
    difference,
    effect,
    middle_above_ends,
    propagated,
    ratio_difference,
    value,
)  # fmt: skip
from lcmae.probes.claims.grids import GRIDS, Grid
from lcmae.probes.claims.readings import LAST, Reading, Value
from lcmae.probes.claims.record import (
    FILE,
    read_record,
)
from lcmae.probes.claims.rerun import Laboratory, cost, settings_of
from lcmae.probes.grids import run as comparing
from lcmae.probes.grids.cells import cells
from lcmae.probes.grids.configs import config_of
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.registry import probe_class
from lcmae.runs.run import Run
from lcmae.settings import parse
from lcmae.training.train import build_model, publish_untrained, train
from tests.reference.tiny_runs import tiny_run, weights

MEASURED = [claim for claim in CLAIMS.values() if claim.readings]
DECIDABLE = [claim for claim in MEASURED if not claim.needs.lacking(DIGITS)]


def between(low: float, high: float) -> Effect:
    return Effect((low + high) / 2, low, high, (low, high))


# --- the rule ---


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict", "reason"),
    [
        (Rule("above"), 0.1, 0.3, "reproduced", "the whole interval lies above 0"),
        (Rule("above"), -0.3, -0.1, "contradicted", "the whole interval lies below 0"),
        (Rule("above"), -0.1, 0.3, "not decidable", "the interval holds 0"),
        (Rule("above"), 0.0, 0.3, "not decidable", "the interval holds 0"),  # the level itself is in the interval
        (Rule("above", 0.5), 0.1, 0.3, "contradicted", "the whole interval lies below 0.5"),
        (Rule("below"), -0.3, -0.1, "reproduced", "the whole interval lies below 0"),
        (Rule("below", 1.0), 1.1, 1.2, "contradicted", "the whole interval lies above 1"),
        (Rule("below", 1.0), 0.9, 1.2, "not decidable", "the interval holds 1"),
        (Rule("within", 0.02), -0.01, 0.019, "reproduced", "the whole interval lies within ±0.02"),
        (Rule("within", 0.02), 0.021, 0.03, "contradicted", "the whole interval lies outside ±0.02"),
        (Rule("within", 0.02), -0.5, -0.03, "contradicted", "the whole interval lies outside ±0.02"),
        (Rule("within", 0.02), -0.01, 0.03, "not decidable", "the interval reaches beyond ±0.02"),
        (Rule("within", 0.02), -0.5, 0.5, "not decidable", "the interval reaches beyond ±0.02"),
    ],
)
def test_the_whole_interval_decides(rule: Rule, low: float, high: float, verdict: Verdict, reason: str) -> None:
    assert decide(between(low, high), rule) == (verdict, reason)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1))
def test_above_and_below_mirror_each_other(low: float, width: float, level: float) -> None:
    opposite: dict[Verdict, Verdict] = {"reproduced": "contradicted", "contradicted": "reproduced"}
    above, _ = decide(between(low, low + width), Rule("above", level))
    below, _ = decide(between(low, low + width), Rule("below", level))
    assert below == opposite.get(above, "not decidable")
    mirrored, _ = decide(between(-low - width, -low), Rule("below", -level))
    assert mirrored == above


def test_what_is_lacking_or_failed_leaves_a_claim_undecided_with_its_reason() -> None:
    clear, rule = between(0.1, 0.3), Rule("above")
    assert decide(clear, rule, ["9 seeds", "a GPU"], ["x"]) == ("not decidable", "needs 9 seeds; a GPU")
    assert decide(clear, rule, [], ["mae/s0: loss is nan"]) == ("not decidable", "runs failed: mae/s0: loss is nan")
    assert decide(None, rule) == ("not decidable", "no run has the number")
    one = Effect(0.5, math.nan, math.nan, (0.5,))
    assert decide(one, rule) == ("not decidable", "1 seed has no interval; at least 2 are needed")


def test_needs_are_held_against_what_there_is() -> None:
    needs = Needs(
        images=10**6, image_side=224, mask_units=3, labels=frozenset({"boxes", "classes"}), unpublished=("c1",)
    )
    assert needs.lacking(DIGITS) == [
        "1,000,000 training images (there are 1,437)",
        "224 pixels a side (there are 32)",
        "3 sides of the mask unit on the patch grid (there are 2)",
        "images with boxes",
        "c1 (not published, or not available)",
    ]
    assert Needs(images=1437, image_side=32, mask_units=2, labels=frozenset({"classes"})).lacking(DIGITS) == []


def test_the_scale_is_that_of_digits() -> None:
    config = config_of(GRIDS["mae"].comparison, cells(GRIDS["mae"].comparison)[0])
    source = open_source("digits", split="train", image_size=config.model.image_size, channels=1)
    assert (len(source), config.model.image_size[0]) == (DIGITS.images, DIGITS.image_side)
    units = [unit for unit in range(1, 9) if _holds(unit, config.model.grid)]
    assert len(units) == DIGITS.mask_units


def _holds(unit: int, grid: tuple[int, int]) -> bool:
    from lcmae.masking import CoarseRandom

    try:
        CoarseRandom(ratio=0.75, unit=unit).check(grid)
    except InputError:
        return False
    return grid[0] % unit == 0


# --- effects ---


def a_claim(**changes: Any) -> Claim:
    reading = Reading("mae", "p", "v")
    return replace(Claim("c", "says", "source", readings=(reading, reading), combine=difference), **changes)


def test_seeds_are_paired_and_the_interval_is_students() -> None:
    # differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.302653, half width 4.302653 /
    # sqrt(3)
    values = {seed: [Value(10.0 * seed + seed + 1), Value(10.0 * seed)] for seed in range(3)}
    found = effect(a_claim(), [values])
    assert found is not None
    assert found.values == (1.0, 2.0, 3.0)
    assert found.mean == 2.0
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_a_seed_without_a_number_is_left_out() -> None:
    values = {0: [Value(2.0), Value(1.0)], 1: [Value(math.nan), Value(1.0)]}
    found = effect(a_claim(), [values])
    assert found is not None
    assert found.values == (1.0,)
    assert math.isnan(found.high)
    assert effect(a_claim(), [{1: values[1]}]) is None
    assert effect(a_claim(), [{}]) is None


def test_stored_errors_make_an_interval_over_images() -> None:
    found = effect(a_claim(over="images"), [{0: [Value(5.0, 0.3), Value(1.0, 0.4)]}])
    assert found is not None
    assert (found.mean, found.high) == (4.0, pytest.approx(4 + 0.5))  # 0.3, 0.4, 0.5
    exact = effect(a_claim(over="everything"), [{0: [Value(5.0), Value(1.0)]}])
    assert exact == Effect(4.0, 4.0, 4.0, (4.0,))


def test_errors_go_through_a_combination() -> None:
    # the middle and the better end count, the other end is too far below to matter
    values = [Value(0.1, 0.01), Value(0.9, 0.03), Value(0.5, 0.04)]
    assert propagated(middle_above_ends, values) == pytest.approx(0.05)


def test_the_interval_holds_those_of_all_variants() -> None:
    claim = a_claim(over="images", variants=((Reading("mae", "p", "w"),) * 2,))
    own, other = {0: [Value(1.0, 0.0), Value(0.0, 0.0)]}, {0: [Value(0.0, 0.1), Value(2.0, 0.0)]}
    found = effect(claim, [own, other])
    assert found is not None
    assert (found.mean, found.low, found.high) == (1.0, pytest.approx(-2.1), 1.0)
    assert decide(found, claim.rule)[0] == "not decidable"  # one bandwidth says so, the other the reverse
    assert effect(claim, [own, {}]) is None


@given(st.lists(st.floats(-10, 10), min_size=6, max_size=6))
def test_correlation_is_pearsons(numbers: list[float]) -> None:
    ours, theirs = np.array(numbers[:3]), np.array(numbers[3:])
    if min(ours.std(), theirs.std()) < 1e-3:
        return
    assert correlation(*numbers) == pytest.approx(np.corrcoef(ours, theirs)[0, 1], abs=1e-6)
    assert math.isnan(correlation(1.0, 1.0, 1.0, *theirs))


def test_combinations() -> None:
    assert middle_above_ends(0.2, 0.9, 0.5) == pytest.approx(0.4)
    assert middle_above_ends(0.2, 0.3, 0.5) == pytest.approx(-0.2)
    assert ratio_difference(3.0, 4.0, 1.0, 2.0) == 0.25


# --- readings ---


def result() -> xr.Dataset:
    values = np.arange(6.0).reshape(2, 3)
    return xr.Dataset(
        {"v": (("kind", "ratio"), values), "v_sem": (("kind", "ratio"), values / 10), "single": ((), 7.0)},
        {"kind": ["a", "b"], "ratio": np.array([0.1, 0.5, 0.9], dtype=np.float32).astype(float)},
    )


def test_a_reading_is_one_number_with_its_error() -> None:
    assert Reading("g", "p", "v", {"kind": "b", "ratio": 0.5}).of(result()) == (4.0, pytest.approx(1.96 * 0.4))
    assert Reading("g", "p", "v", {"kind": "a", "ratio": 0.9}).of(result()) == (
        2.0,
        pytest.approx(1.96 * 0.2),
    )  # a ratio after float32
    assert Reading("g", "p", "v", {"kind": "b", "ratio": LAST}).of(result()).value == 5.0
    found = Reading("g", "p", "single").of(result())
    assert found.value == 7.0
    assert math.isnan(found.half)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading("g", "p", "w"), "expected the variable w in a result of p, got none"),
        (Reading("g", "p", "v", {"kind": "a"}), r"a label for each axis of p\.v, got none for ratio"),
        (
            Reading("g", "p", "v", {"kind": "c", "ratio": 0.5}),
            r"expected kind 'c' in p\.v\[c, 0\.5\], got \['a', 'b'\]",
        ),
        (Reading("g", "p", "v", {"kind": "a", "ratio": 0.4}), "expected ratio 0.4"),
    ],
)
def test_a_reading_that_is_not_there_is_named(reading: Reading, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reading.of(result())


# --- the catalogue ---


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
def test_a_claim_is_whole(claim: Claim) -> None:
    assert claim.says.endswith(".")
    assert any(number in claim.source for number in ("2111.06377", "2210.08344", "2310.01994", "2306.04898"))
    assert claim.readings or claim.needs.lacking(DIGITS), "what cannot be measured says why"
    assert bool(claim.quantity) == bool(claim.readings)
    for reading in claim.all_readings:
        grid = GRIDS[reading.grid]
        assert (reading.objective, reading.ratio) in {(cell.objective, cell.ratio) for cell in cells(grid.comparison)}
        probe = probe_class(reading.probe)
        settings = {**grids.SETTINGS.get(reading.probe, {}), **grid.probes.get(reading.probe, {})}
        parse(probe, settings)
    for variant in claim.variants:
        assert len(variant) == len(claim.readings)


def test_unknown_claims_are_named() -> None:
    assert [claim.id for claim in chosen(["umae-rank", "mae-learns"])] == ["mae-learns", "umae-rank"]
    assert len(chosen([])) == len(CLAIMS)
    with pytest.raises(InputError, match=r"expected claims out of mae-learns, .* got 'umae'"):
        chosen(["mae-learns", "umae"])


# --- cost ---


def test_cost_counts_what_is_missing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun, "step_seconds", lambda: 2 * rerun.REFERENCE_SECONDS)
    claims = [CLAIMS["umae-rank"], CLAIMS["umae-rank-mean"], CLAIMS["umae-imagenet"]]
    total = cost(claims, Laboratory(tmp_path, 3, Engine()))
    assert len(total.training) == len(total.probing) == 6  # two grids of three seeds, however many claims read them
    seconds = 3 * (GRIDS["mae"].seconds + GRIDS["umae"].seconds) + 6 * 2
    assert total.minutes == pytest.approx(2 * seconds / 60)
    short = cost(claims, Laboratory(tmp_path, 3, Engine(), epochs=36))
    assert sum(short.training.values()) == pytest.approx(sum(total.training.values()) / 2)
    assert cost([CLAIMS["umae-imagenet"]], Laboratory(tmp_path, 3, Engine())).minutes == 0


def test_probes_hide_as_the_training_did(tmp_path: Path) -> None:
    lab = Laboratory(tmp_path, 1, Engine())
    job = lab.runs("ratios")[1]
    run = Run(Path(job.folder), job.config)
    assert settings_of("decoder_attention", GRIDS["ratios"], run) == {"mask": {"kind": "random", "ratio": 0.9}}
    assert settings_of("transfer", GRIDS["mae"], run)["finetune_epochs"] == 10
    assert "finetune_epochs" not in settings_of("transfer", GRIDS["simmim"], run)


def test_the_untrained_baseline_is_where_training_begins(tmp_path: Path) -> None:
    alone, published = tiny_run(tmp_path / "alone"), tiny_run(tmp_path / "published")
    publish_untrained(published)
    initial = build_model(parse(RunConfig, published.config)).state_dict()
    assert all(torch.equal(tensor, initial[name]) for name, tensor in weights(published).items())
    assert published.steps() == [0]
    for run in (alone, published):
        train(run)
    assert all(torch.equal(tensor, weights(alone)[name]) for name, tensor in weights(published).items())


# --- one small rerun ---

TINY = (
    "model.width=8", "model.depth=1", "model.heads=2", "model.decoder_width=8", "model.decoder_depth=1",
    "model.decoder_heads=2", "batch_size=32", "limit=64", "monitor_images=40",
)  # fmt: skip


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids of one epoch on 64 images."""
    small = {
        name: Grid(grid.comparison.model_copy(update={"set": TINY, "epochs": 1}), grid.seconds, grid.probes)
        for name, grid in GRIDS.items()
    }
    monkeypatch.setattr(rerun, "GRIDS", small)


@pytest.mark.slow
def test_a_rerun_from_nothing_and_again(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, doc = tmp_path / "out", tmp_path / "docs" / "claims.md"
    asked = ["claims", "--claims", "umae-rank,mask-invariance", "umae-imagenet", "--seeds", "2", "--images", "24"]
    asked += ["--out", str(out), "--doc", str(doc)]
    assert main(asked) == 0
    said = capsys.readouterr()
    assert "claims: 6 runs to train and 6 to probe, about " in said.err
    assert "claims 12/12, 0:00 left: " in said.err
    assert str(doc) in said.out
    record = read_record(out / FILE)
    rank, invariance, imagenet = sorted(record.outcomes, key=lambda one: one.id != "umae-rank")
    assert len(rank.values) == 2
    assert rank.effect == pytest.approx(float(np.mean(rank.values)))
    assert Run.open(out / "untrained" / "mae-random-0.5-s0").steps() == [0]
    assert {one.id for one in (rank, invariance, imagenet)} == {"umae-rank", "umae-imagenet", "mask-invariance"}
    assert record.train_minutes > 0
    assert "**umae-rank**" in doc.read_text()

    # again: nothing is trained or probed, and the numbers are the same
    monkeypatch.setattr(comparing, "run_cell", lambda job: pytest.fail("trained again"))
    monkeypatch.setattr("lcmae.probes.base.run_probes", lambda *args, **kwargs: pytest.fail("probed again"))
    assert main(asked) == 0
    assert "claims: 0 runs to train and 0 to probe, about 0 minutes" in capsys.readouterr().err
    assert read_record(out / FILE).outcomes == record.outcomes


@pytest.mark.slow
def test_a_run_that_fails_leaves_its_claims_undecided(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cell = comparing.run_cell

    def fail(job: comparing.CellJob) -> dict[str, Any]:
        if job.cell.objective == "umae":
            raise RuntimeError("out of memory")
        return run_cell(job)

    monkeypatch.setattr(comparing, "run_cell", fail)
    asked = ["claims", "--claims", "umae-rank", "dimensional-collapse", "--seeds", "2", "--images", "24"]
    assert main([*asked, "--out", str(tmp_path)]) == 1
    found = {one.id: one for one in read_record(tmp_path / FILE).outcomes}
    assert found["umae-rank"].verdict == "not decidable"
    assert "out of memory" in found["umae-rank"].reason
    assert found["dimensional-collapse"].effect is not None
    assert (tmp_path / "claims.md").exists()
    assert "umae/umae-random-0.5-s0: RuntimeError: out of memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--claims", "nope"], "expected claims out of"),
        (["--seeds", "1"], "seeds: input should be greater than or equal to 2"),
        (["--epochs", "0"], "epochs"),
        (["--device", "tpu9"], "expected a device of this machine"),
        (["--engine", "dask"], "expected --address"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claims", *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_list_names_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CLAIMS)


def test_a_foreign_record_is_written_anew(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / FILE).write_text("{torn")
    assert main(["claims", "--claims", "umae-imagenet", "--out", str(tmp_path)]) == 0
    assert "a new one is written" in capsys.readouterr().err
    assert json.loads((tmp_path / FILE).read_text())["outcomes"][0]["id"] == "umae-imagenet"


def test_the_best_null_is_taken_off() -> None:
    rule = LessNull(difference, ("untrained network", "nearest visible patch"))
    assert rule(0.9, 0.1, 0.5, 0.2, 0.4, 0.0) == pytest.approx(0.4)  # 0.8 less the better of 0.3 and 0.4
    assert LessNull(value, ("untrained network",), above=False)(8.0, 5.0) == 3.0


def test_an_untrained_network_passes_no_claim_about_training() -> None:
    """A network that is its own null has an effect of 0 wherever the claim has one."""
    for claim in CLAIMS.values():
        if isinstance(claim.combine, LessNull):
            size = len(claim.readings) // (1 + len(claim.combine.nulls))
            numbers = tuple(0.3 + 0.1 * index for index in range(size))
            assert claim.combine(*numbers * (1 + len(claim.combine.nulls))) == pytest.approx(0)
            assert claim.rule.level == 0
            assert claim.tests_a_model
