"""Hooks see what unfused attention computes, and leave nothing behind."""

from typing import Any

import pytest
import torch
from timm.layers.attention import Attention
from timm.models.beit import Attention as BeitAttention
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.formats.beit import SimMIMBeit
from lcmae.formats.vit import ViT
from lcmae.masking import Mask, Random
from lcmae.models import MaskedImageModel
from lcmae.probes.watching.hooks import attention_maps, attention_problem, block_outputs, watch_attention
from tests.conftest import SMALL, tiny_mae


def randomised(module: nn.Module, seed: int = 1) -> nn.Module:
    """Every parameter off its initial value, so that each has a part."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=rng)
    return module.eval()


def unfused_map(attention: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    """What goes into `attn_drop` when timm does not fuse: the softmax itself."""
    seen: list[Tensor] = []
    assert isinstance(attention, Attention | BeitAttention)
    fused = attention.fused_attn
    attention.fused_attn = False  # pyright: ignore[reportAttributeAccessIssue]

    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.append(output)

    handle = attention.attn_drop.register_forward_hook(hook)
    attention(*args, **kwargs)
    handle.remove()
    attention.fused_attn = fused  # pyright: ignore[reportAttributeAccessIssue]
    return seen[0]


def count_hooks(model: nn.Module) -> int:
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")
    tables += ("_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called", "_backward_pre_hooks")
    return sum(len(getattr(module, table)) for module in model.modules() for table in tables)


def models() -> dict[str, MaskedImageModel]:
    small: dict[str, Any] = {**SMALL, "feature": "mean"}
    return {
        "mae": tiny_mae(),
        "qk_norm": ViT(**small, qk_norm=True, class_token=False),
        "registers": ViT(**small, registers=2, qkv_bias=False, layer_scale=True),
        "beit_shared": SimMIMBeit(**small, relative_positions="shared"),
        "beit_each": SimMIMBeit(**small, relative_positions="each", qkv_bias=False),
        "beit_none": SimMIMBeit(**small, relative_positions="none", absolute_positions=True),
    }


@pytest.mark.parametrize("name", models())
def test_maps_are_those_of_unfused_attention(name: str, images: Tensor, rng: torch.Generator) -> None:
    model = models()[name]
    randomised(model)
    mask = Random(ratio=0.5)(len(images), model.grid, rng)
    maps: dict[int, Tensor] = {}
    called: dict[int, tuple[Any, Any]] = {}
    for layer, block in enumerate(model.blocks):
        block.attn.register_forward_pre_hook(  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
            lambda module, args, kwargs, layer=layer: called.update({layer: (args, kwargs)}), with_kwargs=True
        )
    with torch.no_grad(), watch_attention(model.blocks, maps.__setitem__):
        model.encode(images, mask)
    assert list(maps) == [0, 1]
    for layer, block in enumerate(model.blocks):
        args, kwargs = called[layer]
        expected = unfused_map(block.get_submodule("attn"), *args, **kwargs)
        # float32: one matrix product more or less
        torch.testing.assert_close(maps[layer], expected, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(maps[layer].sum(-1), torch.ones(expected.shape[:-1]))


@pytest.mark.parametrize("is_causal", [False, True])
def test_masks_of_attention_count(is_causal: bool, rng: torch.Generator) -> None:
    attention = randomised(Attention(8, num_heads=2, qkv_bias=True))
    x = torch.randn(2, 5, 8, generator=rng)
    allowed = torch.rand(5, 5, generator=rng) < 0.6
    allowed |= torch.eye(5, dtype=torch.bool)
    kwargs: dict[str, Any] = {"is_causal": True} if is_causal else {"attn_mask": allowed}
    maps = attention_maps(attention, x, **kwargs)
    torch.testing.assert_close(maps, unfused_map(attention, x, **kwargs))
    assert (maps == 0).any()


def test_outputs_are_those_of_the_blocks_and_carry_gradients(images: Tensor) -> None:
    model = tiny_mae()
    mask = Mask.none(len(images), model.num_patches)
    with block_outputs(model.blocks) as outputs:
        prefix, tokens, _ = model.encode(images, mask)
    torch.testing.assert_close(model.norm(outputs[1]), torch.cat([prefix, tokens], 1))
    torch.testing.assert_close(model.blocks[1](outputs[0]), outputs[1])
    assert outputs[0].requires_grad


def test_nothing_is_left_behind_and_the_output_is_the_same(images: Tensor) -> None:
    model = tiny_mae().eval()
    before = model(images).pred
    with watch_attention(model.blocks, lambda layer, maps: None), block_outputs(model.decoder_blocks):
        assert count_hooks(model) == 3 + 2  # two pre-hooks with arguments are listed twice
        assert torch.equal(model(images).pred, before)
    assert count_hooks(model) == 0


def test_nothing_is_left_behind_by_an_error(images: Tensor) -> None:
    model = tiny_mae()

    def see(layer: int, maps: Tensor) -> None:
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"), watch_attention(model.blocks, see):
        model(images)
    with pytest.raises(KeyError), block_outputs(model.blocks) as outputs:
        outputs[7]
    assert count_hooks(model) == 0


def test_unknown_attention_is_refused_before_any_hook(images: Tensor) -> None:
    class Other(Attention):
        def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return x

    model = tiny_mae()
    model.blocks[1].attn = Other(16, num_heads=2)
    with (
        pytest.raises(InputError, match=r"needs timm's Attention .*, got Other in block 1"),
        watch_attention(model.blocks, lambda layer, maps: None),
    ):
        pass
    assert count_hooks(model) == 0
    assert "got Identity in block 0" in str(attention_problem(nn.ModuleList([nn.Identity()])))
