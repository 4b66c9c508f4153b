"""Every objective against its published formula, and the laws of its terms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import Block, Mask, Random
from lcmae.models import MaskedImageModel
from lcmae.objectives import LCMAE, MAE, UMAE, AnyObjective, Loss, Objective, SimMIM, USimMIM
from lcmae.objectives.base import collapse_level, masked_squared_error, uniformity
from lcmae.objectives.lcmae import visible_tokens
from lcmae.objectives.simmim import absolute_collapse_level, masked_absolute_error
from lcmae.settings import members, parse
from tests.conftest import SMALL, tiny_mae, tiny_simmim
from tests.reference import contrast as pairs
from tests.reference import objectives as reference
from tests.reference.exact import ExactMAE, ExactSimMIM

EXACT = 1e-12  # float64: means of a few thousand values of size 1

OBJECTIVES = members(AnyObjective)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.__name__)

# sizes and a seed; vectors of any length, none of them zero
clouds = st.tuples(st.integers(1, 12), st.integers(1, 8), st.integers(0, 2**31))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def exact_mae() -> ExactMAE:
    return ExactMAE(**SMALL, decoder_width=12, decoder_depth=1, decoder_heads=3, normalize_targets=True).double()


@pytest.fixture
def exact_simmim() -> ExactSimMIM:
    return ExactSimMIM(**SMALL).double()


@pytest.fixture
def exact_images() -> Tensor:
    return torch.randn(5, 3, 8, 12, generator=seeded(1), dtype=torch.float64)


def test_mae_is_its_formula(exact_mae: ExactMAE, exact_images: Tensor) -> None:
    loss = MAE()(exact_mae, exact_images, seeded(2))
    mask = Random()(5, exact_mae.grid, seeded(2))
    with torch.no_grad():
        expected = reference.mae(exact_mae(exact_images, mask).pred, exact_mae.targets(exact_images), mask.is_hidden)
    assert loss.total.item() == pytest.approx(expected, rel=EXACT)
    assert set(loss.terms) == {"reconstruction"}


@pytest.mark.parametrize("feature", ["cls", "mean"])
def test_umae_is_its_formula(exact_mae: ExactMAE, exact_images: Tensor, feature: str) -> None:
    loss = parse(UMAE, {"feature": feature, "weight": 0.3})(exact_mae, exact_images, seeded(2))
    mask = Random()(5, exact_mae.grid, seeded(2))
    with torch.no_grad():
        out = exact_mae(exact_images, mask)
        mae = reference.mae(out.pred, exact_mae.targets(exact_images), mask.is_hidden)
        # one layer norm, the model's own
        vectors = out.prefix[:, 0] if feature == "cls" else out.tokens.mean(1)
    term = reference.uniformity(vectors)
    assert loss.terms["reconstruction"].item() == pytest.approx(mae, rel=EXACT)
    assert loss.terms["uniformity"].item() == pytest.approx(term, rel=EXACT)
    assert loss.total.item() == pytest.approx(mae + 0.3 * term, rel=EXACT)


def test_simmim_is_its_formula(exact_simmim: ExactSimMIM, exact_images: Tensor) -> None:
    loss = SimMIM()(exact_simmim, exact_images, seeded(2))
    mask = Random(ratio=0.6)(5, exact_simmim.grid, seeded(2))
    with torch.no_grad():
        pred = exact_simmim(exact_images, mask).pred
    expected = reference.simmim(pred, exact_images, mask.is_hidden, exact_simmim.grid)
    assert loss.total.item() == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("feature", ["cls", "mean"])
def test_usimmim_is_its_formula(exact_simmim: ExactSimMIM, exact_images: Tensor, feature: str) -> None:
    loss = parse(USimMIM, {"feature": feature, "weight": 0.3})(exact_simmim, exact_images, seeded(2))
    mask = Random(ratio=0.6)(5, exact_simmim.grid, seeded(2))
    with torch.no_grad():
        out = exact_simmim(exact_images, mask)
    simmim = reference.simmim(out.pred, exact_images, mask.is_hidden, exact_simmim.grid)
    shown = torch.stack([out.tokens[b, mask.visible[b]].mean(0) for b in range(5)])
    term = reference.uniformity(out.prefix[:, 0] if feature == "cls" else shown)
    assert loss.terms["uniformity"].item() == pytest.approx(term, rel=EXACT)
    assert loss.total.item() == pytest.approx(simmim + 0.3 * term, rel=EXACT)


@pytest.mark.parametrize("model", ["exact_mae", "exact_simmim"])
def test_lcmae_is_its_terms_weighed(model: str, exact_images: Tensor, request: pytest.FixtureRequest) -> None:
    network: MaskedImageModel = request.getfixturevalue(model)
    weights = {"invariance": 0.5, "local_consistency": 2.0, "global_consistency": 0.0, "offset": 3.0}
    objective = parse(LCMAE, {**weights, "num_masks": 3, "token_contrast": 0.7, "temperature": 0.5})
    loss = objective(network, exact_images, seeded(2))

    masks = Random()(15, network.grid, seeded(2))
    with torch.no_grad():
        out = network(exact_images, masks)
    pred, hidden = out.pred.unflatten(0, (5, 3)), masks.is_hidden.unflatten(0, (5, 3))
    target = network.targets(exact_images)
    expected = {name: getattr(pairs, name)(pred, target, hidden) for name in weights}
    # a token at the place of each visible patch, under each mask; each mask against the next, the
    # last against the first
    tokens = torch.zeros(15, network.num_patches, 16, dtype=torch.float64)
    for row in range(15):
        for t, position in enumerate(out.positions[row].tolist()):
            if not masks.is_hidden[row, position]:
                tokens[row, position] = out.tokens[row, t]
    tokens, shown = tokens.unflatten(0, (5, 3)), ~hidden
    contrast = [
        pairs.token_info_nce(tokens[:, k], tokens[:, (k + 1) % 3], shown[:, k], shown[:, (k + 1) % 3], 0.5)
        for k in range(3)
    ]
    expected["token_contrast"] = sum(contrast) / 3
    expected["reconstruction"] = pairs.loss(pred, target, hidden)
    assert {name: term.item() for name, term in loss.terms.items()} == pytest.approx(expected, rel=1e-10)
    total = sum(weight * expected[name] for name, weight in {**weights, "token_contrast": 0.7}.items())
    assert loss.total.item() == pytest.approx(total, rel=1e-10)


@given(clouds)
def test_uniformity_is_the_gram_mean_and_one_over_the_participation_ratio(cloud: tuple[int, int, int]) -> None:
    num_vectors, width, seed = cloud
    vectors = torch.randn(num_vectors, width, generator=seeded(seed), dtype=torch.float64) + 0.5
    got = uniformity(vectors).item()
    assert got == pytest.approx(reference.uniformity(vectors), rel=1e-11)
    assert got == pytest.approx(1 / reference.participation_ratio(vectors), rel=1e-11)
    # between orthogonal (or as near as the width lets them be) and all alike
    assert 1 / min(num_vectors, width) - EXACT <= got <= 1 + EXACT
    # lengths have no part
    lengths = torch.rand(num_vectors, 1, generator=seeded(seed), dtype=torch.float64) + 0.1
    assert uniformity(vectors * lengths).item() == pytest.approx(got, rel=1e-11)


@pytest.mark.parametrize(("num_vectors", "width"), [(3, 8), (8, 8), (24, 8)])
def test_uniformity_reaches_its_floor(num_vectors: int, width: int) -> None:
    # copies of an orthonormal basis: the most spread that N vectors of width d can be
    vectors = torch.eye(width, dtype=torch.float64).repeat(max(1, num_vectors // width), 1)[:num_vectors]
    assert uniformity(vectors).item() == pytest.approx(1 / min(num_vectors, width), rel=EXACT)
    assert uniformity(torch.ones(num_vectors, width)).item() == pytest.approx(1, rel=1e-6)


def test_simmim_divides_once() -> None:
    # an error of 0.5 in every hidden value is 0.5, however many channels, pixels and hidden patches
    # there are
    for channels, hidden in ((1, 3), (3, 3), (4, 7)):
        target = torch.randn(2, 8, 4 * channels, generator=seeded(0), dtype=torch.float64)
        is_hidden = (torch.arange(8) < hidden).expand(2, -1)
        pred = torch.where(is_hidden[..., None], target + 0.5, target + 100)
        assert masked_absolute_error(pred, target, is_hidden).item() == pytest.approx(0.5, rel=EXACT)


@given(st.tuples(st.integers(1, 4), st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**31)))
def test_the_best_constant_scores_the_collapse_level(shape: tuple[int, int, int, int]) -> None:
    num_images, num_patches, values, seed = shape
    target = torch.randn(num_images, num_patches, values, generator=seeded(seed), dtype=torch.float64) + 1
    is_hidden = torch.rand(num_images, num_patches, generator=seeded(seed)).argsort(1) < max(1, num_patches // 2)
    hidden = target[is_hidden]

    squared = collapse_level(target, is_hidden).item()
    best = masked_squared_error(hidden.mean(0).expand_as(target), target, is_hidden).item()
    assert squared == pytest.approx(best, rel=EXACT, abs=EXACT)

    absolute = absolute_collapse_level(hidden.unflatten(0, (num_images, -1))).item()
    best = masked_absolute_error(hidden.median(0).values.expand_as(target), target, is_hidden).item()
    assert absolute == pytest.approx(best, rel=EXACT, abs=EXACT)

    # any other constant does no better
    other = torch.randn(values, generator=seeded(seed + 1), dtype=torch.float64) + 1
    assert masked_squared_error(other.expand_as(target), target, is_hidden).item() >= squared - EXACT
    assert masked_absolute_error(other.expand_as(target), target, is_hidden).item() >= absolute - EXACT


@every_objective
def test_a_constant_predictor_scores_its_objective_s_collapse_level(objective: type[Objective]) -> None:
    model, images = silent(objective)
    loss = objective()(model, images, seeded(3))
    again = objective()(model, images, seeded(3))
    assert loss.collapse is not None
    assert again.collapse is not None
    assert loss.collapse.item() == again.collapse.item()
    assert not loss.collapse.requires_grad
    # each value is +1 as often as -1 among the hidden patches, so no constant does better than the
    # silent model's 0
    assert loss.terms["reconstruction"].item() == pytest.approx(loss.collapse.item(), rel=1e-6)


def silent(objective: type[Objective]) -> tuple[MaskedImageModel, Tensor]:
    """A model that predicts 0 everywhere, and as many images of +1 as of -1."""
    model = tiny_simmim() if objective in (SimMIM, USimMIM) else tiny_mae()
    last = model.get_submodule("head" if objective in (SimMIM, USimMIM) else "decoder_pred")
    for parameter in last.parameters():
        torch.nn.init.zeros_(parameter)
    signs = torch.tensor([1.0, -1.0]).repeat(3)[:, None, None, None]
    return model, signs * torch.ones(6, 3, 8, 12)


@every_objective
def test_terms_are_float32_inside_autocast(objective: type[Objective], images: Tensor) -> None:
    model = tiny_simmim() if objective in (SimMIM, USimMIM) else tiny_mae()
    settings = {"token_contrast": 1.0} if objective is LCMAE else {}
    exact = parse(objective, settings)(model, images, seeded(3))
    model.precision = "bfloat16"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = parse(objective, settings)(model, images, seeded(3))
    for name, value in {"total": low.total, **low.terms}.items():
        assert value.dtype == torch.float32, name
        # a bfloat16 model, but sums in float32: three digits
        assert value.item() == pytest.approx(numbers(exact)[name], rel=0.05, abs=0.02), name
    assert low.collapse is not None
    assert low.collapse.dtype == torch.float32


def test_similarities_in_autocast_are_those_without() -> None:
    vectors = torch.randn(32, 16, generator=seeded(0))
    expected = uniformity(vectors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(uniformity(vectors), expected)


@every_objective
def test_an_objective_is_a_function_of_its_generator(objective: type[Objective], images: Tensor) -> None:
    model = tiny_simmim() if objective in (SimMIM, USimMIM) else tiny_mae()
    before = torch.random.get_rng_state()
    first, second, other = (numbers(objective()(model, images, seeded(seed))) for seed in (3, 3, 4))
    assert first == second
    assert first["total"] != other["total"]
    assert torch.equal(torch.random.get_rng_state(), before)


@every_objective
def test_every_trained_weight_gets_a_gradient(objective: type[Objective], images: Tensor) -> None:
    # DDP waits forever for a weight that has no part in the loss
    model = tiny_simmim() if objective in (SimMIM, USimMIM) else tiny_mae()
    objective()(model, images, seeded(3)).total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("encodes_hidden", [False, True])
def test_visible_tokens_stand_at_their_places(encodes_hidden: bool, images: Tensor) -> None:
    model = tiny_simmim() if encodes_hidden else tiny_mae()
    mask = Random(ratio=0.5)(5, model.grid, seeded(1))
    out = model(images, mask)
    tokens, shown = visible_tokens(out, mask)
    assert torch.equal(shown, ~mask.is_hidden)
    assert not tokens[mask.is_hidden].any()
    for b in range(5):
        for t, position in enumerate(out.positions[b].tolist()):
            if shown[b, position]:
                assert torch.equal(tokens[b, position], out.tokens[b, t])


def test_k_masks_come_image_by_image(images: Tensor) -> None:
    model = tiny_mae()
    drawn = LCMAE(mask=Block(ratio=0.5)).draw(model, images, seeded(1), 3)
    expected = Block(ratio=0.5)(15, model.grid, seeded(1))
    assert isinstance(drawn, Mask)
    assert torch.equal(drawn.is_hidden, expected.is_hidden)
    # an image has several masks, not one several times
    assert len({tuple(row) for row in drawn.is_hidden[:3].tolist()}) == 3


@pytest.mark.parametrize(
    ("objective", "values", "message"),
    [
        (MAE, {"mask": {"kind": "random", "ratio": 1.5}}, r"^mask\.random\.ratio: .* less than 1, got 1\.5$"),
        (MAE, {"mask": {"kind": "randon"}}, r"^mask: "),
        (MAE, {"weight": 0.1}, r"^weight: "),
        (UMAE, {"weight": -0.1}, r"^weight: .* greater than or equal to 0, got -0\.1$"),
        (UMAE, {"weight": math.nan}, r"^weight: .* finite number, got nan$"),
        (UMAE, {"feature": "clss"}, r"^feature: .* 'cls' or 'mean', got 'clss'$"),
        (USimMIM, {"weight": math.inf}, r"^weight: "),
        (LCMAE, {"num_masks": 1}, r"^num_masks: .* greater than or equal to 2, got 1$"),
        (LCMAE, {"invariance": -1}, r"^invariance: "),
        (LCMAE, {"temperature": 0}, r"^temperature: .* greater than 0, got 0$"),
        (LCMAE, {"invariants": 1}, r"^invariants: "),
    ],
)
def test_bad_settings_are_refused_in_one_line(
    objective: type[Objective], values: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        parse(objective, values)
    assert "\n" not in str(refusal.value)


@every_objective
def test_settings_survive_json(objective: type[Objective]) -> None:
    settings = objective(mask=Block(ratio=0.5))
    assert parse(objective, settings.model_dump_json()) == settings


def numbers(loss: Loss) -> dict[str, float]:
    return {name: value.item() for name, value in {"total": loss.total, **loss.terms}.items()}
