"""A step published again under the eyes of readers, and a disk that refuses."""

import contextlib
import os
import shutil
import sys
import threading
from typing import Any

import pytest
import torch

import lcmae.runs.durable
import lcmae.runs.publish
from lcmae.errors import CheckpointError, InputError
from lcmae.runs.run import Run, find_runs, write_atomically
from tests.reference.run_folders import flip, full_disk, hidden, one_line, publish


def test_equal_contents_keep_what_is_published(run: Run) -> None:
    path = publish(run, 1)
    inode = path.stat().st_ino
    assert publish(run, 1) == path
    assert path.stat().st_ino == inode
    flip(path / "resume.pt", 100)
    publish(run, 1)  # what is torn is replaced, whatever its manifest says
    assert run.checkpoint(1).resume_state()["value"] == 1.0
    assert hidden(path.parent) == []


@pytest.mark.parametrize("can_exchange", [True, False])
def test_other_contents_take_the_place(run: Run, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    if not can_exchange:
        monkeypatch.setattr(lcmae.runs.publish, "exchange", lambda one, other: False)
    for value in (1.0, 2.0, 3.0):
        path = publish(run, 1, value=value)
        assert run.checkpoint(1).tensors()["bias"][0] == value
        assert hidden(path.parent) == []


def test_the_name_is_never_missing_while_it_changes_hands(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = publish(run, 1)
    if not lcmae.runs.durable.exchange(path, publish(run, 2)):
        pytest.skip("this file system cannot exchange two names")
    shutil.rmtree(run.path / "checkpoints" / "000002")
    publish(run, 1)
    seen: list[bool] = []

    def watched(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event.startswith(("os.rename", "shutil.rmtree", "os.rmdir", "os.remove")):
            seen.append(path.is_dir() and (path / "manifest.json").is_file())

    watching = True
    sys.addaudithook(watched)
    publish(run, 1, value=2.0)
    watching = False
    assert len(seen) > 3
    assert all(seen)


def test_readers_see_whole_steps_while_a_writer_publishes_and_replaces(run: Run) -> None:
    publish(run, 0)
    done = threading.Event()

    def write() -> None:
        try:
            for value in range(1, 41):
                publish(run, value // 2, value=float(value))
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    messages: list[str] = []
    num_read = 0
    try:
        while not done.is_set():
            checkpoint = run.newest(report=messages.append)
            with contextlib.suppress(CheckpointError):  # replaced since: an honest answer, a mixture would not be
                tensors = checkpoint.tensors()
                assert all((tensor == checkpoint.config["value"]).all() for tensor in tensors.values())
                num_read += 1
    finally:
        writer.join()
    assert messages == []
    assert num_read > 0
    assert run.steps() == list(range(21))


@pytest.mark.parametrize("num_bytes", [0, 50, 1_500, 20_500, 41_500])
def test_a_full_disk_costs_only_the_new_step(run: Run, num_bytes: int) -> None:
    publish(run, 1)
    tensors = {"w": torch.ones(5_000)}
    with full_disk(num_bytes), pytest.raises(CheckpointError) as error:
        run.publish(2, tensors, config={}, resume={"optimizer": [torch.ones(10_000)] * 2, "more": torch.ones(12_000)})
    assert "File too large" in one_line(error)
    assert "step 2" in one_line(error)
    assert os.listdir(run.path / "checkpoints") == ["000001"]
    assert run.newest().resume_state()["step"] == 1
    run.publish(2, tensors, config={}, resume=None)
    assert run.newest().step == 2


def test_a_full_disk_keeps_the_old_file_and_the_old_lines(run: Run) -> None:
    write_atomically(run.path / "probes" / "000001" / "x.nc", b"old")
    run.log_metrics({"step": 1})
    with full_disk(20):
        with pytest.raises(InputError, match="File too large"):
            write_atomically(run.path / "probes" / "000001" / "x.nc", b"n" * 100)
        with pytest.raises(InputError, match="metrics"):
            run.log_metrics({"step": 2, "loss": 0.25})
        with pytest.raises(InputError, match="File too large"):
            Run.create(run.path.parent / "second", {"long": "x" * 100})
    assert (run.path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n'
    assert (run.path / "probes" / "000001" / "x.nc").read_bytes() == b"old"
    assert os.listdir(run.path / "probes" / "000001") == ["x.nc"]
    run.log_metrics({"step": 3})
    assert run.metrics() == [{"step": 1}, {"step": 3}]
    assert find_runs(run.path.parent) == [run.path]
    assert os.listdir(run.path.parent) == ["first"]


def test_a_file_in_the_place_of_a_step_is_an_error_and_stays(run: Run) -> None:
    (run.path / "checkpoints" / "000001").write_text("mine")
    with pytest.raises(CheckpointError) as error:
        publish(run, 1)
    assert "Not a directory" in one_line(error)
    assert os.listdir(run.path / "checkpoints") == ["000001"]


def test_a_run_deleted_under_its_writer_is_not_half_made_again(run: Run) -> None:
    shutil.rmtree(run.path)
    with pytest.raises(CheckpointError, match="the run folder is gone"):
        publish(run, 1)
    with pytest.raises(InputError, match="No such file"):
        run.log_metrics({"step": 1})
    assert not run.path.exists()
