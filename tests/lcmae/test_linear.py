"""Linear layers by oneDNN are torch's own to rounding: values, gradients, gradients of gradients, and where they step aside."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lcmae import linear as module
from lcmae.formats.beit import SimMIMBeit
from lcmae.formats.vit import ViT
from lcmae.linear import WORTH_IT, Linear, convert, linear
from tests.conftest import SMALL, tiny_mae, tiny_simmim

ROWS, WIDTH, OUT = 64, 128, 192
assert ROWS * WIDTH * OUT >= WORTH_IT

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this torch has no oneDNN",
)


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor where oneDNN is faster, whatever this one is."""
    monkeypatch.setattr(module, "is_faster", lambda: True)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    """Rows, weights and biases that take gradients."""
    x, weight = numbers(4, ROWS // 4, WIDTH).requires_grad_(), numbers(OUT, WIDTH, seed=1).requires_grad_()
    return x, weight, numbers(OUT, seed=2).requires_grad_() if bias else None


def close(found: Tensor, expected: Tensor) -> bool:
    """To the rounding of sums of float32."""
    return torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.detach().abs().max()))


def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the products that go to oneDNN from now on."""
    seen: list[tuple[int, ...]] = []
    multiply = module._multiply

    def noted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append((*x.shape, len(weight)))
        return multiply(x, weight, bias)

    monkeypatch.setattr(module, "_multiply", noted)
    return seen


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(everywhere: None, monkeypatch: pytest.MonkeyPatch, bias: bool):
    seen = products(monkeypatch)
    cotangent = numbers(4, ROWS // 4, OUT, seed=3)
    found, expected = [], []
    for function, results in ((linear, found), (F.linear, expected)):
        arguments = layer(bias)
        out = function(*arguments)
        leaves = [leaf for leaf in arguments if leaf is not None]
        results += [out, *torch.autograd.grad(out, leaves, cotangent)]
    assert len(found) == len(expected) == 3 + bias
    assert all(map(close, found, expected))
    assert len(seen) == 3  # the product, and one for each of its two gradients


@needs_onednn
@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_only_the_gradients_that_are_wanted_are_made_and_kept_for(
    everywhere: None, monkeypatch: pytest.MonkeyPatch, wanted: tuple[bool, bool]
):
    seen = products(monkeypatch)
    x, weight, bias = layer()
    assert bias is not None
    bias.requires_grad_(False)
    x.requires_grad_(wanted[0])
    weight.requires_grad_(wanted[1])
    kept: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(tuple(one.shape)) or one, lambda one: one):
        out = linear(x, weight, bias)
    out.sum().backward()
    assert [one.grad is not None for one in (x, weight)] == list(wanted)
    assert kept == [(OUT, WIDTH) if wanted[0] else (4, ROWS // 4, WIDTH)]
    assert len(seen) == 2


@needs_onednn
def test_gradients_have_gradients(everywhere: None):
    results = []
    for function in (linear, F.linear):
        x, weight, bias = layer()
        [slope] = torch.autograd.grad(function(x, weight, bias).square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), [x, weight]))
    assert all(map(close, *results))


@needs_onednn
def test_rows_and_weights_may_be_views(everywhere: None, monkeypatch: pytest.MonkeyPatch):
    seen = products(monkeypatch)
    x, weight = numbers(4, 2 * ROWS, WIDTH)[:, ::2], numbers(WIDTH, 3 * OUT, seed=1).t()[OUT : 2 * OUT]
    assert not x.is_contiguous()
    assert not weight.is_contiguous()
    assert close(linear(x, weight), F.linear(x, weight))
    assert len(seen) == 1


@needs_onednn
def test_it_steps_aside_for_what_oneDNN_is_not_for(everywhere: None, monkeypatch: pytest.MonkeyPatch):
    seen = products(monkeypatch)
    x, weight, bias = (one.detach() for one in layer() if one is not None)
    assert linear(x.double(), weight.double()).dtype == torch.float64
    assert linear(x[:, :1], weight[:8]).shape == (4, 1, 8)  # too small to be worth it
    assert linear(x[:0], weight).shape == (0, ROWS // 4, OUT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    with monkeypatch.context() as switched:
        switched.setattr(torch.backends.mkldnn, "enabled", False)
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
    assert linear(x.to("meta"), weight.to("meta")).device.type == "meta"
    assert not seen
    linear(x, weight, bias)
    assert len(seen) == 1


def test_on_other_processors_torch_multiplies_as_always(monkeypatch: pytest.MonkeyPatch):
    """The rule itself: AVX-512 on a processor of AMD."""
    for capabilities, expected in (
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, hasattr(torch.ops.mkldnn, "_linear_pointwise")),
        ({"avx512_f": False, "cpu_name": "AMD EPYC"}, False),
        ({"avx512_f": True, "cpu_name": "Intel(R) Xeon(R)"}, False),
        ({}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert module.is_faster.__wrapped__() == (expected and torch.backends.mkldnn.is_available())
    seen = products(monkeypatch)
    monkeypatch.setattr(module, "is_faster", lambda: False)
    x, weight, bias = layer()
    assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
    assert not seen


@needs_onednn
def test_torch_counts_its_operations(everywhere: None):
    x, weight, bias = layer()
    with FlopCounterMode(display=False) as counter:
        linear(x, weight, bias).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * ROWS * WIDTH * OUT


def test_models_are_made_of_such_layers_and_nothing_else_of_them_changes():
    for model in (tiny_mae(), tiny_simmim(), ViT(**SMALL), SimMIMBeit(**SMALL)):
        layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
        assert layers
        assert all(type(part) is Linear for part in layers)

    class Adapted(nn.Linear):
        """Another library's layer."""

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 4), nn.GELU(), Adapted(4, 2))
    converted = copy.deepcopy(plain)
    convert(converted)
    assert [type(part) for part in converted] == [Linear, nn.GELU, Adapted]
    assert converted.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(converted(torch.ones(1, 3)), plain(torch.ones(1, 3)))
    assert repr(converted[0]) == repr(plain[0])
