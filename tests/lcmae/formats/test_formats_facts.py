"""What is read, what is assumed, what you may say, what is left aside; wrappers, grids, inspection,
import, refusals."""

import argparse
import dataclasses
import importlib
import json
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.mlp import GluMlp
from torch import Tensor

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import export, import_checkpoint, inspect, load
from lcmae.formats.export import Layout
from lcmae.formats.facts import ratio_of
from lcmae.formats.positions import bicubic
from lcmae.masking import Random
from lcmae.models import MAE, sincos_positions
from lcmae.patches import patchify
from lcmae.runs.run import Run
from tests.conftest import tiny_mae
from tests.lcmae.formats.hub_cache import in_cache
from tests.reference import foreign
from tests.reference.hostile import SETTINGS, wrapped

HEADS: dict[str, Any] = {"heads": foreign.HEADS, "decoder_heads": foreign.DECODER_HEADS}


@pytest.fixture
def plain(rng: torch.Generator) -> foreign.State:
    return foreign.official(rng)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def source(path: Path | str, **overrides: Any):
    found = load(path, **overrides).source
    assert found is not None
    return found


# --- our own runs ---


def publish(path: Path, model: MAE) -> Path:
    config = {"model": model.config.model_dump(mode="json"), "objective": {"kind": "umae"}, "data": "digits"}
    run = Run.create(path, config)
    for step in (3, 7):
        run.publish(step, model.state_dict(), config=config, resume=None)
    return path


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
    config = node(MODEL=node(VIT=node(NUM_HEADS=2)), DATA=node(MASK_RATIO=0.5, IMG_SIZE=16))
    vars(config)["__immutable__"] = True
    path = save(tmp_path / "a.pth", {"model": foreign.simmim(rng), "config": config, "max_accuracy": np.float32(0)})
    monkeypatch.undo()
    assert source(path).read["mask_ratio"] == 0.5


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


# --- wrappers, types, what is left aside ---


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_ema", "module", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_are_removed(wrapper: str | None, prefix: str, tmp_path: Path, plain: foreign.State):
    state = OrderedDict((prefix + name, value) for name, value in plain.items())
    model = load(save(tmp_path / "a.pth", state if wrapper is None else {wrapper: state, "epoch": 1}), **HEADS)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in plain.items())


def test_averaged_weights_are_chosen_by_you(tmp_path: Path, plain: foreign.State):
    other = {name: value + 1 for name, value in plain.items()}
    path = save(tmp_path / "a.pth", {"model": other, "model_ema": plain})
    with pytest.raises(CheckpointError, match=r"got 2: 'model' .*'model_ema'.*weights=KEY \(--weights KEY\)"):
        load(path, **HEADS)
    model = load(path, weights="model_ema", **HEADS)
    assert torch.equal(model.state_dict()["norm.weight"], plain["norm.weight"])
    assert model.source is not None
    assert "weights under 'model_ema'" in model.source.notes
    assert torch.equal(load(path, weights="model", **HEADS).state_dict()["norm.weight"], other["norm.weight"])
    with pytest.raises(InputError, match="expected weights among 'model'"):
        load(path, weights="teacher", **HEADS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_and_it_is_said(dtype: torch.dtype, tmp_path: Path, plain: foreign.State):
    path = tmp_path / "a.safetensors"
    save_file({name: value.to(dtype) for name, value in plain.items()}, path, {"lcmae": json.dumps(SETTINGS)})
    model = load(path)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert model.source is not None
    assert f"weights converted from {str(dtype).removeprefix('torch.')} to float32" in model.source.notes


def test_weights_are_not_mapped_to_the_file(tmp_path: Path, plain: foreign.State):
    """A file that is overwritten later does not change a model that is loaded."""
    for path in (save(tmp_path / "a.pth", wrapped(plain)), tmp_path / "b.safetensors"):
        if path.suffix == ".safetensors":
            save_file(plain, path, {"lcmae": json.dumps(SETTINGS)})
        model = load(path)
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
        assert all(torch.equal(model.state_dict()[name], value) for name, value in plain.items())


@pytest.mark.parametrize("kind", ["fine-tuned, global pool", "fine-tuned, class token", "linear probe"])
def test_classifiers_of_mae_are_encoders(kind: str, tmp_path: Path, rng: torch.Generator):
    """FINETUNE.md: with --global_pool fc_norm stands in place of norm; main_linprobe.py puts a
    batch norm into the head."""
    state = foreign.encoder(rng)
    if kind == "linear probe":
        state |= {"head.0.running_mean": torch.zeros(16), "head.0.running_var": torch.ones(16)}
        state |= {"head.0.num_batches_tracked": torch.tensor(5)} | foreign.linear("head.1", 10, 16, rng)
    else:
        state |= foreign.linear("head", 10, 16, rng)
    if "global" in kind:
        state |= {f"fc_norm.{part}": state.pop(f"norm.{part}") for part in ("weight", "bias")}
    args = argparse.Namespace(model="vit_base_patch16", global_pool="global" in kind)
    # of this model, 12 heads do not fit the 16 values that a test needs
    model = load(save(tmp_path / "a.pth", {"model": state, "args": args}), heads=2)
    assert (model.has_prediction, model.config.feature) == (False, "mean" if "global" in kind else "cls")
    image = torch.randn(1, 3, foreign.IMAGE, foreign.IMAGE, generator=rng)
    out = model(image)
    assert out.pred.shape == (1, 16, 0)
    if "global" in kind:
        assert isinstance(model.norm, torch.nn.Identity)
        normed = torch.nn.functional.layer_norm(
            out.tokens.mean(1), (16,), state["fc_norm.weight"], state["fc_norm.bias"], 1e-6
        )
        assert torch.allclose(out.pooled, normed, atol=1e-5)


def test_an_encoder_inside_another_model(tmp_path: Path, rng: torch.Generator):
    state = {f"trainer.backbone.{name}": value for name, value in foreign.encoder(rng).items()}
    found = source(save(tmp_path / "a.ckpt", {"state_dict": {**state, "projector.weight": torch.zeros(2)}}), heads=2)
    assert "encoder under 'trainer.backbone.'; 1 other tensors left aside" in found.notes


@pytest.mark.parametrize("ratio", [4.0, 100 / 48, 70 / 32, 2 / 3, 2.7])
def test_hidden_widths_come_back_exactly(ratio: float):
    for width in (12, 32, 48, 192):
        hidden = int(width * ratio)
        assert int(width * ratio_of(hidden, width)) == hidden


# --- other grids ---


def test_positions_are_resampled_and_it_is_said(tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain})
    model = load(path, image_size=(24, 32), **HEADS)
    assert model.grid == (6, 8)
    assert model(torch.zeros(1, 3, 24, 32)).pred.shape == (1, 48, foreign.VALUES)
    assert torch.equal(model.pos_embed[:, :1], plain["pos_embed"][:, :1])
    assert model.source is not None
    assert "positions resampled bicubically from a grid of 4x4 to 6x8" in model.source.notes
    assert inspect(path, image_size=(24, 32), **HEADS).config["image_size"] == [24, 32]


def test_resampling_keeps_what_it_can():
    table = sincos_positions(16, (8, 8))
    assert torch.allclose(bicubic(table, (8, 8), (8, 8)), table, atol=1e-6)
    assert torch.allclose(bicubic(torch.ones(64, 3), (8, 8), (5, 11)), torch.ones(55, 3), atol=1e-5)
    transposed = bicubic(table.reshape(8, 8, 16).transpose(0, 1).reshape(64, 16), (8, 8), (6, 4))
    straight = bicubic(table, (8, 8), (4, 6)).reshape(4, 6, 16).transpose(0, 1).reshape(24, 16)
    assert torch.allclose(transposed, straight, atol=1e-5)


def test_a_grid_that_is_not_square_has_to_be_said(tmp_path: Path, plain: foreign.State, rng: torch.Generator):
    state = plain | {
        name: foreign.noise(1, 13, plain[name].shape[2], rng=rng) for name in ("pos_embed", "decoder_pos_embed")
    }
    path = save(tmp_path / "a.pth", {"model": state})
    with pytest.raises(CheckpointError, match=r"square grid.*say image_size"):
        load(path, **HEADS)
    model = load(path, image_size=(8, 24), **HEADS)
    assert model.grid == (2, 6)
    assert torch.equal(model.pos_embed, state["pos_embed"])


@pytest.mark.parametrize("shared", [True, False])
def test_relative_positions_are_resampled_too(shared: bool, tmp_path: Path, rng: torch.Generator):
    state = foreign.simmim(rng, shared=shared, absolute=True)
    model = load(save(tmp_path / "a.pth", {"model": state}), image_size=24)
    out = model(torch.randn(2, 3, 24, 24, generator=rng), Random(ratio=0.5)(2, (6, 6), rng))
    assert out.pred.isfinite().all()
    assert out.pred.shape == (2, 36, foreign.VALUES)


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


# --- refusals ---


def refusals() -> dict[str, tuple[dict[str, Tensor], str]]:
    vit = timm.models.vision_transformer.VisionTransformer
    small: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return {
        "Swin": ({"encoder.layers.0.blocks.0.attn.qkv.weight": torch.zeros(3, 1)}, "Swin"),
        "fine-tuned SimMIM": (
            {
                name.removeprefix("encoder."): value
                for name, value in foreign.simmim(torch.Generator()).items()
                if name.startswith("encoder.") and "mask_token" not in name
            },
            "BEiT without mask token",
        ),
        "SwiGLU": (vit(**small, mlp_layer=GluMlp, mlp_ratio=8).state_dict(), "gated"),
        "no positions": (vit(**small, pos_embed="none").state_dict(), "table of positions"),
        "ResNet": ({"layer1.0.conv1.weight": torch.zeros(1)}, "convolutional"),
        "CLIP": ({"visual.conv1.weight": torch.zeros(1)}, "OpenCLIP"),
        "rotary": ({"blocks.0.rope.freqs": torch.zeros(1)}, "rotary"),
        "unknown": (
            {f"body.{index}.weight": torch.zeros(1) for index in range(9)},
            r"body\.0\.weight, body\.1\.weight, body\.2",
        ),
    }


@pytest.mark.parametrize("name", refusals())
def test_models_that_are_refused_with_the_reason(name: str, tmp_path: Path):
    state, complaint = refusals()[name]
    with pytest.raises(CheckpointError, match=complaint):
        load(save(tmp_path / "a.pth", {"model": state}))


def test_first_differing_keys_are_named_as_in_the_file(tmp_path: Path, plain: foreign.State, rng: torch.Generator):
    state = foreign.solo_learn(plain, rng)
    del state["backbone.blocks.1.norm2.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing: (backbone\.)?blocks\.1\.norm2\.weight"):
        load(save(tmp_path / "a.ckpt", {"state_dict": state}), **HEADS)


# --- inspect and import ---


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


# --- export ---


def test_exports_that_a_layout_cannot_hold(tmp_path: Path, rng: torch.Generator):
    encoder = save(tmp_path / "e.pth", {"model": foreign.encoder(rng)})
    import_checkpoint(encoder, tmp_path / "encoder", heads=2)
    import_checkpoint(save(tmp_path / "s.pth", {"model": foreign.simmim(rng)}), tmp_path / "simmim")
    publish(tmp_path / "wide", tiny_mae())
    refused: tuple[tuple[str, Layout, str], ...] = (
        ("encoder", "official", "an MAE with its decoder"),
        ("encoder", "huggingface", "an MAE with its decoder"),
        ("simmim", "timm", "an MAE or a ViT"),
        ("wide", "huggingface", "square images"),
    )
    for run, to, complaint in refused:
        with pytest.raises(InputError, match=complaint):
            export(tmp_path / run, to, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(InputError, match="new place"):
        export(tmp_path / "wide", "official", encoder)


@pytest.mark.usefixtures("as_installed")
def test_export_to_an_unknown_layout(tmp_path: Path, mae: MAE):
    with pytest.raises(InputError, match="expected a layout among official, timm, huggingface, got 'onnx'"):
        export(publish(tmp_path / "run", mae), "onnx", tmp_path / "out")  # pyright: ignore[reportArgumentType]


def test_predictions_are_in_the_order_of_targets(tmp_path: Path):
    """SimMIM's head writes pixels by a shuffle: a head that copies its bias shows where each value
    goes."""
    state = foreign.simmim(torch.Generator().manual_seed(0))
    state["decoder.0.weight"].zero_()
    picture = torch.arange(float(foreign.VALUES)).reshape(3, 4, 4)
    state["decoder.0.bias"] = picture.flatten()  # (channel, row, column), as PixelShuffle has them
    model = load(save(tmp_path / "a.pth", {"model": state}))
    pred = model(torch.zeros(1, 3, 16, 16)).pred
    assert torch.equal(pred, patchify(picture.repeat(1, 4, 4)[None], 4))
