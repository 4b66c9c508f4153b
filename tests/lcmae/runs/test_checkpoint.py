"""Publishing a step and reading it back: bit for bit, with what made it."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lcmae.runs.durable
import lcmae.runs.publish
from lcmae.errors import CheckpointError, InputError
from lcmae.runs.run import Run
from tests.reference.run_folders import CONFIG, FILES, one_line, publish

DTYPES = "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8 uint16 uint32 uint64"


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


@pytest.mark.parametrize("dtype", [*DTYPES.split(), "bool", "complex64"])
def test_every_dtype_comes_back_bit_for_bit(run: Run, rng: torch.Generator, dtype: str) -> None:
    kind = getattr(torch, dtype)
    raw = torch.randint(0, 2 if dtype == "bool" else 256, (6, 4, 8), generator=rng, dtype=torch.uint8)
    there = {"raw": raw.view(kind), "scalar": raw.view(kind)[0, 0, 0], "empty": raw.view(kind)[:0]}
    run.publish(1, there, config={}, resume={"tensor": there["raw"]})
    back = run.checkpoint(1)
    for name, tensor in back.tensors().items():
        assert (tensor.dtype, tensor.shape) == (kind, there[name].shape)
        assert torch.equal(bits(tensor), bits(there[name]))
    assert set(back.tensors()) == set(there)
    assert torch.equal(bits(back.resume_state()["tensor"]), bits(there["raw"]))


def test_views_shared_and_conjugate_tensors_come_back_as_they_looked(run: Run, rng: torch.Generator) -> None:
    base = torch.randn(6, 4, generator=rng)
    complex_base = torch.randn(3, generator=rng, dtype=torch.complex64)
    there = {
        "tied": base,
        "also tied": base,
        "transposed": base.T,
        "column": base[:, 1],
        "part": base[2:4],
        "expanded": base[:1].expand(5, 4),
        "conjugate": complex_base.conj(),
        "parameter": torch.nn.Parameter(base),
    }
    run.publish(1, there, config={}, resume=None)
    back = run.checkpoint(1).tensors()
    assert set(back) == set(there)
    for name, tensor in there.items():
        assert torch.equal(back[name], tensor)
    assert base.untyped_storage().data_ptr() == there["tied"].untyped_storage().data_ptr()


def test_a_checkpoint_says_what_it_is(run: Run) -> None:
    path = publish(run, 12, value=2.0)
    checkpoint = run.newest()
    assert (checkpoint.step, checkpoint.path) == (12, path)
    assert checkpoint.config == CONFIG | {"value": 2.0}
    assert checkpoint.resume_state() == {"step": 12, "value": 2.0}
    manifest = checkpoint.manifest
    assert manifest["files"]["model.safetensors"]["sha256"] == checkpoint.sha256
    assert manifest["versions"]["torch"] == torch.__version__
    assert set(manifest["versions"]) == {"python", "torch", "timm", "safetensors", "lcmae"}
    assert sorted(os.listdir(path)) == sorted(FILES)


def test_git_revision_is_that_of_this_checkout() -> None:
    here = Path(__file__).parents[3]
    head = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode or not (here / ".git").exists():
        pytest.skip("not a git checkout")
    assert (lcmae.runs.publish.git_revision() or "").removesuffix("-dirty") == head.stdout.strip()


def test_files_are_readable_as_the_umask_says(run: Run) -> None:
    before = os.umask(0o027)
    try:
        path = publish(run, 1)
    finally:
        os.umask(before)
    assert {(path / name).stat().st_mode & 0o777 for name in FILES} == {0o640}
    assert path.stat().st_mode & 0o777 == 0o750


def test_steps_are_in_order_of_number(run: Run) -> None:
    for step in (1_000_000, 7, 999_999, 0):
        publish(run, step)
    (run.path / "checkpoints" / "0000008").mkdir()
    (run.path / "checkpoints" / "latest").symlink_to("000007")
    assert run.steps() == [0, 7, 999_999, 1_000_000]
    assert run.newest().step == 1_000_000
    with pytest.raises(InputError, match="step of 0 or more, got -1"):
        publish(run, -1)


def test_a_step_without_resume_state_says_so(run: Run) -> None:
    run.publish(1, {"w": torch.ones(2)}, config={}, resume=None)
    assert torch.equal(run.newest().tensors()["w"], torch.ones(2))
    with pytest.raises(CheckpointError, match=r"resume\.pt"):
        run.newest().resume_state()


def test_a_resume_state_that_would_not_read_back_is_refused_at_once(run: Run) -> None:
    with pytest.raises(CheckpointError) as error:
        run.publish(1, {"w": torch.ones(2)}, config={}, resume={"path": Path("x")})
    assert "PosixPath" in one_line(error)
    assert os.listdir(run.path / "checkpoints") == []
