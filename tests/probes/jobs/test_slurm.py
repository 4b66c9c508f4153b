"""Slurm for real: Debian's slurm-wlm and munge started on this machine, jobs through submitit.
Skips where it cannot start."""

import functools
import operator
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lcmae.probes.grids.cells import Comparison
from lcmae.probes.grids.run import compare
from lcmae.probes.grids.table import TABLE, read_table
from lcmae.probes.jobs.batch import Job, JobResult, run_jobs
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.jobs.slurm import SlurmPool

pytestmark = pytest.mark.slow

START = Path(__file__).parents[2] / "slurm" / "start.sh"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of this machine, found by submitit through SLURM_CONF."""
    pytest.importorskip("submitit")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([str(START), str(folder)], capture_output=True, text=True, check=False)
    why = (started.stderr.splitlines() or ["no word of why"])[-1]
    if started.returncode == 77:
        pytest.skip(f"no Slurm here: {why}")
    assert started.returncode == 0, started.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", started.stdout.splitlines()[-1])
        yield
    subprocess.run([str(START), str(folder), "stop"], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def pool(folder: Path) -> SlurmPool:
    import submitit

    executor = submitit.SlurmExecutor(folder=str(folder))
    executor.update_parameters(time=2, cpus_per_task=1)
    return SlurmPool(executor, seconds=(0.2, 0.5, 1.0))


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What `condition` says once it says something true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def queued() -> list[str]:
    asked = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i"], capture_output=True, text=True, check=True
    )
    return asked.stdout.split()


def test_jobs_are_one_array_and_errors_are_one_line(slurm: None, tmp_path: Path) -> None:
    with pool(tmp_path) as executor:
        futures = [executor.submit(operator.truediv, 6, divisor) for divisor in (1, 2, 0)]
        assert [future.result(60) for future in futures[:2]] == [6, 3]
        error = futures[2].exception(60)
    assert str(error) == "ZeroDivisionError: division by zero"
    arrays = {path.name.partition("_")[0] for path in tmp_path.glob("*_submitted.pkl")}
    assert len(arrays) == 1


def test_a_killed_job_fails_and_a_cancelled_one_leaves_the_queue(slurm: None, tmp_path: Path) -> None:
    until(lambda: not queued())  # a job of the test before may still be on its way out
    with pool(tmp_path) as executor:
        future = executor.submit(time.sleep, 100)
        (job,) = until(queued)
        until(lambda: subprocess.run(["scancel", "--signal=KILL", job], check=False).returncode == 0)
        error = future.exception(90)
        assert "ended without a result" in str(error)
        assert job.partition("_")[0] in str(error)

        until(lambda: not queued())
        other = executor.submit(time.sleep, 100)
        until(queued)
        assert other.cancel()
        until(lambda: not queued())


def test_a_comparison_on_slurm_is_the_same_table(slurm: None, tmp_path: Path) -> None:
    tiny = ("model.width=8", "model.depth=1", "model.heads=2", "model.decoder_width=8", "model.decoder_depth=1",
            "model.decoder_heads=2", "batch_size=32", "limit=64", "monitor_images=40")  # fmt: skip
    grid = Comparison(masks=("random", "grid"), ratios=(0.5,), epochs=1, set=tiny, images=8, probes=("local_contrast",))
    there = functools.partial(Engine, engine="slurm", workers=2, cpus=1, minutes=5)
    compare(grid, tmp_path / "slurm", there(), device="cpu")
    compare(grid, tmp_path / "here", Engine(), device="cpu")
    one, other = read_table(tmp_path / "slurm" / TABLE), read_table(tmp_path / "here" / TABLE)
    assert one["run"].values.tolist() == ["mae-random-0.5-s0", "mae-grid-0.5-s0"]
    for name in ("mean_knn", "mean_linear", "train_loss", "local_contrast.loss"):
        # another number of threads rounds sums in another order
        assert one[name].values == pytest.approx(other[name].values, rel=1e-3)

    # probes go the same way
    jobs = [Job(str(tmp_path / "slurm" / run), {"reconstruction": {}}, images=8) for run in one["run"].values]
    results = list(run_jobs(jobs, there(), tmp_path / "logs"))
    assert all(isinstance(result, JobResult) and not result.failures for result in results), results
