"""Where a model is found in a file: wrappers, prefixes, what is left aside, what is refused."""

import argparse
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.mlp import GluMlp
from torch import Tensor

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import load
from lcmae.formats.facts import ratio_of
from tests.reference import foreign
from tests.reference.checkpoint_files import HEADS, save, source
from tests.reference.hostile import SETTINGS, wrapped

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
