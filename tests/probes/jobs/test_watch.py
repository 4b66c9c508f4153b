"""`lcmae.Watch`: what is trained is the same to the last bit with and without it, in a plain loop,
in Lightning's and in Hugging Face's; results lie in a run folder that the dashboard reads."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lcmae
from lcmae.app.dashboard.stored import reading
from lcmae.errors import InputError
from lcmae.masking import Mask
from lcmae.models import MaskedImageModel, spread, take
from lcmae.patches import patchify
from lcmae.probes.jobs.watch import Watch, metric_name
from lcmae.probes.spectrum import Spectrum
from lcmae.training.train import build_model
from tests.reference.tiny_runs import tiny_config

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
PROBES = ["reconstruction", "spectrum"]


class Foreign(nn.Module):
    """A masked autoencoder of somebody else's, with dropout, which draws in training mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.positions = nn.Linear(4, 8), nn.Parameter(torch.randn(1, 16, 8) * 0.02)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(0.5))
        self.hidden, self.head = nn.Parameter(torch.zeros(1, 1, 8)), nn.Linear(8, 4)
        self.positions.requires_grad_(False)

    def encode(self, images: Tensor, mask: Mask) -> Tensor:
        x = take(self.embed(patchify(images, 2)) + self.positions, mask.visible)
        # patches meet, so that a prediction depends on what is visible
        return x + self.block(x.mean(1, keepdim=True) + x)

    def predict(self, tokens: Tensor, mask: Mask) -> Tensor:
        whole = spread(tokens, mask.visible, 16) + self.hidden * mask.is_hidden[..., None]
        return self.head(whole + self.positions + tokens.mean(1, keepdim=True))

    def forward(self, images: Tensor, mask: Mask) -> Tensor:
        return self.predict(self.encode(images, mask), mask)


def adapt(module: Any) -> MaskedImageModel:
    return lcmae.adapt(
        module, image_size=8, patch_size=2, channels=1, encode=module.encode, predict=module.predict,
        encoder_blocks=[module.block],
    )  # fmt: skip


def train(module: nn.Module, watch: Callable[[int], Any] = lambda step: None, steps: int = 4) -> list[Tensor]:
    """A loop that draws from every generator there is."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - a loop of somebody else's
    optimizer = torch.optim.AdamW([one for one in module.parameters() if one.requires_grad], lr=1e-2)
    module.train()
    for step in range(steps):
        images = torch.randn(3, 1, 8, 8) + random.random() + float(np.random.rand())  # noqa: NPY002
        mask = Mask.from_hidden(torch.rand(3, 16).argsort(1) < 8, 8)
        found = module(images, mask)
        target = patchify(images, 2)
        loss = ((found.pred if hasattr(found, "pred") else found) - target).square().mean()
        loss.backward()
        watch(step)  # between backward and step, where gradients are at stake
        optimizer.step()
        optimizer.zero_grad()
    return [one.detach().clone() for one in (*module.parameters(), *module.buffers())] + [torch.rand(3)]


def own() -> nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_config())


def foreign() -> nn.Module:
    torch.manual_seed(0)
    return Foreign()


@pytest.mark.parametrize(("build", "how"), [(own, None), (foreign, adapt)])
def test_weights_are_the_same_bit_for_bit(build: Any, how: Any, tmp_path: Path) -> None:
    expected = train(build())
    module = build()
    module.train()
    torch.manual_seed(7)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    requires = [one.requires_grad for one in module.parameters()]
    with Watch(module, PIXELS, PROBES, every=2, out=tmp_path / "run", adapt=how) as watch:
        assert torch.equal(torch.rand(3), drawn)
        assert all(part.training for part in module.modules())
        found = train(module, watch)
        assert all(part.training for part in module.modules())
    assert [one.requires_grad for one in module.parameters()] == requires
    assert watch.num_measured == 2
    assert not watch.failures
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_run_is_what_the_dashboard_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, seen = own(), []
    path = tmp_path / "mine"
    watch = Watch(
        module,
        PIXELS,
        {"spectrum": {}},
        every=2,
        out=path,
        loggers=(lambda step, metrics: seen.append((step, metrics)),),
    )
    assert reading.state_of(path) == "running"
    train(module, watch)
    assert reading.result_steps(path, "spectrum") == [0, 2]
    assert reading.steps_of(path) == [0, 2]
    assert reading.overview("mine", path)["results"] == "spectrum"
    first, second = (reading.result_of(path, step, "spectrum") for step in (0, 2))
    assert first.attrs["checkpoint_sha256"] != second.attrs["checkpoint_sha256"]
    # a published step is the model that was measured: probed again it gives the same numbers
    images = lcmae.images(PIXELS, limit=256)
    again = lcmae.probe(path / "checkpoints" / "000002", images, ["spectrum"])["spectrum"]
    assert np.allclose(again["effective_rank"], second["effective_rank"], rtol=1e-6, equal_nan=True)
    lines = reading.metrics_of(path)
    assert [line["step"] for line in lines] == [0, 2] == [step for step, _ in seen]
    assert {name: value for name, value in lines[-1].items() if name != "step"}.keys() == seen[-1][1].keys()
    assert lines[-1]["watch/seconds"] > 0
    assert 0 < watch.share <= 1
    capsys.readouterr()
    watch.close()
    watch.close()
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("lcmae.Watch: 2 measurements of spectrum: ")
    assert "% of the loop" in said
    with pytest.raises(InputError, match="one that is closed"):
        watch(4)


def test_a_watch_continues_its_own_run_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for steps in ((0, 2, 4), (2, 6)):  # the second training resumes from step 2
        with Watch(own(), PIXELS, "spectrum", every=2, out=path) as watch:
            for step in steps:
                watch(step)
    assert [line["step"] for line in reading.metrics_of(path)] == [0, 2, 6]
    with pytest.raises(InputError, match="got another run"):
        Watch(own(), PIXELS, "spectrum", every=3, out=path)


def test_what_fails_is_named_and_training_goes_on(tmp_path: Path) -> None:
    module = own()
    with Watch(module, PIXELS, "spectrum", every=1, out=tmp_path / "run") as watch:
        assert watch(0)
        with torch.no_grad():
            next(module.parameters()).fill_(float("nan"))
        assert watch(1) is None
    assert list(watch.failures) == [1]
    assert "expected finite weights" in watch.failures[1]
    assert "1 not whole" in repr(watch)


def test_what_can_be_known_is_known_before_training(tmp_path: Path) -> None:
    for words, model, keywords in (
        ("expected every of at least 1", own(), {"every": 0}),
        ("adapt= says how", Foreign(), {}),
        ("got Linear from adapt", Foreign(), {"adapt": lambda module: module.head}),
        ("expected probes? out of|expected a probe", own(), {"probes": "spektrum"}),
        ("expected images", own(), {"images": 3}),
    ):
        given = {"images": PIXELS, "probes": [Spectrum()], **keywords}
        with pytest.raises(InputError, match=words):
            Watch(model, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_names_that_every_tracker_takes() -> None:
    assert metric_name("local_contrast", "term[invariance]") == "local_contrast/term/invariance"
    assert metric_name("transfer", "accuracy[cls, k nearest (20)]") == "transfer/accuracy/cls/k_nearest_20_"
