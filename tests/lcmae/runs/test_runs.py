"""A run folder under every fault that a test can stage: what is listed is whole, what is torn is
named."""

import contextlib
import errno
import json
import logging
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

import lcmae.runs.durable
import lcmae.runs.publish
from lcmae.errors import CheckpointError, InputError
from lcmae.runs.checkpoint import read_manifest, sealed
from lcmae.runs.durable import sweep, temporary_name
from lcmae.runs.run import Run, find_runs, is_run, is_step, write_atomically

CONFIG = {"objective": {"kind": "mae", "ratio": 0.75}, "name": "ünï ☃"}
FILES = ["model.safetensors", "resume.pt", "manifest.json"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "first", CONFIG)


def publish(run: Run, step: int, value: float = 1.0) -> Path:
    tensors = {"weight": torch.full((3, 5), value), "bias": torch.full((5,), value)}
    return run.publish(step, tensors, config=CONFIG | {"value": value}, resume={"step": step, "value": value})


def flip(path: Path, byte: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith((".tmp-", ".old-"))]


@contextlib.contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond `num_bytes`: the kernel answers like a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- the folder
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "with space", "ünï ☃", "a\nb", "'quo\"te'"])
def test_a_run_is_found_again_under_any_name(tmp_path: Path, name: str) -> None:
    made = Run.create(tmp_path / "deep" / name, CONFIG)
    made.log_metrics({"step": 1})
    publish(made, 7)
    found = Run.open(tmp_path / "deep" / name)
    assert (found.config, found.name, found.path, found.steps()) == (CONFIG, name, tmp_path / "deep" / name, [7])
    assert find_runs(tmp_path) == [tmp_path / "deep" / name]
    assert hidden(tmp_path / "deep") == []
    with pytest.raises(InputError) as error:
        Run.create(tmp_path / "deep" / name, CONFIG)
    assert "has a run" in one_line(error)


def test_a_run_takes_an_empty_folder_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", {}).config == {}
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="empty folder"):
        Run.create(tmp_path / "used", {})
    assert os.listdir(tmp_path / "used") == ["notes.txt"]


def test_of_two_that_create_the_same_run_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        Run.create(tmp_path / "run", {"winner": 1})
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(InputError, match="cannot make a run folder"):
        Run.create(tmp_path / "run", {"winner": 2})
    assert Run.open(tmp_path / "run").config == {"winner": 1}
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ratio": math.nan}, "JSON"),
        ({"ratio": math.inf}, "JSON"),
        ({"nested": [{3: 1}]}, "keys that are strings, got 3"),
        ({"path": Path("x")}, "PosixPath"),
    ],
)
def test_a_config_that_json_cannot_hold_is_refused(
    tmp_path: Path, run: Run, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        Run.create(tmp_path / "refused", config)
    assert message in one_line(error)
    assert not (tmp_path / "refused").exists()
    with pytest.raises(InputError, match=message):
        run.publish(1, {"w": torch.ones(1)}, config=config, resume=None)
    assert os.listdir(run.path / "checkpoints") == []


def test_unwritable_places_give_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError) as error:
        Run.create(tmp_path / "file" / "run", {})
    assert "file is not a folder" in one_line(error)
    with pytest.raises(InputError, match="is not a folder"):
        write_atomically(tmp_path / "file" / "x", b"")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)  # tests run as root, whom no mode bits stop
    with pytest.raises(InputError, match="Read-only file system"):
        Run.create(tmp_path / "run", {})
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "nothing there"), (b"{", "expected JSON"), (b"\xff", "expected JSON"), (b"[1]", "JSON object"), ("", "")],
)
def test_what_is_no_run_is_not_opened(tmp_path: Path, text: bytes | str | None, message: str) -> None:
    folder = tmp_path / "run"
    if text is not None:
        folder.mkdir()
    if isinstance(text, bytes):
        (folder / "config.json").write_bytes(text)
    with pytest.raises(InputError) as error:
        Run.open(folder)
    assert message in one_line(error)


def test_find_runs_walks_links_once_and_stays_out_of_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "root"
    for name in ["b", "a", "grid/2", "grid/10", ".hidden/c"]:
        Run.create(root / name, {})
    elsewhere = Run.create(tmp_path / "scratch" / "far", {}).path
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "0-again").symlink_to(root / "a")
    (root / "far").symlink_to(elsewhere)
    Run.create(root / "a" / "checkpoints" / "inside", {})
    (root / "weights").mkdir()
    (root / "weights" / "config.json").write_text("{}")  # as Hugging Face lays them out: no run
    os.mkfifo(root / "pipe")
    assert find_runs(root) == [root / name for name in ["a", "b", "far", "grid/10", "grid/2"]]
    assert find_runs(root / "a") == [root / "a"]
    assert find_runs(tmp_path / "missing") == []
    assert not caplog.records


def test_is_run_and_is_step(run: Run, tmp_path: Path) -> None:
    step = publish(run, 500)
    assert step == run.path / "checkpoints" / "000500"
    assert is_run(run.path)
    assert is_step(step)
    for other in (run.path / "checkpoints", step / "manifest.json", tmp_path):
        assert not is_run(other)
        assert not is_step(other)
    assert not is_step(run.path)


def test_listing_runs_needs_no_torch(run: Run) -> None:
    publish(run, 3)
    run.log_metrics({"step": 3})
    code = (
        "import sys; from lcmae.runs.run import Run, find_runs\n"
        f"(path,) = find_runs({str(run.path.parent)!r}); run = Run.open(path)\n"
        "print(run.steps(), run.metrics(), run.newest().step, [m for m in ('torch', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[3] [{'step': 3}] 3 []\n"


# --- publishing and reading back
# --------------------------------------------------------------------------------------

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


# --- torn and altered
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_refused_and_the_step_before_is_taken(run: Run, name: str, where: float) -> None:
    publish(run, 1)
    path = publish(run, 2)
    flip(path / name, round(where * ((path / name).stat().st_size - 1)))
    with pytest.raises(CheckpointError) as error:
        run.checkpoint(2)
    assert name in one_line(error)
    told: list[str] = []
    assert run.newest(report=told.append).step == 1
    assert len(told) == 1
    assert "step 2" in told[0]
    assert name in told[0]


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
    with pytest.raises(InputError, match="1 that are torn"):
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


# --- publishing a step again
# ------------------------------------------------------------------------------------------


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
    told: list[str] = []
    num_read = 0
    try:
        while not done.is_set():
            checkpoint = run.newest(report=told.append)
            with contextlib.suppress(CheckpointError):  # replaced since: an honest answer, a mixture would not be
                tensors = checkpoint.tensors()
                assert all((tensor == checkpoint.config["value"]).all() for tensor in tensors.values())
                num_read += 1
    finally:
        writer.join()
    assert told == []
    assert num_read > 0
    assert run.steps() == list(range(21))


# --- the disk says no
# ------------------------------------------------------------------------------------------


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


# --- one file, atomically
# ------------------------------------------------------------------------------------------


def test_a_file_is_written_by_bytes_or_by_a_function(run: Run) -> None:
    path = run.result_path(5, "local_contrast")
    assert path == run.path / "probes" / "000005" / "local_contrast.nc"
    write_atomically(path, b"first")

    def write(temporary: Path) -> None:
        assert temporary.suffix == ".nc"
        assert path.read_bytes() == b"first"
        temporary.write_bytes(b"second")

    write_atomically(path, write)
    assert path.read_bytes() == b"second"

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["local_contrast.nc"]
    with pytest.raises(InputError, match="name of a probe"):
        run.result_path(5, "../../config")


# --- metrics
# ------------------------------------------------------------------------------------------

numbers = st.floats() | st.integers(-(2**60), 2**60) | st.booleans() | st.none() | st.text(st.characters(codec="utf-8"))
records = st.dictionaries(st.text(st.characters(codec="utf-8")), numbers | st.lists(numbers, max_size=3), max_size=4)


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # nan equals nan, 0.0 differs from -0.0, 1 from 1.0 and True


@given(lines=st.lists(records, max_size=4), cut=st.integers(0, 400))
def test_metrics_come_back_and_a_cut_file_is_a_prefix(lines: list[dict[str, Any]], cut: int) -> None:
    lines = [{key: value for key, value in line.items() if value not in ("nan", "inf", "-inf")} for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", {})
        for line in lines:
            run.log_metrics(line)
        assert same(run.metrics(), [restored(line) for line in lines])
        path = run.path / "metrics.jsonl"
        if path.exists():
            path.write_bytes(path.read_bytes()[:-cut] if cut else path.read_bytes())
            left = run.metrics()
            assert same(left, [restored(line) for line in lines][: len(left)])
            run.log_metrics({"after": 1})  # never glued to the torn line
            assert run.metrics()[-1] == {"after": 1}
            assert same(run.metrics()[:-1], left)


def restored(line: dict[str, Any]) -> dict[str, Any]:
    """The three words that stand for numbers are numbers when they come back, also inside lists."""
    words = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

    def word(value: Any) -> Any:
        return words[value] if isinstance(value, str) and value in words else value

    return {key: [word(v) for v in value] if isinstance(value, list) else word(value) for key, value in line.items()}


def test_numbers_of_torch_and_nested_terms_are_stored(run: Run) -> None:
    run.log_metrics({"step": 1, "loss": torch.tensor(0.5), "terms": {"offset": math.nan, "all": (1, math.inf)}})
    (line,) = run.metrics()
    assert line["loss"] == 0.5
    assert math.isnan(line["terms"]["offset"])
    assert line["terms"]["all"] == [1, math.inf]
    for text in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    with pytest.raises(InputError, match="got 3"):
        run.log_metrics({"terms": {3: 1}})
    with pytest.raises(InputError, match="got object"):
        run.log_metrics({"loss": object()})


def test_torn_tail_is_silent_and_broken_lines_are_counted(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.log_metrics({"step": 1})
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 2, "lo')
    assert run.metrics() == [{"step": 1}]
    assert not caplog.records
    path.write_bytes(b'\0\0\0\n{"step": 1}\n[1]\n\xff\n{"step": 2}')
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    assert "skipped 3 broken lines" in caplog.text


def test_truncated_metrics_forget_the_steps_to_come(run: Run) -> None:
    run.truncate_metrics(3)
    assert run.metrics() == []
    for step in range(1, 6):
        run.log_metrics({"step": step, "loss": 1 / 3})
    run.log_metrics({"note": "without a step"})
    path = run.path / "metrics.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)[:3]
    path.write_bytes(path.read_bytes() + b'{"step": 3')
    run.truncate_metrics(3)
    assert path.read_bytes() == b"".join(kept) + b'{"note": "without a step"}\n'
    run.log_metrics({"step": 4})
    assert [line.get("step") for line in run.metrics()] == [1, 2, 3, None, 4]


# --- one writer
# ------------------------------------------------------------------------------------------

HOLD = """
import os, signal, sys
from lcmae.runs.run import Run
with Run.open(sys.argv[1]).lock():
    ready, tell = os.pipe()
    child = os.fork() if "fork" in sys.argv else 0
    if "fork" in sys.argv and child == 0:
        os.write(tell, b"1")
        signal.pause()
    if child:
        os.read(ready, 1)  # the worker lives, and has let go of what it inherited
    print(child, flush=True)
    if "die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def holder(run: Run, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_second_writer_is_refused_by_name(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with holder(run) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError) as error, run.lock():
            pytest.fail("two writers")
        assert f"process {other.pid} on {os.uname().nodename}" in one_line(error)
        other.communicate("")
    with run.lock(), pytest.raises(InputError, match=f"process {os.getpid()} "), Run.open(run.path).lock():
        pytest.fail("two writers in one process")
    with run.lock():
        pass
    assert not caplog.records


def test_a_killed_writer_is_taken_over_from_and_its_workers_hold_nothing(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with holder(run, "fork", "die") as other:
        assert other.stdout is not None
        worker = int(other.stdout.readline())
        assert other.wait() == -signal.SIGKILL
        try:
            with run.lock():
                assert f"took over from process {other.pid}" in caplog.text
        finally:
            os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize(("same_boot", "taken"), [(True, True), (False, False)])
def test_a_lock_of_another_host(run: Run, same_boot: bool, taken: bool) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        pytest.skip("only Linux names its boots")
    text = {"pid": 4, "host": "far", "boot": boot.read_text().strip() if same_boot else "other", "started": "then"}
    (run.path / ".lock").write_text(json.dumps(text))
    if taken:
        with run.lock():
            pass
    else:
        with pytest.raises(InputError) as error, run.lock():
            pytest.fail("a writer that may live elsewhere")
        assert "process 4 on far" in one_line(error)
        assert "delete" in one_line(error)
        assert json.loads((run.path / ".lock").read_text()) == text


@pytest.mark.parametrize("living", [True, False])
def test_without_kernel_locks_the_text_decides(run: Run, monkeypatch: pytest.MonkeyPatch, living: bool) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr("fcntl.flock", unsupported)
    pid = os.getpid() if living else dead_pid()
    (run.path / ".lock").write_text(json.dumps({"pid": pid, "host": os.uname().nodename}))
    if living:
        with pytest.raises(InputError, match=f"process {pid}"), run.lock():
            pytest.fail("two writers")
    else:
        with run.lock():
            assert json.loads((run.path / ".lock").read_text())["pid"] == os.getpid()


def dead_pid() -> int:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def test_a_writer_clears_what_the_dead_left_and_nothing_else(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    checkpoints = run.path / "checkpoints"
    mine = temporary_name()
    _, pid, token, count = mine.split("@")[0].split("-")
    host = os.uname().nodename
    stay = [mine, f".tmp-{pid}-{token}-{count}@elsewhere@", f".tmp-1-{token}-0@{host}@", ".tmp-other", "notes"]
    go = [f".tmp-{dead_pid()}-{token}-{count}@{host}@", f".tmp-{pid}-{'0' * 8}-{count}@{host}@"]
    for name in stay + go:
        (checkpoints / name).mkdir()
        (checkpoints / name / "half").write_text("x")
    (run.path / f"{go[0]}.json").write_text("x")
    result = run.result_path(1, "x").parent
    result.mkdir(parents=True)
    (result / f"{go[0]}.nc").write_text("x")
    assert run.steps() == []
    with run.lock():
        assert sorted(os.listdir(checkpoints)) == sorted(stay)
        assert os.listdir(result) == []
        assert sorted(os.listdir(run.path)) == [".lock", "checkpoints", "config.json", "probes"]


def test_a_step_set_aside_by_a_killed_swap_gets_its_name_back(run: Run) -> None:
    publish(run, 1)
    publish(run, 2)
    checkpoints = run.path / "checkpoints"
    shutil.copytree(checkpoints / "000001", checkpoints / ".old-000001")  # killed after the second rename
    (checkpoints / "000002").rename(checkpoints / ".old-000002")  # killed between the two
    assert run.steps() == [1]
    sweep(checkpoints)
    assert run.steps() == [1, 2]
    assert hidden(checkpoints) == []
    assert run.checkpoint(2).step == 2
