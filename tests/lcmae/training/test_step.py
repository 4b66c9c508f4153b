"""The fast path computes what the readable one does: fewer queries, recomputed blocks, recorded
steps, no look at the device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models import vision_transformer
from torch import Tensor, nn
from torch.compiler import config as compiler_config
from torch.utils._python_dispatch import TorchDispatchMode

from lcmae.blocks import Block
from lcmae.config import RunConfig
from lcmae.masking import Random
from lcmae.models import MaskedImageModel, spread, take
from lcmae.training.schedule import Schedule
from lcmae.training.speed import attention_kernel, recompute_blocks
from lcmae.training.step import Draw, GraphedStep, Step, Task, Values
from lcmae.training.train import build_model, make_optimizer, make_step, open_training_data, prepared, update
from tests.conftest import tiny_mae, tiny_simmim
from tests.reference.exact import ExactMAE, ExactSimMIM
from tests.reference.tiny_runs import MODEL, tiny_config

SMALL = {"image_size": (8, 12), "patch_size": 2, "width": 16, "depth": 2, "heads": 2}
SIMMIM = {
    "kind": "simmim",
    **{name: value for name, value in MODEL.items() if name != "kind" and "decoder" not in name},
}
EVERY_OBJECTIVE = [
    {"objective": {"kind": "mae"}},
    {"objective": {"kind": "umae", "feature": "mean"}, "augmentation": {}},
    {"objective": {"kind": "lcmae", "token_contrast": 1.0}, "clip": 0.1},
    {"objective": {"kind": "simmim"}, "model": SIMMIM},
    {"objective": {"kind": "usimmim"}, "model": SIMMIM, "accumulate": 2},
]
NAMES = [case["objective"]["kind"] for case in EVERY_OBJECTIVE]

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def by_hand(compute: Callable[[], Values]) -> tuple[Callable[[], None], Values]:
    """What a CUDA graph does, without one: repeat a computation on fixed memory, into fixed
    places."""
    values: Values = {}

    def replay() -> None:
        for name, value in compute().items():
            values.setdefault(name, torch.empty_like(value)).copy_(value)

    return replay, values


class Trained:
    """So many steps of a config, by one kind of step."""

    def __init__(self, config: RunConfig, kind: type[Step], steps: int, device: str = "cpu", **options: Any) -> None:
        source = open_training_data(config).to(device)
        schedule = Schedule(config, len(source))
        self.model = prepared(build_model(config), config).to(device)
        self.compute = kind(Task(self.model), make_optimizer(self.model, config), config, **options)
        draw, self.values, self.order = Draw(self.model, config), [], []
        for step, batches in schedule.steps(source, after=0):
            self.order.append([indices.tolist() for indices, _ in batches])
            self.values.append(update(draw, self.compute, batches, schedule, step))
            if step == steps:
                break

    def losses(self) -> list[float]:
        return [float(values["loss"]) for values in self.values]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_fewer_queries_are_the_last_of_all(fused: bool, bias: bool, rng: torch.Generator) -> None:
    block = Block(24, 3, qkv_bias=bias, norm_layer=nn.LayerNorm).double()
    block.attn.fused_attn = fused  # pyright: ignore[reportAttributeAccessIssue]
    plain = vision_transformer.Block(24, 3, qkv_bias=bias, norm_layer=nn.LayerNorm).double()
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 7, 24, generator=rng, dtype=torch.float64)
    assert torch.equal(block(x), plain(x)) or not fused
    for num_queries in (1, 4, 7):
        assert block(x, num_queries).shape == (2, num_queries, 24)
        torch.testing.assert_close(block(x, num_queries), plain(x)[:, -num_queries:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("build", [ExactMAE, ExactSimMIM])
@pytest.mark.parametrize("num_masks", [1, 3])
def test_only_hidden_is_every_prediction_at_hidden_patches(build: Any, num_masks: int, rng: torch.Generator) -> None:
    decoder = {"decoder_width": 12, "decoder_depth": 2, "decoder_heads": 3} if build is ExactMAE else {}
    model: MaskedImageModel = build(**SMALL, **decoder).double()
    images = torch.randn(2, 3, 8, 12, generator=rng, dtype=torch.float64)
    mask = Random(ratio=0.6)(2 * num_masks, model.grid, rng)
    every, hidden = model(images, mask).pred, model(images, mask, only_hidden=True).pred
    torch.testing.assert_close(take(hidden, mask.hidden), take(every, mask.hidden), rtol=1e-11, atol=1e-12)
    assert not take(hidden, mask.visible).any()

    # and so are the gradients of any loss on them
    weights = torch.randn(take(hidden, mask.hidden).shape, generator=rng, dtype=torch.float64)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [
        torch.autograd.grad((take(pred, mask.hidden) * weights).sum(), trained, allow_unused=True)
        for pred in (every, hidden)
    ]
    assert any(gradient is not None and gradient.abs().max() > 0.1 for gradient in gradients[0])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_spread_is_the_inverse_of_take(rng: torch.Generator) -> None:
    tokens = torch.randn(3, 5, 2, generator=rng)
    index = torch.rand(3, 8, generator=rng).argsort(1)[:, :5]
    positions = spread(tokens, index, 8)
    assert torch.equal(take(positions, index), tokens)
    assert int((positions != 0).sum()) == tokens.numel()


@pytest.mark.parametrize("build", [tiny_mae, tiny_simmim])
def test_recomputed_blocks_have_the_same_gradients_and_keep_less(build: Any, images: Tensor) -> None:
    model: MaskedImageModel = build(depth=6)
    mask = Random(ratio=0.5)(len(images), model.grid, torch.Generator().manual_seed(1))
    seen = []
    for recompute in (False, True):
        if recompute:
            recompute_blocks(model)
        saved: list[int] = []
        model.zero_grad(set_to_none=True)

        def keep(x: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            pred = model(images, mask, only_hidden=True).pred
        pred.square().sum().backward()
        seen.append(({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, sum(saved)))
    (plain, all_saved), (again, few_saved) = seen
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        assert torch.equal(again[name], gradient), name
    # a block keeps 34 numbers a token and dimension or so, and now one; embeddings and heads are as
    # they were
    assert few_saved < all_saved / 3


def test_code_compiled_for_one_kernel_is_not_stored_as_that_of_another() -> None:
    """torch's cache of compiled code, which processes share, does not ask for the kernel itself."""
    model, tags = tiny_mae(), []
    for kernel in ("auto", "flash", "efficient", "cudnn", "written"):
        with attention_kernel(model, kernel):
            tags.append(compiler_config.cache_key_tag)
    assert len(set(tags)) == 5
    assert compiler_config.cache_key_tag not in tags


@pytest.mark.parametrize("changes", EVERY_OBJECTIVE, ids=NAMES)
def test_a_recorded_step_is_the_plain_one(changes: dict[str, Any]) -> None:
    config = tiny_config(**changes, epochs=10, log_every=1)
    plain, recorded = Trained(config, Step, 30), Trained(config, GraphedStep, 30, record=by_hand)
    assert recorded.order == plain.order
    for mine, theirs in zip(recorded.values, plain.values, strict=True):
        assert list(mine) == list(theirs)
        for name, value in theirs.items():
            # the rate is a float32 on the device, and a float64 as a number
            torch.testing.assert_close(mine[name], value, rtol=2e-5, atol=1e-6, msg=name)
    first = [float(values["loss"]) for values in plain.values[:3]]
    assert [float(values["loss"]) for values in recorded.values[:3]] == first  # plain steps, which count


@pytest.mark.slow
def test_fast_and_readable_losses_agree_over_200_steps() -> None:
    config = tiny_config(epochs=70)
    plain, recorded = Trained(config, Step, 200), Trained(config, GraphedStep, 200, record=by_hand)
    assert recorded.losses() == pytest.approx(plain.losses(), rel=1e-4)
    assert plain.losses()[-1] < 0.5 * plain.losses()[0]


def test_every_shape_is_recorded_once_and_the_optimizer_is_left_as_it_was() -> None:
    config = tiny_config(
        epochs=12, ratio_schedule={"kind": "linear", "start": 0.25, "end": 0.75}, ratio_multiple=4, clip=1.0
    )
    recorded: list[int] = []

    def counting(compute: Callable[[], Values]) -> tuple[Callable[[], None], Values]:
        recorded.append(1)
        return by_hand(compute)

    fast = Trained(config, GraphedStep, 36, record=counting)
    assert len(recorded) == 3  # 4, 8 and 12 visible patches
    assert fast.losses() == pytest.approx(Trained(config, Step, 36).losses(), rel=1e-4)
    for group in fast.compute.optimizer.param_groups:
        assert isinstance(group["lr"], float)
        assert not group["capturable"]


def test_a_cpu_takes_no_notice_of_cuda_graphs() -> None:
    config = tiny_config(cuda_graph=True)
    model = build_model(config)
    assert type(make_step(Task(model), make_optimizer(model, config), config)) is Step


class _Unseen(TorchDispatchMode):
    """Fails where the CPU would have to see what a GPU computed: values, or a shape that depends on
    them."""

    PARTS = (
        "aten._local_scalar_dense",
        "aten.nonzero",
        "aten.masked_select",
        "aten.unique",
        "aten.equal",
        "aten.is_nonzero",
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert not name.startswith(self.PARTS), name
        if name.startswith(("aten.index.Tensor", "aten.index_put")):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), f"{name} by a boolean mask"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("changes", EVERY_OBJECTIVE, ids=NAMES)
def test_nothing_in_a_step_waits_for_the_device(changes: dict[str, Any]) -> None:
    config = tiny_config(**changes)
    source = open_training_data(config)
    schedule, model = Schedule(config, len(source)), prepared(build_model(config), config)
    optimizer = make_optimizer(model, config)
    # AdamW looks at the count of its steps where it is not fused
    compute, draw = Step(Task(model), optimizer, config), Draw(model, config)
    steps = schedule.steps(source, after=0)
    for _ in range(2):
        step, batches = next(steps)
        with _Unseen():
            update(draw, compute, batches, schedule, step)
    with pytest.raises(AssertionError, match="_local_scalar_dense"), _Unseen():
        float(torch.ones(()))


@on_a_gpu
@pytest.mark.parametrize("changes", EVERY_OBJECTIVE, ids=NAMES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cuda_graphs_compute_what_plain_steps_do_and_wait_for_nothing(changes: dict[str, Any], precision: str) -> None:
    config = tiny_config(**changes, epochs=70, precision=precision, cuda_graph=True)
    plain, fast = (Trained(config, kind, 200, device="cuda") for kind in (Step, GraphedStep))
    assert fast.order == plain.order
    assert fast.losses() == pytest.approx(plain.losses(), rel=1e-4 if precision == "float32" else 2**-7)
    source = open_training_data(config).to("cuda")
    schedule, draw = Schedule(config, len(source)), Draw(fast.model, config)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _, (step, batches) in zip(range(6), schedule.steps(source, after=0), strict=False):
            update(draw, fast.compute, batches, schedule, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
