"""Laws of what is laid over a photograph."""

import numpy as np
import pytest
import torch

from lcmae.errors import InputError
from lcmae.masking import Random
from lcmae.probes.watching import microscope, overlays
from lcmae.probes.watching.microscope import CachedForward
from tests.conftest import tiny_mae, tiny_simmim
from tests.reference.probes import pooling as reference


@pytest.fixture(scope="module", params=["mae", "simmim"])
def passes(request: pytest.FixtureRequest) -> tuple[CachedForward, CachedForward]:
    """A pass over the whole image, one under a mask; SimMIM's encoder sees hidden patches, too."""
    torch.manual_seed(0)
    model = tiny_mae() if request.param == "mae" else tiny_simmim()
    pixels = torch.randint(0, 256, (1, 3, 8, 12), dtype=torch.uint8)
    batch = microscope.batch_of(model.requires_grad_(False), pixels, 0, 0)
    return microscope.forward(batch), microscope.forward(batch, microscope.mask_of(batch, Random(ratio=0.5)))


def test_rows_of_attention_sum_to_1_with_what_goes_to_prefix_tokens(passes: tuple[CachedForward, CachedForward]):
    whole, masked = passes
    for seen in (whole, masked):
        matrix = overlays.encoder_matrix(seen, 2)["attention"]
        expected = seen.encoder[1].maps()[0][..., : seen.model.num_prefix].sum(-1).numpy()
        sums = np.nansum(matrix.values, (2, 3))
        there = np.isfinite(matrix.values).any((2, 3))
        assert np.allclose(sums[there].reshape(len(expected), -1) + expected, 1, atol=1e-5)
        tokens = seen.encoder[1].x.shape[1]
        assert there.sum(1).tolist() == [tokens] * len(expected), "NaN for what has no token, and for nothing else"


def test_rollout_of_one_block_is_half_its_mean_and_half_the_token_itself(passes: tuple[CachedForward, CachedForward]):
    whole, _ = passes
    one = CachedForward(whole.batch, whole.mask, whole.trace, whole.encoder[:1], [])
    rolled = overlays.rollout(one)["attention"].isel(head=0)
    mean = overlays.encoder_matrix(whole, 1)["attention"].mean("head")
    itself = np.zeros(mean.shape)
    for patch in range(whole.model.num_patches):
        itself[whole.model.num_prefix + patch].reshape(-1)[patch] = 1
    assert np.allclose(rolled, 0.5 * mean + 0.5 * itself, atol=1e-6)
    both = overlays.rollout(whole)["attention"]
    assert (both.sum(("row", "column")) <= 1 + 1e-5).all()
    assert (both >= 0).all()


def test_every_head_is_a_row_of_the_matrices(passes: tuple[CachedForward, CachedForward]):
    _, masked = passes
    queries = [int(masked.mask.visible[0, 0]), int(masked.mask.hidden[0, 0])]
    for query in [*queries, *range(-masked.model.num_prefix, 0)]:
        heads = overlays.every_head(masked, masked.encoder, query, is_decoder=False)["attention"]
        for layer in (1, 2):
            row = overlays.encoder_matrix(masked, layer)["attention"].sel(query=query)
            assert np.array_equal(heads.isel(layer=layer - 1), row, equal_nan=True)
        every = overlays.all_heads(masked, masked.encoder, is_decoder=False)["attention"].sel(query=query)
        assert np.allclose(every, heads, atol=1e-3, equal_nan=True), "in half precision"
    if masked.decoder:
        every = overlays.all_heads(masked, masked.decoder, is_decoder=True)["attention"].sel(query=3)
        assert np.allclose(every.isel(layer=0), overlays.decoder_matrix(masked, 1)["attention"].sel(query=3), atol=1e-3)
        heads = overlays.every_head(masked, masked.decoder, 3, is_decoder=True)["attention"]
        assert np.array_equal(heads.isel(layer=0), overlays.decoder_matrix(masked, 1)["attention"].sel(query=3))
        assert np.isfinite(heads).all(), "the decoder has a token for every patch"


def test_likeness_is_symmetric_and_1_to_itself(passes: tuple[CachedForward, CachedForward]):
    for seen in passes:
        values = overlays.likeness(seen, 1)["likeness"].values
        matrix = values.reshape(len(values), -1)
        there = np.isfinite(matrix).any(1)
        assert there.sum() == seen.encoder[0].x.shape[1] - seen.model.num_prefix
        assert np.allclose(np.diag(matrix)[there], 1, atol=1e-5)
        assert np.allclose(matrix, matrix.T, equal_nan=True, atol=1e-6)


def test_pixels_are_held_against_each_other_as_the_model_gets_them(passes: tuple[CachedForward, CachedForward]):
    whole, _ = passes
    found = overlays.pixel_likeness(whole)["likeness"].values
    image = whole.batch.images[0].numpy()
    patches = [
        image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel() for row in range(4) for column in range(6)
    ]
    one, other = patches[3], patches[10]
    wanted = one @ other / np.sqrt((one @ one) * (other @ other))
    np.testing.assert_allclose(found[3].reshape(-1)[10], wanted, atol=1e-5)
    np.testing.assert_allclose(found.reshape(24, 24).diagonal(), 1, atol=1e-5)


def test_queries_share_themselves_out_over_patches_that_have_tokens(passes: tuple[CachedForward, CachedForward]):
    whole, _ = passes
    queries = np.random.default_rng(0).normal(size=(3, whole.model.config.width)).astype(np.float32)
    for layer in (1, 2):
        found = overlays.query_maps(whole, layer, queries)["attention"]
        assert found["query"].values.tolist() == [1, 2, 3]
        tokens = whole.trace.tokens[layer - 1].detach()[0, whole.model.num_prefix :].numpy()
        wanted = reference.queries(tokens, queries).reshape(found.shape)
        np.testing.assert_allclose(found.values, wanted, atol=1e-5)
    with pytest.raises(InputError, match=r"expected queries of width 16.*, got 12"):
        overlays.query_maps(whole, 1, queries[:, :12])


def test_colours_fill_their_range_and_do_not_hang_on_the_sign(passes: tuple[CachedForward, CachedForward]):
    whole, masked = passes
    found = overlays.as_colours(whole, 2)
    colours = found["colour"].values.reshape(-1, 3)
    assert np.allclose(colours.min(0), 0)
    assert np.allclose(colours.max(0), 1)
    assert 0 < float(found["share"].sum()) <= 1 + 1e-9
    assert (np.diff(found["share"]) <= 1e-12).all(), "the largest first"
    hidden = ~np.isfinite(overlays.as_colours(masked, 2)["colour"].values).all(-1)
    expected = (
        np.zeros_like(hidden) if masked.model.encodes_hidden else masked.mask.is_hidden.reshape(hidden.shape).numpy()
    )
    assert np.array_equal(hidden, expected)
