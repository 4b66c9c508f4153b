"""Graphs of bounded size: how many rows fit into one is told from the model's shape, and changes no
number."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.work_done import cost_of
from lcmae.masking import Mask, Random
from lcmae.models import MAE, MaskedImageModel, SimMIM
from lcmae.probes.base import run_probes
from lcmae.probes.receptive_field import ReceptiveField
from lcmae.probes.results.networks import trained
from lcmae.probes.watching import gradients, microscope
from lcmae.probes.watching.gradients import Traced, rows_at_once

DECODER = {"decoder_width": 32, "decoder_depth": 2, "decoder_heads": 2}
MODELS = {
    "mae": lambda: MAE(image_size=32, patch_size=4, width=48, depth=4, heads=3, **DECODER),
    "wide blocks": lambda: MAE(image_size=32, patch_size=4, width=48, depth=3, heads=3, mlp_ratio=8, **DECODER),
    "simmim": lambda: SimMIM(image_size=32, patch_size=4, width=64, depth=6, heads=4),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_estimate_is_near_what_a_graph_keeps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[name]().eval().requires_grad_(False)
    rows = 16
    whole = Mask.none(rows, model.num_patches)
    held = held_by(model, lambda: Traced(model, torch.randn(rows, 3, 32, 32), whole, to_prediction=True))
    monkeypatch.setattr(gradients, "GRAPH_BYTES", held)
    assert rows / 1.25 <= rows_at_once(model) <= rows * 1.25


def held_by(model: MaskedImageModel, make: Callable[[], object]) -> int:
    """Bytes that the graph keeps which `make` builds, without the model's own weights."""
    saved = {tensor.untyped_storage().data_ptr(): 0 for tensor in [*model.parameters(), *model.buffers()]}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved.setdefault(storage.data_ptr(), storage.nbytes())
        # not the tensor itself, which knows the graph that keeps it: a circle that Python never
        # sees, let alone frees
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        result = make()
    assert result is not None  # it lives until here, so no storage was used twice
    return sum(saved.values())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ratio", [None, 0.75])
def test_a_cached_forward_knows_about_what_it_takes(name: str, ratio: float | None) -> None:
    model = MODELS[name]().eval().requires_grad_(False)
    batch = microscope.batch_of(model, torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 0, 0)
    mask = None if ratio is None else microscope.mask_of(batch, Random(ratio=ratio))
    passes: list[microscope.CachedForward] = []
    held = held_by(model, lambda: passes.append(microscope.forward(batch, mask)) or passes)
    assert held / 1.4 <= passes[0].num_bytes <= held * 1.4


def test_a_graph_goes_with_whoever_kept_it() -> None:
    model = MODELS["mae"]().eval().requires_grad_(False)
    passes = Traced(model, torch.randn(2, 3, 32, 32), Mask.none(2, model.num_patches), to_prediction=True)
    passes.of_prediction(lambda pred: pred[:, 0].sum(1))
    passes.of_token(1, lambda tokens: tokens[:, 0].sum(1))
    parts = [weakref.ref(tensor) for tensor in (passes.leaf, passes.prediction, *passes.tokens.values())]
    assert len(parts) == 2 + 4
    gc.disable()  # by counting references alone: garbage collections do not see circles through autograd
    try:
        del passes
        assert [part() for part in parts] == [None] * 6
    finally:
        gc.enable()


def test_a_model_too_large_for_one_row_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "GRAPH_BYTES", 1)
    assert rows_at_once(MODELS["mae"]()) == 1


@pytest.mark.parametrize("backend", ["autograd", "captum"])
def test_small_graphs_give_the_same_fields_and_hold_less(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["mae"]().eval().requires_grad_(False)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    probe = ReceptiveField.model_validate({"ratios": (0.5,), "backend": backend, "baseline_images": 0})
    found, peaks = [], []
    for size in (2**29, 1):
        monkeypatch.setattr(gradients, "GRAPH_BYTES", size)
        results = []
        cost = cost_of(lambda results=results: results.append(run_probes([probe], model, images, 0)), model)
        assert not results[0].failures
        found.append(trained(results[0].datasets[probe.name]))
        peaks.append(cost.peak_bytes)
    for variable in ("field", "image_radius", "depth_field", "depth_radius"):
        values, others = (torch.from_numpy(one[variable].values) for one in found)
        assert torch.allclose(
            values, others, rtol=1e-4, atol=1e-6 * float(values.nan_to_num().abs().max()), equal_nan=True
        )
    assert peaks[1] < peaks[0] / 3
