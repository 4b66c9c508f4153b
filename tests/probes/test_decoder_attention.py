"""Decoder attention: masses and shares against loops over numbers, decoders of known answer, and
work that is counted."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.formats.vit import ViT
from lcmae.masking import Block, Mask, Random
from lcmae.models import MAE
from lcmae.probes.base import ProbeError, batches, run_probes
from lcmae.probes.decoder_attention import DecoderAttention, masses, query_pairs, spaced
from lcmae.probes.measures.attention import PositionalShare
from lcmae.probes.results.networks import trained
from lcmae.randomness import generator
from tests.conftest import SMALL, tiny_mae, tiny_simmim
from tests.reference import attention as reference

PROBE = DecoderAttention(mask=Random(ratio=0.5), num_masks=3, num_places=6, num_pictures=3, num_queries=2, batch_size=2)
SHARES = ("positional_share_over_images", "positional_share_over_masks")


def lively_mae(**settings: object) -> MAE:
    """Off its initial weights, so that attention is far from uniform."""
    model = tiny_mae(decoder_depth=2, **settings).eval()
    rng = torch.Generator().manual_seed(5)
    for parameter in model.decoder_blocks.parameters():
        parameter.data += 0.4 * torch.randn(parameter.shape, generator=rng)
    model.mask_token.data += torch.randn(model.mask_token.shape, generator=rng)
    return model


@given(seed=st.integers(0, 2**32), num_prefix=st.integers(0, 2))
def test_masses_are_their_definition_and_sum_to_one(seed: int, num_prefix: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3, 6, 6 + num_prefix, generator=rng).mul(3).softmax(-1)
    is_hidden = torch.rand(2, 6, generator=rng) < 0.5
    seen = masses(maps, is_hidden)
    torch.testing.assert_close(seen.sum(-1), torch.ones(2, 3, 6))
    for b in range(2):
        for q in range(6):
            row = maps[b, 1, q].tolist()
            others = [(row[num_prefix + k], bool(is_hidden[b, k])) for k in range(6) if k != q]
            visible, hidden = (sum(p for p, is_one in others if is_one == kind) for kind in (False, True))
            expected = [row[num_prefix + q], visible, hidden, sum(row[:num_prefix])]
            assert seen[b, 1, q].tolist() == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 2**32), num_images=st.integers(2, 4), num_masks=st.integers(2, 4))
def test_shares_are_their_definition(seed: int, num_images: int, num_masks: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    masks = Random(ratio=0.75)(num_masks, (2, 4), rng)
    mask, position = query_pairs(masks, 5, rng)
    rows = torch.rand(num_images, len(mask), 2, 6, generator=rng)
    share = PositionalShare(mask, position, num_images)
    for part in rows.split(2):
        share.add(part)
    where = [(m, p) for m, p in zip(mask.tolist(), position.tolist(), strict=True)]
    for head in range(2):
        table = {(b, *where[i]): rows[b, i, head] for b in range(num_images) for i in range(len(where))}
        over_images = reference.positional_share(table, fixed=1, position=2)
        assert share.over_images()[head] == pytest.approx(over_images, abs=1e-6)
        if len(set(position.tolist())) < len(where):
            over_masks = reference.positional_share(table, fixed=0, position=2)
            assert share.over_masks()[head] == pytest.approx(over_masks, abs=1e-6)


def test_shares_at_both_ends(rng: torch.Generator) -> None:
    mask, position = query_pairs(Random(ratio=0.75)(6, (4, 4), rng), 16, rng)
    of_position = torch.rand(16, 1, 20, generator=rng)[position].expand(40, -1, -1, -1)
    of_image = torch.rand(40, 1, 1, 20, generator=rng).expand(-1, len(mask), -1, -1)
    of_mask = torch.rand(6, 1, 20, generator=rng)[mask].expand(40, -1, -1, -1)
    noise = torch.rand(40, len(mask), 1, 20, generator=rng)

    def shares(rows: Tensor) -> tuple[float, float]:
        share = PositionalShare(mask, position, len(rows))
        share.add(rows)
        one_head, pooled = share.over_images().tolist()
        assert one_head == pytest.approx(pooled, nan_ok=True)
        return one_head, share.over_masks()[0].item()

    assert shares(of_position) == pytest.approx((1, 1))
    # epsilon squared of pure noise has expectation 0; six deviations of the sampling are well below
    # 0.02
    assert shares(noise) == pytest.approx((0, 0), abs=0.02)
    # position ignored: exactly -1 / (images - 1) to first order; and nothing varies at all over
    # masks of one image
    over_images, over_masks = shares(of_image)
    assert over_images == pytest.approx(0, abs=1 / 30)
    assert math.isnan(over_masks)
    over_images, over_masks = shares(of_mask)
    assert math.isnan(over_images)
    assert over_masks == pytest.approx(0, abs=0.25)  # six masks: -1 / 5 to first order
    # half of the variance from the position, half from everything else
    assert shares(of_position + noise) == pytest.approx((0.5, 0.5), abs=0.1)


def test_shares_without_a_group_or_a_mask_are_those_of_the_rest(rng: torch.Generator) -> None:
    mask, position = query_pairs(Random(ratio=0.75)(4, (2, 4), rng), 8, rng)
    rows = torch.rand(5, len(mask), 2, 6, generator=rng)
    whole = PositionalShare(mask, position, 5)
    for part in rows.split(2):
        whole.add(part)
    for image in range(5):
        groups, images = [one for one in range(5) if one != image], torch.arange(5) != image
        for left_out in range(4):
            is_left = mask != left_out
            rest = PositionalShare(mask[is_left], position[is_left], 4)
            rest.add(rows[images][:, is_left])
            masks = [one for one in range(4) if one != left_out]
            torch.testing.assert_close(whole.over_images(groups, masks), rest.over_images())
            torch.testing.assert_close(whole.over_masks(groups, masks), rest.over_masks())


def test_a_decoder_that_ignores_the_image_is_all_place(images: Tensor, rng: torch.Generator) -> None:
    model = lively_mae()
    model.decoder_embed.weight.data.zero_()
    model.mask_token.data.copy_(model.decoder_embed.bias.data)
    result = trained(PROBE(model, images, rng))
    for name in SHARES:
        np.testing.assert_allclose(result[name], 1, atol=1e-5)
        np.testing.assert_allclose(result[f"{name}_pooled"], 1, atol=1e-5)


def test_a_decoder_without_positions_has_no_place(rng: torch.Generator) -> None:
    model = lively_mae()
    model.decoder_pos_embed.data.zero_()
    images = torch.randn(30, 3, 8, 12, generator=rng)
    result = trained(PROBE.model_copy(update={"batch_size": 30})(model, images, rng))
    np.testing.assert_allclose(result.positional_share_over_images, 0, atol=0.05)  # about -1 / 29


def test_probe_is_its_slow_definition(images: Tensor) -> None:
    model = lively_mae()
    result = trained(run_probes([PROBE], model, images, seed=3).datasets["decoder_attention"])
    mask = next(batches(model, images, 5, 3)).masks(PROBE.mask, 1)
    for layer, maps in enumerate(reference.maps_of(model, model.decoder_blocks, images, mask)):
        for head in range(3):
            values = []
            for b in range(5):
                hidden = mask.hidden[b].tolist()
                rows = [maps[b, head, 1 + q].tolist() for q in hidden]
                pairs = list(zip(hidden, rows, strict=True))
                visible = [sum(row[1 + k] for k in mask.visible[b].tolist()) for row in rows]
                own = [row[1 + q] for q, row in pairs]
                spread = [reference.mean_distance(row[1:], q, list(range(24)), (4, 6)) for q, row in pairs]
                values.append([np.mean(x) for x in (own, visible, [row[0] for row in rows], spread)])
                values[-1].append(np.mean([reference.entropy(row) for row in rows]))
            own, visible, of_class, spread, entropy = np.mean(values, axis=0)
            seen = result.isel(layer=layer, head=head)
            assert seen.mass.values.tolist() == pytest.approx(
                [own, visible, 1 - own - visible - of_class, of_class], rel=1e-4
            )
            assert seen.distance.item() == pytest.approx(spread, rel=1e-4)
            assert seen.entropy.item() == pytest.approx(entropy, rel=1e-4)
            sem = np.std([value[3] for value in values], ddof=1) / math.sqrt(5)
            assert seen.distance_sem.item() == pytest.approx(sem, rel=1e-3)
    np.testing.assert_allclose(result.mass.sum("key"), 1, rtol=1e-5)
    np.testing.assert_allclose(result.mean_mass, result.mass.mean(("layer", "head")), rtol=1e-5)
    for name in SHARES:
        pooled = result[f"{name}_pooled"].values
        assert result[f"{name}_rise"].item() == pytest.approx(pooled[1] - pooled[0], abs=1e-6)
    assert result.mass_uniform.values.tolist() == pytest.approx([1 / 25, 12 / 25, 11 / 25, 1 / 25])
    assert result.entropy_uniform.item() == pytest.approx(math.log(25))


def test_shares_of_the_probe_are_those_of_masks_in_common(images: Tensor) -> None:
    model = lively_mae()
    result = trained(run_probes([PROBE], model, images, seed=3).datasets["decoder_attention"])
    shared = PROBE.mask(3, model.grid, generator("shared-masks", 3))
    mask, position = query_pairs(shared, 6, generator("query-places", 3))
    of_mask = [
        reference.maps_of(model, model.decoder_blocks, images, Mask(*(x[[k] * 5] for x in vars(shared).values())))
        for k in range(3)
    ]
    for layer in range(2):
        table = {
            (b, k, i): of_mask[k][layer][b, 1, 1 + i]
            for b in range(5)
            for k, i in zip(mask.tolist(), position.tolist(), strict=True)
        }
        seen = result.isel(layer=layer, head=1)
        # rows of a few thousandths, in float32
        expected = reference.positional_share(table, fixed=1, position=2)
        assert seen.positional_share_over_images.item() == pytest.approx(expected, abs=1e-3)
        expected = reference.positional_share(table, fixed=0, position=2)
        assert seen.positional_share_over_masks.item() == pytest.approx(expected, abs=1e-3)


def test_whole_maps_are_rows_of_the_model(images: Tensor) -> None:
    model = lively_mae()
    result = trained(run_probes([PROBE], model, images, seed=3).datasets["decoder_attention"])
    mask = next(batches(model, images, 5, 3)).masks(PROBE.mask, 1)
    maps = reference.maps_of(model, model.decoder_blocks, images, mask)
    assert result.attention_map.shape == (3, 2, 2, 3, 4, 6)
    for b in range(3):
        for index, q in enumerate(result.query_patch.values[b]):
            assert mask.is_hidden[b, q]
            assert result.hidden.values[b].reshape(-1)[q]
            for layer in range(2):
                row = maps[layer][b, :, 1 + q]
                seen = result.isel(picture=b, query=index, layer=layer)
                np.testing.assert_allclose(seen.attention_map.values.reshape(3, 24), row[:, 1:], rtol=1e-4, atol=1e-7)
                np.testing.assert_allclose(seen.attention_class, row[:, 0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_work_is_linear_and_memory_flat(batch_size: int, images: Tensor) -> None:
    model = lively_mae()
    expected = trained(run_probes([PROBE], model, images, seed=1).datasets["decoder_attention"])
    calls = reference.count_calls(model)
    probe = PROBE.model_copy(update={"batch_size": batch_size})
    result = trained(run_probes([probe], model, images, seed=1).datasets["decoder_attention"])
    # once with masks of their own, which other probes share, and once with the masks that all
    # images have in common
    assert sum(calls) == 2 * len(images)
    assert len(calls) == 2 * math.ceil(5 / batch_size)
    for name in result:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-3, atol=1e-5)

    accumulator = probe.start(model, 5, 1)
    numbers = []
    for batch in batches(model, images, 1, 1):
        accumulator.update(batch)
        numbers.append(reference.numbers_held(accumulator))
    # three pictures, and after them nothing
    assert numbers[2:] == [numbers[2]] * 3


def test_edges(images: Tensor, rng: torch.Generator) -> None:
    # one image, one mask, no class token in the decoder
    probe = PROBE.model_copy(update={"num_masks": 1, "mask": Block(ratio=0.5)})
    result = trained(probe(lively_mae(decoder_prefix=0), images[:1], rng))
    assert (result.mass.sel(key="class") == 0).all()
    np.testing.assert_allclose(result.mass.sum("key"), 1, rtol=1e-5)
    assert (result.attention_class == 0).all()
    for name in (*SHARES, "mass_sem"):
        assert result[name].isnull().all()
    # without pictures there are none
    assert "attention_map" not in PROBE.model_copy(update={"num_pictures": 0})(lively_mae(), images, rng)


def test_a_model_without_decoder_is_one_sentence(images: Tensor, rng: torch.Generator) -> None:
    with pytest.raises(ProbeError, match=r"^probe decoder_attention: needs a decoder of blocks, got [a-z ]*$"):
        PROBE(tiny_simmim(), images, rng)
    with pytest.raises(ProbeError, match=r"^probe decoder_attention: needs a checkpoint .*, got an encoder alone$"):
        PROBE(ViT(**SMALL), images, rng)


def test_queries_are_hidden(rng: torch.Generator) -> None:
    own, shared = Random()(3, (4, 4), rng), Random()(2, (4, 4), rng)
    mask, position = query_pairs(shared, 100, rng)
    assert len(mask) == shared.is_hidden.sum()
    assert shared.is_hidden[mask, position].all()
    assert spaced(own.hidden, 3).tolist() == own.hidden[:, [2, 6, 10]].tolist()
    assert spaced(own.hidden[:, :1], 3).tolist() == own.hidden[:, :1].tolist()
