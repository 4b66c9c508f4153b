"""Encoder attention: measures against loops over numbers, hand-made layers of known answer, and
work that is counted."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lcmae.formats.vit import ViT
from lcmae.masking import Mask, Random
from lcmae.models import MaskedImageModel
from lcmae.probes import encoder_attention
from lcmae.probes.base import ProbeError, batches, run_probes
from lcmae.probes.encoder_attention import EncoderAttention, pictured
from lcmae.probes.measures.attention import (
    entropy,
    head_divergence,
    mean_distance,
    normalised_mutual_information,
    patch_distances,
)
from lcmae.probes.reconstruction import Reconstruction
from lcmae.probes.results.networks import trained
from tests.conftest import SMALL, tiny_mae, tiny_simmim
from tests.reference import attention as reference

PROBE = EncoderAttention(mask=Random(ratio=0.5), batch_size=2)


def random_maps(seed: int, sharpness: float, queries: int = 6, keys: int = 6) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(2, 3, queries, keys, generator=rng)).softmax(-1)


@given(seed=st.integers(0, 2**32), sharpness=st.floats(0.01, 8))
def test_measures_are_their_definitions(seed: int, sharpness: float) -> None:
    grid = (2, 3)
    maps = random_maps(seed, sharpness)
    table = patch_distances(grid)
    by_distance = mean_distance(maps, table.expand(2, -1, -1))
    rows = maps.tolist()
    for b in range(2):
        for h in range(3):
            # float32 maps: differences of logarithms lose some digits
            assert normalised_mutual_information(maps)[b, h] == pytest.approx(
                reference.normalised_mutual_information(rows[b][h]), rel=1e-3, abs=1e-6
            )
            assert head_divergence(maps)[b, h] == pytest.approx(
                reference.head_divergence(rows[b], h), rel=1e-4, abs=1e-5
            )
            for q in range(6):
                assert entropy(maps)[b, h, q] == pytest.approx(reference.entropy(rows[b][h][q]), rel=1e-5, abs=1e-6)
                assert by_distance[b, h, q] == pytest.approx(
                    reference.mean_distance(rows[b][h][q], q, list(range(6)), grid), rel=1e-5
                )


def test_heads_that_hardly_differ_keep_their_digits() -> None:
    """Entropies of 4 nats, divergences of 1e-4: float32's rounding of the former must not show in
    the latter."""
    rng = torch.Generator().manual_seed(0)
    maps = torch.softmax(torch.randn(1, 3, 64, 65, generator=rng, dtype=torch.float64) * 0.01, -1).float()
    exact = head_divergence(maps.double())
    assert 5e-5 < exact.min() < exact.max() < 2e-4
    assert head_divergence(maps)[0].tolist() == pytest.approx(exact[0].tolist(), rel=1e-4)


def test_measures_of_known_maps() -> None:
    own, even = torch.eye(4).expand(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.25)
    assert normalised_mutual_information(own).item() == pytest.approx(1)
    assert normalised_mutual_information(even).item() == pytest.approx(0, abs=1e-7)
    # all attention on one key: nothing to be informed about
    assert normalised_mutual_information(torch.eye(4)[[0] * 4][None, None]).isnan().all()
    assert entropy(own).abs().max() == 0
    assert entropy(even).mean().item() == pytest.approx(math.log(4))
    assert head_divergence(torch.cat([even, even], 1)).abs().max() == 0
    # KL((1/2, 1/2) || (1/4, 3/4)) = log(4/3) / 2, and the other way round log(3) 3/4 - log(2)
    two = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).reshape(1, 2, 1, 2)
    expected = [math.log(4 / 3) / 2, 0.75 * math.log(3) - math.log(2)]
    assert head_divergence(two)[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert patch_distances((2, 3))[0].tolist() == pytest.approx([0, 1, 2, 1, math.sqrt(2), math.sqrt(5)])


def set_queries_and_keys(model: MaskedImageModel, scale: float) -> None:
    """Queries and keys are both `scale` times the normed token: 0 gives uniform attention, much
    gives attention to self."""
    for block in model.blocks:
        qkv = block.get_submodule("attn.qkv")
        assert isinstance(qkv, nn.Linear)
        width = qkv.in_features
        qkv.weight.data[: 2 * width] = scale * torch.eye(width).repeat(2, 1)
        qkv.bias.data.zero_()


def test_uniform_attention_scores_what_is_told_for_it(images: Tensor, rng: torch.Generator) -> None:
    model = tiny_mae()
    set_queries_and_keys(model, 0)
    result = trained(PROBE(model, images, rng))
    for view, tokens in (("full", 24 + 1), ("masked", 12 + 1)):
        seen = result.sel(view=view)
        np.testing.assert_allclose(seen.distance, seen.distance_uniform.item(), rtol=1e-5)
        np.testing.assert_allclose(seen.entropy, math.log(tokens), rtol=1e-5)
        np.testing.assert_allclose(seen.mutual_information, 0, atol=1e-5)
        np.testing.assert_allclose(seen.head_divergence, 0, atol=1e-5)
        np.testing.assert_allclose(seen.prefix_mass, 1 / tokens, rtol=1e-5)
    # the mean distance of two independent places of the 4 x 6 grid
    distances = [reference.distance(a, b, (4, 6)) for a in range(24) for b in range(24)]
    assert result.distance_uniform.sel(view="full").item() == pytest.approx(np.mean(distances))


def test_attention_to_self_has_no_distance_no_entropy_and_all_information(images: Tensor, rng: torch.Generator) -> None:
    model = tiny_mae(heads=1)
    set_queries_and_keys(model, 8)
    result = trained(PROBE(model, images, rng))
    np.testing.assert_allclose(result.distance, 0, atol=1e-3)
    np.testing.assert_allclose(result.entropy, 0, atol=1e-3)
    np.testing.assert_allclose(result.mutual_information, 1, atol=1e-3)
    np.testing.assert_allclose(result.prefix_mass, 0, atol=1e-3)
    assert result.head_divergence.isnull().all()  # one head has no other


@pytest.mark.parametrize("build", [tiny_mae, tiny_simmim])
def test_probe_is_its_slow_definition(build: Any, images: Tensor) -> None:
    model = build().eval()
    for parameter in model.blocks.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    result = trained(run_probes([PROBE], model, images, seed=3).datasets["encoder_attention"])
    batch = next(batches(model, images, 5, 3))
    masks = {"full": Mask.none(5, 24), "masked": batch.masks(PROBE.mask, 1)}
    by_image: list[list[float]] = [[] for _ in range(5)]
    for view, mask in masks.items():
        distances = mask.visible if build is tiny_mae else Mask.none(5, 24).visible
        for layer, maps in enumerate(reference.maps_of(model, model.blocks, images, mask)):
            for head in range(2):
                values = []
                for b in range(5):
                    rows, keys = maps[b, head, 1:].tolist(), distances[b].tolist()
                    inner = [[p / sum(row[1:]) for p in row[1:]] for row in rows]
                    spread = [reference.mean_distance(r[1:], q, keys, (4, 6)) for r, q in zip(rows, keys, strict=True)]
                    by_image[b] += [float(np.mean(spread))] if view == "full" else []
                    values.append(
                        {
                            "distance": np.mean(spread),
                            "entropy": np.mean([reference.entropy(row) for row in rows]),
                            "mutual_information": reference.normalised_mutual_information(inner),
                            "head_divergence": reference.head_divergence(maps[b, :, 1:].tolist(), head),
                            "prefix_mass": np.mean([row[0] for row in rows]),
                        }
                    )
                seen = result.sel(view=view).isel(layer=layer, head=head)
                for name in values[0]:
                    each = [value[name] for value in values]
                    assert seen[name].item() == pytest.approx(np.mean(each), rel=1e-4)
                    everywhere = result[name].sel(view=view).mean().item()
                    assert result[f"mean_{name}"].sel(view=view).item() == pytest.approx(everywhere, rel=1e-5)
                    assert seen[f"{name}_sem"].item() == pytest.approx(np.std(each, ddof=1) / math.sqrt(5), rel=2e-3)
    np.testing.assert_allclose(result["image_distance"], [np.mean(each) for each in by_image], rtol=1e-4)


def test_maps_for_photographs_are_the_class_tokens_rows(images: Tensor) -> None:
    model = tiny_mae().eval()
    result = run_probes([PROBE], model, images, seed=3).datasets["encoder_attention"]
    assert result["attention_map"].dims == ("picture", "layer", "head", "row", "column")
    none = Mask.none(len(images), 24)
    for layer, maps in enumerate(reference.maps_of(model, model.blocks, images, none)):
        wanted = maps[:, :, 0, 1:].unflatten(-1, (4, 6))
        np.testing.assert_allclose(result["attention_map"].isel(layer=layer), wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(result["original"], model.to_picture(images))


def test_without_a_class_token_the_mean_patch_is_mapped() -> None:
    maps = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(pictured(maps, 0), maps.mean(2))
    torch.testing.assert_close(pictured(maps, 2), maps[:, :, 0, 2:])


@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_work_is_linear_and_memory_flat(batch_size: int, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_attention, "NUM_PICTURES", 1)  # a bound that the first batch reaches
    model = tiny_mae()
    expected = trained(run_probes([PROBE], model, images, seed=1).datasets["encoder_attention"])
    calls = reference.count_calls(model)
    probe = PROBE.model_copy(update={"batch_size": batch_size})
    result = trained(run_probes([probe], model, images, seed=1).datasets["encoder_attention"])
    assert sum(calls) == 2 * len(images)
    assert len(calls) == 2 * math.ceil(5 / batch_size)
    for name in result:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-4, atol=1e-6)

    accumulator = probe.start(model, 5, 1)
    held = []
    for batch in batches(model, images, 1, 1):
        accumulator.update(batch)
        held.append(reference.numbers_held(accumulator))
    assert held == [held[0]] * 5


def test_without_class_token_and_with_one_image(images: Tensor, rng: torch.Generator) -> None:
    model = ViT(**{**SMALL, "feature": "mean"}, class_token=False)
    result = trained(PROBE(model, images[:1], rng))
    assert (abs(result.prefix_mass) < 1e-6).all()
    assert result.entropy_uniform.values.tolist() == pytest.approx([math.log(24), math.log(12)])
    assert result.distance_sem.isnull().all()
    assert not result.distance.isnull().any()


def test_unknown_attention_is_one_sentence_and_others_go_on(images: Tensor) -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    model = tiny_mae()
    model.blocks[0] = Plain()
    results = run_probes([PROBE, Reconstruction()], model, images, seed=0)
    assert list(results.datasets) == ["reconstruction"]
    message = str(results.failures["encoder_attention"])
    assert message.startswith("probe encoder_attention: needs timm's Attention")
    assert "got Plain in block 0" in message
    assert "\n" not in message
    with pytest.raises(ProbeError, match="encoder_attention: needs timm's"):
        PROBE(model, images, torch.Generator())
