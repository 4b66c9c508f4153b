"""`hf:ORG/NAME[@REVISION]` against a local cache laid out as the hub's; weights in shards; and what
is said without network."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import lcmae
from lcmae.errors import InputError
from lcmae.formats import export, hub, import_checkpoint, inspect, load
from lcmae.models import MAE
from tests.lcmae.formats.hub_cache import COMMIT, in_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def mae() -> MAE:
    settings = {"image_size": 16, "patch_size": 4, "width": 32, "depth": 2, "heads": 4}
    return MAE(**settings, decoder_width=24, decoder_depth=1, decoder_heads=3).eval()


@pytest.fixture
def folder(mae: MAE, tmp_path: Path) -> Path:
    """The model as a Hugging Face folder."""
    torch.save({"model": mae.state_dict()}, tmp_path / "mae.pth")
    import_checkpoint(tmp_path / "mae.pth", tmp_path / "run", heads=4, decoder_heads=3)
    return export(tmp_path / "run", "huggingface", tmp_path / "exported")


def as_the_hub_does(folder: Path, snapshot: Path) -> None:
    """Files lie among the blobs, and a snapshot has links to them."""
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / f"blob{number}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"blob{number}")


@pytest.mark.parametrize("name", ["hf:me/mae", "hf:me/mae@main", f"hf:me/mae@{COMMIT}", Path("hf:me/mae")])
def test_a_model_in_the_cache_is_loaded_by_its_name(name: str, mae: MAE, folder: Path, cache: Path) -> None:
    as_the_hub_does(folder, in_cache(cache, "me/mae"))
    model = load(name)
    for key, value in mae.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)
    assert model.source is not None
    assert model.source.path == str(name)
    assert model.source.origins["heads"] == "config.json"
    assert f"from the local cache, commit {COMMIT[:12]}" in model.source.notes[0]
    assert inspect(name).has_prediction


def test_safetensors_go_before_pickles(folder: Path, cache: Path) -> None:
    snapshot = in_cache(cache, "me/mae")
    (folder / "pytorch_model.bin").write_text("not this one")
    as_the_hub_does(folder, snapshot)
    assert load("hf:me/mae").source is not None


def test_one_file_of_a_repository(mae: MAE, cache: Path) -> None:
    snapshot = in_cache(cache, "me/files")
    torch.save({"model": mae.state_dict()}, snapshot / "a.pth")
    torch.save({"model": mae.state_dict()}, snapshot / "b.pth")
    assert load("hf:me/files/a.pth", heads=4, decoder_heads=3).num_patches == 16


def test_shards_are_one_model(mae: MAE, folder: Path, images: Tensor) -> None:
    state = {name: value.clone() for name, value in load(folder).state_dict().items()}
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, where = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file_name = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file_name, {"format": "pt"})
        where |= dict.fromkeys(part, file_name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for path in (folder, index):
        model = load(path)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert inspect(folder).parameters == sum(value.numel() for value in mae.parameters())

    (folder / "model-00002-of-00002.safetensors").rename(folder / "elsewhere.safetensors")
    with pytest.raises(InputError, match=r"expected every file that .* names, got no 'model-00002-of-00002"):
        load(folder)


@pytest.mark.parametrize("name", ["../../x.safetensors", "/etc/passwd", "a.pth", "x\0.bin", ""])
def test_an_index_names_files_of_its_folder_alone(name: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(InputError, match="expected at most 256 plain file names"):
        load(folder)


def test_without_network_one_line_says_what_to_do(cache: Path) -> None:
    with pytest.raises(
        InputError, match=r"expected hf:me/none in the local cache or the network .*hf download me/none"
    ):
        load("hf:me/none")


@pytest.mark.parametrize(
    "name", ["hf:", "hf:x", "hf:a/../b", "hf:a/b/../../c", "hf:a/b@", "hf:a b/c", "hf:a/b\n", "hf:--/.."]
)
def test_names_that_are_none(name: str, cache: Path) -> None:
    with pytest.raises(InputError, match="expected a name on the hub") as refusal:
        lcmae.load(name)
    assert "\n" not in str(refusal.value)


def test_a_name_has_a_repository_a_file_and_a_revision() -> None:
    assert hub.parse_name("hf:a/b") == hub.HubName("a/b")
    assert hub.parse_name("hf:a/b/c/d.pth@v1.0") == hub.HubName("a/b", "c/d.pth", "v1.0")
    assert hub.parse_name("hf:a/b@refs/pr/1").shown == "hf:a/b@refs/pr/1"
