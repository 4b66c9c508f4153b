"""What is exported is read by others and by us; what a layout cannot hold is refused."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models.beit import Beit
from torch import Tensor

from lcmae.errors import InputError
from lcmae.formats import export, import_checkpoint, load
from lcmae.formats.export import Layout
from lcmae.masking import Random
from lcmae.models import MAE, SimMIM
from lcmae.patches import patchify
from tests.conftest import tiny_mae
from tests.reference import foreign
from tests.reference.checkpoint_files import publish, save


def test_exports_that_a_layout_cannot_hold(tmp_path: Path, rng: torch.Generator):
    encoder = save(tmp_path / "e.pth", {"model": foreign.encoder(rng)})
    import_checkpoint(encoder, tmp_path / "encoder", heads=2)
    import_checkpoint(save(tmp_path / "s.pth", {"model": foreign.simmim(rng)}), tmp_path / "simmim")
    publish(tmp_path / "wide", tiny_mae())
    refused: tuple[tuple[str, Layout, str], ...] = (
        ("encoder", "official", "an MAE with its decoder"),
        ("encoder", "huggingface", "an MAE with its decoder"),
        ("simmim", "official", "an MAE with its decoder"),
        ("wide", "huggingface", "square images"),
    )
    for run, to, complaint in refused:
        with pytest.raises(InputError, match=complaint):
            export(tmp_path / run, to, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(InputError, match="a new path for the export"):
        export(tmp_path / "wide", "official", encoder)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"decoder_prefix": 0}, "a decoder with a class token"),
        ({"eps": 1e-5}, "one eps"),
        ({"decoder_mlp_ratio": 2.0}, "one mlp_ratio for encoder and decoder"),
    ],
)
def test_what_the_official_class_cannot_hold(settings: dict[str, Any], complaint: str, tmp_path: Path):
    run = publish(tmp_path / "run", tiny_mae(**settings))
    with pytest.raises(InputError, match=complaint):
        export(run, "official", tmp_path / "a.pth")
    assert not (tmp_path / "a.pth").exists()


@pytest.mark.parametrize("to", ["official", "timm"])
def test_absent_biases_are_written_as_zeros(to: Layout, tmp_path: Path, images: Tensor):
    """Exact: a bias of zero adds nothing."""
    model = tiny_mae(qkv_bias=False)
    out = export(publish(tmp_path / "run", model), to, tmp_path / ("a.pth" if to == "official" else "a.safetensors"))
    back = load(out)
    assert torch.equal(back.state_dict()["blocks.0.attn.qkv.bias"], torch.zeros(3 * model.config.width))
    with torch.no_grad():
        assert torch.equal(back(images).tokens, model(images).tokens)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_an_encoder_of_simmim_is_read_by_timm_and_by_us(
    shared: bool, absolute: bool, tmp_path: Path, rng: torch.Generator
):
    state = foreign.simmim(rng, shared=shared, absolute=absolute)
    path = save(tmp_path / "a.pth", {"model": state})
    ours, out = load(path), export(path, "timm", tmp_path / "a.safetensors")
    beit = Beit(
        img_size=foreign.IMAGE, patch_size=foreign.PATCH, embed_dim=foreign.WIDTH, depth=foreign.DEPTH,
        num_heads=foreign.HEADS, num_classes=0, global_pool="token", init_values=0.1, use_abs_pos_emb=absolute,
        use_rel_pos_bias=True,
    ).eval()  # fmt: skip
    beit.load_state_dict(load_file(out), strict=False)
    images = torch.randn(2, 3, foreign.IMAGE, foreign.IMAGE, generator=rng)
    mask = Random(ratio=0.5)(2, ours.grid, rng)
    back = load(out)
    assert not back.has_prediction
    with torch.no_grad():
        right = ours(images, mask).tokens
        torch.testing.assert_close(back(images, mask).tokens, right, atol=1e-5, rtol=0)
        torch.testing.assert_close(beit.forward_features(images)[:, 1:], ours(images).tokens, atol=1e-5, rtol=0)


def test_our_simmim_is_read_by_timm(tmp_path: Path, rng: torch.Generator):
    ours = SimMIM(image_size=(16, 32), patch_size=16, width=192, depth=12, heads=3).eval()
    out = export(publish(tmp_path / "run", ours), "timm", tmp_path / "a.safetensors")
    vit: Any = timm.create_model("vit_tiny_patch16_224", img_size=(16, 32), num_classes=0, checkpoint_path=str(out))
    images = torch.randn(1, 3, 16, 32, generator=rng)
    with torch.no_grad():
        torch.testing.assert_close(vit.eval().forward_features(images)[:, 1:], ours(images).tokens, atol=1e-5, rtol=0)
        assert torch.equal(load(out)(images).tokens, ours(images).tokens)


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
