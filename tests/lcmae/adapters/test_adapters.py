"""`lcmae.adapt`: four foreign classes become models, and each broken promise is one sentence.

An official-style class is also loaded from its state dict: both ways must give the same numbers,
from predictions to probes.
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lcmae
from lcmae.adapters import from_file
from lcmae.errors import InputError
from lcmae.masking import Mask, Random
from lcmae.models import take
from lcmae.probes.base import run_probes
from lcmae.probes.registry import probe_class
from lcmae.probes.results.networks import networks_of
from lcmae.probes.watching.hooks import watch_attention
from tests.lcmae.adapters import foreign
from tests.reference.official_style import OfficialStyleMAE

CLOSE = 1e-5
ROOT = Path(__file__).parents[3]
PROBES = ("reconstruction", "encoder_attention", "decoder_attention", "receptive_field", "invariance", "spectrum")


@pytest.fixture(params=foreign.CASES)
def case(request: pytest.FixtureRequest) -> tuple[Any, lcmae.adapters.Adapted]:
    build, adapt = foreign.CASES[request.param]
    module = build()
    return module, adapt(module)


@pytest.fixture
def pictures(rng: torch.Generator) -> Tensor:
    return torch.randn(3, 3, foreign.IMAGE, foreign.IMAGE, generator=rng)


@pytest.fixture
def mask(rng: torch.Generator) -> Mask:
    return Random(ratio=0.6)(3, (4, 4), rng)


EXAMPLE = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adapting-a-model.md").read_text(), re.DOTALL)[0]


def num_lines(text: str) -> int:
    """Lines of code but for imports."""
    lines = (line.strip() for line in text.splitlines())
    return sum(line != "" and not line.startswith(("import ", "from ")) for line in lines)


@pytest.mark.parametrize("kind", [*foreign.CASES, "docs"])
def test_adapters_are_short(kind: str) -> None:
    text = EXAMPLE if kind == "docs" else inspect.getsource(foreign.CASES[kind][1])
    assert num_lines(text) <= 15


def test_the_example_of_the_docs_runs() -> None:
    mae = OfficialStyleMAE(224, 16, 32, 1, 4, decoder=(24, 1, 3))
    names: dict[str, Any] = {"MyMAE": SimpleNamespace(load=lambda path: mae)}
    exec(EXAMPLE, names)
    model = names["make"]()
    assert model.has_prediction
    assert model.num_prefix == 1
    assert model(torch.zeros(1, 3, 224, 224)).pred.shape == (1, 196, 768)


def test_models_of_four_houses_keep_the_contract(case: tuple[Any, Any], pictures: Tensor, mask: Mask) -> None:
    _, model = case
    out = model(pictures, mask)
    assert out.pred.shape == model.targets(pictures).shape == (3, 16, 48)
    assert torch.equal(out.positions, mask.visible)
    assert out.tokens.shape == (3, mask.visible.shape[1], 32)
    assert out.pooled.shape == (3, 32)
    several = model(pictures[:1], mask)
    torch.testing.assert_close(several.pred[0], model(pictures[:1], mask[:1]).pred[0], rtol=0, atol=CLOSE)
    assert model(pictures).tokens.shape == (3, 16, 32)
    assert model.source is not None
    assert model.source.format == "adapted"


@pytest.mark.parametrize("kind", foreign.CASES)
def test_probes_run_on_models_of_four_houses(kind: str, pictures: Tensor) -> None:
    build, adapt = foreign.CASES[kind]
    model = adapt(build())
    probes = [probe_class(name)() for name in PROBES]
    results = run_probes(probes, model, pictures, seed=0)
    lacking = {"encoder_attention", "decoder_attention"} if kind == "conv-stem" else set()
    assert results.failures.keys() == lacking
    assert all("say attention= in lcmae.adapt" in str(failure) for failure in results.failures.values())
    assert results.datasets.keys() == {*PROBES} - lacking


def test_adapted_and_loaded_models_give_the_same_numbers(tmp_path: Path, pictures: Tensor, mask: Mask) -> None:
    module = foreign.official_style()
    torch.save({"model": module.state_dict()}, tmp_path / "mae.pth")
    adapted = foreign.adapt_official(module)
    loaded = lcmae.load(tmp_path / "mae.pth", heads=4, decoder_heads=3)
    torch.testing.assert_close(adapted(pictures, mask).pred, loaded(pictures, mask).pred, rtol=0, atol=CLOSE)
    probes = [probe_class(name)(**({"baseline_images": 0} if name != "spectrum" else {})) for name in PROBES[:4]]
    one, other = (run_probes(probes, model, pictures, seed=0).datasets for model in (adapted, loaded))
    for name in one:
        assert one[name].keys() == other[name].keys()
        for variable in one[name]:
            np.testing.assert_allclose(one[name][variable], other[name][variable], rtol=1e-3, atol=1e-4)


def test_hugging_face_predictions_are_its_own(pictures: Tensor, mask: Mask) -> None:
    module = foreign.huggingface()
    model = foreign.adapt_huggingface(module)
    out = model(pictures, mask)
    with torch.no_grad():
        right = module(pictures, noise=torch.cat([mask.visible, mask.hidden], dim=1).argsort(dim=1).float())
    torch.testing.assert_close(out.pred, right.logits, rtol=0, atol=CLOSE)
    assert torch.equal(right.mask.bool(), mask.is_hidden)
    loss = ((out.pred - model.targets(pictures)).square().mean(-1) * mask.is_hidden).sum() / mask.is_hidden.sum()
    torch.testing.assert_close(loss, right.loss, rtol=0, atol=CLOSE)


def test_attention_functions_give_hugging_faces_own_maps(pictures: Tensor, mask: Mask) -> None:
    module = foreign.huggingface()
    model = foreign.adapt_huggingface(module)
    seen: dict[int, Tensor] = {}
    with torch.no_grad(), watch_attention(model.blocks, seen.__setitem__):
        model.encode(pictures, mask)
    right = module.vit(
        pictures, noise=torch.cat([mask.visible, mask.hidden], dim=1).argsort(dim=1).float(), output_attentions=True
    ).attentions
    for layer, maps in enumerate(right):
        torch.testing.assert_close(seen[layer], maps, rtol=0, atol=CLOSE)


def test_vit_pytorchs_loss_is_its_own(pictures: Tensor) -> None:
    module = foreign.vit_pytorch()
    model = foreign.adapt_vit_pytorch(module)
    torch.manual_seed(7)
    right = module(pictures)
    # the mask that it drew, drawn again
    torch.manual_seed(7)
    order = torch.rand(3, 16).argsort(dim=-1)
    is_hidden = torch.zeros(3, 16, dtype=torch.bool).scatter(1, order[:, : int(0.75 * 16)], True)
    out = model(pictures, Mask.from_hidden(is_hidden))
    loss = ((out.pred - model.targets(pictures)).square().mean(-1) * is_hidden).sum() / is_hidden.sum()
    torch.testing.assert_close(loss, right, rtol=0, atol=CLOSE)


def test_identity_follows_weights_settings_and_functions() -> None:
    module = foreign.official_style()
    prints = {
        adapted.source.sha256
        for adapted in (
            foreign.adapt_official(module),
            foreign.adapt_official(module),
            foreign.adapt_official(module, normalize_targets=True),
            foreign.adapt_official(foreign.official_style()),
        )
        if adapted.source is not None
    }
    assert len(prints) == 3


def test_fresh_weights_are_the_untrained_baseline(pictures: Tensor) -> None:
    model = foreign.adapt_conv_stem(foreign.ConvStemMAE(), fresh=lambda: foreign.adapt_conv_stem(foreign.ConvStemMAE()))
    results = run_probes([probe_class("reconstruction")()], model, pictures, seed=0)
    assert "untrained" in networks_of(results.datasets["reconstruction"], "error")
    without = foreign.adapt_conv_stem(foreign.ConvStemMAE())
    results = run_probes([probe_class("reconstruction")()], without, pictures, seed=0)
    assert "untrained" not in networks_of(results.datasets["reconstruction"], "error")


def broken(change: Callable[[nn.Module], dict[str, Any]]) -> Callable[[], Any]:
    def adapt() -> Any:
        module = foreign.ConvStemMAE()
        return foreign.adapt_conv_stem(module, **change(module))

    return adapt


def _own_mask(mae: Any) -> dict[str, Any]:
    def encode(images: Tensor, mask: Mask) -> Tensor:
        drawn = torch.rand(mask.is_hidden.shape).argsort(1)[:, : mask.visible.shape[1]]
        return take(mae.stem(images).flatten(2).mT + mae.positions, drawn)

    return {"encode": encode, "encoder_blocks": ()}


def _reversed(mae: Any) -> dict[str, Any]:
    def encode(images: Tensor, mask: Mask) -> Tensor:
        return take(mae.stem(images).flatten(2).mT + mae.positions, mask.visible.flip(1))

    return {"encode": encode, "encoder_blocks": ()}


def _visible_first(mae: Any) -> dict[str, Any]:
    def predict(tokens: Tensor, mask: Mask) -> Tensor:
        hidden = mae.mask_token.expand(len(tokens), mask.hidden.shape[1], -1)
        # not the sum of a token: the layer norm at the end of the encoder makes that 0, and
        # rounding has no order
        return torch.cat([tokens, hidden], dim=1) @ torch.eye(32, 48)

    return {"predict": predict, "decoder_blocks": ()}


def _plain(mae: Any) -> Callable[[Tensor, Mask], Tensor]:
    return lambda images, mask: take(mae.stem(images).flatten(2).mT + mae.positions, mask.visible)


BROKEN: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "own mask": (_own_mask, r"encode gives other numbers for the same images and mask .* a mask of its own"),
    "reversed": (_reversed, r"what encode gives is not in raster order: a change of the patch"),
    "visible first": (_visible_first, r"what predict gives is not in raster order"),
    "all tokens": (
        lambda mae: {"encode": lambda images, mask: mae.stem(images).flatten(2).mT, "encoder_blocks": ()},
        r"hidden patches leak into encode: other pixels there move its output by",
    ),
    "prefix": (
        lambda mae: {"num_prefix": 1},
        r"expected 1 prefix tokens and 8 visible patches \(or all 16\) from encode, got 8 tokens",
    ),
    "no prefix said": (
        lambda mae: {"encode": lambda images, mask: torch.cat([_plain(mae)(images, mask)[:, :1]] * 9, 1)},
        r"got 9 tokens; num_prefix=1 would fit",
    ),
    "tuple": (
        lambda mae: {"encode": lambda images, mask: (_plain(mae)(images, mask), None)},
        r"expected one tensor from encode, prefix tokens first",
    ),
    "values": (
        lambda mae: {"predict": lambda tokens, mask: tokens},
        r"expected predictions \[2, 16, 48\] of every patch, or pictures \[2, 3, 16, 16\] from predict, got",
    ),
    "detached": (
        lambda mae: {"encode": lambda images, mask: _plain(mae)(images, mask).detach(), "encoder_blocks": ()},
        r"encode has no gradients: is torch\.no_grad\(\) or detach\(\) in it",
    ),
    "nan": (
        lambda mae: {"encode": lambda images, mask: _plain(mae)(images, mask) * float("nan")},
        r"expected finite numbers from encode",
    ),
    "raises": (
        lambda mae: {"encode": lambda images, mask: images @ mask.visible},
        r"encode failed on random images: RuntimeError: ",
    ),
    "uncalled blocks": (
        lambda mae: {"encoder_blocks": [layer.self_attn for layer in mae.layers] + [nn.Identity()]},
        r"expected encoder blocks 1 to 3 to be called once each and in this order, got ",
    ),
    "blocks of pixels": (
        lambda mae: {"encoder_blocks": [mae.stem]},
        r"expected tokens \[2, 8, 32\] from encoder block 1, got \[2, 32, 4, 4\]; leave out",
    ),
    "attention": (
        lambda mae: {"attention": lambda block, x: x @ x.mT},
        r"expected maps \[2 h 8 8\] of encoder block 1 from attention, got torch.float32 \[2, 8, 8\]",
    ),
    "attention rows": (
        lambda mae: {"attention": lambda block, x: (x @ x.mT)[:, None]},
        r"expected rows of attention that sum to 1 in encoder block 1, got",
    ),
    "image size": (lambda mae: {"channels": 0}, r"channels: "),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.usefixtures("as_installed")
def test_broken_promises_are_named_in_one_sentence(kind: str) -> None:
    change, sentence = BROKEN[kind]
    with pytest.raises(InputError, match=sentence) as refusal:
        broken(change)()
    assert "\n" not in str(refusal.value)


def test_a_stem_that_overlaps_leaks() -> None:
    module = foreign.ConvStemMAE(overlap=True)
    with pytest.raises(InputError, match=r"^ConvStemMAE: hidden patches leak into encode"):
        foreign.adapt_conv_stem(module)
    model = foreign.adapt_conv_stem(module, strict=False)
    assert model.source is not None
    assert any("leak" in note for note in model.source.notes)


def test_the_module_is_left_as_it_was() -> None:
    module = foreign.official_style().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    foreign.adapt_official(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())


def test_an_adapter_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from tests.lcmae.adapters.foreign import *\ndef make():\n    return adapt_conv_stem(ConvStemMAE())\n"
    )
    assert from_file(f"{file}:make").num_patches == 16
    bad = {
        "make": r"expected an adapter as FILE\.py:FUNCTION",
        f"{tmp_path}/none.py:make": r"expected a Python file with an adapter, got none at",
        f"{file}:other": r"expected a function other in .*, got none",
        f"{file}:ConvStemMAE": r"to return lcmae\.adapt\(\.\.\.\), got ConvStemMAE",
        f"{file}:1": r"expected an adapter as FILE\.py:FUNCTION",
    }
    for name, sentence in bad.items():
        with pytest.raises(InputError, match=sentence):
            from_file(name)
    file.write_text("1 / 0")
    with pytest.raises(InputError, match=r"mine\.py:make: ZeroDivisionError: division by zero"):
        from_file(f"{file}:make")
