"""The microscope's numbers are the probes' own: equal to the last bit, for one image, one mask and
one seed."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from timm.layers.attention import Attention
from torch import Tensor

from lcmae.contrast import decompose
from lcmae.formats.vit import ViT
from lcmae.masking import Block, Mask, Random
from lcmae.models import MaskedImageModel
from lcmae.probes.base import run_probes
from lcmae.probes.decoder_attention import DecoderAttention
from lcmae.probes.local_contrast import LocalContrast
from lcmae.probes.receptive_field import ReceptiveField
from lcmae.probes.reconstruction import Reconstruction
from lcmae.probes.results.networks import trained
from lcmae.probes.watching import microscope
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.gradients import prediction_gradient, random_signs, token_gradients, token_index
from lcmae.probes.watching.microscope import forward
from tests.conftest import SMALL, tiny_mae, tiny_simmim

MASK = Random(ratio=0.5)
NUM_PATCHES = 24
CENTRE = 2 * 6 + 3


def lively(model: MaskedImageModel) -> MaskedImageModel:
    """Off its initial weights, so that attention is far from uniform."""
    rng = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=rng)
    return model.eval().requires_grad_(False)


MODELS = {
    "mae": lambda: lively(tiny_mae(decoder_depth=2)),
    "normalised": lambda: lively(tiny_mae(normalize_targets=True)),
    "simmim": lambda: lively(tiny_simmim()),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> MaskedImageModel:
    return MODELS[request.param]()


@pytest.fixture
def encoder() -> MaskedImageModel:
    return lively(ViT(**SMALL))


def batch_of(model: MaskedImageModel, image: Tensor, seed: int = 7) -> Batch:
    return Batch(model, image, 0, seed)


def equal(found: xr.DataArray, expected: xr.DataArray) -> None:
    """Values, units and name."""
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.attrs == expected.attrs


def test_the_batch_is_that_of_the_command(images: Tensor):
    """The mask of image 3 is the same, alone or among the others, as `lcmae probe --seed 11` draws
    it."""
    model = MODELS["mae"]()
    pixels = (model.to_pixels(images).clamp(0, 1) * 255).to(torch.uint8)
    alone = microscope.batch_of(model, pixels[3:4], 3, 11)
    among = Batch(model, model.prepare(pixels), 0, microscope.probe_seed(11))
    for strategy in (MASK, Block(ratio=0.5)):
        mask = microscope.mask_of(alone, strategy)
        assert (mask.is_hidden[0] == among.masks(strategy, 1).is_hidden[3]).all()
    assert (alone.images[0] == among.images[3]).all()


def test_pictures_are_those_of_reconstruction(model: MaskedImageModel, images: Tensor):
    [probe] = map(trained, run_probes([Reconstruction(mask=MASK)], model, images[:1], 7).datasets.values())
    batch = batch_of(model, images[:1])
    found = microscope.pictures(forward(batch, microscope.mask_of(batch, MASK)))
    for name in ("original", "hidden", "reconstruction", "reconstruction_leaky", "picture_error"):
        assert (name in found) == (name in probe)
        if name in found:
            equal(found[name], probe[name].isel(picture=0))
    for name in ("error", "error_nearest"):
        assert float(found[name]) == pytest.approx(float(probe[name]), rel=1e-6)  # float32 against float64 means
    nearest = found["nearest_error"].where(found["hidden"] == 1)
    assert float(nearest.mean()) == pytest.approx(float(probe["error_nearest"]), rel=1e-6)


def test_decoder_rows_are_those_of_the_probe(images: Tensor):
    model = MODELS["mae"]()
    settings = DecoderAttention(mask=MASK, num_masks=1, num_places=2, num_pictures=1, num_queries=NUM_PATCHES)
    [probe] = map(trained, run_probes([settings], model, images[:1], 7).datasets.values())
    batch = batch_of(model, images[:1])
    mask = microscope.mask_of(batch, MASK)
    assert probe.sizes["query"] == 12
    for number, patch in enumerate(probe["query_patch"].values[0].tolist()):
        found = microscope.attention(forward(batch), forward(batch, mask), patch)
        expected = probe.isel(picture=0, query=number)
        # the probe's passes hold other rows beside this one: equal but for the order of float32
        # sums
        np.testing.assert_allclose(found["decoder"].values, expected["attention_map"].values, rtol=2e-6, atol=1e-8)
        np.testing.assert_allclose(found["decoder_prefix"].values, expected["attention_class"].values, rtol=2e-6)
        assert found["decoder_layer"].values.tolist() == probe["layer"].values.tolist()


def test_encoder_rows_are_softmax_of_queries_and_keys(model: MaskedImageModel, images: Tensor):
    """Against the definition, written out, for the first block of the full image."""
    batch = batch_of(model, images[:1])
    mask = microscope.mask_of(batch, MASK)
    block = model.blocks[0]
    entering: list[Tensor] = []
    hook = block.register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    model(images[:1])
    hook.remove()
    queries, keys = block.attn.qkv(block.norm1(entering[0])).reshape(-1, 3, 2, 8).permute(1, 2, 0, 3)[:2]  # pyright: ignore
    for patch in (0, 9, 23):
        rows = (queries[:, patch + 1, None] * keys).sum(-1).div(math.sqrt(8)).softmax(-1)
        found = microscope.attention(forward(batch), forward(batch, mask), patch).sel(view="full", layer=1)
        np.testing.assert_allclose(found["encoder"].values.reshape(2, -1), rows[:, 1:], rtol=2e-5)
        np.testing.assert_allclose(found["encoder_prefix"].values, rows[:, 0], rtol=2e-5)


def test_attention_of_one_layer_is_that_of_all(model: MaskedImageModel, images: Tensor):
    batch = batch_of(model, images[:1])
    mask = microscope.mask_of(batch, MASK)
    whole, masked = forward(batch), forward(batch, mask)
    every = microscope.attention(whole, masked, 3)
    decoder_layer = len(model.decoder_blocks)
    found = microscope.attention(whole, masked, 3, [2], [decoder_layer])
    assert found["layer"].values.tolist() == [2]
    asked = every.sel(layer=[2])
    xr.testing.assert_identical(found, asked.sel(decoder_layer=[decoder_layer]) if decoder_layer else asked)


def test_attention_sums_to_one_and_hidden_patches_have_none_in_an_encoder_that_does_not_see_them(
    model: MaskedImageModel, images: Tensor
):
    batch = batch_of(model, images[:1])
    mask = microscope.mask_of(batch, MASK)
    for patch in (int(mask.visible[0, 0]), int(mask.hidden[0, 0])):
        found = microscope.attention(forward(batch), forward(batch, mask), patch)
        total = found["encoder"].sum(("row", "column"), skipna=True) + found["encoder_prefix"]
        seen = total.sel(view="masked")
        if model.encodes_hidden or patch in mask.visible:
            np.testing.assert_allclose(seen, 1, rtol=1e-5)
        else:
            assert bool(seen.isnull().all())
        np.testing.assert_allclose(total.sel(view="full"), 1, rtol=1e-5)
        if not model.encodes_hidden:
            to_hidden = found["encoder"].sel(view="masked").values[..., mask.is_hidden[0].numpy().reshape(4, 6)]
            assert np.isnan(to_hidden).all()
        assert ("decoder" in found) == bool(len(model.decoder_blocks))
        if "decoder" in found:
            total = found["decoder"].sum(("row", "column")) + found["decoder_prefix"]
            np.testing.assert_allclose(total, 1, rtol=1e-5)


@pytest.mark.parametrize("hidden", [False, True])
def test_receptive_fields_are_those_of_the_probe(model: MaskedImageModel, images: Tensor, hidden: bool):
    """At the centre, under a mask that has it as the probe wants it, so that the probe does not
    change the mask."""
    seed = next(
        s for s in range(99) if bool(Batch(model, images[:1], 0, s).masks(MASK, 1).is_hidden[0, CENTRE]) == hidden
    )
    settings = ReceptiveField(masks=("random",), ratios=(0.5,), masses=(0.5,))
    [probe] = map(trained, run_probes([settings], model, images[:1], seed).datasets.values())
    batch = batch_of(model, images[:1], seed)
    mask = microscope.mask_of(batch, MASK)
    raw = probe.sel(form="raw")

    for layer in (1, 2):
        found = microscope.receptive_field(forward(batch), forward(batch, mask), CENTRE, layer)
        # the probe differentiates all layers of one graph: the same sums, so the same numbers
        expected = raw["depth_field"].sel(layer=layer)
        np.testing.assert_array_equal(found["field"].sel(target="token, full image"), expected)
    known = microscope.token_field(forward(batch), batch, CENTRE, 2)
    again = microscope.receptive_field(forward(batch), forward(batch, mask), CENTRE, 2, of_whole=known)
    xr.testing.assert_identical(again, found)
    # the same pixels at another place of another source: the pass may be shared, signs are not
    elsewhere = Batch(model, batch.images, 5, batch.seed + 1)
    shared = microscope.receptive_field(forward(elsewhere), forward(batch, mask), CENTRE, 2)
    xr.testing.assert_identical(shared, found)
    target = "prediction" if hidden else "token"
    view = raw.sel(target=target, view="random 0.5")
    np.testing.assert_array_equal(found["field"].sel(target=target), view["field"])
    assert float(found["half_radius"].sel(target=target)) == float(view["half_radius"])
    has_token = model.encodes_hidden or not hidden
    assert bool(found["field"].sel(target="token").isnull().all()) == (not has_token)


def test_kept_passes_give_the_same_gradients_for_every_patch_and_layer(model: MaskedImageModel, images: Tensor):
    batch = batch_of(model, images[:1])
    mask = microscope.mask_of(batch, MASK)
    signs = {name: some[0] for name, some in random_signs(model, batch.seed, batch.indices).items()}
    full, masked = forward(batch).trace, forward(batch, mask).trace
    whole = Mask.none(1, NUM_PATCHES)
    for patch in (0, CENTRE, NUM_PATCHES - 1, 0):
        index = int(token_index(model, whole, patch))
        for layer in (1, 0):  # one graph after the other, and again
            [expected] = token_gradients(
                model, batch.images, whole, [layer], lambda out, at=index: out[:, at] @ signs["token"]
            )
            assert torch.equal(full.of_token(layer, lambda out, at=index: out[:, at] @ signs["token"]), expected)
        expected = prediction_gradient(
            model, batch.images, mask, lambda pred, at=patch: pred[:, at] @ signs["prediction"]
        )
        assert torch.equal(masked.of_prediction(lambda pred, at=patch: pred[:, at] @ signs["prediction"]), expected)


def test_contrast_is_that_of_the_probe(model: MaskedImageModel, images: Tensor):
    [probe] = map(trained, run_probes([LocalContrast(mask=MASK, num_masks=5)], model, images[:1], 7).datasets.values())
    batch = batch_of(model, images[:1])
    found = microscope.contrast(batch, MASK, 5)
    is_seen = found["times_hidden"].values > 0
    assert is_seen.any()
    for name in ("loss", "invariance", "local_consistency"):
        expected = probe[f"picture_{name}"].isel(picture=0)
        np.testing.assert_array_equal(found[name].values[is_seen], expected.values[is_seen])
        assert np.isnan(found[name].values[~is_seen]).all()
        assert found[name].attrs == expected.attrs
    # one image: its terms are the probe's, and there is nothing between images
    assert float(found["image_loss"]) == pytest.approx(float(probe["loss"]), rel=1e-12)
    for name in ("invariance", "local_consistency"):
        assert float(found[f"image_{name}"]) == pytest.approx(float(probe["term"].sel(part=name)), rel=1e-12)


def test_contrast_terms_of_an_image_add_up_with_its_mean(model: MaskedImageModel, images: Tensor):
    """loss = invariance + local consistency + the offset of this image alone (`lcmae.contrast` for
    b = 1)."""
    batch = batch_of(model, images[:1])
    found = microscope.contrast(batch, MASK, 4)
    masks, out = batch.masked(MASK, 4)
    parts = decompose(out.pred[None].double(), model.targets(images[:1]).double(), masks.is_hidden[None])
    total = float(found["image_invariance"] + found["image_local_consistency"]) + float(parts.offset)
    assert float(found["image_loss"]) == pytest.approx(total, rel=1e-10)


def test_an_edited_mask_is_used_as_it_is(model: MaskedImageModel, images: Tensor):
    batch = batch_of(model, images[:1])
    is_hidden = [patch % 5 == 0 for patch in range(NUM_PATCHES)]
    mask = microscope.mask_of(batch, MASK, is_hidden)
    assert mask.is_hidden[0].tolist() == is_hidden
    assert microscope.pictures(forward(batch, mask))["hidden"].values.reshape(-1).tolist() == is_hidden


def test_an_encoder_alone_has_tokens_and_no_predictions(encoder: MaskedImageModel, images: Tensor):
    batch = batch_of(encoder, images[:1])
    mask = microscope.mask_of(batch, MASK)
    patch = int(mask.visible[0, 3])
    assert set(microscope.pictures(forward(batch, mask))) == {"original", "hidden"}
    assert "decoder" not in microscope.attention(forward(batch), forward(batch, mask), patch)
    found = microscope.receptive_field(forward(batch), forward(batch, mask), patch, 2)
    assert found["target"].values.tolist() == ["token, full image", "token"]
    assert bool(found["field"].notnull().all())


class OtherAttention(Attention):
    """Attention whose maps nobody knows."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return super().forward(x)


def test_blocks_of_unknown_attention_are_named(images: Tensor):
    model = MODELS["mae"]()
    model.blocks[1].attn.__class__ = OtherAttention  # pyright: ignore
    batch = batch_of(model, images[:1])
    mask = Mask.from_hidden(torch.arange(NUM_PATCHES)[None] < 4)
    found = microscope.attention(forward(batch), forward(batch, mask), 9)
    assert "encoder" not in found
    assert "OtherAttention in block 1" in found.attrs["encoder_problem"]
    assert "decoder" in found


def test_the_model_comes_back_as_it_was(model: MaskedImageModel, images: Tensor):
    batch = batch_of(model, images[:1])
    mask = microscope.mask_of(batch, MASK)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    microscope.attention(forward(batch), forward(batch, mask), 3)
    microscope.receptive_field(forward(batch), forward(batch, mask), 3, 1)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert all((value == before[name]).all() for name, value in model.state_dict().items())
