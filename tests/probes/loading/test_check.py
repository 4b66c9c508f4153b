"""`lcmae check` finds settings that a file does not say, on a trained model: the zoo's, without its
settings, on crops of the bundled photographs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import lcmae
from lcmae.app.cli import main
from lcmae.app.commands.zoo import copy
from lcmae.app.zoo_models import models
from lcmae.errors import InputError
from lcmae.formats.export import export
from lcmae.probes.loading.candidates import candidates, option
from lcmae.probes.loading.check import Check, check, conclusion, interval
from lcmae.probes.loading.measure import margins
from lcmae.provenance import Provenance
from tests.conftest import tiny_mae
from tests.reference import foreign

PHOTOGRAPHS = Path(lcmae.__file__).parent / "data" / "photographs"
TRUE = {
    "heads": 4,
    "decoder_heads": 4,
    "pixel_mean": (0.5, 0.5, 0.5),
    "pixel_std": (0.5, 0.5, 0.5),
    "normalize_targets": False,
}


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """[32, 32, 32, 3] uint8: eight of each photograph."""
    rng = np.random.default_rng(0)
    found = []
    for file in sorted(PHOTOGRAPHS.glob("*.jpg")):
        picture = Image.open(file).convert("RGB")
        for _ in range(8):
            side = int(rng.integers(120, min(picture.size)))
            left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
            found.append(np.asarray(picture.crop((left, top, left + side, top + side)).resize((32, 32))))
    return np.stack(found)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The zoo's model under the names of MAE's code, its encoder under timm's: weights alone."""
    folder = tmp_path_factory.mktemp("bare")
    run = copy(models()["mae-cifar10-small"], folder / "run")
    files = {"run": run}
    official = torch.load(export(run, "official", folder / "official.pth"), weights_only=False)  # of a moment ago
    for name, state in (
        ("official", official["model"]),
        ("timm", load_file(export(run, "timm", folder / "timm.safetensors"))),
    ):
        files[name] = folder / f"bare-{name}.pth"
        torch.save({"model": state}, files[name])
    return files


def found_for(path: Path, crops: np.ndarray, **known: Any) -> Check:
    return check(path, crops, limit=len(crops), **known)


def test_what_the_file_does_not_say_is_found(bare: dict[str, Path], data_root: Path) -> None:
    found = check(bare["official"], f"parquet:{data_root}/cifar10/test.parquet")
    assert found.verdict == "suspect"
    wanted = {option({name: value}) for name, value in TRUE.items()} - {"--normalize-targets False"}
    said = found.sentence.partition("; try ")[2]
    assert all(words in said for words in wanted)
    assert "--normalize-targets" not in said
    bases = [reading.value for reading in found.readings if np.isnan(reading.low)]
    assert bases == sorted(bases)
    assert len(bases) == 4


def test_few_photographs_find_the_loudest_of_it(bare: dict[str, Path], crops: np.ndarray) -> None:
    found = found_for(bare["official"], crops)
    assert "--decoder-heads 4" in found.sentence
    assert "--normalize-targets" not in found.sentence
    assert found.to_json()["num_images"] == 32


def test_nothing_speaks_against_what_is_right(bare: dict[str, Path], crops: np.ndarray) -> None:
    for path, known in ((bare["official"], TRUE), (bare["run"], {})):
        found = found_for(path, crops, **known)
        assert (found.verdict, found.sentence) == ("right", "Nothing contradicts the current reading")


def test_raw_targets_are_told_by_brightness(bare: dict[str, Path], crops: np.ndarray) -> None:
    found = found_for(bare["official"], crops, **{**TRUE, "normalize_targets": True})
    assert "--normalize-targets False" in found.sentence
    assert "--heads" not in found.sentence


def test_an_encoder_alone_is_judged_by_its_views(bare: dict[str, Path], crops: np.ndarray) -> None:
    found = found_for(bare["timm"], crops, heads=4)
    assert found.measure == "margin of views"
    assert {finding.question for finding in found.findings} >= {"Are pixels normalised as it expects?"}
    assert all(-2 <= reading.value <= 2 for reading in found.readings)


def test_weights_that_learned_nothing_are_suspect(tmp_path: Path) -> None:
    model = tiny_mae()
    rng = np.random.default_rng(1)
    height, width = model.config.image_size
    images = rng.integers(0, 255, (16, height, width, model.config.channels), dtype=np.uint8)
    run = lcmae.Run.create(tmp_path / "run", {"model": model.config.model_dump(mode="json")})
    run.publish(1, model.state_dict(), config=run.config, resume=None)
    found = found_for(run.path, images)
    assert found.verdict == "suspect"
    assert "no better than no network" in found.sentence


def test_weights_that_learned_nothing_speak_for_no_reading(
    tmp_path: Path, crops: np.ndarray, rng: torch.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """It predicts one tone everywhere, and other statistics make it a worse tone: no sign that
    the first ones are right."""
    state = foreign.official(rng)
    state |= {name: torch.zeros_like(state[name]) for name in ("decoder_pred.weight", "decoder_pred.bias")}
    torch.save({"model": state}, tmp_path / "a.pth")
    found = check(tmp_path / "a.pth", crops, limit=len(crops), show_progress=True, heads=2, decoder_heads=3)
    assert found.verdict == "suspect"
    pixels = next(one for one in found.findings if one.question == "Are pixels normalised as it expects?")
    assert pixels.verdict == "cannot tell"
    assert pixels.reason.startswith("every alternative fits worse")
    assert pixels.reason.endswith("but it predicts no better than no network")
    counts = re.findall(r"(\d+)/(\d+) \(", capsys.readouterr().err)
    assert counts
    assert all(int(done) <= int(total) for done, total in counts)


def test_what_is_said_is_not_doubted() -> None:
    config = {"channels": 3, "width": 192, "decoder_width": 512, "heads": 3, "decoder_heads": 16}
    config |= {"pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225], "activation": "gelu"}
    source = Provenance(
        "mae", "x.pth", "", read={"heads": 3}, assumed={"decoder_heads": 16, "pixel_mean": 0, "pixel_std": 0}
    )
    tried = list(candidates(config, source))
    assert {candidate.setting for candidate in tried} == {"pixels", "decoder_heads"}
    assert {candidate.overrides.get("decoder_heads") for candidate in tried} == {None, 8, 32}
    assert option({"pixel_mean": (0.5, 0.5), "heads": 3}) == "--pixel-mean 0.5 0.5 --heads 3"


def test_intervals_widen_with_how_many_share_them() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(size=20)
    (low, high), (lower, higher) = interval(difference, 1), interval(difference, 6)
    assert lower < low < difference.mean() < high < higher
    hits = [interval(rng.normal(size=8), 1) for _ in range(2000)]
    assert np.mean([low <= 0 <= high for low, high in hits]) == pytest.approx(0.95, abs=0.02)


def test_margins_by_hand() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    other = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    torch.testing.assert_close(margins(one, other), torch.tensor([1.0 - 0.6, 0.8 - 0.0]))


def test_too_few_images_are_refused(bare: dict[str, Path], crops: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected at least 8 images"):
        check(bare["run"], crops[:3])
    assert conclusion([]) == ("cannot tell", "These images cannot tell the readings apart")


def test_the_command(
    bare: dict[str, Path], crops: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "crops.npy", crops)
    arguments = ["check", str(bare["official"]), "--data", str(tmp_path / "crops.npy"), "--images", "16"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith("SUSPECT: ")
    assert "set --decoder-heads 4" in text
    assert main([*arguments, "--json", "--heads", "4", "--decoder-heads", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["measure"].startswith("fit (R2 on hidden patches)")
