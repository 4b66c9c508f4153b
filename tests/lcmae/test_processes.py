"""Every child process, started from a folder whose files have the names of ours and of Python's:
none of them runs, and the process does its work."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lcmae import processes
from lcmae.app.dashboard.jobs import reader
from lcmae.app.dashboard.jobs.queue import Queue
from lcmae.app.dashboard.server.launch import command
from lcmae.probes.jobs.executors import Engine
from lcmae.training.train import train
from tests.reference.tiny_runs import tiny_run

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "probes", "tests", "pages", "components", "benchmarks")
MODULES = ("app", "main", "random", "json", "statistics", "numpy", "torch", "streamlit", "xarray", "sitecustomize")
CANARY = (
    "import pathlib\nwith (pathlib.Path({folder!r}) / 'canary').open('a') as file:\n    file.write({name!r} + '\\n')\n"
)
SCRIPT = str(Path(sys.executable).with_name("lcmae"))


def lay_out(folder: Path, *more: str) -> None:
    """Files that write their names to `folder/canary` when they are imported."""
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(CANARY.format(folder=str(folder), name=f"{name}/"))
    for name in (*MODULES, *more):
        (folder / f"{name}.py").write_text(CANARY.format(folder=str(folder), name=name))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder of the test and of its children; nothing in it has run when the test
    ends."""
    lay_out(tmp_path, "lcmae")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "canary").exists(), (tmp_path / "canary").read_text()


def finish(words: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=250, check=False, **options)


def test_without_the_flag_the_files_run(tmp_path: Path) -> None:
    """The trap is one: what the other tests forbid does happen to `python -m`."""
    lay_out(tmp_path)
    finish([sys.executable, "-m", "app"], cwd=tmp_path)
    finish([sys.executable, "-c", "import random, probes"], cwd=tmp_path)
    assert (tmp_path / "canary").read_text().splitlines() == ["app/", "random", "probes/"]


def test_the_installed_script(folder: Path) -> None:
    done = finish([SCRIPT, "claims", "--list"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "umae-rank" in done.stdout


def test_the_command_line_as_a_module(folder: Path) -> None:
    # here the first import is Python's own affair: a file named lcmae.py would be the program
    (folder / "lcmae.py").unlink()
    for name in MODULES:
        if name in sys.stdlib_module_names:  # what runs before our first line
            (folder / f"{name}.py").unlink()
    done = finish([sys.executable, "-m", "lcmae.app.cli", "claims", "--list"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "umae-rank" in done.stdout


def test_the_dashboard(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = processes.start(command(folder, port), stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 90
        answer = ""
        while not answer and time.monotonic() < end and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as response:
                    answer = response.read().decode()
            except OSError:
                time.sleep(0.1)
        assert answer == "ok"
    finally:
        process.terminate()
        process.wait(20)


def test_a_job_of_a_page(folder: Path) -> None:
    queue = Queue()
    try:
        job = queue.submit(["claims", "--list"])
        end = time.monotonic() + 60
        while job.is_active and time.monotonic() < end:
            time.sleep(0.02)
        assert (job.state, job.error) == ("done", "")
    finally:
        queue.close()


def test_the_reader_of_checkpoints(folder: Path) -> None:
    (folder / "file.pth").write_bytes(b"nothing")
    (answer,) = reader.read([folder / "file.pth"])
    assert answer.facts is None
    assert answer.refusal.startswith("expected ")


SPAWN = """
import os, sys
from pathlib import Path
from lcmae.probes.jobs.executors import Engine

if __name__ == "__main__":
    with Engine(workers=2).executor(Path()) as pool:
        assert pool.submit(os.getcwd).result() == os.getcwd()
        assert pool.submit(eval, "'' not in __import__('sys').path").result()
"""


def test_workers_of_multiprocessing(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "program.py").write_text(SPAWN)
    done = finish(processes.python(str(elsewhere / "program.py")))
    assert done.returncode == 0, done.stderr


def test_the_variable_of_the_environment_lasts_as_long_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(processes.SAFE_PATH, raising=False)
    with processes.safe_path(), processes.safe_path():
        assert os.environ[processes.SAFE_PATH] == "1"
    assert processes.SAFE_PATH not in os.environ
    assert processes.environment({"A": "b"}) == {**os.environ, "A": "b", processes.SAFE_PATH: "1"}


def test_no_other_file_starts_a_python_process() -> None:
    """Whoever needs this interpreter's path, or workers, asks lcmae/processes.py."""
    found = {
        (file.relative_to(ROOT).as_posix(), word)
        for top in ("lcmae", "probes", "app", "benchmarks")
        for file in (ROOT / top).rglob("*.py")
        for word in ("sys.executable", "ProcessPoolExecutor(", "get_context(", "SlurmExecutor(", "mp.spawn(")
        if word in file.read_text()
        # a loan's script runs on a bare machine, of files that were just unpacked there
        and "benchmarks/gpu" not in file.as_posix()
    }
    executors = {
        ("probes/jobs/executors.py", word) for word in ("ProcessPoolExecutor(", "get_context(", "SlurmExecutor(")
    }
    assert found == {("lcmae/processes.py", "sys.executable"), *executors}


TINY = ("--epochs", "1", "--warmup-epochs", "0", "--limit", "32", "--batch-size", "16", "--monitor-every", "0")


@pytest.mark.slow
def test_torchrun(folder: Path) -> None:
    out = folder / "out"
    done = processes.run(
        processes.torchrun(2, "train", "mae-digits", *TINY, "--out", str(out)),
        env={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((out / "checkpoints").iterdir())


@pytest.mark.slow
def test_torchrun_as_the_readme_writes_it(folder: Path) -> None:
    words = [str(Path(SCRIPT).with_name("torchrun")), "--standalone", "--nproc-per-node", "2", "--no-python", SCRIPT]
    done = finish(
        [*words, "train", "mae-digits", *TINY, "--out", str(folder / "out")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert list((folder / "out" / "checkpoints").iterdir())


@pytest.mark.slow
def test_probes_in_two_workers(folder: Path) -> None:
    tiny_runs = [tiny_run(folder / name) for name in ("a", "b")]
    for run in tiny_runs:
        train(run, device="cpu")
    runs = [str(run.path) for run in tiny_runs]
    words = ["probe", "reconstruction", "--checkpoint", *runs, "--images", "16", "--workers", "2", "--device", "cpu"]
    done = finish([SCRIPT, *words])
    assert done.returncode == 0, done.stderr
    for run in runs:
        assert list(Path(run).glob("probes/*/reconstruction*"))


@pytest.mark.slow
def test_dask_workers(folder: Path) -> None:
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    cluster = processes.module(
        "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"
    )
    worker = processes.module("distributed.cli.dask_worker", address, "--nworkers", "1", "--no-dashboard")
    started = [
        processes.start(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for words in (cluster, worker)
    ]
    try:
        with Engine(engine="dask", address=address).executor(folder) as pool:
            assert pool.submit(os.getcwd).result(60)
            assert pool.submit(eval, "__import__('random').random()").result(60) < 1
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(20)


SBATCH = """#!/bin/sh
for last; do :; done
cp "$last" "$0.script"
SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 \\
  SLURM_JOB_NODELIST=here sh "$0.script" >"$0.out" 2>&1 &
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""


@pytest.mark.slow
def test_slurm_jobs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's own script, by an sbatch and an srun that run it here; Slurm itself is in
    test_slurm.py. As Slurm does, sbatch runs a copy: submitit moves the script as soon as it has
    the job's number."""
    pytest.importorskip("submitit")
    bin_ = folder / "bin"
    bin_.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("squeue", "#!/bin/sh\necho 7\n")):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    with Engine(engine="slurm").executor(folder) as pool:
        assert pool.submit(json.dumps, {"a": 1}).result(60) == '{"a": 1}'
