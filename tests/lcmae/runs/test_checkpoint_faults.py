"""Torn and altered checkpoints: what is torn is named and not listed, what is listed is whole."""

import os
import shutil
from typing import Any

import pytest
import torch

from lcmae.errors import CheckpointError, InputError
from lcmae.runs.checkpoint import read_manifest, sealed
from lcmae.runs.run import Run
from tests.reference.run_folders import FILES, flip, one_line, publish


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_refused_and_the_step_before_is_taken(run: Run, name: str, where: float) -> None:
    publish(run, 1)
    path = publish(run, 2)
    flip(path / name, round(where * ((path / name).stat().st_size - 1)))
    with pytest.raises(CheckpointError) as error:
        run.checkpoint(2)
    assert name in one_line(error)
    messages: list[str] = []
    assert run.newest(report=messages.append).step == 1
    assert len(messages) == 1
    assert "step 2" in messages[0]
    assert name in messages[0]


@pytest.mark.slow
def test_no_bit_of_a_manifest_can_flip(run: Run) -> None:
    path = publish(run, 1)
    manifest = path / "manifest.json"
    whole = manifest.read_bytes()
    for byte in range(len(whole)):
        for bit in range(8):
            altered = bytearray(whole)
            altered[byte] ^= 1 << bit
            manifest.write_bytes(altered)
            with pytest.raises(CheckpointError):
                read_manifest(path)
    manifest.write_bytes(whole)
    assert read_manifest(path)["step"] == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["missing", "empty", "cut", "longer", "fifo", "folder"])
def test_torn_files_unlist_the_step(run: Run, name: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    publish(run, 1)
    path = publish(run, 2) / name
    data = path.read_bytes()
    path.unlink()
    match fault:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "empty" | "cut" | "longer":
            path.write_bytes({"empty": b"", "cut": data[:-1], "longer": data + b"\0"}[fault])
    assert run.steps() == [1]
    assert run.newest().step == 1
    assert "skipped step 2" in caplog.text  # without a `report` it goes to the log
    with pytest.raises(CheckpointError) as error:
        run.checkpoint(2)
    assert name in one_line(error)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"step": 8},
        {"step": "1"},
        {"config": None},
        {"files": {}},
        {"files": {"model.safetensors": None}},
        {"files": {"model.safetensors": {"bytes": "1", "sha256": ""}}},
        {"files": {"model.safetensors": {"bytes": 1, "sha256": ""}, "../000002/resume.pt": {"bytes": 1, "sha256": ""}}},
    ],
)
def test_a_sealed_manifest_of_another_make_is_refused(run: Run, change: dict[str, Any]) -> None:
    path = publish(run, 1)
    manifest = read_manifest(path)
    (path / "manifest.json").write_bytes(sealed(manifest | change))
    with pytest.raises(CheckpointError) as error:
        read_manifest(path)
    assert "expected" in one_line(error)


def test_a_step_under_another_name_is_refused(run: Run) -> None:
    shutil.copytree(publish(run, 1), run.path / "checkpoints" / "000009")
    assert run.steps() == [1]


def test_no_checkpoint_is_an_input_error(run: Run) -> None:
    with pytest.raises(InputError, match="got none"):
        run.newest()
    with pytest.raises(CheckpointError, match="step 4"):
        run.checkpoint(4)
    flip(publish(run, 1) / "resume.pt", 9)
    with pytest.raises(InputError, match="1 that are damaged"):
        run.newest(report=lambda line: None)


def test_a_file_that_changes_after_the_check_is_caught(run: Run) -> None:
    path = publish(run, 1)
    checkpoint = run.checkpoint(1)
    assert torch.equal(checkpoint.tensors()["bias"], torch.ones(5))
    publish(run, 1, value=2.0)
    for read in (checkpoint.tensors, checkpoint.resume_state):
        with pytest.raises(CheckpointError, match="altered or replaced"):
            read()
    shutil.rmtree(path)
    for read in (checkpoint.tensors, checkpoint.resume_state):
        with pytest.raises(CheckpointError, match="No such file"):
            read()


def test_tensors_outlive_their_file(run: Run) -> None:
    path = publish(run, 1)
    tensors = run.checkpoint(1).tensors()
    os.truncate(path / "model.safetensors", 0)  # a mapped file would now end the process
    assert torch.equal(tensors["weight"], torch.ones(3, 5))
