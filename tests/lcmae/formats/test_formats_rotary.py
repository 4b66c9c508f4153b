"""DINOv3 and EVA-02: tokens of visible patches are those of timm's own model, where hidden patches
are taken out of its attention. 1e-5 is rounding in float32: the order of sums differs."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from lcmae.errors import InputError
from lcmae.formats import inspect, load
from lcmae.masking import Random
from lcmae.probes.watching.hooks import attention_problem
from tests.reference.checkpoint_files import save

CLOSE = 1e-5
SIZES = {"vit_small_patch16_dinov3": 64, "eva02_tiny_patch14_224": 56}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Random weights, those of tokens and positions too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            name: timm.create_model(name, img_size=size, pretrained=False, num_classes=0).eval()
            for name, size in SIZES.items()
        }


@pytest.mark.parametrize("name", SIZES)
def test_tokens_are_those_of_timm(name: str, models: dict[str, Any], tmp_path: Path, rng: torch.Generator):
    path = save(tmp_path / "a.pth", {"state_dict": {f"model.{key}": v for key, v in models[name].state_dict().items()}})
    model = load(path, image_size=SIZES[name])
    images = torch.randn(2, 3, SIZES[name], SIZES[name], generator=rng)
    mask = Random(ratio=0.6)(2, model.grid, rng)

    # a key of a hidden patch has no weight
    hidden = torch.cat([torch.zeros(2, model.num_prefix, dtype=torch.bool), mask.is_hidden], dim=1)
    bias = torch.zeros(2, 1, hidden.shape[1], hidden.shape[1]).masked_fill(hidden[:, None, None, :], -torch.inf)
    with torch.no_grad():
        ours = model(images, mask).tokens
        right = models[name].forward_features(images, attn_mask=bias)[:, model.num_prefix :]
    right = torch.stack([row[seen] for row, seen in zip(right, mask.visible, strict=True)])
    print(f"largest difference of {name}: {(ours - right).abs().max():.1e}")
    assert (ours - right).abs().max() < CLOSE * right.abs().max().clamp(min=1)
    assert model.source is not None
    assert model.source.read["architecture"] == name
    assert inspect(path, image_size=SIZES[name]) is not None


def test_what_it_lacks_is_said(models: dict[str, Any], tmp_path: Path):
    path = save(tmp_path / "a.pth", models["eva02_tiny_patch14_224"].state_dict())
    model = load(path, image_size=56)
    assert not model.has_prediction
    assert "EvaAttention" in str(attention_problem(model.blocks))
    with pytest.raises(InputError, match="heads"):
        load(path, image_size=56, heads=12)
