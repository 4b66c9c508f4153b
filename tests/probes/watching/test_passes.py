"""Passes over a batch are made once for all probes: counted in rows that go through the first
encoder block."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from lcmae.masking import Random
from lcmae.models import MAE
from lcmae.probes.base import run_probes
from lcmae.probes.registry import probe_class
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.layers import layers, layers_of, watch_layers
from lcmae.probes.watching.passes import Passes
from lcmae.settings import parse
from tests.reference.work import counted_rows

ONE_MASK = ("reconstruction", "encoder_attention", "decoder_attention", "fidelity", "embedding_consistency")
WHOLE = ("encoder_attention", "spectrum", "fidelity", "frequency", "embedding_consistency")
K_MASKS = ("local_contrast", "spectrum", "invariance")


def encoder_rows(names: tuple[str, ...], model: MAE, images: Tensor, **settings: object) -> int:
    """Rows that these probes send through the model's own encoder, the untrained network's left
    out."""
    usual = {"fidelity": {"ratios": (0.75,)}, "decoder_attention": {"num_masks": 1}}
    probes = [parse(probe_class(name), {**usual.get(name, {}), **settings}) for name in names]
    with counted_rows(model.blocks[0]) as rows:
        results = run_probes(probes, model, images, seed=1)
    assert not results.failures
    return sum(rows)


def test_whole_images_pass_once(mae: MAE, images: Tensor) -> None:
    # whole, and (but for frequency) under one mask that these share, too; spectrum's eight masks
    # are its own
    assert encoder_rows(("frequency",), mae, images) == 5
    assert encoder_rows(("spectrum",), mae, images) == 5 + 5 * 8
    assert encoder_rows(("encoder_attention",), mae, images) == 5 + 5
    assert encoder_rows(WHOLE, mae, images) == 5 + 5 + 5 * 8


def test_images_under_one_mask_pass_once(mae: MAE, images: Tensor) -> None:
    # whole (three of them), under one mask (all), and under the mask that decoder_attention's
    # images have in common
    assert encoder_rows(ONE_MASK[:-1], mae, images) == 5 + 5 + 5
    # the contrast terms of embedding_consistency's points are those of local_contrast's eight masks
    assert encoder_rows(ONE_MASK, mae, images) == 5 + 5 + 5 + 5 * 8
    assert encoder_rows((*ONE_MASK, "local_contrast"), mae, images) == 5 + 5 + 5 + 5 * 8


def test_images_under_the_same_masks_pass_once(mae: MAE, images: Tensor) -> None:
    assert encoder_rows(K_MASKS, mae, images) == 5 + 5 * 8
    assert encoder_rows(K_MASKS, mae, images, num_masks=3) == 5 + 5 * 3


def test_the_untrained_network_s_passes_are_shared_too(
    mae: MAE, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[MAE] = []
    build = type(mae.config).build
    monkeypatch.setattr(type(mae.config), "build", lambda config: built.append(build(config)) or built[-1])
    rows: list[int] = []

    @contextmanager
    def counting() -> Iterator[None]:
        hook = torch.nn.modules.module.register_module_forward_hook(
            lambda module, args, output: rows.append(len(args[0])) if built and module is built[0].blocks[0] else None
        )
        try:
            yield
        finally:
            hook.remove()

    with counting():
        results = run_probes([probe_class(name)() for name in ("frequency", "fidelity")], mae, images, seed=1)
    assert not results.failures
    assert len(built) == 1
    # whole once for both, and under each of fidelity's ratios
    assert sum(rows) == 5 + 5 * 4


def test_layers_of_the_shared_pass_are_those_of_one_of_their_own(mae: MAE, images: Tensor) -> None:
    batch = Batch(mae.eval(), images, 0, 0)
    watch_layers(batch)
    with counted_rows(mae) as rows:
        out, shared = batch.unmasked(), layers_of(batch)
    assert rows == [5]
    alone = layers(mae, images)
    torch.testing.assert_close(shared.feature("mean"), out.feature("mean"))
    for name in ("embedding", "prefix", "tokens"):
        torch.testing.assert_close(getattr(shared, name), getattr(alone, name), rtol=0, atol=0)
    for mine, other in ((shared.encoder, alone.encoder), (shared.decoder, alone.decoder)):
        assert len(mine) == len(other) > 0
        for first, second in zip(mine, other, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_watcher_that_comes_late_costs_a_pass_and_sees_the_same(mae: MAE, images: Tensor) -> None:
    batch = Batch(mae.eval(), images, 0, 0)
    with counted_rows(mae) as rows:
        first = batch.unmasked()
        late = layers_of(batch)
        assert layers_of(batch) is late
        again = batch.unmasked()
    assert rows == [5, 5]
    torch.testing.assert_close(first.tokens, again.tokens, rtol=0, atol=0)


def test_watchers_are_entered_once_and_left() -> None:
    passes, log = Passes(), []

    @contextmanager
    def watcher() -> Iterator[str]:
        log.append("in")
        yield "seen"
        log.append("out")

    passes.watch("view", "key", watcher)
    passes.watch("view", "key", watcher)
    assert passes.output("view", lambda: log.append("pass") or 1) == 1
    assert passes.output("view", lambda: log.append("pass") or 2) == 1
    assert log == ["in", "pass", "out"]
    assert passes.seen("view", "key") == "seen"
    passes.watch("view", "key", watcher)
    assert passes.output("view", lambda: log.append("pass") or 3) == 1


def test_masks_are_drawn_once_a_batch(mae: MAE, images: Tensor) -> None:
    batch = Batch(mae, images, 0, 0)
    assert batch.masks(Random(), 2) is batch.masks(Random(), 2)
    assert batch.masks(Random(), 2) is not batch.masks(Random(), 3)
