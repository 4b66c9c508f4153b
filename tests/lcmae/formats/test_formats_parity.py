"""What `load` makes of a foreign checkpoint computes what the other library computes: at most 1e-5
apart in float32.

transformers, timm and lightly are here in person; the others by files written key by key from their
layouts, and by forward passes in float64 (tests/reference/foreign.py). Values are of the order of
1, so 1e-5 is a hundred roundings.
"""

import argparse
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import lcmae
from lcmae.formats import export, load
from lcmae.masking import Mask
from lcmae.models import MAE, MaskedImageModel
from lcmae.runs.run import Run
from tests.reference import foreign

CLOSE = 1e-5
HEADS: dict[str, Any] = {"heads": foreign.HEADS, "decoder_heads": foreign.DECODER_HEADS}


@pytest.fixture
def image(rng: torch.Generator) -> Tensor:
    return torch.randn(foreign.CHANNELS, foreign.IMAGE, foreign.IMAGE, generator=rng)


@pytest.fixture
def mask(rng: torch.Generator) -> Mask:
    return lcmae.masking.Random(ratio=0.6)(1, (foreign.SIDE, foreign.SIDE), rng)


def predict(model: MaskedImageModel, image: Tensor, mask: Mask) -> Tensor:
    with torch.no_grad():
        return model(image[None], mask).pred[0].double()


def close(ours: Tensor, right: Tensor) -> None:
    """At most 1e-5 apart; `pytest -rP` shows how far."""
    difference = (ours - right).abs().max().item()
    print(f"max |difference| {difference:.1e} at values up to {right.abs().max():.1f}")
    assert right.std() > 0.1
    assert difference < CLOSE


def save(path: Path, state: dict[str, Tensor], wrapper: str = "model", **beside: Any) -> Path:
    torch.save({wrapper: state, **beside}, path)
    return path


def expected(state: foreign.State, image: Tensor, mask: Mask, decoder_eps: float) -> Tensor:
    visible = mask.visible[0].tolist()
    return foreign.decode(state, foreign.encode(state, image, visible), visible, decoder_eps)


@pytest.mark.parametrize("objective", ["mae", "umae"])
def test_official_layout(objective: str, tmp_path: Path, image: Tensor, mask: Mask, rng: torch.Generator):
    plain = foreign.official(rng)
    state = plain if objective == "mae" else foreign.umae(plain, rng)
    args = argparse.Namespace(model="custom", input_size=foreign.IMAGE, norm_pix_loss=True, mask_ratio=0.6)
    path = save(tmp_path / "checkpoint-3.pth", state, optimizer={"state": {}}, epoch=3, scaler={}, args=args)
    model = load(path, **HEADS)
    assert model.source is not None
    assert (model.source.format, model.source.objective) == (objective, objective)
    assert model.source.read["normalize_targets"] is True
    close(predict(model, image, mask), expected(plain, image, mask, 1e-6))


def test_solo_learn(tmp_path: Path, image: Tensor, mask: Mask, rng: torch.Generator):
    plain = foreign.official(rng)
    settings = {"decoder_num_heads": foreign.DECODER_HEADS, "norm_pix_loss": True, "mask_ratio": 0.5}
    (tmp_path / "args.json").write_text(json.dumps({"method_kwargs": settings}))
    path = save(tmp_path / "mae.ckpt", foreign.solo_learn(plain, rng), "state_dict", epoch=1)
    model = load(path, heads=foreign.HEADS)
    assert model.source is not None
    assert model.source.format == "solo-learn"
    assert model.source.origins["decoder_heads"] == model.source.origins["normalize_targets"] == "args.json"
    close(predict(model, image, mask), expected(plain, image, mask, 1e-5))


@pytest.mark.parametrize("layout", [foreign.lightly_old, foreign.lightly_new])
@pytest.mark.parametrize("prefix", ["", "model.net."])
def test_lightly(
    layout: Callable[..., foreign.State],
    prefix: str,
    tmp_path: Path,
    image: Tensor,
    mask: Mask,
    rng: torch.Generator,
):
    plain = foreign.official(rng)
    state = {prefix + name: value for name, value in layout(plain, rng).items()}
    model = load(save(tmp_path / "last.ckpt", state, "state_dict"), **HEADS)
    assert model.source is not None
    assert model.source.format == "lightly"
    close(predict(model, image, mask), expected(plain, image, mask, 1e-6))


def test_stable_pretraining(tmp_path: Path, image: Tensor, mask: Mask, rng: torch.Generator):
    state = foreign.stable_pretraining(rng)
    path = save(tmp_path / "last.ckpt", {f"model.{name}": value for name, value in state.items()}, "state_dict")
    model = load(path, **HEADS)
    assert model.source is not None
    assert (model.source.format, model.num_decoder_prefix) == ("stable-pretraining", 0)
    visible = mask.visible[0].tolist()
    encoder = {
        name.removeprefix("encoder.vit."): value for name, value in state.items() if name.startswith("encoder.vit.")
    }
    right = foreign.decode_stable_pretraining(state, foreign.encode(encoder, image, visible), visible)
    close(predict(model, image, mask), right)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_simmim(
    shared: bool, absolute: bool, scale: bool, tmp_path: Path, image: Tensor, mask: Mask, rng: torch.Generator
):
    state = foreign.simmim(rng, shared=shared, absolute=absolute, scale=scale)
    model = load(save(tmp_path / "ckpt_epoch_1.pth", state, epoch=1, max_accuracy=0.0))
    assert model.source is not None
    assert (model.source.format, model.source.read["heads"]) == ("simmim", foreign.HEADS)
    right = foreign.simmim_forward(state, image, mask.hidden[0].tolist())
    close(predict(model, image, mask), right)


# --- lightly ---


def lightly_modules(is_new: bool) -> Any:
    """A MAE of lightly's own modules with random weights, put together as its examples do."""
    os.environ["LIGHTLY_DID_VERSION_CHECK"] = "True"  # else it asks a server about newer versions
    modules = pytest.importorskip("lightly.models.modules")
    vit = timm.models.vision_transformer.VisionTransformer(
        img_size=foreign.IMAGE,
        patch_size=foreign.PATCH,
        embed_dim=foreign.WIDTH,
        depth=foreign.DEPTH,
        num_heads=foreign.HEADS,
        num_classes=0,
    )
    net = torch.nn.Module()
    net.backbone = modules.MaskedVisionTransformerTIMM(vit=vit)
    patches = foreign.SIDE**2
    if is_new:
        net.decoder_embed = torch.nn.Linear(foreign.WIDTH, foreign.DECODER_WIDTH)
        net.decoder = modules.MaskedVisionTransformerDecoderTIMM(
            num_patches=patches,
            embed_dim=foreign.DECODER_WIDTH,
            depth=foreign.DECODER_DEPTH,
            num_heads=foreign.DECODER_HEADS,
        )
        net.prediction_head = torch.nn.Linear(foreign.DECODER_WIDTH, foreign.VALUES)
    else:
        with pytest.warns(FutureWarning, match="MAEDecoderTIMM"):
            net.decoder = modules.MAEDecoderTIMM(
                num_patches=patches, patch_size=foreign.PATCH, in_chans=foreign.CHANNELS, embed_dim=foreign.WIDTH,
                decoder_embed_dim=foreign.DECODER_WIDTH, decoder_depth=foreign.DECODER_DEPTH,
                decoder_num_heads=foreign.DECODER_HEADS,
            )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


@pytest.mark.parametrize("is_new", [True, False], ids=["vit decoder", "mae decoder"])
def test_lightly_itself(is_new: bool, tmp_path: Path, image: Tensor, mask: Mask):
    net = lightly_modules(is_new)
    from lightly.models import utils

    # their indices count the class token, which is kept
    keep = torch.cat([torch.zeros(1, 1, dtype=torch.long), 1 + mask.visible], dim=1)
    with torch.no_grad():
        encoded = net.backbone.encode(images=image[None], idx_keep=keep)
        embedded = net.decoder_embed(encoded) if is_new else net.decoder.embed(encoded)
        tokens = utils.repeat_token(net.decoder.mask_token, (1, foreign.SIDE**2 + 1))
        tokens = utils.set_at_index(tokens, keep, embedded)
        right = net.prediction_head(net.decoder(tokens)) if is_new else net.decoder.predict(net.decoder.decode(tokens))

    model = load(save(tmp_path / "last.ckpt", net.state_dict(), "state_dict"), **HEADS)
    assert model.source is not None
    assert model.source.format == "lightly"
    close(predict(model, image, mask), right[0, 1:].double())
    assert torch.equal(model.targets(image[None]), utils.patchify(image[None], foreign.PATCH))


# --- transformers ---


@pytest.fixture
def vitmae() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTMAEConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=100,
        image_size=16,
        patch_size=4,
        decoder_num_attention_heads=2,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=2,
        decoder_intermediate_size=70,
        layer_norm_eps=1e-4,
        norm_pix_loss=True,
        mask_ratio=0.5,
    )
    model = transformers.ViTMAEForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def hub_layout(folder: Path, state: dict[str, Tensor]) -> None:
    """Rewrite a folder in the names of hub files; those that this version writes are replaced."""
    config = json.loads((folder / "config.json").read_text())
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^vit\.layers\.", "vit.encoder.layer.", name)
        name = re.sub(r"^decoder\.(layers|decoder_encoder\.layer)\.", "decoder.decoder_layers.", name)
        for new, old in NEW_TO_OLD:
            name = name.replace(new, old)
        renamed[name] = value
    (folder / "config.json").write_text(json.dumps(config))
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


NEW_TO_OLD = (
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)


def theirs(model: Any, image: Tensor, mask: Mask) -> Tensor:
    """Their predictions under our mask: they keep the patches of the least noise."""
    with torch.no_grad():
        output = model(image[None], noise=mask.is_hidden.float())
    assert torch.equal(output.mask.bool(), mask.is_hidden)
    return output.logits[0].double()


@pytest.fixture
def half(rng: torch.Generator) -> Mask:
    return lcmae.masking.Random(ratio=0.5)(1, (foreign.SIDE, foreign.SIDE), rng)


@pytest.mark.parametrize("layout", ["as transformers 5 writes it", "as on the hub", "pytorch_model.bin"])
def test_huggingface(layout: str, vitmae: Any, tmp_path: Path, image: Tensor, half: Mask):
    vitmae.save_pretrained(tmp_path)
    if layout != "as transformers 5 writes it":
        hub_layout(tmp_path, load_file(tmp_path / "model.safetensors"))
    if layout == "pytorch_model.bin":
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    model = load(tmp_path)
    assert model.source is not None
    assert model.source.read["eps"] == 1e-4
    assert model.source.read["mask_ratio"] == 0.5
    assert set(model.source.assumed) == {"pixel_mean", "pixel_std"}
    close(predict(model, image, half), theirs(vitmae, image, half))


def test_huggingface_names_in_memory(vitmae: Any, tmp_path: Path, image: Tensor, half: Mask):
    path = save(tmp_path / "vitmae.pth", vitmae.state_dict())
    model = load(path, heads=4, decoder_heads=2, eps=1e-4, decoder_eps=1e-4)
    close(predict(model, image, half), theirs(vitmae, image, half))


def test_huggingface_encoder_alone(vitmae: Any, tmp_path: Path, image: Tensor, half: Mask):
    vitmae.vit.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert not model.has_prediction
    with torch.no_grad():
        right = vitmae.vit(image[None], noise=half.is_hidden.float())
        ours = model(image[None], half)
    # their visible patches come in the order of the noise, ours in raster order
    order = right.ids_restore.argsort(dim=1)[:, : half.visible.shape[1]].argsort(dim=1)
    tokens = right.last_hidden_state[:, 1:].gather(1, order[:, :, None].expand(-1, -1, 48))
    close(ours.tokens, tokens)
    close(ours.prefix[:, 0], right.last_hidden_state[:, 0])


def test_export_to_huggingface_is_read_by_transformers(tmp_path: Path, rng: torch.Generator, half: Mask):
    transformers = pytest.importorskip("transformers")
    ours = MAE(
        image_size=16, patch_size=4, width=48, depth=2, heads=4, decoder_width=32, decoder_depth=1, decoder_heads=2
    )
    path = save(tmp_path / "a.pth", ours.state_dict())
    model = load(path, heads=4, decoder_heads=2)
    export_path = export(publish(model, tmp_path / "run"), "huggingface", tmp_path / "out")
    back = transformers.ViTMAEForPreTraining.from_pretrained(export_path).eval()
    back.config.mask_ratio = 0.5
    image = torch.randn(3, 16, 16, generator=rng)
    close(predict(model, image, half), theirs(back, image, half))
    # and back again, exactly
    assert torch.equal(predict(load(export_path), image, half), predict(model, image, half))
    again = export(export_path, "huggingface", tmp_path / "again")
    assert state_bytes(again) == state_bytes(export_path)


def state_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def publish(model: MaskedImageModel, path: Path) -> Path:
    config = {"model": model.config.model_dump(mode="json"), "data": None, "objective": None}
    Run.create(path, config).publish(3, model.state_dict(), config=config, resume=None)
    return path


# --- timm ---

VITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no class token": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "registers": {"reg_tokens": 3},
    "registers, positions on patches alone": {"reg_tokens": 3, "no_embed_class": True},
    "class token without position": {"no_embed_class": True},
    "norm_pre": {"pre_norm": True},
    "layer scale": {"init_values": 0.1},
    "qk norm": {"qk_norm": True},
    "no qkv bias": {"qkv_bias": False},
    "fc_norm": {"global_pool": "avg"},
    "no final norm": {"final_norm": False},
    "one channel, narrow blocks": {"in_chans": 1, "mlp_ratio": 2.7},
}


@pytest.mark.parametrize("name", VITS)
def test_timm_encoder(name: str, tmp_path: Path, rng: torch.Generator):
    vit = timm.models.vision_transformer.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=48, depth=2, num_heads=4, num_classes=5, **VITS[name]
    )
    vit.eval()
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    path = tmp_path / "vit.safetensors"
    save_file(vit.state_dict(), path)
    model = load(path, heads=4)
    images = torch.randn(2, vit.in_chans, 16, 16, generator=rng)
    with torch.no_grad():
        right = vit.forward_features(images)
        ours = model(images)
    close(torch.cat([ours.prefix, ours.tokens], dim=1), right)
    assert ours.pred.shape == (2, 16, 0)
    if name == "fc_norm":
        with torch.no_grad():
            close(ours.pooled, vit.forward_head(right, pre_logits=True))


def test_export_to_timm_is_read_by_timm(tmp_path: Path, rng: torch.Generator):
    ours = MAE(image_size=32, patch_size=16, width=192, depth=12, heads=3, decoder_width=32, decoder_heads=2)
    path = export(publish(ours, tmp_path / "run"), "timm", tmp_path / "encoder.safetensors")
    vit: Any = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, checkpoint_path=str(path))
    vit.eval()
    images = torch.randn(2, 3, 32, 32, generator=rng)
    with torch.no_grad():
        right = vit.forward_features(images)
        back = load(path)(images)
        close(torch.cat([back.prefix, back.tokens], dim=1), right)
        assert torch.equal(back.tokens, ours.eval()(images).tokens)


def test_export_to_official_round_trip(tmp_path: Path, rng: torch.Generator):
    ours = MAE(
        image_size=(8, 24), patch_size=4, width=48, heads=4, depth=1, decoder_width=32, decoder_heads=2, eps=1e-4,
        decoder_eps=1e-4, normalize_targets=True, pixel_mean=(0.1,), feature="mean",
    ).eval()  # fmt: skip
    path = export(publish(ours, tmp_path / "run"), "official", tmp_path / "mae.pth")
    model = load(path)
    assert model.config == ours.config.model_copy(update={"decoder_mlp_ratio": 4.0})
    images = torch.randn(1, 3, 8, 24, generator=rng)
    mask = lcmae.masking.Random(ratio=0.5)(1, (2, 6), rng)
    with torch.no_grad():
        assert torch.equal(model(images, mask).pred, ours(images, mask).pred)
