"""Flows beside their equations, slopes beside attention written out, and known answers: planted
outliers, an attention that is the identity."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr
from timm.layers.attention import Attention
from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import MAE
from lcmae.probes.attention_flow import AttentionFlow
from lcmae.probes.measures.attention_flow import (
    GATHERED,
    defined,
    gathered,
    gradient_rollout,
    neighbour_cosine,
    outliers,
    rollout,
    spearman,
)
from lcmae.probes.results.networks import trained
from lcmae.probes.watching.attention_slopes import attention_slopes
from tests.conftest import tiny_mae
from tests.reference.probes import attention_flow as reference


def some_maps(rng: torch.Generator, layers: int = 3) -> list[Tensor]:
    return [torch.randn(2, 2, 5, 5, generator=rng).softmax(-1) for _ in range(layers)]


def test_flows_are_the_papers(rng: torch.Generator) -> None:
    maps = some_maps(rng)
    slopes = [torch.randn(2, 2, 5, 5, generator=rng) for _ in maps]
    for image in range(2):
        one = [layer[image].numpy() for layer in maps]
        np.testing.assert_allclose(rollout(maps)[image], reference.rollout(one), atol=1e-6)
        wanted = reference.gradient_rollout(one, [slope[image].numpy() for slope in slopes])
        np.testing.assert_allclose(gradient_rollout(maps, slopes)[image], wanted, atol=1e-5)
    torch.testing.assert_close(rollout(maps).sum(-1), torch.ones(2, 5))


def test_attention_to_oneself_flows_nowhere() -> None:
    identity = [torch.eye(5).expand(2, 2, -1, -1)] * 3
    torch.testing.assert_close(rollout(identity), torch.eye(5).expand(2, -1, -1))
    even = [torch.full((1, 2, 4, 4), 0.25)]
    torch.testing.assert_close(rollout(even)[0], torch.full((4, 4), 0.125) + 0.5 * torch.eye(4))


def test_what_is_gathered_by_hand() -> None:
    maps = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.2, 0.2, 0.2, 0.4], [0.25, 0.25, 0.4, 0.1], [0.0, 0.0, 0.3, 0.7]])
    found = dict(zip(GATHERED, gathered(maps[None, None], 2)[0, 0].tolist(), strict=True))
    assert found["class_self"] == pytest.approx(0.5)
    assert found["class_registers"] == pytest.approx(0.1)
    assert found["class_patches"] == pytest.approx(0.4)
    assert found["class_entropy"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), rel=1e-6)
    assert found["patch_self"] == pytest.approx((0.4 + 0.7) / 2)
    assert found["patch_class"] == pytest.approx(0.125)
    assert found["patch_registers"] == pytest.approx(0.125)
    assert defined(0) == ("patch_self",)
    assert "class_registers" not in defined(1)
    assert defined(3) == tuple(GATHERED)


def test_rank_correlations_are_scipy_s(rng: torch.Generator) -> None:
    one, other = torch.randint(6, (2, 4, 9), generator=rng).double()
    for row in range(4):
        wanted: Any = spearmanr(one[row], other[row])
        assert float(spearman(one, other)[row]) == pytest.approx(float(wanted[0]))
    assert spearman(torch.ones(1, 9), other[:1]).isnan().all()


def test_planted_outliers_are_found(rng: torch.Generator) -> None:
    norms = 10 + torch.rand(3, 24, generator=rng).double()
    norms[0, 5] = norms[2, 0] = 40
    found = outliers(norms)
    assert found.nonzero().tolist() == [[0, 5], [2, 0]]
    for row in range(3):
        assert found[row].tolist() == reference.is_outlier(norms[row].tolist())
    assert not outliers(torch.full((1, 9), 2.0)).any()
    assert not outliers(torch.full((1, 9), 2.0) + 1e-6 * torch.rand(1, 9, generator=rng)).any()


def test_cosines_to_neighbours_by_hand(rng: torch.Generator) -> None:
    tokens = torch.randn(2, 12, 5, generator=rng).double()
    found = neighbour_cosine(tokens, (3, 4))

    def cosine(a: int, b: int) -> float:
        return float(torch.nn.functional.cosine_similarity(tokens[1, a], tokens[1, b], dim=0))

    assert float(found[1, 0]) == pytest.approx(np.mean([cosine(0, 1), cosine(0, 4)]))
    assert float(found[1, 6]) == pytest.approx(np.mean([cosine(6, other) for other in (2, 10, 5, 7)]))


def test_slopes_of_fused_attention_are_those_of_attention_written_out(mae: MAE, images: Tensor) -> None:
    """The same network with its maps formed and differentiated by autograd."""
    maps: list[Tensor] = []

    class WrittenOut(torch.nn.Module):
        def __init__(self, inner: Attention) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor, **_: object) -> Tensor:
            inner = self.inner
            parts = inner.qkv(x).unflatten(-1, (3, inner.num_heads, inner.head_dim)).permute(2, 0, 3, 1, 4)
            attended = (parts[0] * inner.scale @ parts[1].mT).softmax(-1)
            maps.append(attended)
            return inner.proj((attended @ parts[2]).transpose(1, 2).flatten(2))

    def scalar(tokens: Tensor) -> Tensor:
        return tokens[:, 0].square().sum(-1)

    found = attention_slopes(mae, images, scalar)
    for block in mae.blocks:
        block.attn = WrittenOut(block.attn)  # pyright: ignore[reportArgumentType]
    x = images.clone().requires_grad_()
    tokens: list[Tensor] = []
    hook = mae.blocks[-1].register_forward_hook(lambda *args: tokens.append(args[2]))
    mae.encode(x, Mask.none(len(images), mae.num_patches, images.device))
    hook.remove()
    pixels, *slopes = torch.autograd.grad(scalar(tokens[0]).sum(), [x, *maps])
    torch.testing.assert_close(found.pixels, pixels, rtol=1e-3, atol=1e-6)
    for mine, other in zip(found.maps, maps, strict=True):
        torch.testing.assert_close(mine, other.detach(), rtol=1e-4, atol=1e-6)
    for mine, other in zip(found.slopes, slopes, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-6)


def test_the_probe_says_what_it_measured(images: Tensor) -> None:
    model = tiny_mae()
    whole = AttentionFlow(batch_size=2)(model, images, torch.Generator().manual_seed(0))
    result = trained(whole)
    total = result["class_self"] + result["class_patches"]
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert result["picture_flow"].sizes == {"picture": 4, "map": 4, "row": 4, "column": 6}
    np.testing.assert_allclose(result["picture_flow"].sum(("row", "column")), 1, rtol=1e-5)
    assert (abs(result["agreement"]) <= 1).all()
    assert result.attrs["num_flow_images"] == 5
    assert result.attrs["token"] == "class token"
    assert whole["network"].values.tolist() == ["trained", "untrained"]
    again = trained(AttentionFlow(batch_size=5)(model, images, torch.Generator().manual_seed(0)))
    for name in ("agreement", "class_entropy", "outlier_share"):
        xr.testing.assert_allclose(result[name], again[name], rtol=1e-4)


def test_a_planted_outlier_stands_in_the_map(images: Tensor) -> None:
    model = tiny_mae()
    with torch.no_grad():
        model.pos_embed[0, 1 + 7] *= 200  # patch 7, behind the class token
    result = trained(AttentionFlow(flow_images=0)(model, images, torch.Generator().manual_seed(0)))
    assert float(result["outlier_map"].values.flat[7]) == 1
    assert float(result["norm_ratio"].min()) > 5
    assert result["agreement"].isnull().all()
