"""`lcmae zoo`: what lies in the zoo becomes a run whose weights are those of half precision."""

import json
from pathlib import Path

import pytest
import torch

import lcmae
from lcmae.app import zoo_models
from lcmae.app.cli import main
from lcmae.runs.run import Run
from lcmae.zoo.publish import publish
from tests.conftest import tiny_mae


@pytest.fixture
def one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A zoo that holds one tiny model; the run that it was made of."""
    model = tiny_mae()
    config = {"model": model.config.model_dump(mode="json"), "data": "photographs", "objective": None}
    run = Run.create(tmp_path / "trained", config)
    run.publish(7, model.state_dict(), config=config, resume=None)
    (run.path / "metrics.jsonl").write_text('{"step": 7, "mean_knn": 0.5}\n')
    publish(run, tmp_path / "zoo" / "tiny", "a tiny MAE")
    monkeypatch.setattr(zoo_models, "zoo_folder", lambda: tmp_path / "zoo")
    return run


def test_a_copy_is_a_run_of_the_same_model(one_model: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo"]) == 0
    assert "a tiny MAE" in capsys.readouterr().out
    assert main(["zoo", "tiny", "--out", str(tmp_path / "copy")]) == 0
    copy = Run.open(tmp_path / "copy")
    assert copy.steps() == [7]
    assert copy.config == one_model.config
    assert copy.metrics() == [{"step": 7, "mean_knn": 0.5}]
    weights = lcmae.load(copy.path).state_dict()
    for name, tensor in lcmae.load(one_model.path).state_dict().items():
        assert torch.equal(weights[name], tensor.half().float())
    about = json.loads((tmp_path / "zoo" / "tiny" / "zoo.json").read_text())
    assert about["metrics"] == {"step": 7, "mean_knn": 0.5}


def test_what_is_not_there_is_one_line(one_model: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "other"]) == 2
    assert capsys.readouterr().err == "lcmae zoo: expected a model out of tiny, got 'other'\n"
    assert main(["zoo", "tiny", "--out", str(one_model.path)]) == 2
    assert "expected a new run folder" in capsys.readouterr().err


def test_every_model_of_the_zoo_is_small_and_described() -> None:
    for folder in zoo_models.models().values():
        assert (folder / "model.safetensors").stat().st_size <= 6_000_000
        about = json.loads((folder / "zoo.json").read_text())
        assert {"what", "step", "licence", "metrics"} <= about.keys()
        assert (folder / "README.md").is_file()
