"""What is read, what is assumed, what you may say."""

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import load
from lcmae.models import MAE
from tests.lcmae.formats.hub_cache import in_cache
from tests.reference import foreign
from tests.reference.checkpoint_files import HEADS, publish, save, source

# --- our own runs ---


@pytest.mark.parametrize(
    ("part", "step"), [("", 7), ("checkpoints/000003", 3), ("checkpoints/000003/model.safetensors", 3)]
)
def test_own_run_and_its_steps(part: str, step: int, tmp_path: Path, mae: MAE, images: Tensor):
    model = load(publish(tmp_path / "run", mae) / part)
    assert torch.equal(model(images).pred, mae(images).pred)
    assert not model.training
    assert model.source is not None
    assert (model.source.step, model.source.objective, model.source.assumed) == (step, "umae", {})


def test_own_run_altered(tmp_path: Path, mae: MAE):
    file = publish(tmp_path / "run", mae) / "checkpoints/000003/model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="altered or replaced"):
        load(file)


# --- what is assumed ---


def test_heads_come_from_a_table_and_are_said_to(tmp_path: Path):
    state = MAE(image_size=32, patch_size=8, depth=1, decoder_width=512, decoder_heads=16, decoder_depth=1).state_dict()
    found = source(save(tmp_path / "a.pth", {"model": state}))
    assert (found.assumed["heads"], found.assumed["decoder_heads"]) == (3, 16)
    assert found.origins["heads"] == "table, width 192"
    assert set(found.assumed) == {
        "heads", "decoder_heads", "eps", "decoder_eps", "normalize_targets", "mask_ratio", "pixel_mean", "pixel_std",
    }  # fmt: skip


def test_wrong_heads_load_and_compute_something_else(tmp_path: Path, plain: foreign.State):
    """Why heads are shown as assumed: no shape depends on them."""
    path = save(tmp_path / "a.pth", {"model": plain})
    image = torch.ones(1, 3, foreign.IMAGE, foreign.IMAGE)
    right, wrong = load(path, **HEADS), load(path, heads=4, decoder_heads=3)
    assert not torch.allclose(right(image).pred, wrong(image).pred, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"heads": 4}, {"decoder_heads": 2}, {"eps": 1e-3}, {"decoder_eps": 1e-3}, {"normalize_targets": True},
        {"pixel_mean": (0.1, 0.2, 0.3)}, {"pixel_std": (0.5,)}, {"feature": "mean"},
    ],
)  # fmt: skip
def test_every_assumption_has_an_override(change: dict[str, Any], tmp_path: Path, plain: foreign.State):
    model = load(save(tmp_path / "a.pth", {"model": plain}), **{**HEADS, **change})
    ((name, value),) = change.items()
    assert getattr(model.config, name) == value
    assert model.source is not None
    assert (model.source.read[name], model.source.origins[name]) == (value, "you")
    assert name not in model.source.assumed


def test_mask_ratio_is_recorded_and_can_be_overridden(tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain})
    assert source(path, **HEADS).assumed["mask_ratio"] == 0.75
    assert source(path, mask_ratio=0.5, **HEADS).read["mask_ratio"] == 0.5


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"depth": 3}, "expected no other depth than 2"),
        ({"masking": 3}, "expected overrides among"),
        ({"heads": 5}, "multiple of heads"),
        ({"eps": -1.0}, "eps"),
        ({"image_size": 17}, "whole number of 4-pixel patches"),
    ],
)
def test_overrides_that_do_not_fit(overrides: dict[str, Any], complaint: str, tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain})
    with pytest.raises(InputError, match=complaint) as answer:
        load(path, **{**HEADS, **overrides})
    assert not isinstance(answer.value, CheckpointError)


@pytest.mark.parametrize(
    ("name", "normalised"),
    [("mae_pretrain_vit_base_full.pth", True), ("mae_visualize_vit_base.pth", False), ("other.pth", False)],
)
def test_released_files_say_their_targets_by_name(name: str, normalised: bool, tmp_path: Path, plain: foreign.State):
    assert source(save(tmp_path / name, {"model": plain}), **HEADS).assumed["normalize_targets"] is normalised


def test_args_of_the_official_trainer(tmp_path: Path, plain: foreign.State):
    args = argparse.Namespace(
        model="mae_vit_huge_patch14", norm_pix_loss=True, mask_ratio=0.6, output_dir=Path("out"), lr=np.float64(0.1),
        n=np.int64(3), blr=None, betas=(0.9, 0.95),
    )  # fmt: skip
    found = source(save(tmp_path / "a.pth", {"model": plain, "args": args, "epoch": 4}), decoder_heads=3)
    assert {name: found.read[name] for name in ("heads", "eps", "normalize_targets", "mask_ratio", "epoch")} == {
        "heads": 16, "eps": 1e-6, "normalize_targets": True, "mask_ratio": 0.6, "epoch": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("beside", "normalised", "ratio"),
    [
        ({"hyper_parameters": {"norm_pix_loss": True, "mask_ratio": 0.6}}, True, 0.6),
        ({"hyper_parameters": {"model": {"norm_pix_loss": True}, "mask_ratio": 0.6}}, True, 0.6),
        ({"config": {"method": argparse.Namespace(norm_pix_loss=True, mask_ratio=0.6)}}, True, 0.6),
        # neither is believed where two differ, nor what is no such value
        ({"hyper_parameters": {"student": {"mask_ratio": 0.6}, "teacher": {"mask_ratio": 0.1}}}, False, 0.75),
        ({"hyper_parameters": {"norm_pix_loss": "yes", "mask_ratio": 75}}, False, 0.75),
    ],
)
def test_settings_of_any_trainer(
    beside: dict[str, Any], normalised: bool, ratio: float, tmp_path: Path, plain: foreign.State
):
    """A LightningModule that holds the published model, and saved its hyper-parameters."""
    state = {f"model.{name}": tensor for name, tensor in plain.items()}
    found = source(save(tmp_path / "a.ckpt", {"state_dict": state, **beside}), **HEADS)
    assert {**found.read, **found.assumed}["normalize_targets"] is normalised
    assert {**found.read, **found.assumed}["mask_ratio"] == ratio
    assert ("normalize_targets" in found.read) is normalised
    assert ("mask_ratio" in found.read) is (ratio == 0.6)
    assert "model under 'model.'" in found.notes  # nothing was left aside, and no note says so


def test_umae_trained_without_its_regulariser_is_mae(tmp_path: Path, plain: foreign.State, rng: torch.Generator):
    state = foreign.umae(plain, rng)
    for reg, objective in (("none", "mae"), ("spectral", "umae")):
        path = save(tmp_path / f"{reg}.pth", {"model": state, "args": argparse.Namespace(reg=reg, lamb=0.01)})
        assert source(path, **HEADS).objective == objective
    assert "online classifier" in " ".join(source(path, **HEADS).notes)


def test_simmim_config_of_yacs(tmp_path: Path, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch):
    """SimMIM's files hold a yacs node, a class that need not be installed: it is read as a plain
    dictionary."""
    node = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    module = types.ModuleType("yacs.config")
    vars(module)["CfgNode"] = node
    for name in ("yacs", "yacs.config"):
        monkeypatch.setitem(sys.modules, name, module)
    config = node(MODEL=node(VIT=node(NUM_HEADS=2)), DATA=node(MASK_RATIO=0.5, IMG_SIZE=16, MASK_PATCH_SIZE=8))
    vars(config)["__immutable__"] = True
    path = save(tmp_path / "a.pth", {"model": foreign.simmim(rng), "config": config, "max_accuracy": np.float32(0)})
    monkeypatch.undo()
    found = source(path)
    assert found.read["mask_ratio"] == 0.5
    # its unit of 8 pixels is 2 of its patches
    assert found.mask == {"kind": "coarse_random", "unit": 2, "ratio": 0.5}


@pytest.mark.parametrize(("width", "heads"), [(192, 12), (384, 12), (768, 12)])
def test_small_vits_of_solo_learn_have_twelve_heads(width: int, heads: int, tmp_path: Path):
    state = MAE(
        image_size=8, patch_size=4, width=width, heads=12, depth=1, decoder_width=32, decoder_heads=1
    ).state_dict()
    renamed = {
        f"{'decoder' if foreign.is_decoder(name) else 'backbone'}.{name}": value for name, value in state.items()
    }
    found = source(save(tmp_path / "a.ckpt", {"state_dict": renamed}))
    assert (found.format, found.assumed["heads"], found.assumed["decoder_eps"]) == ("solo-learn", heads, 1e-5)


# --- timm by name ---


def test_timm_by_name_takes_weights_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    folder = in_cache(tmp_path, "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    save_file(vit.state_dict(), folder / "model.safetensors")
    found = source("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert (found.read["heads"], found.read["pixel_mean"]) == (3, (0.5, 0.5, 0.5))
    assert "heads" not in found.assumed
    assert "from the local cache, commit 0123456789ab" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("timm:vit_of_nobody", "name of a timm model"),
        ("timm:resnet18", "VisionTransformer"),
        ("timm:vit_base_patch16_224.mae", "local cache"),
    ],
)
def test_timm_names_that_give_nothing(name: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=complaint):
        load(name)


def test_timm_folder_says_its_architecture(tmp_path: Path):
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = source(tmp_path)
    assert (found.read["heads"], found.read["pixel_mean"]) == (3, (0.1, 0.2, 0.3))
