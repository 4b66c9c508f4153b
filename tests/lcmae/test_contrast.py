"""The algebra's laws: the four terms add up exactly, each is its pairs, and nothing visible
enters."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.contrast import TERMS, decompose, decompose_step, token_info_nce
from lcmae.errors import InputError
from lcmae.masking import Random
from lcmae.objectives import LCMAE
from lcmae.objectives.base import collapse_level, masked_squared_error
from tests.conftest import SMALL
from tests.reference import contrast as reference
from tests.reference.exact import ExactMAE

# float64 keeps about 16 digits; sums of a few hundred terms of size 1 lose less than four of them
EXACT = 1e-12

shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31))


def draw(shape: tuple[int, int, int, int, int], share: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, targets and *any* hidden map (counts differ between masks and images), at least
    one hidden."""
    num_images, num_masks, num_patches, values, seed = shape
    rng = torch.Generator().manual_seed(seed)
    pred = torch.randn(num_images, num_masks, num_patches, values, generator=rng, dtype=torch.float64)
    target = 2 * torch.randn(num_images, num_patches, values, generator=rng, dtype=torch.float64) + 1
    hidden = torch.rand(num_images, num_masks, num_patches, generator=rng) < share
    hidden[0, 0, 0] = True
    return pred, target, hidden


@given(shapes)
def test_the_four_terms_add_up_to_the_loss(shape: tuple[int, int, int, int, int]) -> None:
    pred, target, hidden = draw(shape)
    parts = decompose(pred, target, hidden)
    assert math.fsum(float(term) for term in parts.terms().values()) == pytest.approx(float(parts.loss), rel=EXACT)
    assert all(float(term) >= 0 for term in parts.terms().values())


@given(shapes)
def test_each_term_is_the_mean_over_its_pairs(shape: tuple[int, int, int, int, int]) -> None:
    pred, target, hidden = draw(shape)
    parts = decompose(pred, target, hidden)
    for name in ("loss", *TERMS):
        expected = getattr(reference, name)(pred, target, hidden)
        assert float(getattr(parts, name)) == pytest.approx(expected, rel=EXACT, abs=EXACT), name


@given(shapes)
def test_maps_sum_to_their_terms(shape: tuple[int, int, int, int, int]) -> None:
    pred, target, hidden = draw(shape)
    parts = decompose(pred, target, hidden)
    assert torch.equal(parts.count, hidden.sum(1).double())
    for name in ("loss", "invariance", "local_consistency", "global_consistency"):
        mean = getattr(parts, f"{name}_map").sum() / parts.count.sum()
        assert float(mean) == pytest.approx(float(getattr(parts, name)), rel=EXACT, abs=EXACT), name
    # a patch that no mask hid has no part in anything
    assert not parts.loss_map[parts.count == 0].any()


@given(shapes, st.sampled_from([1e30, math.inf, math.nan]))
def test_what_is_predicted_for_visible_patches_never_matters(
    shape: tuple[int, int, int, int, int], anything: float
) -> None:
    pred, target, hidden = draw(shape)
    pred.requires_grad_()
    expected = decompose(pred, target, hidden)
    other = pred.detach().masked_fill(~hidden[..., None], anything).requires_grad_()
    got = decompose(other, target.masked_fill(~hidden.any(1)[..., None], anything), hidden)
    for name in ("loss", *TERMS):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name
    gradient = torch.autograd.grad(sum(got.terms().values(), got.loss), other)[0]
    assert torch.equal(gradient, torch.autograd.grad(sum(expected.terms().values(), expected.loss), pred)[0])
    assert not gradient[~hidden].any()


@given(shapes)
def test_a_constant_predictor_is_invariant_and_sits_on_the_collapse_level(
    shape: tuple[int, int, int, int, int],
) -> None:
    pred, target, hidden = draw(shape)
    constant = torch.randn(pred.shape[-1], generator=torch.Generator().manual_seed(shape[-1]), dtype=torch.float64)
    parts = decompose(constant.expand_as(pred), target, hidden)
    level = float(collapse_level(target, parts.count))
    assert float(parts.invariance) == pytest.approx(0, abs=EXACT)
    assert float(parts.local_consistency + parts.global_consistency) == pytest.approx(level, rel=EXACT, abs=EXACT)
    # around the level: what the constant misses of the mean target
    hidden_targets = target[:, None].expand_as(pred)[hidden]
    missed = float((constant - hidden_targets.mean(0)).square().mean())
    assert float(parts.offset) == pytest.approx(missed, rel=EXACT, abs=EXACT)
    assert float(parts.loss) == pytest.approx(level + missed, rel=EXACT)
    # the best constant scores the level, and none scores less
    best = decompose(hidden_targets.mean(0).expand_as(pred), target, hidden)
    assert float(best.loss) == pytest.approx(level, rel=EXACT, abs=EXACT)


@given(shapes)
def test_a_perfect_predictor_has_four_zeros(shape: tuple[int, int, int, int, int]) -> None:
    pred, target, hidden = draw(shape)
    parts = decompose(target[:, None].expand_as(pred), target, hidden)
    assert all(float(term) == 0 for term in (parts.loss, *parts.terms().values()))


@given(shapes)
def test_mask_noise_goes_to_invariance_alone(shape: tuple[int, int, int, int, int]) -> None:
    _, target, _ = draw(shape)
    num_masks = 2
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(shape[-1]), dtype=torch.float64)
    pred = torch.stack([target + noise, target - noise], dim=1)
    parts = decompose(pred, target, torch.ones(len(target), num_masks, target.shape[1], dtype=torch.bool))
    assert float(parts.invariance) == pytest.approx(float(noise.square().mean()), rel=EXACT)
    rest = parts.local_consistency + parts.global_consistency + parts.offset
    assert float(rest) == pytest.approx(0, abs=EXACT)


def test_the_whole_batch_is_the_sum_of_its_shares() -> None:
    # two devices with equal counts, by hand: offsets average first, and the local terms average
    pred, target, _ = draw((4, 3, 6, 2, 7))
    hidden = torch.zeros(4 * 3, 6, dtype=torch.bool)
    hidden.scatter_(1, torch.rand(12, 6, generator=torch.Generator().manual_seed(1)).topk(4, 1).indices, True)
    hidden = hidden.reshape(4, 3, 6)
    whole = decompose(pred, target, hidden)
    residual = (pred - target[:, None])[hidden].mean(0)
    shares = [decompose(pred[cut], target[cut], hidden[cut], lambda _: residual) for cut in (slice(2), slice(2, 4))]
    for name in ("loss", *TERMS):
        mean = sum(float(getattr(share, name)) for share in shares) / 2
        assert mean == pytest.approx(float(getattr(whole, name)), rel=EXACT), name


def test_unit_weights_are_the_k_mask_mae_loss_in_value_and_gradient() -> None:
    model = ExactMAE(**SMALL, decoder_width=12, decoder_depth=1, decoder_heads=3).double()
    images = torch.randn(4, 3, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    objective = LCMAE(num_masks=3)
    loss = objective(model, images, torch.Generator().manual_seed(5))

    masks = Random()(4 * 3, model.grid, torch.Generator().manual_seed(5))
    target = model.targets(images).repeat_interleave(3, dim=0)
    plain = masked_squared_error(model(images, masks).pred, target, masks.is_hidden)

    assert loss.total.item() == pytest.approx(plain.item(), rel=EXACT)
    assert loss.terms["reconstruction"].item() == pytest.approx(plain.item(), rel=EXACT)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    pairs = zip(torch.autograd.grad(loss.total, weights), torch.autograd.grad(plain, weights), strict=True)
    for ours, theirs in pairs:
        assert torch.allclose(ours, theirs, rtol=EXACT, atol=EXACT)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**31)),
    st.floats(0.05, 2),
    st.floats(0, 1),
)
def test_token_info_nce_is_its_definition(shape: tuple[int, int, int, int], temperature: float, share: float) -> None:
    num_images, num_patches, width, seed = shape
    rng = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, num_images, num_patches, width, generator=rng, dtype=torch.float64)
    in_first, in_second = torch.rand(2, num_images, num_patches, generator=rng) < share
    # tokens of hidden patches are zeros, as the objective hands them over
    first = (first * in_first[..., None]).requires_grad_()
    second = (second * in_second[..., None]).requires_grad_()
    got = token_info_nce(first, second, in_first, in_second, temperature)
    expected = reference.token_info_nce(first.detach(), second.detach(), in_first, in_second, temperature)
    # a logit of 20 costs a digit in exp and log
    assert got.item() == pytest.approx(expected, rel=1e-10, abs=1e-10)
    for gradient, shown in zip(torch.autograd.grad(got, (first, second)), (in_first, in_second), strict=True):
        assert gradient.isfinite().all()
        assert not gradient[~shown].any()


@pytest.mark.usefixtures("as_installed")
def test_unlike_shapes_are_refused_in_one_line() -> None:
    pred, target, hidden = draw((2, 2, 3, 4, 0))
    with pytest.raises(
        InputError, match=r"^expected pred \[b k n p\], .* got \(2, 2, 3, 4\), \(2, 3, 3\) and \(2, 2, 3\)$"
    ):
        decompose(pred, target[..., :3], hidden)
    with pytest.raises(InputError, match=r"^expected at least one hidden patch, got none$"):
        decompose(pred, target, torch.zeros_like(hidden))
    assert decompose_step(pred, target, hidden).loss > 0
