"""`lcmae.Watch` in the trainers of Lightning and Hugging Face: the real libraries train to the same
bits with and without it, on the steps of their optimiser."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import lcmae
from lcmae.app.dashboard.stored import reading
from lcmae.masking import Mask
from lcmae.models import MAE
from lcmae.patches import patchify
from tests.probes.jobs.test_watch import PIXELS, own

BATCHES = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def loss_of(model: Any, images: Tensor) -> Tensor:
    """With masks from torch's global generator, as somebody else's training draws them."""
    hidden = torch.rand(len(images), 16).argsort(1) < 8
    return (model(images, Mask.from_hidden(hidden, 8)).pred - patchify(images, 2)).square().mean()


def weights(model: nn.Module) -> list[Tensor]:
    return [one.detach().clone() for one in model.parameters()]


def assert_same(one: list[Tensor], other: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's own advice: workers, loggers, deprecations
def test_lightning(tmp_path: Path) -> None:
    library = pytest.importorskip("pytorch_lightning")

    class Task(library.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = own()

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return loss_of(self.net, batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def train(*callbacks: Any) -> list[Tensor]:
        task = Task().train()
        torch.manual_seed(1)
        trainer = library.Trainer(
            max_steps=4, accumulate_grad_batches=2, accelerator="cpu", callbacks=list(callbacks), logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(task, torch.utils.data.DataLoader(cast(Any, [*BATCHES]), batch_size=2, shuffle=True))
        return weights(task)

    expected = train()
    callback = lcmae.Watch.lightning(PIXELS, "spectrum", adapt=lambda module: module.net, every=2, out=tmp_path / "run")
    assert_same(expected, train(callback))
    # accumulation: two batches are one step
    assert reading.result_steps(tmp_path / "run", "spectrum") == [0, 2, 4]
    assert callback.watcher.watch.num_measured == 3
    assert reading.writer_of(tmp_path / "run") is None


class Wrapped(nn.Module):
    """As Hugging Face's trainer wants it: a dict with a loss."""

    def __init__(self, net: MAE) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"loss": loss_of(self.net, pixel_values)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the library's own deprecations
def test_hugging_face(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    def train(*callbacks: Any) -> list[Tensor]:
        model: Any = Wrapped(own()).train()  # pyright: ignore[reportArgumentType]
        arguments = library.TrainingArguments(
            output_dir=str(tmp_path / "hf"), max_steps=4, per_device_train_batch_size=2, use_cpu=True, report_to=[],
            save_strategy="no", disable_tqdm=True, learning_rate=1e-2, logging_strategy="no", seed=1,
        )  # fmt: skip
        items = [{"pixel_values": image} for image in BATCHES]
        library.Trainer(model, arguments, train_dataset=items, callbacks=list(callbacks)).train()
        return weights(model)

    expected = train()
    callback = lcmae.Watch.hugging_face(
        PIXELS, "spectrum", adapt=lambda module: module.net, every=2, out=tmp_path / "run"
    )
    assert_same(expected, train(callback))
    assert reading.result_steps(tmp_path / "run", "spectrum") == [0, 2, 4]
    assert reading.writer_of(tmp_path / "run") is None
