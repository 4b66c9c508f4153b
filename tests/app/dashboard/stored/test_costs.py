"""Estimates of what a probe takes: those of the measured model, and of others in proportion."""

import re
from pathlib import Path

import pytest

from lcmae.app.dashboard.stored import costs
from lcmae.probes.registry import PROBES, probe_class

TINY = {"model": dict(costs.REFERENCE)}


def test_the_measured_times_are_those_of_the_table():
    text = (Path(__file__).parents[4] / "docs" / "speed.md").read_text()
    text = text[text.index("What each costs") : text.index("Probes of 2026-11-29")]
    table = dict(re.findall(r"^\| ([a-z_]+)(?: \(.*?\))? \| ([\d.]+) \| [\d.]+ \| [\d.]+ \|", text, re.MULTILINE))
    assert len(table) == 14
    for probe, seconds in table.items():
        assert costs.SECONDS[probe] == float(seconds), probe


def test_the_measured_model_takes_what_was_measured():
    found = costs.estimate(["probe", "local_contrast", "--checkpoint", "x", "--images", "1000"], TINY)
    assert found == pytest.approx(costs.START + 59.7)
    words = costs.words(["probe", "local_contrast", "--checkpoint", "x", "--images", "1000"], TINY)
    assert words == "about 70 s on one core: 1000 images, scaled from a measured ViT-Tiny"


def test_images_steps_and_size_multiply():
    command = ["probe", "bounds", "--checkpoint", "x", "--every-step"]
    one, ten = costs.estimate(command[:-1], TINY), costs.estimate(command, TINY, 10)
    assert one is not None
    assert ten is not None
    assert ten - costs.START == pytest.approx(10 * (one - costs.START))
    assert "10 checkpoints, 500 images" in costs.words(command, TINY, 10)
    twice = {"model": {**costs.REFERENCE, "depth": 24, "decoder_depth": 8}}
    assert costs.size_of(twice) == pytest.approx(2)
    # four times the tokens: four times the linear layers, sixteen times attention
    finer = costs.size_of({"model": {**costs.REFERENCE, "patch_size": 2}})
    assert finer is not None
    assert 4 < finer < 16


def test_several_commands_take_the_sum():
    one = (["probe", "bounds", "--checkpoint", "x"], TINY, 1)
    two = (["probe", "transfer", "--checkpoint", "x"], TINY, 1)
    unknown = (["probe", "someone_elses", "--checkpoint", "x"], TINY, 1)
    of_each = [costs.estimate(*command) for command in (one, two)]
    total = costs.duration(sum(filter(None, of_each)))
    assert costs.words_of_all([one, two]) == f"about {total} on one core, one after another"
    assert costs.words_of_all([one, two, unknown]).endswith("one after another, and 1 of unknown time")
    assert costs.words_of_all([unknown]) == ""


def test_every_probe_has_a_cost():
    every = [*costs.SECONDS, *costs.CAPPED, *costs.FITTED]
    assert sorted(every) == sorted(PROBES)


def test_what_is_learned_first_costs_the_same_on_few_images():
    learning, measuring = costs.FITTED["dense"]
    for images in (10, 1000):
        found = costs.estimate(["probe", "dense", "--checkpoint", "x", "--images", str(images)], TINY)
        assert found == pytest.approx(costs.START + learning + measuring * images / 1000)


@pytest.mark.parametrize(("probe", "field"), [("knock_out", "knocked_images"), ("attribution", "num_images"),
                                              ("patch_retrieval", "num_sampled")])  # fmt: skip
def test_what_looks_at_few_images_costs_no_more_on_many(probe: str, field: str):
    _, _, most = costs.CAPPED[probe]
    assert probe_class(probe).model_fields[field].default == most
    few, cap, many = (
        costs.estimate(["probe", probe, "--checkpoint", "x", "--images", str(images)], TINY)
        for images in (most // 2, most, 10_000)
    )
    assert few is not None
    assert cap is not None
    assert cap - costs.START == pytest.approx(2 * (few - costs.START))
    assert many == cap


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        (["probe", "someone_elses", "--checkpoint", "x"], TINY),
        (["train", "mae-digits"], TINY),
        ([], TINY),
        (["probe", "bounds"], {}),
        (["probe", "bounds"], {"model": {"image_size": "large", "patch_size": 4}}),
        (["probe", "bounds"], {"model": {**costs.REFERENCE, "width": 10**9}}),
        (["probe", "bounds"], {"model": {**costs.REFERENCE, "patch_size": 0}}),
    ],
)
def test_what_is_not_known_is_not_guessed(arguments: list[str], config: dict):
    assert costs.words(arguments, config) == ""


@pytest.mark.parametrize(("seconds", "shown"), [(3, "10 s"), (44, "40 s"), (100, "2 min"), (9000, "2.5 h")])
def test_durations_have_the_digits_of_an_estimate(seconds: float, shown: str):
    assert costs.duration(seconds) == shown
