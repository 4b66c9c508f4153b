"""`inspect` and `import_checkpoint`."""

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import export, import_checkpoint, inspect, load
from lcmae.masking import Random
from lcmae.models import MAE
from lcmae.runs.run import Run
from tests.reference import foreign
from tests.reference.checkpoint_files import HEADS, publish, save
from tests.reference.hostile import SETTINGS, wrapped


def test_inspect_describes_what_load_returns(tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain, "optimizer": {"state": {0: plain}}})
    model, found = load(path, **HEADS), inspect(path, **HEADS)
    assert found.source == model.source
    assert found.config == model.config.model_dump(mode="json")
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (found.architecture, found.has_prediction) == ("MAE", True)
    json.dumps(dataclasses.asdict(found))


@pytest.mark.parametrize("container", ["a.pth", "a.safetensors", "run"])
def test_inspect_loads_no_weights(container: str, tmp_path: Path, plain: foreign.State, mae: MAE, monkeypatch: Any):
    path = tmp_path / container
    if container == "run":
        publish(path, mae)
    elif container == "a.pth":
        save(path, wrapped(plain))
    else:
        save_file(plain, path, {"lcmae": json.dumps(SETTINGS)})
    module = importlib.import_module("lcmae.formats.inspection")
    seen: list[str] = []
    outline = module.outline

    def watched(reading: Any) -> Any:
        seen.extend({tensor.device.type for tensor in reading.tensors.values()})
        return outline(reading)

    monkeypatch.setattr(module, "outline", watched)
    assert inspect(path).parameters > 0
    assert seen == ["meta"]


@pytest.mark.parametrize("layout", ["official", "encoder", "simmim", "stable_pretraining"])
def test_import_makes_a_run_like_any_other(layout: str, tmp_path: Path, rng: torch.Generator):
    state = getattr(foreign, layout)(rng)
    path = save(tmp_path / "a.pth", {"model": state})
    given: dict[str, Any] = {"heads": foreign.HEADS} if layout in ("encoder", "simmim") else HEADS
    foreign_model = load(path, **given)
    run = import_checkpoint(path, tmp_path / "run", **given)
    model = load(run.path)
    image = torch.randn(1, 3, foreign.IMAGE, foreign.IMAGE, generator=rng)
    mask = Random(ratio=0.5)(1, model.grid, rng)
    with torch.no_grad():
        assert torch.equal(model(image, mask).pred, foreign_model(image, mask).pred)
        assert torch.equal(model(image, mask).pooled, foreign_model(image, mask).pooled)
    assert type(model.config) is type(foreign_model.config)
    assert model.source is not None
    assert foreign_model.source is not None
    assert (model.source.format, model.source.sha256) == (foreign_model.source.format, foreign_model.source.sha256)
    assert set(model.source.assumed) == set(foreign_model.source.assumed)
    assert model.source.step == 0
    assert run.config["objective"] is None
    # and what you say of it later is on top
    said = load(run.path, pixel_mean=(0.25,)).source
    assert said is not None
    assert said.origins["pixel_mean"] == "you"
    assert "pixel_mean" not in said.assumed


def test_import_takes_no_folder_that_is_taken(tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", wrapped(plain))
    import_checkpoint(path, tmp_path / "run")
    with pytest.raises(InputError, match="new run folder"):
        import_checkpoint(path, tmp_path / "run")


def test_import_leaves_nothing_half_written(tmp_path: Path, plain: foreign.State, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path / "a.pth", wrapped(plain))

    def full(*_: Any, **__: Any) -> None:
        raise CheckpointError("no space left on device")

    monkeypatch.setattr(Run, "publish", full)
    with pytest.raises(CheckpointError, match="no space"):
        import_checkpoint(path, tmp_path / "run")
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_home_folder_is_found_as_in_a_shell(tmp_path: Path, plain: foreign.State, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "a.pth", {"model": plain})
    assert load("~/a.pth", **HEADS).source == inspect(Path("~/a.pth"), **HEADS).source
    run = import_checkpoint("~/a.pth", "~/run", **HEADS)
    assert (run.path, Run.open("~/run").path) == (tmp_path / "run", tmp_path / "run")
    assert export("~/run", "official", "~/b.pth") == tmp_path / "b.pth"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.pth", "run"]
    with pytest.raises(InputError, match=f"nothing readable at {tmp_path}/c.pth"):
        load("~/c.pth")
