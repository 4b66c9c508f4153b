"""Further layouts compute what their library computes: at most 1e-5 apart in float32.

transformers and timm are here in person, with random weights. The others are renamings of a state
dict whose forward pass is known (tests/reference/foreign.py).
"""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

import lcmae
from lcmae.errors import InputError
from lcmae.formats import inspect, load
from lcmae.masking import Mask, Random
from lcmae.models import MaskedImageModel
from tests.reference import foreign
from tests.reference.layouts import FAMILIES, SHAPE, crossmae, dinov2, mmpretrain, prithvi, shaken

CLOSE = 1e-5
HEADS: dict[str, Any] = {"heads": foreign.HEADS, "decoder_heads": foreign.DECODER_HEADS}


@pytest.fixture
def image(rng: torch.Generator) -> Tensor:
    return torch.randn(foreign.CHANNELS, foreign.IMAGE, foreign.IMAGE, generator=rng)


@pytest.fixture
def mask(rng: torch.Generator) -> Mask:
    return Random(ratio=0.6)(1, (foreign.SIDE, foreign.SIDE), rng)


@pytest.fixture
def pictures(rng: torch.Generator) -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=rng)


def close(ours: Tensor, right: Tensor) -> None:
    difference = (ours.double() - right.double()).abs().max().item()
    print(f"max |difference| {difference:.1e} at values up to {right.abs().max():.1f}")
    assert right.std() > 0.1
    assert difference < CLOSE


@torch.no_grad()
def tokens(model: MaskedImageModel, images: Tensor) -> Tensor:
    """Prefix tokens and patches of whole images."""
    out = model(images)
    return torch.cat([out.prefix, out.tokens], dim=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_hugging_face_encoders(family: str, tmp_path: Path, pictures: Tensor) -> None:
    config = getattr(transformers, f"{family}Config")(**SHAPE, **FAMILIES[family])
    module: Any = shaken(getattr(transformers, f"{family}Model")(config))
    module.save_pretrained(tmp_path)
    model = load(tmp_path)
    with torch.no_grad():
        right = module(pictures).last_hidden_state
    close(tokens(model, pictures), right)
    assert model.source is not None
    assert model.source.origins["heads"] == "config.json"
    assert inspect(tmp_path).config == model.config.model_dump(mode="json")


def test_hugging_face_masked_image_modelling(tmp_path: Path, pictures: Tensor, rng: torch.Generator) -> None:
    config = transformers.ViTConfig(**SHAPE, patch_size=4, intermediate_size=64, encoder_stride=4)
    module: Any = shaken(transformers.ViTForMaskedImageModeling(config))
    module.save_pretrained(tmp_path)
    model = load(tmp_path)
    mask = Random(ratio=0.5)(2, (4, 4), rng)
    with torch.no_grad():
        right = module(pictures, bool_masked_pos=mask.is_hidden).reconstruction
        out = model(pictures, mask)
    close(lcmae.patches.unpatchify(out.pred, (4, 4), 4), right)
    assert model.source is not None
    assert model.source.objective == "simmim"


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("prefix", ["", "teacher.backbone."])
def test_dinov2s_own_files(chunks: bool, prefix: str, tmp_path: Path, rng: torch.Generator) -> None:
    vit, state = dinov2(chunks)
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "dinov2.pth")
    images = torch.randn(2, 3, 28, 28, generator=rng)
    model = load(tmp_path / "dinov2.pth", heads=4)
    with torch.no_grad():
        close(tokens(model, images), vit.forward_features(images))  # pyright: ignore[reportCallIssue]
    assert inspect(tmp_path / "dinov2.pth", heads=4).config["registers"] == 4


@pytest.mark.parametrize("with_neck", [True, False])
def test_mmpretrain(with_neck: bool, tmp_path: Path, image: Tensor, mask: Mask, rng: torch.Generator) -> None:
    plain = foreign.official(rng)
    torch.save({"state_dict": mmpretrain(plain, with_neck), "meta": {}}, tmp_path / "epoch_300.pth")
    overrides: dict[str, Any] = HEADS if with_neck else {"heads": foreign.HEADS}
    model = load(tmp_path / "epoch_300.pth", **overrides)
    visible = mask.visible[0].tolist()
    right = foreign.encode(plain, image, visible)
    with torch.no_grad():
        out = model(image[None], mask)
    if with_neck:
        close(out.pred[0], foreign.decode(plain, right, visible, 1e-6))
    else:
        close(torch.cat([out.prefix, out.tokens], dim=1)[0], right)


def test_one_frame_of_a_video_model(tmp_path: Path, image: Tensor, mask: Mask, rng: torch.Generator) -> None:
    plain = foreign.official(rng)
    kernel = plain["patch_embed.proj.weight"]
    torch.save({**plain, "patch_embed.proj.weight": kernel[:, :, None]}, tmp_path / "one.pth")
    visible = mask.visible[0].tolist()
    with torch.no_grad():
        out = load(tmp_path / "one.pth", **HEADS)(image[None], mask)
    close(out.pred[0], foreign.decode(plain, foreign.encode(plain, image, visible), visible, 1e-6))

    torch.save({**plain, "patch_embed.proj.weight": kernel[:, :, None].repeat(1, 1, 2, 1, 1)}, tmp_path / "two.pth")
    with pytest.raises(InputError, match=r"got patches of 2 frames: positions in time are not supported"):
        load(tmp_path / "two.pth", **HEADS)


def test_prithvis_halves_are_one_model(tmp_path: Path, image: Tensor, mask: Mask, rng: torch.Generator) -> None:
    plain = foreign.official(rng)
    state = prithvi(plain)
    state["encoder.temporal_embed_enc.scale"] = torch.ones(1)
    torch.save({"state_dict": state}, tmp_path / "prithvi.pt")
    visible = mask.visible[0].tolist()
    model = load(tmp_path / "prithvi.pt", **HEADS)
    with torch.no_grad():
        out = model(image[None], mask)
    close(out.pred[0], foreign.decode(plain, foreign.encode(plain, image, visible), visible, 1e-6))
    assert model.source is not None
    assert any("dates and locations" in note for note in model.source.notes)


def test_crossmae_is_an_encoder(tmp_path: Path, image: Tensor, mask: Mask, rng: torch.Generator) -> None:
    plain = foreign.official(rng)
    torch.save({"model": crossmae(plain)}, tmp_path / "cross.pth")
    model = load(tmp_path / "cross.pth", heads=foreign.HEADS)
    with torch.no_grad():
        out = model(image[None], mask)
    close(torch.cat([out.prefix, out.tokens], dim=1)[0], foreign.encode(plain, image, mask.visible[0].tolist()))
    assert model.source is not None
    assert any("CrossMAE" in note for note in model.source.notes)


def test_positions_on_their_grid(tmp_path: Path, rng: torch.Generator) -> None:
    settings: dict[str, Any] = {"embed_dim": 32, "depth": 1, "num_heads": 4, "num_classes": 0, "patch_size": 4}
    vit = timm.create_model(
        "vit_small_patch16_224", img_size=(8, 32), class_token=False, global_pool="avg", fc_norm=False, **settings
    )
    vit = shaken(vit)
    state = dict(vit.state_dict())
    save_file({**state, "pos_embed": state["pos_embed"].unflatten(1, (2, 8)).contiguous()}, tmp_path / "a.safetensors")
    images = torch.randn(2, 3, 8, 32, generator=rng)
    model = load(tmp_path / "a.safetensors", heads=4)
    assert model.grid == (2, 8)
    with torch.no_grad():
        close(tokens(model, images), vit.forward_features(images))  # pyright: ignore[reportCallIssue]
    assert load(tmp_path / "a.safetensors", heads=4, image_size=16).grid == (4, 4)


def test_moco_v3_takes_the_base_encoder(tmp_path: Path, rng: torch.Generator) -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0)
    state = {f"module.base_encoder.{name}": value for name, value in shaken(vit).state_dict().items()}
    state |= {name.replace("base", "momentum"): value + 1 for name, value in state.items()}
    state["module.base_encoder.head.0.weight"] = torch.zeros(4, 192)
    torch.save({"epoch": 3, "arch": "vit_small", "state_dict": state}, tmp_path / "vit-s-300ep.pth.tar")
    model = load(tmp_path / "vit-s-300ep.pth.tar", heads=3)
    assert torch.equal(model.state_dict()["cls_token"], state["module.base_encoder.cls_token"])
    assert model.source is not None
    assert any("momentum_encoder" in note for note in model.source.notes)
