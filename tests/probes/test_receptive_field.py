"""Receptive fields: finite differences, captum, a convolution of known support, masks that bound,
and work that is counted."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.formats.vit import ViT
from lcmae.masking import Mask, Random
from lcmae.models import MaskedImageModel, ModelConfig
from lcmae.patches import patchify
from lcmae.probes.base import ProbeError, batches, run_probes
from lcmae.probes.receptive_field import (
    GradientField,
    ReceptiveField,
    pixel_distances,
    reach_of_mass,
    spaced_layers,
    with_patch,
)
from lcmae.probes.results.networks import trained
from lcmae.probes.watching.gradients import random_signs
from lcmae.probes.watching.hooks import block_outputs
from lcmae.settings import parse
from tests.conftest import SMALL, tiny_mae, tiny_simmim
from tests.reference import attention as reference

PROBE = ReceptiveField(masks=("random",), ratios=(0.5,), batch_size=2)
CENTRE = 2 * 6 + 3  # of the 4 x 6 grid


class Box(nn.Module):
    """A block that sums over 3 x 3 patches, each value on its own."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.kernel = nn.Parameter(torch.ones(12, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "b (r c) d -> b d r c", r=self.side)
        return rearrange(F.conv2d(x, self.kernel, padding=1, groups=12), "b d r c -> b (r c) d")


class Convolution(MaskedImageModel):
    """Tokens are the patches' pixels, hidden ones zero; two blocks of 3 x 3 sums and no norm."""

    num_prefix = 0
    encodes_hidden = True
    has_prediction = False

    def __init__(self) -> None:
        settings: dict[str, Any] = {"image_size": (16, 16), "patch_size": 2, "width": 12, "heads": 1}
        super().__init__(parse(ModelConfig, settings))
        self.blocks = nn.ModuleList([Box(8), Box(8)])
        self.decoder_blocks = nn.ModuleList()

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        x = patchify(images, 2) * ~mask.is_hidden[..., None]
        for block in self.blocks:
            x = block(x)
        return x[:, :0], x, torch.arange(64).expand(len(x), -1)


def test_a_convolution_has_the_field_of_its_kernel(rng: torch.Generator) -> None:
    result = trained(PROBE(Convolution(), torch.randn(3, 3, 16, 16, generator=rng), rng))
    # one block reaches 3 x 3 patches of 2 pixels evenly, two blocks 5 x 5 with weights (1 2 3 2 1)
    # x (1 2 3 2 1)
    kernel = {1: np.array([0, 0, 0, 1, 1, 1, 0, 0]), 2: np.array([0, 0, 1, 2, 3, 2, 1, 0])}
    for layer, axis in kernel.items():
        expected = 3 * np.kron(np.outer(axis, axis), np.ones((2, 2)))
        raw = result.depth_field.sel(layer=layer, form="raw")
        np.testing.assert_allclose(raw, expected, rtol=1e-6)
    # squares of 2, 4, 6, .. pixels hold 1/9, 4/9, 1 of the mass after one block and 9/81, 25/81,
    # 49/81, 64/81, 1 after two
    area = result.depth_area_ratio.sel(form="raw")
    assert area.sel(layer=1).values.tolist() == pytest.approx([16 / 256, 36 / 256, 36 / 256])
    assert area.sel(layer=2).values.tolist() == pytest.approx([16 / 256, 36 / 256, 100 / 256])
    # the corner of the support is the last pixel that is reached
    corner = result.depth_radius.sel(form="raw", mass=0.99)
    assert corner.sel(layer=1).item() == pytest.approx(math.hypot(2.5, 2.5))
    np.testing.assert_allclose(result.radius.sel(target="token", view="full"), result.depth_radius.sel(layer=2))
    np.testing.assert_allclose(result.image_radius_sem.sel(target="token", view="full"), 0, atol=1e-12)


def test_masking_bounds_the_field_of_a_convolution(rng: torch.Generator) -> None:
    probe = ReceptiveField(masks=("random", "block"), ratios=(0.5, 0.9), num_images=1)
    result = trained(probe(Convolution(), torch.randn(1, 3, 16, 16, generator=rng), rng))
    seen = (result.field.sel(target="token", form="raw") > 0).sum(("y", "x"))
    assert seen.sel(view="full").item() == 25 * 4
    for kind in ("random", "block"):
        # only visible patches are seen: 32 and 6 of the 64
        assert 4 <= seen.sel(view=f"{kind} 0.9").item() <= 6 * 4
        assert seen.sel(view=f"{kind} 0.9").item() <= seen.sel(view=f"{kind} 0.5").item() < 25 * 4
    assert result.strategy.values.tolist() == ["none", "random", "random", "block", "block"]
    assert result.ratio.values.tolist() == [0, 0.5, 0.9, 0.5, 0.9]


def lively(model: MaskedImageModel) -> MaskedImageModel:
    rng = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
    return model.eval()


MODELS = {
    "mae": tiny_mae,
    "simmim": tiny_simmim,
    "no class token": lambda: ViT(**{**SMALL, "feature": "mean"}, class_token=False),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_finite_differences(name: str, images: Tensor) -> None:
    model = lively(MODELS[name]()).double()
    one = images[:1].double()
    mask = with_patch(Mask.from_hidden(torch.arange(24)[None] % 2 == 0), CENTRE, hidden=False, rngs=[torch.Generator()])
    token = list(range(24)).index(CENTRE) if name == "simmim" else mask.visible[0].tolist().index(CENTRE)
    accumulator = PROBE.start(model, 1, 3)
    signs = random_signs(model, 3, [0])["token"].double()

    def scalar(x: Tensor) -> Tensor:
        with torch.no_grad(), block_outputs(model.blocks) as outputs:
            model.encode(x, Mask(*(part.expand(len(x), -1) for part in vars(mask).values())))
        return outputs[1][:, model.num_prefix + token] @ signs[0]

    # every pixel a little up and a little down
    step = 1e-5 * torch.eye(one.numel(), dtype=torch.float64).reshape(-1, *one.shape[1:])
    expected = (scalar(one + step) - scalar(one - step)).reshape(one.shape) / 2e-5
    (gradient,) = accumulator._token_gradients(one, mask, [1], signs)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-8)
    # hidden pixels have no part in it, exactly
    assert (patchify(gradient, 2)[mask.is_hidden] == 0).all()
    assert (patchify(gradient, 2)[~mask.is_hidden] != 0).all()


def test_gradient_of_a_prediction_is_a_finite_difference(images: Tensor) -> None:
    model = lively(tiny_mae()).double()
    one = images[:1].double()
    mask = with_patch(Mask.from_hidden(torch.arange(24)[None] % 2 == 0), CENTRE, hidden=True, rngs=[torch.Generator()])
    accumulator = PROBE.start(model, 1, 3)
    signs = random_signs(model, 3, [0])["prediction"].double()

    def scalar(x: Tensor) -> Tensor:
        many = Mask(*(part.expand(len(x), -1) for part in vars(mask).values()))
        with torch.no_grad():
            prefix, tokens, _ = model.encode(x, many)
            return model.predict(prefix, tokens, many)[:, CENTRE] @ signs[0]

    step = 1e-5 * torch.eye(one.numel(), dtype=torch.float64).reshape(-1, *one.shape[1:])
    expected = (scalar(one + step) - scalar(one - step)).reshape(one.shape) / 2e-5
    torch.testing.assert_close(accumulator._prediction_gradient(one, mask, signs), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cotangent", ["random", "positive"])
def test_captum_says_the_same(name: str, cotangent: str, images: Tensor) -> None:
    model = lively(MODELS[name]())
    probe = PROBE.model_copy(update={"cotangent": cotangent})
    ours = run_probes([probe], model, images, seed=2).datasets["receptive_field"]
    captum = run_probes([probe.model_copy(update={"backend": "captum"})], model, images, seed=2)
    for variable in ours:
        np.testing.assert_array_equal(captum.datasets["receptive_field"][variable], ours[variable])
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_the_final_norm_has_no_gradient_and_the_probe_has(images: Tensor) -> None:
    model = tiny_mae()
    leaf = images.clone().requires_grad_()
    (after_norm,) = torch.autograd.grad(model(leaf).tokens[:, CENTRE].sum(), leaf)
    assert after_norm.abs().max() < 1e-4
    result = trained(PROBE(model, images, torch.Generator().manual_seed(0)))
    assert result.field.sel(target="token", form="raw").max() > 0.1


def test_forms_of_a_field_are_their_definitions(rng: torch.Generator) -> None:
    gradients = torch.randn(5, 3, 4, 6, generator=rng, dtype=torch.float64)
    disc = pixel_distances((4, 6), torch.tensor([2.5, 3.5], dtype=torch.float64), "disc")
    field = GradientField(disc, (0.5,))
    for part in gradients.split(2):
        field.add(part)
    np.testing.assert_allclose(field.raw, gradients.abs().numpy().sum(1).mean(0))
    logarithm = np.log10(np.maximum(gradients.numpy(), 0).sum(1).mean(0) + 1)
    np.testing.assert_allclose(field.log, logarithm / logarithm.max())
    radius = [_slow_reach(own, disc, 0.5) for own in gradients.abs().sum(1)]
    assert field.radius.mean is not None
    assert field.radius.mean.item() == pytest.approx(np.mean(radius))
    assert field.radius.sem.item() == pytest.approx(np.std(radius, ddof=1) / math.sqrt(5))
    # a field without any gradient is zero in both forms, and has no radius
    nothing = GradientField(disc, (0.5,))
    nothing.add(torch.zeros(1, 3, 4, 6))
    assert nothing.log.abs().max() == 0
    assert nothing.radius.mean is not None
    assert nothing.radius.mean.isnan().all()


def _slow_reach(values: Tensor, distance: Tensor, mass: float) -> float:
    pixels = sorted(zip(distance.flatten().tolist(), values.flatten().tolist(), strict=True))
    for reach, _ in pixels:
        if sum(value for away, value in pixels if away <= reach) >= mass * values.sum().item() * (1 - 1e-12):
            return reach
    raise AssertionError


@given(seed=st.integers(0, 2**32), mass=st.floats(0.01, 1), shape=st.sampled_from(["square", "disc"]))
def test_reach_is_its_definition(seed: int, mass: float, shape: Any) -> None:
    rng = torch.Generator().manual_seed(seed)
    values = torch.rand(2, 4, 6, generator=rng, dtype=torch.float64) ** 4
    distance = pixel_distances((4, 6), torch.tensor([3.0, 3.0], dtype=torch.float64), shape)
    expected = [_slow_reach(one, distance, mass) for one in values]
    assert reach_of_mass(values, distance, mass).tolist() == expected


def test_distances_are_of_the_pixels_middles() -> None:
    centre = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert pixel_distances((2, 4), centre, "square").tolist() == [[1.5, 0.5, 0.5, 1.5]] * 2
    assert pixel_distances((2, 4), centre, "disc")[0, 0].item() == pytest.approx(math.hypot(0.5, 1.5))


@given(seed=st.integers(0, 2**32), hidden=st.booleans(), ratio=st.floats(0.1, 0.9))
def test_with_patch_moves_one_patch_at_most(seed: int, hidden: bool, ratio: float) -> None:
    mask = Random(ratio=ratio)(3, (4, 6), torch.Generator().manual_seed(seed))
    changed = with_patch(mask, CENTRE, hidden=hidden, rngs=[torch.Generator().manual_seed(i) for i in range(3)])
    assert (changed.is_hidden[:, CENTRE] == hidden).all()
    assert changed.hidden.shape == mask.hidden.shape
    already = mask.is_hidden[:, CENTRE] == hidden
    assert (changed.is_hidden != mask.is_hidden).sum(1).tolist() == (2 * ~already).tolist()


def test_a_random_mask_stays_random_given_the_centre(rng: torch.Generator) -> None:
    masks = Random(ratio=0.5)(3000, (2, 2), rng)
    changed = with_patch(masks, 0, hidden=False, rngs=[torch.Generator().manual_seed(i) for i in range(3000)])
    # the one other visible patch is each of three equally often: binomial, five deviations
    counts = (~changed.is_hidden[:, 1:]).sum(0)
    assert (counts - 1000).abs().max() < 5 * math.sqrt(3000 * 2 / 9)


@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_work_is_linear_and_memory_flat(batch_size: int, images: Tensor) -> None:
    model = lively(tiny_mae())
    expected = trained(run_probes([PROBE], model, images, seed=1).datasets["receptive_field"])
    calls = reference.count_calls(model)
    probe = PROBE.model_copy(update={"batch_size": batch_size})
    result = trained(run_probes([probe], model, images, seed=1).datasets["receptive_field"])
    # a full image for all layers, a masked one for the token and one for the prediction
    assert sum(calls) == 3 * len(images)
    assert len(calls) == 3 * math.ceil(5 / batch_size)
    for name in result:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-4, atol=1e-6)

    accumulator = probe.start(model, 5, 1)
    held = []
    for batch in batches(model, images, 1, 1):
        accumulator.update(batch)
        held.append(reference.numbers_held(accumulator))
    assert held == [held[0]] * 5


@pytest.mark.parametrize("num_images", [1, 3])
def test_only_the_first_images_are_looked_at(num_images: int, images: Tensor) -> None:
    model = lively(tiny_mae())
    probe = PROBE.model_copy(update={"num_images": num_images})
    some = run_probes([probe], model, images, seed=1).datasets["receptive_field"]
    alone = run_probes([probe], model, images[:num_images], seed=1).datasets["receptive_field"]
    assert some.attrs["images_used"] == alone.attrs["images_used"] == num_images
    np.testing.assert_allclose(some.field, alone.field, rtol=1e-5)
    assert some.image_radius_sem.sel(target="token").isnull().all() == (num_images == 1)


def test_layers_are_evenly_spaced_with_first_and_last() -> None:
    assert spaced_layers(12, 6) == [0, 2, 4, 7, 9, 11]
    assert spaced_layers(4, 6) == [0, 1, 2, 3]
    assert spaced_layers(1, 6) == spaced_layers(1, 1) == [0]
    assert spaced_layers(5, 1) == [4]
    for depth in range(2, 40):
        for count in range(2, 9):
            found = spaced_layers(depth, count)
            assert (found[0], found[-1], len(found)) == (0, depth - 1, min(count, depth))
            assert max(np.diff(found)) - min(np.diff(found)) <= 1


def test_fewer_layers_have_the_same_fields(images: Tensor) -> None:
    model = lively(tiny_mae())
    every = run_probes([PROBE], model, images, seed=1).datasets["receptive_field"]
    last = run_probes([PROBE.model_copy(update={"num_layers": 1})], model, images, seed=1).datasets["receptive_field"]
    assert every.layer.values.tolist() == list(range(1, len(model.blocks) + 1))
    assert last.layer.values.tolist() == [len(model.blocks)]
    np.testing.assert_allclose(last.depth_field, every.depth_field.isel(layer=[-1]), rtol=1e-5)
    np.testing.assert_allclose(last.field, every.field, rtol=1e-5)


def test_masks_that_go_together_have_the_fields_they_have_alone(images: Tensor) -> None:
    model = lively(tiny_mae())
    probe = parse(ReceptiveField, {"masks": ["random", "block"], "ratios": [0.5, 0.75]})
    together = run_probes([probe], model, images, seed=1).datasets["receptive_field"]
    for kind in probe.masks:
        for ratio in probe.ratios:
            only = parse(ReceptiveField, {"masks": [kind], "ratios": [ratio]})
            alone = run_probes([only], model, images, seed=1).datasets["receptive_field"]
            view = f"{kind} {ratio:g}"
            np.testing.assert_allclose(together.field.sel(view=view), alone.field.sel(view=view), rtol=1e-4, atol=1e-8)


def test_without_prediction_there_are_tokens_and_no_numbers_made_up(images: Tensor, rng: torch.Generator) -> None:
    result = trained(PROBE(ViT(**SMALL), images, rng))
    assert result.radius.sel(target="prediction").isnull().all()
    assert not result.radius.sel(target="token").isnull().any()
    np.testing.assert_array_equal(result.half_radius, result.image_radius.sel(mass=0.5))
    np.testing.assert_array_equal(result.half_radius_sem, result.image_radius_sem.sel(mass=0.5))
    # a prediction of a full image is not asked for either
    result = trained(PROBE(tiny_mae(), images, rng))
    assert result.radius.sel(target="prediction", view="full").isnull().all()
    assert not result.radius.sel(target="prediction", view="random 0.5").isnull().any()


def test_the_model_comes_back_as_it_was(images: Tensor, rng: torch.Generator) -> None:
    model = tiny_mae()
    model.blocks[0].requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with torch.no_grad():
        PROBE(model, images, rng)
        assert not torch.is_grad_enabled()
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_what_does_not_fit_is_one_sentence(images: Tensor, rng: torch.Generator) -> None:
    with pytest.raises(InputError, match="expected ratios between 0 and 1"):
        parse(ReceptiveField, {"ratios": [1.5]})
    with pytest.raises(InputError, match=r"expected masks out of random, .*, got \['randon'\]"):
        parse(ReceptiveField, {"masks": ["randon"]})
    with pytest.raises(InputError, match="expected one or more masses"):
        parse(ReceptiveField, {"masses": []})
    probe = ReceptiveField(ratios=(0.99,))
    with pytest.raises(ProbeError, match=r"^probe receptive_field: needs masks that fit the model's grid \(.*visible"):
        probe(tiny_mae(), images, rng)
