"""Models against an independent forward pass, and the laws of masking that every one of them
keeps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masked_model import check_pixels
from lcmae.masking import Mask, Random, stack_masks
from lcmae.models import MAE, MAEConfig, MaskedImageModel, MaskedOutput, SimMIM, SimMIMConfig, sincos_positions
from lcmae.patches import grid_of, patchify
from tests.conftest import SMALL, tiny_mae, tiny_simmim
from tests.reference import mae as reference
from tests.reference.exact import ExactMAE, ExactSimMIM

DECODER = {"decoder_width": 12, "decoder_depth": 1, "decoder_heads": 3}

both = pytest.mark.parametrize("build", [tiny_mae, tiny_simmim], ids=["mae", "simmim"])
Build = Callable[..., MaskedImageModel]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@both
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("size", "side"), [((8, 8), 2), ((4, 12), 4), ((9, 6), 3)])
def test_shapes(build: Build, channels: int, size: tuple[int, int], side: int) -> None:
    model = build(image_size=size, patch_size=side, channels=channels)
    images = torch.randn(3, channels, *size, generator=seeded(0))
    num_patches = grid_of(size, side)[0] * grid_of(size, side)[1]
    mask = Random(ratio=0.5)(3, model.grid, seeded(1))
    out = model(images, mask)
    num_tokens = num_patches if isinstance(model, SimMIM) else mask.visible.shape[1]
    assert out.pred.shape == model.targets(images).shape == (3, num_patches, side * side * channels)
    assert out.tokens.shape == (3, num_tokens, 16)
    assert out.positions.shape == (3, num_tokens)
    assert out.prefix.shape == (3, 1, 16)
    assert out.pooled.shape == (3, 16)


@pytest.mark.parametrize("channels", [1, 3])
def test_mae_is_its_plain_reimplementation(channels: int) -> None:
    model = ExactMAE(**SMALL, **DECODER, channels=channels).double()
    for name, parameter in model.named_parameters():
        # off their initial values, so that every bias and scale has a part
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=seeded(len(name)), dtype=torch.float64)
    images = torch.randn(2, channels, 8, 12, generator=seeded(2), dtype=torch.float64)
    mask = Random()(2, model.grid, seeded(3))
    out = model(images, mask)
    for b in range(2):
        tokens, pred = reference.forward(
            model.state_dict(), images[b], mask.visible[b].tolist(), patch_size=2, heads=2, decoder_heads=3, eps=1e-6
        )
        # float64, some ten matrix products
        assert torch.allclose(torch.cat([out.prefix[b], out.tokens[b]]), tokens, rtol=1e-10, atol=1e-10)
        assert torch.allclose(out.pred[b], pred, rtol=1e-10, atol=1e-10)
        assert torch.equal(out.positions[b], mask.visible[b])


def test_state_dict_has_the_names_and_shapes_of_the_official_release() -> None:
    with torch.device("meta"):
        model = MAE(
            image_size=224,
            patch_size=16,
            width=768,
            depth=12,
            heads=12,
            decoder_width=512,
            decoder_depth=8,
            decoder_heads=16,
        )

    def linear(name: str, into: int, out: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}

    def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    def block(name: str, width: int) -> dict[str, tuple[int, ...]]:
        return {
            **norm(f"{name}.norm1", width),
            **linear(f"{name}.attn.qkv", width, 3 * width),
            **linear(f"{name}.attn.proj", width, width),
            **norm(f"{name}.norm2", width),
            **linear(f"{name}.mlp.fc1", width, 4 * width),
            **linear(f"{name}.mlp.fc2", 4 * width, width),
        }

    expected: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 768),
        "pos_embed": (1, 197, 768),
        "mask_token": (1, 1, 512),
        "decoder_pos_embed": (1, 197, 512),
        "patch_embed.proj.weight": (768, 3, 16, 16),
        "patch_embed.proj.bias": (768,),
        **norm("norm", 768),
        **linear("decoder_embed", 768, 512),
        **norm("decoder_norm", 512),
        **linear("decoder_pred", 512, 768),
    }
    for index in range(12):
        expected |= block(f"blocks.{index}", 768)
    for index in range(8):
        expected |= block(f"decoder_blocks.{index}", 512)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected
    assert {name for name, value in model.named_parameters() if not value.requires_grad} == {
        "pos_embed",
        "decoder_pos_embed",
    }


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8))
def test_positions_are_the_release_s_table(height: int, width: int, quarter: int) -> None:
    table = sincos_positions(4 * quarter, (height, width), prefix=1)
    assert not table[0].any()
    # float32 of a float64 table
    assert torch.allclose(table[1:].double(), reference.sincos(4 * quarter, height, width), atol=1e-7)


@both
def test_hidden_pixels_get_exactly_zero_gradient(build: Build, images: Tensor) -> None:
    model = build()
    mask = Random()(len(images), model.grid, seeded(1))
    images.requires_grad_()
    out = model(images, mask)
    total = out.pred.square().sum() + out.tokens.square().sum() + out.pooled.square().sum() + out.prefix.sum()
    gradient = patchify(torch.autograd.grad(total, images)[0], model.patch_size)
    assert (gradient[mask.is_hidden] == 0).all()
    # and what is visible does count, every patch of it
    assert (gradient[~mask.is_hidden] != 0).any(-1).all()


@both
def test_hidden_pixels_do_not_change_a_bit_of_the_output(build: Build, images: Tensor) -> None:
    model = build()
    mask = Random()(len(images), model.grid, seeded(1))
    pixels = mask.is_hidden.reshape(len(images), 1, *model.grid).repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = images.masked_fill(pixels, 1e6)
    for ours, theirs in zip(fields(model(images, mask)), fields(model(other, mask)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("build", [ExactMAE, ExactSimMIM])
def test_many_masks_at_once_are_one_at_a_time(build: Build) -> None:
    model = (build(**SMALL, **DECODER) if build is ExactMAE else build(**SMALL)).double()
    images = torch.randn(3, 3, 8, 12, generator=seeded(4), dtype=torch.float64)
    single = [Random()(3, model.grid, seeded(seed)) for seed in range(4)]
    # image by image: the masks of the first image, then those of the second
    order = torch.arange(12).reshape(4, 3).T.flatten()
    together = model(images, stack_masks(single)[order])
    for k, mask in enumerate(single):
        mine = torch.arange(3) * 4 + k
        for all_rows, alone in zip(fields(together), fields(model(images, mask)), strict=True):
            # the same sums in other blocks
            assert torch.allclose(all_rows[mine].double(), alone.double(), rtol=1e-11, atol=1e-11)


@both
def test_no_mask_hides_nothing(build: Build, images: Tensor) -> None:
    model = build()
    out, same = model(images), model(images, Mask.none(len(images), model.num_patches))
    assert torch.equal(out.pred, same.pred)
    assert torch.equal(out.positions, torch.arange(model.num_patches).expand(len(images), -1))
    assert torch.equal(out.feature("mean"), out.tokens.mean(1))
    assert torch.equal(out.feature("cls"), out.prefix[:, 0])


@both
def test_the_mean_feature_is_of_visible_patches(build: Build, images: Tensor) -> None:
    model = build(feature="mean")
    mask = Random(ratio=0.5)(len(images), model.grid, seeded(1))
    out = model(images, mask)
    for b in range(len(images)):
        seen = [t for t, position in enumerate(out.positions[b]) if not mask.is_hidden[b, position]]
        assert len(seen) == mask.visible.shape[1]
        assert torch.allclose(out.pooled[b], out.tokens[b, seen].mean(0), atol=1e-6)


@both
def test_bfloat16_inside_float32_outside(build: Build, images: Tensor) -> None:
    model = build()
    mask = Random()(len(images), model.grid, seeded(1))
    exact = model(images, mask)
    seen = []
    hook = model.get_submodule("blocks.0.attn.qkv").register_forward_hook(
        lambda _module, _args, out: seen.append(out.dtype)
    )
    model.precision = "bfloat16"
    out = model(images, mask)
    hook.remove()
    assert seen == [torch.bfloat16]
    for name in ("pred", "tokens", "prefix", "pooled"):
        assert getattr(out, name).dtype == torch.float32
        # three digits, through a dozen layers of values of size 1
        assert torch.allclose(getattr(out, name), getattr(exact, name), atol=0.1)
    assert not torch.equal(out.pred, exact.pred)


@both
def test_float32_stays_float32_inside_another_s_autocast(build: Build, images: Tensor) -> None:
    model = build()
    mask = Random()(len(images), model.grid, seeded(1))
    expected = model(images, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(images, mask)
    assert torch.equal(out.pred, expected.pred)


@both
def test_prepare_and_to_pixels_are_inverse(build: Build) -> None:
    model = build(pixel_mean=(0.1, 0.2, 0.3), pixel_std=(0.5, 0.6, 0.7))
    pixels = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8, generator=seeded(0))
    images = model.prepare(pixels)
    expected = (pixels.double() / 255 - torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / torch.tensor(
        [0.5, 0.6, 0.7]
    ).reshape(3, 1, 1)
    assert torch.allclose(images.double(), expected, atol=1e-5)
    assert torch.equal((model.to_pixels(images) * 255).round().to(torch.uint8), pixels)
    assert torch.equal(model.prepare(pixels.float() / 255), images)


@both
def test_targets_are_patches_or_normalised_patches(build: Build, images: Tensor) -> None:
    assert torch.equal(build().targets(images), patchify(images, 2))
    normal = build(normalize_targets=True).targets(images)
    patches = patchify(images, 2).double()
    expected = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(normal.double(), expected, atol=1e-5)


@both
def test_a_config_builds_the_same_model_again(build: Build) -> None:
    model = build(normalize_targets=True)
    text = model.config.model_dump_json()
    config = (MAEConfig if isinstance(model, MAE) else SimMIMConfig).model_validate_json(text)
    again = config.build()
    assert again.config == model.config
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 18}, r"expected width to be a multiple of 4"),
        ({"heads": 3}, r"expected width \(16\) to be a multiple of heads \(3\)"),
        ({"decoder_heads": 5}, r"expected decoder_width \(12\) to be a multiple of decoder_heads \(5\)"),
        ({"decoder_width": 6}, r"expected decoder_width to be a multiple of 4"),
        (
            {"image_size": 160000, "patch_size": 4},
            r"at most 1048576 patches of 4 pixels, got 1600000000 \(160000x160000 pixels\); say a smaller image_size",
        ),
        ({"image_size": 33, "patch_size": 4}, r"image 33x33 is not a whole number of 4-pixel patches"),
        ({"patch_size": 0}, r"patch_size: "),
        ({"channels": 0}, r"channels: "),
        ({"pixel_mean": (0.1, 0.2)}, r"expected 1 or 3 values of pixel_mean, got 2"),
        ({"pixel_std": (0.0,)}, r"expected pixel_std above 0"),
        ({"patch_size": 1, "channels": 1, "normalize_targets": True}, r"expected patches of at least 2 values"),
        ({"depht": 3}, r"^depht: "),
        ({"eps": float("nan")}, r"eps: "),
    ],
)
def test_impossible_models_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        tiny_mae(**settings)
    assert "\n" not in str(refusal.value)


@both
@pytest.mark.usefixtures("as_installed")
def test_wrong_images_and_masks_are_refused_in_one_line(build: Build, images: Tensor) -> None:
    model = build()
    with pytest.raises(InputError, match=r"^expected images of \(3, 8, 12\) .*, got \(3, 12, 8\)$"):
        model(images.transpose(2, 3))
    with pytest.raises(InputError, match=r"^expected images of \(3, 8, 12\) .*, got \(1, 8, 12\)$"):
        model.targets(images[:, :1])
    with pytest.raises(InputError, match=r"^expected images of \(3, 8, 12\) \(channels, height, width\), got "):
        model(images[0])
    with pytest.raises(InputError, match=r"^expected masks of 24 patches, .* got 5 masks of 12 patches$"):
        model(images, Random()(5, (3, 4), seeded(0)))
    with pytest.raises(InputError, match=r"^expected masks .* for each of 5 images, got 7 masks of 24 patches$"):
        model(images, Random()(7, (4, 6), seeded(0)))


def fields(out: MaskedOutput) -> list[Tensor]:
    return [out.pred, out.tokens, out.positions, out.prefix, out.pooled, out.visible]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12])
def test_models_take_any_number_of_channels(channels: int, rng: torch.Generator) -> None:
    statistics = tuple(float(channel + 1) for channel in range(channels))
    model = tiny_mae(channels=channels, pixel_mean=statistics, pixel_std=statistics).eval()
    pixels = torch.rand(2, channels, 8, 12, generator=rng)
    images = model.prepare(pixels)
    torch.testing.assert_close(model.to_pixels(images), pixels)
    for channel in range(channels):
        torch.testing.assert_close(images[:, channel], (pixels[:, channel] - channel - 1) / (channel + 1))
    out = model(images, Random(ratio=0.5)(2, model.grid, rng))
    assert out.pred.shape == model.targets(images).shape == (2, 24, 4 * channels)
    assert model.to_picture(images).shape == (2, 8, 12, {1: 1, 2: 1, 4: 4}.get(channels, 3))


def test_pictures_show_the_chosen_bands(rng: torch.Generator) -> None:
    model = tiny_mae(channels=6, bands=(5, 2, 1))
    images = torch.randn(2, 6, 8, 12, generator=rng)
    right = ((images[:, [4, 1, 0]] / 4 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    assert torch.equal(model.to_picture(images), right.permute(0, 2, 3, 1))
    with pytest.raises(InputError, match=r"expected 1 or 3 bands from 1 to 6 \(the channels\), got 7,1,2"):
        tiny_mae(channels=6, bands=(7, 1, 2))


def test_pictures_of_colour_images_are_their_pixels(rng: torch.Generator) -> None:
    model = tiny_mae()
    pixels = torch.randint(256, (2, 3, 8, 12), generator=rng, dtype=torch.uint8)
    assert torch.equal(model.to_picture(model.prepare(pixels)), pixels.permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (np.zeros((2, 3, 8, 12)), r"as a tensor \[b c h w\], got ndarray; torch.from_numpy\(array\)"),
        (torch.zeros(2, 8, 12, 3, dtype=torch.uint8), r"got shape \[2, 8, 12, 3\]; pixels.permute\(0, 3, 1, 2\)"),
        (torch.zeros(3, 8, 12, dtype=torch.uint8), r"got shape \[3, 8, 12\]; pixels\[None\] makes a batch of one"),
        (torch.zeros(2, 5, 8, 12), r"expected pixels \[b c h w\] of 3 channels, got shape \[2, 5, 8, 12\]$"),
        (
            torch.zeros(2, 3, 8, 12, dtype=torch.int64),
            r"got torch.int64; pixels.to\(torch.uint8\) if they are 0 to 255",
        ),
        (torch.linspace(0, 255, 288).reshape(1, 3, 8, 12), "from 0 to 1, got 0 to 255; pixels / 255"),
        (torch.linspace(-2.1, 2.6, 288).reshape(1, 3, 8, 12), "got -2.1 to 2.6; .* before any normalisation"),
        (torch.full((1, 3, 8, 12), torch.nan), "expected finite pixels, got NaN or infinity"),
    ],
)
def test_wrong_pixels_are_refused(pixels: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        check_pixels(pixels, 3)


def test_prepare_refuses_wrong_pixels_and_takes_what_resampling_makes() -> None:
    model = tiny_mae()
    for wrong in (torch.full((1, 3, 8, 12), 200.0), torch.zeros(1, 8, 12, 3, dtype=torch.uint8)):
        with pytest.raises(InputError, match=r"expected .*pixels"):
            model.prepare(wrong)
    assert model.prepare(torch.full((1, 3, 8, 12), 1.1)).isfinite().all()
    assert len(model.prepare(torch.zeros(0, 3, 8, 12))) == 0
