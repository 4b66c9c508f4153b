"""The table of CIFAR-10: configs follow the recipes, rules follow their words, and the command
trains, stops, goes on, writes."""

from pathlib import Path

import pytest

from benchmarks import cifar10
from benchmarks.cifar10 import VARIANTS, config_of
from benchmarks.cifar10_table import (
    COLUMNS,
    Finished,
    answer,
    best_of,
    compared,
    document,
    interval,
    questions,
    with_best_layer,
)
from lcmae.objectives import LCMAE, UMAE
from lcmae.recipes import recipe
from lcmae.runs.run import Run

TINY = """--data digits --limit 48 --batch-size 16 --no-compile --no-cuda-graph --precision float32 --monitor-images 20
    --model.image-size 8 8 --model.patch-size 2 --model.channels 1 --model.width 16 --model.depth 2 --model.heads 2
    --model.decoder-width 16 --model.decoder-depth 1 --model.decoder-heads 2"""


def finished(variant: str, seed: int, accuracy: float, **layers: float) -> Finished:
    numbers = dict.fromkeys(COLUMNS, 1.0) | {"linear cls": accuracy}
    by_classifier = {classifier: layers or {"block 1": accuracy} for classifier in ("linear", "knn")}
    return Finished(variant, VARIANTS[variant][0], seed, numbers, by_classifier, "digits", "20 images")


@pytest.mark.parametrize("objective", ["mae", "umae"])
def test_patch_2_is_the_recipe_of_patch_2(objective: str) -> None:
    variant = {"mae": "mae", "umae": "umae-0.01"}[objective]
    assert config_of(variant, 2, 0) == recipe(f"{objective}-cifar10-patch2")
    assert config_of(variant, 4, 0) == recipe(f"{objective}-cifar10-patch4")


@pytest.mark.parametrize("variant", ["mae", "simmim"])
def test_changes_of_a_decoder_go_to_models_that_have_one(variant: str) -> None:
    changes = ["--model.decoder-width", "96", "--model.width=96", "--model.decoder-heads=2", "--model.heads", "2"]
    model = config_of(variant, 4, 0, changes).model
    assert (model.width, model.heads) == (96, 2)
    assert [getattr(model, name, None) for name in ("decoder_width", "decoder_heads")] == (
        [96, 2] if variant == "mae" else [None, None]
    )
    assert cifar10.about(config_of(variant, 4, 0, changes)) == "an encoder 96 wide with 12 blocks, patch 4"
    assert cifar10.about(config_of(variant, 2, 0)) == "ViT-Tiny, patch 2"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("patch", [2, 4])
def test_every_variant_sees_equally_many_image_mask_pairs(variant: str, patch: int) -> None:
    config, mae = config_of(variant, patch, 5), config_of("mae", patch, 5)
    assert config.epochs * config.objective.masks_per_image == mae.epochs
    assert config.warmup_epochs / config.epochs == mae.warmup_epochs / mae.epochs
    assert (config.seed, config.batch_size, config.model.patch_size) == (5, mae.batch_size, patch)
    short = config_of(variant, patch, 0, epochs=40)
    assert short.epochs * short.objective.masks_per_image == 40


def test_variants_differ_in_what_they_are_named_after() -> None:
    weighed = config_of("umae-0.1", 4, 0).objective
    assert isinstance(weighed, UMAE)
    assert weighed.weight == 0.1
    free = config_of("lcmae-invariance-0", 4, 0, ["--model.depth", "3"])
    assert isinstance(free.objective, LCMAE)
    assert (free.objective.invariance, free.objective.offset, free.model.depth) == (0.0, 1.0, 3)
    objectives = [config_of(variant, 4, 0).objective for variant in VARIANTS]
    assert all(one != other for number, one in enumerate(objectives) for other in objectives[:number])


def test_a_difference_is_paired_by_seed_and_its_interval_is_widened() -> None:
    runs = [finished("mae", seed, value) for seed, value in enumerate((50.0, 60.0, 70.0))]
    runs += [finished("umae-0.01", seed, value) for seed, value in enumerate((51.0, 62.0, 73.0))]
    one = compared(runs, "umae-0.01", "mae", 1)
    # differences 1, 2, 3: mean 2, deviation 1, t(2) at 97.5 % is 4.302653
    assert (one.num_seeds, one.difference) == (3, 2.0)
    assert one.half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert one.word.startswith("undecided")
    # of two comparisons, t(2) at 98.75 % is 6.205347
    assert compared(runs, "umae-0.01", "mae", 2).half_width == pytest.approx(6.205347 / 3**0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ((5.0, 5.1, 5.2), "better"),
        ((-5.0, -5.1, -5.2), "worse"),
        ((-1.0, 0.0, 2.0), "undecided (the interval holds 0)"),
        ((5.0,), "undecided (needs two seeds)"),
    ],
)
def test_words_follow_the_interval(gains: tuple[float, ...], word: str) -> None:
    runs = [finished("mae", seed, 50.0 + 10 * seed) for seed in range(len(gains))]
    runs += [finished("lcmae", seed, 50.0 + 10 * seed + gain) for seed, gain in enumerate(gains)]
    verdict = compared(runs, "lcmae", "mae", 1)
    assert verdict.word == word
    name = word.split()[0].capitalize()
    assert f"{name}: lcmae." in answer([verdict])
    assert answer([verdict]).count("none") == 2


def test_lcmae_is_held_against_the_best_umae_that_has_finished() -> None:
    runs = [
        finished(variant, seed, value + seed / 10)
        for variant, value in {"mae": 50.0, "umae-0.01": 52.0, "umae-0.1": 58.0, "lcmae": 55.0}.items()
        for seed in range(3)
    ]
    assert best_of(runs, "umae") == "umae-0.1"
    assert best_of(runs, "simmim") is None
    asked = questions(runs)
    pairs = [(verdict.ours, verdict.other) for verdicts in asked.values() for verdict in verdicts]
    assert pairs == [("umae-0.01", "mae"), ("umae-0.1", "mae"), ("lcmae", "mae"), ("lcmae", "umae-0.1")]
    page = document("python -m x", cifar10.date(2026, 1, 2), "ViT-Tiny", runs, 3)
    assert "12 runs on digits; 3 more were asked for" in page
    assert "| published umae, ViT-Tiny | - | 68.9 |" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table[: 2 + 4 + 2]} == {len(COLUMNS) + 3}


def test_the_best_block_is_one_for_all_seeds() -> None:
    runs = [finished("mae", 0, 1.0, a=10.0, b=30.0), finished("mae", 1, 1.0, a=25.0, b=20.0)]
    seeds, name = with_best_layer(runs)
    assert name == {"linear": "b", "knn": "b"}
    assert [run.numbers["linear best"] for run in seeds] == [run.numbers["knn best"] for run in seeds] == [30.0, 20.0]
    assert interval([30.0, 20.0]).startswith("25 ± ")
    assert interval([0.1 + 0.2, 0.3, 0.3]) == "0.3"
    assert interval([30.0]) == "30"


@pytest.mark.slow
def test_it_trains_what_is_missing_probes_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = tmp_path / "runs", tmp_path / "results" / "cifar10.md"
    options = ["--runs", str(runs), "--device", "cpu", "--out", str(out), "--seeds", "1", "--epochs", "2"]
    options += ["--images", "20", "--train-images", "40", *TINY.split()]

    assert cifar10.main([*options, "--variants", "mae"]) == 2
    assert "--train makes them" in capsys.readouterr().err
    assert not out.exists()

    assert cifar10.main([*options, "--train", "--variants", "mae"]) == 0
    trained = (runs / "patch4" / "mae-s0" / "metrics.jsonl").read_bytes()
    assert cifar10.main([*options, "--train", "--variants", "mae", "lcmae"]) == 0
    # what was done is not done again, and two masks an image mean half of the steps
    assert (runs / "patch4" / "mae-s0" / "metrics.jsonl").read_bytes() == trained
    assert [Run.open(runs / "patch4" / name).steps()[-1] for name in ("mae-s0", "lcmae-s0")] == [6, 3]
    page = out.read_text()
    assert "2 runs on digits" in page
    assert "(20 test and 40 training images)" in page
    assert "| lcmae | mae |" in page
    assert page.count("\n| mae | 1 |") == page.count("\n| lcmae | 1 |") == 1

    assert cifar10.main([*options, "--variants", "mae", "--weight-decay", "0.1"]) == 2
    assert "weight_decay 0.1, got 0.05" in capsys.readouterr().err
