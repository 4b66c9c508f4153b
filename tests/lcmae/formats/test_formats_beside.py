"""What lies beside a model in its own state dict: left aside and named where it is nobody's part;
refused, where it may be a part."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats import inspect, load
from tests.reference import foreign
from tests.reference.checkpoint_files import HEADS, save
from tests.reference.layouts import LAYOUTS

BESIDE: dict[str, dict[str, Tensor]] = {
    "projector with batch norm": {
        "projector.0.weight": torch.zeros(8, 32),
        "projector.1.running_mean": torch.zeros(8),
        "projector.1.num_batches_tracked": torch.tensor(5),
    },
    "indices": {"patch_ids": torch.arange(16)},
    "mask": {"keep": torch.ones(16, dtype=torch.bool)},
    "counter": {"epoch": torch.tensor(7)},
    "temperature": {"temperature": torch.tensor(0.1)},
    "criterion": {"criterion.weight": torch.ones(3)},
    "loss with a part's name": {"patch_loss.net.weight": torch.ones(3, 3)},
    "pixels": {"pixel_mean": torch.zeros(3, 1, 1), "normalizer.std": torch.ones(3)},
    "queue": {"queue": torch.zeros(32, 4096), "queue_ptr": torch.zeros(1, dtype=torch.int64)},
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("layout", ["official", "huggingface", "timm"])
def test_what_is_no_part_of_the_model_is_left_aside_and_named(layout: str, beside: str, tmp_path: Path):
    state, said = LAYOUTS[layout].make(), LAYOUTS[layout].said
    alone = load(save(tmp_path / "a.pth", {"model": state}), **said)
    path = save(tmp_path / "b.pth", {"model": {**BESIDE[beside], **state}})
    model, found = load(path, **said), inspect(path, **said)
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.source == found.source
    notes = [note for note in found.source.notes if "left aside (not part of the model)" in note]
    assert len(notes) == 1
    assert all(name in notes[0] for name in sorted(BESIDE[beside])[:2])


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_in_every_layout(layout: str, tmp_path: Path):
    state, said = LAYOUTS[layout].make(), LAYOUTS[layout].said
    beside = {name: value for tensors in BESIDE.values() for name, value in tensors.items()}
    alone = load(save(tmp_path / "a.pth", {"model": state}), **said).state_dict()
    model = load(save(tmp_path / "b.pth", {"model": state | beside}), **said)
    assert all(torch.equal(value, alone[name]) for name, value in model.state_dict().items())
    assert model.source is not None
    assert any("left aside" in note for note in model.source.notes)


def test_another_model_beside_one_without_prefix(tmp_path: Path, plain: foreign.State):
    encoder = {f"ema_encoder.{name}": value + 1 for name, value in plain.items() if "decoder" not in name}
    model = load(save(tmp_path / "a.pth", {"model": {**plain, **encoder}}), **HEADS)
    assert torch.equal(model.state_dict()["norm.weight"], plain["norm.weight"])


@pytest.mark.parametrize(
    ("name", "tensor", "complaint"),
    [
        ("pos_embed", torch.arange(17 * 16).reshape(1, 17, 16), "floating-point weights .*int64 in pos_embed"),
        ("blocks.0.extra", torch.zeros(1), "1 unexpected: blocks.0.extra"),
        ("blocks.0.index", torch.arange(3), "1 unexpected: blocks.0.index"),
        ("nrom_pre.weight", torch.ones(16), "1 unexpected: nrom_pre.weight"),
        ("decoder_extra.weight", torch.ones(3), "1 unexpected: decoder_extra.weight"),
        ("level_embed", torch.zeros(4, 5), "1 unexpected: level_embed"),
        ("gate", torch.zeros(16), r"1 unexpected: gate \(save without what is no part of the model\)"),
    ],
)
def test_what_may_be_a_part_is_refused(name: str, tensor: Tensor, complaint: str, tmp_path: Path, plain: foreign.State):
    with pytest.raises(CheckpointError, match=complaint):
        load(save(tmp_path / "a.pth", {"model": {**plain, name: tensor}}), **HEADS)


@pytest.mark.parametrize(
    ("name", "misspelled"),
    [
        ("norm.", "nrom."),
        ("decoder_norm.", "out."),
        ("decoder_embed.", "decodr_embed."),
        ("decoder_pred.", "prediction."),
        ("decoder_pos_embed", "table"),
        ("mask_token", "maskk"),
    ],
)
def test_a_misspelled_part_is_not_left_aside(name: str, misspelled: str, tmp_path: Path, plain: foreign.State):
    state = {
        misspelled + key.removeprefix(name) if key.startswith(name) else key: value for key, value in plain.items()
    }
    # without these two it is half a decoder beside an encoder
    said: dict[str, Any] = {"heads": foreign.HEADS} if name in ("decoder_embed.", "decoder_pred.") else HEADS
    with pytest.raises(CheckpointError, match=r"missing|unexpected"):
        load(save(tmp_path / "a.pth", {"model": state}), **said)
